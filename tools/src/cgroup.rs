//! The cgroup v2 layer: memory, processes and processor time of a command's whole tree,
//! where the system lets this user have groups of his own. Used by the host; the helper is
//! put into its group before it is told what to run.
//!
//! A group with limits may not stand below one that holds processes, so ours stand beside
//! the engine's: in the nearest group above it that passes the controllers on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::envelope::LimitHit;
use crate::limits::{CGROUP_CPU_PERCENT, CGROUP_REMOVE_TRIES, Limits};

/// Without these the layer is not there.
const NEEDED: [&str; 2] = ["memory", "pids"];
const PREFIX: &str = "lapce-ai-";

/// Where groups can be made, or why not; looked for once.
#[derive(Debug)]
pub(crate) struct Cgroups {
    base: Result<PathBuf, String>,
}

impl Cgroups {
    pub(crate) fn find() -> Self {
        let read = |path: &str| fs::read_to_string(path).map_err(|e| format!("{path}: {e}"));
        let base = read("/proc/self/mountinfo").and_then(|mounts| {
            base(&mounts, &read("/proc/self/cgroup")?).and_then(|base| usable(&base).map(|()| base))
        });
        if let Ok(base) = &base {
            remove_left_over(base);
        }
        Self { base }
    }

    /// Why there is no such layer, or nothing.
    pub(crate) fn absent(&self) -> Option<&str> {
        self.base.as_ref().err().map(String::as_str)
    }

    /// A fresh group with the limits of one call.
    pub(crate) fn scope(&self, limits: &Limits) -> Result<Scope, String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let base = self.base.as_ref().map_err(Clone::clone)?;
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = base.join(format!("{PREFIX}{}-{n}", std::process::id()));
        Scope::create(dir, limits).map_err(|e| format!("a group in {}: {e}", base.display()))
    }
}

/// The nearest group above (or at) our own that passes the controllers on.
fn base(mountinfo: &str, own: &str) -> Result<PathBuf, String> {
    let mount = mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        (right.split(' ').next()? == "cgroup2").then(|| left.split(' ').nth(4))?
    });
    let mount = Path::new(mount.ok_or("cgroup v2 is not mounted")?);
    let own = own.lines().find_map(|l| l.strip_prefix("0::")).ok_or("no cgroup v2 of our own")?;
    let mut at = mount.join(own.trim_start_matches('/'));
    let mut passed = String::new();
    loop {
        passed = fs::read_to_string(at.join("cgroup.subtree_control")).unwrap_or(passed);
        let has = |name: &str| passed.split_whitespace().any(|c| c == name);
        if NEEDED.iter().all(|name| has(name)) {
            return Ok(at);
        }
        if at == mount || !at.pop() {
            let there = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
            let there = match there.trim() {
                "" => "none, they belong to cgroup v1",
                there => there,
            };
            return Err(format!(
                "no group above this process passes memory and pids on (controllers of cgroup \
                 v2: {there})"
            ));
        }
    }
}

/// Whether this user may make groups in `base` and move processes there.
fn usable(base: &Path) -> Result<(), String> {
    use std::os::unix::ffi::OsStrExt as _;
    for path in [base.to_owned(), base.join("cgroup.procs")] {
        let text =
            std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(|e| e.to_string())?;
        // SAFETY: a NUL-terminated path.
        if unsafe { libc::access(text.as_ptr(), libc::W_OK) } != 0 {
            return Err(format!("{} is not delegated to this user", base.display()));
        }
    }
    Ok(())
}

