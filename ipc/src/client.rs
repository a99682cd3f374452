//! The calling side of a connection.
//!
//! A call is a numbered stream: its request goes out when it is started, events and the
//! reply land in its slot. Whoever waits for a slot reads the ring itself for a moment
//! before it sleeps, so that a quick answer costs no task switch.

mod slots;

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::conn::{Core, End, Kind, PREFIX, Role as _, drive};
use crate::error::{CallError, ConnectError, Violation};
use crate::handshake;
use crate::limits::{CLIENT_QUEUE_MAX, MESSAGE_MAX};
use crate::protocol::{Ident, Protocol, Wire};
use crate::ring::Buf;
use crate::server::Peer;
use crate::wire::WireError;
use crate::wire::engine::ConnectionInfo;
#[cfg(feature = "fuzzing")]
pub(crate) use slots::slots_for_tests;
use slots::{Outcome, Slots};

/// What a side asks for when it connects or serves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of our own control and bulk ring (powers of two).
    pub control_ring: u32,
    pub bulk_ring: u32,
    /// False: never spin, always park (saves power, costs latency).
    pub spin: bool,
    /// Where the memory comes from. A server takes what its client has chosen.
    pub transport: Transport,
}

impl Transport {
    /// As `--transport` takes it and `status` shows it.
    pub const NAMES: [(&'static str, Self); 2] =
        [("memfd", Self::Memfd), ("portable", Self::Portable)];

    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, transport)| *transport == self).map_or("", |(name, _)| name)
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, transport)| *transport)
    }
}

/// Backends for the shared memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Transport {
    /// Sealed memory files and eventfds (Linux).
    #[default]
    Memfd,
    /// Named shared memory, woken over the socket (any system; feature `portable`).
    Portable,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            control_ring: crate::limits::CONTROL_RING,
            bulk_ring: crate::limits::BULK_RING,
            spin: true,
            transport: Transport::default(),
        }
    }
}

/// A connection to a server of `P`. Clones share it; it ends when the last clone and
/// the last [`Call`] are dropped. Needs a tokio runtime with io and time enabled.
pub struct Client<P: Protocol> {
    inner: Arc<Inner>,
    protocol: PhantomData<fn() -> P>,
}

impl<P: Protocol> Clone for Client<P> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), protocol: PhantomData }
    }
}

impl<P: Protocol> std::fmt::Debug for Client<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("protocol", &P::NAME).field("peer", self.peer()).finish()
    }
}

/// What clones and calls share. Its drop ends the connection.
struct Inner {
    core: Arc<Core>,
    slots: Arc<Slots>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.core.finish(End::Local("closed by this side".into()));
    }
}

impl<P: Protocol> Client<P> {
    /// The client's half of the handshake on a connected socket.
    pub async fn over(stream: UnixStream, ident: Ident) -> Result<Self, ConnectError> {
        Self::over_with(stream, ident, Options::default()).await
    }

    pub async fn over_with(
        stream: UnixStream,
        ident: Ident,
        options: Options,
    ) -> Result<Self, ConnectError> {
        let link = handshake::connect::<P>(stream, &ident, &options).await?;
        let (core, inputs) = Core::new(link, &options);
        let core = Arc::new(core);
        let slots = Arc::new(Slots::default());
        let inner = Arc::new(Inner { core: Arc::clone(&core), slots: Arc::clone(&slots) });
        tokio::spawn(async move {
            match drive(&core, &*slots, inputs).await {
                Ok(End::Broken(violation)) => {
                    tracing::warn!(
                        session = %core.peer().session,
                        peer = %core.peer().name,
                        "connection closed: peer broke the protocol: {violation}"
                    );
                }
                Ok(end) => {
                    tracing::debug!(session = %core.peer().session, "connection closed: {end}");
                }
                Err(error) => {
                    let end = End::Local(format!("cannot wait for the peer: {error}"));
                    core.finish(end.clone());
                    core.gone().cancel();
                    slots.ended(&end);
                }
            }
        });
        Ok(Self { inner, protocol: PhantomData })
    }

    /// One request, one reply; events are dropped.
    pub async fn call(&self, request: P::Request) -> Result<P::Reply, CallError> {
        self.start(request).finish().await
    }

    /// As [`Client::call`], with [`CallError::Deadline`] when no reply came in time.
    pub async fn call_within(
        &self,
        limit: Duration,
        request: P::Request,
    ) -> Result<P::Reply, CallError> {
        self.start_within(limit, request).finish().await
    }

