//! Children of the engine: how they start, how they end, and how much memory they hold.
//!
//! A child is started from the main thread (its parent-death signal is tied to the thread
//! that forks), in a process group of its own, with one end of a socket pair and no other
//! descriptor of ours, and with only the environment it needs.

use std::ffi::OsString;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io};

use lapce_ai_ipc::launch::close_on_exec_from;
use lapce_ai_ipc::wire::Memory;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;

use crate::limits;

/// Variables a child of ours may see. Keys of providers are not among them.
const CHILD_ENV: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "RUST_BACKTRACE",
    "LD_LIBRARY_PATH",
];
/// Every variable of the product itself.
const OWN_PREFIX: &str = "LAPCE_AI_";

/// A child that speaks over a socket. Dropping it kills its whole process group.
pub struct SocketChild {
    child: Child,
    pid: u32,
    stderr: Arc<Mutex<Vec<u8>>>,
    /// Ends when the child's standard error does.
    reader: Option<JoinHandle<()>>,
}

impl SocketChild {
    /// Starts `program args… --fd N`, N being the child's end of the returned socket. `env` is
    /// added to the few variables that every child gets.
    pub fn spawn(
        program: &Path,
        args: &[&str],
        env: Vec<(OsString, OsString)>,
    ) -> io::Result<(Self, UnixStream)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let fd = theirs.as_raw_fd();
        let parent = std::process::id();
        let mut command = Command::new(program);
        command
            .args(args)
            .args(["--fd", &fd.to_string()])
            .env_clear()
            .envs(child_env())
            .envs(env)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        // SAFETY: between fork and exec only async-signal-safe system calls are made, and
        // nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                die_with(parent)?;
                // Whoever started the engine may have left descriptors open in it.
                close_on_exec_from(3);
                keep_across_exec(fd)
            });
        }
        let mut child = command.spawn()?;
        drop(theirs);
        let pid = child.id().ok_or_else(|| io::Error::other("the child ended at once"))?;
        let stderr = Arc::default();
        let pipe = child.stderr.take();
        let reader = pipe.map(|pipe| tokio::spawn(keep_tail(pipe, Arc::clone(&stderr))));
        ours.set_nonblocking(true)?;
        Ok((Self { child, pid, stderr, reader }, UnixStream::from_std(ours)?))
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for the child to end.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Gives the child `grace` to end by itself, then kills its group; says how it ended.
    pub async fn end(&mut self, grace: Duration) -> String {
        let status = if let Ok(status) = tokio::time::timeout(grace, self.child.wait()).await {
            status
        } else {
            kill_group(self.pid);
            self.child.wait().await
        };
        // What is left of its group, if it started anything.
        kill_group(self.pid);
        // Its last words may still be in the pipe.
        if let Some(reader) = self.reader.take() {
            let _ = tokio::time::timeout(limits::CHILD_GRACE, reader).await;
        }
        let how = status.map_or_else(|e| format!("was lost: {e}"), describe);
        let tail = self.stderr_tail();
        if tail.is_empty() { how } else { format!("{how}: {tail}") }
    }

    /// The last line the child wrote to its standard error, or nothing.
    fn stderr_tail(&self) -> String {
        let tail = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&tail);
        text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("").trim().to_owned()
    }
}

impl Drop for SocketChild {
    fn drop(&mut self) {
        // Only while it has not been reaped: a pid that was may belong to someone else.
        if self.child.id().is_some() {
            kill_group(self.pid);
        }
    }
}

/// Makes the calling process die when `parent` does. For use between fork and exec.
fn die_with(parent: u32) -> io::Result<()> {
    // SAFETY: prctl with PR_SET_PDEATHSIG takes one integer and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // The parent may have died before the signal was armed.
    // SAFETY: getppid has no preconditions.
    if u32::try_from(unsafe { libc::getppid() }) != Ok(parent) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

/// Takes the close-on-exec mark off `fd`. For use between fork and exec.
fn keep_across_exec(fd: i32) -> io::Result<()> {
    // SAFETY: fcntl with F_SETFD takes one integer and touches no memory.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn kill_group(pid: u32) {
    let Ok(pid) = i32::try_from(pid) else { return };
    if pid > 1 {
        // SAFETY: kill touches no memory; the group is one we created for this child.
        unsafe { libc::kill(-pid, libc::SIGKILL) };
    }
}

fn child_env() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| {
        name.to_str().is_some_and(|n| n.starts_with(OWN_PREFIX) || CHILD_ENV.contains(&n))
    })
}

