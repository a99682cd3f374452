//! The life of an index: from nothing, after one saved file, after a branch switch; beside
//! `semble` on the same files.
//!
//! Works on a copy of the folder, with a git repository of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use lapce_ai_ipc::wire::engine::{BuildReport, Event, IndexBuild, Search, Watch, WatchState};
use lapce_ai_ipc::{EngineCall, EngineClient};

use crate::home::{Home, corpus, runtime};
use crate::report::{Report, Samples};
use crate::semble::{self, Semble};

/// Bars of issue 5.
const UPDATE_MS: f64 = 1_000.0;
const SWITCH_MS: f64 = 10_000.0;
const FILES_PER_S: f64 = 2_000.0;
/// Between two saves, and between two switches.
const SAVE_PAUSE: Duration = Duration::from_millis(1500);
const SWITCH_PAUSE: Duration = Duration::from_secs(6);
/// Ends a bench that hangs.
const HANG: Duration = Duration::from_mins(5);
const QUERY: &str = "retry a failed request with a growing delay";

#[derive(Args)]
pub struct Options {
    /// Folder whose files are copied and indexed (default: this repository).
    #[arg(long)]
    path: Option<PathBuf>,
    /// Builds from nothing.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Files saved one by one.
    #[arg(long, default_value_t = 15)]
    saves: usize,
    /// Files that a branch switch touches.
    #[arg(long, default_value_t = 500)]
    switch: usize,
    #[command(flatten)]
    semble: semble::Options,
}

pub fn run(options: &Options) -> Result<Report> {
    let from = corpus(options.path.as_ref())?;
    let home = Home::new()?;
    let place = tempfile::Builder::new().prefix("lapce-ai-bench-index-").tempdir()?;
    let root = place.path().canonicalize()?.join("repo");
    copy(&from, &root)?;
    let touched = branches(&root, options.switch)?;
    let mut report = Report::new("index");
    let client_root = root.to_str().context("the path is not UTF-8")?.to_owned();
    let (files, per_file) = runtime()?.block_on(async {
        let client = EngineClient(home.connect().await?);
        let (mut cold, mut files) = (Vec::new(), 0);
        for _ in 0..options.rounds.max(1) {
            // The cache of chunks goes too: from nothing means nothing.
            let _ = fs::remove_dir_all(home.paths.index_root());
            let build = IndexBuild { root: client_root.clone(), force: false };
            let started = Instant::now();
            files = client.index(build).finish().await?.files;
            cold.push(started.elapsed());
        }
        let cold = Samples::millis(&cold);
        let per_file = cold.quantile(0.5) * 1e3 / files.max(1) as f64;
        report.note("corpus", format!("{} ({files} files)", from.display()));
        report.rows.push(cold.row("index from nothing", "ours", "ms"));
        report.note("files per second, cold", format!("{:.0}", 1e6 / per_file));
        let mut watched = Watched::start(&client, &client_root).await?;
        let saves = watched.saves(&root, options.saves).await?;
        report.rows.push(saves.row("one saved file until it is found", "ours", "ms"));
        for (case, branch) in [
            ("switch to a new branch", "bench-b"),
            ("switch back", "bench-a"),
            ("and again", "bench-b"),
        ] {
            let (took, reused) = watched.switch(&root, branch, touched).await?;
            let what = format!("{case} ({touched} files, {reused} known)");
            report.rows.push(Samples::millis(&[took]).row(&what, "ours", "ms"));
            if branch == "bench-b" {
                report.bar(case, took.as_secs_f64() * 1e3, SWITCH_MS, "ms");
            }
        }
        report.bar("one saved file, p50", saves.quantile(0.5), UPDATE_MS, "ms");
        report.bar("index from nothing, per file", per_file, 1e6 / FILES_PER_S, "us");
        drop(watched);
        let mut ours = Vec::new();
        for _ in 0..=options.rounds.max(1) {
            ours.push(ask_by_process(&root)?);
        }
        // The first one starts the worker.
        ours.remove(0);
        report.rows.push(Samples::millis(&ours).row("query, a process of its own", "ours", "ms"));
        report.rows.push(Samples::new(vec![per_file]).row("index, per file", "ours", "us"));
        let ours = Samples::millis(&ours).quantile(0.5);
        home.stop(client.0).await?;
        anyhow::Ok((files, (per_file, ours)))
    })?;
    ensure!(files > 0, "{} has no file that is indexed", from.display());
    if let Err(error) = peer(options, &root, per_file, &mut report) {
        report.note("semble", format!("{error:#}"));
    }
    Ok(report)
}

