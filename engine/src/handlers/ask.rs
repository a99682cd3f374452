//! `Ask`: to be written by its owner.

use std::sync::Arc;

use lapce_ai_ipc::wire::engine::{Ask, AskReply};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{Cx, EngineProtocol};

use crate::state::Engine;

pub async fn handle(
    engine: &Arc<Engine>,
    request: Ask,
    cx: &Cx<EngineProtocol>,
) -> Result<AskReply, WireError> {
    let _ = (engine, request, cx);
    Err(WireError::new(ErrorKind::Unsupported, "ask is not there yet"))
}
