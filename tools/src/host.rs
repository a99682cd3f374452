//! Starts one `lapce-ai-tool` per call and gathers its result. Used by the engine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::call::ToolCall;
use crate::limits::Limits;
use crate::workspace::Workspace;

/// One call to run.
#[derive(Debug)]
pub struct Invocation {
    pub call: ToolCall,
    pub workspace: Workspace,
    /// `None` takes the tool's own.
    pub limits: Option<Limits>,
    pub cancel: CancellationToken,
    /// Live output of commands; chunks are dropped while the receiver is full.
    pub on_output: Option<mpsc::Sender<String>>,
    /// Files the run has read, see [`Ledger`]; share one per run.
    pub ledger: Ledger,
    /// Unsaved text of the user's editor, by workspace-relative path.
    pub buffers: BTreeMap<String, String>,
}

/// What a run knows about the files it has read; cheap to clone, shared.
#[derive(Debug, Clone, Default)]
pub struct Ledger {}

/// How a call ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What the model is given.
    pub envelope: String,
    pub ok: bool,
    pub wall: Duration,
    /// Sandbox layers that were active.
    pub layers: Vec<String>,
    /// Layers that were not, each with the reason.
    pub absent: Vec<(String, String)>,
    /// The limit that stopped the call, in words, or empty.
    pub limit_hit: String,
    /// Name under which the whole output is kept.
    pub artefact: Option<String>,
}

/// Starts helpers; one per engine, shared by reference.
#[derive(Debug)]
pub struct ToolHost {
    helper: PathBuf,
}

impl ToolHost {
    /// `helper` is the path of `lapce-ai-tool`.
    pub fn new(helper: PathBuf) -> Self {
        Self { helper }
    }

    pub async fn run(&self, invocation: Invocation) -> Outcome {
        let _ = &self.helper;
        Outcome {
            envelope: crate::envelope::error(&invocation.call, "the launcher is not built yet"),
            ok: false,
            wall: Duration::ZERO,
            layers: Vec::new(),
            absent: Vec::new(),
            limit_hit: String::new(),
            artefact: None,
        }
    }

    /// Live helpers, for `status`.
    pub fn pids(&self) -> Vec<u32> {
        Vec::new()
    }
}