/// The same files and question with `semble`.
fn peer(options: &Options, root: &Path, ours: (f64, f64), report: &mut Report) -> Result<()> {
    let Some(semble) = Semble::new(&options.semble)? else {
        report.note("semble", "not there: `cargo xtask bench index` brings it");
        return Ok(());
    };
    let (mut builds, mut asks) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.max(1) {
        let built = semble.build(root)?;
        report.note("files that semble indexes", built.files.to_string());
        builds.push(built.took.as_secs_f64() * 1e6 / built.files.max(1) as f64);
    }
    // The first one saves the index.
    semble.ask(root, QUERY)?;
    for _ in 0..options.rounds.max(1) {
        asks.push(semble.ask(root, QUERY)?);
    }
    let (builds, asks) = (Samples::new(builds), Samples::millis(&asks));
    report.rows.push(builds.row("index, per file", "semble", "us"));
    report.rows.push(asks.row("query, a process of its own", "semble", "ms"));
    report.bar("index per file, beside semble", ours.0, builds.quantile(0.5), "us");
    report.bar("query by process, beside semble", ours.1, asks.quantile(0.5), "ms");
    Ok(())
}

/// `lapce-ai search` as a shell runs it, the engine being there.
fn ask_by_process(root: &Path) -> Result<Duration> {
    let program = lapce_ai_ipc::paths::find_program("lapce-ai").context("lapce-ai is not built")?;
    let started = Instant::now();
    let status = Command::new(program)
        .args(["search", QUERY, "--json", "--root"])
        .arg(root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    ensure!(status.success(), "lapce-ai search ended with {status}");
    Ok(started.elapsed())
}

/// A watched workspace and what its updates said.
struct Watched<'c> {
    client: &'c EngineClient,
    root: String,
    call: EngineCall<()>,
    reports: Vec<BuildReport>,
}

impl<'c> Watched<'c> {
    async fn start(client: &'c EngineClient, root: &str) -> Result<Self> {
        let call = client.watch(Watch { root: root.to_owned() });
        let mut watched = Self { client, root: root.to_owned(), call, reports: Vec::new() };
        let deadline = Instant::now() + HANG;
        // The first look, and the one after the folders are watched.
        while watched.reports.len() < 2 || !watched.settled().await? {
            watched.listen(deadline).await?;
        }
        Ok(watched)
    }

    /// Takes what the watch says for a moment.
    async fn listen(&mut self, deadline: Instant) -> Result<()> {
        ensure!(Instant::now() < deadline, "the index does not come up to date");
        tokio::select! {
            event = self.call.next() => match event {
                Some(Event::Indexed(report)) => self.reports.push(report),
                Some(_) => {}
                None => bail!("the watch has ended"),
            },
            () = tokio::time::sleep(Duration::from_millis(2)) => {}
        }
        Ok(())
    }

    async fn settled(&self) -> Result<bool> {
        let status = self.client.status().await?;
        let info = status.indexes.iter().find(|info| info.root == self.root);
        Ok(info.is_some_and(|i| i.watch == WatchState::Watching && i.behind == 0 && !i.building))
    }

    /// Whether the best hit is this text of this file: an older text of it is found too.
    async fn finds(&self, words: &str, path: &str) -> Result<bool> {
        let request =
            Search { root: self.root.clone(), query: words.to_owned(), limit: 3, explain: false };
        let reply = self.client.search(request).await?;
        let first = reply.hits.first();
        Ok(first.is_some_and(|hit| hit.path == path && hit.code.contains(words)))
    }

