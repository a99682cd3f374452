//! Starts one `lapce-ai-tool` per call and gathers its result. Used by the engine.
//!
//! A helper gets an empty environment, three descriptors (request, result, nothing) and
//! a death signal tied to this thread. Dropping the future of [`ToolHost::run`] ends the
//! helper and everything it started.

mod background;
mod browser;
mod exchange;
mod ledger;
mod notes;
mod outcome;
mod process;
mod sealed;
mod undo;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::artefact::Artefacts;
use crate::call::ToolCall;
use crate::cgroup::Cgroups;
use crate::closed::Closed;
use crate::envelope;
use crate::exec;
use crate::limits::{COMMAND_MAX_TIMEOUT_S, COMMAND_SHOWN_BYTES, Limits, MAX_LIVE_CALLS};
use crate::policy::commands::only_looks;
use crate::protocol::{Report, Request, SandboxSpec, State};
use crate::proxy::{Dialer, Gate, Refused, SystemDialer};
use crate::sandbox::LayerStatus;
use crate::sandbox::network::Network;
use crate::spec::{self, Runs};
use crate::terminal;
use crate::workspace::Workspace;
use background::Job;

pub(crate) use exchange::frame;
pub use ledger::Ledger;
pub use outcome::Outcome;
pub(crate) use process::{Scratch, kill_group, scratch, send, spawn};
pub(crate) use sealed::{Seal, Sealed};
pub use undo::Undone;

/// One call to run.
#[derive(Debug)]
pub struct Invocation {
    pub call: ToolCall,
    pub workspace: Workspace,
    /// `None` takes the tool's own.
    pub limits: Option<Limits>,
    pub cancel: CancellationToken,
    /// Live output of commands; chunks are dropped while the receiver is full.
    pub on_output: Option<mpsc::Sender<String>>,
    /// Files the run has read, see [`Ledger`]; share one per run.
    pub ledger: Ledger,
    /// Unsaved text of the user's editor, by workspace-relative path.
    pub buffers: BTreeMap<String, String>,
    /// Bytes for the tool to write, for those whose work the engine does.
    pub payload: Option<Vec<u8>>,
    /// Whether whoever reads the result takes pictures.
    pub pictures: bool,
    /// What the user's rules let this call reach; what the approved call itself names is
    /// added to it.
    pub network: Network,
    /// Set for a command in the background: where its output goes.
    job: Option<Arc<Job>>,
}

impl Invocation {
    pub fn new(call: ToolCall, workspace: Workspace) -> Self {
        Self {
            call,
            workspace,
            limits: None,
            cancel: CancellationToken::new(),
            on_output: None,
            ledger: Ledger::default(),
            buffers: BTreeMap::new(),
            payload: None,
            pictures: false,
            network: Network::default(),
            job: None,
        }
    }
}

/// Starts helpers; one per engine, its clones share one set of slots.
#[derive(Debug, Clone)]
pub struct ToolHost {
    helper: PathBuf,
    /// The program that knows the grammars.
    outliner: Option<PathBuf>,
    /// The user's state folder for tools: undo journals and kept outputs.
    state: Option<PathBuf>,
    live: Arc<Mutex<BTreeSet<u32>>>,
    slots: Arc<Semaphore>,
    dialer: Arc<dyn Dialer>,
    /// What stays hidden whatever commands did to git's rules.
    sealed: Sealed,
    /// Looked for with the first command.
    cgroups: Arc<OnceLock<Cgroups>>,
}

impl ToolHost {
    /// `helper` is the path of `lapce-ai-tool`.
    pub fn new(helper: PathBuf) -> Self {
        Self {
            helper,
            outliner: None,
            state: None,
            live: Arc::default(),
            slots: Arc::new(Semaphore::new(MAX_LIVE_CALLS)),
            dialer: Arc::new(SystemDialer),
            sealed: Sealed::default(),
            cgroups: Arc::default(),
        }
    }

    /// Another way to granted hosts than the system's own resolver and routes.
    #[must_use]
    pub fn with_dialer(mut self, dialer: Arc<dyn Dialer>) -> Self {
        self.dialer = dialer;
        self
    }

