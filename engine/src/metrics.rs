//! How each tool has done since the engine started: calls, ends, times, limits; and how
//! often a tool may be called. Shown by `status`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use lapce_ai_ipc::wire::engine::ToolStats;

use crate::limits;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Ok,
    Failed,
    /// It reached a limit.
    Limited,
    /// A rule or the user said no.
    Denied,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Counts {
    ok: u64,
    failed: u64,
    limited: u64,
    denied: u64,
    /// Calls that ran, by the power of two above their time in microseconds.
    times: [u32; BUCKETS],
}

/// Up to an hour and more.
const BUCKETS: usize = 32;

/// Counters and rate limits of all tools.
pub struct Metrics {
    counts: Mutex<BTreeMap<String, Counts>>,
    rates: DefaultKeyedRateLimiter<String>,
}

impl Default for Metrics {
    fn default() -> Self {
        let per_minute = NonZeroU32::new(limits::TOOL_CALLS_PER_MINUTE).unwrap_or(NonZeroU32::MIN);
        Self { counts: Mutex::default(), rates: RateLimiter::keyed(Quota::per_minute(per_minute)) }
    }
}

impl Metrics {
    /// Counts a call that ended. `wall` is the time it ran.
    pub fn record(&self, tool: &str, end: End, wall: Duration) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        // Names come from the catalogue; the bound is for the reader's peace of mind.
        if counts.len() >= limits::TOOLS_COUNTED && !counts.contains_key(tool) {
            return;
        }
        let counts = counts.entry(tool.to_owned()).or_default();
        match end {
            End::Ok => counts.ok += 1,
            End::Failed => counts.failed += 1,
            End::Limited => counts.limited += 1,
            End::Denied => counts.denied += 1,
        }
        if end != End::Denied {
            counts.times[bucket(wall)] = counts.times[bucket(wall)].saturating_add(1);
        }
    }

    /// Whether the tool may be called now; an error says when.
    pub fn within_rate(&self, tool: &str) -> Result<(), String> {
        self.rates.check_key(&tool.to_owned()).map_err(|not| {
            let seconds = not.wait_time_from(DefaultClock::default().now()).as_secs() + 1;
            format!(
                "stopped: more than {} calls of {tool} in a minute; the next is possible in {seconds} s",
                limits::TOOL_CALLS_PER_MINUTE
            )
        })
    }

    pub fn list(&self) -> Vec<ToolStats> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |(tool, c): (&String, &Counts)| ToolStats {
            tool: tool.clone(),
            calls: c.ok + c.failed + c.limited + c.denied,
            ok: c.ok,
            failed: c.failed,
            denied: c.denied,
            limit_hits: c.limited,
            wall_p50_us: quantile(&c.times, 50),
            wall_p99_us: quantile(&c.times, 99),
        };
        counts.iter().map(of).collect()
    }
}

fn bucket(wall: Duration) -> usize {
    let micros = u64::try_from(wall.as_micros()).unwrap_or(u64::MAX).max(1);
    ((u64::BITS - (micros - 1).leading_zeros()) as usize).min(BUCKETS - 1)
}

/// The upper bound of the bucket that holds this percentile; 0 without a call.
fn quantile(times: &[u32; BUCKETS], percent: u64) -> u64 {
    let total: u64 = times.iter().map(|n| u64::from(*n)).sum();
    let wanted = (total * percent).div_ceil(100);
    let mut seen = 0;
    for (power, n) in times.iter().enumerate() {
        seen += u64::from(*n);
        if *n > 0 && seen >= wanted {
            return 1 << power;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_their_end_and_time() {
        let metrics = Metrics::default();
        for _ in 0..98 {
            metrics.record("read_file", End::Ok, Duration::from_micros(900));
        }
        metrics.record("read_file", End::Failed, Duration::from_micros(900));
        metrics.record("read_file", End::Limited, Duration::from_secs(3));
        metrics.record("read_file", End::Denied, Duration::ZERO);
        let list = metrics.list();
        let one = &list[0];
        assert_eq!((one.calls, one.ok, one.failed, one.limit_hits, one.denied), (101, 98, 1, 1, 1));
        assert_eq!((one.wall_p50_us, one.wall_p99_us), (1024, 1024));
        assert_eq!(quantile(&[0; BUCKETS], 50), 0);
        assert_eq!((bucket(Duration::ZERO), bucket(Duration::from_micros(1025))), (0, 11));
        assert_eq!(bucket(Duration::from_secs(100_000)), BUCKETS - 1);
    }

    #[test]
    fn a_tool_has_its_own_rate() {
        let metrics = Metrics::default();
        for _ in 0..limits::TOOL_CALLS_PER_MINUTE {
            assert!(metrics.within_rate("read_file").is_ok());
        }
        // On a busy machine some of them may be due again by now.
        let more = (0..).find_map(|_| metrics.within_rate("read_file").err());
        let said = more.unwrap();
        assert!(said.contains("calls of read_file in a minute"), "{said}");
        assert!(metrics.within_rate("list_files").is_ok());
    }
}
