//! Starts one `lapce-ai-tool` per call and gathers its result. Used by the engine.
//!
//! A helper gets an empty environment, three descriptors (request, result, nothing) and
//! a death signal tied to this thread. Dropping the future of [`ToolHost::run`] ends the
//! helper and everything it started.

mod background;
mod browser;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::artefact::Artefacts;
use crate::call::ToolCall;
use crate::cgroup::{Cgroups, Scope};
use crate::envelope::{self, LimitHit};
use crate::exec;
use crate::journal::{self, Expect, Journal, Selector};
use crate::limits::{
    BACKGROUND_LOOK_MS, BACKGROUND_MAX_WAIT_S, COMMAND_MAX_TIMEOUT_S, COMMAND_SHOWN_BYTES,
    KILL_GRACE_MS, Limits, MAX_FRAME_BYTES, MAX_LIVE_CALLS, SNAPSHOT_WALL_MS,
};
use crate::policy::commands::only_looks;
use crate::protocol::{
    BeforeHead, FRAME_BEFORE, FRAME_OUTPUT, FRAME_REPORT, KEPT, NOT_KEPT, Report, Request,
    SandboxSpec, Seen, exit,
};
use crate::proxy::{Dialer, Gate, Refused, SystemDialer};
use crate::sandbox::network::Network;
use crate::sandbox::{LayerStatus, inlet, layer};
use crate::spec::{self, Runs};
use crate::terminal;
use crate::workspace::Workspace;
use background::{Job, Jobs};

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
            network: Network::default(),
            job: None,
        }
    }
}

/// What a run knows about the files it has read, its background commands and its browser;
/// cheap to clone, shared. Writing a file that is no longer as the run saw it is refused.
/// When the last clone is gone, the background commands and the browser end.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    run: String,
    seen: Arc<Mutex<BTreeMap<String, Seen>>>,
    jobs: Arc<Jobs>,
    browser: Arc<browser::Place>,
}

impl Ledger {
    /// The ledger of the run `run`; its changes can be undone together under this name.
    pub fn for_run(run: &str) -> Self {
        Self { run: run.into(), ..Self::default() }
    }

    fn snapshot(&self) -> BTreeMap<String, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn record(&self, report: &Report) {
        let mut known = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|path, _| !report.gone.contains(path));
        known.extend(report.seen.clone());
    }
}

/// How an undo ended.
#[derive(Debug, Clone)]
pub struct Undone {
    pub ok: bool,
    /// What was put back, or why nothing was.
    pub text: String,
    /// The name under which the undo itself can be undone.
    pub run: String,
}

/// How a call ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What the model is given.
    pub envelope: String,
    pub ok: bool,
    pub wall: Duration,
    /// Sandbox layers that were active.
    pub layers: Vec<String>,
    /// Layers that were not, each with the reason.
    pub absent: Vec<(String, String)>,
    /// The limit that stopped the call, in words, or empty.
    pub limit_hit: String,
    /// Name under which the whole output is kept.
    pub artefact: Option<String>,
    /// A picture of the browser's page, JPEG.
    pub screenshot: Option<PathBuf>,
}

