//! Runs of the past, read from their event logs: `<state>/runs/<id>.jsonl`.
//!
//! The only place that reads them. Used by `handlers/runs.rs` (what is listed and shown) and
//! `handlers/run.rs` (a run that goes on with another's conversation). A log may be cut, damaged
//! or not ours at all: what is read is bounded, nothing of it is trusted, and what is missing is
//! said.

mod conversation;
mod lines;
pub mod record;
mod summary;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lapce_ai_ipc::wire::engine::{PastRun, RunInfo, RunState};
use lapce_ai_ipc::wire::{ErrorKind, WireError};

pub use conversation::Past;

use crate::agent::limits;
use crate::state::Engine;
use crate::workspace::Root;

/// What the event log of a run says of its form: with 2 it holds the conversation.
pub const LOG_VERSION: u64 = 2;

/// The logs, and which of their runs are under way.
#[derive(Debug, Clone)]
struct Logs {
    dir: PathBuf,
    active: BTreeSet<String>,
}

impl Logs {
    fn of(engine: &Engine) -> Self {
        let active = engine.runs.active().into_iter().collect();
        Self { dir: engine.paths.state.join("runs"), active }
    }

    /// Names of runs, the newest first.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| Some(e.file_name().to_str()?.strip_suffix(".jsonl")?.to_owned()))
            .filter(|name| is_name(name))
            .collect();
        names.sort_unstable_by(|a, b| b.cmp(a));
        names.truncate(2 * limits::JOURNALS);
        names
    }

    fn info(&self, run: &str) -> RunInfo {
        summary::brief(&self.dir, run, self.active.contains(run))
    }

    /// Those of `root`, or of every workspace, the newest first.
    fn list(&self, root: &str) -> Vec<RunInfo> {
        let all = self.names().into_iter().map(|name| self.info(&name));
        let mut all: Vec<_> = all.filter(|info| root.is_empty() || info.root == root).collect();
        // Names tell the second only.
        all.sort_by_key(|info| std::cmp::Reverse(info.started_ms));
        all
    }

    /// The run that `name` means: its whole name or a beginning or end of it.
    fn find(&self, name: &str) -> Result<String, WireError> {
        let names = self.names();
        if names.iter().any(|known| known == name) {
            return Ok(name.to_owned());
        }
        let mut fits = names
            .iter()
            .filter(|known| !name.is_empty() && (known.starts_with(name) || known.ends_with(name)));
        match (fits.next(), fits.next()) {
            (Some(one), None) => Ok(one.clone()),
            (Some(_), Some(_)) => {
                let what = format!("{name:?} is a part of the names of several runs");
                Err(WireError::new(ErrorKind::Invalid, what).hint("give more of the name"))
            }
            (None, _) => {
                let what = format!("no run called {name:?} is on record");
                Err(WireError::new(ErrorKind::NotFound, what).hint(LIST_HINT))
            }
        }
    }

    fn show(&self, name: &str) -> Result<PastRun, WireError> {
        let run = self.find(name)?;
        let mut shown = summary::whole(&self.dir, &run, self.active.contains(&run));
        let mut earlier = shown.info.continues.clone();
        while !earlier.is_empty() && shown.chain.len() < limits::CHAIN {
            // A damaged log could lead in a circle.
            if earlier == run || shown.chain.iter().any(|known| known.run == earlier) {
                break;
            }
            if !is_name(&earlier) {
                break;
            }
            let info = self.info(&earlier);
            earlier.clone_from(&info.continues);
            shown.chain.push(info);
        }
        let later = self.list(&shown.info.root).into_iter().filter(|info| info.continues == run);
        shown.continued_by = later.map(|info| info.run).collect();
        Ok(shown)
    }

    /// The conversation of a run of `root`: of the one called `name`, or of the newest.
    fn conversation(&self, root: &Root, name: &str) -> Result<Past, WireError> {
        let info = if name.is_empty() {
            let newest = self.list(root.as_str()).into_iter().next();
            newest.ok_or_else(|| {
                let what = format!("no run of {root} is on record");
                WireError::new(ErrorKind::NotFound, what)
                    .hint("start one without --continue; `lapce-ai runs list --all` lists others")
            })?
        } else {
            self.info(&self.find(name)?)
        };
        let run = &info.run;
        if info.state == RunState::Running {
            let what = format!("run {run} is still under way");
            return Err(WireError::new(ErrorKind::Conflict, what)
                .hint("wait for its end or cancel it, then continue it"));
        }
        if !info.refused.is_empty() {
            let what = format!("run {run} cannot be continued: {}", info.refused);
            return Err(WireError::new(ErrorKind::Invalid, what).hint(LIST_HINT));
        }
        if info.root != root.as_str() {
            let what = format!("run {run} is of another workspace, {}", info.root);
            let there = format!("`lapce-ai run --root {} --continue={run} …`", info.root);
            return Err(WireError::new(ErrorKind::Invalid, what)
                .hint(format!("continue it there: {there}")));
        }
        conversation::read(&self.dir, info)
    }
}

const LIST_HINT: &str = "`lapce-ai runs list` shows what is on record";

/// Whether a text can be the name of a run; anything else is not looked for on disk.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= limits::RUN_NAME_BYTES
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Reading is many files' worth of work: off the engine's own thread.
async fn apart<T: Send + 'static>(
    engine: &Engine,
    work: impl FnOnce(Logs) -> T + Send + 'static,
) -> Result<T, WireError> {
    let logs = Logs::of(engine);
    tokio::task::spawn_blocking(move || work(logs)).await.map_err(|error| {
        WireError::new(ErrorKind::Internal, format!("reading the logs of runs failed: {error}"))
    })
}

/// The runs of `root`, or all, the newest first.
pub async fn list(engine: &Arc<Engine>, root: String) -> Result<Vec<RunInfo>, WireError> {
    apart(engine, move |logs| logs.list(&root)).await
}

/// One run, as far as its log tells.
pub async fn show(engine: &Arc<Engine>, name: String) -> Result<PastRun, WireError> {
    apart(engine, move |logs| logs.show(&name)).await?
}

/// The conversation to go on with.
pub async fn conversation(
    engine: &Arc<Engine>,
    root: &Root,
    name: &str,
) -> Result<Past, WireError> {
    let (root, name) = (root.clone(), name.trim().to_owned());
    apart(engine, move |logs| logs.conversation(&root, &name)).await?
}

/// The first line of a text, short.
fn first_line(text: &str) -> String {
    lapce_ai_tools::call::one_line(text.trim().lines().next().unwrap_or_default(), 200)
}

/// Where the transcript of a run lies, if it does.
fn transcript(root: &str, run: &str) -> String {
    let path = Path::new(root).join(".lapce/ai/runs").join(format!("{run}.md"));
    let there = !root.is_empty() && path.symlink_metadata().is_ok_and(|meta| meta.is_file());
    if there { path.display().to_string() } else { String::new() }
}

#[cfg(test)]
mod tests;
