//! Finding the engine, and starting it when there is none.
//!
//! Called by every client. The engine is started by the first client that needs it, but it
//! is nobody's child: it has a session and a process group of its own, so that an editor
//! that kills its language server's group does not take every other window's engine along;
//! it inherits no descriptor but a pipe on which it says that it is ready; and whoever
//! started it has nothing to reap.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

use crate::client::{Client, Options, Transport};
use crate::error::{ConnectError, Refusal};
use crate::limits;
use crate::paths::{self, Paths};
use crate::protocol::{EngineProtocol, Ident};
use crate::sys::socket::peer_credentials;

/// The program of the engine.
pub const ENGINE_PROGRAM: &str = "lapce-ai-engine";
/// Exit status and word of an engine that found another one.
const ALREADY_RUNS: &str = "runs already";

/// Why there is no connection to an engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// Nobody listens; only from [`connect`], which starts nothing.
    #[error("no engine is running")]
    NotRunning,
    /// The program is not installed beside us, in `LAPCE_AI_BIN_DIR` or on `PATH`.
    #[error("the program {ENGINE_PROGRAM} was not found")]
    Missing,
    /// It was started and said why it cannot run, or ended without a word.
    #[error("{program} did not start: {message}")]
    Failed { program: PathBuf, message: String },
    /// The engine that runs is of another version; it must be stopped first.
    #[error("{message}")]
    OtherVersion { message: String },
    /// It listens, but no connection came about.
    #[error("the engine at {socket} does not answer: {source}")]
    Connect { socket: PathBuf, source: ConnectError },
    #[error("{socket}: {source}")]
    Socket { socket: PathBuf, source: io::Error },
}

impl LaunchError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotRunning => "it starts with the next command that needs it",
            Self::Missing => "install it beside this program, or run `lapce-ai doctor`",
            Self::Failed { .. } => "run `lapce-ai doctor`",
            Self::OtherVersion { .. } => {
                "run `lapce-ai stop`, then try again; all programs must come from one release"
            }
            Self::Connect { .. } => "run `lapce-ai doctor`; `lapce-ai stop` ends a hanging engine",
            Self::Socket { .. } => "check the folder's permissions, or run `lapce-ai doctor`",
        }
    }
}

/// Connects to the running engine; starts none.
pub async fn connect(paths: &Paths, ident: Ident) -> Result<Client<EngineProtocol>, LaunchError> {
    connect_over(paths, ident, Transport::default()).await
}

/// As [`connect`], over memory of the caller's choice.
pub async fn connect_over(
    paths: &Paths,
    ident: Ident,
    transport: Transport,
) -> Result<Client<EngineProtocol>, LaunchError> {
    let socket = paths.engine_socket();
    let stream = match UnixStream::connect(&socket).await {
        Ok(stream) => stream,
        // No socket, one that a killed engine left behind, or no folder for it: then the
        // engine says what is wrong with the folder.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Err(LaunchError::NotRunning);
        }
        Err(source) => return Err(LaunchError::Socket { socket, source }),
    };
    let ours = ident.to_string();
    let options = Options { transport, ..Options::default() };
    Client::over_with(stream, ident, options).await.map_err(|source| match source {
        ConnectError::Refused { ref peer, reason: Refusal::Version | Refusal::Schema, .. } => {
            LaunchError::OtherVersion {
                message: format!("the running engine ({peer}) and this program ({ours}) differ"),
            }
        }
        source => LaunchError::Connect { socket, source },
    })
}

/// Connects to the engine, starting it when there is none.
pub async fn connect_or_start(
    paths: &Paths,
    ident: Ident,
) -> Result<Client<EngineProtocol>, LaunchError> {
    connect_or_start_over(paths, ident, Transport::default()).await
}

