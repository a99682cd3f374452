//! `lapce-ai status`

use lapce_ai_ipc::wire::engine::{IndexInfo, ProcessRole, Status, WatchState};

use super::args::Json;
use super::exit::Outcome;
use super::output::{Output, Style, count, duration, kib, printable};
use super::session;

pub async fn run(json: Json, out: Output) -> Outcome {
    let Some(status) = read(json, out).await? else { return Ok(()) };
    if json.json {
        let mut value = serde_json::to_value(&status).map_err(std::io::Error::from)?;
        value["running"] = true.into();
        return out.json(&value);
    }
    for line in render(&status, out) {
        out.line(&line)?;
    }
    Ok(())
}

/// The status of the engine that runs; when none does, says so and gives nothing.
pub async fn read(json: Json, out: Output) -> Outcome<Option<Status>> {
    match session::running_engine().await? {
        Some(client) => Ok(Some(client.status().await?)),
        None if json.json => out.json(&serde_json::json!({"running": false})).map(|()| None),
        None => out
            .line("no engine is running; it starts with the next command that needs it")
            .map(|()| None),
    }
}

fn render(status: &Status, out: Output) -> Vec<String> {
    let strong = |text: &str| out.paint(Style::Strong, text);
    let mut lines = vec![
        format!(
            "{} {}, process {}, up {}, {}",
            strong("engine"),
            status.version,
            status.pid,
            duration(status.uptime_ms),
            count(status.requests, "request"),
        ),
        format!("{}    {}", strong("log"), status.log_file),
        format!("{}  {}", strong("model"), model(status)),
    ];
    if !status.completion_model.is_empty() {
        lines.push(format!("{}  {}", strong("ghost"), status.completion_model));
    }
    lines.push(String::new());
    lines.push(out.paint(
        Style::Strong,
        &format!(
            "{:<34} {:>8} {:>9} {:>9} {:>9}",
            "process", "pid", "resident", "share", "private"
        ),
    ));
    for process in &status.processes {
        let memory = process.memory;
        let name = match process.role {
            ProcessRole::Client => format!("{} (client)", process.name),
            _ => process.name.clone(),
        };
        lines.push(format!(
            "{name:<34} {:>8} {:>9} {:>9} {:>9}",
            process.pid,
            kib(memory.rss_kib),
            kib(memory.pss_kib),
            kib(memory.private_dirty_kib),
        ));
    }
    if !status.indexes.is_empty() {
        lines.push(String::new());
        lines.push(strong("indexes"));
    }
    for index in &status.indexes {
        lines.push(format!("  {}: {}", index.root, describe(index)));
    }
    if !status.mcp.is_empty() {
        lines.push(String::new());
        lines.push(strong("MCP servers"));
    }
    for server in &status.mcp {
        lines.push(format!(
            "  {}: {}, {}",
            server.name,
            server.state,
            count(server.tools.len() as u64, "tool")
        ));
    }
    if !status.active_runs.is_empty() {
        lines.push(String::new());
        lines.push(format!("{}  {}", strong("runs"), status.active_runs.join(", ")));
    }
    lines
}

/// `912 files, 4,711 chunks, 31 MB, watching main, up to date, changed 3 min ago`
fn describe(index: &IndexInfo) -> String {
    let mut parts = vec![count(index.files, "file"), count(index.chunks, "chunk")];
    if index.disk_bytes > 0 {
        parts.push(kib(index.disk_bytes / 1024));
    }
    let how = match index.watch {
        WatchState::Off => "",
        WatchState::Watching => "watching",
        WatchState::Scanning => "scanning",
    };
    if !how.is_empty() {
        parts.push(format!("{how} {}", printable(&index.head)).trim_end().to_owned());
    }
    match (index.building, index.behind) {
        (true, 0) => parts.push("building".to_owned()),
        (true, n) => parts.push(format!("building: {} to go", count(n, "file"))),
        (false, 0) if how.is_empty() => {}
        (false, 0) => parts.push("up to date".to_owned()),
        (false, n) => parts.push(format!("behind by {}", count(n, "file"))),
    }
    if how.is_empty() && index.built_at > 0 {
        parts.push(format!("built {}", ago(index.built_at)));
    }
    if index.changed_at > 0 {
        parts.push(format!("changed {}", ago(index.changed_at)));
    }
    parts.join(", ")
}

fn model(status: &Status) -> String {
    if status.chat_model.is_empty() {
        format!("none; {}", status.model_hint)
    } else {
        status.chat_model.clone()
    }
}

/// How long ago a Unix time was.
pub fn ago(at: u64) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    match now.saturating_sub(at) {
        s @ 0..120 => format!("{s} s ago"),
        s @ 120..7200 => format!("{} min ago", s / 60),
        s @ 7200..172_800 => format!("{} h ago", s / 3600),
        s => format!("{} days ago", s / 86_400),
    }
}
