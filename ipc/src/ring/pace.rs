//! How long a reader that has caught up leaves the writer alone. Pure arithmetic.
//!
//! A reader that polls takes the tail's line from the writer after each message, and then
//! each message costs as much as a transfer between the cores. In a stream it is better away
//! for a moment, and finds several messages at once. It learns how long: longer while what
//! it finds is little, and not at all when it finds nothing, or when it answers, for then
//! somebody waits.

use crate::limits::{PACE_BATCH, PACE_MAX, PACE_MIN};

#[derive(Debug, Default)]
pub struct Pace {
    /// Turns of a spin loop.
    turns: u32,
    /// Messages since the last pause.
    batch: u32,
}

impl Pace {
    /// A message was taken.
    pub fn took(&mut self) {
        self.batch += 1;
    }

    /// This side has sent something.
    pub fn answered(&mut self) {
        *self = Self::default();
    }

    /// All that was known of has been taken: how many turns to wait before the next look.
    pub fn pause(&mut self) -> u32 {
        let batch = std::mem::take(&mut self.batch);
        if batch > 0 && batch < PACE_BATCH {
            self.turns = (self.turns * 2).clamp(PACE_MIN, PACE_MAX);
        }
        self.turns
    }

    /// Nothing came soon after the pause.
    pub fn in_vain(&mut self) {
        self.turns = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `batch` messages and looks again.
    fn turns(pace: &mut Pace, batch: u32) -> u32 {
        for _ in 0..batch {
            pace.took();
        }
        pace.pause()
    }

    #[test]
    fn pauses_grow_until_messages_come_together() {
        let mut pace = Pace::default();
        assert_eq!(pace.pause(), 0, "nothing has come yet");
        assert_eq!(turns(&mut pace, 1), PACE_MIN);
        assert_eq!(turns(&mut pace, 3), PACE_MIN * 2);
        assert_eq!(turns(&mut pace, PACE_BATCH), PACE_MIN * 2);
        for _ in 0..20 {
            turns(&mut pace, 1);
        }
        assert_eq!(turns(&mut pace, 1), PACE_MAX);
        pace.in_vain();
        assert_eq!(turns(&mut pace, PACE_BATCH), 0);
    }

    #[test]
    fn whoever_answers_looks_at_once() {
        let mut pace = Pace::default();
        for _ in 0..20 {
            turns(&mut pace, 1);
            pace.answered();
            assert_eq!(pace.pause(), 0);
        }
    }
}
