//! The answering side of a connection.
//!
//! Each request runs as a task of its own; its events wait for the reader's credit, its
//! reply ends it. When the caller cancels, its deadline passes or it dies, the handler is
//! told, and dropped if it does not end soon.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client::Options;
use crate::conn::{Core, End, Kind, Message, PREFIX, Role, drive, lock};
use crate::error::{Cancelled, Refusal, ServeError, Violation};
use crate::handshake;
use crate::limits::{
    BEHIND_EVENTS, CALLS_MAX, CANCEL_GRACE, CONNECTIONS_MAX, MERGE_DELAY, MERGE_EVENTS,
    MESSAGE_MAX, REQUEST_BYTES_MAX, STREAM_BYTES, STREAM_EVENTS,
};
use crate::protocol::{Ident, Protocol, Wire};
use crate::ring::Lane;
use crate::wire::engine::ConnectionInfo;
use crate::wire::{ErrorKind, WireError};

/// Who is on the other side, as the kernel (pid, uid) and the hello (the rest) say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Process that connected. On a socket pair: the process that made the pair.
    pub pid: u32,
    pub uid: u32,
    pub name: String,
    pub version: String,
    /// 128 random bits in hex, the same on both sides, fresh per connection.
    pub session: String,
}

/// Answers the requests of a protocol; one dispatcher per server.
pub trait Handler<P: Protocol>: Send + Sync + 'static {
    /// Runs as a task of its own. When the caller cancels, `cx.cancelled()` fires, and
    /// the future is dropped if it does not end within `limits::CANCEL_GRACE`.
    /// A panic becomes an `Internal` error for this call alone.
    fn handle(
        &self,
        request: P::Request,
        cx: Cx<P>,
    ) -> impl Future<Output = Result<P::Reply, WireError>> + Send;
}

/// The handler's side of one call.
pub struct Cx<P: Protocol>(Arc<CallState<P>>);

impl<P: Protocol> Clone for Cx<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct CallState<P: Protocol> {
    core: Arc<Core>,
    stream: Arc<Stream>,
    tasks: TaskTracker,
    deadline: Option<Instant>,
    outbox: tokio::sync::Mutex<Outbox<P>>,
}

/// Events held back while the reader is behind.
struct Outbox<P: Protocol> {
    held: Option<P::Event>,
    merged: u32,
    /// Tells a delayed flush whether it is still meant.
    generation: u64,
}

impl<P: Protocol> Cx<P> {
    /// Sends an event; waits while the reader is behind. Events that `P::merge` can
    /// join may leave together, at the latest after `limits::MERGE_DELAY`.
    pub async fn emit(&self, event: P::Event) -> Result<(), Cancelled> {
        let state = &self.0;
        if state.stream.token.is_cancelled() {
            return Err(Cancelled);
        }
        let mut outbox = state.outbox.lock().await;
        let mut event = event;
        if let Some(mut held) = outbox.held.take() {
            match P::merge(&mut held, event) {
                None => {
                    outbox.merged += 1;
                    if outbox.merged < MERGE_EVENTS {
                        outbox.held = Some(held);
                        return Ok(());
                    }
                    return state.send(&held).await;
                }
                Some(next) => {
                    state.send(&held).await?;
                    event = next;
                }
            }
        }
        if !state.behind() {
            return state.send(&event).await;
        }
        outbox.held = Some(event);
        outbox.merged = 1;
        outbox.generation += 1;
        let (later, generation) = (Arc::clone(state), outbox.generation);
        state.tasks.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(MERGE_DELAY) => {}
                () = later.stream.token.cancelled() => return,
            }
            let mut outbox = later.outbox.lock().await;
            if outbox.generation == generation {
                // An error means cancelled: nobody reads it.
                let _ = later.flush(&mut outbox).await;
            }
        });
        Ok(())
    }

    /// Fires when the caller dropped the call, its deadline passed, or it is gone.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.0.stream.token
    }

    pub fn peer(&self) -> &Peer {
        self.0.core.peer()
    }

    /// Time the caller gives this call, if it said so.
    pub fn time_left(&self) -> Option<Duration> {
        self.0.deadline.map(|at| at.saturating_duration_since(Instant::now()))
    }
}