/// As [`connect_or_start`], over memory of the caller's choice.
pub async fn connect_or_start_over(
    paths: &Paths,
    ident: Ident,
    transport: Transport,
) -> Result<Client<EngineProtocol>, LaunchError> {
    let deadline = Instant::now() + limits::LAUNCH_TIMEOUT;
    let mut pause = limits::LAUNCH_PAUSE;
    let mut starts = 0;
    loop {
        let error = match connect_over(paths, ident.clone(), transport).await {
            Err(error @ LaunchError::NotRunning) => {
                let program = paths::find_program(ENGINE_PROGRAM).ok_or(LaunchError::Missing)?;
                match start(&program).await {
                    Ok(()) if starts < limits::LAUNCH_STARTS => {
                        starts += 1;
                        continue;
                    }
                    Ok(()) => {
                        let message = "it ended right after its start, again and again".to_owned();
                        return Err(LaunchError::Failed { program, message });
                    }
                    // Another client was quicker, or an engine is just ending: look again.
                    Err(message) if message.contains(ALREADY_RUNS) => error,
                    Err(message) => return Err(LaunchError::Failed { program, message }),
                }
            }
            // An engine that ends between our connect and its answer.
            Err(error @ LaunchError::Connect { source: ConnectError::Io(_), .. }) => error,
            done => return done,
        };
        if Instant::now() >= deadline {
            return Err(match error {
                LaunchError::NotRunning => LaunchError::Failed {
                    program: ENGINE_PROGRAM.into(),
                    message: "an engine holds the lock, but does not listen".into(),
                },
                other => other,
            });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(limits::LAUNCH_PAUSE_MAX);
    }
}

/// Starts `program` as an engine of its own and waits until it takes connections.
async fn start(program: &Path) -> Result<(), String> {
    let (reader, writer) = pipe().map_err(|e| format!("no pipe: {e}"))?;
    spawn_detached(program, &writer).map_err(|e| e.to_string())?;
    drop(writer);
    let answer = tokio::time::timeout(limits::LAUNCH_TIMEOUT, read_line(reader)).await;
    match answer {
        Ok(Ok(line)) if line == "ready" => Ok(()),
        Ok(Ok(line)) if line.is_empty() => Err("it ended without a word".to_owned()),
        Ok(Ok(line)) => Err(line.strip_prefix("error: ").unwrap_or(&line).to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("not ready within {:?}", limits::LAUNCH_TIMEOUT)),
    }
}

/// Reads what the engine says about itself: one short line.
async fn read_line(reader: OwnedFd) -> io::Result<String> {
    let pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(reader)?;
    let mut text = Vec::new();
    pipe.take(limits::BYE_MAX as u64).read_to_end(&mut text).await?;
    Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned())
}

/// Variables that speak about the client's own place and would mislead the engine.
const NOT_PASSED_ON: [&str; 12] = [
    "PWD",
    "OLDPWD",
    "SHLVL",
    "_",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
];

