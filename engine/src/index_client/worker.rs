//! The worker: one `lapce-ai-index worker` that answers searches over every index.
//!
//! It is started by the first call, watched by a task of its own, stopped when idle, and
//! replaced after it died. The task is the only one that ends the process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapce_ai_ipc::wire::index::{Reply, Request};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{CallError, Client, IndexProtocol};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{call_failed, start};
use crate::limits;
use crate::process::SocketChild;
use crate::workspace::Root;

/// The place of the worker: empty, or one process.
pub(super) struct WorkerSlot {
    /// Held while a worker is started, so that there is never a second one.
    current: tokio::sync::Mutex<Option<Arc<Worker>>>,
    /// The same worker, for whoever must not wait.
    pid: Arc<Mutex<Option<u32>>>,
    idle: Duration,
    end: CancellationToken,
}

struct Worker {
    /// `None` once the worker is given up: its socket's end is what ends it.
    client: Mutex<Option<Client<IndexProtocol>>>,
    in_flight: AtomicUsize,
    /// Told when a call ends, so that the idle time starts anew.
    used: Notify,
    /// Told when the worker hangs and must be killed.
    hung: Notify,
    /// How it ended, once it has.
    obituary: watch::Receiver<Option<String>>,
}

impl WorkerSlot {
    pub(super) fn new(idle: Duration) -> Self {
        Self {
            current: tokio::sync::Mutex::default(),
            pid: Arc::default(),
            idle,
            end: CancellationToken::new(),
        }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        *self.pid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request to the worker, about `root`.
    pub(super) async fn call(&self, request: Request, root: &Root) -> Result<Reply, WireError> {
        let (worker, client, _use) = self.worker().await?;
        let result = client.call_within(limits::SEARCH_TIMEOUT, request).await;
        // Not held while its end is waited for.
        drop(client);
        match result {
            Ok(reply) => Ok(reply),
            Err(CallError::Disconnected(_)) => {
                let how = worker.obituary().await;
                let what = format!("the index worker {how} while it worked on {root}");
                Err(WireError::new(ErrorKind::Unavailable, what)
                    .hint("try again: the next search starts a new one"))
            }
            Err(CallError::Deadline) => {
                worker.hung.notify_one();
                let limit = limits::SEARCH_TIMEOUT.as_secs();
                let what =
                    format!("no answer about {root} within {limit} s; the worker is replaced");
                Err(WireError::new(ErrorKind::Limit, what).hint("try again, with fewer words"))
            }
            Err(error) => Err(call_failed(error)),
        }
    }

    /// The running worker, or a new one, marked as in use.
    async fn worker(&self) -> Result<(Arc<Worker>, Client<IndexProtocol>, InUse), WireError> {
        let mut current = self.current.lock().await;
        if self.end.is_cancelled() {
            return Err(WireError::new(ErrorKind::Cancelled, "the engine is ending"));
        }
        if let Some(worker) = current.as_ref() {
            // Marked before the check: a worker in use is not stopped as idle.
            let in_use = InUse::new(worker);
            if let Some(client) = worker.client().filter(|client| !client.is_closed()) {
                return Ok((worker.clone(), client, in_use));
            }
        }
        let (child, client) = start("worker", Vec::new()).await?;
        let (tell, obituary) = watch::channel(None);
        let worker = Arc::new(Worker {
            client: Mutex::new(Some(client.clone())),
            in_flight: AtomicUsize::new(0),
            used: Notify::new(),
            hung: Notify::new(),
            obituary,
        });
        let in_use = InUse::new(&worker);
        tracing::info!(pid = child.pid(), "index worker started");
        *self.pid.lock().unwrap_or_else(PoisonError::into_inner) = Some(child.pid());
        let watcher =
            Watcher { worker: worker.clone(), pid: self.pid.clone(), idle: self.idle, tell };
        tokio::spawn(watcher.watch(child, client.clone(), self.end.clone()));
        *current = Some(worker.clone());
        Ok((worker, client, in_use))
    }

    /// Ends the worker and refuses to start another.
    pub(super) async fn end(&self) {
        self.end.cancel();
        let worker = self.current.lock().await.take();
        if let Some(worker) = worker {
            worker.obituary().await;
        }
    }
}

impl Worker {
    fn client(&self) -> Option<Client<IndexProtocol>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it is known how the worker ended.
    async fn obituary(&self) -> String {
        let mut known = self.obituary.clone();
        match known.wait_for(Option::is_some).await {
            Ok(how) => how.clone().unwrap_or_default(),
            Err(_) => "is gone".to_owned(),
        }
    }
}

/// Keeps a worker from counting as idle.
struct InUse(Arc<Worker>);

impl InUse {
    fn new(worker: &Arc<Worker>) -> Self {
        worker.in_flight.fetch_add(1, Ordering::SeqCst);
        Self(worker.clone())
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.0.used.notify_one();
    }
}

/// Owns the process of one worker until it has ended.
struct Watcher {
    worker: Arc<Worker>,
    pid: Arc<Mutex<Option<u32>>>,
    idle: Duration,
    tell: watch::Sender<Option<String>>,
}

impl Watcher {
    async fn watch(
        self,
        mut child: SocketChild,
        client: Client<IndexProtocol>,
        end: CancellationToken,
    ) {
        let why = loop {
            tokio::select! {
                _ = client.closed() => break "it died",
                () = end.cancelled() => break "the engine ends",
                () = self.worker.hung.notified() => break "it hung",
                () = self.worker.used.notified() => {}
                () = tokio::time::sleep(self.idle) => {
                    if self.worker.in_flight.load(Ordering::SeqCst) == 0 {
                        break "idle";
                    }
                }
            }
        };
        self.worker.client.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(client);
        let grace = if why == "it hung" { Duration::ZERO } else { limits::CHILD_GRACE };
        let how = child.end(grace).await;
        if why == "it died" {
            tracing::warn!(pid = child.pid(), %how, "index worker died");
        } else {
            tracing::info!(pid = child.pid(), %why, %how, "index worker ended");
        }
        *self.pid.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.tell.send_replace(Some(how));
    }
}
