//! The browser of a run: one helper that lives from `launch` to `close`, or to the end of
//! the run. Used by [`super::ToolHost`]; what may be opened was decided before.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::io::BufReader;
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::task::JoinSet;

use super::process::Live;
use super::{Invocation, Outcome, Scratch, ToolHost, frame, kill_group, scratch, send, spawn};
use crate::browser;
use crate::call::ToolCall;
use crate::cgroup::Scope;
use crate::envelope;
use crate::limits::{
    BROWSER_CALL_MS, BROWSER_SESSION_MS, FRAME_BUFFER, KILL_GRACE_MS, Limits, MAX_FRAME_BYTES,
    PICTURE_BYTES,
};
use crate::protocol::{FRAME_PICTURE, FRAME_REPORT, Report, Request, SandboxSpec};
use crate::proxy::{Gate, Refused};
use crate::sandbox::network::Network;

/// A run's place for its browser; there is at most one.
pub(super) type Place = tokio::sync::Mutex<Option<Browser>>;

/// Dropped, it ends with all it started.
#[derive(Debug)]
pub(super) struct Browser {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    network: Network,
    refused: Refused,
    group: Result<Scope, String>,
    _gate: JoinSet<()>,
    _live: Live,
    _scratch: Scratch,
}

impl Drop for Browser {
    fn drop(&mut self) {
        kill_group(&self.child);
    }
}

