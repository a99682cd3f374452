//! Starts an MCP server in the fence and hands its pipes out. Used by the engine.
//!
//! The server is a grandchild behind `lapce-ai-tool`: with an environment of its own, an
//! empty home and working folder, the folders and the network that the user's
//! configuration names, and limits: a group of the kernel's where the system has them, as
//! around commands. Closing its standard input ends it and everything it
//! started; so does the end of this process.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::task::JoinHandle;

use crate::cgroup::Scope;
use crate::closed::Closed;
use crate::envelope;
use crate::exec;
use crate::host::{self, ToolHost};
use crate::limits::{
    KILL_GRACE_MS, Limits, MAX_REPORT_BYTES, SERVER_START_MS, SERVER_STDERR_BYTES,
};
use crate::protocol::{FRAME_REPORT, Report, Request, SandboxSpec};
use crate::proxy::{Gate, SystemDialer};
use crate::sandbox::layer;
use crate::sandbox::network::Network;
use crate::workspace::Workspace;

/// What the server may do with the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// It does not see it.
    None,
    #[default]
    Read,
    Write,
}

/// A server to start. All of it comes from the user's own configuration.
#[derive(Debug)]
pub struct Serve<'a> {
    /// A name on the tools' PATH, or an absolute path.
    pub command: &'a str,
    pub args: &'a [String],
    pub env: &'a [(String, String)],
    /// More folders it may read, and write.
    pub read: &'a [PathBuf],
    pub write: &'a [PathBuf],
    pub access: Access,
    /// The host's network: everything that an internet socket reaches.
    pub host_network: bool,
    /// Otherwise the hosts and ports it may reach through a proxy of ours.
    pub network: Network,
    pub limits: Limits,
}

/// A server that runs: its pipes, and the handle that ends it.
#[derive(Debug)]
pub struct Served {
    pub stdin: ChildStdin,
    pub stdout: ChildStdout,
    pub process: Process,
    /// Sandbox layers that are active, and those that are not, each with the reason.
    pub layers: Vec<String>,
    pub absent: Vec<(String, String)>,
}

/// The helper that stands before the server. Dropping it kills the helper, and with it
/// the server.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: u32,
    stderr: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    /// Serves its way to the network.
    gate: Option<JoinHandle<()>>,
    /// Keeps the limits that the kernel keeps; dropped, it ends whatever is in it.
    group: Option<Scope>,
    limits: Limits,
    /// What it may open, when it may write in the workspace.
    seal: Option<host::Seal>,
    _scratch: host::Scratch,
}

/// Starts a server. The error is a sentence.
pub async fn serve(
    tools: &ToolHost,
    workspace: &Workspace,
    serve: &Serve<'_>,
) -> Result<Served, String> {
    let scratch = host::scratch().map_err(|e| format!("no temporary folder: {e}"))?;
    let request = request(tools, workspace, serve, &scratch)?;
    let root = request.root.clone();
    let text = serde_json::to_vec(&request).map_err(|e| e.to_string())?;
    let network = if serve.host_network { &Network::default() } else { &serve.network };
    let mut gate = Gate::open(network, Arc::new(SystemDialer))
        .map_err(|e| format!("no way to the network: {e}"))?;
    let way = gate.as_mut().and_then(Gate::take_descriptor);
    let helper = tools.helper();
    let mut child = host::spawn(helper, way, Stdio::piped())
        .map_err(|e| format!("{} cannot be started: {e}", helper.display()))?;
    // It waits for its request: nothing of the server runs outside.
    let group = tools.group(&child, &serve.limits);
    let pid = child.id().unwrap_or_default();
    let (Some(mut stdin), Some(mut stdout), Some(errors)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err("the helper has no pipes".into());
    };
    let stderr = Arc::default();
    let reader = Some(tokio::spawn(keep_tail(errors, Arc::clone(&stderr))));
    let gate = gate.map(|gate| {
        tokio::spawn(async move {
            // It ends with an error when the helper ended before it listened.
            let _ = gate.serve().await;
        })
    });
    let (group, no_group) = match group {
        Ok(group) => (Some(group), None),
        Err(why) => (None, Some(why)),
    };
    let limits = serve.limits.clone();
    let mut process =
        Process { child, pid, stderr, reader, gate, group, limits, seal: None, _scratch: scratch };
    let started = async {
        host::send(&mut stdin, &text).await?;
        report(&mut stdout).await
    };
    let mut report =
        match tokio::time::timeout(Duration::from_millis(SERVER_START_MS), started).await {
            Ok(Ok(report)) => report,
            Ok(Err(e)) => return Err(format!("the sandbox could not be put up: {e}")),
            Err(_) => return Err("the sandbox could not be put up in time".into()),
        };
    if !report.ok {
        process.end().await;
        return Err(report.body);
    }
    if serve.access == Access::Write && !report.hidden.is_empty() {
        process.seal = Some(tools.sealed().begin(&root, std::mem::take(&mut report.hidden)));
    }
    match no_group {
        None => report.layers.push(format!("{}-v2", layer::CGROUP)),
        Some(why) => report.absent.push((layer::CGROUP.into(), why)),
    }
    Ok(Served { stdin, stdout, process, layers: report.layers, absent: report.absent })
}

