//! The engine's hold on `lapce-ai-index`: one worker for searches, one short process per build.
//!
//! Handlers call [`IndexClient::search`], [`IndexClient::stats`] and [`IndexClient::build`];
//! nobody else starts or talks to these processes. A worker that dies fails the calls it had
//! with a clear error and is started again by the next one; one that is idle is stopped.

use std::path::PathBuf;
use std::time::Duration;

use lapce_ai_ipc::wire::engine::{BuildReport, Event};
use lapce_ai_ipc::wire::index::{Found, Stats};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::workspace::Root;

/// Searches, builds, and the processes behind them.
pub struct IndexClient {
    index_root: PathBuf,
}

/// One of our index processes, for `status`.
#[derive(Debug, Clone)]
pub struct IndexProcess {
    pub pid: u32,
    /// The workspace a build process works on; `None` is the worker.
    pub root: Option<Root>,
}

impl IndexClient {
    pub fn new(index_root: PathBuf, _worker_idle: Duration, _shutdown: CancellationToken) -> Self {
        Self { index_root }
    }

    /// Whether `root` has a finished index. Reads the disk, starts nothing.
    pub fn exists(&self, root: &Root) -> bool {
        root.index_dir(&self.index_root).is_dir()
    }

    /// The best `limit` passages for `query`. `NotFound` when there is no index yet.
    pub async fn search(
        &self,
        _root: &Root,
        _query: &str,
        _limit: u32,
        _explain: bool,
    ) -> Result<Found, WireError> {
        Err(WireError::new(ErrorKind::Unsupported, "search is not there yet"))
    }

    pub async fn stats(&self, _root: &Root) -> Result<Stats, WireError> {
        Err(WireError::new(ErrorKind::Unsupported, "stats is not there yet"))
    }

    /// Brings the index of `root` up to date. A build of the same root in progress is joined;
    /// it is cancelled when nobody waits for it any more (drop the future). `Progress` and
    /// `Notice` events go to `events` while it runs; a full channel loses progress, not notices.
    pub async fn build(
        &self,
        _root: &Root,
        _force: bool,
        _events: mpsc::Sender<Event>,
    ) -> Result<BuildReport, WireError> {
        Err(WireError::new(ErrorKind::Unsupported, "build is not there yet"))
    }

    /// Live index processes.
    pub fn processes(&self) -> Vec<IndexProcess> {
        Vec::new()
    }
}
