//! The index at scale: a generated repository of many files, built, asked and updated.
//!
//! Two builds, of a quarter of the files and of all of them, show how the cost of a file
//! grows. What is generated, and why it is like real code, stands in `generate`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use lapce_ai_ipc::EngineProtocol;
use lapce_ai_ipc::client::Client;
use lapce_ai_ipc::wire::engine::{IndexBuild, ProcessRole, Reply, Request, Search};
use lapce_ai_ipc::wire::index::BuildReport;

use crate::generate::Generator;
use crate::home::{Home, corpus, runtime, status};
use crate::report::{Report, Samples};
use crate::search::QUERIES;

const BUILD_MIB: f64 = 400.0;
const QUERY_MS: f64 = 25.0;
const UPDATE_MS: f64 = 1000.0;
/// Private memory of the worker up to 100,000 chunks, and above.
const PRIVATE_MIB: [f64; 2] = [20.0, 40.0];
/// Cost of a file in the large build by that in the small one.
const SLOPE: f64 = 1.15;
/// Seconds of rest before memory is read.
const SETTLE: Duration = Duration::from_secs(5);

/// Updates by a build process that is told what changed.
const NAMED: usize = 25;

/// Asked beside the questions of `bench search`.
const MORE: [&str; 4] = [
    "where is the router matched",
    "validate user input",
    "serialize",
    "read the header of a response",
];

