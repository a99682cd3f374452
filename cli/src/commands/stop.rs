//! `lapce-ai stop`
//!
//! Asks first; an engine of another version, or one that does not answer, is told by signal.
//! The kernel says who listens on the socket, so no stale number can hit someone else.

use std::time::{Duration, Instant};

use lapce_ai_ipc::EngineClient;
use lapce_ai_ipc::launch::{self, LaunchError};
use lapce_ai_ipc::paths::Paths;

use super::args::Json;
use super::exit::{Code, Failure, Outcome};
use super::output::Output;
use super::session;

/// How long an engine gets for an orderly end, and then after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);

pub async fn run(json: Json, out: Output) -> Outcome {
    let paths = Paths::from_env();
    let Some(pid) = launch::listener_pid(&paths) else {
        return say(json, out, false, "no engine is running");
    };
    match tokio::time::timeout(PATIENCE, ask(&paths)).await {
        Ok(Ok(())) if ended(pid, PATIENCE).await => return say(json, out, true, "stopped"),
        Ok(Err(LaunchError::NotRunning)) => return say(json, out, false, "no engine is running"),
        // Other version, hung, or slow: a signal works for each.
        _ => {}
    }
    for (signal, name) in [(libc::SIGTERM, "SIGTERM"), (libc::SIGKILL, "SIGKILL")] {
        if launch::listener_pid(&paths) == Some(pid) {
            send(pid, signal);
        }
        if ended(pid, PATIENCE).await {
            return say(json, out, true, &format!("stopped by {name}"));
        }
    }
    let message = format!("the engine (process {pid}) does not end");
    Err(Failure::new(Code::Failed, message, format!("look at it with `ps {pid}`")))
}

async fn ask(paths: &Paths) -> Result<(), LaunchError> {
    let client = EngineClient(launch::connect(paths, session::ident()).await?);
    // A lost connection is what we ask for.
    let _ = client.stop().await;
    Ok(())
}

fn say(json: Json, out: Output, was_running: bool, text: &str) -> Outcome {
    if json.json {
        out.json(&serde_json::json!({"stopped": was_running, "message": text}))
    } else {
        out.line(text)
    }
}

fn send(pid: u32, signal: i32) {
    if let Ok(pid) = i32::try_from(pid)
        && pid > 1
    {
        // SAFETY: kill touches no memory.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Waits until the process is gone.
async fn ended(pid: u32, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while alive(pid) {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}

fn alive(pid: u32) -> bool {
    // A zombie nobody has reaped yet is gone for us.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with(['Z', 'X']))
    })
}