    /// Sends the request now. Dropping the call cancels it.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a request is given away, however it is sent"
    )]
    pub fn start(&self, request: P::Request) -> Call<P> {
        self.open(&request, None)
    }

    /// As [`Client::start`], with a deadline that the server knows too.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a request is given away, however it is sent"
    )]
    pub fn start_within(&self, limit: Duration, request: P::Request) -> Call<P> {
        self.open(&request, Some(limit))
    }

    fn open(&self, request: &P::Request, limit: Option<Duration>) -> Call<P> {
        let inner = &self.inner;
        let id = self.send(request, limit);
        let (id, failed) = match id {
            Ok(id) => (id, None),
            Err(error) => (0, Some(error)),
        };
        let deadline = limit.map(|l| Box::pin(sleep_until(Instant::now() + l)));
        Call { inner: Arc::clone(inner), id, failed, deadline, spun: false, protocol: PhantomData }
    }

    fn send(&self, request: &P::Request, limit: Option<Duration>) -> Result<u64, CallError> {
        let Inner { core, slots } = &*self.inner;
        if core.queued() > CLIENT_QUEUE_MAX {
            return Err(CallError::Busy(format!("{CLIENT_QUEUE_MAX} bytes are queued")));
        }
        let buf = request
            .encode(core.buffer())
            .map_err(|e| CallError::TooLarge(format!("encoding failed: {e}")))?;
        if buf.len() - PREFIX > MESSAGE_MAX {
            return Err(CallError::TooLarge(format!(
                "{} bytes where {MESSAGE_MAX} are allowed",
                buf.len() - PREFIX
            )));
        }
        let millis = limit.map_or(0, |l| u32::try_from(l.as_millis()).unwrap_or(u32::MAX).max(1));
        slots
            .open(|id| {
                core.send(Kind::Request, id, millis, buf, false);
            })
            .inspect(|_| core.watch())
    }

    /// Resolves when the peer is gone, with how it ended.
    pub async fn closed(&self) -> String {
        self.inner.core.gone().cancelled().await;
        self.inner.core.end().map(ToString::to_string).unwrap_or_default()
    }

    pub fn is_closed(&self) -> bool {
        self.inner.core.end().is_some()
    }

    /// Cancelled when the peer is gone; does not keep the connection.
    pub(crate) fn gone(&self) -> CancellationToken {
        self.inner.core.gone().clone()
    }

    /// Who is on the other side.
    pub fn peer(&self) -> &Peer {
        self.inner.core.peer()
    }

    pub fn info(&self) -> ConnectionInfo {
        self.inner.core.info()
    }
}

/// A call under way: a stream of events, then a reply. Dropping it cancels it.
pub struct Call<P: Protocol> {
    inner: Arc<Inner>,
    id: u64,
    failed: Option<CallError>,
    deadline: Option<Pin<Box<Sleep>>>,
    /// This wait has spun already.
    spun: bool,
    protocol: PhantomData<fn() -> P>,
}

impl<P: Protocol> Call<P> {
    /// The next event; `None` means that the reply (or error) is there.
    pub async fn next(&mut self) -> Option<P::Event> {
        StreamExt::next(self).await
    }

    /// Drops the remaining events and waits for the reply.
    pub async fn finish(mut self) -> Result<P::Reply, CallError> {
        while std::future::poll_fn(|cx| self.poll_buf(cx)).await.is_some() {}
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let (kind, buf) = match self.inner.slots.close(self.id) {
            Some(Outcome::Came(kind, buf)) => (kind, buf),
            Some(Outcome::Lost(how)) => return Err(CallError::Disconnected(how)),
            None => return Err(CallError::Disconnected("the call was over".into())),
        };
        let reply = if kind == Kind::Reply {
            P::Reply::decode(&buf).map_err(|e| self.garbled("reply", &e))
        } else {
            Err(WireError::decode(&buf)
                .map_or_else(|e| self.garbled("error", &e), CallError::Remote))
        };
        self.inner.core.recycle(buf);
        reply
    }

    fn garbled(&self, what: &str, error: &dyn std::fmt::Display) -> CallError {
        let violation = Violation(format!("{what} does not decode: {error}"));
        let text = violation.to_string();
        self.inner.core.finish(End::Broken(violation));
        CallError::Disconnected(text)
    }

    /// The next event's bytes, or `None` when there will be no more.
    fn poll_buf(&mut self, cx: &mut Context<'_>) -> Poll<Option<Buf>> {
        if self.failed.is_some() {
            return Poll::Ready(None);
        }
        let Inner { core, slots } = &*self.inner;
        loop {
            let taken = slots.take(self.id, cx);
            if let Some(credit) = taken.credit {
                let mut buf = core.buffer();
                buf.extend_from_slice(&credit.events.to_le_bytes());
                buf.extend_from_slice(&credit.bytes.to_le_bytes());
                core.send(Kind::Credit, self.id, 0, buf, false);
            }
            if let Poll::Ready(event) = taken.event {
                self.spun = false;
                return Poll::Ready(event);
            }
            if self.spun || !core.spin_for(&**slots, || slots.ready(self.id)) {
                break;
            }
        }
        self.spun = true;
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            self.cancel();
            self.failed = Some(CallError::Deadline);
            return Poll::Ready(None);
        }
        Poll::Pending
    }

    fn cancel(&self) {
        let Inner { core, slots } = &*self.inner;
        if self.id != 0 && slots.abandon(self.id) && !core.withdraw(self.id) {
            core.send(Kind::Cancel, self.id, 0, core.buffer(), false);
        }
    }
}

impl<P: Protocol> Stream for Call<P> {
    type Item = P::Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<P::Event>> {
        let Some(buf) = std::task::ready!(self.poll_buf(cx)) else { return Poll::Ready(None) };
        let event = P::Event::decode(&buf).map_err(|e| self.garbled("event", &e));
        self.inner.core.recycle(buf);
        match event {
            Ok(event) => Poll::Ready(Some(event)),
            Err(error) => {
                self.failed = Some(error);
                Poll::Ready(None)
            }
        }
    }
}

impl<P: Protocol> Drop for Call<P> {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl<P: Protocol> std::fmt::Debug for Call<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("protocol", &P::NAME)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
