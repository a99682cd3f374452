//! What runs in `lapce-ai-tool`: the supervisor, and behind it the tools themselves.
//!
//! [`main`] reads one request, leaves the host's namespaces and forks. The child puts up
//! the rest of the fence and runs the call; the parent, with no more than two pipes and
//! the child's number, keeps the time and ends everything when the host goes away.

mod artefact;
mod browser;
mod command;
mod denied;
mod doctor;
mod files;
pub(crate) mod guard;
mod hidden;
mod ignored;
mod list;
pub(crate) mod notes;
pub(crate) mod outline;
mod output;
mod patch;
mod problems;
mod processes;
mod read;
pub(crate) mod restore;
pub(crate) mod safe_fs;
mod search;
pub mod secrets;
pub(crate) mod server;
pub(crate) mod snapshot;
mod write;

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd};
use std::time::{Duration, Instant};

use crate::limits::{MAX_REQUEST_BYTES, SERVER_GRACE_MS};
use crate::protocol::{Report, Request, exit};
use crate::sandbox::sys::{self, Ended, Fork};
use crate::sandbox::{self, Fence as _, Layers, Needs, Profile, namespaces};

/// How much later than the tool's own clock the supervisor's strikes.
const SUPERVISOR_GRACE: Duration = Duration::from_millis(500);

/// The whole program. Returns its exit code.
pub fn main() -> i32 {
    match std::env::args().nth(1).as_deref() {
        None => serve(3),
        // The host put a socket there for the listeners of a granted network.
        Some("--net") => serve(4),
        Some("--version") => {
            println!("lapce-ai-tool {}", env!("CARGO_PKG_VERSION"));
            0
        }
        Some("--doctor") => doctor::main(),
        Some(_) => {
            eprintln!(
                "lapce-ai-tool runs one tool call for the engine; by hand, use `lapce-ai tool run` \
                 or `lapce-ai-tool --doctor`"
            );
            2
        }
    }
}

/// One call: request in, frames out. Descriptors from `first` on are nobody's.
fn serve(first: u32) -> i32 {
    // Whatever the host had open is none of a tool's business. One that died before the signal
    // of its death was asked for has left the end of its pipe.
    let ends_with_host = sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0);
    if ends_with_host.is_err() || sys::close_from(first).is_err() {
        return exit::BAD_REQUEST;
    }
    sys::setsid();
    let request = match read_request() {
        Ok(request) => request,
        Err(e) => {
            let error = format!("the request could not be read: {e}");
            let _ = output::report(&Report { body: error, ..Report::default() });
            return exit::BAD_REQUEST;
        }
    };
    let mut layers = Layers::default();
    namespaces::enter(&request.sandbox, &mut layers);
    // Orphans of the call come to this process, so that it can end them.
    let _ = sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0);
    match sys::fork() {
        Ok(Fork::Child) => {
            let _ = sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0);
            sys::exit_now(child(&request, layers))
        }
        Ok(Fork::Parent(pid)) => {
            let _ = sys::prctl(libc::PR_SET_DUMPABLE, 0, 0);
            // The call's way to the network is not this process's.
            let _ = sys::close_from(3);
            supervise(pid, &request)
        }
        Err(e) => {
            let error = format!("no process could be made for the call: {e}");
            let _ = output::report(&Report { body: error, ..Report::default() });
            1
        }
    }
}

fn read_request() -> io::Result<Request> {
    // Without a buffer: what follows the request belongs to others.
    let mut stdin = std::fs::File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut length = [0; 4];
    stdin.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_REQUEST_BYTES {
        return Err(io::Error::other(format!("it is {length} bytes long")));
    }
    let mut text = vec![0; length];
    stdin.read_exact(&mut text)?;
    serde_json::from_slice(&text).map_err(io::Error::other)
}

