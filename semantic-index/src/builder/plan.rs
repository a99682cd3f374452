//! What a build has to do: the files that a walk finds, compared with the list of indexed
//! files. Neither is held in memory (`spool`): both come in the order of their paths.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use lapce_ai_ipc::wire::index::Phase;

use super::Build;
use crate::error::Error;
use crate::fault::fault;
use crate::limits::{GONE_FILES, ONLY_FILES};
use crate::manifest::{IN_SHARED, Record};
use crate::sniff;
use crate::spool::{Item, Items, Sorter, Spool};
use crate::store::Store;
use crate::walk;

impl Build {
    /// What failed when the names of files were written aside.
    pub(super) fn spooling(&self) -> impl Fn(std::io::Error) -> Error + use<> {
        let dir = self.options.dir.clone();
        move |error| Error::io("cannot write into", &dir)(error)
    }

    /// Told of folders with more files than are looked at one by one: looks at everything.
    pub(super) fn look_wide(&mut self) {
        if let Some(only) = &self.options.only {
            let known = only.iter().flat_map(|path| self.files.within(path));
            if known.take(ONLY_FILES + 1).count() > ONLY_FILES && self.files.is_whole(None) {
                self.options.only = None;
            }
        }
    }

    pub(super) async fn walk(&mut self) -> Result<(walk::Found, Items), Error> {
        let (root, threads) = (self.options.root.clone(), self.options.threads);
        let (cancel, progress) = (Arc::clone(&self.cancel), self.progress.clone());
        let only = self.options.only.clone();
        // A few folders are not worth a thread each.
        let threads = if only.is_some() { 1 } else { threads };
        let sorter = Mutex::new(Sorter::new(&self.options.dir));
        let found = tokio::task::spawn_blocking(move || {
            let found = walk::look(&root, only.as_ref(), threads, &cancel, |entry, count| {
                let item = Item { entry, ..Item::default() };
                sorter.lock().unwrap_or_else(PoisonError::into_inner).push(&item);
                progress.maybe(Phase::Walk, count, 0, 0, "");
            });
            let sorter = sorter.into_inner().unwrap_or_else(PoisonError::into_inner);
            sorter.finish().map(|files| (found, files))
        })
        .await
        .map_err(|e| Error::Internal(e.to_string()))?;
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        found.map_err(self.spooling())
    }

    /// (files to read, files that are gone)
    pub(super) fn plan(
        &mut self,
        mut found: Items,
        fresh: bool,
    ) -> std::io::Result<(Spool, Spool)> {
        let mut todo = Spool::new(&self.options.dir);
        let mut gone = Spool::new(&self.options.dir);
        if fresh {
            while let Some(item) = found.take()? {
                todo.push(&item)?;
            }
            return Ok((todo, gone));
        }
        let (files, only) = (&self.files, self.options.only.as_ref());
        // With a restriction: what the list has there. It is not much: see `look_wide`.
        let within = only.iter().flat_map(|only| only.iter()).flat_map(|path| files.within(path));
        let mut within: BTreeMap<&str, Record> = within.collect();
        let mut named: BTreeSet<String> = BTreeSet::new();
        // Without: both are in order, so that a million files are not looked up one by one.
        let mut listed = if only.is_none() { Some(files.iter().peekable()) } else { None };
        while let Some(item) = found.take()? {
            let entry = &item.entry;
            let record = match &mut listed {
                None => {
                    if only.is_some_and(|only| only.contains(&entry.path)) {
                        named.insert(entry.path.clone());
                    }
                    within.remove(entry.path.as_str())
                }
                Some(listed) => {
                    while let Some((path, _)) = listed.next_if(|l| l.0 < entry.path.as_str()) {
                        gone.push(&Item::named(path))?;
                    }
                    listed.next_if(|(path, _)| *path == entry.path).map(|(_, record)| record)
                }
            };
            match record {
                Some(record)
                    if record.size == entry.size
                        && record.mtime == entry.mtime
                        && (record.skip == IN_SHARED)
                            == self.in_shared(&entry.path, &record.hash) =>
                {
                    if let Some(reason) = sniff::Skip::from_code(record.skip) {
                        self.skips.add(reason, &entry.path);
                    }
                }
                old => todo.push(&Item { old, ..item })?,
            }
        }
        for (path, _) in listed.into_iter().flatten().chain(within) {
            gone.push(&Item::named(path))?;
        }
        if let Some(only) = only {
            let is_there = |path: &str| {
                self.options.root.join(path).symlink_metadata().is_ok_and(|m| !m.is_dir())
            };
            let left_out =
                |path: &&str| !named.contains(*path) && !files.contains(path) && is_there(path);
            self.ignored = only.iter().filter(left_out).map(ToString::to_string).collect();
        }
        Ok((todo, gone))
    }

