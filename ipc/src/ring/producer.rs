//! Writing records into my ring.

use std::time::Instant;

use super::{Lane, Own, RECORD_HEADER, Theirs, WRAP, Way, Word, pack, record_size, slot};
use crate::error::Violation;
use crate::limits::{PROBE, PROBE_TIME, RECORD_SHARE, REWIND_BULK, REWIND_CONTROL};

/// The writing end of one lane. State that matters lives here, in private memory; what
/// is in shared memory is only ever written from it.
#[derive(Debug)]
pub struct Producer {
    lane: Lane,
    capacity: u64,
    tail: u64,
    /// The peer's head as last seen: room is at least what this says.
    head: u64,
    seq: u64,
    /// What we have taken of the peer's control ring: to be told with the next record,
    /// and as told.
    taken: [u64; 2],
    /// Offset past which an empty ring starts over: what was used last is in both caches.
    rewind: u64,
    /// How the rest of a large message is copied; unknown before its first piece.
    way: Option<Way>,
}

/// No room now; the peer has to consume first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Producer {
    pub fn new(lane: Lane, capacity: usize) -> Self {
        let capacity = capacity as u64;
        let rewind = match lane {
            Lane::Control => REWIND_CONTROL.min(capacity / 4),
            Lane::Bulk => REWIND_BULK.min(capacity / 4),
        };
        Self {
            lane,
            capacity,
            tail: 0,
            head: 0,
            seq: 0,
            taken: [0; 2],
            rewind,
            way: Some(Way::Memory),
        }
    }

    /// Largest body of one record.
    pub fn max_body(&self) -> usize {
        self.capacity as usize / RECORD_SHARE as usize - RECORD_HEADER
    }

    /// The peer's head as last seen.
    #[cfg(feature = "raw")]
    pub fn head(&self) -> u64 {
        self.head
    }

    #[cfg(feature = "fuzzing")]
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Bytes published and not yet consumed, as far as known.
    pub fn in_ring(&self) -> u64 {
        self.tail - self.head
    }

    /// Before a message, whether it is large. A large one is faster through all of the ring,
    /// and, where the two CPUs share a cache that holds it, with ordinary stores. Where
    /// they are now only a try tells: with its first piece.
    pub fn spread(&mut self, all: bool) {
        if self.lane == Lane::Bulk {
            self.way = if all { None } else { Some(Way::Memory) };
            self.rewind = if all { self.capacity } else { REWIND_BULK.min(self.capacity / 4) };
        }
    }

    /// The head of this side's consumer of the same lane, to be told with the next record.
    pub fn has_taken(&mut self, head: u64) {
        self.taken[0] = head;
    }

    /// Writes and publishes one record; its body is `first`, then `rest`.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "a call costs as much as a tenth of the transfer between near cores"
    )]
    pub fn push<O: Own, T: Theirs>(
        &mut self,
        own: &O,
        theirs: &T,
        kind: u16,
        flags: u16,
        first: [u64; 2],
        rest: &[u8],
    ) -> Result<Result<(), Full>, Violation> {
        let len = 16 + rest.len();
        assert!(len <= self.max_body(), "record larger than its share of the ring");
        if self.lane == Lane::Control && len <= slot::BODY && self.all_taken(theirs)? {
            let at = self.tail & (self.capacity - 1);
            let advance = if at < self.rewind { RECORD_HEADER as u64 } else { self.capacity - at };
            self.fill_slot(own, pack(len as u32, kind, flags), advance, first, rest);
            self.publish(own, advance);
            return Ok(Ok(()));
        }
        self.push_record(own, theirs, pack(len as u32, kind, flags), first, rest)
    }

    /// As [`Producer::push`], through the ring.
    #[inline(never)]
    fn push_record<O: Own, T: Theirs>(
        &mut self,
        own: &O,
        theirs: &T,
        header: u64,
        first: [u64; 2],
        rest: &[u8],
    ) -> Result<Result<(), Full>, Violation> {
        let len = 16 + rest.len();
        let mut at = self.tail & (self.capacity - 1);
        let mut skip = 0;
        let size = record_size(len) as u64;
        if at + size > self.capacity {
            skip = self.capacity - at;
        } else if at >= self.rewind && at < self.rewind + size && size <= at {
            // Just past the mark: start over if the peer has taken everything. (What is
            // skipped and the record must fit together, hence the last condition.)
            self.refresh(theirs)?;
            if self.head == self.tail {
                skip = self.capacity - at;
            }
        }
        if self.capacity - (self.tail - self.head) < skip + size {
            self.refresh(theirs)?;
            if self.capacity - (self.tail - self.head) < skip + size {
                return Ok(Err(Full));
            }
        }
        own.claim(
            self.lane,
            if skip > 0 { 0 } else { at as usize },
            size as usize,
            self.lane.tail(),
        );
        if skip > 0 {
            let body = (skip as usize - RECORD_HEADER) as u32;
            self.header(own, at, pack(body, WRAP, 0));
            fault("wrap-written");
            at = 0;
        }
        own.write16(self.lane, at as usize + RECORD_HEADER, first);
        fault("prefix-written");
        self.write(own, at as usize + RECORD_HEADER + 16, rest);
        fault("body-written");
        self.header(own, at, header);
        fault("header-written");
        self.publish(own, skip + size);
        Ok(Ok(()))
    }

    fn write<O: Own>(&mut self, own: &O, at: usize, bytes: &[u8]) {
        let (probe, bytes) =
            bytes.split_at(if self.way.is_some() { 0 } else { PROBE.min(bytes.len()) });
        if !probe.is_empty() {
            let started = Instant::now();
            own.write(self.lane, at, probe, Way::Cache);
            // Until the stores are done, not only on their way.
            own.fence();
            let near = started.elapsed() < PROBE_TIME;
            self.way = Some(if near { Way::Cache } else { Way::Memory });
        }
        own.write(self.lane, at + probe.len(), bytes, self.way.unwrap_or(Way::Memory));
    }

    #[inline]
    fn publish<O: Own>(&mut self, own: &O, advance: u64) {
        self.seq += 1;
        self.tail += advance;
        let [taken, told] = self.taken;
        if self.lane == Lane::Control && taken != told {
            self.taken[1] = taken;
            own.publish(Word::Taken, taken);
        }
        own.publish(self.lane.tail(), self.tail);
        fault("tail-published");
    }

    /// Whether the peer has taken everything, as far as can be seen from the line that its
    /// messages come in. Then nobody reads the slot, until the next tail.
    #[inline]
    fn all_taken<T: Theirs>(&mut self, theirs: &T) -> Result<bool, Violation> {
        if self.head != self.tail {
            // What the peer told last is older than what it tells here, or newer.
            let taken = theirs.load(Word::Taken);
            if taken > self.head {
                // The peer's reads of what it has taken come before our writes.
                theirs.acquire();
                self.check(taken)?;
                self.head = taken;
            }
        }
        Ok(self.head == self.tail)
    }

    /// The message into the slot; it takes no more room in the ring than it must to have
    /// a position of its own.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "a call costs as much as a tenth of the transfer between near cores"
    )]
    fn fill_slot<O: Own>(&self, own: &O, header: u64, advance: u64, first: [u64; 2], rest: &[u8]) {
        // The rest first: the other line, which the reader polls, is left alone until it is
        // there.
        if !rest.is_empty() {
            own.write_slot_rest(rest);
        }
        fault("body-written");
        own.write_slot(slot::PREFIX + 1, first[1]);
        own.write_slot(slot::PREFIX, first[0]);
        fault("prefix-written");
        own.write_slot(slot::ADVANCE, advance);
        own.write_slot(slot::HEADER, header);
        own.write_slot(slot::START, self.tail | 1);
        fault("header-written");
    }

    fn header<O: Own>(&self, own: &O, at: u64, header: u64) {
        own.write16(self.lane, at as usize, [header, self.seq]);
    }

    /// Reads the peer's head and checks that it moved forward and not past our tail.
    fn refresh<T: Theirs>(&mut self, theirs: &T) -> Result<(), Violation> {
        let head = theirs.load(self.lane.head());
        // The peer's reads of what it consumed come before our writes over it.
        theirs.acquire();
        self.check(head)?;
        self.head = head;
        Ok(())
    }

    #[inline]
    fn check(&self, head: u64) -> Result<(), Violation> {
        if head < self.head || head > self.tail || !head.is_multiple_of(16) {
            return Err(self.bad_head(head));
        }
        Ok(())
    }

    #[cold]
    fn bad_head(&self, head: u64) -> Violation {
        Violation(format!(
            "head {head} of the {:?} ring is not within {}..={}",
            self.lane, self.head, self.tail
        ))
    }
}

/// A place where tests kill the process (see `crate::fault`).
#[inline(always)]
#[expect(clippy::inline_always, reason = "must vanish without the feature")]
fn fault(point: &str) {
    #[cfg(feature = "fault-points")]
    crate::fault::hit(point);
    #[cfg(not(feature = "fault-points"))]
    let _ = point;
}
