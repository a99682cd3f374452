//! The tool system: dispatch, what the sandbox costs over a plain process and beside
//! bubblewrap and the Codex helper (where `LAPCE_AI_BENCH_CODEX` names it), searching beside ripgrep, memory, and growth over many calls.
//!
//! Drives the launcher as the engine does, in this process, without an engine.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use lapce_ai_ipc::paths::find_program;
use lapce_ai_tools::call::ToolCall;
use lapce_ai_tools::host::{Invocation, Outcome, ToolHost};
use lapce_ai_tools::sandbox::layer;
use lapce_ai_tools::workspace::Workspace;
use serde_json::{Value, json};

use crate::home::runtime;
use crate::report::{Report, Samples};

const DISPATCH_MS: f64 = 10.0;
const OVERHEAD_MS: f64 = 10.0;
const DEGRADED_MS: f64 = 4.0;
const HELPER_KIB: f64 = 3.0 * 1024.0;
/// The tool system's own memory in the process that hosts it.
const HOST_KIB: f64 = 3.0 * 1024.0;
/// Calls at once, as many as the host lets run.
const AT_ONCE: usize = 64;
const BIG_FILE_KIB: f64 = 8.0 * 1024.0;
const SEARCH_TIMES: f64 = 1.2;
/// What this process may grow by over all calls.
const GROWTH_KIB: f64 = 1024.0;

const NAMESPACES: [&str; 7] =
    [layer::USER, layer::MOUNT, layer::PID, layer::NET, layer::IPC, layer::UTS, layer::CGROUP_NS];

#[derive(Args)]
pub struct Options {
    /// Repetitions of each timed case.
    #[arg(long, default_value_t = 200)]
    rounds: usize,
    /// Mixed calls of the growth case.
    #[arg(long, default_value_t = 10_000)]
    calls: usize,
    /// Files of the search case.
    #[arg(long, default_value_t = 10_000)]
    files: usize,
    /// Bytes of the file that is too large to load.
    #[arg(long, default_value_t = 1 << 30)]
    big: u64,
}

pub fn run(options: &Options) -> Result<Report> {
    let runtime = runtime()?;
    let before = own_private_kib();
    let helper = find_program("lapce-ai-tool").context("lapce-ai-tool was not found")?;
    let dir = tempfile::Builder::new().prefix("lapce-ai-bench-").tempdir()?;
    let root = dir.path().join("workspace");
    fs::create_dir(&root)?;
    let bench = Bench { host: ToolHost::new(helper), workspace: Workspace::new(&root)? };
    let mut report = Report::new("tools");
    runtime.block_on(async {
        bench.dispatch(options, &mut report).await?;
        bench.overhead(options, &mut report).await?;
        bench.helper_memory(&mut report).await?;
        bench.big_file(options, &mut report).await?;
        bench.many_at_once(&mut report).await?;
        bench.growth(options, &mut report).await?;
        // After all these calls, and with what this harness keeps of them.
        let own = own_private_kib().saturating_sub(before) as f64;
        report.rows.push(Samples::new(vec![own]).row("tool system in its host", "ours", "KiB"));
        report.bar("tool system in its host, private", own, HOST_KIB, "KiB");
        bench.search(options, &mut report).await?;
        bench.large_workspace(options, dir.path(), &mut report).await
    })?;
    Ok(report)
}

struct Bench {
    host: ToolHost,
    workspace: Workspace,
}

impl Bench {
    fn invocation(&self, tool: &str, params: &Value) -> Invocation {
        let mut call = ToolCall::new("bench", tool);
        call.params = params.as_object().cloned().unwrap_or_default();
        Invocation::new(call, self.workspace.clone())
    }

