//! `Complete`: to be written by its owner.

use std::sync::Arc;

use lapce_ai_ipc::wire::engine::{Complete, CompleteReply};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{Cx, EngineProtocol};

use crate::state::Engine;

pub async fn handle(
    engine: &Arc<Engine>,
    request: Complete,
    cx: &Cx<EngineProtocol>,
) -> Result<CompleteReply, WireError> {
    let _ = (engine, request, cx);
    Err(WireError::new(ErrorKind::Unsupported, "complete is not there yet"))
}
