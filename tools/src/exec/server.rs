//! An MCP server in the fence: one program for a long time, on the helper's own pipes.
//!
//! The report with the layers goes out first, as a frame; from then on the helper's
//! standard input and output are the server's. This process stays beside the server,
//! keeps the limits that the kernel does not keep, and ends whatever the server left.

use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::command::{self, Watch};
use super::output;
use crate::envelope;
use crate::limits::SERVER_WATCH_INTERVAL_MS;
use crate::protocol::{Report, Request, exit};
use crate::sandbox::sys::{self, Ended};
use crate::sandbox::{Layers, layer};

/// How a request names this instead of a tool.
pub(crate) const NAME: &str = "mcp_server";

/// Runs the server to its end. Returns the helper's exit code.
pub(crate) fn run(request: &Request, layers: Layers, hidden: Vec<String>) -> i32 {
    let viewed = layers.has(layer::MOUNT);
    let pid_ns = layers.has(layer::PID);
    let plan = plan(request, &layers);
    let (layers, absent) = (layers.active, layers.absent);
    let mut report = Report { layers, absent, hidden, ..Report::default() };
    match &plan {
        Ok(_) => report.ok = true,
        Err(problem) => report.body.clone_from(problem),
    }
    if output::report(&report).is_err() {
        return exit::CANCELLED;
    }
    let Ok(mut plan) = plan else { return 0 };
    if !viewed && let Some(scratch) = &request.sandbox.scratch {
        plan.folder.clone_from(scratch);
    }
    if !pid_ns {
        let _ = sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0);
    }
    let watch = Watch::new(request, pid_ns);
    match sys::fork_to_exec(&|| plan.become_server()) {
        Ok(pid) => stay(&watch.of(pid)),
        Err(e) => {
            eprintln!("no process could be made for the server: {e}");
            1
        }
    }
}

/// Waits for the server to end, or for a limit.
fn stay(watch: &Watch<'_>) -> i32 {
    let Ok(child) = sys::pidfd_open(watch.processes().pid) else {
        eprintln!("the server cannot be watched");
        return 1;
    };
    let interval = Duration::from_millis(SERVER_WATCH_INTERVAL_MS);
    let mut next_look = Instant::now() + interval;
    let limit = loop {
        let wait = next_look.saturating_duration_since(Instant::now()).as_millis() as i32 + 1;
        match sys::poll(&[(child.as_raw_fd(), libc::POLLIN)], wait) {
            Ok(events) if events[0] != 0 => break None,
            Ok(_) => {}
            Err(_) => break None,
        }
        if Instant::now() >= next_look {
            if let Some(limit) = watch.look() {
                break Some(limit);
            }
            next_look = Instant::now() + interval;
        }
    };
    let ended = watch.processes().end();
    if let Some(limit) = limit {
        eprintln!("{}", envelope::limit(&limit));
        return exit::LIMIT;
    }
    match ended {
        Some(Ended::Exit(code)) => code,
        Some(Ended::Signal(signal)) => {
            eprintln!("ended by signal {signal}");
            128 + signal
        }
        None => exit::KILLED,
    }
}

/// What the forked process turns into.
struct Plan {
    program: CString,
    args: Vec<CString>,
    env: Vec<CString>,
    /// Empty and private: nothing that lies in a workspace is found beside the program.
    folder: PathBuf,
}

impl Plan {
    fn become_server(&self) -> ! {
        sys::setsid();
        let _ = sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0);
        let failed = || -> std::io::Result<std::io::Error> {
            sys::close_from(3)?;
            std::env::set_current_dir(&self.folder)?;
            sys::reset_signals();
            Ok(sys::exec(&self.program, &self.args, &self.env))
        };
        let (Ok(error) | Err(error)) = failed();
        eprintln!("{} could not be started: {error}", self.program.to_string_lossy());
        sys::exit_now(127)
    }
}

fn plan(request: &Request, layers: &Layers) -> Result<Plan, String> {
    let name = request.params.get("command").and_then(|v| v.as_str()).unwrap_or_default();
    let cstring = |text: &str| {
        CString::new(text).map_err(|_| "the server's command has a NUL character".to_owned())
    };
    let path = request.sandbox.env.iter().find(|(n, _)| n == "PATH").map_or("", |(_, v)| v);
    let program = find(name, path)?;
    let shown = program.to_str().ok_or("the server's path is not valid UTF-8")?;
    let mut args = vec![cstring(shown)?];
    for arg in request.params.get("args").and_then(|v| v.as_array()).into_iter().flatten() {
        args.push(cstring(arg.as_str().unwrap_or_default())?);
    }
    let env = command::environment(request, layers, false)?;
    Ok(Plan { program: cstring(shown)?, args, env, folder: "/tmp".into() })
}

/// The program, as it can be reached from inside the fence.
fn find(name: &str, path: &str) -> Result<PathBuf, String> {
    let runs = |file: &Path| {
        file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        let file = PathBuf::from(name);
        return if file.is_absolute() && runs(&file) {
            Ok(file)
        } else {
            Err(format!(
                "{name} is not a program that can be reached from the sandbox; name the folder it \
                 lies in under `read`"
            ))
        };
    }
    std::env::split_paths(path).map(|folder| folder.join(name)).find(|file| runs(file)).ok_or_else(
        || {
            format!(
                "the program {name} was not found in the folders that the sandbox shows ({path}); \
                 install it, or give its absolute path and name its folder under `read`"
            )
        },
    )
}