/// Waits for the child, the clock, or the host's end of the pipe; then makes sure that
/// nothing of the call is left.
fn supervise(pid: libc::pid_t, request: &Request) -> i32 {
    let server = request.tool == server::NAME;
    let wall = Duration::from_millis(request.limits.wall_ms) + SUPERVISOR_GRACE;
    let mut deadline = (!server).then(|| Instant::now() + wall);
    let mut closed = false;
    let code = match sys::pidfd_open(pid) {
        Err(_) => None,
        Ok(child) => loop {
            let left = deadline
                .map_or(Duration::from_mins(1), |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break Some(if closed { exit::CANCELLED } else { exit::WALL });
            }
            // The host's pipe may hold answers for the child; only its end matters here.
            let host = if closed { -1 } else { 0 };
            let fds = [(child.as_raw_fd(), libc::POLLIN), (host, 0)];
            let wait = left.as_millis().min(60_000) as i32 + 1;
            match sys::poll(&fds, wait) {
                Ok(events) if events[0] != 0 => break None,
                Ok(events) if events[1] != 0 && server => {
                    // A server sees the end of its input and may still put things in order.
                    closed = true;
                    deadline = Some(Instant::now() + Duration::from_millis(SERVER_GRACE_MS));
                }
                Ok(events) if events[1] != 0 => break Some(exit::CANCELLED),
                Ok(_) => {}
                Err(_) => break Some(exit::CANCELLED),
            }
        },
    };
    if code.is_some() {
        let _ = sys::kill(pid, libc::SIGKILL);
    }
    let ended = sys::reap(pid, true);
    end_orphans();
    match (code, ended) {
        (Some(code), _) | (None, Some((_, Ended::Exit(code)))) => code,
        (None, _) => exit::KILLED,
    }
}

/// Kills and reaps every process that came to this one, until there is none. With a
/// pid namespace there is none from the start.
fn end_orphans() {
    let me = sys::getpid();
    for _ in 0..1_000 {
        // Whatever has lost its parent is a child of this process by now.
        if !sys::has_children() {
            return;
        }
        let mut found = false;
        for pid in descendants(me) {
            found = true;
            let _ = sys::kill(pid, libc::SIGKILL);
        }
        while sys::reap(-1, false).is_some() {}
        if !found {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The processes below `top`, as `/proc` shows them.
fn descendants(top: libc::pid_t) -> Vec<libc::pid_t> {
    let mut below = vec![top];
    let mut at = 0;
    while at < below.len() {
        // The kernel's own list of children is quicker than a look at every process.
        match children(below[at]) {
            Some(children) => below.extend(children),
            None if at == 0 => return descendants_by_parent(top),
            // Gone meanwhile; its children have come to this process.
            None => {}
        }
        at += 1;
    }
    below.split_off(1)
}

/// The children of every thread of `pid`.
fn children(pid: libc::pid_t) -> Option<Vec<libc::pid_t>> {
    let mut all = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let list = std::fs::read_to_string(thread.path().join("children")).ok()?;
        all.extend(list.split_whitespace().filter_map(|p| p.parse::<libc::pid_t>().ok()));
    }
    Some(all)
}

/// As [`descendants`], for kernels without lists of children.
fn descendants_by_parent(top: libc::pid_t) -> Vec<libc::pid_t> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<libc::pid_t>().ok())
        else {
            continue;
        };
        // The name may hold anything, so the fields are counted from its closing bracket.
        let parent = std::fs::read_to_string(entry.path().join("stat")).ok().and_then(|stat| {
            stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<libc::pid_t>().ok()
        });
        if let Some(parent) = parent {
            parents.push((pid, parent));
        }
    }
    let mut below = vec![top];
    let mut at = 0;
    while at < below.len() {
        let parent = below[at];
        below.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    below.split_off(1)
}