impl<P: Protocol> CallState<P> {
    fn behind(&self) -> bool {
        lock(&self.stream.credit).open_events() >= u64::from(BEHIND_EVENTS)
            || self.core.queued() > 0
    }

    async fn flush(&self, outbox: &mut Outbox<P>) -> Result<(), Cancelled> {
        match outbox.held.take() {
            Some(held) => self.send(&held).await,
            None => Ok(()),
        }
    }

    /// Sends one event when the reader has room for it.
    async fn send(&self, event: &P::Event) -> Result<(), Cancelled> {
        let Ok(buf) = event.encode(self.core.buffer()) else {
            tracing::error!(protocol = P::NAME, "an event does not encode; dropped");
            return Ok(());
        };
        if buf.len() - PREFIX > MESSAGE_MAX {
            tracing::error!(
                protocol = P::NAME,
                bytes = buf.len(),
                "an event is too large; dropped"
            );
            return Ok(());
        }
        self.stream.credit(buf.len() - PREFIX).await?;
        tokio::select! {
            biased;
            () = self.core.room() => {}
            () = self.stream.token.cancelled() => return Err(Cancelled),
        }
        if self.stream.token.is_cancelled() {
            return Err(Cancelled);
        }
        let bulk = self.stream.bulk.load(Ordering::Relaxed);
        if self.core.send(Kind::Event, self.stream.id, 0, buf, bulk) {
            self.stream.bulk.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Ends the stream: what is held back, then the reply.
    async fn reply(&self, result: Result<P::Reply, WireError>) {
        let mut outbox = self.outbox.lock().await;
        if self.flush(&mut outbox).await.is_err() {
            return;
        }
        drop(outbox);
        tokio::select! {
            biased;
            () = self.core.room() => {}
            () = self.stream.token.cancelled() => return,
        }
        let result = result.and_then(|reply| {
            let buf = reply.encode(self.core.buffer()).map_err(|e| {
                WireError::new(ErrorKind::Internal, format!("the reply does not encode: {e}"))
            })?;
            if buf.len() - PREFIX > MESSAGE_MAX {
                let text = format!("a reply of {} bytes is too large to send", buf.len() - PREFIX);
                return Err(WireError::new(ErrorKind::Limit, text));
            }
            Ok(buf)
        });
        let bulk = self.stream.bulk.load(Ordering::Relaxed);
        match result {
            Ok(buf) => {
                self.core.send(Kind::Reply, self.stream.id, 0, buf, bulk);
            }
            Err(error) => send_error(&self.core, self.stream.id, &error, bulk),
        }
    }
}

fn send_error(core: &Core, stream: u64, error: &WireError, bulk: bool) {
    match error.encode(core.buffer()) {
        Ok(buf) => {
            core.send(Kind::Error, stream, 0, buf, bulk);
        }
        Err(e) => tracing::error!("an error does not encode: {e}"),
    }
}

/// One open call.
struct Stream {
    id: u64,
    token: CancellationToken,
    bytes: usize,
    /// Has used the bulk lane, and stays there.
    bulk: AtomicBool,
    credit: Mutex<Ledger>,
    credited: Notify,
}

#[derive(Default)]
struct Ledger {
    sent_events: u64,
    sent_bytes: u64,
    taken_events: u64,
    taken_bytes: u64,
}

impl Ledger {
    fn open_events(&self) -> u64 {
        self.sent_events - self.taken_events
    }

    fn has_room(&self) -> bool {
        self.open_events() < u64::from(STREAM_EVENTS)
            && self.sent_bytes - self.taken_bytes < STREAM_BYTES
    }
}

impl Stream {
    /// Waits for credit and spends it. One emitter at a time (the outbox lock).
    async fn credit(&self, bytes: usize) -> Result<(), Cancelled> {
        loop {
            let told = self.credited.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            {
                let mut ledger = lock(&self.credit);
                if ledger.has_room() {
                    ledger.sent_events += 1;
                    ledger.sent_bytes += bytes as u64;
                    return Ok(());
                }
            }
            tokio::select! {
                () = told => {}
                () = self.token.cancelled() => return Err(Cancelled),
            }
        }
    }

    fn taken(&self, events: u64, bytes: u64) -> Result<(), Violation> {
        let mut ledger = lock(&self.credit);
        let forward = events >= ledger.taken_events && bytes >= ledger.taken_bytes;
        if !forward || events > ledger.sent_events || bytes > ledger.sent_bytes {
            return Err(Violation(format!("credit of call {} for what was not sent", self.id)));
        }
        ledger.taken_events = events;
        ledger.taken_bytes = bytes;
        drop(ledger);
        self.credited.notify_waiters();
        Ok(())
    }
}

/// The server's [`Role`].
struct Serving<P: Protocol, H: Handler<P>> {
    core: Weak<Core>,
    handler: Arc<H>,
    streams: Arc<Mutex<Streams>>,
    tasks: TaskTracker,
    protocol: std::marker::PhantomData<fn() -> P>,
}

#[derive(Default)]
struct Streams {
    open: HashMap<u64, Arc<Stream>>,
    /// Highest number seen per lane.
    last: [u64; 2],
    /// Cancelled before their request, which comes on the bulk lane, was here.
    early: Vec<u64>,
    /// Bytes of the open requests.
    bytes: usize,
}

impl Streams {
    fn close(&mut self, id: u64) {
        if let Some(stream) = self.open.remove(&id) {
            self.bytes -= stream.bytes;
        }
    }
}

impl<P: Protocol, H: Handler<P>> Serving<P, H> {
    fn new(core: &Arc<Core>, handler: Arc<H>) -> Self {
        Self {
            core: Arc::downgrade(core),
            handler,
            streams: Arc::default(),
            tasks: TaskTracker::new(),
            protocol: std::marker::PhantomData,
        }
    }

    fn request(&self, core: &Core, message: Message) -> Result<(), Violation> {
        let Message { lane, stream: id, extra, body, .. } = message;
        let mut streams = lock(&self.streams);
        if id <= streams.last[lane as usize] || streams.open.contains_key(&id) {
            return Err(Violation(format!("call {id} out of order")));
        }
        streams.last[lane as usize] = id;
        if lane == Lane::Bulk {
            let cancelled = streams.early.contains(&id);
            streams.early.retain(|&e| e > id);
            if cancelled {
                return Ok(());
            }
        }
        let request = P::Request::decode(&body)
            .map_err(|e| Violation(format!("request of call {id} does not decode: {e}")))?;
        let bytes = body.len();
        core.recycle(body);
        let busy = if streams.open.len() >= CALLS_MAX {
            Some(format!("{CALLS_MAX} calls are open on this connection"))
        } else if streams.bytes + bytes > REQUEST_BYTES_MAX {
            Some(format!("{} bytes of requests are in work on this connection", streams.bytes))
        } else {
            None
        };
        if let Some(text) = busy {
            drop(streams);
            let error = WireError::new(ErrorKind::Limit, text).hint("wait for calls to end");
            send_error(core, id, &error, false);
            return Ok(());
        }
        let Some(shared) = self.core.upgrade() else { return Ok(()) };
        let stream = Arc::new(Stream {
            id,
            token: core.gone().child_token(),
            bytes,
            bulk: AtomicBool::new(false),
            credit: Mutex::default(),
            credited: Notify::new(),
        });
        streams.bytes += bytes;
        streams.open.insert(id, Arc::clone(&stream));
        drop(streams);
        let started = Instant::now();
        core.counters().call_opened();
        let deadline = (extra > 0).then(|| started + Duration::from_millis(u64::from(extra)));
        let state = Arc::new(CallState::<P> {
            core: shared,
            stream,
            tasks: self.tasks.clone(),
            deadline,
            outbox: tokio::sync::Mutex::new(Outbox { held: None, merged: 0, generation: 0 }),
        });
        let closing =
            Closing { id, started, streams: Arc::clone(&self.streams), state: Arc::clone(&state) };
        let handler = Arc::clone(&self.handler);
        self.tasks.spawn(async move {
            let _closing = closing;
            let result = run(&*handler, request, &state).await;
            if !state.stream.token.is_cancelled() {
                state.reply(result).await;
            }
        });
        Ok(())
    }
}

/// Takes the call out of the books however its task ends.
struct Closing<P: Protocol> {
    id: u64,
    started: Instant,
    streams: Arc<Mutex<Streams>>,
    state: Arc<CallState<P>>,
}

impl<P: Protocol> Drop for Closing<P> {
    fn drop(&mut self) {
        lock(&self.streams).close(self.id);
        self.state.core.counters().call_closed(self.started.elapsed());
        // Clones of Cx that outlive the call must not emit any more.
        self.state.stream.token.cancel();
    }
}

/// Runs the handler within its deadline and the caller's patience.
async fn run<P: Protocol, H: Handler<P>>(
    handler: &H,
    request: P::Request,
    state: &Arc<CallState<P>>,
) -> Result<P::Reply, WireError> {
    let work = AssertUnwindSafe(handler.handle(request, Cx(Arc::clone(state)))).catch_unwind();
    tokio::pin!(work);
    let token = &state.stream.token;
    let result = tokio::select! {
        biased;
        result = &mut work => result,
        () = token.cancelled() => {
            match tokio::time::timeout(CANCEL_GRACE, work).await {
                Ok(result) => result,
                Err(_) => return Err(WireError::new(ErrorKind::Cancelled, "cancelled")),
            }
        }
        () = deadline(state.deadline) => {
            token.cancel();
            // The caller has given up by itself at the same time.
            match tokio::time::timeout(CANCEL_GRACE, work).await {
                Ok(result) => result,
                Err(_) => return Err(WireError::new(ErrorKind::Limit, "deadline passed")),
            }
        }
    };
    result.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        tracing::error!(protocol = P::NAME, "handler panicked: {text}");
        Err(WireError::new(ErrorKind::Internal, "the request hit a bug in the server")
            .hint("see the log for details"))
    })
}

