//! `lapce-ai-tool --doctor`: which layers this system offers, found by running a command
//! that does nothing. Prints a JSON array.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use crate::cgroup::Cgroups;
use crate::limits::Limits;
use crate::protocol::{FRAME_REPORT, Report, Request};
use crate::sandbox::{LayerStatus, layer};
use crate::workspace::Workspace;

pub(crate) fn main() -> i32 {
    match probe() {
        Ok(report) => {
            let (mut active, mut absent) = (report.layers.clone(), report.absent.clone());
            // The host's part, with what it would find.
            match Cgroups::find().absent() {
                None => active.push(format!("{}-v2", layer::CGROUP)),
                Some(why) => absent.push((layer::CGROUP.into(), why.to_owned())),
            }
            let list = LayerStatus::list(&active, &absent);
            println!("{}", serde_json::to_string_pretty(&list).unwrap_or_default());
            if report.ok {
                0
            } else {
                eprintln!("{}", report.body);
                1
            }
        }
        Err(e) => {
            eprintln!("the sandbox cannot be tried: {e}");
            1
        }
    }
}

fn probe() -> std::io::Result<Report> {
    let folder = Workspace::scratch()?;
    let report = run_in(&folder);
    let _ = std::fs::remove_dir_all(&folder);
    report
}

fn run_in(folder: &std::path::Path) -> std::io::Result<Report> {
    let workspace = Workspace::new(folder)?;
    let mut params = serde_json::Map::new();
    params.insert("command".into(), ":".into());
    let (root, sandbox) = (workspace.root(), workspace.sandbox());
    let request = Request::new("execute_command", params, root, Limits::COMMAND, sandbox);
    let text = serde_json::to_vec(&request)?;
    let mut child = Command::new(std::env::current_exe()?)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    // The pipe stays open while the call runs: closing it cancels.
    let mut stdin = child.stdin.take().ok_or_else(|| std::io::Error::other("no pipe"))?;
    stdin.write_all(&(text.len() as u32).to_le_bytes())?;
    stdin.write_all(&text)?;
    let mut out = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_end(&mut out)?;
    }
    child.wait()?;
    let mut rest = out.as_slice();
    while let [kind, a, b, c, d, after @ ..] = rest {
        let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
        let Some(payload) = after.get(..length) else { break };
        if *kind == FRAME_REPORT {
            return serde_json::from_slice(payload).map_err(std::io::Error::other);
        }
        rest = &after[length..];
    }
    Err(std::io::Error::other("the helper ended without a report"))
}
