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

use super::guard::Guard;
use super::{output, safe_fs};
use crate::envelope::LimitHit;
use crate::limits::WATCH_INTERVAL_MS;
use crate::protocol::{Report, Request};
use crate::sandbox::sys::{self, Ended, Fork};
use crate::sandbox::{Layers, layer};

/// Exit code of a shell whose child died of a signal: 128 and the signal.
const BY_SIGNAL: i32 = 128;

pub(crate) fn run(request: &Request, layers: &Layers) -> Report {
    match start_and_watch(request, layers) {
        Ok(report) => report,
        Err(error) => Report { body: error, ..Report::default() },
    }
}

fn start_and_watch(request: &Request, layers: &Layers) -> Result<Report, String> {
    let text = |name: &str| request.params.get(name).and_then(|v| v.as_str()).unwrap_or_default();
    let folder = working_folder(request, text("cwd"))?;
    let pid_ns = layers.has(layer::PID);
    let (reader, writer) = sys::pipe().map_err(|e| format!("no pipe for the output: {e}"))?;
    let shell =
        ["/bin/bash", "/bin/sh"].iter().find(|s| Path::new(s).exists()).unwrap_or(&"/bin/sh");
    let plan = Plan {
        shell: cstring(shell)?,
        args: vec![cstring(shell)?, cstring("-c")?, cstring(text("command"))?],
        env: environment(request, layers)?,
        folder,
    };
    if !pid_ns {
        // Orphans come here instead of to the namespace's first process.
        let _ = sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0);
    }
    let guard = Guard::before(&request.root, &request.sandbox.protected);
    let pid = match sys::fork() {
        Ok(Fork::Child) => plan.become_command(&writer),
        Ok(Fork::Parent(pid)) => pid,
        Err(e) => return Err(format!("no process could be made for the command: {e}")),
    };
    drop(writer);
    let watch = Watch {
        request,
        guard,
        root: File::open(&request.root).ok(),
        pid,
        pid_ns,
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
    Ok(real)
}

/// The whole environment of the command.
fn environment(request: &Request, layers: &Layers) -> Result<Vec<CString>, String> {
    let spec = &request.sandbox;
    let viewed = layers.has(layer::MOUNT);
    let mut list = Vec::new();
    for (name, value) in &spec.env {
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
    Ok(list)
}

/// What the forked process turns into.
struct Plan {
    shell: CString,
    args: Vec<CString>,
    env: Vec<CString>,
    folder: PathBuf,
}

impl Plan {
    fn become_command(&self, writer: &OwnedFd) -> ! {
        sys::setsid();
        let _ = sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0);
        let failed = || -> io::Result<io::Error> {
            let null = File::open("/dev/null")?;
            sys::dup2(null.as_raw_fd(), 0)?;
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

struct Watch<'a> {
    request: &'a Request,
    guard: Guard,
    root: Option<File>,
    pid: libc::pid_t,
    pid_ns: bool,
    started: Instant,
    written: u64,
    free_at_start: Option<u64>,
}

impl Watch<'_> {
    fn run(mut self, reader: OwnedFd) -> Result<Report, String> {
        let limits = &self.request.limits;
        let _ = sys::set_nonblocking(reader.as_fd());
        let child =
            sys::pidfd_open(self.pid).map_err(|e| format!("the command cannot be watched: {e}"))?;
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
            let mut fds = vec![(child.as_raw_fd(), libc::POLLIN)];
            if open {
                fds.push((output.as_raw_fd(), libc::POLLIN));
            }
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
        }
        let ended = self.end();
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
            Err(e) => Err(format!("the output cannot be read: {e}")),
        }
    }

    fn free(&self) -> Option<u64> {
        sys::free_bytes(self.root.as_ref()?.as_fd()).ok()
    }

    /// The limits that are looked at from time to time.
    fn look(&self) -> Option<LimitHit> {
        let limits = &self.request.limits;
        if let (Some(then), Some(now)) = (self.free_at_start, self.free())
            && then.saturating_sub(now) > limits.disk_bytes
        {
            return Some(LimitHit::Disk(limits.disk_bytes));
        }
        let pids = self.members();
        let memory: u64 = pids.iter().map(|pid| private_bytes(*pid)).sum();
        if memory > limits.memory_bytes {
            return Some(LimitHit::Memory(limits.memory_bytes));
        }
        if pids.len() > limits.processes as usize {
            return Some(LimitHit::Processes(limits.processes));
        }
        None
    }

    /// Every process of the command: all of the namespace, or all below this one.
    fn members(&self) -> Vec<libc::pid_t> {
        let me = sys::getpid();
        if !self.pid_ns {
            return super::descendants(me);
        }
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|e| e.file_name().to_str()?.parse().ok())
            .filter(|pid| *pid != me)
            .collect()
    }

    /// Ends everything that still runs and returns how the command itself ended.
    fn end(&self) -> Option<Ended> {
        let mut ended = None;
        let note = |got: Option<(libc::pid_t, Ended)>, ended: &mut Option<Ended>| match got {
            Some((pid, how)) if pid == self.pid => *ended = Some(how),
            _ => {}
        };
        note(sys::reap(self.pid, false), &mut ended);
        if self.pid_ns {
            // As the first process of the namespace, this reaches all others in it.
            let _ = sys::kill(-1, libc::SIGKILL);
            loop {
                match sys::reap(-1, true) {
                    None => return ended,
                    got => note(got, &mut ended),
                }
            }
        }
        let _ = sys::kill(self.pid, libc::SIGKILL);
        for _ in 0..1_000 {
            let left = self.members();
            for pid in &left {
                let _ = sys::kill(*pid, libc::SIGKILL);
            }
            loop {
                match sys::reap(-1, false) {
                    None => break,
                    got => note(got, &mut ended),
                }
            }
            if left.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        ended
    }

    fn report(&self, ended: Option<Ended>, limit: Option<LimitHit>) -> Report {
        let limits = &self.request.limits;
        let notes = self.guard.after();
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

/// Memory that a process shares with no file: what would be free without it.
fn private_bytes(pid: libc::pid_t) -> u64 {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/statm")) else { return 0 };
    let mut fields = text.split_whitespace().map(|f| f.parse::<u64>().unwrap_or(0));
    let resident = fields.nth(1).unwrap_or(0);
    let shared = fields.next().unwrap_or(0);
    resident.saturating_sub(shared) * 4096
}