async fn deadline(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

impl<P: Protocol, H: Handler<P>> Role for Serving<P, H> {
    fn message(&self, core: &Core, message: Message) -> Result<(), Violation> {
        let id = message.stream;
        match message.kind {
            Kind::Request => self.request(core, message),
            Kind::Cancel => {
                let mut streams = lock(&self.streams);
                if let Some(stream) = streams.open.get(&id) {
                    let token = stream.token.clone();
                    drop(streams);
                    token.cancel();
                } else if id > streams.last[Lane::Bulk as usize] && !streams.early.contains(&id) {
                    // Over already, or still on its way on the bulk lane; which of the
                    // two cannot be told, so remember a bounded number of them.
                    if streams.early.len() >= CALLS_MAX {
                        streams.early.remove(0);
                    }
                    streams.early.push(id);
                }
                Ok(())
            }
            Kind::Credit => {
                let stream = lock(&self.streams).open.get(&id).cloned();
                let Some(words) = message.body.first_chunk::<16>() else {
                    return Err(Violation("credit without numbers".into()));
                };
                let (events, bytes) = words.split_at(8);
                let number = |b: &[u8]| b.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b));
                match stream {
                    Some(stream) => stream.taken(number(events), number(bytes)),
                    None => Ok(()),
                }
            }
            other => Err(Violation(format!("{other:?} from a client"))),
        }
    }

    fn ended(&self, _how: &End) {}

    fn waiting(&self) -> bool {
        false
    }
}

