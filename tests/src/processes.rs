//! Which processes belong to a test, from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use lapce_ai_ipc::env;

/// A live process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    /// Name of its program, at most 15 bytes.
    pub name: String,
    pub command: String,
}

/// Every process that has `LAPCE_AI_HOME=home`, or works below `home`, or descends from
/// such a process.
pub(crate) fn of_home(home: &Path) -> Vec<Process> {
    let mark = [env::HOME.as_bytes(), b"=", home.as_os_str().as_bytes()].concat();
    let all = all();
    let mut ours: Vec<u32> = all
        .keys()
        .copied()
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|var| var == mark)
                || fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(home))
        })
        .collect();
    loop {
        let more: Vec<_> = all
            .values()
            .filter(|p| ours.contains(&p.parent) && !ours.contains(&p.pid))
            .map(|p| p.pid)
            .collect();
        if more.is_empty() {
            break;
        }
        ours.extend(more);
    }
    ours.iter().filter_map(|pid| all.get(pid).cloned()).collect()
}

fn all() -> BTreeMap<u32, Process> {
    let entries = fs::read_dir("/proc").expect("/proc");
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, read(pid)?))).collect()
}

/// A process that is not a zombie.
fn read(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    Some(Process {
        pid,
        parent: fields.next()?.parse().ok()?,
        name: head.split_once('(')?.1.to_owned(),
        command: String::from_utf8_lossy(&command).replace('\0', " ").trim().to_owned(),
    })
}

/// Whether the process lives and is no zombie.
pub fn alive(pid: u32) -> bool {
    read(pid).is_some()
}

/// Sends a signal.
pub fn kill(pid: u32, signal: i32) {
    let pid = i32::try_from(pid).expect("a process id");
    assert!(pid > 1, "not a process of ours");
    // SAFETY: kill touches no memory.
    unsafe { libc::kill(pid, signal) };
}

/// A line of the process's memory, in KiB: `Rss`, `Pss`, `Private_Dirty`, …
pub fn memory_kib(pid: u32, what: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with(&format!("{what}:")))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn processes_of_a_home_are_found_by_environment_folder_and_descent() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(of_home(home.path()), []);
        let mut by_env = Command::new("sleep");
        let mut by_env = by_env.arg("1000").env(env::HOME, home.path()).spawn().unwrap();
        let mut by_cwd = Command::new("sleep");
        let mut by_cwd = by_cwd.arg("1000").env_clear().current_dir(home.path()).spawn().unwrap();
        // Its child has neither.
        let script = "cd /; env -i sleep 1000 & echo; wait";
        let mut parent = Command::new("sh");
        let mut parent = parent.args(["-c", script]).env(env::HOME, home.path()).spawn().unwrap();
        crate::wait_for("four processes", || of_home(home.path()).len() == 4);
        for process in of_home(home.path()) {
            kill(process.pid, libc::SIGKILL);
        }
        for child in [&mut by_env, &mut by_cwd, &mut parent] {
            child.wait().unwrap();
        }
        crate::wait_for("their ends", || of_home(home.path()).is_empty());
    }
}