/// Groups that an engine which is no more left behind.
fn remove_left_over(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner =
            name.strip_prefix(PREFIX).and_then(|n| n.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::write(entry.path().join("cgroup.kill"), "1");
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// One call's group. Dropped, it takes everything in it along.
#[derive(Debug)]
pub(crate) struct Scope(PathBuf);

impl Scope {
    fn create(dir: PathBuf, limits: &Limits) -> io::Result<Self> {
        fs::create_dir(&dir)?;
        let scope = Self(dir);
        let set = |file: &str, value: String| fs::write(scope.0.join(file), value);
        set("memory.max", limits.memory_bytes.to_string())?;
        // The helper's own processes, beside the command's.
        set("pids.max", (limits.processes + 8).to_string())?;
        // Not on every kernel, and not always passed on.
        let optional = |result: io::Result<()>| match result {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            other => other,
        };
        optional(set("memory.swap.max", "0".into()))?;
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let period = 100_000;
        let quota = period / 100 * CGROUP_CPU_PERCENT * processors;
        optional(set("cpu.max", format!("{quota} {period}")))?;
        Ok(scope)
    }

    /// Puts a process in; what it starts from here on is in too.
    pub(crate) fn add(&self, pid: u32) -> io::Result<()> {
        fs::write(self.0.join("cgroup.procs"), pid.to_string())
    }

    /// The limit that the kernel enforced, if it did.
    pub(crate) fn hit(&self, limits: &Limits) -> Option<LimitHit> {
        let count = |file: &str, key: &str| {
            let text = fs::read_to_string(self.0.join(file)).unwrap_or_default();
            let value = |line: &str| line.strip_prefix(key)?.trim().parse::<u64>().ok();
            text.lines().find_map(value).unwrap_or(0)
        };
        if count("memory.events", "oom_kill ") > 0 {
            return Some(LimitHit::Memory(limits.memory_bytes));
        }
        (count("pids.events", "max ") > 0).then_some(LimitHit::Processes(limits.processes))
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        for _ in 0..CGROUP_REMOVE_TRIES {
            match fs::remove_dir(&self.0) {
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mountinfo(at: &Path) -> String {
        format!(
            "29 1 0:25 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             30 1 0:26 / {} rw,nosuid - cgroup2 cgroup2 rw\n",
            at.display()
        )
    }

    #[test]
    fn the_nearest_group_that_passes_controllers_on_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let mount = dir.path();
        let own = mount.join("user/app/engine");
        fs::create_dir_all(&own).unwrap();
        for (folder, passed) in
            [("", "cpu memory pids"), ("user", "memory pids"), ("user/app", "pids")]
        {
            fs::write(mount.join(folder).join("cgroup.subtree_control"), passed).unwrap();
        }
        fs::write(own.join("cgroup.subtree_control"), "").unwrap();
        let own = "4:memory:/x\n0::/user/app/engine\n";
        assert_eq!(base(&mountinfo(mount), own).unwrap(), mount.join("user"));
        assert!(base("", own).unwrap_err().contains("not mounted"));
        for folder in ["", "user"] {
            fs::write(mount.join(folder).join("cgroup.subtree_control"), "").unwrap();
        }
        let why = base(&mountinfo(mount), own).unwrap_err();
        assert!(why.contains("belong to cgroup v1"), "{why}");
        fs::write(mount.join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        assert!(base(&mountinfo(mount), own).unwrap_err().contains("v2: cpu memory pids"));
    }

    #[test]
    fn limits_are_written_and_events_read() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("group");
        let limits = Limits { memory_bytes: 512 << 20, processes: 10, ..Limits::COMMAND };
        let scope = Scope::create(at.clone(), &limits).unwrap();
        let read = |file: &str| fs::read_to_string(at.join(file)).unwrap();
        assert_eq!(read("memory.max"), "536870912");
        assert_eq!(read("memory.swap.max"), "0");
        assert_eq!(read("pids.max"), "18");
        assert!(read("cpu.max").ends_with(" 100000"));
        assert_eq!(scope.hit(&limits), None);
        fs::write(at.join("pids.events"), "max 3\n").unwrap();
        assert_eq!(scope.hit(&limits), Some(LimitHit::Processes(10)));
        fs::write(at.join("memory.events"), "low 0\noom 1\noom_kill 1\noom_group_kill 0\n")
            .unwrap();
        assert_eq!(scope.hit(&limits), Some(LimitHit::Memory(512 << 20)));
        scope.add(1).unwrap();
        assert_eq!(read("cgroup.procs"), "1");
    }

    /// The kernel's own part, where this user may make a group (as root: everywhere that
    /// cgroup v2 is mounted, with or without controllers).
    #[test]
    fn a_group_takes_its_processes_along() {
        let waived = std::env::var("LAPCE_AI_TEST_ABSENT_LAYERS").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            right.starts_with("cgroup2 ").then(|| left.split(' ').nth(4))?
        });
        let dir = Path::new(mount.unwrap_or("/none"))
            .join(format!("lapce-ai-test-{}", std::process::id()));
        if let Err(e) = fs::create_dir(&dir) {
            assert!(
                waived.contains("cgroup"),
                "no group can be made, and the run does not say so: {e}"
            );
            return;
        }
        let scope = Scope(dir.clone());
        // It starts others once it is in the group.
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", "read go; sleep 600 & sleep 600"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        scope.add(child.id()).unwrap();
        io::Write::write_all(child.stdin.as_mut().unwrap(), b"go\n").unwrap();
        let members = || fs::read_to_string(dir.join("cgroup.procs")).unwrap();
        while members().lines().count() < 3 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let members = members();
        drop(scope);
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
        let lives = || {
            let line = |pid: &str| fs::read(Path::new("/proc").join(pid).join("cmdline"));
            members.lines().any(|pid| line(pid).is_ok_and(|c| c.starts_with(b"sleep")))
        };
        for _ in 0..1_000 {
            if lives() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        assert!(!lives(), "{members}");
        let _ = fs::remove_dir(&dir);
        assert!(!dir.exists());
    }
}
