//! Query latency: client, engine, worker, LanceDB and back, beside ripgrep (or grep) on the same words.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use lapce_ai_ipc::wire::engine::{Request, Search};

use crate::home::{Home, corpus, index, runtime};
use crate::report::{Report, Samples};
use crate::semble::{self, Semble};

/// Warm, end to end from the client's side, in milliseconds.
const BAR_MS: f64 = 5.0;
pub(crate) const QUERIES: [&str; 8] = [
    "open a connection to the engine",
    "parse the configuration file",
    "retry after a rate limit",
    "split an identifier into words",
    "write a file atomically",
    "child process killed on timeout",
    "cancel a running request",
    "format an error message",
];

#[derive(Args)]
pub struct Options {
    /// Folder to index (default: this repository).
    #[arg(long)]
    path: Option<PathBuf>,
    /// How often each query is asked.
    #[arg(long, default_value_t = 50)]
    rounds: usize,
    #[command(flatten)]
    semble: semble::Options,
}

pub fn run(options: &Options) -> Result<Report> {
    let root = corpus(options.path.as_ref())?;
    let home = Home::new()?;
    let mut report = Report::new("search");
    let (mut warm, mut grep) = (Vec::new(), Vec::new());
    let scanner = if Command::new("rg").arg("--version").output().is_ok() { "rg" } else { "grep" };
    runtime()?.block_on(async {
        let client = home.connect().await?;
        let started = Instant::now();
        let (files, chunks) = index(&client, &root).await?;
        let took = started.elapsed();
        report.note("corpus", format!("{} ({files} files, {chunks} chunks)", root.display()));
        report.rows.push(Samples::millis(&[took]).row("index from nothing", "ours", "ms"));
        let ask = |query: &str| {
            let root = root.to_string_lossy().into_owned();
            client.call(Request::Search(Search {
                root,
                query: query.into(),
                limit: 10,
                explain: false,
            }))
        };
        let started = Instant::now();
        ask(QUERIES[0]).await?;
        report.rows.push(Samples::millis(&[started.elapsed()]).row(
            "first query, worker starts",
            "ours",
            "ms",
        ));
        for round in 0..options.rounds {
            for query in QUERIES {
                let started = Instant::now();
                ask(query).await?;
                warm.push(started.elapsed());
                if round == 0 {
                    grep.push(time_scan(scanner, &root, query)?);
                }
            }
        }
        home.stop(client).await
    })?;
    let warm = Samples::millis(&warm);
    report.rows.push(warm.row("warm query", "ours", "ms"));
    report.rows.push(Samples::millis(&grep).row("scan for the same words", scanner, "ms"));
    if let Some(semble) = Semble::new(&options.semble)? {
        // The first one builds and saves its index.
        semble.ask(&root, QUERIES[0])?;
        let asks =
            QUERIES.iter().map(|query| semble.ask(&root, query)).collect::<Result<Vec<_>>>()?;
        report.rows.push(Samples::millis(&asks).row("query, a process of its own", "semble", "ms"));
    } else {
        report.note("semble", "not there: `cargo xtask bench search` brings it");
    }
    report.bar("warm query p50", warm.quantile(0.5), BAR_MS, "ms");
    Ok(report)
}

/// Scans for any word of the query, which is what a user without an index does.
fn time_scan(scanner: &str, root: &Path, query: &str) -> Result<std::time::Duration> {
    let pattern = query.replace(' ', "|");
    let mut command = Command::new(scanner);
    match scanner {
        "rg" => command.args(["-c", "-e", &pattern]),
        _ => command.args(["-rcE", "--exclude-dir=.git", "--exclude-dir=target", &pattern]),
    };
    let started = Instant::now();
    command.arg(root).stdout(Stdio::null()).status().context("failed to start the scanner")?;
    Ok(started.elapsed())
}
