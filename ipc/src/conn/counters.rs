//! What a connection has done, for `status`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::wire::engine::ConnectionInfo;

struct Times([AtomicU64; 40]);

impl Default for Times {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; 40])
    }
}

#[derive(Default)]
pub(crate) struct Counters {
    messages_in: AtomicU64,
    messages_out: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    wakes: AtomicU64,
    spins: AtomicU64,
    stalls: AtomicU64,
    high_water: AtomicU64,
    calls: AtomicU64,
    /// Calls by the bit length of their microseconds.
    times: Times,
}

impl Counters {
    pub(crate) fn received(&self, bytes: usize) {
        self.messages_in.fetch_add(1, Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.messages_out.fetch_add(1, Relaxed);
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn wake(&self) {
        self.wakes.fetch_add(1, Relaxed);
    }

    pub(crate) fn spin(&self) {
        self.spins.fetch_add(1, Relaxed);
    }

    pub(crate) fn stall(&self) {
        self.stalls.fetch_add(1, Relaxed);
    }

    pub(crate) fn waiting(&self, bytes: u64) {
        if bytes > self.high_water.load(Relaxed) {
            self.high_water.fetch_max(bytes, Relaxed);
        }
    }

    pub(crate) fn call_opened(&self) {
        self.calls.fetch_add(1, Relaxed);
    }

    pub(crate) fn call_closed(&self, took: Duration) {
        self.calls.fetch_sub(1, Relaxed);
        let micros = took.as_micros() as u64;
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        self.times.0[bucket.min(self.times.0.len() - 1)].fetch_add(1, Relaxed);
    }

    /// Upper bound in microseconds of the bucket that holds share `q` of the calls.
    fn quantile(&self, q: f64) -> u64 {
        let counts: Vec<u64> = self.times.0.iter().map(|t| t.load(Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return 0;
        }
        let rank = (total as f64 * q).ceil() as u64;
        let mut seen = 0;
        for (bits, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return 1 << bits;
            }
        }
        1 << (counts.len() - 1)
    }

    fn histogram(&self) -> Vec<u64> {
        let mut counts: Vec<u64> = self.times.0.iter().map(|t| t.load(Relaxed)).collect();
        while counts.last() == Some(&0) {
            counts.pop();
        }
        counts
    }

    pub(crate) fn fill(&self, info: ConnectionInfo) -> ConnectionInfo {
        ConnectionInfo {
            messages_in: self.messages_in.load(Relaxed),
            messages_out: self.messages_out.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            wakes: self.wakes.load(Relaxed),
            spins: self.spins.load(Relaxed),
            stalls: self.stalls.load(Relaxed),
            high_water: self.high_water.load(Relaxed),
            calls: self.calls.load(Relaxed),
            call_p50_us: self.quantile(0.5),
            call_p99_us: self.quantile(0.99),
            call_times: self.histogram(),
            ..info
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_upper_bounds() {
        let counters = Counters::default();
        assert_eq!(counters.quantile(0.5), 0);
        for micros in [1, 3, 3, 3, 900] {
            counters.call_opened();
            counters.call_closed(Duration::from_micros(micros));
        }
        assert_eq!(counters.quantile(0.5), 4);
        assert_eq!(counters.quantile(0.99), 1024);
        let histogram = counters.histogram();
        assert_eq!(histogram, [0, 1, 3, 0, 0, 0, 0, 0, 0, 0, 1]);
    }
}