/// Reads a child's standard error to its end, keeping the last few lines.
async fn keep_tail(mut pipe: ChildStderr, tail: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0_u8; 1024];
    while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(&buffer[..n]);
        let excess = tail.len().saturating_sub(limits::CHILD_STDERR_BYTES);
        tail.drain(..excess);
    }
}

/// How a process ended, after "the program …".
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (_, Some(libc::SIGKILL)) => "was killed (signal 9; perhaps out of memory)".to_owned(),
        (_, Some(signal)) => format!("was ended by signal {signal}"),
        (Some(code), _) => format!("ended with status {code}"),
        _ => "ended".to_owned(),
    }
}

/// Memory of a process of this user; zeros when it is gone.
pub fn memory(pid: u32) -> Memory {
    if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
        return parse_rollup(&text);
    }
    // A sandboxed process may hide its maps: then the resident size alone is known.
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    Memory { rss_kib: field(&status, "VmRSS:"), ..Memory::default() }
}

fn parse_rollup(text: &str) -> Memory {
    Memory {
        rss_kib: field(text, "Rss:"),
        pss_kib: field(text, "Pss:"),
        private_dirty_kib: field(text, "Private_Dirty:"),
    }
}

fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (SocketChild, UnixStream) {
        SocketChild::spawn(Path::new("/bin/bash"), &["-c", script], Vec::new()).unwrap()
    }

    #[tokio::test]
    async fn a_child_has_its_socket_and_no_other_descriptor() {
        let _open = std::fs::File::open("/dev/null").unwrap();
        // `$0` is `--fd`, `$1` the number.
        let (mut child, mut socket) = shell("ls /proc/$$/fd >&$1; echo \"[$1]\" >&$1; env >&$1");
        let mut text = String::new();
        socket.read_to_string(&mut text).await.unwrap();
        child.end(Duration::from_mins(1)).await;
        let (fds, rest) = text.split_once('[').unwrap();
        let fd = rest.split_once(']').unwrap().0;
        // 255 is the shell's own.
        let mut inherited: Vec<u32> =
            fds.split_whitespace().map(|fd| fd.parse().unwrap()).filter(|fd| *fd != 255).collect();
        inherited.sort_unstable();
        assert_eq!(inherited, [0, 1, 2, fd.parse().unwrap()], "{text}");
        assert!(rest.contains("PATH="));
        assert!(!rest.contains("CARGO_MANIFEST_DIR"), "{rest}");
    }

    #[tokio::test]
    async fn the_end_of_a_child_is_described() {
        let (mut child, _socket) = shell("echo first >&2; echo disk full >&2; exit 3");
        let how = child.end(Duration::from_mins(1)).await;
        assert_eq!(how, "ended with status 3: disk full");
        let (mut child, _socket) = shell("kill -9 $$");
        assert!(child.end(Duration::from_mins(1)).await.starts_with("was killed (signal 9"));
    }

    #[tokio::test]
    async fn a_child_that_stays_is_killed_with_its_group() {
        let (mut child, mut socket) = shell("sleep 1000 & echo $! >&$1; eval \"exec $1>&-\"; wait");
        let mut pid = [0_u8; 16];
        let n = socket.read(&mut pid).await.unwrap();
        let grandchild: u32 = std::str::from_utf8(&pid[..n]).unwrap().trim().parse().unwrap();
        assert!(memory(grandchild).rss_kib > 0);
        child.end(Duration::from_millis(50)).await;
        // Reaped by init or a zombie without memory, as soon as the signal is delivered.
        while memory(grandchild).rss_kib > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[test]
    fn memory_of_this_process_is_read() {
        let memory = memory(std::process::id());
        assert!(memory.rss_kib > 500);
        assert!(memory.pss_kib > 0 && memory.pss_kib <= memory.rss_kib);
        assert_eq!(super::memory(u32::MAX), Memory::default());
    }

    #[test]
    fn a_rollup_is_parsed() {
        let text = "Rss:  100 kB\nPss:   60 kB\nPss_Dirty: 9 kB\nPrivate_Dirty:   7 kB\n";
        let expected = Memory { rss_kib: 100, pss_kib: 60, private_dirty_kib: 7 };
        assert_eq!(parse_rollup(text), expected);
    }
}