    async fn call(&self, tool: &str, params: &Value) -> Result<Outcome> {
        let outcome = self.host.run(self.invocation(tool, params)).await;
        if outcome.ok { Ok(outcome) } else { bail!("{tool} failed: {}", outcome.envelope) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.workspace.root().join(name)
    }

    async fn dispatch(&self, options: &Options, report: &mut Report) -> Result<()> {
        fs::write(self.path("small.txt"), "one\ntwo\nthree\n")?;
        for (tool, params) in [
            ("read_file", json!({"path": "small.txt"})),
            ("write_to_file", json!({"path": "written.txt", "content": "x\n"})),
        ] {
            let mut times = Vec::new();
            for _ in 0..options.rounds {
                let started = Instant::now();
                let outcome = self.call(tool, &params).await?;
                times.push(started.elapsed());
                report.note("layers", outcome.layers.join(" "));
            }
            let times = Samples::millis(&times);
            report.rows.push(times.row(&format!("{tool}, end to end"), "ours", "ms"));
            report.bar(&format!("{tool} p50"), times.quantile(0.5), DISPATCH_MS, "ms");
        }
        Ok(())
    }

    /// `/bin/true` by a shell: plain, in our sandbox, in part of it, and in bubblewrap. The
    /// variants take turns, so that a change of the machine's speed meets all of them.
    async fn overhead(&self, options: &Options, report: &mut Report) -> Result<()> {
        let degraded = NAMESPACES
            .iter()
            .fold(self.workspace.clone(), |workspace, name| workspace.without_layer(name));
        let bwrap = find_on_path("bwrap");
        let codex = std::env::var_os("LAPCE_AI_BENCH_CODEX").map(PathBuf::from);
        let params = json!({"command": "/bin/true"});
        let (mut plain, mut ours, mut part, mut theirs) = (vec![], vec![], vec![], vec![]);
        let mut codexes = vec![];
        for _ in 0..options.rounds {
            plain.push(time(Command::new("/bin/bash").args(["-c", "/bin/true"]))?);
            let started = Instant::now();
            self.call("execute_command", &params).await?;
            ours.push(started.elapsed());
            let mut invocation = self.invocation("execute_command", &params);
            invocation.workspace = degraded.clone();
            let started = Instant::now();
            let outcome = self.host.run(invocation).await;
            part.push(started.elapsed());
            if !outcome.ok {
                bail!("the degraded call failed: {}", outcome.envelope);
            }
            if let Some(bwrap) = &bwrap {
                let mut command = Command::new(bwrap);
                command.args(["--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin"]);
                command.args(["--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"]);
                command.args([
                    "--proc",
                    "/proc",
                    "--dev",
                    "/dev",
                    "--tmpfs",
                    "/tmp",
                    "--unshare-all",
                ]);
                command.args(["--die-with-parent", "/bin/bash", "-c", "/bin/true"]);
                theirs.push(time(&mut command)?);
            }
            if let Some(codex) = &codex {
                let mut command = Command::new(codex);
                command.args(["sandbox", "--", "/bin/bash", "-c", "/bin/true"]);
                command.current_dir(self.workspace.root());
                codexes.push(time(&mut command)?);
            }
        }
        let plain = Samples::millis(&plain);
        let (ours, part) = (Samples::millis(&ours), Samples::millis(&part));
        let case = "bash -c /bin/true";
        report.rows.push(plain.row(case, "plain process", "ms"));
        report.rows.push(ours.row(case, "ours, all layers", "ms"));
        report.rows.push(part.row(case, "ours, no namespaces", "ms"));
        if theirs.is_empty() {
            report.note("bubblewrap", "not installed");
        } else {
            report.rows.push(Samples::millis(&theirs).row(case, "bubblewrap", "ms"));
        }
        if codexes.is_empty() {
            report.note("codex sandbox", "not given in LAPCE_AI_BENCH_CODEX");
        } else {
            report.rows.push(Samples::millis(&codexes).row(case, "codex sandbox", "ms"));
        }
        let over = |samples: &Samples| samples.quantile(0.5) - plain.quantile(0.5);
        report.bar("all layers over a plain process, p50", over(&ours), OVERHEAD_MS, "ms");
        report.bar("no namespaces over a plain process, p50", over(&part), DEGRADED_MS, "ms");
        Ok(())
    }

    /// Private memory of a helper (supervisor and watcher) while a command runs.
    async fn helper_memory(&self, report: &mut Report) -> Result<()> {
        let invocation = self.invocation("execute_command", &json!({"command": "sleep 0.5"}));
        let mut most = 0.0f64;
        let run = self.host.run(invocation);
        tokio::pin!(run);
        loop {
            tokio::select! {
                _ = &mut run => break,
                () = tokio::time::sleep(Duration::from_millis(50)) => {
                    most = most.max(self.helpers(|pid| smaps_kib(pid, &["Private_Dirty:"])));
                }
            }
        }
        report.rows.push(Samples::new(vec![most]).row("helper private dirty", "ours", "KiB"));
        report.bar("helper private dirty", most, HELPER_KIB, "KiB");
        Ok(())
    }

    /// Memory in KiB, by `of`, of every live helper and the helper's own processes below it.
    fn helpers(&self, of: fn(u32) -> u64) -> f64 {
        let ours = |pid: u32| {
            fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.trim() == "lapce-ai-tool")
        };
        let mut total = 0;
        for pid in self.host.pids() {
            let children = format!("/proc/{pid}/task/{pid}/children");
            let children = fs::read_to_string(children).unwrap_or_default();
            let children = children.split_whitespace().filter_map(|c| c.parse().ok());
            total += children.filter(|c| ours(*c)).chain([pid]).map(of).sum::<u64>();
        }
        total as f64
    }