/// The process that runs the call. Returns the helper's exit code.
fn child(request: &Request, mut layers: Layers) -> i32 {
    // Nobody of this user may look into the process that holds the pipes.
    let _ = sys::prctl(libc::PR_SET_DUMPABLE, 0, 0);
    let server = request.tool == server::NAME;
    let command = request.tool == "execute_command" || server;
    let browser = request.tool == browser::NAME;
    let programs = command || browser;
    let hidden = if programs {
        let spec = &request.sandbox;
        hidden::find(&request.root, &spec.show, spec.hide_ignored, &spec.sealed)
    } else {
        Ok(hidden::Hidden::default())
    };
    let hidden = match hidden {
        Ok(hidden) => hidden,
        Err(body) => {
            let _ = output::report(&Report { body, ..Report::default() });
            return 0;
        }
    };
    let denied = if programs {
        denied::find(&request.root, &request.sandbox.closed)
    } else {
        Ok(denied::Denied::default())
    };
    let denied = match denied {
        Ok(denied) => denied,
        Err(body) => {
            let _ = output::report(&Report { body, ..Report::default() });
            return 0;
        }
    };
    let online = programs && !request.sandbox.network.is_off();
    let doorman = match if online { go_online(request, &layers) } else { Ok(None) } {
        Ok(doorman) => doorman,
        Err(body) => {
            let (layers, absent) = (layers.active, layers.absent);
            let _ = output::report(&Report { body, layers, absent, ..Report::default() });
            return 0;
        }
    };
    let needs = Needs {
        request,
        profile: match (programs || request.tool == outline::NAME, online) {
            (true, _) if request.sandbox.host_network => Profile::Host,
            (true, true) => Profile::Online,
            (true, false) => Profile::Command,
            (false, _) => Profile::Files,
        },
        writable: denied.all_fixed.is_none()
            && if server {
                request.params.get("writable").is_some_and(|v| v == true)
            } else {
                command || write::is_writer(&request.tool)
            },
        lasting: server,
        hidden: &hidden.paths,
        covered: &denied.covered,
        fixed: &denied.fixed,
        rules: &hidden.rules,
    };
    let terminal = match if command { command::terminal(request) } else { Ok(None) } {
        Ok(terminal) => terminal,
        Err(body) => {
            let _ = output::report(&Report { body, ..Report::default() });
            return 0;
        }
    };
    let entered = sandbox::Linux.enter(&needs, &mut layers).and_then(|()| {
        if layers.has(sandbox::layer::MOUNT) {
            return Ok(());
        }
        let landlock = layers.has(sandbox::layer::LANDLOCK);
        if let Some(refusal) = denied.needs_view(&request.root, landlock) {
            return Err(refusal);
        }
        if hidden.paths.is_empty() {
            return Ok(());
        }
        let by = if hidden.by_git + hidden.sealed.len() < hidden.paths.len() {
            ".aiignore"
        } else {
            ".gitignore"
        };
        Err(format!(
            "the command was not run: {by} names '{}', and without a mount namespace this \
             system cannot hide it from commands",
            hidden.paths[0].display()
        ))
    });
    // Before anything of the command runs, the host knows what it may open.
    let by_rules = if command { hidden.by_rules(&request.root) } else { Vec::new() };
    if !server && !by_rules.is_empty() && output::hidden(&by_rules).is_err() {
        return exit::CANCELLED;
    }
    let mut report = match entered {
        Err(refusal) => Report { body: refusal, ..Report::default() },
        Ok(()) if server => return server::run(request, layers, by_rules),
        Ok(()) if command => command::run(request, &layers, terminal, doorman),
        Ok(()) if browser => browser::run(request, &layers),
        Ok(()) => files::run(request),
    };
    if !by_rules.is_empty() {
        report.opened = hidden.opened(&request.root);
        let opened: Vec<_> = report.opened.iter().map(|path| request.root.join(path)).collect();
        if !opened.is_empty() {
            report.notes.push(hidden::sealed_note(&request.root, &opened));
        }
    }
    if !report.ok && !hidden.sealed.is_empty() {
        report.notes.push(hidden::sealed_note(&request.root, &hidden.sealed));
    }
    if !report.ok && hidden.by_git > 0 {
        report.notes.push(hidden.note(&request.root));
    }
    if !report.ok {
        report.notes.extend(denied.note(&request.root));
        let fixed = denied.all_fixed.as_ref();
        report.notes.extend(
            fixed.map(|rule| format!("the rule '{rule}' closes the whole workspace to writing")),
        );
    }
    report.layers = layers.active;
    report.absent = layers.absent;
    match output::report(&report) {
        Ok(()) => 0,
        Err(_) => exit::CANCELLED,
    }
}

/// Opens the granted network: only in a network namespace that is empty, since it is what
/// keeps everything else out.
fn go_online(
    request: &Request,
    layers: &Layers,
) -> Result<Option<sandbox::inlet::Doorman>, String> {
    let network = &request.sandbox.network;
    if !layers.has(sandbox::layer::NET) {
        return Err(format!(
            "the command was not run: it was granted {network}, and without a network namespace \
             this system cannot keep it from the rest of the network"
        ));
    }
    sandbox::inlet::open(network)
        .map_err(|e| format!("the command was not run: its network cannot be set up: {e}"))
}
