//! The calling side of a connection.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::net::UnixStream;

use crate::error::{CallError, ConnectError};
use crate::protocol::{Ident, Protocol};
use crate::wire::engine::ConnectionInfo;

/// What a side asks for when it connects or serves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Bytes of our own control and bulk ring (powers of two).
    pub control_ring: u32,
    pub bulk_ring: u32,
    /// False: never spin, always park (saves power, costs latency).
    pub spin: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            control_ring: crate::limits::CONTROL_RING,
            bulk_ring: crate::limits::BULK_RING,
            spin: true,
        }
    }
}

/// A connection to a server of `P`. Clones share it; it ends when the last clone and
/// the last [`Call`] are dropped. Needs a tokio runtime with io and time enabled.
pub struct Client<P: Protocol>(PhantomData<fn() -> P>);

impl<P: Protocol> Clone for Client<P> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<P: Protocol> Client<P> {
    /// The client's half of the handshake on a connected socket.
    pub async fn over(_stream: UnixStream, _ident: Ident) -> Result<Self, ConnectError> {
        unimplemented!()
    }
    pub async fn over_with(
        _stream: UnixStream,
        _ident: Ident,
        _options: Options,
    ) -> Result<Self, ConnectError> {
        unimplemented!()
    }
    /// One request, one reply; events are dropped.
    pub async fn call(&self, _request: P::Request) -> Result<P::Reply, CallError> {
        unimplemented!()
    }
    /// As [`Client::call`], with an error when no reply came in time.
    pub async fn call_within(
        &self,
        _limit: Duration,
        _request: P::Request,
    ) -> Result<P::Reply, CallError> {
        unimplemented!()
    }
    /// Sends the request now. Dropping the call cancels it.
    pub fn start(&self, _request: P::Request) -> Call<P> {
        unimplemented!()
    }
    /// Resolves when the peer is gone, with how it ended.
    pub async fn closed(&self) -> String {
        unimplemented!()
    }
    pub fn is_closed(&self) -> bool {
        unimplemented!()
    }
    /// Who is on the other side.
    pub fn peer(&self) -> &crate::server::Peer {
        unimplemented!()
    }
    pub fn info(&self) -> ConnectionInfo {
        unimplemented!()
    }
}

/// A call under way: a stream of events, then a reply. Dropping it cancels it.
pub struct Call<P: Protocol>(PhantomData<fn() -> P>);

impl<P: Protocol> Call<P> {
    /// The next event; `None` means that the reply (or error) is there.
    pub async fn next(&mut self) -> Option<P::Event> {
        unimplemented!()
    }
    /// Drops the remaining events and waits for the reply.
    pub async fn finish(self) -> Result<P::Reply, CallError> {
        unimplemented!()
    }
}

impl<P: Protocol> Stream for Call<P> {
    type Item = P::Event;
    fn poll_next(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<P::Event>> {
        unimplemented!()
    }
}