impl Outcome {
    fn empty() -> Self {
        Self {
            envelope: String::new(),
            ok: false,
            wall: Duration::ZERO,
            layers: Vec::new(),
            absent: Vec::new(),
            limit_hit: String::new(),
            artefact: None,
            screenshot: None,
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
    /// Looked for with the first command.
    cgroups: Arc<OnceLock<Cgroups>>,
}

/// What came out of one helper.
#[derive(Debug, Default)]
struct Gathered {
    report: Option<Report>,
    output: Vec<u8>,
    /// Opened with the first file that changes.
    journal: Option<Journal>,
    changed: Vec<String>,
    /// Whether a command had a group of its own, or why not.
    group: Option<Result<(), String>>,
    /// A limit that the group enforced.
    limit: Option<LimitHit>,
}

/// Why the helper's result is not the whole story.
enum End {
    Exited(Option<i32>),
    Cancelled,
    Late,
    Broken(String),
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
        self.state = Some(state);
        self
    }

    /// Names the program that lists definitions (`lapce-ai-index`).
    #[must_use]
    pub fn with_outliner(mut self, program: Option<PathBuf>) -> Self {
        self.outliner = program;
        self
    }

    /// A text that the repository offers, or the names of those there are; see
    /// [`exec::notes`]. An error says why there is none.
    pub async fn note(&self, workspace: &Workspace, file: &str) -> Result<String, String> {
        self.notes(workspace, ToolCall::new("note", exec::notes::NAME).with("file", file)).await
    }

    /// The names in some folders of the workspace, as `FOLDER/NAME`.
    pub async fn note_names(
        &self,
        workspace: &Workspace,
        folders: &[&str],
    ) -> Result<Vec<String>, String> {
        let call = ToolCall::new("note", exec::notes::NAME).with("folders", folders.to_vec());
        let names = self.notes(workspace, call).await?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// The bytes of an image of the workspace.
    pub async fn read_image(&self, workspace: &Workspace, file: &str) -> Result<Vec<u8>, String> {
        let call = ToolCall::new("note", exec::notes::NAME).with("image", file);
        let hex = self.notes(workspace, call).await?;
        exec::restore::from_hex(&hex).ok_or_else(|| "the image could not be read".into())
    }

    /// Whether the file that `invocation` would write may be written. An error says why not.
    pub async fn check_write(&self, invocation: &Invocation) -> Result<(), String> {
        let mut outcome = Outcome::empty();
        let report =
            self.run_helper(&invocation.call, invocation, Limits::WRITE, &mut outcome).await;
        match report {
            Some(report) if report.ok => Ok(()),
            Some(report) => Err(report.body),
            None => Err(outcome.envelope),
        }
    }

    async fn notes(&self, workspace: &Workspace, call: ToolCall) -> Result<String, String> {
        let invocation = Invocation::new(call, workspace.clone());
        let mut outcome = Outcome::empty();
        let report =
            self.run_helper(&invocation.call, &invocation, Limits::READ, &mut outcome).await;
        match report {
            Some(report) if report.ok => Ok(report.body),
            Some(report) => Err(report.body),
            None => Err(outcome.envelope),
        }
    }

    fn artefacts(&self) -> Option<Artefacts> {
        self.state.as_deref().map(Artefacts::new)
    }

    /// What can be undone in a workspace, oldest first.
    pub fn undoable(&self, workspace: &Workspace) -> std::io::Result<Vec<journal::Undoable>> {
        match &self.state {
            Some(state) => Journal::open(state, workspace.root())?.list(),
            None => Ok(Vec::new()),
        }
    }

    /// Puts files back as they were before the selected changes. The undo is a change of
    /// its own, under the run name in the result, and can be undone. A file that was
    /// changed since by somebody else stops it, and then nothing is put back.
    pub async fn undo(&self, workspace: &Workspace, selector: &Selector) -> Undone {
        match self.undo_request(workspace, selector) {
            Err(why) => Undone { ok: false, text: why, run: String::new() },
            Ok((call, ledger)) => {
                let run = ledger.run.clone();
                let mut invocation = Invocation::new(call, workspace.clone());
                invocation.ledger = ledger;
                let mut outcome = Outcome::empty();
                let report = self
                    .run_helper(&invocation.call, &invocation, Limits::WRITE, &mut outcome)
                    .await;
                let text = report.map_or(outcome.envelope, |r| r.body);
                Undone { ok: outcome.ok, text, run }
            }
        }
    }

    fn undo_request(
        &self,
        workspace: &Workspace,
        selector: &Selector,
    ) -> Result<(ToolCall, Ledger), String> {
        let state = self.state.as_ref().ok_or("no undo journal is kept")?;
        let failed = |e: std::io::Error| format!("the undo journal cannot be read: {e}");
        let journal = Journal::open(state, workspace.root()).map_err(failed)?;
        let restores = journal.select(selector).map_err(failed)?;
        if restores.is_empty() {
            return Err("there is nothing to undo".into());
        }
        let time = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_millis());
        let ledger = Ledger::for_run(&format!("undo-{time:x}"));
        let mut files = Vec::new();
        let mut expected = BTreeMap::new();
        for restore in restores {
            let change = restore.change;
            let content = if change.existed {
                journal.content(&change.hash).map_err(failed)?
            } else {
                Vec::new()
            };
            let gone = restore.expect == Expect::Gone;
            if let Expect::Hash(hash) = restore.expect {
                expected.insert(change.path.clone(), Seen { mtime_ns: 0, size: 0, hash });
            }
            files.push(serde_json::json!({
                "path": change.path, "existed": change.existed, "mode": change.mode,
                "gone": gone, "hex": exec::restore::to_hex(&content),
            }));
        }
        *ledger.seen.lock().unwrap_or_else(PoisonError::into_inner) = expected;
        let call =
            ToolCall::new(format!("undo-{time:x}"), exec::restore::NAME).with("files", files);
        Ok((call, ledger))
    }

    /// The program that runs calls, and servers.
    pub fn helper(&self) -> &std::path::Path {
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

    /// Starts a command that goes on after this call.
    async fn start_job(
        &self,
        call: ToolCall,
        invocation: &Invocation,
        mut limits: Limits,
        outcome: &mut Outcome,
    ) {
        if self.state.is_none() {
            outcome.envelope = envelope::error(&call, "there is no place to keep its output");
            return;
        }
        let job = match invocation.ledger.jobs.add() {
            Ok(job) => job,
            Err(why) => {
                outcome.envelope = envelope::error(&call, &why);
                return;
            }
        };
        if !call.has("timeout") {
            limits.wall_ms = COMMAND_MAX_TIMEOUT_S * 1_000;
        }
        let mut own = Invocation::new(call.clone(), invocation.workspace.clone());
        own.network = invocation.network.clone();
        own.cancel = job.cancel.clone();
        own.job = Some(job.clone());
        // Not the run's own ledger: the run is over when its last clone is gone.
        own.ledger =
            Ledger { jobs: Arc::default(), browser: Arc::default(), ..invocation.ledger.clone() };
        let (host, running) = (self.clone(), job.clone());
        tokio::spawn(async move {
            let mut outcome = Outcome::empty();
            let report = host.run_helper(&own.call, &own, limits, &mut outcome).await;
            running.finish(report.as_ref(), &outcome);
        });
        tokio::select! {
            () = job.wait(Duration::from_millis(BACKGROUND_LOOK_MS)) => {}
            () = invocation.cancel.cancelled() => {
                job.stop().await;
                outcome.envelope = envelope::cancelled(&call);
                return;
            }
        }
        let output = terminal::resolve(&job.output());
        outcome.ok = true;
        outcome.artefact = Some(job.id.clone());
        outcome.envelope = envelope::background(&call, &job.id, &job.status(), &output);
    }

    /// Reads a kept output; that of a background command as it is now.
    async fn read_output(
        &self,
        call: &ToolCall,
        invocation: &Invocation,
        limits: Limits,
        outcome: &mut Outcome,
    ) {
        let id = call.text("artifact_id");
        let job = invocation.ledger.jobs.find(id);
        if job.is_none() && (call.flag("stop") || call.has("wait")) {
            let why = format!("no command of this run goes on in the background as '{id}'");
            outcome.envelope = envelope::error(call, &why);
            return;
        }
        if let Some(job) = &job {
            if call.flag("stop") {
                job.stop().await;
            }
            if let Some(seconds) = call.number("wait") {
                let time = Duration::from_secs((seconds.max(0) as u64).min(BACKGROUND_MAX_WAIT_S));
                tokio::select! {
                    () = job.wait(time) => {}
                    () = invocation.cancel.cancelled() => {
                        outcome.envelope = envelope::cancelled(call);
                        return;
                    }
                }
            }
            let text = terminal::resolve(&job.output());
            if let Some(Err(e)) = self.artefacts().map(|a| a.put(&job.id, &text)) {
                let why = format!("the output cannot be kept: {e}");
                outcome.envelope = envelope::error(call, &why);
                return;
            }
        }
        self.run_helper(call, invocation, limits, outcome).await;
        if let Some(job) = job.filter(|_| outcome.ok) {
            outcome.envelope.push_str(&envelope::notice(&job.status()));
        }
    }

    /// Runs a command between a look at the workspace and another, so that what it changed
    /// can be undone.
    async fn run_undoable(
        &self,
        call: &ToolCall,
        invocation: &Invocation,
        limits: Limits,
        outcome: &mut Outcome,
    ) {
        let root = invocation.workspace.root();
        let journal = self.state.as_deref().and_then(|state| Journal::open(state, root).ok());
        let taken = match &journal {
            Some(journal) => self.order(exec::snapshot::TAKE, invocation, journal).await.is_some(),
            None => false,
        };
        self.run_helper(call, invocation, limits, outcome).await;
        let Some(journal) = journal.filter(|_| taken) else { return };
        let Some(report) = self.order(exec::snapshot::DIFF, invocation, &journal).await else {
            return;
        };
        if !report.changed.is_empty() {
            let run = &invocation.ledger.run;
            if let Err(e) = journal.command(run, &call.id, &report.changed) {
                outcome.envelope.push_str(&envelope::not_undoable(&e.to_string()));
            }
        }
        if !report.body.is_empty() {
            outcome.envelope.push_str(&envelope::not_undoable(&report.body.replace('\n', ", ")));
        }
    }

    /// An order of the host's own, fenced like a file tool with the journal besides. Not
    /// cancelled with the call: after a cancelled command it is wanted most.
    async fn order(&self, name: &str, of: &Invocation, journal: &Journal) -> Option<Report> {
        let call = ToolCall::new(name, name).with("journal", journal.dir().to_str()?);
        let mut invocation = Invocation::new(call, of.workspace.clone().writable(journal.dir()));
        invocation.ledger = Ledger::default();
        let limits = Limits {
            file_bytes: Limits::COMMAND.file_bytes,
            wall_ms: SNAPSHOT_WALL_MS,
            ..Limits::COMMAND
        };
        let mut outcome = Outcome::empty();
        let report = self.run_helper(&invocation.call, &invocation, limits, &mut outcome).await;
        report.filter(|r| r.ok)
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
        let scratch = match scratch() {
            Ok(scratch) => scratch,
            Err(e) => {
                outcome.envelope = envelope::error(call, &format!("no temporary folder: {e}"));
                return None;
            }
        };
        let mut root = invocation.workspace.root().to_owned();
        if call.name == "read_command_output" {
            let id = call.text("artifact_id");
            match self.artefacts().filter(|a| a.has(id)) {
                Some(artefacts) => artefacts.dir().clone_into(&mut root),
                None => {
                    outcome.envelope =
                        envelope::error(call, &format!("there is no kept output '{id}'"));
                    return None;
                }
            }
        }
        let network = match granted(call, invocation) {
            Ok(network) => network,
            Err(why) => {
                outcome.envelope = envelope::error(call, &why);
                return None;
            }
        };
        let gate = match Gate::open(&network, self.dialer.clone()) {
            Ok(gate) => gate,
            Err(e) => {
                outcome.envelope = envelope::error(call, &format!("no way to the network: {e}"));
                return None;
            }
        };
        let refused = gate.as_ref().map(Gate::refused);
        let mut request = Request {
            tool: call.name.clone(),
            params: call.params.clone(),
            root,
            limits: limits.clone(),
            sandbox: SandboxSpec {
                scratch: Some(scratch.0.clone()),
                network,
                ..invocation.workspace.sandbox()
            },
            outliner: None,
            payload: invocation.payload.as_deref().map(exec::restore::to_hex),
            buffers: invocation.buffers.clone(),
            seen: invocation.ledger.snapshot(),
        };
        if call.name == exec::outline::NAME
            && let Some(program) = &self.outliner
        {
            // Of the toolchains it needs none.
            request.sandbox.read = vec![program.clone()];
            request.outliner = Some(program.clone());
        }
        let (mut gathered, end) = self.exchange(&request, gate, invocation).await;
        drop(slot);
        if let Some(report) = &mut gathered.report {
            let refused = refused.as_ref().map(Refused::take).unwrap_or_default();
            if !refused.is_empty() {
                report.notes.push(envelope::not_granted(&refused));
            }
        }
        if let Some(report) = &gathered.report {
            outcome.layers.clone_from(&report.layers);
            outcome.absent.clone_from(&report.absent);
            match &gathered.group {
                Some(Ok(())) => outcome.layers.push(format!("{}-v2", layer::CGROUP)),
                Some(Err(why)) => outcome.absent.push((layer::CGROUP.into(), why.clone())),
                None => {}
            }
            if call.name != "read_command_output" {
                invocation.ledger.record(report);
            }
            if let Some(journal) = &gathered.journal {
                let of =
                    |path: &String| (path.clone(), report.seen.get(path).map(|s| s.hash.clone()));
                let after = gathered.changed.iter().map(of).collect();
                let _ = journal.after(&invocation.ledger.run, &call.id, after);
            }
        }
        let text = terminal::resolve(&gathered.output);
        if text.len() > COMMAND_SHOWN_BYTES {
            outcome.artefact = self.artefacts().and_then(|a| a.keep(&text).ok());
        }
        finish(call, &limits, &gathered, &text, &end, outcome);
        gathered.report
    }

    /// Starts the helper, gives it the request and takes its frames until it ends.
    async fn exchange(
        &self,
        request: &Request,
        mut gate: Option<Gate>,
        invocation: &Invocation,
    ) -> (Gathered, End) {
        let mut gathered = Gathered::default();
        let broken = |what: &str, e: &dyn std::fmt::Display| End::Broken(format!("{what}: {e}"));
        let text = match serde_json::to_vec(request) {
            Ok(text) => text,
            Err(e) => return (gathered, broken("the request cannot be written", &e)),
        };
        let way = gate.as_mut().and_then(Gate::take_descriptor);
        let mut child = match spawn(&self.helper, way, Stdio::null()) {
            Ok(child) => child,
            Err(e) => {
                let what = format!("{} cannot be started", self.helper.display());
                return (gathered, broken(&what, &e));
            }
        };
        let _live = Live::new(self.live.clone(), child.id());
        let command = request.tool == "execute_command";
        let scope = command.then(|| self.group(&child, &request.limits));
        gathered.group = scope.as_ref().map(|s| s.as_ref().map(drop).map_err(Clone::clone));
        let (Some(mut stdin), Some(mut stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return (gathered, End::Broken("the helper has no pipes".into()));
        };
        let wall = Duration::from_millis(request.limits.wall_ms + KILL_GRACE_MS);
        let end = {
            let talk = async {
                send(&mut stdin, &text).await?;
                self.receive(&mut stdout, &mut stdin, &mut gathered, request, invocation).await
            };
            let network = async {
                if let Some(gate) = gate {
                    let _ = gate.serve().await;
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = network => None,
                talked = talk => match talked {
                    Ok(()) => None,
                    Err(e) => Some(End::Broken(e.to_string())),
                },
                () = invocation.cancel.cancelled() => Some(End::Cancelled),
                () = tokio::time::sleep(wall) => Some(End::Late),
            }
        };
        // Closing the pipe tells a helper that still runs to end its call.
        drop(stdin);
        let waited = tokio::time::timeout(Duration::from_millis(KILL_GRACE_MS), child.wait()).await;
        let code = match waited {
            Ok(Ok(status)) => status.code(),
            _ => {
                kill_group(&child);
                let _ = child.kill().await;
                None
            }
        };
        gathered.limit = scope.and_then(Result::ok).and_then(|s| s.hit(&request.limits));
        (gathered, end.unwrap_or(End::Exited(code)))
    }

    /// A group for a helper that waits for its request: nothing of the call runs outside it.
    fn group(&self, child: &Child, limits: &Limits) -> Result<Scope, String> {
        let scope = self.cgroups.get_or_init(Cgroups::find).scope(limits)?;
        let pid = child.id().ok_or("the helper has ended")?;
        scope.add(pid).map_err(|e| e.to_string())?;
        Ok(scope)
    }

    /// Takes frames until the helper ends.
    async fn receive(
        &self,
        stdout: &mut ChildStdout,
        stdin: &mut ChildStdin,
        gathered: &mut Gathered,
        request: &Request,
        invocation: &Invocation,
    ) -> std::io::Result<()> {
        let mut stdout = tokio::io::BufReader::with_capacity(64 << 10, stdout);
        let mut lossy = terminal::Utf8::default();
        loop {
            let mut head = [0; 5];
            match stdout.read_exact(&mut head).await {
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(e) => return Err(e),
            }
            let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
            if length > MAX_FRAME_BYTES {
                return Err(std::io::Error::other("the helper sent a frame that is too long"));
            }
            let mut payload = vec![0; length];
            match stdout.read_exact(&mut payload).await {
                Ok(_) => {}
                // Killed in the middle of a frame: what came before it counts.
                Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(e) => return Err(e),
            }
            match head[0] {
                FRAME_OUTPUT => {
                    let max = request.limits.output_bytes as usize;
                    if let Some(job) = &invocation.job {
                        job.push(&payload, max);
                    } else {
                        let room = max.saturating_sub(gathered.output.len());
                        gathered.output.extend_from_slice(&payload[..length.min(room)]);
                    }
                    if let Some(sender) = &invocation.on_output {
                        let text = lossy.push(&payload);
                        if !text.is_empty() {
                            let _ = sender.try_send(text);
                        }
                    }
                }
                FRAME_BEFORE => {
                    let kept = self.keep_before(&payload, gathered, request, invocation);
                    stdin.write_all(&[if kept.is_ok() { KEPT } else { NOT_KEPT }]).await?;
                    stdin.flush().await?;
                }
                FRAME_REPORT => {
                    gathered.report =
                        Some(serde_json::from_slice(&payload).map_err(std::io::Error::other)?);
                }
                other => {
                    return Err(std::io::Error::other(format!(
                        "the helper sent a frame of kind {other}"
                    )));
                }
            }
        }
    }

    /// Puts a file's state into the undo journal.
    fn keep_before(
        &self,
        payload: &[u8],
        gathered: &mut Gathered,
        request: &Request,
        invocation: &Invocation,
    ) -> std::io::Result<()> {
        let Some(state) = &self.state else { return Ok(()) };
        let end = payload
            .iter()
            .position(|b| *b == b'\n')
            .ok_or_else(|| std::io::Error::other("no head"))?;
        let head: BeforeHead = serde_json::from_slice(&payload[..end])?;
        if gathered.journal.is_none() {
            gathered.journal = Some(Journal::open(state, &request.root)?);
        }
        if let Some(journal) = &gathered.journal {
            let (run, call) = (&invocation.ledger.run, &invocation.call);
            journal.before(run, &call.id, &call.name, &head, &payload[end + 1..])?;
            gathered.changed.push(head.path);
        }
        Ok(())
    }
}

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

/// Keeps `ToolHost::pids` right, however the call ends.
#[derive(Debug)]
struct Live {
    set: Arc<Mutex<BTreeSet<u32>>>,
    pid: Option<u32>,
}

impl Live {
    fn new(set: Arc<Mutex<BTreeSet<u32>>>, pid: Option<u32>) -> Self {
        if let Some(pid) = pid {
            set.lock().unwrap_or_else(PoisonError::into_inner).insert(pid);
        }
        Self { set, pid }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            self.set.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
        }
    }
}

/// A folder for one call, gone with it.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn scratch() -> std::io::Result<Scratch> {
    Workspace::scratch().map(Scratch)
}

/// What a call may reach: what the rules grant, and what the approved call names.
fn granted(call: &ToolCall, invocation: &Invocation) -> Result<Network, String> {
    if call.name != "execute_command" {
        return Ok(Network::default());
    }
    Ok(invocation.network.clone().with(&Network::parse_list(call.text("network"))?))
}

/// Starts a helper; `way` becomes its descriptor for a granted network.
pub(crate) fn spawn(
    helper: &std::path::Path,
    way: Option<OwnedFd>,
    stderr: Stdio,
) -> std::io::Result<Child> {
    let mut command = Command::new(helper);
    if way.is_some() {
        command.arg("--net");
    }
    command
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .kill_on_drop(true)
        .process_group(0);
    let parent = std::process::id();
    // SAFETY: between fork and exec only async-signal-safe system calls are made.
    unsafe {
        command.pre_exec(move || {
            if let Some(way) = &way {
                // A copy without close-on-exec, unless it has the number already.
                let rc = if way.as_raw_fd() == inlet::HANDOVER {
                    libc::fcntl(inlet::HANDOVER, libc::F_SETFD, 0)
                } else {
                    libc::dup2(way.as_raw_fd(), inlet::HANDOVER)
                };
                if rc < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // The parent may have died before the line above.
            if libc::getppid() as u32 != parent {
                return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
    command.spawn()
}

pub(crate) fn kill_group(child: &Child) {
    if let Some(pid) = child.id() {
        // SAFETY: integers only; the child has not been waited for, so the number is its.
        unsafe { libc::kill(-(pid as libc::pid_t), libc::SIGKILL) };
    }
}

pub(crate) async fn send(stdin: &mut ChildStdin, text: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(text.len()).map_err(std::io::Error::other)?;
    let sent = async {
        stdin.write_all(&length.to_le_bytes()).await?;
        stdin.write_all(text).await?;
        stdin.flush().await
    };
    match sent.await {
        // A helper that refuses the request says why in its report.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Words the result.
fn finish(
    call: &ToolCall,
    limits: &Limits,
    gathered: &Gathered,
    text: &str,
    end: &End,
    outcome: &mut Outcome,
) {
    let command = call.name == "execute_command";
    let limit = match (&gathered.report, end) {
        (Some(report), _) if report.limit.is_some() => report.limit.clone(),
        (report, _) if gathered.limit.is_some() && report.as_ref().is_none_or(|r| !r.ok) => {
            gathered.limit.clone()
        }
        (_, End::Late) | (None, End::Exited(Some(exit::WALL))) => {
            Some(LimitHit::Wall(limits.wall_ms))
        }
        _ => None,
    };
    if let Some(limit) = &limit {
        outcome.limit_hit = envelope::limit(limit);
    }
    outcome.envelope = match (&gathered.report, end) {
        (_, End::Cancelled) | (None, End::Exited(Some(exit::CANCELLED))) => {
            envelope::cancelled(call)
        }
        (_, End::Broken(why)) => envelope::error(call, why),
        (Some(report), _) if !command => {
            if report.ok {
                outcome.ok = true;
                envelope::result(call, &report.body)
            } else {
                envelope::error(call, &report.body)
            }
        }
        // The command never ran; the body says why.
        (Some(report), _) if !report.body.is_empty() => envelope::error(call, &report.body),
        (report, _) => {
            let empty = Report::default();
            let report = report.as_ref().unwrap_or(&empty);
            if command && (limit.is_some() || report.exit_code.is_some() || report.signal.is_some())
            {
                outcome.ok = report.ok;
                envelope::command(
                    call,
                    report,
                    limit.as_ref(),
                    limits,
                    text,
                    outcome.artefact.as_deref(),
                )
            } else if let Some(limit) = &limit {
                envelope::error(call, &envelope::limit(limit))
            } else {
                envelope::error(
                    call,
                    "the helper process ended without a result; it may have run out of memory",
                )
            }
        }
    };
}
