//! When to spin before parking. Pure arithmetic.
//!
//! Waking a sleeping peer costs hundreds of times the transfer, so a spin of about the
//! cost of a wake pays whenever the answer comes within it, and never loses more than it
//! could have won. What counts is therefore how long waits really were, whether they were
//! spun through or slept through: after a short one spinning pays, after long ones it is
//! tried only now and then. It never pays when the peer needs this very CPU.

use std::time::Duration;

use crate::limits::{SPIN_MAX, SPIN_SKIP_MAX};

#[derive(Debug, Default)]
pub(crate) struct Spinner {
    /// Waits to let go by before the next try.
    skip: u32,
    /// Four times what `skip` becomes after the next long wait: the first few are free,
    /// for a pause between bursts is normal.
    penalty: u32,
    /// Whether the wait that goes on was spun.
    spun: bool,
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
        self.spun = true;
        Some(SPIN_MAX)
    }

    /// Something came after `waited`.
    pub(crate) fn waited(&mut self, waited: Duration) {
        if waited <= SPIN_MAX {
            *self = Self::default();
        } else if std::mem::take(&mut self.spun) {
            self.skip = self.penalty / 4;
            self.penalty = (self.penalty * 2).clamp(1, SPIN_SKIP_MAX * 4);
        }
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
    fn long_waits_make_it_rare_and_one_short_wait_brings_it_back() {
        let mut spinner = Spinner::default();
        let mut tries = 0;
        for _ in 0..10_000 {
            tries += u32::from(spinner.budget(1, 2).is_some());
            spinner.waited(Duration::from_millis(1));
        }
        assert!((100..300).contains(&tries), "{tries}");
        spinner.waited(SPIN_MAX / 2);
        assert_eq!(spinner.budget(1, 2), Some(SPIN_MAX));
    }
}
