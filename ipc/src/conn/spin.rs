//! When to spin before parking. Pure arithmetic.
//!
//! Waking a sleeping peer costs hundreds of times the transfer, so a spin of about the
//! cost of a wake pays whenever the answer comes within it, and never loses more than it
//! could have won. What counts is therefore how long waits really were, whether they were
//! spun through or slept through: after a short one spinning pays, after long ones it is
//! tried only now and then. It never pays when the peer needs this very CPU: then the CPU is
//! offered to it instead, which costs a third of a sleep and a wake, unless a third program
//! takes it up. That shows in how long it is gone, and for a hundred times as long both sleep.

use std::time::{Duration, Instant};

use crate::limits::{SPIN_MAX, SPIN_SKIP_MAX, YIELD_LOST, YIELD_REST, YIELD_REST_MAX, YIELDS_MAX};

/// What to do for [`SPIN_MAX`] before parking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Look at the ring all the time.
    Spin,
    /// Look, and let the peer have this CPU in between.
    Yield,
}

#[derive(Debug, Default)]
pub(crate) struct Spinner {
    /// Waits to let go by before the next try.
    skip: u32,
    /// Four times what `skip` becomes after the next long wait: the first few are free,
    /// for a pause between bursts is normal.
    penalty: u32,
    /// Whether the wait that goes on was spun.
    spun: bool,
    offering: Offering,
    /// Somebody else took the CPU that we offered to the peer: not again before this.
    rest: Option<Instant>,
}

/// Whether it pays to offer this CPU to the peer.
#[derive(Debug, Default, Clone, Copy)]
struct Offering {
    /// Offers in this wait.
    made: u32,
    /// Waits to let go by without one, and how many there will be after the next failure.
    skip: u32,
    penalty: u32,
}

impl Spinner {
    /// At the start of a wait: how to pass its first moments, if not asleep. CPUs are plus
    /// one, 0 unknown.
    pub(crate) fn pass(&mut self, my_cpu: u64, peer_cpu: u64) -> Option<Pass> {
        let pass = if my_cpu == peer_cpu { Pass::Yield } else { Pass::Spin };
        if pass == Pass::Yield
            && let Some(until) = self.rest
        {
            if Instant::now() < until {
                return None;
            }
            self.rest = None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        if pass == Pass::Yield && !self.offering.worth_it() {
            return None;
        }
        self.spun = true;
        Some(pass)
    }

    /// Something came after `waited`.
    pub(crate) fn waited(&mut self, waited: Duration) {
        if waited <= SPIN_MAX {
            *self = Self { rest: self.rest, offering: self.offering, ..Self::default() };
        } else if std::mem::take(&mut self.spun) {
            self.skip = self.penalty / 4;
            self.penalty = (self.penalty * 2).clamp(1, SPIN_SKIP_MAX * 4);
        }
    }

    /// The CPU came back `took` after it was offered; whether to offer it again.
    pub(crate) fn came_back(&mut self, took: Duration) -> bool {
        if took > YIELD_LOST {
            self.rest = Some(Instant::now() + (took * YIELD_REST).min(YIELD_REST_MAX));
            return false;
        }
        // While the peer works we are not asked: back at once means that it cannot run.
        self.offering.made += 1;
        self.offering.made < YIELDS_MAX
    }
}

impl Offering {
    /// At the start of a wait.
    fn worth_it(&mut self) -> bool {
        match std::mem::take(&mut self.made) {
            0 => {}
            YIELDS_MAX => {
                self.skip = self.penalty;
                self.penalty = (self.penalty * 2).clamp(1, SPIN_SKIP_MAX);
            }
            _ => self.penalty = 0,
        }
        let worth = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        worth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_on_my_own_cpu_gets_it() {
        assert_eq!(Spinner::default().pass(3, 3), Some(Pass::Yield));
        assert_eq!(Spinner::default().pass(3, 2), Some(Pass::Spin));
    }

    #[test]
    fn a_cpu_that_others_take_is_not_offered_again_soon() {
        let mut spinner = Spinner::default();
        assert!(spinner.came_back(Duration::from_micros(3)));
        assert_eq!(spinner.pass(3, 3), Some(Pass::Yield));
        assert!(!spinner.came_back(Duration::from_secs(3)));
        // Nor does a quick answer change that.
        spinner.waited(SPIN_MAX / 2);
        assert_eq!(spinner.pass(3, 3), None);
        assert_eq!(spinner.pass(3, 2), Some(Pass::Spin));
    }

    #[test]
    fn a_peer_that_does_not_come_is_offered_the_cpu_ever_more_rarely() {
        let mut spinner = Spinner::default();
        let (mut waits, mut offers) = (0, 0);
        for _ in 0..10_000 {
            spinner.waited(SPIN_MAX / 2);
            if spinner.pass(3, 3).is_none() {
                continue;
            }
            waits += 1;
            offers += 1;
            while spinner.came_back(Duration::from_nanos(300)) {
                offers += 1;
            }
        }
        assert!((100..300).contains(&waits), "{waits}");
        assert_eq!(offers, waits * YIELDS_MAX);
        // It comes again: from then on it is offered each time.
        while spinner.pass(3, 3).is_none() {}
        for _ in 0..10 {
            assert!(spinner.came_back(Duration::from_micros(2)));
            assert_eq!(spinner.pass(3, 3), Some(Pass::Yield));
        }
    }

    #[test]
    fn long_waits_make_it_rare_and_one_short_wait_brings_it_back() {
        let mut spinner = Spinner::default();
        let mut tries = 0;
        for _ in 0..10_000 {
            tries += u32::from(spinner.pass(1, 2).is_some());
            spinner.waited(Duration::from_millis(1));
        }
        assert!((100..300).contains(&tries), "{tries}");
        spinner.waited(SPIN_MAX / 2);
        assert_eq!(spinner.pass(1, 2), Some(Pass::Spin));
    }
}
