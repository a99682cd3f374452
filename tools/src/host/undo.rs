//! The undo journal: what a call changes is kept before, a command runs between two looks at
//! the workspace, and an undo is a change like any other. Used by [`super::ToolHost`].

use std::collections::BTreeMap;

use super::exchange::Gathered;
use super::{Invocation, Ledger, Outcome, ToolHost};
use crate::call::ToolCall;
use crate::envelope;
use crate::exec;
use crate::journal::{self, Expect, Journal, Selector};
use crate::limits::{Limits, SNAPSHOT_WALL_MS};
use crate::protocol::{BeforeHead, Report, Request, Seen};
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
        let name = format!("undo-{time:x}");
        let ledger = Ledger::expecting(&name, expected);
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
            let run = invocation.ledger.run();
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

    /// Puts a file's state into the undo journal.
    pub(super) fn keep_before(
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
            let (run, call) = (invocation.ledger.run(), &invocation.call);
            journal.before(run, &call.id, &call.name, &head, &payload[end + 1..])?;
            gathered.changed.push(head.path);
        }
        Ok(())
    }
}
