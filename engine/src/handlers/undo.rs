//! `Undo` and `Undoable`: take back what tools changed, from the journal beside the logs.

use lapce_ai_ipc::wire::engine::{self, Undo, UndoReply, UndoWhat};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_tools::journal::Selector;
use lapce_ai_tools::workspace::Workspace;

use crate::limits;
use crate::state::Engine;
use crate::workspace::Root;

pub async fn handle(engine: &Engine, request: Undo) -> Result<UndoReply, WireError> {
    let workspace = workspace(&Root::open(&request.root)?)?;
    let selector = match request.what {
        UndoWhat::Last => Selector::Last,
        UndoWhat::Run(run) => Selector::Run(run),
        UndoWhat::Call(call) => Selector::Call(call),
    };
    let undone = engine.tools()?.undo(&workspace, &selector).await;
    Ok(UndoReply { ok: undone.ok, text: undone.text, run: undone.run })
}

/// The calls that can be taken back, newest first.
pub fn list(engine: &Engine, root: &str) -> Result<Vec<engine::Undoable>, WireError> {
    let root = Root::open(root)?;
    let mut calls = engine.tools()?.undoable(&workspace(&root)?).map_err(|error| {
        let what = format!("the journal of {root} cannot be read: {error}");
        WireError::new(ErrorKind::Unavailable, what)
    })?;
    calls.sort_by_key(|call| std::cmp::Reverse(call.at_ms));
    calls.truncate(limits::UNDOABLE_LISTED);
    Ok(calls
        .into_iter()
        .map(|call| engine::Undoable {
            run: call.run,
            call: call.call,
            tool: call.tool,
            at_ms: call.at_ms,
            files: call.files,
        })
        .collect())
}

fn workspace(root: &Root) -> Result<Workspace, WireError> {
    Workspace::new(root.path()).map_err(|error| {
        WireError::new(ErrorKind::Denied, format!("{root} cannot be a workspace: {error}"))
    })
}
