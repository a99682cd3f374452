//! The index by hand: no engine, no ring.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::Context;
use lapce_ai_index::embed::default_embedder;
use lapce_ai_index::error::Error;
use lapce_ai_index::eval::{Place, Searcher};
use lapce_ai_index::limits::{
    BATCH_ROWS, BUILD_ADDRESS_SPACE, WORKER_INDEX_CACHE, WORKER_METADATA_CACHE,
};
use lapce_ai_index::manifest::{Files, Lock, State};
use lapce_ai_index::rank::Weights;
use lapce_ai_index::search::Index;
use lapce_ai_index::shared::{self, Location, SHARED_FOLDER};
use lapce_ai_index::spool::{self, Sorter};
use lapce_ai_index::walk::Only;
use lapce_ai_index::{builder, search, server, store};

use crate::args::{Arm, Command};

/// A build yields to the user's work and cannot take the machine with it.
pub(crate) fn be_modest() {
    // SAFETY: plain system calls on this process; the struct outlives the call.
    unsafe {
        libc::nice(10);
        let limit = libc::rlimit { rlim_cur: BUILD_ADDRESS_SPACE, rlim_max: BUILD_ADDRESS_SPACE };
        libc::setrlimit(libc::RLIMIT_DATA, &raw const limit);
    }
    // The first to go when memory runs out.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}

pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Build {
            root: Some(root),
            dir: Some(dir),
            force,
            json,
            cache,
            location,
            publish,
            only,
            ..
        } => {
            let location = location.as_deref().map(Location::parse).transpose()?;
            let only = (!only.is_empty()).then(|| Only::new(only));
            let options = builder::Options {
                root,
                dir: absolute(&dir)?,
                force,
                threads: server::builder_threads(),
                batch_rows: BATCH_ROWS,
                only,
                cache: cache.as_deref().map(absolute).transpose()?,
                max_bytes: 0,
                location: None,
                layer: None,
            };
            build(options, json, location, publish)
        }
        Command::Search { dir, query, limit, explain, json, arm, repeat } => server::one_thread()?
            .block_on(search(&dir, &query, limit, explain, json, arm_of(arm)?, repeat)),
        Command::Stats { dir } => {
            let state =
                State::load(&dir).with_context(|| format!("no index in {}", dir.display()))?;
            println!("{}", serde_json::to_string_pretty(&state)?);
            Ok(())
        }
        Command::Verify(which) => server::one_thread()?.block_on(verify(&which.dir())),
        Command::Gc(which) => {
            be_modest();
            server::many_threads()?.block_on(gc(&which.dir()))
        }
        Command::Rm(which) => rm(&which.dir()),
        _ => anyhow::bail!("give --fd, or --root and --dir"),
    }
}

fn build(
    mut options: builder::Options,
    json: bool,
    location: Option<Location>,
    publish: bool,
) -> anyhow::Result<()> {
    let progress: builder::OnProgress = Arc::new(|p| {
        eprintln!(
            "{:?} {}/{} files, {} chunks {}",
            p.phase, p.files_done, p.files_total, p.chunks, p.current
        );
    });
    let session = store::session(WORKER_INDEX_CACHE, WORKER_METADATA_CACHE);
    let cancel = Arc::new(AtomicBool::new(false));
    let embedder = default_embedder();
    let report = server::many_threads()?.block_on(async {
        match location {
            Some(location) if publish => {
                shared::write(location, options, session, embedder, progress, cancel).await
            }
            Some(location) => {
                options.layer = Some(Arc::new(shared::read(&location, &options.dir).await?));
                builder::build(options, session, embedder, progress, cancel).await
            }
            None => builder::build(options, session, embedder, progress, cancel).await,
        }
    })?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!(
            "{} files, {} chunks ({} added, {} changed, {} removed, {} known from before) in {} ms, peak {} MiB",
            report.files,
            report.chunks,
            report.files_added,
            report.files_changed,
            report.files_removed,
            report.files_reused,
            report.took_ms,
            report.peak_rss_kib / 1024
        );
        for skip in &report.skipped {
            println!("{:>8} left out: {} (e.g. {})", skip.files, skip.reason, skip.example);
        }
    }
    Ok(())
}

async fn search(
    dir: &Path,
    query: &str,
    limit: u32,
    explain: bool,
    json: bool,
    arm: search::Arm,
    repeat: Option<u32>,
) -> anyhow::Result<()> {
    let index = server::open(dir, "this workspace").await?;
    let embedder = default_embedder();
    let weights = Weights::default();
    let ask = || index.search(query, limit, explain, embedder.as_deref(), &weights, arm);
    if let Some(repeat) = repeat {
        let mut times = Vec::new();
        for _ in 0..repeat.max(1) {
            let started = Instant::now();
            ask().await?;
            times.push(started.elapsed().as_micros());
        }
        println!("first {} us", times[0]);
        times.sort_unstable();
        println!("p50 {} us, p99 {} us", times[times.len() / 2], times[times.len() * 99 / 100]);
        let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
        for line in rollup.lines().filter(|l| l.starts_with("Rss") || l.starts_with("Private")) {
            println!("{line}");
        }
        return Ok(());
    }
    let found = ask().await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&found)?);
        return Ok(());
    }
    for hit in &found.hits {
        println!(
            "{:>6.3} {}:{}-{} {} {}",
            hit.score, hit.path, hit.start_line, hit.end_line, hit.kind, hit.symbol
        );
        if explain {
            println!("       {}", hit.why);
        }
    }
    eprintln!("{} hits in {} us", found.hits.len(), found.took_us);
    Ok(())
}