    /// Keeps undo journals and long outputs below `state`. Without it nothing can be undone
    /// and long outputs are only shown in part.
    #[must_use]
    pub fn with_state(mut self, state: PathBuf) -> Self {
        self.sealed = Sealed::new(&state);
        self.state = Some(state);
        self
    }

    /// Names the program that lists definitions (`lapce-ai-index`).
    #[must_use]
    pub fn with_outliner(mut self, program: Option<PathBuf>) -> Self {
        // What is in view of it is the program, not a link to it.
        self.outliner = program.map(|p| p.canonicalize().unwrap_or(p));
        self
    }

    pub(crate) fn sealed(&self) -> &Sealed {
        &self.sealed
    }

    fn artefacts(&self) -> Option<Artefacts> {
        self.state.as_deref().map(Artefacts::new)
    }

    /// The program that runs calls, and servers.
    pub fn helper(&self) -> &Path {
        &self.helper
    }

    /// Live helpers, for `status`.
    pub fn pids(&self) -> Vec<u32> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// Which layers this system offers, found by running a command that does nothing.
    pub async fn probe(&self, workspace: Workspace) -> Vec<LayerStatus> {
        let call = ToolCall::new("probe", "execute_command").with("command", ":");
        let outcome = self.run(Invocation::new(call, workspace)).await;
        LayerStatus::list(&outcome.layers, &outcome.absent)
    }

    /// Runs one call to its end. The call must have been approved.
    pub async fn run(&self, invocation: Invocation) -> Outcome {
        let started = Instant::now();
        let mut outcome = Outcome::empty();
        let call = &invocation.call;
        match spec::find(&call.name) {
            None => outcome.envelope = envelope::unknown_tool(&call.name, spec::offered()),
            Some(spec)
                if spec.runs != Runs::Helper
                    && !(spec.runs == Runs::Engine && invocation.payload.is_some()) =>
            {
                outcome.envelope = envelope::error(call, "this tool is not run by the sandbox");
            }
            Some(spec) => match call.clone().normalise(spec) {
                Err(problem) => outcome.envelope = envelope::invalid(spec, &problem, false),
                Ok(call) => {
                    let limits = invocation.limits.clone().unwrap_or_else(|| spec.limits.clone());
                    if call.name == "execute_command" && call.flag("background") {
                        self.start_job(call, &invocation, limits, &mut outcome).await;
                    } else if call.name == "browser_action" {
                        self.browse(&call, &invocation, limits, &mut outcome).await;
                    } else if call.name == "read_command_output" {
                        self.read_output(&call, &invocation, limits, &mut outcome).await;
                    } else if call.name == "execute_command" && !only_looks(call.text("command")) {
                        self.run_undoable(&call, &invocation, limits, &mut outcome).await;
                    } else {
                        self.run_helper(&call, &invocation, limits, &mut outcome).await;
                    }
                }
            },
        }
        outcome.wall = started.elapsed();
        outcome
    }

