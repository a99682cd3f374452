//! Cores, load, and the other process.

use std::os::fd::RawFd;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use clap::ValueEnum;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// Where the scheduler likes.
    Free,
    /// One core each.
    Pinned,
    /// Both on one core.
    Same,
}

impl Place {
    pub fn cpus(self) -> (Option<usize>, Option<usize>) {
        match self {
            Self::Free => (None, None),
            Self::Pinned => (Some(0), Some(1)),
            Self::Same => (Some(0), Some(0)),
        }
    }
}

/// Pins this thread; undone by [`unpin`].
pub fn pin(cpu: usize) {
    // SAFETY: all-zero is an empty set; the set outlives the call.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

pub fn unpin() {
    // SAFETY: as in `pin`.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for cpu in 0..std::thread::available_parallelism().map_or(2, usize::from).max(64) {
            libc::CPU_SET(cpu, &mut set);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

pub fn die_with_parent() {
    // SAFETY: plain system call.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

pub fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}

/// The other process of a mechanism; killed when dropped.
pub struct Peer(pub Child);

impl Peer {
    /// `fds` are inherited (they are not close-on-exec).
    pub fn start(
        mechanism: &str,
        place: Place,
        (size, messages): (usize, usize),
        fds: &[RawFd],
        pipes: bool,
    ) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("ipc-peer").arg(mechanism).args(["--size", &size.to_string()]);
        command.args(["--messages", &messages.to_string()]);
        if !fds.is_empty() {
            let list: Vec<String> = fds.iter().map(ToString::to_string).collect();
            command.args(["--fds", &list.join(",")]);
        }
        let (mine, other) = place.cpus();
        match mine {
            Some(cpu) => pin(cpu),
            None => unpin(),
        }
        if let Some(cpu) = other {
            command.args(["--cpu", &cpu.to_string()]);
        }
        if pipes {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        } else {
            command.stdin(Stdio::null()).stdout(Stdio::null());
        }
        Ok(Self(command.spawn().context("failed to start the other process")?))
    }

    /// CPU time it has used, in nanoseconds.
    pub fn cpu_ns(&self) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.0.id()))?;
        let first = text.split_whitespace().next().context("an empty schedstat")?;
        Ok(first.parse()?)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One busy process per core.
pub struct Burners(#[expect(dead_code, reason = "killed on drop")] Vec<Peer>);

impl Burners {
    pub fn start() -> Result<Self> {
        let cores = std::thread::available_parallelism()?.get();
        let burners = (0..cores).map(|_| Peer::start("burn", Place::Free, (0, 0), &[], false));
        Ok(Self(burners.collect::<Result<_>>()?))
    }
}
