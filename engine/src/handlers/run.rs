//! `Run`: to be written by its owner.

use std::sync::Arc;

use lapce_ai_ipc::wire::engine::{Run, RunReply};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{Cx, EngineProtocol};

use crate::state::Engine;

pub async fn handle(
    engine: &Arc<Engine>,
    request: Run,
    cx: &Cx<EngineProtocol>,
) -> Result<RunReply, WireError> {
    let _ = (engine, request, cx);
    Err(WireError::new(ErrorKind::Unsupported, "run is not there yet"))
}
