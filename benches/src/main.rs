//! `lapce-ai-bench NAME [--json]`: every figure in the docs comes from here.
//!
//! Each bench prints p50 and p99 (or memory) of ours beside a baseline measured in the
//! same run, since machines differ. `cargo xtask bench NAME` builds the release
//! programs and calls this. Nothing here asserts a time: bars are reported as met or
//! missed, and only `--strict` turns a missed bar into exit code 1.

mod coldstart;
mod generate;
mod home;
mod index;
mod ipc_bench;
mod memory;
mod report;
mod scale;
mod search;
mod semble;
mod tools;

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
    /// The ring beside other mechanisms: round trips, rate, idle CPU, whole calls.
    Ipc(ipc_bench::Options),
    /// The other process of `ipc`.
    #[command(hide = true)]
    IpcPeer(ipc_bench::PeerOptions),
    /// Index from nothing, one saved file, a branch switch, beside `semble`.
    Index(index::Options),
    /// Query latency through client, engine and worker, beside ripgrep on the same words.
    Search(search::Options),
    /// A generated repository of many files: cost of a file, memory, queries, one-file updates.
    IndexScale(scale::Options),
    /// Tool calls: dispatch, the sandbox beside a plain process and bubblewrap, memory, growth.
    Tools(tools::Options),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let report = match &args.bench {
        Bench::Coldstart(options) => coldstart::run(options),
        Bench::Memory(options) => memory::run(options),
        Bench::Index(options) => index::run(options),
        Bench::Search(options) => search::run(options),
        Bench::IndexScale(options) => scale::run(options),
        Bench::Tools(options) => tools::run(options),
        Bench::Ipc(options) => ipc_bench::run(options),
        Bench::IpcPeer(options) => return ipc_bench::peer(options),
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
