//! When to spin before parking, and how long. Pure arithmetic.
//!
//! Waking a sleeping peer costs about two hundred times the transfer, so a short spin
//! pays when an answer is near; it costs when none is, or when the peer needs this very
//! CPU to produce it. So: never when the peer last ran here, longer after success, and
//! after failures only now and then.

use std::time::Duration;

use crate::limits::{SPIN_MAX, SPIN_MIN, SPIN_SKIP_MAX};

#[derive(Debug)]
pub(crate) struct Spinner {
    budget: Duration,
    /// Waits to let go by before the next try.
    skip: u32,
    /// What `skip` becomes after the next failure.
    penalty: u32,
}

impl Default for Spinner {
    fn default() -> Self {
        Self { budget: SPIN_MAX, skip: 0, penalty: 0 }
    }
}

impl Spinner {
    /// At the start of a wait: how long to spin, if at all. CPUs are plus one, 0 unknown.
    pub(crate) fn budget(&mut self, my_cpu: u64, peer_cpu: u64) -> Option<Duration> {
        if my_cpu == peer_cpu {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        Some(self.budget)
    }

    pub(crate) fn hit(&mut self) {
        self.budget = SPIN_MAX;
        self.penalty = 0;
    }

    pub(crate) fn miss(&mut self) {
        self.budget = (self.budget / 2).max(SPIN_MIN);
        // The first few failures are free: a pause between bursts is normal.
        self.skip = self.penalty / 4;
        self.penalty = (self.penalty * 2).clamp(1, SPIN_SKIP_MAX * 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_against_the_peer_on_my_own_cpu() {
        assert_eq!(Spinner::default().budget(3, 3), None);
        assert_eq!(Spinner::default().budget(3, 2), Some(SPIN_MAX));
    }

    #[test]
    fn failures_make_it_rare_and_success_brings_it_back() {
        let mut spinner = Spinner::default();
        let mut tries = 0;
        for _ in 0..10_000 {
            if spinner.budget(1, 2).is_some() {
                tries += 1;
                spinner.miss();
            }
        }
        assert!((100..300).contains(&tries), "{tries}");
        while spinner.budget(1, 2).is_none() {}
        spinner.hit();
        assert_eq!(spinner.budget(1, 2), Some(SPIN_MAX));
    }
}
