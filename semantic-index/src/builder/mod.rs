//! Brings an index up to date with its workspace.
//!
//! Walk, compare with the list of indexed files, then a pipeline: threads read, cut and
//! tokenise what changed; this task commits batches of rows. The order of commits makes a
//! crash harmless at any point: (1) the list forgets the files that are about to change
//! and is marked dirty, (2) new rows are added, (3) older rows of the same files are
//! deleted, (4) the list remembers them. What a build commits is searchable at once.
//! Called by the build process and by tests; never by the worker.

mod file;
mod plan;
mod progress;
mod tidy;
mod vectors;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use lancedb::Session;
use lapce_ai_ipc::wire::index::{BuildReport, Phase, Progress, Skipped};
use tokio::sync::mpsc;

use crate::cache::{Cache, Keeper};
use crate::chunk::Chunker;
use crate::embed::Embedder;
use crate::error::Error;
use crate::fault::fault;
use crate::limits::{
    BATCH_BYTES, CHECKPOINT_EVERY, COMPACT_AFTER_FRAGMENTS, GONE_FILES, INDEX_ROWS,
    KEEP_SHARED_VERSIONS, LARGE_TABLE_ROWS, LIST_CHANGES, PIPELINE_FILES, TIDY_AFTER_FRAGMENTS,
};
use crate::manifest::{FORMAT, Files, IN_SHARED, Lock, Record, State};
use crate::shared::{Layer, Location};
use crate::spool::{self, Item, Items, Spool};
use crate::store::copies::{View, is_copy, is_needed};
use crate::store::{Copies, Rows, Store};
use crate::walk::{Only, Skips};
pub(crate) use file::read as read_file;
use file::{Done, Outcome, process};
use plan::next_paths;
pub use progress::disk_bytes;
use progress::{Throttle, peak_rss_kib, unix_micros};
pub use tidy::tidy;

/// What to build, and where.
#[derive(Debug, Clone)]
pub struct Options {
    pub root: PathBuf,
    pub dir: PathBuf,
    pub force: bool,
    pub threads: usize,
    /// Rows of one commit; `limits::BATCH_ROWS` but in tests.
    pub batch_rows: usize,
    /// What changed, when that is known: nothing else is looked at.
    pub only: Option<Only>,
    /// Folder of the cache of chunks, shared by all indexes.
    pub cache: Option<PathBuf>,
    /// What the index may take on disk; 0 for no limit.
    pub max_bytes: u64,
    /// The table is there, not in `dir`: this build writes a shared index.
    pub location: Option<Location>,
    /// The shared index that this one lies on.
    pub layer: Option<Arc<Layer>>,
}

/// What a build has to tell at its end.
#[derive(Debug)]
pub struct Built {
    pub report: BuildReport,
    /// Folders that were looked into.
    pub folders: Vec<String>,
    /// Of `Options::only`: files that are there and left out.
    pub ignored: Vec<String>,
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
    cache: Arc<Cache>,
    keeper: Keeper,
    folders: Vec<String>,
    ignored: Vec<String>,
    /// The copies of the rows as they were, where they are those of the table.
    before: Option<Copies>,
    /// The table is not what it was.
    changed: bool,
    /// Another table of the workspace is whole and serves until this one is.
    replaces: bool,
}

/// Builds or updates the index; `cancel` ends it early, keeping what was committed.
pub async fn build(
    options: Options,
    session: Arc<Session>,
    embedder: Option<Arc<dyn Embedder>>,
    progress: OnProgress,
    cancel: Arc<AtomicBool>,
) -> Result<BuildReport, Error> {
    Ok(run(options, session, embedder, progress, cancel).await?.report)
}