impl ToolHost {
    pub(super) async fn browse(
        &self,
        call: &ToolCall,
        invocation: &Invocation,
        limits: Limits,
        outcome: &mut Outcome,
    ) {
        let place = invocation.ledger.browser.clone();
        let acting = async {
            let mut place = place.lock().await;
            let time = Duration::from_millis(BROWSER_CALL_MS);
            let done = self.act(call, invocation, limits, &mut place, outcome);
            match tokio::time::timeout(time, done).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => outcome.envelope = envelope::error(call, &why),
                Err(_) => {
                    *place = None;
                    let why = "the browser did not finish the action in time and was ended";
                    outcome.envelope = envelope::error(call, why);
                }
            }
        };
        let cancelled = tokio::select! {
            () = acting => false,
            () = invocation.cancel.cancelled() => true,
        };
        if cancelled {
            // It may be in the middle of an answer.
            *place.lock().await = None;
            outcome.envelope = envelope::cancelled(call);
        }
    }

    async fn act(
        &self,
        call: &ToolCall,
        invocation: &Invocation,
        limits: Limits,
        place: &mut Option<Browser>,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        let action = call.text("action");
        let mut fresh = false;
        if action == "launch" {
            let wanted = browser::address(call.text("url"), invocation.workspace.root())?;
            let network = invocation.network.clone().with(&wanted);
            if place.as_ref().is_none_or(|open| !open.network.covers(&network)) {
                *place = None;
                *place = Some(self.open(call, invocation, limits, network).await?);
                fresh = true;
            }
        }
        let Some(open) = place else {
            return Err("no browser is open; begin with the action launch and a url".into());
        };
        let answered = open.exchange((!fresh).then_some(&call.params)).await;
        let (report, picture) = match answered {
            Ok(answered) => answered,
            Err(why) => {
                *place = None;
                return Err(why);
            }
        };
        outcome.note_layers(&report);
        outcome.note_group(&open.group.as_ref().map(drop).map_err(Clone::clone));
        let refused = open.refused.take();
        if let Some(limit) = &report.limit {
            outcome.limit_hit = envelope::limit(limit);
            *place = None;
            return Err(format!("{}: {}", report.body, outcome.limit_hit));
        }
        if action == "close" {
            *place = None;
        }
        if !report.ok {
            return Err(report.body);
        }
        let mut body = report.body;
        if !picture.is_empty() {
            match self.artefacts().map(|a| a.picture(&picture)) {
                Some(Ok(path)) => {
                    let shown = path.display().to_string();
                    body.push_str(&["\n<screenshot>", &shown, "</screenshot>"].concat());
                    outcome.screenshot = Some(path);
                }
                Some(Err(e)) => {
                    body.push_str(&envelope::notice(&format!("the screenshot was not kept: {e}")));
                }
                None => {}
            }
        }
        if invocation.pictures && !picture.is_empty() && picture.len() <= PICTURE_BYTES {
            outcome.pictures.push(picture);
        }
        outcome.ok = true;
        outcome.envelope = envelope::result(call, &body);
        if !refused.is_empty() {
            outcome.envelope.push_str(&envelope::notice(&envelope::not_granted_to_pages(&refused)));
        }
        Ok(())
    }

    /// Starts the helper with its browser; the first action goes with the request.
    async fn open(
        &self,
        call: &ToolCall,
        invocation: &Invocation,
        limits: Limits,
        network: Network,
    ) -> Result<Browser, String> {
        let spec = invocation.workspace.sandbox();
        let program = browser::find(spec.browser.as_deref())?;
        let scratch = scratch().map_err(|e| format!("no temporary folder: {e}"))?;
        let mut gate = Gate::open(&network, self.dialer.clone())
            .map_err(|e| format!("no way to the network: {e}"))?;
        let refused = gate.as_ref().map(Gate::refused).unwrap_or_default();
        let mut read = spec.read.clone();
        read.extend(program.parent().map(std::path::Path::to_path_buf));
        let limits = Limits { wall_ms: BROWSER_SESSION_MS, ..limits };
        let sandbox = SandboxSpec {
            scratch: Some(scratch.path().to_owned()),
            browser: Some(program),
            network: network.clone(),
            sealed: self.sealed().of(invocation.workspace.root()),
            read,
            ..spec
        };
        let root = invocation.workspace.root();
        let request = Request::new(&call.name, call.params.clone(), root, limits.clone(), sandbox);
        let text = serde_json::to_vec(&request).map_err(|e| e.to_string())?;
        let failed =
            |e: std::io::Error| format!("{} cannot be started: {e}", self.helper.display());
        let way = gate.as_mut().and_then(Gate::take_descriptor);
        let mut child = spawn(&self.helper, way, Stdio::null()).map_err(failed)?;
        let live = Live::new(self.live.clone(), child.id());
        let group = self.group(&child, &limits);
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the helper has no pipes".into());
        };
        let mut serving = JoinSet::new();
        if let Some(gate) = gate {
            serving.spawn(async move { drop(gate.serve().await) });
        }
        let mut browser = Browser {
            child,
            stdin,
            stdout: BufReader::with_capacity(FRAME_BUFFER, stdout),
            network,
            refused,
            group,
            _gate: serving,
            _live: live,
            _scratch: scratch,
        };
        send(&mut browser.stdin, &text).await.map_err(|e| e.to_string())?;
        Ok(browser)
    }
}

impl Browser {
    /// Sends an action, unless it went with the request, and takes the answer.
    async fn exchange(
        &mut self,
        action: Option<&Map<String, Value>>,
    ) -> Result<(Report, Vec<u8>), String> {
        if let Some(action) = action {
            let text = serde_json::to_vec(action).map_err(|e| e.to_string())?;
            send(&mut self.stdin, &text).await.map_err(|e| format!("the browser is gone: {e}"))?;
        }
        let mut picture = Vec::new();
        loop {
            let next = frame(&mut self.stdout, MAX_FRAME_BYTES).await.map_err(|e| e.to_string())?;
            let Some((kind, payload)) = next else {
                let grace = Duration::from_millis(KILL_GRACE_MS);
                let _ = tokio::time::timeout(grace, self.child.wait()).await;
                return Err("the browser ended without an answer; launch it again".into());
            };
            match kind {
                FRAME_PICTURE => picture = payload,
                FRAME_REPORT => {
                    let report = serde_json::from_slice(&payload).map_err(|e| e.to_string())?;
                    return Ok((report, picture));
                }
                other => return Err(format!("the helper sent a frame of kind {other}")),
            }
        }
    }
}
