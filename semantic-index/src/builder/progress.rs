//! What a build tells about itself while it runs, and the sums at its end.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use lapce_ai_ipc::wire::index::{Phase, Progress};

use super::OnProgress;
use crate::limits::PROGRESS_EVERY;

/// Passes progress on, not more often than readers can use.
#[derive(Clone)]
pub(super) struct Throttle {
    send: OnProgress,
    last: Arc<Mutex<Option<Instant>>>,
}

impl Throttle {
    pub(super) fn new(send: OnProgress) -> Self {
        Self { send, last: Arc::default() }
    }

    pub(super) fn maybe(
        &self,
        phase: Phase,
        files_done: u64,
        files_total: u64,
        chunks: u64,
        current: &str,
    ) {
        let Ok(mut last) = self.last.try_lock() else { return };
        if last.is_none_or(|at| at.elapsed() >= PROGRESS_EVERY) {
            *last = Some(Instant::now());
            (self.send)(Progress {
                phase,
                files_done,
                files_total,
                chunks,
                current: current.into(),
            });
        }
    }

    pub(super) fn now(
        &self,
        phase: Phase,
        files_done: u64,
        files_total: u64,
        chunks: u64,
        current: &str,
    ) {
        (self.send)(Progress { phase, files_done, files_total, chunks, current: current.into() });
    }
}

/// Bytes of all files below.
pub fn disk_bytes(dir: &Path) -> u64 {
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

pub(super) fn unix_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64)
}

/// Largest resident size of this process so far.
pub(super) fn peak_rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse().ok()
        })
        .unwrap_or(0)
}
