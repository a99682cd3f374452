//! `IndexBuild`: bring a workspace's index up to date, relaying progress.

use lapce_ai_ipc::wire::engine::{BuildReport, IndexBuild};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{Cx, EngineProtocol};
use tokio::sync::mpsc;

use crate::limits;
use crate::state::Engine;
use crate::workspace::Root;

pub async fn handle(
    engine: &Engine,
    request: IndexBuild,
    cx: &Cx<EngineProtocol>,
) -> Result<BuildReport, WireError> {
    let root = Root::open(&request.root)?;
    let (sender, mut events) = mpsc::channel(limits::BUILD_EVENTS);
    let build = engine.index.build(&root, request.force, engine.index_settings(), sender);
    tokio::pin!(build);
    loop {
        tokio::select! {
            report = &mut build => {
                // What was said last is still in the channel.
                while let Ok(event) = events.try_recv() {
                    let _ = cx.emit(event).await;
                }
                return report;
            }
            Some(event) = events.recv() => {
                if cx.emit(event).await.is_err() {
                    break;
                }
            }
            () = cx.cancelled().cancelled() => break,
        }
    }
    Err(WireError::new(ErrorKind::Cancelled, format!("indexing of {root} was cancelled")))
}