/// A server's role, for the hostile peer to play with.
#[cfg(feature = "fuzzing")]
pub(crate) fn serving_for_tests<P: Protocol, H: Handler<P>>(
    core: &Arc<Core>,
    handler: Arc<H>,
) -> impl Role {
    Serving::<P, H>::new(core, handler)
}

/// Serves one connection until the peer leaves.
pub async fn serve<P, H>(
    stream: UnixStream,
    ident: Ident,
    handler: Arc<H>,
) -> Result<(), ServeError>
where
    P: Protocol,
    H: Handler<P>,
{
    Connections::default().serve(stream, ident, Options::default(), handler).await
}

/// The connections a server has: the cap, and what `status` shows.
#[derive(Clone)]
pub struct Connections(Arc<Registry>);

struct Registry {
    max: usize,
    table: Mutex<(u64, HashMap<u64, Weak<Core>>)>,
}

impl Default for Connections {
    fn default() -> Self {
        Self::new(CONNECTIONS_MAX)
    }
}

/// One place among the connections, from before the handshake to the end.
struct Seat {
    registry: Arc<Registry>,
    number: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.registry.table).1.remove(&self.number);
    }
}

/// Ends the connection when the future that serves it is dropped.
struct EndOnDrop(Arc<Core>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.finish(End::Local("the server stopped serving".into()));
        self.0.gone().cancel();
    }
}