    /// Reading a part of a file that is too large to load.
    async fn big_file(&self, options: &Options, report: &mut Report) -> Result<()> {
        let path = self.path("big.txt");
        let mut file = std::io::BufWriter::new(fs::File::create(&path)?);
        let line = "the quick brown fox jumps over the lazy dog, again and again and again\n";
        let mut left = options.big;
        while left > 0 {
            file.write_all(line.as_bytes())?;
            left = left.saturating_sub(line.len() as u64);
        }
        // On disk, so that its pages in the cache are nobody's dirty memory.
        file.into_inner()?.sync_all()?;
        let params = json!({"path": "big.txt", "start_line": 1_000_000, "end_line": 1_000_010});
        let started = Instant::now();
        let mut most = 0.0f64;
        let run = self.host.run(self.invocation("read_file", &params));
        tokio::pin!(run);
        let outcome = loop {
            tokio::select! {
                outcome = &mut run => break outcome,
                () = tokio::time::sleep(Duration::from_millis(5)) => {
                    most = most.max(self.helpers(resident_kib));
                }
            }
        };
        fs::remove_file(&path)?;
        if !outcome.ok {
            bail!("reading the large file failed: {}", outcome.envelope);
        }
        let case = format!("read_file of {} MiB", options.big >> 20);
        report.rows.push(Samples::millis(&[started.elapsed()]).row(&case, "ours", "ms"));
        report.rows.push(Samples::new(vec![most]).row(&case, "ours", "KiB"));
        report.bar(&format!("{case}, resident"), most, BIG_FILE_KIB, "KiB");
        Ok(())
    }

    /// As many calls at once as the host lets run: all end well, and the helpers stay small.
    async fn many_at_once(&self, report: &mut Report) -> Result<()> {
        for (tool, params) in [
            ("read_file", json!({"path": "small.txt"})),
            ("execute_command", json!({"command": "sleep 0.3"})),
        ] {
            let started = Instant::now();
            let calls = (0..AT_ONCE).map(|_| self.call(tool, &params));
            let all = futures::future::join_all(calls);
            tokio::pin!(all);
            let mut most = 0.0f64;
            let outcomes = loop {
                tokio::select! {
                    outcomes = &mut all => break outcomes,
                    () = tokio::time::sleep(Duration::from_millis(100)) => {
                        most = most.max(self.helpers(|pid| smaps_kib(pid, &["Private_Dirty:"])));
                    }
                }
            };
            let took = started.elapsed();
            for outcome in outcomes {
                outcome?;
            }
            let case = format!("{AT_ONCE} × {tool} at once");
            report.rows.push(Samples::millis(&[took]).row(&case, "ours", "ms"));
            if tool == "execute_command" {
                report.rows.push(Samples::new(vec![most]).row(&case, "ours", "KiB"));
                let each = most / AT_ONCE as f64;
                report.bar(&format!("{case}, private each"), each, HELPER_KIB, "KiB");
            }
        }
        Ok(())
    }

    /// Memory, descriptors and processes of this process before and after many calls.
    async fn growth(&self, options: &Options, report: &mut Report) -> Result<()> {
        let calls = [
            ("read_file", json!({"path": "small.txt"})),
            ("list_files", json!({"path": "."})),
            ("search_files", json!({"path": ".", "regex": "two"})),
            ("write_to_file", json!({"path": "written.txt", "content": "y\n"})),
            ("execute_command", json!({"command": "true"})),
        ];
        // Pools and caches fill up first.
        for (tool, params) in calls.iter().cycle().take(options.calls.min(200)) {
            self.call(tool, params).await?;
        }
        let before = own_state();
        let started = Instant::now();
        for (tool, params) in calls.iter().cycle().take(options.calls) {
            self.call(tool, params).await?;
        }
        let after = own_state();
        report.note("growth calls", options.calls.to_string());
        let each = started.elapsed() / options.calls.max(1) as u32;
        report.rows.push(Samples::millis(&[each]).row("mixed calls, mean", "ours", "ms"));
        let grown = |f: fn(&State) -> u64| f(&after) as f64 - f(&before) as f64;
        report.bar("growth of RSS", grown(|s| s.rss_kib), GROWTH_KIB, "KiB");
        report.bar("growth of descriptors", grown(|s| s.descriptors), 0.0, "");
        report.bar("growth of child processes", grown(|s| s.children), 0.0, "");
        Ok(())
    }

