//! The undo journal: what a call changes is kept before, a command runs between two looks at
//! the workspace, and an undo is a change like any other. Used by [`super::ToolHost`].

use std::path::Path;

use super::exchange::Gathered;
use super::{Invocation, Ledger, Outcome, ToolHost};
use crate::artefact;
use crate::call::ToolCall;
use crate::closed::Closed;
use crate::envelope;
use crate::exec;
use crate::journal::{self, Journal, Selector};
use crate::limits::{Limits, SNAPSHOT_WALL_MS};
use crate::protocol::{BeforeHead, Report};
use crate::workspace::Workspace;

/// How an undo ended.
#[derive(Debug, Clone)]
pub struct Undone {
    pub ok: bool,
    /// What was put back, or why nothing was.
    pub text: String,
    /// The name under which the undo itself can be undone.
    pub run: String,
}

/// A command's look at the workspace before it began. Dropped, it is forgotten.
#[derive(Debug)]
pub(super) struct Before {
    journal: Journal,
    /// Its file in the journal's folder.
    name: String,
    since_ms: u64,
    background: bool,
    workspace: Workspace,
    run: String,
    call: String,
}

impl Before {
    /// Spares the next command the reading of what is as it was.
    fn hand_on(self) {
        let folder = self.journal.dir();
        let _ = std::fs::rename(folder.join(&self.name), folder.join(journal::SNAPSHOT));
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.journal.dir().join(&self.name));
    }
}

impl ToolHost {
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
                let run = ledger.run().to_owned();
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
        let mut files = Vec::new();
        for restore in restores {
            let change = restore.change;
            let content = if change.existed {
                journal.content(&change.hash).map_err(failed)?
            } else {
                Vec::new()
            };
            files.push(serde_json::json!({
                "path": change.path, "existed": change.existed, "mode": change.mode,
                "expect": restore.expect, "hex": exec::restore::to_hex(&content),
            }));
        }
        let name = format!("undo-{time:x}");
        let ledger = Ledger::for_run(&name);
        Ok((ToolCall::new(name, exec::restore::NAME).with("files", files), ledger))
    }

    /// Runs a command between a look at the workspace and another, so that what it changed
    /// can be undone.
    pub(super) async fn run_undoable(
        &self,
        call: &ToolCall,
        invocation: &Invocation,
        limits: Limits,
        outcome: &mut Outcome,
    ) {
        let before = self.look(call, invocation).await;
        self.run_helper(call, invocation, limits, outcome).await;
        if let Some(before) = before {
            let lost = self.note_changes(&before, false).await;
            outcome.envelope.extend(lost.iter().map(|what| envelope::not_undoable(what)));
            before.hand_on();
        }
    }

    /// The state of the workspace's files before a command.
    pub(super) async fn look(&self, call: &ToolCall, invocation: &Invocation) -> Option<Before> {
        let root = invocation.workspace.root();
        let journal = Journal::open(self.state.as_deref()?, root).ok()?;
        let before = Before {
            name: format!("{}{}.bin", journal::SNAPSHOT_OF, artefact::fresh()),
            since_ms: journal::now_ms(),
            background: call.flag("background"),
            workspace: invocation.workspace.clone(),
            run: invocation.ledger.run().to_owned(),
            call: call.id.clone(),
            journal,
        };
        self.order(exec::snapshot::TAKE, &before, &[("into", &before.name)]).await?;
        Some(before)
    }

    /// Puts what changed since that look into the journal; with `again`, the next such look
    /// begins where this one ends. Gives what cannot be undone.
    pub(super) async fn note_changes(&self, before: &Before, again: bool) -> Option<String> {
        let name = before.name.as_str();
        let params = [("was", name), ("into", name)];
        let params = if again { &params[..] } else { &params[..1] };
        let journal = &before.journal;
        // Until they are in the log nothing else may name the contents.
        let _held = journal::hold(journal.dir()).ok()?;
        let mut report = self.order(exec::snapshot::DIFF, before, params).await?;
        if before.background && !report.changed.is_empty() {
            // Other calls write while it goes on; what they did is theirs.
            let theirs = journal.left_by_others(before.since_ms, &before.run, &before.call);
            let theirs = theirs.unwrap_or_default();
            report.changed.retain(|c| theirs.get(&c.path) != Some(&c.after));
        }
        if !report.changed.is_empty()
            && let Err(e) = journal.command(&before.run, &before.call, &report.changed)
        {
            return Some(e.to_string());
        }
        (!report.body.is_empty()).then(|| report.body.replace('\n', ", "))
    }

    /// An order of the host's own, fenced like a file tool with the journal besides. Not
    /// cancelled with the call: after a cancelled command it is wanted most.
    async fn order(&self, name: &str, of: &Before, params: &[(&str, &str)]) -> Option<Report> {
        let folder = of.journal.dir();
        let mut call = ToolCall::new(name, name).with("journal", folder.to_str()?);
        for (name, value) in params {
            call = call.with(name, *value);
        }
        let invocation =
            Invocation::new(call, of.workspace.clone().closed(Closed::default()).writable(folder));
        let limits = Limits {
            file_bytes: Limits::COMMAND.file_bytes,
            wall_ms: SNAPSHOT_WALL_MS,
            ..Limits::COMMAND
        };
        let mut outcome = Outcome::empty();
        let report = self.run_helper(&invocation.call, &invocation, limits, &mut outcome).await;
        report.filter(|r| r.ok)
    }

    /// Puts a file's state into the undo journal.
    pub(super) fn keep_before(
        &self,
        payload: &[u8],
        gathered: &mut Gathered,
        root: &Path,
        invocation: &Invocation,
    ) -> std::io::Result<()> {
        let Some(state) = &self.state else { return Ok(()) };
        let end = payload
            .iter()
            .position(|b| *b == b'\n')
            .ok_or_else(|| std::io::Error::other("no head"))?;
        let head: BeforeHead = serde_json::from_slice(&payload[..end])?;
        if gathered.journal.is_none() {
            gathered.journal = Some(Journal::open(state, root)?);
        }
        if let Some(journal) = &gathered.journal {
            let (run, call) = (invocation.ledger.run(), &invocation.call);
            journal.before(run, &call.id, &call.name, &head, &payload[end + 1..])?;
            gathered.changed.push(head.path);
        }
        Ok(())
    }
}