/// Starts `program` in a session of its own, as nobody's child.
fn spawn_detached(program: &Path, ready: &OwnedFd) -> io::Result<()> {
    let fd = ready.as_raw_fd();
    // Absolute, since the engine's own folder is `/`.
    let mut command = Command::new(std::path::absolute(program)?);
    command
        .args([OsStr::new("--ready-fd"), OsStr::new(&fd.to_string())])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    for name in NOT_PASSED_ON {
        command.env_remove(name);
    }
    // SAFETY: only async-signal-safe calls run between fork and exec, nothing is allocated,
    // and the process that `fork` leaves behind here ends at once.
    unsafe {
        command.pre_exec(move || {
            if libc::setsid() < 0 {
                return Err(io::Error::last_os_error());
            }
            match libc::fork() {
                -1 => return Err(io::Error::last_os_error()),
                0 => {}
                // Its parent waits for this one and never sees the engine.
                _ => libc::_exit(0),
            }
            close_on_exec_from(3);
            if libc::fcntl(fd, libc::F_SETFD, 0) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    // Reaps the process in between; it lives for microseconds.
    command.spawn()?.wait()?;
    Ok(())
}

/// Marks every descriptor from `first` on as closed by exec, whatever opened it. Makes only
/// system calls, so it may run between fork and exec.
pub fn close_on_exec_from(first: u32) {
    // SAFETY: close_range with CLOEXEC only sets flags; unused descriptors are skipped.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 {
        return;
    }
    // Kernels before 5.11: one by one, as far as descriptors are likely to go.
    for fd in first.cast_signed()..4096 {
        // SAFETY: fcntl with F_SETFD touches no memory and fails for unused descriptors.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// A pipe whose reading end does not block; both ends are closed by exec.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: `fds` has room for the two descriptors that pipe2 writes.
    if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: pipe2 gave us both descriptors, and nobody else knows them.
    let (reader, writer) = unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) };
    // SAFETY: F_SETFL on an open descriptor touches no memory.
    if unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((reader, writer))
}

/// Process id of whoever listens on the engine's socket, as the kernel knows it. Works for
/// an engine of any version, and for one that hangs.
pub fn listener_pid(paths: &Paths) -> Option<u32> {
    let socket = std::os::unix::net::UnixStream::connect(paths.engine_socket()).ok()?;
    let credentials = peer_credentials(&socket).ok()?;
    (credentials.uid == paths::current_uid()).then_some(credentials.pid)
}

/// How long [`connect_or_start`] may take in all.
pub fn timeout() -> Duration {
    limits::LAUNCH_TIMEOUT
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program made by another process: were it ours, a fork in another test's thread
    /// could hold it open for writing, and it could not be executed.
    fn script(dir: &Path, body: &str) -> PathBuf {
        let file = dir.join("engine");
        let made = Command::new("/bin/sh")
            .args(["-c", "printf '#!/bin/bash\\n%s\\n' \"$1\" >$0 && chmod 755 $0"])
            .args([file.as_os_str(), OsStr::new(body)])
            .status();
        assert!(made.unwrap().success());
        file
    }

    #[tokio::test]
    async fn the_engine_is_nobodys_child_and_holds_nothing_of_ours() {
        let dir = tempfile::tempdir().unwrap();
        let seen = dir.path().join("seen");
        // A descriptor that is open across exec, as a careless editor leaves them.
        let (leaked, _writer) = pipe().unwrap();
        // SAFETY: F_SETFD on an open descriptor touches no memory.
        unsafe { libc::fcntl(leaked.as_raw_fd(), libc::F_SETFD, 0) };
        // `$2` is the number of the pipe.
        let body = format!(
            "ls /proc/$$/fd >{0}.fds; {{ echo $2; cat /proc/$$/stat; pwd; env; }} >{0}; \
             echo ready >&$2",
            seen.display()
        );
        start(&script(dir.path(), &body)).await.unwrap();
        let text = std::fs::read_to_string(&seen).unwrap();
        let listed = std::fs::read_to_string(dir.path().join("seen.fds")).unwrap();
        let lines: Vec<_> = text.lines().collect();
        // 255 is the shell's own.
        let mut fds: Vec<u32> =
            listed.lines().map(|fd| fd.parse().unwrap()).filter(|fd| *fd != 255).collect();
        fds.sort_unstable();
        assert_eq!(fds, [0, 1, 2, lines[0].parse().unwrap()], "{text}");
        // pid (comm) state ppid pgrp session …
        let stat: Vec<_> = lines[1].rsplit(')').next().unwrap().split_whitespace().collect();
        let me = std::process::id().to_string();
        assert_ne!(stat[1], me, "not our child");
        // SAFETY: both take 0 for "this process" and touch no memory.
        let (group, session) = unsafe { (libc::getpgid(0), libc::getsid(0)) };
        assert_ne!(stat[2], group.to_string());
        assert_ne!(stat[3], session.to_string());
        assert_eq!(lines[2], "/");
        assert!(
            !lines.iter().any(|l| l.starts_with("SHLVL=") && *l != "SHLVL=0" && *l != "SHLVL=1")
        );
    }

    #[tokio::test]
    async fn an_engine_that_cannot_start_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let message = start(&script(dir.path(), "echo error: disk full >&$2")).await;
        assert_eq!(message.unwrap_err(), "disk full");
        let message = start(&script(dir.path(), "exit 7")).await;
        assert_eq!(message.unwrap_err(), "it ended without a word");
        let message = start(&dir.path().join("missing")).await;
        assert!(message.unwrap_err().contains("No such file"));
    }

    #[tokio::test]
    async fn without_an_engine_nothing_is_connected() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().as_os_str().to_owned();
        let paths = Paths::resolve(|n| (n == crate::env::HOME).then(|| home.clone()), 0);
        let ident = || Ident::new("test", "0");
        assert!(matches!(connect(&paths, ident()).await, Err(LaunchError::NotRunning)));
        paths::private_dir(&paths.runtime).unwrap();
        drop(std::os::unix::net::UnixListener::bind(paths.engine_socket()).unwrap());
        assert!(matches!(connect(&paths, ident()).await, Err(LaunchError::NotRunning)));
        assert_eq!(listener_pid(&paths), None);
        let _listener = {
            std::fs::remove_file(paths.engine_socket()).unwrap();
            std::os::unix::net::UnixListener::bind(paths.engine_socket()).unwrap()
        };
        assert_eq!(listener_pid(&paths), Some(std::process::id()));
    }
}
