//! `Watch`: keep the index of a workspace up to date for as long as the client wants it.

use lapce_ai_ipc::wire::engine::{Reply, Watch};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{Cx, EngineProtocol};

use crate::state::Engine;
use crate::workspace::Root;

pub async fn handle(
    engine: &Engine,
    request: Watch,
    cx: &Cx<EngineProtocol>,
) -> Result<Reply, WireError> {
    let root = Root::open(&request.root)?;
    let mut watch = engine.index.watch(&root, engine.index_settings())?;
    loop {
        tokio::select! {
            event = watch.next() => {
                let Some(event) = event else {
                    let what = format!("{root} is no longer watched");
                    return Err(WireError::new(ErrorKind::NotFound, what));
                };
                if cx.emit(event).await.is_err() {
                    break;
                }
            }
            () = cx.cancelled().cancelled() => break,
        }
    }
    Ok(Reply::Done)
}