async fn verify(dir: &Path) -> anyhow::Result<()> {
    let state = State::load(dir).ok_or_else(|| no_index(dir))?;
    let db = state.db_path(dir);
    let files = Files::load(&db)
        .filter(|files| files.is_whole(None))
        .with_context(|| format!("{} has no readable list of files; rebuild it", db.display()))?;
    let store =
        store::Store::open(&db, &store::session(WORKER_INDEX_CACHE, WORKER_METADATA_CACHE)).await?;
    let rows = store.count().await?;
    let (missing, unknown) = differences(dir, &store, &files).await?;
    println!("{} files, {} chunks listed, {rows} rows stored", files.count(), files.chunks());
    anyhow::ensure!(
        !files.dirty && missing == 0 && unknown == 0 && rows == files.chunks(),
        "the table and the list differ ({missing} files without rows, {unknown} unknown, dirty: {}); the next build repairs it",
        files.dirty
    );
    let (dims, version) = (store.dims().await?.unwrap_or(0), store.version().await?);
    let copies = store::Copies::intact(&db, &state.view, dims);
    anyhow::ensure!(
        copies.is_some_and(|c| c.version() == version && c.rows() == rows),
        "the mapped copies of the table are missing, damaged or of another version; the next build makes them again"
    );
    println!("ok");
    Ok(())
}

/// (files of the list without rows, files with rows that the list does not know)
async fn differences(
    dir: &Path,
    store: &store::Store,
    files: &Files,
) -> anyhow::Result<(u64, u64)> {
    let mut stored = Sorter::new(dir);
    store.paths(|path| stored.push_path(path)).await?;
    let mut stored = stored.finish()?;
    let (mut missing, mut unknown) = (0, 0);
    let mut last = String::new();
    let mut listed = files.iter().peekable();
    while let Some(item) = stored.take()? {
        let path = item.entry.path;
        if path == last {
            continue;
        }
        while let Some((_, record)) = listed.next_if(|(listed, _)| *listed < path.as_str()) {
            missing += u64::from(record.chunks > 0);
        }
        unknown += u64::from(listed.next_if(|(listed, _)| *listed == path).is_none());
        last = path;
    }
    missing += listed.filter(|(_, record)| record.chunks > 0).count() as u64;
    Ok((missing, unknown))
}

async fn gc(dir: &Path) -> anyhow::Result<()> {
    let session = store::session(WORKER_INDEX_CACHE, WORKER_METADATA_CACHE);
    let tidied = builder::tidy(dir, session).await?;
    println!("{} bytes before, {} after", tidied.bytes_before, tidied.bytes_after);
    Ok(())
}

fn no_index(dir: &Path) -> Error {
    Error::NoIndex(dir.display().to_string())
}

/// Deletes only what is an index: never a folder given by mistake.
fn rm(dir: &Path) -> anyhow::Result<()> {
    if !dir.join("meta.json").is_file() {
        return Err(no_index(dir).into());
    }
    let _lock = Lock::acquire(dir)?.context("a build is running")?;
    std::fs::remove_file(dir.join("meta.json"))?;
    for entry in std::fs::read_dir(dir)?.flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("db-") {
            std::fs::remove_dir_all(entry.path())?;
        } else if name.to_string_lossy().starts_with(spool::PREFIX) {
            std::fs::remove_file(entry.path())?;
        }
    }
    let _ = std::fs::remove_dir_all(dir.join(SHARED_FOLDER));
    for name in ["lock", "meta.tmp"] {
        let _ = std::fs::remove_file(dir.join(name));
    }
    // Fails, rightly, when something of another's is left in it.
    std::fs::remove_dir(dir).with_context(|| format!("{} is not empty", dir.display()))
}

/// An index built for an evaluation, gone with it.
pub(crate) struct Built {
    dir: PathBuf,
    index: Index,
    runtime: tokio::runtime::Runtime,
    weights: Weights,
    arm: search::Arm,
}

impl Built {
    pub(crate) fn new(root: &Path, weights: Weights, arm: Arm) -> anyhow::Result<Self> {
        let arm = arm_of(arm)?;
        let dir = std::env::temp_dir().join(format!("lapce-ai-eval-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let options = builder::Options {
            root: root.into(),
            dir: dir.clone(),
            force: true,
            threads: server::builder_threads(),
            batch_rows: BATCH_ROWS,
            only: None,
            cache: None,
            max_bytes: 0,
            location: None,
            layer: None,
        };
        let session = store::session(WORKER_INDEX_CACHE, WORKER_METADATA_CACHE);
        let runtime = server::many_threads()?;
        let index = runtime.block_on(async {
            let cancel = Arc::new(AtomicBool::new(false));
            builder::build(
                options,
                Arc::clone(&session),
                default_embedder(),
                Arc::new(|_| {}),
                cancel,
            )
            .await?;
            Index::open(&dir, "the corpus", &session).await
        })?;
        Ok(Self { dir, index, runtime, weights, arm })
    }
}

impl Drop for Built {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Searcher for Built {
    fn search(&self, query: &str, limit: usize) -> anyhow::Result<Vec<Place>> {
        let embedder = default_embedder();
        let search = self.index.search(
            query,
            limit as u32,
            false,
            embedder.as_deref(),
            &self.weights,
            self.arm,
        );
        let found = self.runtime.block_on(search)?;
        Ok(found
            .hits
            .into_iter()
            .map(|h| Place { path: h.path, start_line: h.start_line, end_line: h.end_line })
            .collect())
    }
}

fn arm_of(arm: Arm) -> anyhow::Result<search::Arm> {
    Ok(match arm {
        Arm::Bm25 => anyhow::bail!("--arm bm25 is measured in memory"),
        Arm::Lexical => search::Arm::Lexical,
        Arm::Dense => search::Arm::Dense,
        Arm::Hybrid => search::Arm::Hybrid,
    })
}
