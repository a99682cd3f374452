//! Points at which a test lets the process die, as `kill -9` would.
//!
//! In a release build there are none. A test names one in the environment variable
//! `lapce_ai_ipc::env::INDEX_FAULT`, as `NAME` or `NAME:N` for its Nth time.

/// Every point there is, for the test that dies at each.
pub const POINTS: &[&str] = &[
    "list-marked",
    "rows-added",
    "rows-deleted",
    "indexed",
    "copies-written",
    "list-saved",
    "meta-saved",
    "list-merged",
    "compacted",
    "tidy-copies",
    "tidy-saved",
    "cache-written",
    "cache-joined",
];

/// Dies here, if the test said so.
#[cfg(debug_assertions)]
pub fn fault(point: &str) {
    use std::sync::atomic::{AtomicU32, Ordering};
    static SEEN: AtomicU32 = AtomicU32::new(0);
    debug_assert!(POINTS.contains(&point), "{point} is not listed");
    let Ok(wanted) = std::env::var(lapce_ai_ipc::env::INDEX_FAULT) else { return };
    let (name, nth) = wanted.split_once(':').unwrap_or((&wanted, "1"));
    if name == point && SEEN.fetch_add(1, Ordering::Relaxed) + 1 == nth.parse().unwrap_or(1) {
        // SAFETY: sends a signal to this process and touches no memory.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        loop {
            std::thread::park();
        }
    }
}

#[cfg(not(debug_assertions))]
pub fn fault(_point: &str) {}
