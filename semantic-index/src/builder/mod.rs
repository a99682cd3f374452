//! Brings an index up to date with its workspace.
//!
//! Walk, compare with the list of indexed files, then a pipeline: threads read, cut and
//! tokenise what changed; this task commits batches of rows. The order of commits makes a
//! crash harmless at any point: (1) the list forgets the files that are about to change
//! and is marked dirty, (2) new rows are added, (3) older rows of the same files are
//! deleted, (4) the list remembers them. What a build commits is searchable at once.
//! Called by the build process and by tests; never by the worker.

mod file;
mod progress;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use lancedb::Session;
use lapce_ai_ipc::wire::index::{BuildReport, Phase, Progress, Skipped};
use tokio::sync::mpsc;

use crate::chunk::Chunker;
use crate::embed::Embedder;
use crate::error::Error;
use crate::limits::{BATCH_BYTES, CHECKPOINT_EVERY, COMPACT_AFTER_FRAGMENTS, PIPELINE_FILES};
use crate::manifest::{FORMAT, Files, Lock, Record, State};
use crate::sniff;
use crate::store::copies::{View, is_copy, is_needed};
use crate::store::{Copies, Rows, Store};
use crate::walk::{self, Entry, Skips};
use file::{Done, Outcome, process};
pub use progress::disk_bytes;
use progress::{Throttle, peak_rss_kib, unix_micros};

/// What to build, and where.
#[derive(Debug, Clone)]
pub struct Options {
    pub root: PathBuf,
    pub dir: PathBuf,
    pub force: bool,
    pub threads: usize,
    /// Rows of one commit; `limits::BATCH_ROWS` but in tests.
    pub batch_rows: usize,
}

/// Hears of progress, at most ten times a second.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// Everything one build carries.
struct Build {
    options: Options,
    session: Arc<Session>,
    embedder: Option<Arc<dyn Embedder>>,
    progress: Throttle,
    cancel: Arc<AtomicBool>,
    state: State,
    files: Files,
    skips: Skips,
    report: BuildReport,
}

/// Builds or updates the index; `cancel` ends it early, keeping what was committed.
pub async fn build(
    options: Options,
    session: Arc<Session>,
    embedder: Option<Arc<dyn Embedder>>,
    progress: OnProgress,
    cancel: Arc<AtomicBool>,
) -> Result<BuildReport, Error> {
    let started = Instant::now();
    let (root, dir) = check(&options)?;
    let options = Options { root, dir, ..options };
    let Some(_lock) =
        Lock::acquire(&options.dir).map_err(Error::io("cannot lock", &options.dir))?
    else {
        return Err(Error::Busy);
    };
    let embedder_name = embedder.as_ref().map(|e| e.name().to_string()).unwrap_or_default();
    let (state, files) = previous(&options, &embedder_name);
    remove_others(&options.dir, &state.db);
    let mut build = Build {
        progress: Throttle::new(progress),
        options,
        session,
        embedder,
        cancel,
        state,
        files,
        skips: Skips::default(),
        report: BuildReport {
            files: 0,
            chunks: 0,
            files_added: 0,
            files_changed: 0,
            files_removed: 0,
            bytes: 0,
            took_ms: 0,
            skipped: Vec::new(),
            peak_rss_kib: 0,
        },
    };
    build.run().await?;
    let mut report = build.report;
    report.files = build.files.count();
    report.chunks = build.files.chunks();
    report.took_ms = started.elapsed().as_millis() as u64;
    report.peak_rss_kib = peak_rss_kib();
    report.skipped = build
        .skips
        .iter()
        .map(|(reason, files, example)| Skipped {
            reason: reason.reason().into(),
            files,
            example: example.into(),
        })
        .collect();
    Ok(report)
}

/// The canonical workspace and the index folder, made private.
fn check(options: &Options) -> Result<(PathBuf, PathBuf), Error> {
    let root = match options.root.canonicalize() {
        Ok(root) => root,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::NoRoot(options.root.clone()));
        }
        Err(error) => return Err(Error::io("cannot open", &options.root)(error)),
    };
    if !root.is_dir() {
        return Err(Error::NotAFolder(root));
    }
    std::fs::read_dir(&root).map_err(Error::io("cannot read", &root))?;
    if options.dir.starts_with(&root) {
        return Err(Error::DirInside(options.dir.clone()));
    }
    lapce_ai_ipc::paths::private_dir(&options.dir)
        .map_err(Error::io("cannot create", &options.dir))?;
    let dir = options.dir.canonicalize().map_err(Error::io("cannot open", &options.dir))?;
    if dir.starts_with(&root) {
        return Err(Error::DirInside(dir));
    }
    Ok((root, dir))
}

