//! Sleeping without losing a wake, and waking nobody in vain.
//!
//! Each side publishes one word: `seq << 2 | wants_space << 1 | parked`. A side that is
//! about to sleep stores it, fences, and looks at the rings once more; a side that has
//! published data or freed space fences and then looks at the word. Whatever the
//! interleaving, one of the two sees the other (the store-buffer pattern; `docs/ring.md`).

use super::{Own, Theirs, Word};

const PARKED: u64 = 1;
const WANTS_SPACE: u64 = 2;

/// This side's word.
#[derive(Debug, Default)]
pub struct Parker {
    seq: u64,
    parked: bool,
}

impl Parker {
    /// Announces sleep. The caller must look at the rings again before it sleeps.
    pub fn park<O: Own>(&mut self, own: &O, wants_space: bool) {
        self.seq += 1;
        self.parked = true;
        own.store(Word::Park, self.seq << 2 | PARKED | if wants_space { WANTS_SPACE } else { 0 });
        own.fence();
    }

    pub fn unpark<O: Own>(&mut self, own: &O) {
        if self.parked {
            self.parked = false;
            own.store(Word::Park, self.seq << 2);
        }
    }

    pub fn is_parked(&self) -> bool {
        self.parked
    }
}

/// What happened that the peer may be waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    Data,
    Space,
}

/// What this side knows of the peer's word.
#[derive(Debug, Default)]
pub struct Waker {
    woken: u64,
}

impl Waker {
    /// After publishing: whether the peer sleeps and has not been woken from this sleep.
    pub fn must_wake<O: Own, T: Theirs>(&mut self, own: &O, theirs: &T, news: News) -> bool {
        own.fence();
        let word = theirs.load(Word::Park);
        let listens = match news {
            News::Data => word & PARKED != 0,
            News::Space => word & (PARKED | WANTS_SPACE) == PARKED | WANTS_SPACE,
        };
        if !listens || word == self.woken {
            return false;
        }
        self.woken = word;
        true
    }
}
