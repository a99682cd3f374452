//! What has changed in a workspace and is not in its index yet. No I/O.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits;

/// What an update is to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Work {
    /// The whole workspace.
    All,
    /// These files and folders.
    Some(Vec<String>),
}

/// Changes that wait for an update. A burst of them is one update.
#[derive(Debug, Default)]
pub(super) struct Pending {
    paths: BTreeSet<String>,
    all: bool,
    /// First and last change.
    when: Option<(Instant, Instant)>,
    /// Files that are known to stay out of the index until a rule changes.
    ignored: HashSet<String>,
}

impl Pending {
    /// A file or folder was written, created, moved or deleted.
    pub(super) fn changed(&mut self, path: &str, now: Instant) {
        if self.ignored.contains(path) {
            return;
        }
        if !self.all {
            self.paths.insert(path.to_owned());
            if self.paths.len() > limits::WATCH_PATHS {
                self.all = true;
                self.paths.clear();
            }
        }
        self.touch(now);
    }

    /// It is not known what changed, or the rules did.
    pub(super) fn everything(&mut self, now: Instant) {
        self.all = true;
        self.paths.clear();
        self.ignored.clear();
        self.touch(now);
    }

    fn touch(&mut self, now: Instant) {
        let first = self.when.map_or(now, |(first, _)| first);
        self.when = Some((first, now));
    }

    /// These are left out: their changes are no news.
    pub(super) fn ignore(&mut self, paths: impl IntoIterator<Item = String>) {
        for path in paths {
            if self.ignored.len() < limits::WATCH_IGNORED {
                self.ignored.insert(path);
            }
        }
    }

    /// Changes known one by one.
    pub(super) fn len(&self) -> u64 {
        self.paths.len() as u64
    }

    /// When to update: after a moment of quiet, or when it has been long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        let (first, last) = self.when?;
        Some((last + limits::WATCH_QUIET).min(first + limits::WATCH_LONGEST))
    }

    pub(super) fn take(&mut self) -> Work {
        self.when = None;
        if std::mem::take(&mut self.all) {
            return Work::All;
        }
        Work::Some(std::mem::take(&mut self.paths).into_iter().collect())
    }

    /// The update failed: its work is still to be done.
    pub(super) fn put_back(&mut self, work: &Work, now: Instant) {
        match work {
            Work::All => self.everything(now),
            Work::Some(paths) => {
                for path in paths {
                    self.changed(path, now);
                }
            }
        }
    }
}

/// How long to rest after an update that took `took`: constant writing must not keep a
/// core busy.
pub(super) fn rest(took: Duration) -> Duration {
    (took * limits::WATCH_REST).min(limits::WATCH_REST_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_burst_is_one_update_and_a_steady_stream_does_not_put_it_off() {
        let start = Instant::now();
        let mut pending = Pending::default();
        assert_eq!(pending.due(), None);
        pending.changed("a.rs", start);
        assert_eq!(pending.due(), Some(start + limits::WATCH_QUIET));
        let later = start + limits::WATCH_QUIET / 2;
        pending.changed("b.rs", later);
        pending.changed("a.rs", later);
        assert_eq!(pending.due(), Some(later + limits::WATCH_QUIET));
        pending.changed("c.rs", start + limits::WATCH_LONGEST);
        assert_eq!(pending.due(), Some(start + limits::WATCH_LONGEST));
        assert_eq!(pending.len(), 3);
        let paths = ["a.rs", "b.rs", "c.rs"].map(ToOwned::to_owned).to_vec();
        assert_eq!(pending.take(), Work::Some(paths));
        assert_eq!((pending.due(), pending.len()), (None, 0));
    }

    #[tokio::test]
    async fn too_many_changes_become_one_look_at_everything() {
        let now = Instant::now();
        let mut pending = Pending::default();
        for n in 0..=limits::WATCH_PATHS {
            pending.changed(&n.to_string(), now);
        }
        assert_eq!((pending.len(), pending.take()), (0, Work::All));
        let work = Work::Some(vec!["a".into()]);
        pending.put_back(&work, now);
        assert_eq!(pending.take(), work);
    }

    #[tokio::test]
    async fn files_that_stay_out_are_no_news_until_the_rules_change() {
        let now = Instant::now();
        let mut pending = Pending::default();
        pending.ignore(["debug.log".to_owned()]);
        pending.changed("debug.log", now);
        assert_eq!(pending.due(), None);
        pending.everything(now);
        pending.take();
        pending.changed("debug.log", now);
        assert_eq!(pending.len(), 1);
    }
}