impl Connections {
    /// At most `max` at a time; more are refused with a message.
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Registry { max, table: Mutex::default() }))
    }

    /// As [`serve`], counted and listed.
    pub async fn serve<P, H>(
        &self,
        stream: UnixStream,
        ident: Ident,
        options: Options,
        handler: Arc<H>,
    ) -> Result<(), ServeError>
    where
        P: Protocol,
        H: Handler<P>,
    {
        let (seat, refuse) = self.seat();
        let link = handshake::accept::<P>(stream, &ident, &options, refuse).await?;
        let (core, inputs) = Core::new(link, &options);
        let core = Arc::new(core);
        lock(&self.0.table).1.insert(seat.number, Arc::downgrade(&core));
        let guard = EndOnDrop(Arc::clone(&core));
        let role = Serving::<P, H>::new(&core, handler);
        let end = drive(&core, &role, inputs).await?;
        drop(guard);
        role.tasks.close();
        role.tasks.wait().await;
        drop(seat);
        match end {
            End::Broken(violation) => {
                tracing::warn!(
                    session = %core.peer().session,
                    peer = %core.peer().name,
                    pid = core.peer().pid,
                    "connection closed: peer broke the protocol: {violation}"
                );
                Err(violation.into())
            }
            End::Left(how) | End::Local(how) => {
                tracing::debug!(session = %core.peer().session, "connection closed: {how}");
                Ok(())
            }
        }
    }

    /// Takes a place; beyond the last one there is a reason to refuse.
    fn seat(&self) -> (Seat, Option<(Refusal, String)>) {
        let mut table = lock(&self.0.table);
        let taken = table.1.len();
        table.0 += 1;
        let number = table.0;
        table.1.insert(number, Weak::new());
        let refuse = (taken >= self.0.max).then(|| {
            let text = format!(
                "{taken} connections are open, which is all this server takes; close some windows"
            );
            (Refusal::Busy, text)
        });
        (Seat { registry: Arc::clone(&self.0), number }, refuse)
    }

    /// Connections that are open now.
    pub fn len(&self) -> usize {
        lock(&self.0.table).1.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn snapshot(&self) -> Vec<ConnectionInfo> {
        let mut cores: Vec<_> =
            lock(&self.0.table).1.iter().filter_map(|(n, c)| Some((*n, c.upgrade()?))).collect();
        cores.sort_by_key(|(number, _)| *number);
        cores.iter().map(|(_, core)| core.info()).collect()
    }
}
