//! Notices that the editor is gone, even when stdin stays open.
//!
//! The editor's end normally shows as the end of stdin. It does not when another process
//! holds the pipe. A parent-death signal is no way out: it is bound to the thread that
//! started us, and Lapce starts servers from threads that end at once.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use tokio::io::unix::AsyncFd;

/// A process that is watched.
pub(super) struct Watch(Option<AsyncFd<OwnedFd>>);

impl Watch {
    /// Starts watching `pid`. Whether it can be watched is found out here, while it lives: a
    /// process that is not there at this moment is one of another container, and its number
    /// says nothing.
    pub(super) fn start(pid: u32) -> Self {
        Self(pidfd(pid).and_then(register).ok())
    }

    /// Watches nothing.
    pub(super) fn nobody() -> Self {
        Self(None)
    }

    /// Resolves when the process has ended; never, if it cannot be watched.
    pub(super) async fn ended(&self) {
        if let Some(fd) = &self.0
            && fd.readable().await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd names the same open descriptor for as long as it lives, and the
    // AsyncFd owns it.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes a number and flags; it touches no memory.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = RawFd::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so the descriptor is open and nobody else knows it. It is
    // closed on exec by definition.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_process_is_noticed() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let watch = Watch::start(child.id());
        let watch = tokio::spawn(async move { watch.ended().await });
        tokio::task::yield_now().await;
        assert!(!watch.is_finished());
        child.kill().unwrap();
        child.wait().unwrap();
        watch.await.unwrap();
    }
}
