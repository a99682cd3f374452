//! The answering side of a connection.
//!
//! Each request runs as a task of its own; its events wait for the reader's credit, its
//! reply ends it. When the caller cancels, its deadline passes or it dies, the handler is
//! told, and dropped if it does not end soon.

mod call;
mod connections;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use tokio::net::UnixStream;
use tokio_util::task::TaskTracker;

pub use call::Cx;
use call::{CallState, Stream, send_error};
pub use connections::Connections;

use crate::client::Options;
use crate::conn::{Core, End, Kind, Message, Role, lock};
use crate::error::{ServeError, Violation};
use crate::limits::{CALLS_MAX, CANCEL_GRACE, REQUEST_BYTES_MAX};
use crate::protocol::{Ident, Protocol, Wire as _};
use crate::ring::Lane;
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
        let stream = Arc::new(Stream::new(id, core.gone().child_token(), bytes));
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
            outbox: tokio::sync::Mutex::default(),
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
