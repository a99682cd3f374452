//! Places where the fault suite kills this process. Compiled for tests only.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// `NAME:COUNT` in this variable: die at passage number COUNT of point NAME.
pub const VARIABLE: &str = "LAPCE_AI_TEST_FAULT";

/// Every point, in the order in which a publish passes them.
pub const POINTS: [&str; 5] =
    ["wrap-written", "prefix-written", "body-written", "header-written", "tail-published"];

pub(crate) fn hit(point: &str) {
    static PLAN: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let plan = PLAN.get_or_init(|| {
        let value = std::env::var(VARIABLE).ok()?;
        let (name, count) = value.split_once(':')?;
        Some((name.to_owned(), count.parse().ok()?))
    });
    let Some((name, count)) = plan else { return };
    if name == point && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *count {
        // SAFETY: plain system calls; SIGKILL leaves no chance to tidy up, which is the
        // point.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}
