//! `execute_command`: a shell in the fence, watched.
//!
//! This process stays between the command and the host: it passes the output on, keeps
//! the limits that the kernel does not keep for it (time, output, memory of all
//! processes together, disk), and ends whatever the command left running.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::denied::Watched;
use super::guard::Guard;
use super::processes::{Processes, private_bytes};
use super::{output, safe_fs};
use crate::envelope::LimitHit;
use crate::limits::{PTY_SIZE, WATCH_INTERVAL_MS};
use crate::protocol::{Report, Request};
use crate::sandbox::inlet::Doorman;
use crate::sandbox::sys::{self, Ended};
use crate::sandbox::{Layers, layer};

/// What programs look at to find a proxy.
const PROXY_VARIABLES: &[&str] =
    &["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];

/// Exit code of a shell whose child died of a signal: 128 and the signal.
const BY_SIGNAL: i32 = 128;

/// `terminal` was opened before the fence went up, when the call asked for one.
pub(crate) fn run(
    request: &Request,
    layers: &Layers,
    terminal: Option<Terminal>,
    doorman: Option<Doorman>,
) -> Report {
    match start_and_watch(request, layers, terminal, doorman) {
        Ok(report) => report,
        Err(error) => Report { body: error, ..Report::default() },
    }
}

/// The two sides of a terminal.
pub(crate) type Terminal = (OwnedFd, OwnedFd);

/// The terminal of a call that asks for one. Opened outside, where the device is.
pub(crate) fn terminal(request: &Request) -> Result<Option<Terminal>, String> {
    if request.params.get("pty").and_then(serde_json::Value::as_bool) != Some(true) {
        return Ok(None);
    }
    sys::open_pty(PTY_SIZE).map(Some).map_err(|e| format!("no terminal can be made: {e}"))
}

fn start_and_watch(
    request: &Request,
    layers: &Layers,
    terminal: Option<Terminal>,
    doorman: Option<Doorman>,
) -> Result<Report, String> {
    let text = |name: &str| request.params.get(name).and_then(|v| v.as_str()).unwrap_or_default();
    let folder = working_folder(request, text("cwd"))?;
    let pid_ns = layers.has(layer::PID);
    let pty = terminal.is_some();
    let (reader, writer) = match terminal {
        Some(terminal) => terminal,
        None => sys::pipe().map_err(|e| format!("no pipe for the output: {e}"))?,
    };
    let shell =
        ["/bin/bash", "/bin/sh"].iter().find(|s| Path::new(s).exists()).unwrap_or(&"/bin/sh");
    let plan = Plan {
        shell: cstring(shell)?,
        args: vec![cstring(shell)?, cstring("-c")?, cstring(text("command"))?],
        env: environment(request, layers, pty)?,
        folder,
        pty,
    };
    if !pid_ns {
        // Orphans come here instead of to the namespace's first process.
        let _ = sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0);
    }
    let guard = Guard::before(&request.root, &request.sandbox.protected);
    let watched = Watched::before(request);
    let pid = sys::fork_to_exec(&|| plan.become_command(&writer))
        .map_err(|e| format!("no process could be made for the command: {e}"))?;
    drop(writer);
    let watch = Watch {
        request,
        doorman,
        guard,
        watched,
        root: File::open(&request.root).ok(),
        processes: Processes { pid, pid_ns },
        started: Instant::now(),
        written: 0,
        free_at_start: None,
    };
    watch.run(reader)
}

fn cstring(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| "the command has a NUL character".into())
}

fn working_folder(request: &Request, cwd: &str) -> Result<PathBuf, String> {
    let relative =
        if cwd.trim().is_empty() { PathBuf::new() } else { safe_fs::relative(&request.root, cwd)? };
    let folder = request.root.join(&relative);
    let shown = safe_fs::show(&relative);
    let closed = request.sandbox.closed.to_readers();
    let free = |inner: &Path| match closed.rule_for(inner) {
        None => Ok(()),
        Some(rule) => {
            Err(format!("the working folder '{shown}' is closed by the user's rule '{rule}'"))
        }
    };
    free(&relative)?;
    let real = folder.canonicalize().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => format!("the working folder '{shown}' does not exist"),
        _ => format!("the working folder '{shown}': {e}"),
    })?;
    if !real.starts_with(&request.root) {
        return Err(format!("the working folder '{shown}' leads out of the workspace"));
    }
    if !real.is_dir() {
        return Err(format!("the working folder '{shown}' is not a folder"));
    }
    free(real.strip_prefix(&request.root).unwrap_or(&relative))?;
    Ok(real)
}

