//! What every handler is given: the engine's parts, each built on first use.
//!
//! Built once by [`crate::lifecycle`] and shared as `Arc<Engine>`. Nothing here may read a
//! file, start a process or open a network client before a request needs it: the socket
//! answers within milliseconds of the program's start because of that.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lapce_ai_ipc::Connections;
use lapce_ai_ipc::paths::{self, Paths};
use lapce_ai_ipc::wire::engine::Hit;
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_tools::closed::Closed;
use lapce_ai_tools::host::ToolHost;
use lapce_ai_tools::policy::{self, Policy};
use lapce_ai_tools::workspace::Workspace;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::approvals::Approvals;
use crate::buffers::Buffers;
use crate::config::ConfigStore;
use crate::handlers::complete::Newest;
use crate::index_client::{Embedding, IndexClient};
use crate::limits;
use crate::mcp::Mcp;
use crate::metrics::Metrics;
use crate::provider::Providers;
use crate::runs::Runs;
use crate::workspace::Root;

/// The program that runs one tool call in the sandbox.
pub const TOOL_PROGRAM: &str = "lapce-ai-tool";
/// The program that knows the grammars.
const INDEX_PROGRAM: &str = "lapce-ai-index";

/// The engine as a handler sees it.
pub struct Engine {
    pub paths: Paths,
    /// The user's `config.toml`, read on first use.
    pub config: Arc<ConfigStore>,
    /// Model providers: HTTP clients and keys, built on first use.
    pub providers: Arc<Providers>,
    /// The newest ghost text request of each document.
    pub completions: Newest,
    /// Searches, builds, and the processes behind them.
    pub index: IndexClient,
    /// Questions waiting for a user's answer.
    pub approvals: Approvals,
    /// Unsaved texts of the user's editors.
    pub buffers: Buffers,
    /// Asks and agent runs in progress.
    pub runs: Runs,
    pub stats: Stats,
    pub connections: Connections,
    /// Told whenever something ends that kept the engine busy.
    pub activity: Arc<Notify>,
    /// Where this engine's log goes.
    pub log_file: PathBuf,
    /// Cancelled when the engine is to end; long work must watch it.
    pub shutdown: CancellationToken,
    /// How each tool has done.
    pub metrics: Metrics,
    /// The user's MCP servers, each started on first use.
    pub mcp: Mcp,
    tools: OnceLock<ToolHost>,
}

impl Engine {
    pub fn new(paths: Paths, options: &Options, log_file: PathBuf) -> Self {
        let shutdown = CancellationToken::new();
        let activity = Arc::new(Notify::new());
        let config = Arc::new(ConfigStore::new(paths.config_file()));
        let providers: Arc<Providers> = Arc::default();
        Self {
            completions: Newest::default(),
            index: IndexClient::new(
                paths.index_root(),
                options.worker_idle,
                activity.clone(),
                Embedding::source(config.clone(), providers.clone()),
            ),
            config,
            providers,
            approvals: Approvals::default(),
            buffers: Buffers::default(),
            runs: Runs::new(shutdown.clone(), activity.clone()),
            stats: Stats::new(),
            connections: Connections::new(limits::CONNECTIONS),
            activity,
            log_file,
            shutdown,
            metrics: Metrics::default(),
            mcp: Mcp::new(paths.data.join("mcp")),
            tools: OnceLock::new(),
            paths,
        }
    }

    /// The launcher of sandboxed tools; an error when its helper program is missing.
    pub fn tools(&self) -> Result<&ToolHost, WireError> {
        if let Some(host) = self.tools.get() {
            return Ok(host);
        }
        let helper = paths::find_program(TOOL_PROGRAM).ok_or_else(|| missing(TOOL_PROGRAM))?;
        let state = self.paths.state.join("tools");
        Ok(self.tools.get_or_init(|| {
            // Without it one tool says that it is missing.
            let outliner = paths::find_program(INDEX_PROGRAM);
            ToolHost::new(helper).with_outliner(outliner).with_state(state)
        }))
    }

