//! `Tool`: one tool call for a user or a client, under the same policy as the agent's.

use std::sync::Arc;

use lapce_ai_ipc::wire::engine::{ToolCall, ToolReply};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{Cx, EngineProtocol};

use crate::state::Engine;

pub async fn handle(
    _engine: &Arc<Engine>,
    _request: ToolCall,
    _cx: &Cx<EngineProtocol>,
) -> Result<ToolReply, WireError> {
    Err(WireError::new(ErrorKind::Unsupported, "tools are not there yet"))
}
