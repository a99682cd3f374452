//! From nothing to the engine's first answer.
//!
//! Ours: no engine runs; a client starts one, shakes hands and gets the answer to a
//! ping. Baselines: a process that does nothing, and (where Node is there) a bare
//! `node -e 0`, which is the least an extension host pays.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use lapce_ai_ipc::wire::engine::Request;

use crate::home::{Home, runtime};
use crate::report::{Report, Samples};

/// The bar, in milliseconds.
const BAR_MS: f64 = 25.0;

#[derive(Args)]
pub struct Options {
    /// How many cold starts.
    #[arg(long, default_value_t = 50)]
    rounds: usize,
}

pub fn run(options: &Options) -> Result<Report> {
    let home = Home::new()?;
    let mut report = Report::new("coldstart");
    let (mut ours, mut empty, mut node) = (Vec::new(), Vec::new(), Vec::new());
    let has_node = Command::new("node").arg("--version").output().is_ok_and(|o| o.status.success());
    runtime()?.block_on(async {
        for _ in 0..options.rounds {
            let started = Instant::now();
            let client = home.connect().await?;
            client.call(Request::Ping).await?;
            ours.push(started.elapsed());
            home.stop(client).await?;
            empty.push(time_process(&mut Command::new("/bin/true"))?);
            if has_node {
                node.push(time_process(Command::new("node").args(["-e", "0"]))?);
            }
        }
        anyhow::Ok(())
    })?;
    let ours = Samples::millis(&ours);
    report.rows.push(ours.row("start to first answer", "ours", "ms"));
    report.rows.push(Samples::millis(&empty).row("start and end", "/bin/true", "ms"));
    if has_node {
        report.rows.push(Samples::millis(&node).row("start and end", "node -e 0", "ms"));
    }
    report.bar("cold start p50", ours.quantile(0.5), BAR_MS, "ms");
    Ok(report)
}

fn time_process(command: &mut Command) -> Result<std::time::Duration> {
    let started = Instant::now();
    let status = command.status().with_context(|| format!("failed to start {command:?}"))?;
    anyhow::ensure!(status.success(), "{command:?} ended with {status}");
    Ok(started.elapsed())
}
