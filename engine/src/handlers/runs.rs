//! `Runs` and `PastRun`: the agent runs on record.

use std::sync::Arc;

use lapce_ai_ipc::wire::WireError;
use lapce_ai_ipc::wire::engine::{PastRun, RunInfo};

use crate::past;
use crate::state::Engine;
use crate::workspace::Root;

pub async fn list(engine: &Arc<Engine>, root: &str) -> Result<Vec<RunInfo>, WireError> {
    let root = if root.is_empty() { String::new() } else { Root::open(root)?.to_string() };
    past::list(engine, root).await
}

pub async fn show(engine: &Arc<Engine>, run: String) -> Result<PastRun, WireError> {
    past::show(engine, run).await
}