/// The same, with what a watcher wants to know.
pub async fn run(
    options: Options,
    session: Arc<Session>,
    embedder: Option<Arc<dyn Embedder>>,
    progress: OnProgress,
    cancel: Arc<AtomicBool>,
) -> Result<Built, Error> {
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
    let cache = options.cache.as_deref();
    let cache = Arc::new(cache.map_or_else(Cache::default, |c| Cache::open(c, &embedder_name)));
    let mut build = Build {
        keeper: Keeper::new(options.cache.as_deref()),
        cache,
        folders: Vec::new(),
        ignored: Vec::new(),
        before: None,
        changed: false,
        replaces: false,
        progress: Throttle::new(progress),
        options,
        session,
        embedder,
        cancel,
        state,
        files,
        skips: Skips::default(),
        report: BuildReport::default(),
    };
    let ended = build.run().await;
    let keeper = std::mem::replace(&mut build.keeper, Keeper::new(None));
    let kept = tokio::task::spawn_blocking(move || keeper.tidy());
    kept.await.map_err(|e| Error::Internal(e.to_string()))?;
    ended?;
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
    Ok(Built { report, folders: build.folders, ignored: build.ignored })
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
        && state.below.as_ref().map(|b| &b.location)
            == options.layer.as_ref().map(|l| &l.below.location)
        && let Some(files) = Files::load(&state.db_path(&options.dir))
        && files.is_whole(options.only.as_ref())
    {
        return (state.clone(), files);
    }
    let generation = old.as_ref().map_or(0, |s| s.generation);
    let number = match &options.location {
        // No table of a writer that died may lie there.
        Some(_) => unix_micros(),
        None => old.and_then(|s| s.db[3..].parse::<u64>().ok()).unwrap_or(0) + 1,
    };
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
        } else if name.starts_with(spool::PREFIX) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Removes copies that no view needs any more; a reader keeps what it has mapped.
