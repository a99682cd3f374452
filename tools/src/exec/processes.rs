//! The processes of a program that runs in the fence: how many, how large, and their end.

use super::descendants;
use crate::sandbox::sys::{self, Ended};

/// What `pid` started, and itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Processes {
    pub(super) pid: libc::pid_t,
    /// This process is the first of a pid namespace.
    pub(super) pid_ns: bool,
}

impl Processes {
    /// Every process of the program: all of the namespace, or all below this one.
    pub(super) fn members(self) -> Vec<libc::pid_t> {
        let me = sys::getpid();
        if !self.pid_ns {
            return descendants(me);
        }
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|e| e.file_name().to_str()?.parse().ok())
            .filter(|pid| *pid != me)
            .collect()
    }

    /// Ends everything that still runs and returns how the program itself ended.
    pub(super) fn end(self) -> Option<Ended> {
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
        note(sys::reap(self.pid, true), &mut ended);
        for _ in 0..1_000 {
            // Whatever has lost its parent is a child of this process by now.
            if !sys::has_children() {
                break;
            }
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
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        ended
    }
}

/// Memory that a process shares with no file: what would be free without it.
pub(super) fn private_bytes(pid: libc::pid_t) -> u64 {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/statm")) else { return 0 };
    let mut fields = text.split_whitespace().map(|f| f.parse::<u64>().unwrap_or(0));
    let resident = fields.nth(1).unwrap_or(0);
    let shared = fields.next().unwrap_or(0);
    resident.saturating_sub(shared) * 4096
}