    /// Before anything changes: forget what is about to, so that a crash repeats it. What was
    /// known of a file travels with it, so that one with the same bytes need not be cut again.
    pub(super) fn begin(
        &mut self,
        todo: &mut Spool,
        gone: &mut Spool,
        db: &Path,
    ) -> Result<(), Error> {
        let was_dirty = std::mem::replace(&mut self.files.dirty, true);
        for list in [todo, gone] {
            let mut items = list.items().map_err(self.spooling())?;
            while let Some(item) = items.take().map_err(self.spooling())? {
                if self.files.remove(&item.entry.path).is_some() {
                    self.shed_list(db)?;
                }
            }
        }
        self.save_list(db)?;
        fault("list-marked");
        self.files.dirty = was_dirty;
        Ok(())
    }

    /// After a crash: rows may exist for files that the list does not know. Those that are
    /// to be read again are marked, the rows of others deleted.
    pub(super) async fn sweep(&mut self, store: &Store, mut todo: Spool) -> Result<Spool, Error> {
        let failed = self.spooling();
        let mut stored = Sorter::new(&self.options.dir);
        store.paths(|path| stored.push_path(path)).await?;
        let mut stored = stored.finish().map_err(&failed)?;
        let mut wanted = todo.items().map_err(&failed)?;
        let mut listed = self.files.iter().peekable();
        let mut marked = Spool::new(&self.options.dir);
        let mut orphans = Spool::new(&self.options.dir);
        let mut last = None;
        while let Some(item) = stored.take().map_err(&failed)? {
            let path = item.entry.path;
            if last.as_ref() == Some(&path) {
                continue;
            }
            while wanted.peek().is_some_and(|w| w.entry.path < path) {
                copy(&mut wanted, &mut marked, false).map_err(&failed)?;
            }
            while listed.next_if(|(listed, _)| *listed < path.as_str()).is_some() {}
            if wanted.peek().is_some_and(|w| w.entry.path == path) {
                copy(&mut wanted, &mut marked, true).map_err(&failed)?;
            } else if listed.peek().is_none_or(|(listed, _)| *listed != path) {
                orphans.push(&Item::named(&path)).map_err(&failed)?;
            }
            last = Some(path);
        }
        while copy(&mut wanted, &mut marked, false).map_err(&failed)? {}
        let mut orphans = orphans.items().map_err(&failed)?;
        loop {
            let paths = next_paths(&mut orphans, GONE_FILES).map_err(&failed)?;
            if paths.is_empty() {
                return Ok(marked);
            }
            store.delete_older(&paths, u64::MAX >> 1).await?;
        }
    }
}

/// The next paths of a list.
pub(super) fn next_paths(items: &mut Items, most: usize) -> std::io::Result<Vec<String>> {
    let mut paths = Vec::new();
    while paths.len() < most
        && let Some(item) = items.take()?
    {
        paths.push(item.entry.path);
    }
    Ok(paths)
}

/// Copies the next item; false when there is none.
fn copy(from: &mut Items, to: &mut Spool, stale: bool) -> std::io::Result<bool> {
    let next = from.take()?;
    next.map_or(Ok(false), |item| to.push(&Item { stale, ..item }).map(|()| true))
}