fn remove_old_copies(db: &Path, view: &View, state: &State, files: &Files) {
    for entry in std::fs::read_dir(db).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let file = file.to_string_lossy();
        let old_shadow = file.starts_with("shadow-") && *file != state.shadow;
        if old_shadow
            || files.is_old_base(&file)
            || is_copy(&file) && !is_needed(view, &state.view, &file)
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

impl Build {
    async fn run(&mut self) -> Result<(), Error> {
        self.fits_below()?;
        let db = self.state.db_path(&self.options.dir);
        let fresh = !db.exists();
        if fresh {
            // What a provider was paid for is not made twice, so that its part counts at once.
            let whole = |old: State| old.built_at > 0 && old.root == self.state.root;
            self.replaces =
                self.remote().is_none() && State::load(&self.options.dir).is_some_and(whole);
            // A new index, of another embedder, say: what changed just now is not all of it.
            self.options.only = None;
        }
        self.look_wide();
        let (found, files) = self.walk().await?;
        let walked = found.files;
        self.skips = found.skips;
        self.folders = found.folders;
        let (mut todo, mut gone) = self.plan(files, fresh).map_err(self.spooling())?;
        let mut store = if fresh { None } else { Some(self.open_table(&db).await?) };
        let dirty = self.files.dirty && !fresh;
        let copies = Copies::intact(&db, &self.state.view, self.dims());
        let old = copies.as_ref().map(Copies::view);
        if let (Some(copies), Some(store)) = (copies, store.as_ref().filter(|_| !dirty))
            && copies.version() == store.version().await?
        {
            self.before = Some(copies);
        }
        let nothing = !fresh && !dirty && todo.is_empty() && gone.is_empty();
        if nothing && self.before.is_some() && self.options.layer.is_none() {
            return self.seen();
        }
        if !fresh {
            self.begin(&mut todo, &mut gone, &db)?;
        }
        self.changed = fresh || dirty || !gone.is_empty();
        if let Some(store) = store.as_ref().filter(|_| !gone.is_empty()) {
            let generation = self.next_generation();
            let mut items = gone.items().map_err(self.spooling())?;
            loop {
                let paths = next_paths(&mut items, GONE_FILES).map_err(self.spooling())?;
                if paths.is_empty() {
                    break;
                }
                self.delete_older(store, &paths, generation).await?;
            }
            fault("rows-deleted");
            self.report.files_removed = gone.len();
        }
        self.pipeline(&mut store, todo, walked, dirty).await?;
        if store.is_none() {
            store = Some(self.create_table(&db).await?);
        }
        let store = store.ok_or_else(|| Error::Internal("no table".into()))?;
        let mut compacted = false;
        let mut view = old.clone().unwrap_or_default();
        // Also when a tidying was killed between the table and its copies.
        if self.changed || self.before.is_none() {
            self.progress.now(Phase::Optimize, walked, walked, self.files.chunks(), "");
            let fragments = store.small_fragments().await?;
            compacted = !fresh && fragments > COMPACT_AFTER_FRAGMENTS;
            self.report.tidy = !compacted && fragments > TIDY_AFTER_FRAGMENTS;
            view = self.index(&store, &db, old, compacted).await?;
            fault("indexed");
            let name = format!("view-{}", self.next_generation());
            view.save(&db.join(&name)).map_err(Error::io("cannot write into", &db))?;
            self.state.view = name;
            fault("copies-written");
        }
        if self.changed {
            self.state.changed_at = unix_micros() / 1_000_000;
        }
        if let Some(layer) = self.options.layer.clone() {
            self.cover(&layer, &db)?;
        }
        self.files.dirty = false;
        self.next_generation();
        self.state.built_at = unix_micros() / 1_000_000;
        self.save(&db)?;
        remove_old_copies(&db, &view, &self.state, &self.files);
        if compacted {
            // Readers look at the new version now.
            store.prune().await?;
        }
        self.state.disk_bytes = disk_bytes(&self.options.dir);
        self.save_state()
    }

    /// Brings the table's indexes and its mapped copies up to date.
    async fn index(
        &mut self,
        store: &Store,
        db: &Path,
        old: Option<View>,
        compact: bool,
    ) -> Result<View, Error> {
        let (dims, threads) = (self.dims(), self.options.threads);
        // Both hold words in memory, so that only a small table has them made at once.
        if !compact && self.files.chunks() <= LARGE_TABLE_ROWS {
            let mut next = || self.next_generation();
            let copy = store.copy(db, old, dims, false, &mut next);
            let (indexed, view) = tokio::join!(store.index(threads), copy);
            indexed?;
            // The indexes are a version of their own, with the same rows.
            return Ok(View { version: store.version().await?, ..view? });
        }
        store.index(threads).await?;
        if compact {
            store.compact().await?;
        }
        Ok(store.copy(db, old, dims, false, &mut || self.next_generation()).await?)
    }

    /// Nothing has changed: only the time of this look is news.
    fn seen(&mut self) -> Result<(), Error> {
        self.state.built_at = unix_micros() / 1_000_000;
        self.save_state()
    }

    fn save_state(&self) -> Result<(), Error> {
        self.state
            .save(&self.options.dir)
            .map_err(Error::io("cannot write into", &self.options.dir))
    }

    /// Where the table is: in the index folder, or in an object store.
    fn table_path(&self, db: &Path) -> PathBuf {
        let location = self.options.location.as_ref();
        location.map_or_else(|| db.to_path_buf(), |l| l.table(&self.state.db))
    }

    async fn open_table(&self, db: &Path) -> Result<Store, Error> {
        let mut store = Store::open(&self.table_path(db), &self.session).await?;
        if self.options.location.is_some() {
            store.keep_versions(KEEP_SHARED_VERSIONS);
        }
        Ok(store)
    }

    async fn create_table(&self, db: &Path) -> Result<Store, Error> {
        std::fs::create_dir_all(db).map_err(Error::io("cannot create", db))?;
        Ok(Store::create(&self.table_path(db), &self.session, self.dims()).await?)
    }

    /// Whether the shared index below holds this file with these bytes.
    fn in_shared(&self, path: &str, hash: &[u8; 16]) -> bool {
        self.options.layer.as_ref().is_some_and(|l| l.hashes.get(path) == Some(hash))
    }

    /// Notes which files of the shared index below are hidden: those that differ here.
    fn cover(&mut self, layer: &Layer, db: &Path) -> Result<(), Error> {
        let hidden: Vec<&str> = layer
            .hashes
            .keys()
            .filter(|path| self.files.get(path).is_none_or(|r| r.skip != IN_SHARED))
            .map(String::as_str)
            .collect();
        let text = serde_json::to_vec(&hidden).map_err(|e| Error::Internal(e.to_string()))?;
        let name = format!("shadow-{}", self.next_generation());
        crate::manifest::replace(&db.join(&name), &text)
            .map_err(Error::io("cannot write into", db))?;
        self.state.shadow = name;
        self.state.below = Some(layer.below.clone());
        Ok(())
    }

    /// Larger than every generation before, also than those of a build that died unrecorded.
    fn next_generation(&mut self) -> u64 {
        self.state.generation = unix_micros().max(self.state.generation + 1);
        self.state.generation
    }

    fn dims(&self) -> usize {
        self.embedder.as_ref().map_or(0, |e| e.dims())
    }

    async fn pipeline(
        &mut self,
        store: &mut Option<Store>,
        mut todo: Spool,
        walked: u64,
        dirty: bool,
    ) -> Result<(), Error> {
        let total = todo.len();
        let base = walked - total;
        let db = self.state.db_path(&self.options.dir);
        self.announce(&todo).await;
        if let Some(store) = store.as_ref().filter(|_| dirty) {
            todo = self.sweep(store, todo).await?;
        }
        let (sender, mut receiver) = mpsc::channel::<Done>(PIPELINE_FILES);
        let items = todo.items().map_err(self.spooling())?;
        let workers = self.start_chunkers(items, &sender);
        // The threads hold the others: the channel ends with the last of them.
        drop(sender);
        let mut rows = Rows::default();
        let mut pending: Vec<(String, Record)> = Vec::new();
        let mut replaced: Vec<String> = Vec::new();
        let (mut done, mut commits, mut saved) = (0_u64, 0_u32, Instant::now());
        let mut committed = self.files.chunks();
        let mut searchable = store.is_some();
        // Rows that no index has yet; their words are in memory while one is made.
        let mut bare = 0;
        while let Some(file) = receiver.recv().await {
            if self.cancel.load(Ordering::Relaxed) {
                break;
            }
            done += 1;
            let Item { entry, old, stale } = file.item;
            let path = entry.path;
            let chunks = committed + rows.len() as u64;
            self.progress.maybe(Phase::Chunk, base + done, walked, chunks, &path);
            let mut record = Record {
                size: entry.size,
                mtime: entry.mtime,
                hash: file.hash,
                chunks: 0,
                skip: 0,
            };
            match file.outcome {
                Outcome::Touched if self.in_shared(&path, &file.hash) => {
                    record.skip = IN_SHARED;
                    if old.is_none_or(|old| old.chunks == 0) && !stale {
                        self.files.insert(path, record);
                        continue;
                    }
                }
                Outcome::Touched => {
                    record =
                        Record { size: record.size, mtime: record.mtime, ..old.unwrap_or(record) };
                    self.files.insert(path, record);
                    continue;
                }
                Outcome::Skipped(reason) => {
                    self.skips.add(reason, &path);
                    record.skip = reason.code();
                }
                Outcome::Rows { rows: new, reused, kept } => {
                    record.chunks = new.len() as u32;
                    self.report.bytes += record.size;
                    self.report.files_reused += u64::from(reused);
                    if let Some(kept) = kept {
                        self.keeper.add(&kept);
                    }
                    for row in new {
                        rows.push(row);
                    }
                }
            }
            match old {
                Some(_) => self.report.files_changed += 1,
                None if record.skip == 0 => self.report.files_added += 1,
                None => {}
            }
            if old.is_some() || stale {
                replaced.push(path.clone());
            }
            pending.push((path, record));
            if rows.len() >= self.batch_rows() || rows.bytes() >= BATCH_BYTES {
                bare += rows.len();
                self.commit(store, &mut rows, &mut pending, &mut replaced, &db).await?;
                commits += 1;
                committed = self.files.chunks();
                // Partial results while a long build runs: index at 1, 2, 4, 8, … commits, as
                // long as most is yet to come. What a provider was paid for is recorded at once.
                let early = done * 2 <= total || self.remote().is_some();
                let index =
                    early && commits.is_power_of_two() && !self.replaces || bare >= INDEX_ROWS;
                let late = saved.elapsed() > CHECKPOINT_EVERY;
                if let Some(store) = store.as_ref().filter(|_| index || late) {
                    if index || !searchable && !self.replaces {
                        self.progress.now(Phase::Commit, base + done, walked, committed, "");
                        store.index(self.options.threads).await?;
                        searchable = true;
                        bare = 0;
                    }
                    self.checkpoint(&db)?;
                    saved = Instant::now();
                }
            }
        }
        drop(receiver);
        let chunks = committed + rows.len() as u64;
        self.progress.now(Phase::Commit, base + done, walked, chunks, "");
        self.commit(store, &mut rows, &mut pending, &mut replaced, &db).await?;
        for worker in workers {
            let ended =
                worker.join().map_err(|_| Error::Internal("a chunker thread died".into()))?;
            ended.map_err(self.spooling())?;
        }
        if self.cancel.load(Ordering::Relaxed) {
            if let Some(store) = store.as_ref().filter(|_| !self.replaces) {
                if !searchable {
                    store.index(self.options.threads).await?;
                }
                self.checkpoint(&db)?;
            }
            return Err(Error::Cancelled);
        }
        Ok(())
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
        self.changed |= !rows.is_empty() || !replaced.is_empty();
        self.check_room(db, rows.bytes())?;
        if let Err(error) = self.fill(rows).await {
            if store.is_some() {
                self.checkpoint(db)?;
            }
            return Err(error);
        }
        let generation = self.next_generation();
        if store.is_none() {
            *store = Some(self.create_table(db).await?);
        }
        let table = store.as_ref().ok_or_else(|| Error::Internal("no table".into()))?;
        if !rows.is_empty() {
            table.add(rows, generation, self.dims()).await?;
            fault("rows-added");
        }
        self.delete_older(table, replaced, generation).await?;
        fault("rows-deleted");
        replaced.clear();
        for (path, record) in pending.drain(..) {
            self.files.insert(path, record);
        }
        *rows = Rows::default();
        Ok(())
    }

    /// Deletes what older builds wrote of these files.
    async fn delete_older(
        &self,
        table: &Store,
        paths: &[String],
        generation: u64,
    ) -> Result<(), Error> {
        let Some(before) = &self.before else {
            return Ok(table.delete_older(paths, generation).await?);
        };
        let rows: Vec<u64> = paths.iter().flat_map(|path| before.rows_of(path)).collect();
        Ok(table.delete_rows(&rows).await?)
    }

    /// An index never grows past its bound; what is committed stays.
    fn check_room(&self, db: &Path, more: usize) -> Result<(), Error> {
        let most = self.options.max_bytes;
        if most > 0 && more > 0 && disk_bytes(db) + more as u64 > most {
            return Err(Error::DiskCap(most));
        }
        Ok(())
    }

    /// Makes what is committed known to readers and to the next build.
    fn checkpoint(&mut self, db: &Path) -> Result<(), Error> {
        if self.replaces {
            return self.shed_list(db);
        }
        self.files.dirty = true;
        self.save(db)?;
        self.files.dirty = false;
        Ok(())
    }

    /// Writes the list of files: what has changed of it, or now and then all.
    fn save_list(&mut self, db: &Path) -> Result<(), Error> {
        let (least, part) = LIST_CHANGES;
        if self.files.has_grown(least, part) {
            let number = self.next_generation();
            self.files.merge(db, number).map_err(Error::io("cannot write into", db))?;
        }
        self.files.save(db).map_err(Error::io("cannot write into", db))?;
        // Only builds read the list, one at a time.
        for entry in std::fs::read_dir(db).into_iter().flatten().flatten() {
            if self.files.is_old_base(&entry.file_name().to_string_lossy()) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// Writes the list when it has more changes than memory should hold.
    fn shed_list(&mut self, db: &Path) -> Result<(), Error> {
        let (least, part) = LIST_CHANGES;
        if self.files.has_grown(least, part) { self.save_list(db) } else { Ok(()) }
    }

    fn save(&mut self, db: &Path) -> Result<(), Error> {
        self.save_list(db)?;
        fault("list-saved");
        self.state.files = self.files.count();
        self.state.chunks = self.files.chunks();
        self.save_state()?;
        fault("meta-saved");
        Ok(())
    }

    fn start_chunkers(&self, todo: Items, sender: &mpsc::Sender<Done>) -> Vec<ChunkerThread> {
        let todo = Arc::new(Mutex::new(todo));
        (0..self.options.threads.max(1))
            .map(|_| {
                let (root, layer) = (self.options.root.clone(), self.options.layer.clone());
                let (todo, sender) = (Arc::clone(&todo), sender.clone());
                let (embedder, cache) = (self.embedder.clone(), Arc::clone(&self.cache));
                std::thread::spawn(move || {
                    let mut chunker = Chunker::new();
                    loop {
                        let next = todo.lock().unwrap_or_else(PoisonError::into_inner).take()?;
                        let Some(item) = next else { break };
                        let shared = layer.as_ref().and_then(|l| l.hashes.get(&item.entry.path));
                        let own = item.old.filter(|r| r.skip == 0);
                        let known = shared.copied().or_else(|| own.map(|r| r.hash));
                        let embedder = embedder.as_deref();
                        let done = process(&root, item, known, &mut chunker, embedder, &cache);
                        if sender.blocking_send(done).is_err() {
                            break;
                        }
                    }
                    Ok(())
                })
            })
            .collect()
    }
}

type ChunkerThread = std::thread::JoinHandle<std::io::Result<()>>;