    /// A folder for tools to work in, fenced as the user's own settings say.
    pub fn workspace(&self, root: &Root) -> Result<Workspace, WireError> {
        let workspace = Workspace::new(root.path()).map_err(|error| {
            WireError::new(ErrorKind::Denied, format!("{root} cannot be a workspace: {error}"))
        })?;
        let config = self.config.get()?;
        let sandbox = &config.sandbox;
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let readable = sandbox.readable(home.as_deref()).map_err(|problem| {
            WireError::new(ErrorKind::Invalid, problem)
                .hint(format!("correct {}", self.config.file().display()))
        })?;
        let closed = self.policy()?.in_mode("").closed(None, root.path());
        let workspace = workspace.closed(closed);
        let mut workspace = workspace.show(sandbox.show.iter().cloned()).readable(readable);
        if sandbox.ignored == crate::config::Ignored::Hidden {
            workspace = workspace.hide_ignored();
        }
        workspace = sandbox.unprotect.iter().fold(workspace, |w, path| w.unprotect(path));
        workspace = sandbox.off.iter().fold(workspace, |w, layer| w.without_layer(layer));
        for name in &sandbox.env {
            if let Ok(value) = std::env::var(name) {
                workspace = workspace.env(name, &value);
            }
        }
        Ok(match &sandbox.browser {
            Some(program) => workspace.browser(program.clone()),
            None => workspace,
        })
    }

    /// The user's rules about tool calls, as they are now. A file that cannot be understood
    /// denies everything: the rule that is lost might be the one that matters.
    pub fn policy(&self) -> Result<Policy, WireError> {
        let load = |file: PathBuf| {
            policy::file::load(&file).map_err(|problem| {
                WireError::new(ErrorKind::Invalid, problem)
                    .hint("correct the file; `lapce-ai rules list` checks it")
            })
        };
        let mut policy = load(self.paths.rules_file())?;
        let kept = load(self.paths.remembered_file())?;
        // Whoever wrote that file: a remembered answer fits one call, and allows.
        let fits = |r: &policy::Rule| r.exact && r.effect == policy::Effect::Allow;
        policy.rules.extend(kept.rules.into_iter().filter(fits));
        Ok(policy)
    }

    /// What the user's rules close in a workspace whatever the mode: for what outlives modes, or
    /// knows none.
    pub fn closed(&self, root: &Root) -> Result<Closed, WireError> {
        Ok(self.policy()?.closed(None, root.path()))
    }

    /// Passages of a search without those that the user's rules close to readers: for prompts.
    pub fn open_hits(&self, root: &Root, hits: Vec<Hit>) -> Result<Vec<Hit>, WireError> {
        let closed = self.policy()?.in_mode("").closed(None, root.path()).to_readers();
        Ok(hits.into_iter().filter(|h| closed.rule_for(Path::new(&h.path)).is_none()).collect())
    }

    /// What all indexes together may take on disk, and which are shared. A broken
    /// configuration is no reason not to search: it is `status` that speaks of it.
    pub fn index_settings(&self) -> crate::config::Index {
        self.config.get().map(|config| config.index.clone()).unwrap_or_default()
    }

    /// Process ids of the live tool helpers.
    pub fn tool_pids(&self) -> Vec<u32> {
        self.tools.get().map(ToolHost::pids).unwrap_or_default()
    }
}

/// The error for one of our programs that is not where it should be.
pub fn missing(program: &str) -> WireError {
    WireError::new(ErrorKind::Unavailable, format!("the program {program} was not found"))
        .hint(format!("install {program} beside lapce-ai-engine, or run `lapce-ai doctor`"))
}

/// What the command line may change.
#[derive(Debug, Clone)]
pub struct Options {
    pub idle_exit: Duration,
    pub worker_idle: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { idle_exit: limits::IDLE_EXIT, worker_idle: limits::WORKER_IDLE }
    }
}

/// Counters of this engine's life.
pub struct Stats {
    started: Instant,
    pub started_at_ms: u64,
    requests: AtomicU64,
}

impl Stats {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            started: Instant::now(),
            started_at_ms: u64::try_from(now.as_millis()).unwrap_or(0),
            requests: AtomicU64::new(0),
        }
    }

    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counts one request and returns its number: the `call` of every log line about it.
    pub fn next_call(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}
