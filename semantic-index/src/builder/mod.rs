//! Brings an index up to date with its workspace.
//!
//! Walk, compare with the list of indexed files, then a pipeline: threads read, cut and
//! tokenise what changed; this task commits batches of rows. The order of commits makes a
//! crash harmless at any point: (1) the list forgets the files that are about to change
//! and is marked dirty, (2) new rows are added, (3) older rows of the same files are
//! deleted, (4) the list remembers them. What a build commits is searchable at once.
//! Called by the build process and by tests; never by the worker.

mod file;
mod pipeline;
mod plan;
mod progress;
mod save;
mod start;
mod tidy;
mod vectors;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use lancedb::Session;
use lapce_ai_ipc::wire::index::{BuildReport, Phase, Progress, Skipped};

use crate::cache::{Cache, Keeper};
use crate::embed::Embedder;
use crate::error::Error;
use crate::fault::fault;
use crate::limits::{
    COMPACT_AFTER_FRAGMENTS, GONE_FILES, KEEP_SHARED_VERSIONS, LARGE_TABLE_ROWS,
    TIDY_AFTER_FRAGMENTS,
};
use crate::manifest::{Files, Lock, State};
use crate::shared::{Layer, Location};
use crate::store::copies::View;
use crate::store::{Copies, Store};
use crate::walk::{Only, Skips};
pub(crate) use file::read as read_file;
use plan::next_paths;
pub use progress::disk_bytes;
use progress::{Throttle, peak_rss_kib, unix_micros};
use save::remove_old_copies;
use start::{check, previous, remove_others};
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

    /// Larger than every generation before, also than those of a build that died unrecorded.
    fn next_generation(&mut self) -> u64 {
        self.state.generation = unix_micros().max(self.state.generation + 1);
        self.state.generation
    }

    fn dims(&self) -> usize {
        self.embedder.as_ref().map_or(0, |e| e.dims())
    }
}