/// The whole environment of the command.
pub(super) fn environment(
    request: &Request,
    layers: &Layers,
    pty: bool,
) -> Result<Vec<CString>, String> {
    let spec = &request.sandbox;
    let viewed = layers.has(layer::MOUNT);
    let mut list = Vec::new();
    for (name, value) in &spec.env {
        let value = if pty && name == "TERM" { "xterm-256color" } else { value };
        list.push(cstring(&format!("{name}={value}"))?);
    }
    let temporary = match &spec.scratch {
        Some(scratch) if !viewed => scratch.clone(),
        _ => PathBuf::from("/tmp"),
    };
    let home = match &spec.home {
        Some(home) if viewed => home.clone(),
        _ => temporary.clone(),
    };
    list.push(cstring(&format!("HOME={}", home.display()))?);
    list.push(cstring(&format!("TMPDIR={}", temporary.display()))?);
    if spec.network.has_hosts() {
        let proxy = format!("http://127.0.0.1:{}", spec.network.proxy_port());
        for name in PROXY_VARIABLES {
            list.push(cstring(&format!("{name}={proxy}"))?);
        }
        for name in ["NO_PROXY", "no_proxy"] {
            list.push(cstring(&format!("{name}=localhost,127.0.0.1,::1"))?);
        }
        // Node's own clients look at the variables only when told to.
        list.push(cstring("NODE_USE_ENV_PROXY=1")?);
    }
    Ok(list)
}

/// What the forked process turns into.
struct Plan {
    shell: CString,
    args: Vec<CString>,
    env: Vec<CString>,
    folder: PathBuf,
    /// The output is a terminal; then it is the input too.
    pty: bool,
}

impl Plan {
    fn become_command(&self, writer: &OwnedFd) -> ! {
        sys::setsid();
        let _ = sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0);
        let failed = || -> io::Result<io::Error> {
            if self.pty {
                sys::take_terminal(writer.as_fd())?;
                sys::dup2(writer.as_raw_fd(), 0)?;
            } else {
                let null = File::open("/dev/null")?;
                sys::dup2(null.as_raw_fd(), 0)?;
            }
            sys::dup2(writer.as_raw_fd(), 1)?;
            sys::dup2(writer.as_raw_fd(), 2)?;
            sys::close_from(3)?;
            std::env::set_current_dir(&self.folder)?;
            sys::reset_signals();
            Ok(sys::exec(&self.shell, &self.args, &self.env))
        };
        let (Ok(error) | Err(error)) = failed();
        eprintln!("the shell could not be started: {error}");
        sys::exit_now(127)
    }
}

pub(super) struct Watch<'a> {
    request: &'a Request,
    doorman: Option<Doorman>,
    guard: Guard,
    watched: Watched,
    root: Option<File>,
    processes: Processes,
    started: Instant,
    written: u64,
    free_at_start: Option<u64>,
}

impl<'a> Watch<'a> {
    fn run(mut self, reader: OwnedFd) -> Result<Report, String> {
        let limits = &self.request.limits;
        let _ = sys::set_nonblocking(reader.as_fd());
        let child = sys::pidfd_open(self.processes.pid)
            .map_err(|e| format!("the command cannot be watched: {e}"))?;
        let mut output = File::from(reader);
        self.free_at_start = self.free();
        let deadline = self.started + Duration::from_millis(limits.wall_ms);
        let mut limit = None;
        let mut open = true;
        let mut next_look = self.started + Duration::from_millis(WATCH_INTERVAL_MS);
        while limit.is_none() {
            let now = Instant::now();
            if now >= deadline {
                limit = Some(LimitHit::Wall(limits.wall_ms));
                break;
            }
            if now >= next_look {
                limit = self.look();
                next_look = now + Duration::from_millis(WATCH_INTERVAL_MS);
                continue;
            }
            // No descriptor at all has the number -1.
            let fds = [
                (child.as_raw_fd(), libc::POLLIN),
                (if open { output.as_raw_fd() } else { -1 }, libc::POLLIN),
                (self.doorman.as_ref().map_or(-1, Doorman::fd), libc::POLLIN),
            ];
            let wait =
                next_look.min(deadline).saturating_duration_since(now).as_millis() as i32 + 1;
            let events =
                sys::poll(&fds, wait).map_err(|e| format!("the command cannot be watched: {e}"))?;
            if open && events[1] != 0 {
                open = self.pass_on(&mut output, &mut limit)?;
            }
            if events[0] != 0 {
                break;
            }
            if events[2] != 0
                && !self.doorman.as_ref().is_some_and(|d| d.answer(&self.request.sandbox.network))
            {
                self.doorman = None;
            }
        }
        let ended = self.processes.end();
        if open && limit.is_none() {
            // What the command wrote before it ended. Nobody is left to write more.
            while self.pass_on(&mut output, &mut limit)? && limit.is_none() {}
        }
        Ok(self.report(ended, limit))
    }

