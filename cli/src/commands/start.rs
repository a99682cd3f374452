//! `lapce-ai start`

use lapce_ai_ipc::launch;
use lapce_ai_ipc::paths::Paths;

use super::args::Json;
use super::exit::Outcome;
use super::output::Output;
use super::session;

pub async fn run(json: Json, out: Output) -> Outcome {
    let paths = Paths::from_env();
    let before = launch::listener_pid(&paths);
    let client = session::engine().await?;
    let pid = client.status().await?.pid;
    let started = before != Some(pid);
    if json.json {
        return out.json(&serde_json::json!({"pid": pid, "started": started}));
    }
    let how = if started { "started" } else { "runs already" };
    out.line(&format!("the engine {how}: process {pid}"))
}
