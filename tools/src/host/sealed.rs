//! Secrets that git's rules hid from a command, by workspace: a command that rewrites the rules opens
//! none of them, to itself or to any call after it. Used by [`super::ToolHost`].
//!
//! A helper says what it hides before its command begins, and which of it git ignores no more when
//! it has ended. One that says nothing at its end has opened all of it, for what we know. What git
//! ignores again when a command begins is git's to hide.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::journal::Journal;
use crate::limits::{HIDDEN_MAX_PATHS, SEALED_FILE_BYTES};

/// Its file in the workspace's journal.
const FILE: &str = "sealed.json";

#[derive(Debug, Clone, Default)]
pub(crate) struct Sealed {
    state: Option<PathBuf>,
    roots: Arc<Mutex<HashMap<PathBuf, Entry>>>,
}

#[derive(Debug, Default)]
struct Entry {
    /// Opened by commands that have ended.
    kept: BTreeSet<String>,
    /// Hidden from commands that run, which may open it.
    running: BTreeMap<u64, Vec<String>>,
    next: u64,
    written: BTreeSet<String>,
}

impl Entry {
    fn all(&self) -> BTreeSet<String> {
        self.kept.iter().chain(self.running.values().flatten()).cloned().collect()
    }
}

impl Sealed {
    pub(crate) fn new(state: &Path) -> Self {
        Self { state: Some(state.to_owned()), roots: Arc::default() }
    }

    /// What stays hidden in a workspace, whatever its rules say.
    pub(crate) fn of(&self, root: &Path) -> Vec<String> {
        self.entry(&mut self.roots(), root).all().into_iter().collect()
    }

    /// A command begins, and git's rules hide this from it.
    pub(crate) fn begin(&self, root: &Path, hidden: Vec<String>) -> Seal {
        let mut roots = self.roots();
        let entry = self.entry(&mut roots, root);
        entry.kept.retain(|path| !hidden.contains(path));
        let id = entry.next;
        entry.next += 1;
        entry.running.insert(id, hidden);
        self.write(root, entry);
        Seal { sealed: self.clone(), root: root.to_owned(), id: Some(id) }
    }

    fn end(&self, root: &Path, id: u64, opened: Option<Vec<String>>) {
        let mut roots = self.roots();
        let entry = self.entry(&mut roots, root);
        let hidden = entry.running.remove(&id).unwrap_or_default();
        // A command that nobody heard the end of may have opened all of it.
        let opened = opened
            .map_or(hidden.clone(), |o| o.into_iter().filter(|p| hidden.contains(p)).collect());
        entry.kept.extend(opened);
        self.write(root, entry);
    }

    fn roots(&self) -> MutexGuard<'_, HashMap<PathBuf, Entry>> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry<'r>(&self, roots: &'r mut HashMap<PathBuf, Entry>, root: &Path) -> &'r mut Entry {
        roots.entry(root.to_owned()).or_insert_with(|| {
            let kept = self.file(root, false).map(|file| read(&file)).unwrap_or_default();
            Entry { written: kept.clone(), kept, ..Entry::default() }
        })
    }

    fn file(&self, root: &Path, make: bool) -> Option<PathBuf> {
        let state = self.state.as_deref()?;
        if make {
            return Some(Journal::open(state, root).ok()?.dir().join(FILE));
        }
        Some(Journal::folder(state, root).join(FILE))
    }

    /// Also what may be opened by commands that run: they end with this process, and it with them.
    fn write(&self, root: &Path, entry: &mut Entry) {
        let all = entry.all();
        if all == entry.written {
            return;
        }
        let Some(file) = self.file(root, true) else { return };
        let text = serde_json::to_vec(&all).unwrap_or_default();
        let new = file.with_extension("new");
        let written = fs::File::create(&new)
            .and_then(|mut f| f.write_all(&text))
            .and_then(|()| fs::rename(&new, &file));
        if written.is_ok() {
            entry.written = all;
        }
    }
}

fn read(file: &Path) -> BTreeSet<String> {
    let small = fs::metadata(file).is_ok_and(|m| m.is_file() && m.len() <= SEALED_FILE_BYTES);
    let text = small.then(|| fs::read(file).ok()).flatten().unwrap_or_default();
    let all: BTreeSet<String> = serde_json::from_slice(&text).unwrap_or_default();
    all.into_iter().take(HIDDEN_MAX_PATHS).collect()
}

/// A command that runs. Dropped without a word of its end, it has opened everything.
#[derive(Debug)]
pub(crate) struct Seal {
    sealed: Sealed,
    root: PathBuf,
    id: Option<u64>,
}

impl Seal {
    /// It has ended, and git ignores these no more.
    pub(crate) fn end(mut self, opened: Vec<String>) {
        if let Some(id) = self.id.take() {
            self.sealed.end(&self.root, id, Some(opened));
        }
    }
}

impl Drop for Seal {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.sealed.end(&self.root, id, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn what_a_command_opens_stays_sealed_until_git_hides_it_again() {
        let state = tempfile::tempdir().unwrap();
        let root = Path::new("/w/s");
        let sealed = Sealed::new(state.path());
        sealed.begin(root, list(&["a", "b"])).end(Vec::new());
        assert!(sealed.of(root).is_empty());
        let first = sealed.begin(root, list(&["a", "b"]));
        assert_eq!(sealed.of(root), ["a", "b"], "it may open them at any time");
        first.end(list(&["b", "of no concern"]));
        assert_eq!(sealed.of(root), ["b"]);
        assert_eq!(Sealed::new(state.path()).of(root), ["b"], "the next engine knows");
        drop(sealed.begin(root, list(&["a"])));
        assert_eq!(sealed.of(root), ["a", "b"], "nobody heard of its end");
        sealed.begin(root, list(&["a", "b"])).end(Vec::new());
        assert!(sealed.of(root).is_empty() && Sealed::new(state.path()).of(root).is_empty());
        assert!(sealed.of(Path::new("/w/other")).is_empty());
        // An engine that is killed while a command runs.
        let _running = sealed.begin(root, list(&["a"]));
        assert_eq!(Sealed::new(state.path()).of(root), ["a"]);
    }
}
