//! One single-producer single-consumer ring per lane and direction, and the park words.
//!
//! Used by `conn` only. The algorithms ([`producer`], [`consumer`], [`park`]) are written
//! against the two traits here, [`Own`] (memory this side writes and nobody else can) and
//! [`Theirs`] (memory the peer writes while we read), so that the same code runs over
//! memfds, over the `shared_memory` crate, over plain heap memory in tests, and over the
//! model checker's memory. Nothing here hands out a reference into shared memory:
//! [`Theirs`] copies out.

pub mod consumer;
pub mod copy;
#[cfg(any(feature = "raw", test))]
pub mod pace;
pub mod park;
pub mod producer;
pub mod region;

#[cfg(all(test, not(miri)))]
mod model;
#[cfg(test)]
mod tests;

use rkyv::util::AlignedVec;

/// A message buffer: what was copied out of a ring, or is about to be copied in.
pub type Buf = AlignedVec<16>;

/// Two rings per direction, so that bulk data never delays a cancel or a small reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    Control = 0,
    Bulk = 1,
}

/// The shared words of one side, each on a pair of cache lines of its own, but for
/// `Taken` and the [slot], which share the pair of `ControlTail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Bytes ever written into my control ring.
    ControlTail = 1,
    BulkTail = 2,
    /// Bytes ever consumed from the peer's control ring.
    ControlHead = 3,
    BulkHead = 4,
    /// See [`park`].
    Park = 5,
    /// The CPU I last spun or parked on, plus one.
    Cpu = 6,
    /// `ControlHead` as it was when I last published on control: who gets my answer
    /// learns without another line that I have taken the question.
    Taken = 7,
}

impl Word {
    /// Where it is in the region.
    pub(crate) fn offset(self) -> usize {
        match self {
            Self::Taken => Self::ControlTail.offset() + 8,
            word => word as usize * WORD_STRIDE,
        }
    }
}

/// What the slot consists of, in words from its start. A short control message to a
/// reader that has taken everything lies here, in the lines that this reader polls, and
/// not in the ring, where it would cost two more lines to transfer.
pub mod slot {
    /// Position in the ring at which the message belongs, plus one: never zero.
    pub const START: usize = 0;
    /// As the first word of a record's header.
    pub const HEADER: usize = 1;
    /// Bytes by which it advances the ring's tail.
    pub const ADVANCE: usize = 2;
    /// The body's first two words.
    pub const PREFIX: usize = 3;
    pub const WORDS: usize = 5;
    /// Where it is in the region: after the tail and `Taken`.
    pub const OFFSET: usize = super::WORD_STRIDE + 16;
    /// The rest of the body, on a line of its own.
    pub const REST: usize = 64;
    pub const REST_OFFSET: usize = super::WORD_STRIDE + 64;
    /// Longest body.
    pub const BODY: usize = 16 + REST;
    const _: () = assert!(OFFSET + WORDS * 8 <= REST_OFFSET);
    const _: () = assert!(REST_OFFSET + REST <= 2 * super::WORD_STRIDE);
}

impl Lane {
    pub(crate) fn tail(self) -> Word {
        match self {
            Self::Control => Word::ControlTail,
            Self::Bulk => Word::BulkTail,
        }
    }

    pub(crate) fn head(self) -> Word {
        match self {
            Self::Control => Word::ControlHead,
            Self::Bulk => Word::BulkHead,
        }
    }
}

/// Distance between two words: the adjacent-line prefetcher pulls pairs of 64 bytes.
pub const WORD_STRIDE: usize = 128;
/// Room of the words before the first ring.
pub const HEADER: usize = 4096;

/// Sizes of the two rings of one side; powers of two within `limits::RING_MIN..=RING_MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    pub control: u32,
    pub bulk: u32,
}

impl Capacity {
    pub fn valid(self) -> bool {
        [self.control, self.bulk].iter().all(|&c| {
            c.is_power_of_two() && (crate::limits::RING_MIN..=crate::limits::RING_MAX).contains(&c)
        })
    }

    pub fn of(self, lane: Lane) -> usize {
        match lane {
            Lane::Control => self.control as usize,
            Lane::Bulk => self.bulk as usize,
        }
    }

    /// Size of the whole region.
    pub fn region(self) -> usize {
        HEADER + self.control as usize + self.bulk as usize
    }

    pub(crate) fn start(self, lane: Lane) -> usize {
        match lane {
            Lane::Control => HEADER,
            Lane::Bulk => HEADER + self.control as usize,
        }
    }
}

/// How a long piece gets into the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Past this CPU's cache.
    Memory,
    /// By ordinary stores.
    Cache,
}

/// Memory that this side alone writes.
pub trait Own {
    /// Plain store.
    fn store(&self, word: Word, value: u64);
    /// Store that makes everything written before visible to whoever reads `value`.
    fn publish(&self, word: Word, value: u64);
    /// Asks for the lines of a record of `len` at `at`, and of `word`, to be written soon.
    fn claim(&self, _lane: Lane, _at: usize, _len: usize, _word: Word) {}
    /// Writes two words at `at` (a multiple of 16); panics outside the lane.
    fn write16(&self, lane: Lane, at: usize, words: [u64; 2]);
    /// Copies `bytes` into `lane` at `at`, long ones as `large` says; panics outside of it.
    fn write(&self, lane: Lane, at: usize, bytes: &[u8], large: Way);
    /// Writes a word of the [slot].
    fn write_slot(&self, index: usize, word: u64);
    /// Writes the rest of the [slot]'s body, at most [`slot::REST`] bytes.
    fn write_slot_rest(&self, bytes: &[u8]);
    /// Full barrier between a store of ours and a load of theirs.
    fn fence(&self);
}

/// Memory that the peer writes at any time, in any way.
pub trait Theirs {
    /// One load; what comes is a claim, to be checked.
    fn load(&self, word: Word) -> u64;
    /// Asks for the cache lines at `at` ahead of time; never reads them.
    fn hint(&self, _lane: Lane, _at: usize) {}
    /// As [`Theirs::hint`], for the second line of the [slot].
    fn hint_slot(&self) {}
    /// A word of the [slot], loaded once.
    fn read_slot(&self, index: usize) -> u64;
    /// Appends a copy of `len` bytes of the rest of the [slot]'s body.
    fn copy_slot_rest(&self, len: usize, into: &mut Buf);
    /// Orders the loads before it before the reads after it.
    fn acquire(&self);
    /// The two words at `at` (a multiple of 16), each loaded once.
    fn head16(&self, lane: Lane, at: usize) -> [u64; 2];
    /// Appends a copy of `len` bytes at `at` (a multiple of 16); panics outside the lane.
    fn copy_out(&self, lane: Lane, at: usize, len: usize, into: &mut Buf);
}

/// Bytes of a record header: `{len u32, kind u16, flags u16, seq u64}`.
pub const RECORD_HEADER: usize = 16;
/// Kind of the record that fills the rest of a ring before it starts over.
pub const WRAP: u16 = 1;

/// Bytes that a record with `len` bytes of body takes.
pub(crate) const fn record_size(len: usize) -> usize {
    (RECORD_HEADER + len + 15) & !15
}

pub(crate) fn pack(len: u32, kind: u16, flags: u16) -> u64 {
    u64::from(len) | u64::from(kind) << 32 | u64::from(flags) << 48
}

pub(crate) fn unpack(word: u64) -> (u32, u16, u16) {
    (word as u32, (word >> 32) as u16, (word >> 48) as u16)
}
