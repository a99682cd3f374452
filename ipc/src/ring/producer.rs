//! Writing records into my ring.

use super::{Lane, Own, RECORD_HEADER, Theirs, WRAP, pack, record_size};
use crate::error::Violation;
use crate::limits::{RECORD_SHARE, REWIND_BULK, REWIND_CONTROL};

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
    /// Offset past which an empty ring starts over: what was used last is in both caches.
    rewind: u64,
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
        Self { lane, capacity, tail: 0, head: 0, seq: 0, rewind }
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

    /// Bytes published and not yet consumed, as far as known.
    pub fn in_ring(&self) -> u64 {
        self.tail - self.head
    }

    /// Where an empty ring starts over from now on: a message larger than the part in use
    /// is faster through all of the ring.
    pub fn spread(&mut self, all: bool) {
        if self.lane == Lane::Bulk {
            self.rewind = if all { self.capacity } else { REWIND_BULK.min(self.capacity / 4) };
        }
    }

    /// Writes and publishes one record; its body is `first`, then `rest`.
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
        let size = record_size(len) as u64;
        let mut at = self.tail & (self.capacity - 1);
        let mut skip = 0;
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
            self.header(own, at, body, WRAP, 0);
            fault("wrap-written");
            at = 0;
        }
        own.write16(self.lane, at as usize + RECORD_HEADER, first);
        fault("prefix-written");
        own.write(self.lane, at as usize + RECORD_HEADER + 16, rest);
        fault("body-written");
        self.header(own, at, len as u32, kind, flags);
        fault("header-written");
        self.seq += 1;
        self.tail += skip + size;
        own.publish(self.lane.tail(), self.tail);
        fault("tail-published");
        Ok(Ok(()))
    }

    fn header<O: Own>(&self, own: &O, at: u64, len: u32, kind: u16, flags: u16) {
        own.write16(self.lane, at as usize, [pack(len, kind, flags), self.seq]);
    }

    /// Reads the peer's head and checks that it moved forward and not past our tail.
    fn refresh<T: Theirs>(&mut self, theirs: &T) -> Result<(), Violation> {
        let head = theirs.load(self.lane.head());
        // The peer's reads of what it consumed come before our writes over it.
        theirs.acquire();
        if head < self.head || head > self.tail || !head.is_multiple_of(16) {
            return Err(Violation(format!(
                "head {head} of the {:?} ring is not within {}..={}",
                self.lane, self.head, self.tail
            )));
        }
        self.head = head;
        Ok(())
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
