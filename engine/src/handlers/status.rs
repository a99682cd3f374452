//! `Status`: everything about this engine, its processes and its connections.

use std::path::Path;

use lapce_ai_ipc::wire::engine::{ProcessInfo, ProcessRole, Status};

use crate::lifecycle::VERSION;
use crate::process::memory;
use crate::state::Engine;

pub fn handle(engine: &Engine) -> Status {
    let connections = engine.connections.snapshot();
    let mut processes = vec![process(ProcessRole::Engine, "lapce-ai-engine", std::process::id())];
    for index in engine.index.processes() {
        processes.push(match index.root {
            None => process(ProcessRole::IndexWorker, "lapce-ai-index worker", index.pid),
            Some(root) => {
                let name = format!("lapce-ai-index build {}", last_name(root.path()));
                process(ProcessRole::IndexBuild, &name, index.pid)
            }
        });
    }
    let tools = engine.tool_pids();
    processes.extend(tools.into_iter().map(|pid| process(ProcessRole::Tool, "lapce-ai-tool", pid)));
    if let Some(pid) = engine.index.embedder_pid() {
        processes.push(process(ProcessRole::Tool, "lapce-ai-tool embed", pid));
    }
    for (name, pid) in engine.mcp.processes() {
        processes.push(process(ProcessRole::Tool, &format!("lapce-ai-tool mcp {name}"), pid));
    }
    for connection in &connections {
        // One process may hold several connections.
        if !processes.iter().any(|known| known.pid == connection.pid) {
            processes.push(process(ProcessRole::Client, &connection.client, connection.pid));
        }
    }
    let models = models(engine);
    Status {
        version: VERSION.to_owned(),
        pid: std::process::id(),
        uptime_ms: u64::try_from(engine.stats.uptime().as_millis()).unwrap_or(u64::MAX),
        started_at_ms: engine.stats.started_at_ms,
        connections,
        processes,
        indexes: engine.index.list(),
        active_runs: engine.runs.active(),
        log_file: engine.log_file.display().to_string(),
        chat_model: models.chat,
        completion_model: models.complete,
        model_hint: models.hint,
        embedder: models.embedder,
        requests: engine.stats.requests(),
        tools: engine.metrics.list(),
        mcp: engine.config.get().map(|c| super::mcp::list(engine, &c, None)).unwrap_or_default(),
    }
}

struct Models {
    chat: String,
    complete: String,
    hint: String,
    embedder: String,
}

/// What the configuration says; a broken one is the hint. Touches no network.
fn models(engine: &Engine) -> Models {
    match engine.config.get() {
        Ok(config) => {
            let (chat, hint) = engine.providers.describe_chat(&config);
            let embedder = &config.index.embedder;
            let embedder = match embedder.split_once('/').map(|(p, _)| config.providers.get(p)) {
                Some(Some(provider)) => format!("{embedder} at {}", provider.base_url),
                _ => embedder.clone(),
            };
            Models { chat, complete: config.complete.clone(), hint, embedder }
        }
        Err(error) => Models {
            chat: String::new(),
            complete: String::new(),
            embedder: String::new(),
            hint: format!("{}; {}", error.message, error.hint),
        },
    }
}

fn process(role: ProcessRole, name: &str, pid: u32) -> ProcessInfo {
    ProcessInfo { role, name: name.to_owned(), pid, memory: memory(pid) }
}

fn last_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
