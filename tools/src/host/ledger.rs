//! What a run knows, shared by its calls. Used by [`super::ToolHost`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::background::Jobs;
use super::browser::Place;
use crate::protocol::{Report, Seen};

/// What a run knows about the files it has read, its background commands and its browser;
/// cheap to clone, shared. Writing a file that is no longer as the run saw it is refused.
/// When the last clone is gone, the background commands and the browser end.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    run: String,
    seen: Arc<Mutex<BTreeMap<String, Seen>>>,
    pub(super) jobs: Arc<Jobs>,
    pub(super) browser: Arc<Place>,
}

impl Ledger {
    /// The ledger of the run `run`; its changes can be undone together under this name.
    pub fn for_run(run: &str) -> Self {
        Self { run: run.into(), ..Self::default() }
    }

    /// Begins with what an earlier run knew of the files.
    #[must_use]
    pub fn with_seen(self, seen: BTreeMap<String, Seen>) -> Self {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        self
    }

    /// What the run knows of the files: workspace-relative paths.
    pub fn seen(&self) -> BTreeMap<String, Seen> {
        self.snapshot()
    }

    /// The same run's files, without its hold on the commands and the browser: the run is over
    /// when its last clone is gone.
    pub(super) fn files(&self) -> Self {
        Self { jobs: Arc::default(), browser: Arc::default(), ..self.clone() }
    }

    pub(super) fn run(&self) -> &str {
        &self.run
    }

    pub(super) fn snapshot(&self) -> BTreeMap<String, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn record(&self, report: &Report) {
        let mut known = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|path, _| !report.gone.contains(path));
        known.extend(report.seen.clone());
    }
}
