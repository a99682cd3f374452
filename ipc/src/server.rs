//! The answering side of a connection.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use crate::client::Options;
use crate::error::{Cancelled, ServeError};
use crate::protocol::{Ident, Protocol};
use crate::wire::WireError;
use crate::wire::engine::ConnectionInfo;

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
pub struct Cx<P: Protocol>(PhantomData<fn() -> P>);

impl<P: Protocol> Cx<P> {
    /// Sends an event; waits while the reader is behind. Events that `P::merge` can
    /// join may leave together, at the latest after `limits::MERGE_DELAY`.
    pub async fn emit(&self, _event: P::Event) -> Result<(), Cancelled> {
        unimplemented!()
    }
    /// Fires when the caller dropped the call, its deadline passed, or it is gone.
    pub fn cancelled(&self) -> &CancellationToken {
        unimplemented!()
    }
    pub fn peer(&self) -> &Peer {
        unimplemented!()
    }
    /// Time the caller gives this call, if it said so.
    pub fn time_left(&self) -> Option<Duration> {
        unimplemented!()
    }
}

impl<P: Protocol> Clone for Cx<P> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

/// Serves one connection until the peer leaves.
pub async fn serve<P, H>(
    _stream: UnixStream,
    _ident: Ident,
    _handler: Arc<H>,
) -> Result<(), ServeError>
where
    P: Protocol,
    H: Handler<P>,
{
    unimplemented!()
}

/// The connections a server has: the cap, and what `status` shows.
#[derive(Clone)]
pub struct Connections(());

impl Connections {
    /// At most `max` at a time; more are refused with a message.
    pub fn new(_max: usize) -> Self {
        unimplemented!()
    }
    /// As [`serve`], counted and listed.
    pub async fn serve<P, H>(
        &self,
        _stream: UnixStream,
        _ident: Ident,
        _options: Options,
        _handler: Arc<H>,
    ) -> Result<(), ServeError>
    where
        P: Protocol,
        H: Handler<P>,
    {
        unimplemented!()
    }
    /// Connections that are open now.
    pub fn len(&self) -> usize {
        unimplemented!()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub fn snapshot(&self) -> Vec<ConnectionInfo> {
        unimplemented!()
    }
}
