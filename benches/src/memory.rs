//! Memory of all our processes together, idle with an open index.
//!
//! Ours: one engine, the index worker after a search, one language-server shim that
//! has initialised. Baseline: one idle Node process, which is the least of an
//! extension stack.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use lapce_ai_ipc::paths::find_program;
use lapce_ai_ipc::wire::engine::{ProcessRole, Request, Search};

use crate::home::{Home, corpus, index, runtime, status};
use crate::report::{Report, Samples};

/// Bars in KiB, from the mission and the process table.
const SYSTEM_PSS_KIB: f64 = 46.0 * 1000.0 * 1000.0 / 1024.0;
const ENGINE_RSS_KIB: f64 = 16.0 * 1024.0;
const WORKER_PRIVATE_KIB: f64 = 20.0 * 1024.0;
const SHIM_RSS_KIB: f64 = 4.0 * 1024.0;

#[derive(Args)]
pub struct Options {
    /// Folder to index (default: this repository).
    #[arg(long)]
    path: Option<PathBuf>,
    /// Seconds of rest before measuring.
    #[arg(long, default_value_t = 5)]
    settle: u64,
}

pub fn run(options: &Options) -> Result<Report> {
    let root = corpus(options.path.as_ref())?;
    let home = Home::new()?;
    let mut report = Report::new("memory");
    runtime()?.block_on(async {
        let client = home.connect().await?;
        let (files, chunks) = index(&client, &root).await?;
        report.note("corpus", format!("{} ({files} files, {chunks} chunks)", root.display()));
        let _shim = Shim::start(&root)?;
        for query in ["open a connection", "parse the configuration", "write a file"] {
            let root = root.to_string_lossy().into_owned();
            client
                .call(Request::Search(Search {
                    root,
                    query: query.into(),
                    limit: 10,
                    explain: false,
                }))
                .await?;
        }
        tokio::time::sleep(Duration::from_secs(options.settle)).await;
        let status = status(&client).await?;
        let me = std::process::id();
        let (mut rss, mut pss, mut private) = (0.0, 0.0, 0.0);
        for process in status.processes.iter().filter(|p| p.pid != me) {
            let memory = process.memory;
            let kib =
                [memory.rss_kib as f64, memory.pss_kib as f64, memory.private_dirty_kib as f64];
            for (what, value) in ["RSS", "PSS", "private dirty"].iter().zip(kib) {
                report.rows.push(Samples::new(vec![value]).row(
                    &format!("{} {what}", process.name),
                    "ours",
                    "KiB",
                ));
            }
            rss += kib[0];
            pss += kib[1];
            private += kib[2];
            match process.role {
                ProcessRole::Engine => report.bar("engine RSS", kib[0], ENGINE_RSS_KIB, "KiB"),
                ProcessRole::IndexWorker => {
                    report.bar("worker private", kib[2], WORKER_PRIVATE_KIB, "KiB");
                }
                ProcessRole::Client => report.bar("shim RSS", kib[0], SHIM_RSS_KIB, "KiB"),
                ProcessRole::IndexBuild | ProcessRole::Tool => {}
            }
        }
        for (what, value) in [("RSS", rss), ("PSS", pss), ("private dirty", private)] {
            report.rows.push(Samples::new(vec![value]).row(
                &format!("all of ours, {what}"),
                "ours",
                "KiB",
            ));
        }
        report.bar("whole system PSS", pss, SYSTEM_PSS_KIB, "KiB");
        home.stop(client).await
    })?;
    if let Some([rss, pss, private]) = idle_node()? {
        for (what, value) in [("RSS", rss), ("PSS", pss), ("private dirty", private)] {
            report.rows.push(Samples::new(vec![value]).row(
                &format!("idle process, {what}"),
                "node",
                "KiB",
            ));
        }
    }
    Ok(report)
}

/// A language-server shim as an editor would start it, ended on drop.
struct Shim(Child);

impl Shim {
    fn start(root: &std::path::Path) -> Result<Self> {
        let program = find_program("lapce-ai-lsp").context("lapce-ai-lsp is not built")?;
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start lapce-ai-lsp")?;
        let body = serde_json::json!({
            "jsonrpc": "2.0", "id": 1, "method": "initialize",
            "params": {"processId": std::process::id(), "rootUri": format!("file://{}", root.display()), "capabilities": {}}
        })
        .to_string();
        let stdin = child.stdin.as_mut().context("no stdin")?;
        write!(stdin, "Content-Length: {}\r\n\r\n{body}", body.len())?;
        let note = r#"{"jsonrpc":"2.0","method":"initialized","params":{}}"#;
        write!(stdin, "Content-Length: {}\r\n\r\n{note}", note.len())?;
        stdin.flush()?;
        let mut stdout = BufReader::new(child.stdout.as_mut().context("no stdout")?);
        let mut header = String::new();
        stdout.read_line(&mut header)?;
        stdout.read_exact(&mut [0; 2])?;
        anyhow::ensure!(header.starts_with("Content-Length"), "lapce-ai-lsp answered {header:?}");
        Ok(Self(child))
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn idle_node() -> Result<Option<[f64; 3]>> {
    let Ok(mut node) = Command::new("node").args(["-e", "setInterval(() => {}, 1e6)"]).spawn()
    else {
        return Ok(None);
    };
    std::thread::sleep(Duration::from_secs(1));
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", node.id()));
    let _ = node.kill();
    let _ = node.wait();
    let text = text?;
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    };
    let read = |name| field(name).with_context(|| format!("smaps_rollup has no {name}"));
    Ok(Some([read("Rss:")?, read("Pss:")?, read("Private_Dirty:")?]))
}
