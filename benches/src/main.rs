//! `lapce-ai-bench NAME [--json]`: every figure in the docs comes from here.
//!
//! Each bench prints p50 and p99 (or memory) of ours beside a baseline measured in the
//! same run, since machines differ. `cargo xtask bench NAME` builds the release
//! programs and calls this. Nothing here asserts a time: bars are reported as met or
//! missed, and only `--strict` turns a missed bar into exit code 1.

mod coldstart;
mod home;
mod memory;
mod report;
mod search;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "lapce-ai-bench", about = "Benches of Lapce AI, each beside a baseline")]
struct Args {
    #[command(subcommand)]
    bench: Bench,
    /// Print one JSON object instead of a table.
    #[arg(long, global = true)]
    json: bool,
    /// Exit with 1 when a bar is missed.
    #[arg(long, global = true)]
    strict: bool,
}

#[derive(Subcommand)]
enum Bench {
    /// From nothing to the engine's first answer, beside an empty process.
    Coldstart(coldstart::Options),
    /// RSS, PSS and private memory of all our processes, idle with an open index.
    Memory(memory::Options),
    /// Query latency through client, engine and worker, beside ripgrep on the same words.
    Search(search::Options),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let report = match &args.bench {
        Bench::Coldstart(options) => coldstart::run(options),
        Bench::Memory(options) => memory::run(options),
        Bench::Search(options) => search::run(options),
    };
    match report {
        Ok(report) => {
            report.print(args.json);
            if args.strict && report.missed() { ExitCode::from(1) } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            eprintln!("lapce-ai-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}