#[derive(Args)]
pub struct Options {
    /// Files of the large repository; the size is 1,000,000.
    #[arg(long, default_value_t = 20_000)]
    files: usize,
    /// Repository whose files are copied and varied (default: this one).
    #[arg(long)]
    path: Option<PathBuf>,
    /// Where the repositories and indexes are made, and removed again: 1,000,000 files need
    /// about 25 GB (default: the folder for temporary files).
    #[arg(long)]
    scratch: Option<PathBuf>,
    /// Only writes the files, into this new folder, for measuring by hand.
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

pub fn run(options: &Options) -> Result<Report> {
    let source = corpus(options.path.as_ref())?;
    if let Some(scratch) = &options.scratch {
        // SAFETY: nothing has started a thread yet.
        unsafe { std::env::set_var("TMPDIR", scratch) };
    }
    let generator = Generator::read(&source)?;
    let mut report = Report::new("index-scale");
    report.note("source", format!("{} ({} files)", source.display(), generator.source_files()));
    if let Some(to) = &options.write {
        anyhow::ensure!(!to.exists(), "{} exists", to.display());
        let bytes = generator.write(to, options.files)?;
        report.note("written", format!("{} files, {} MiB", options.files, bytes >> 20));
        return Ok(report);
    }
    let small = measure(&generator, options.files / 4, &mut report)?;
    let large = measure(&generator, options.files, &mut report)?;
    let slope = large.micros_per_file / small.micros_per_file;
    report.note(
        "slope",
        format!(
            "a file costs {slope:.2} times as much in {} as in {} files",
            large.files, small.files
        ),
    );
    report.bar("build peak RSS", large.peak_mib, BUILD_MIB, "MiB");
    report.bar("cost of a file, large by small", slope, SLOPE, "times");
    report.bar("query p50", large.query_ms, QUERY_MS, "ms");
    report.bar("update of one file", large.update_ms, UPDATE_MS, "ms");
    let most = PRIVATE_MIB[usize::from(large.chunks > 100_000)];
    report.bar("worker private", large.private_mib, most, "MiB");
    Ok(report)
}

struct Measured {
    files: u64,
    chunks: u64,
    micros_per_file: f64,
    peak_mib: f64,
    query_ms: f64,
    update_ms: f64,
    private_mib: f64,
}

fn measure(generator: &Generator, files: usize, report: &mut Report) -> Result<Measured> {
    let dir = tempfile::Builder::new().prefix("lapce-ai-scale-").tempdir()?;
    let root = dir.path().join("repository");
    let bytes = generator.write(&root, files)?;
    let home = Home::new()?;
    runtime()?.block_on(async {
        let client = home.connect().await?;
        let started = Instant::now();
        let built = build(&client, &root).await?;
        let took = started.elapsed();
        let size = format!("{} files", built.files);
        report.note(&size, format!("{} MiB, {} chunks", bytes >> 20, built.chunks));
        let mut row = |case: &str, values: Vec<f64>, unit| {
            let samples = Samples::new(values);
            report.rows.push(samples.row(&format!("{size}: {case}"), "ours", unit));
            samples.quantile(0.5)
        };
        let per_file =
            row("build, a file", vec![took.as_secs_f64() * 1e6 / built.files as f64], "us");
        row("build, files a second", vec![built.files as f64 / took.as_secs_f64()], "files/s");
        let peak = row("build, peak RSS", vec![built.peak_rss_kib as f64 / 1024.0], "MiB");
        ask(&client, &root, QUERIES[0]).await?;
        let mut warm = Vec::new();
        for _ in 0..10 {
            for query in QUERIES.into_iter().chain(MORE) {
                let started = Instant::now();
                ask(&client, &root, query).await?;
                warm.push(started.elapsed().as_secs_f64() * 1e3);
            }
        }
        let query = row("warm query", warm, "ms");
        let mut updates = Vec::new();
        let mut update_peak = 0.0_f64;
        for n in 0..5 {
            let name = format!("zebra_quagga_{n}");
            let text =
                format!("/// Counts the stripes.\npub fn {name}() -> usize {{\n    {n}\n}}\n");
            std::fs::write(root.join("changed.rs"), text)?;
            let started = Instant::now();
            let updated = build(&client, &root).await?;
            let found = ask(&client, &root, &name).await?;
            updates.push(started.elapsed().as_secs_f64() * 1e3);
            update_peak = update_peak.max(updated.peak_rss_kib as f64 / 1024.0);
            anyhow::ensure!(found == "changed.rs", "after the update {name} is found in {found:?}");
        }
        row("one file changed, everything looked at, until it is found", updates, "ms");
        row("update, peak RSS", vec![update_peak], "MiB");
        let mut named = Vec::new();
        for n in 0..NAMED {
            let name = format!("okapi_tapir_{n}");
            let text =
                format!("/// Counts the stripes.\npub fn {name}() -> usize {{\n    {n}\n}}\n");
            std::fs::write(root.join("named.rs"), text)?;
            let started = Instant::now();
            update(&home.paths.index_root(), &root, "named.rs")?;
            let found = ask(&client, &root, &name).await?;
            named.push(started.elapsed().as_secs_f64() * 1e3);
            anyhow::ensure!(found == "named.rs", "after the update {name} is found in {found:?}");
        }
        let update = row("one named file changed until it is found", named.clone(), "ms");
        row("the slowest of these", vec![named.into_iter().fold(0.0, f64::max)], "ms");
        tokio::time::sleep(SETTLE).await;
        let status = status(&client).await?;
        let worker = status.processes.iter().find(|p| p.role == ProcessRole::IndexWorker);
        let memory = &worker.context("no index worker runs")?.memory;
        let private = row("worker private", vec![memory.private_dirty_kib as f64 / 1024.0], "MiB");
        row("worker RSS", vec![memory.rss_kib as f64 / 1024.0], "MiB");
        row("index on disk", vec![size_of(&home.paths.data) as f64 / f64::from(1 << 20)], "MiB");
        home.stop(client).await?;
        Ok(Measured {
            files: built.files,
            chunks: built.chunks,
            micros_per_file: per_file,
            peak_mib: peak.max(update_peak),
            query_ms: query,
            update_ms: update,
            private_mib: private,
        })
    })
}

/// What the engine does for a watched workspace: a build process that is told what changed.
fn update(indexes: &Path, root: &Path, path: &str) -> Result<()> {
    let program = lapce_ai_ipc::paths::find_program("lapce-ai-index");
    let program = program.context("lapce-ai-index is not built")?;
    let dirs = std::fs::read_dir(indexes)?.flatten().map(|entry| entry.path());
    let dir = dirs.into_iter().find(|dir| dir.join("meta.json").is_file());
    let dir = dir.context("the engine has no index")?;
    // While the engine tidies the index, the build is told to come later.
    for _ in 0..1000 {
        let mut command = std::process::Command::new(&program);
        command.args(["build", "--only", path, "--root"]).arg(root).arg("--dir").arg(&dir);
        command.arg("--cache").arg(indexes.join("cache"));
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            return Ok(());
        }
        anyhow::ensure!(said.contains("another build"), "the update failed: {said}");
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("the index stays busy")
}

async fn build(client: &Client<EngineProtocol>, root: &Path) -> Result<BuildReport> {
    let root = root.to_str().context("the path is not UTF-8")?.to_owned();
    match client.call(Request::IndexBuild(IndexBuild { root, force: false })).await? {
        Reply::IndexReport(report) => Ok(report),
        other => bail!("the engine answered {other:?} to an index request"),
    }
}

/// The path of the best hit.
async fn ask(client: &Client<EngineProtocol>, root: &Path, query: &str) -> Result<String> {
    let root = root.to_str().context("the path is not UTF-8")?.to_owned();
    let search = Search { root, query: query.into(), limit: 10, explain: false };
    match client.call(Request::Search(search)).await? {
        Reply::Search(found) => Ok(found.hits.into_iter().next().map_or(String::new(), |h| h.path)),
        other => bail!("the engine answered {other:?} to a search"),
    }
}

fn size_of(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size_of(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}