fn request(
    tools: &ToolHost,
    workspace: &Workspace,
    serve: &Serve<'_>,
    scratch: &host::Scratch,
) -> Result<Request, String> {
    let mut sandbox = SandboxSpec {
        scratch: Some(scratch.path().to_owned()),
        sealed: tools.sealed().of(workspace.root()),
        host_network: serve.host_network,
        network: if serve.host_network { Network::default() } else { serve.network.clone() },
        ..workspace.sandbox()
    };
    for (name, value) in serve.env {
        sandbox.env.retain(|(known, _)| known != name);
        sandbox.env.push((name.clone(), value.clone()));
    }
    for (list, folders) in [(&mut sandbox.read, serve.read), (&mut sandbox.write, serve.write)] {
        for folder in folders {
            let real = folder
                .canonicalize()
                .map_err(|e| format!("the folder {}: {e}", folder.display()))?;
            list.push(real);
        }
    }
    if serve.access == Access::None {
        sandbox.closed = Closed::default();
        sandbox.sealed.clear();
    }
    let root = match serve.access {
        // Something must stand in its place: the private folder of this server.
        Access::None => scratch.path(),
        Access::Read | Access::Write => workspace.root(),
    };
    let mut params = serde_json::Map::new();
    params.insert("command".into(), serve.command.into());
    params.insert("args".into(), serve.args.into());
    params.insert("writable".into(), (serve.access == Access::Write).into());
    Ok(Request::new(exec::server::NAME, params, root, serve.limits.clone(), sandbox))
}

/// The frame that comes before the server's own bytes; not a byte more is read.
async fn report(stdout: &mut ChildStdout) -> std::io::Result<Report> {
    match host::frame(stdout, MAX_REPORT_BYTES).await? {
        Some((FRAME_REPORT, text)) => serde_json::from_slice(&text).map_err(std::io::Error::other),
        _ => Err(std::io::Error::other("the helper sent no report")),
    }
}

/// Reads to the end, keeping the last bytes.
async fn keep_tail(mut pipe: ChildStderr, tail: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0_u8; 1024];
    while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(&buffer[..n]);
        let excess = tail.len().saturating_sub(SERVER_STDERR_BYTES);
        tail.drain(..excess);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(gate) = &self.gate {
            gate.abort();
        }
    }
}

impl Process {
    /// Of the helper.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the server has ended, then says how; its pipes must be closed, or it
    /// must be ending by itself. Kills it when it takes too long.
    pub async fn end(&mut self) -> String {
        let grace = Duration::from_millis(KILL_GRACE_MS + crate::limits::SERVER_GRACE_MS);
        let status = match tokio::time::timeout(grace, self.child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                host::kill_group(&self.child);
                let _ = self.child.start_kill();
                self.child.wait().await
            }
        };
        if let Some(reader) = self.reader.take() {
            let _ = tokio::time::timeout(Duration::from_millis(KILL_GRACE_MS), reader).await;
        }
        // Whatever it did to the rules is done.
        drop(self.seal.take());
        let hit = self.group.as_ref().and_then(|group| group.hit(&self.limits));
        let how = match (hit, status) {
            (Some(hit), _) => envelope::limit(&hit),
            (None, Ok(status)) => match status.code() {
                Some(code) => format!("ended with status {code}"),
                None => "was killed".into(),
            },
            (None, Err(e)) => format!("was lost: {e}"),
        };
        match self.last_words() {
            words if words.is_empty() => how,
            words => format!("{how}: {words}"),
        }
    }

    /// The last lines of its standard error on one line.
    pub fn last_words(&self) -> String {
        let tail = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&tail);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        let last = lines[lines.len().saturating_sub(3)..].join(" | ");
        crate::call::one_line(&last, 400)
    }
}
