//! `cargo xtask bench NAME`: release programs first, then the harness.

use std::process::Command;

use anyhow::Result;

use crate::build::{self, Profile};
use crate::codex;
use crate::ctx::{Ctx, run};
use crate::semble::{self, Semble};

/// Benches that need no index worker, so that nobody waits for LanceDB in vain.
const WITHOUT_INDEX: [&str; 3] = ["ipc", "tools", "coldstart"];

/// Benches with `semble` as a peer.
const WITH_SEMBLE: [&str; 2] = ["index", "search"];

pub fn list(ctx: &Ctx) -> Result<()> {
    harness(ctx, "")?;
    run(Command::new(ctx.target.join("release/lapce-ai-bench")).arg("--help"))
}

pub fn run_bench(ctx: &Ctx, args: &[String]) -> Result<()> {
    harness(ctx, args.first().map_or("", String::as_str))?;
    let bin = if args.first().is_some_and(|name| WITHOUT_INDEX.contains(&name.as_str())) {
        build::small(ctx, Profile::Release)?;
        ctx.target.join("release")
    } else {
        build::programs(ctx, Profile::Release)?
    };
    let mut bench = Command::new(ctx.target.join("release/lapce-ai-bench"));
    bench.args(args).current_dir(&ctx.root).env("LAPCE_AI_BIN_DIR", bin);
    let name = args.first().map_or("", String::as_str);
    if name == "tools" {
        match codex::fetch(ctx) {
            Ok((program, home)) => {
                bench.env("LAPCE_AI_BENCH_CODEX", program).env("CODEX_HOME", home);
            }
            Err(why) => eprintln!("xtask: without the Codex helper: {why:#}"),
        }
    }
    if WITH_SEMBLE.contains(&name) && !args.iter().any(|a| a == "--semble" || a == "--help") {
        match semble::fetch(ctx) {
            Ok(Semble { python, model }) => {
                bench.arg("--semble").arg(python).arg("--semble-model").arg(model);
            }
            Err(why) => eprintln!("xtask: without semble: {why:#}"),
        }
    }
    run(&mut bench)
}

fn harness(ctx: &Ctx, bench: &str) -> Result<()> {
    let mut cargo = ctx.cargo()?;
    cargo.args(["build", "--release", "--quiet", "-p", "lapce-ai-benches"]);
    if bench == "ipc" {
        // A large dependency that only this baseline needs.
        cargo.args(["--features", "iceoryx2"]);
    }
    run(&mut cargo)
}