    /// From the end of a write until a search finds what was written.
    async fn saves(&mut self, root: &Path, count: usize) -> Result<Samples> {
        let mut times = Vec::new();
        for n in 0..count.max(1) {
            let name = format!("zebra_marker_{n}");
            let text =
                format!("/// Saved as number {n}.\npub fn {name}() {{\n    stripes();\n}}\n");
            fs::write(root.join("bench_saved.rs"), text)?;
            let started = Instant::now();
            while !self.finds(&name, "bench_saved.rs").await? {
                self.listen(started + HANG).await?;
            }
            times.push(started.elapsed());
            self.pause(SAVE_PAUSE).await?;
        }
        Ok(Samples::millis(&times))
    }

    /// A hand saves and switches, not a loop: the rest after an update is not measured.
    async fn pause(&mut self, length: Duration) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < length {
            self.listen(started + HANG).await?;
        }
        Ok(())
    }

    /// From the end of `git checkout` until every file of it is in the index.
    async fn switch(&mut self, root: &Path, branch: &str, files: u64) -> Result<(Duration, u64)> {
        self.pause(SWITCH_PAUSE).await?;
        let seen = self.reports.len();
        git(root, &["checkout", "--quiet", "--force", branch])?;
        let started = Instant::now();
        let sum = |reports: &[BuildReport], field: fn(&BuildReport) -> u64| {
            reports.iter().skip(seen).map(field).sum::<u64>()
        };
        while sum(&self.reports, |r| r.files_changed) < files {
            self.listen(started + HANG).await?;
        }
        let took = started.elapsed();
        while !self.settled().await? {
            self.listen(started + HANG).await?;
        }
        Ok((took, sum(&self.reports, |r| r.files_reused)))
    }
}

/// Branches `bench-a`, checked out, and `bench-b`, which differs in `count` files.
fn branches(root: &Path, count: usize) -> Result<u64> {
    let commit = |message: &str| {
        git(root, &["add", "--all"])?;
        let who = ["-c", "user.name=b", "-c", "user.email=b@example.invalid"];
        git(root, &[&who[..], &["commit", "--quiet", "--no-verify", "-m", message]].concat())
    };
    git(root, &["init", "--quiet", "-b", "bench-a"])?;
    git(root, &["config", "core.safecrlf", "false"])?;
    commit("a")?;
    git(root, &["checkout", "--quiet", "-b", "bench-b"])?;
    let listed = Command::new("git").arg("-C").arg(root).args(["ls-files", "-z"]).output()?;
    let mut touched = 0;
    for path in String::from_utf8(listed.stdout)?.split('\0') {
        let source = Path::new(path).extension().is_some_and(|e| {
            ["rs", "ts", "js", "py", "go", "java", "c", "h", "rb"].iter().any(|known| e == *known)
        });
        let file = root.join(path);
        let size = fs::metadata(&file).map_or(0, |m| m.len());
        if !source || !(1..=200_000).contains(&size) || touched == count {
            continue;
        }
        let mut text = fs::read(&file)?;
        text.extend_from_slice(b"\n\n\n");
        fs::write(&file, text)?;
        touched += 1;
    }
    ensure!(touched > 0, "no source file to change");
    commit("b")?;
    git(root, &["checkout", "--quiet", "bench-a"])?;
    Ok(touched as u64)
}

fn git(root: &Path, args: &[&str]) -> Result<()> {
    let status = Command::new("git").arg("-C").arg(root).args(args).status()?;
    ensure!(status.success(), "git {args:?} ended with {status}");
    Ok(())
}

/// Copies regular files, without what no index takes.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let (kind, name) = (entry.file_type()?, entry.file_name());
        let skip = [".git", "target", "node_modules"].iter().any(|skip| name == *skip);
        if kind.is_dir() && !skip {
            copy(&entry.path(), &to.join(name))?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to.join(name))?;
        }
    }
    Ok(())
}