    /// Passes one piece of output on. Returns whether there may be more.
    fn pass_on(&mut self, output: &mut File, limit: &mut Option<LimitHit>) -> Result<bool, String> {
        let mut buffer = [0; 16 << 10];
        match output.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(n) => {
                let max = self.request.limits.output_bytes;
                let room = max.saturating_sub(self.written).min(n as u64) as usize;
                output::output(&buffer[..room]).map_err(|e| format!("the host is gone: {e}"))?;
                self.written += room as u64;
                if room < n {
                    *limit = Some(LimitHit::Output(max));
                }
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(true),
            // A terminal whose last program is gone.
            Err(e) if e.raw_os_error() == Some(libc::EIO) => Ok(false),
            Err(e) => Err(format!("the output cannot be read: {e}")),
        }
    }

    /// For a server, whose output is nobody's business here.
    pub(super) fn new(request: &'a Request, pid_ns: bool) -> Self {
        Self {
            request,
            guard: Guard::before(&request.root, &request.sandbox.protected),
            watched: Watched::before(request),
            root: File::open(&request.root).ok(),
            processes: Processes { pid: 0, pid_ns },
            started: Instant::now(),
            written: 0,
            doorman: None,
            free_at_start: None,
        }
    }

    /// Looks after this process from now on.
    pub(super) fn of(mut self, pid: libc::pid_t) -> Self {
        self.processes.pid = pid;
        self.free_at_start = self.free();
        self
    }

    pub(super) fn processes(&self) -> Processes {
        self.processes
    }

    fn free(&self) -> Option<u64> {
        sys::free_bytes(self.root.as_ref()?.as_fd()).ok()
    }

    /// The limits that are looked at from time to time.
    pub(super) fn look(&self) -> Option<LimitHit> {
        let limits = &self.request.limits;
        if let (Some(then), Some(now)) = (self.free_at_start, self.free())
            && then.saturating_sub(now) > limits.disk_bytes
        {
            return Some(LimitHit::Disk(limits.disk_bytes));
        }
        let pids = self.processes.members();
        let memory: u64 = pids.iter().map(|pid| private_bytes(*pid)).sum();
        if memory > limits.memory_bytes {
            return Some(LimitHit::Memory(limits.memory_bytes));
        }
        if pids.len() > limits.processes as usize {
            return Some(LimitHit::Processes(limits.processes));
        }
        None
    }

    fn report(&self, ended: Option<Ended>, limit: Option<LimitHit>) -> Report {
        let limits = &self.request.limits;
        let mut notes = self.guard.after();
        notes.extend(self.guard.after_rules(&self.watched));
        let mut report = Report { limit, notes, ..Report::default() };
        let signal = match ended {
            Some(Ended::Exit(code)) => {
                report.exit_code = Some(code);
                code - BY_SIGNAL
            }
            Some(Ended::Signal(signal)) => {
                report.signal = Some(signal);
                signal
            }
            None => 0,
        };
        if report.limit.is_none() {
            report.limit = match signal {
                libc::SIGXFSZ => Some(LimitHit::FileSize(limits.file_bytes)),
                libc::SIGXCPU => Some(LimitHit::Cpu(limits.cpu_s)),
                _ => None,
            };
        }
        report.ok = report.limit.is_none() && report.exit_code == Some(0);
        report
    }
}