    /// A tree of small files, searched by us (end to end, sandbox included) and by ripgrep.
    async fn search(&self, options: &Options, report: &mut Report) -> Result<()> {
        for i in 0..options.files {
            let folder = self.path(&format!("tree/d{}/e{}", i % 50, i % 7));
            fs::create_dir_all(&folder)?;
            let body = format!("fn item_{i}() -> usize {{\n    {i} * 2\n}}\n").repeat(20);
            let needle = if i % 100 == 0 { "// the needle in the hay\n" } else { "" };
            fs::write(folder.join(format!("f{i}.rs")), body + needle)?;
        }
        let Some(rg) = find_on_path("rg") else {
            report.note("ripgrep", "not installed");
            return Ok(());
        };
        let params = json!({"path": "tree", "regex": "needle in the \\w+"});
        let (mut ours, mut theirs) = (vec![], vec![]);
        for _ in 0..options.rounds.clamp(1, 30) {
            let started = Instant::now();
            let outcome = self.call("search_files", &params).await?;
            ours.push(started.elapsed());
            let hits = options.files.div_ceil(100);
            let found = if hits == 1 { "1 result.".into() } else { format!("{hits} results.") };
            if !outcome.envelope.contains(&format!("Found {found}")) {
                bail!("search_files found something else than {hits} hits");
            }
            let mut command = Command::new(&rg);
            command.args(["-n", "-C1", "needle in the \\w+"]).arg(self.path("tree"));
            theirs.push(time(&mut command)?);
        }
        let (ours, theirs) = (Samples::millis(&ours), Samples::millis(&theirs));
        let case = format!("search of {} files", options.files);
        report.rows.push(ours.row(&case, "ours", "ms"));
        report.rows.push(theirs.row(&case, "ripgrep", "ms"));
        let times = ours.quantile(0.5) / theirs.quantile(0.5);
        report.bar("search over ripgrep, p50", times, SEARCH_TIMES, "times");
        Ok(())
    }

    /// Commands in that tree: each looks for what must be hidden from it first, and one that
    /// may change files runs between two looks at all of them, for undo.
    async fn large_workspace(
        &self,
        options: &Options,
        dir: &Path,
        report: &mut Report,
    ) -> Result<()> {
        let undoing = Self {
            host: self.host.clone().with_state(dir.join("state")),
            workspace: self.workspace.clone(),
        };
        let (mut plain, mut looking, mut changing) = (vec![], vec![], vec![]);
        for _ in 0..options.rounds.clamp(1, 30) {
            let line = ["-c", "touch mark"];
            plain.push(time(Command::new("/bin/bash").args(line).current_dir(self.path("")))?);
            let started = Instant::now();
            undoing.call("execute_command", &json!({"command": "true"})).await?;
            looking.push(started.elapsed());
            let started = Instant::now();
            undoing.call("execute_command", &json!({"command": "touch mark"})).await?;
            changing.push(started.elapsed());
        }
        let case = format!("a command among {} files", options.files);
        for (times, whose) in [
            (plain, "plain process"),
            (looking, "ours, one that only looks"),
            (changing, "ours, one that can be undone"),
        ] {
            report.rows.push(Samples::millis(&times).row(&case, whose, "ms"));
        }
        Ok(())
    }
}

fn own_private_kib() -> u64 {
    smaps_kib(std::process::id(), &["Private_Dirty:", "Private_Clean:"])
}

struct State {
    rss_kib: u64,
    descriptors: u64,
    children: u64,
}

fn own_state() -> State {
    let me = std::process::id();
    let children = fs::read_to_string(format!("/proc/{me}/task/{me}/children"));
    State {
        rss_kib: smaps_kib(me, &["Rss:"]),
        descriptors: fs::read_dir("/proc/self/fd").map_or(0, |d| d.count() as u64),
        children: children.map_or(0, |c| c.split_whitespace().count() as u64),
    }
}

/// The kernel's own counter: a walk over a mapping that moves along with its reader would
/// count pages that are never there together.
fn resident_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 4
}

fn smaps_kib(pid: u32, fields: &[&str]) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let value = |line: &str| line.split_whitespace().nth(1)?.parse::<u64>().ok();
    text.lines().filter(|l| fields.iter().any(|f| l.starts_with(f))).filter_map(value).sum()
}

fn time(command: &mut Command) -> Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let started = Instant::now();
    let status = command.status().context("failed to start a baseline")?;
    let took = started.elapsed();
    if status.success() { Ok(took) } else { bail!("{command:?} ended with {status}") }
}

fn find_on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| Path::is_file(file))
}