/// The index to update, or a new one beside it.
fn previous(options: &Options, embedder: &str) -> (State, Files) {
    let root = options.root.to_string_lossy().into_owned();
    let old = State::load(&options.dir);
    if let Some(state) = &old
        && !options.force
        && state.root == root
        && state.embedder == embedder
        && let Some(files) = Files::load(&state.db_path(&options.dir))
    {
        return (state.clone(), files);
    }
    let generation = old.as_ref().map_or(0, |s| s.generation);
    let number = old.and_then(|s| s.db[3..].parse::<u64>().ok()).unwrap_or(0) + 1;
    let state = State {
        format: FORMAT,
        root,
        db: format!("db-{number}"),
        embedder: embedder.into(),
        generation,
        ..State::default()
    };
    // Left over from a build that died before its first commit.
    let _ = std::fs::remove_dir_all(state.db_path(&options.dir));
    (state, Files::default())
}

/// Removes database folders that nothing points at.
fn remove_others(dir: &Path, keep: &str) {
    let current = State::load(dir).map(|s| s.db);
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("db-") && name != keep && Some(name.as_ref()) != current.as_deref() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Removes copies that no view needs any more; a reader keeps what it has mapped.
fn remove_old_copies(db: &Path, view: &View, name: &str) {
    for entry in std::fs::read_dir(db).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let file = file.to_string_lossy();
        if is_copy(&file) && !is_needed(view, name, &file) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

impl Build {
    async fn run(&mut self) -> Result<(), Error> {
        let db = self.state.db_path(&self.options.dir);
        let fresh = !db.exists();
        let found = self.walk().await?;
        let walked = found.entries.len() as u64;
        self.skips = found.skips;
        let (todo, removed) = self.plan(found.entries, fresh);
        let mut store = if fresh { None } else { Some(Store::open(&db, &self.session).await?) };
        if !fresh && (self.files.dirty || !todo.is_empty() || !removed.is_empty()) {
            self.begin(&todo, &removed, &db)?;
        }
        let work = !todo.is_empty() || !removed.is_empty() || fresh;
        let dirty = self.files.dirty && !fresh;
        if let Some(store) = store.as_ref().filter(|_| !removed.is_empty()) {
            self.next_generation();
            store.delete_older(&removed, u64::MAX >> 1).await?;
            self.report.files_removed = removed.len() as u64;
        }
        self.pipeline(&mut store, todo, walked, dirty).await?;
        if store.is_none() {
            store = Some(Store::create(&db, &self.session, self.dims()).await?);
        }
        let store = store.ok_or_else(|| Error::Internal("no table".into()))?;
        let old = Copies::intact(&db, &self.state.view, self.dims());
        let mut view = old.clone().unwrap_or_default();
        if work || old.is_none() {
            self.progress.now(Phase::Optimize, walked, walked, self.files.chunks(), "");
            store.index(self.options.threads).await?;
            if !fresh && store.fragments().await? > COMPACT_AFTER_FRAGMENTS {
                store.compact().await?;
            }
            let dims = self.dims();
            view = store.copy(&db, old, dims, &mut || self.next_generation()).await?;
            let name = format!("view-{}", self.next_generation());
            view.save(&db.join(&name)).map_err(Error::io("cannot write into", &db))?;
            self.state.view = name;
        }
        self.files.dirty = false;
        self.state.built_at = unix_micros() / 1_000_000;
        self.next_generation();
        self.save(&db)?;
        remove_old_copies(&db, &view, &self.state.view);
        self.state.disk_bytes = disk_bytes(&self.options.dir);
        self.state
            .save(&self.options.dir)
            .map_err(Error::io("cannot write into", &self.options.dir))
    }

    /// Larger than every generation before, also than those of a build that died unrecorded.
    fn next_generation(&mut self) -> u64 {
        self.state.generation = unix_micros().max(self.state.generation + 1);
        self.state.generation
    }

    fn dims(&self) -> usize {
        self.embedder.as_ref().map_or(0, |e| e.dims())
    }

    async fn walk(&mut self) -> Result<walk::Found, Error> {
        let (root, threads) = (self.options.root.clone(), self.options.threads);
        let (cancel, progress) = (Arc::clone(&self.cancel), self.progress.clone());
        let found = tokio::task::spawn_blocking(move || {
            walk::walk(&root, threads, &cancel, |count| {
                progress.maybe(Phase::Walk, count, 0, 0, "");
            })
        })
        .await
        .map_err(|e| Error::Internal(e.to_string()))?;
        if self.cancel.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(found) }
    }

    /// (files to read, files that are gone)
    fn plan(&mut self, entries: Vec<Entry>, fresh: bool) -> (Vec<Entry>, Vec<String>) {
        let mut gone: HashSet<&str> = self.files.records.keys().map(String::as_str).collect();
        let mut todo = Vec::new();
        for entry in entries {
            gone.remove(entry.path.as_str());
            match self.files.records.get(&entry.path) {
                Some(record) if record.size == entry.size && record.mtime == entry.mtime => {
                    if let Some(reason) = sniff::Skip::from_code(record.skip) {
                        self.skips.add(reason, &entry.path);
                    }
                }
                Some(_) | None => todo.push(entry),
            }
        }
        let gone: Vec<String> =
            if fresh { Vec::new() } else { gone.into_iter().map(ToString::to_string).collect() };
        (todo, gone)
    }

    /// Before anything changes: forget what is about to, so that a crash repeats it.
    fn begin(&mut self, todo: &[Entry], removed: &[String], db: &Path) -> Result<(), Error> {
        let was_dirty = self.files.dirty;
        let kept = todo
            .iter()
            .filter_map(|e| self.files.records.remove_entry(&e.path))
            .collect::<Vec<_>>();
        for path in removed {
            self.files.records.remove(path);
        }
        self.files.dirty = true;
        self.files.save(db).map_err(Error::io("cannot write into", db))?;
        // In memory the old hashes stay: an untouched file need not be cut again.
        self.files.records.extend(kept);
        self.files.dirty = was_dirty;
        Ok(())
    }

    async fn pipeline(
        &mut self,
        store: &mut Option<Store>,
        todo: Vec<Entry>,
        walked: u64,
        dirty: bool,
    ) -> Result<(), Error> {
        let total = todo.len();
        let base = walked - total as u64;
        let db = self.state.db_path(&self.options.dir);
        let swept = if dirty { Some(self.sweep(store.as_ref(), &todo).await?) } else { None };
        let (sender, mut receiver) = mpsc::channel::<Done>(PIPELINE_FILES);
        let workers = self.start_chunkers(todo, &sender);
        // The threads hold the others: the channel ends with the last of them.
        drop(sender);
        let mut rows = Rows::default();
        let mut pending: Vec<(String, Record)> = Vec::new();
        let mut replaced: Vec<String> = Vec::new();
        let (mut done, mut commits, mut saved) = (0_u64, 0_u32, Instant::now());
        while let Some(file) = receiver.recv().await {
            if self.cancel.load(Ordering::Relaxed) {
                break;
            }
            done += 1;
            let path = file.entry.path;
            self.progress.maybe(
                Phase::Chunk,
                base + done,
                walked,
                self.files.chunks_hint(rows.len()),
                &path,
            );
            let old = self.files.records.get(&path).copied();
            let mut record = Record {
                size: file.entry.size,
                mtime: file.entry.mtime,
                hash: file.hash,
                chunks: 0,
                skip: 0,
            };
            match file.outcome {
                Outcome::Touched => {
                    record =
                        Record { size: record.size, mtime: record.mtime, ..old.unwrap_or(record) };
                    self.files.records.insert(path, record);
                    continue;
                }
                Outcome::Skipped(reason) => {
                    self.skips.add(reason, &path);
                    record.skip = reason.code();
                }
                Outcome::Rows(new) => {
                    record.chunks = new.len() as u32;
                    self.report.bytes += record.size;
                    for row in new {
                        rows.push(row);
                    }
                }
            }
            let known = old.is_some() || swept.as_ref().is_some_and(|paths| paths.contains(&path));
            match old {
                Some(_) => self.report.files_changed += 1,
                None if record.skip == 0 => self.report.files_added += 1,
                None => {}
            }
            if known {
                replaced.push(path.clone());
            }
            pending.push((path, record));
            if rows.len() >= self.options.batch_rows || rows.bytes() >= BATCH_BYTES {
                self.commit(store, &mut rows, &mut pending, &mut replaced, &db).await?;
                commits += 1;
                // Partial results while a long first build runs: index at 1, 2, 4, 8, … commits.
                if commits.is_power_of_two()
                    && let Some(store) = store.as_ref()
                {
                    self.progress.now(Phase::Commit, base + done, walked, self.files.chunks(), "");
                    store.index(self.options.threads).await?;
                    self.checkpoint(&db)?;
                    saved = Instant::now();
                } else if saved.elapsed() > CHECKPOINT_EVERY {
                    self.checkpoint(&db)?;
                    saved = Instant::now();
                }
            }
        }
        drop(receiver);
        self.progress.now(
            Phase::Commit,
            base + done,
            walked,
            self.files.chunks_hint(rows.len()),
            "",
        );
        self.commit(store, &mut rows, &mut pending, &mut replaced, &db).await?;
        for worker in workers {
            worker.join().map_err(|_| Error::Internal("a chunker thread died".into()))?;
        }
        if self.cancel.load(Ordering::Relaxed) {
            if store.is_some() {
                self.checkpoint(&db)?;
            }
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    /// After a crash: rows may exist for files that the list does not know.
    async fn sweep(
        &mut self,
        store: Option<&Store>,
        todo: &[Entry],
    ) -> Result<HashSet<String>, Error> {
        let Some(store) = store else { return Ok(HashSet::new()) };
        let all: HashSet<String> = store.paths().await?.into_iter().collect();
        let wanted: HashSet<&str> = todo.iter().map(|e| e.path.as_str()).collect();
        let orphans: Vec<String> = all
            .iter()
            .filter(|p| !self.files.records.contains_key(*p) && !wanted.contains(p.as_str()))
            .cloned()
            .collect();
        store.delete_older(&orphans, u64::MAX >> 1).await?;
        Ok(all)
    }

    async fn commit(
        &mut self,
        store: &mut Option<Store>,
        rows: &mut Rows,
        pending: &mut Vec<(String, Record)>,
        replaced: &mut Vec<String>,
        db: &Path,
    ) -> Result<(), Error> {
        if pending.is_empty() {
            return Ok(());
        }
        let generation = self.next_generation();
        if store.is_none() {
            *store = Some(Store::create(db, &self.session, self.dims()).await?);
        }
        let table = store.as_ref().ok_or_else(|| Error::Internal("no table".into()))?;
        if !rows.is_empty() {
            table.add(rows, generation, self.dims()).await?;
        }
        table.delete_older(replaced, generation).await?;
        replaced.clear();
        self.files.records.extend(pending.drain(..));
        *rows = Rows::default();
        Ok(())
    }

    /// Makes what is committed known to readers and to the next build.
    fn checkpoint(&mut self, db: &Path) -> Result<(), Error> {
        self.files.dirty = true;
        self.save(db)?;
        self.files.dirty = false;
        Ok(())
    }

    fn save(&mut self, db: &Path) -> Result<(), Error> {
        self.files.save(db).map_err(Error::io("cannot write into", db))?;
        self.state.files = self.files.count();
        self.state.chunks = self.files.chunks();
        self.state
            .save(&self.options.dir)
            .map_err(Error::io("cannot write into", &self.options.dir))
    }

    fn start_chunkers(
        &self,
        todo: Vec<Entry>,
        sender: &mpsc::Sender<Done>,
    ) -> Vec<std::thread::JoinHandle<()>> {
        let known: Vec<Option<[u8; 16]>> = todo
            .iter()
            .map(|e| self.files.records.get(&e.path).filter(|r| r.skip == 0).map(|r| r.hash))
            .collect();
        let work = Arc::new((self.options.root.clone(), todo, known, AtomicUsize::new(0)));
        (0..self.options.threads.max(1))
            .map(|_| {
                let (work, sender, embedder) =
                    (Arc::clone(&work), sender.clone(), self.embedder.clone());
                std::thread::spawn(move || {
                    let (root, todo, known, next) = &*work;
                    let mut chunker = Chunker::new();
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(entry) = todo.get(at) else { break };
                        let done =
                            process(root, entry, known[at], &mut chunker, embedder.as_deref());
                        if sender.blocking_send(done).is_err() {
                            break;
                        }
                    }
                })
            })
            .collect()
    }
}

impl Files {
    fn chunks_hint(&self, more: usize) -> u64 {
        // Summing a million records for each progress event would cost more than the event.
        if self.records.len() > 20_000 { more as u64 } else { self.chunks() + more as u64 }
    }
}
