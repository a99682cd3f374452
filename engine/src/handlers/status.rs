//! `Status`: everything about this engine, its processes and its connections.

use std::sync::Arc;

use lapce_ai_ipc::wire::engine::Status;
use lapce_ai_ipc::wire::{ErrorKind, WireError};

use crate::state::Engine;

pub async fn handle(_engine: &Arc<Engine>) -> Result<Status, WireError> {
    Err(WireError::new(ErrorKind::Unsupported, "status is not there yet"))
}
