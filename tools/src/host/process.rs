//! Starting a helper and what it needs for its life. Used by the host and by
//! [`crate::server`].

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};

use crate::sandbox::inlet;
use crate::workspace::Workspace;

/// Keeps `ToolHost::pids` right, however the call ends.
#[derive(Debug)]
pub(super) struct Live {
    set: Arc<Mutex<BTreeSet<u32>>>,
    pid: Option<u32>,
}

impl Live {
    pub(super) fn new(set: Arc<Mutex<BTreeSet<u32>>>, pid: Option<u32>) -> Self {
        if let Some(pid) = pid {
            set.lock().unwrap_or_else(PoisonError::into_inner).insert(pid);
        }
        Self { set, pid }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            self.set.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
        }
    }
}

/// A folder for one call, gone with it.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn scratch() -> std::io::Result<Scratch> {
    Workspace::scratch().map(Scratch)
}

/// Starts a helper; `way` becomes its descriptor for a granted network.
pub(crate) fn spawn(helper: &Path, way: Option<OwnedFd>, stderr: Stdio) -> std::io::Result<Child> {
    let mut command = Command::new(helper);
    if way.is_some() {
        command.arg("--net");
    }
    command
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .kill_on_drop(true)
        .process_group(0);
    // With a step of ours between fork and exec all of this process's memory would be set up for
    // copying first. So the helper itself asks for the signal of this process's death.
    if let Some(way) = way {
        // SAFETY: between fork and exec only async-signal-safe system calls are made.
        unsafe {
            command.pre_exec(move || {
                // A copy without close-on-exec, unless it has the number already.
                let rc = if way.as_raw_fd() == inlet::HANDOVER {
                    libc::fcntl(inlet::HANDOVER, libc::F_SETFD, 0)
                } else {
                    libc::dup2(way.as_raw_fd(), inlet::HANDOVER)
                };
                if rc < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
            });
        }
    }
    command.spawn()
}

pub(crate) fn kill_group(child: &Child) {
    if let Some(pid) = child.id() {
        // SAFETY: integers only; the child has not been waited for, so the number is its.
        unsafe { libc::kill(-(pid as libc::pid_t), libc::SIGKILL) };
    }
}

pub(crate) async fn send(stdin: &mut ChildStdin, text: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(text.len()).map_err(std::io::Error::other)?;
    let sent = async {
        stdin.write_all(&length.to_le_bytes()).await?;
        stdin.write_all(text).await?;
        stdin.flush().await
    };
    match sent.await {
        // A helper that refuses the request says why in its report.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