    async fn run_helper(
        &self,
        call: &ToolCall,
        invocation: &Invocation,
        mut limits: Limits,
        outcome: &mut Outcome,
    ) -> Option<Report> {
        limit_time(call, &mut limits);
        let slot = tokio::select! {
            slot = self.slots.acquire() => slot,
            () = invocation.cancel.cancelled() => {
                outcome.envelope = envelope::cancelled(call);
                return None;
            }
        };
        let (scratch, root, network, gate) = match self.prepare(call, invocation) {
            Ok(prepared) => prepared,
            Err(why) => {
                outcome.envelope = envelope::error(call, &why);
                return None;
            }
        };
        let refused = gate.as_ref().map(Gate::refused);
        let sandbox = SandboxSpec {
            scratch: Some(scratch.path().to_owned()),
            network,
            sealed: self.sealed.of(&root),
            ..invocation.workspace.sandbox()
        };
        let mut request =
            Request::new(&call.name, call.params.clone(), &root, limits.clone(), sandbox);
        if call.name == "read_command_output" {
            // Its folder is none of the workspace's.
            request.sandbox.closed = Closed::default();
        }
        request.pictures = invocation.pictures;
        request.payload = invocation.payload.as_deref().map(exec::restore::to_hex);
        // A command has no use for what the run knows of files, which may be megabytes.
        if call.name != "execute_command" {
            request.buffers.clone_from(&invocation.buffers);
            request.seen = invocation.ledger.snapshot();
        }
        if call.name == exec::outline::NAME
            && let Some(program) = &self.outliner
        {
            // Of the toolchains it needs none.
            request.sandbox.read = vec![program.clone()];
            request.outliner = Some(program.clone());
        }
        let (mut gathered, end) = self.exchange(request, gate, invocation).await;
        drop(slot);
        if let Some(report) = &mut gathered.report {
            let refused = refused.as_ref().map(Refused::take).unwrap_or_default();
            if !refused.is_empty() {
                report.notes.push(envelope::not_granted(&refused));
            }
            if let Some(seal) = gathered.seal.take() {
                seal.end(std::mem::take(&mut report.opened));
            }
            outcome.note_layers(report);
            // A shell may end well although the kernel refused it something.
            if let Some(limit) = gathered.limit.as_ref().filter(|_| report.ok) {
                report.notes.push(envelope::reached(limit));
            }
            if let Some(group) = &gathered.group {
                outcome.note_group(group);
            }
            if call.name != "read_command_output" {
                invocation.ledger.record(report);
            }
            if let Some(journal) = &gathered.journal {
                let of = |path: &String| {
                    let file = report.seen.get(path).map(|s| State::File(s.hash.clone()));
                    let left = report.left.get(path).cloned();
                    (path.clone(), left.or(file).unwrap_or(State::Gone))
                };
                let after = gathered.changed.iter().map(of).collect();
                let _ = journal.after(invocation.ledger.run(), &call.id, after);
            }
        }
        let text = terminal::resolve(&gathered.output);
        if text.len() > COMMAND_SHOWN_BYTES {
            outcome.artefact = self.artefacts().and_then(|a| a.keep(&text).ok());
        }
        outcome.pictures = std::mem::take(&mut gathered.pictures);
        outcome.finish(call, &limits, &gathered, &text, &end);
        gathered.report
    }

    /// What a call needs besides its parameters: a private folder, the folder it works in, and
    /// its way to the network.
    fn prepare(&self, call: &ToolCall, invocation: &Invocation) -> Result<Prepared, String> {
        let scratch = scratch().map_err(|e| format!("no temporary folder: {e}"))?;
        let root = if call.name == "read_command_output" {
            let id = call.text("artifact_id");
            let artefacts = self.artefacts().filter(|a| a.has(id));
            artefacts.ok_or_else(|| format!("there is no kept output '{id}'"))?.dir().to_owned()
        } else {
            invocation.workspace.root().to_owned()
        };
        let network = granted(call, invocation)?;
        let gate = Gate::open(&network, self.dialer.clone())
            .map_err(|e| format!("no way to the network: {e}"))?;
        Ok((scratch, root, network, gate))
    }
}

type Prepared = (Scratch, PathBuf, Network, Option<Gate>);

/// What a call may use, for the user to read before they allow it.
pub fn limits_of(spec: &spec::ToolSpec, call: &ToolCall) -> Limits {
    let mut limits = spec.limits.clone();
    limit_time(call, &mut limits);
    limits
}

/// A command may name its own time.
fn limit_time(call: &ToolCall, limits: &mut Limits) {
    if call.name == "execute_command"
        && let Some(seconds) = call.number("timeout").filter(|s| *s > 0)
    {
        limits.wall_ms = (seconds as u64).min(COMMAND_MAX_TIMEOUT_S) * 1_000;
    }
}

/// What a call may reach: what the rules grant, and what the approved call names.
fn granted(call: &ToolCall, invocation: &Invocation) -> Result<Network, String> {
    if call.name != "execute_command" {
        return Ok(Network::default());
    }
    Ok(invocation.network.clone().with(&Network::parse_list(call.text("network"))?))
}
