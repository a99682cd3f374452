//! `Follow`: a client hears of everything in a workspace that waits for an answer, whoever
//! asked. While it does, the unsaved texts that it sends are kept.

use lapce_ai_ipc::wire::WireError;
use lapce_ai_ipc::wire::engine::Event;
use lapce_ai_ipc::{Cx, EngineProtocol};
use tokio::sync::broadcast::error::RecvError;

use crate::state::Engine;
use crate::workspace::Root;

pub async fn handle(engine: &Engine, root: &str, cx: &Cx<EngineProtocol>) -> Result<(), WireError> {
    let root = if root.is_empty() { String::new() } else { Root::open(root)?.to_string() };
    let _texts = engine.buffers.hold(&cx.peer().session);
    let mut changes = engine.approvals.changes();
    if all(engine, &root, cx).await.is_err() {
        return Ok(());
    }
    loop {
        let change = tokio::select! {
            change = changes.recv() => change,
            () = cx.cancelled().cancelled() => return Ok(()),
            () = engine.shutdown.cancelled() => return Ok(()),
        };
        let sent = match change {
            Ok(change) if root.is_empty() || change.root == root => {
                cx.emit(change.event).await.map_err(drop)
            }
            Ok(_) => Ok(()),
            Err(RecvError::Lagged(_)) => all(engine, &root, cx).await,
            Err(RecvError::Closed) => return Ok(()),
        };
        if sent.is_err() {
            return Ok(());
        }
    }
}

/// Everything that waits now.
async fn all(engine: &Engine, root: &str, cx: &Cx<EngineProtocol>) -> Result<(), ()> {
    for approval in engine.approvals.list(root) {
        cx.emit(Event::Approval(approval)).await.map_err(drop)?;
    }
    Ok(())
}
