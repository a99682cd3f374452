//! Asks and agent runs in progress: who they are, and how to cancel one.
//!
//! A handler opens a run and keeps the guard; dropping it takes the run off the list.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lapce_ai_ipc::wire::{ErrorKind, WireError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{ids, limits};

/// The runs of this engine.
pub struct Runs {
    shared: Arc<Shared>,
    shutdown: CancellationToken,
}

struct Shared {
    active: Mutex<BTreeMap<String, CancellationToken>>,
    /// Told when a run ends.
    activity: Arc<Notify>,
}

impl Shared {
    fn active(&self) -> MutexGuard<'_, BTreeMap<String, CancellationToken>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runs {
    pub(crate) fn new(shutdown: CancellationToken, activity: Arc<Notify>) -> Self {
        Self { shared: Arc::new(Shared { active: Mutex::default(), activity }), shutdown }
    }

    /// Opens a run. Its token is cancelled by [`Runs::cancel`] and when the engine ends.
    pub fn open(&self) -> Result<RunGuard, WireError> {
        let mut active = self.shared.active();
        if active.len() >= limits::RUNS {
            return Err(WireError::new(
                ErrorKind::Limit,
                format!("{} runs are in progress already", limits::RUNS),
            )
            .hint("wait for one to end, or cancel one"));
        }
        let id = loop {
            let id = ids::run_id();
            if !active.contains_key(&id) {
                break id;
            }
        };
        let cancel = self.shutdown.child_token();
        active.insert(id.clone(), cancel.clone());
        Ok(RunGuard { id, cancel, shared: self.shared.clone() })
    }

    /// Cancels a run; false when there is none of that name.
    pub fn cancel(&self, id: &str) -> bool {
        let active = self.shared.active();
        active.get(id).inspect(|token| token.cancel()).is_some()
    }

    pub fn active(&self) -> Vec<String> {
        self.shared.active().keys().cloned().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.shared.active().is_empty()
    }
}

/// One run; dropping it ends the entry.
pub struct RunGuard {
    id: String,
    cancel: CancellationToken,
    shared: Arc<Shared>,
}

impl RunGuard {
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Cancelled when someone asks for it by id, or the engine ends. (The caller going
    /// away is `Cx::cancelled`; watch both.)
    pub fn cancelled(&self) -> &CancellationToken {
        &self.cancel
    }
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        self.shared.active().remove(&self.id);
        self.shared.activity.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_listed_until_its_guard_drops() {
        let runs = Runs::new(CancellationToken::new(), Arc::default());
        let run = runs.open().unwrap();
        assert_eq!(runs.active(), [run.id().to_owned()]);
        assert!(!runs.cancel("another"));
        assert!(!run.cancelled().is_cancelled());
        assert!(runs.cancel(run.id()));
        assert!(run.cancelled().is_cancelled());
        drop(run);
        assert!(runs.is_empty());
    }

    #[test]
    fn runs_are_bounded_and_end_with_the_engine() {
        let shutdown = CancellationToken::new();
        let runs = Runs::new(shutdown.clone(), Arc::default());
        let open: Vec<_> = (0..limits::RUNS).map(|_| runs.open().unwrap()).collect();
        assert_eq!(runs.open().err().unwrap().kind, ErrorKind::Limit);
        shutdown.cancel();
        assert!(open.iter().all(|run| run.cancelled().is_cancelled()));
    }
}
