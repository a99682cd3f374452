//! Reading records out of the peer's ring, believing nothing.

use super::{Buf, Lane, Own, RECORD_HEADER, Theirs, WRAP, record_size, slot, unpack};
use crate::error::Violation;
use crate::limits::RECORD_SHARE;

/// The reading end of one lane.
#[derive(Debug)]
pub struct Consumer {
    lane: Lane,
    capacity: u64,
    head: u64,
    /// The head as the peer knows it.
    told: u64,
    /// The peer's tail as last seen and checked.
    tail: u64,
    seq: u64,
    /// The record at the head is in the slot.
    in_slot: bool,
}

/// A record's header, checked; its body is still in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    pub kind: u16,
    pub flags: u16,
    pub len: usize,
    at: usize,
    /// Bytes by which it moves the head.
    size: u64,
}

/// The header of the message in the slot, checked; the rest of its body is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short {
    pub kind: u16,
    pub flags: u16,
    /// Of the body, the prefix included.
    pub len: usize,
    pub prefix: [u64; 2],
    size: u64,
}

impl Consumer {
    pub fn new(lane: Lane, capacity: usize) -> Self {
        let capacity = capacity as u64;
        Self { lane, capacity, head: 0, told: 0, tail: 0, seq: 0, in_slot: false }
    }

    /// Whether the peer's tail has moved, without believing it. For spinning.
    #[inline]
    pub fn stirs<T: Theirs>(&self, theirs: &T) -> bool {
        // With the tail comes the record: both lines travel at once.
        match self.lane {
            Lane::Control => theirs.hint_slot(),
            // A page that has never been used has no address to be had cheaply.
            Lane::Bulk if self.head > 0 => {
                theirs.hint(self.lane, (self.head & (self.capacity - 1)) as usize);
            }
            Lane::Bulk => {}
        }
        theirs.load(self.lane.tail()) != self.head
    }

    /// Loads and checks the peer's tail.
    #[inline]
    pub fn look<T: Theirs>(&mut self, theirs: &T) -> Result<u64, Violation> {
        let tail = theirs.load(self.lane.tail());
        // Everything written before this tail was published is visible from here on.
        theirs.acquire();
        if tail < self.tail || tail - self.head > self.capacity || !tail.is_multiple_of(16) {
            return Err(self.bad_tail(tail));
        }
        // The slot is used by a writer that knows that all before has been taken, so by the
        // first record after that or not at all. One look there, while its line is here.
        if self.lane == Lane::Control && self.head == self.tail && tail != self.tail {
            self.in_slot = theirs.read_slot(slot::START) == self.head | 1;
        }
        self.tail = tail;
        Ok(tail)
    }

    /// The peer's tail as last seen: up to here there is something to read, and no need to
    /// take the line from a writer that may be about to write it.
    #[cfg(feature = "raw")]
    #[inline]
    pub fn known(&self) -> Option<u64> {
        (self.head < self.tail).then_some(self.tail)
    }

    pub fn head(&self) -> u64 {
        self.head
    }

    /// The next record of the ring before `limit`, which is a tail that
    /// [`Consumer::look`] returned; [`Consumer::short`] comes first.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "a record handed over in memory costs as much as its transfer between near cores"
    )]
    pub fn next<T: Theirs>(&mut self, theirs: &T, limit: u64) -> Result<Option<Record>, Violation> {
        debug_assert!(limit <= self.tail && !self.in_slot);
        let mut wrapped = false;
        loop {
            if self.head >= limit {
                if wrapped {
                    // Wrap and the record after it are published together.
                    return Err(self.broken(format_args!("nothing after a wrap")));
                }
                return Ok(None);
            }
            let available = limit - self.head;
            let at = self.head & (self.capacity - 1);
            let [word, seq] = theirs.head16(self.lane, at as usize);
            let (len, kind, flags) = unpack(word);
            let size = record_size(len as usize) as u64;
            if seq != self.seq {
                return Err(self.broken(format_args!("sequence {seq}, expected {}", self.seq)));
            }
            if kind == 0 {
                return Err(self.broken(format_args!("no record where one was announced")));
            }
            if kind == WRAP {
                let rest = self.capacity - at;
                if at == 0 || size != rest || size > available || wrapped {
                    return Err(self.broken(format_args!("misplaced wrap of {len} at {at}")));
                }
                self.head += rest;
                wrapped = true;
                continue;
            }
            if size > self.capacity / u64::from(RECORD_SHARE)
                || size > available
                || size > self.capacity - at
            {
                return Err(self.broken(format_args!(
                    "record of {len} bytes at {at} with {available} available"
                )));
            }
            return Ok(Some(Record { kind, flags, len: len as usize, at: at as usize, size }));
        }
    }

    /// The message in the slot, if it comes next before `limit`, a tail that
    /// [`Consumer::look`] returned.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "a record handed over in memory costs as much as its transfer between near cores"
    )]
    pub fn short<T: Theirs>(&self, theirs: &T, limit: u64) -> Result<Option<Short>, Violation> {
        if !self.in_slot || self.head >= limit {
            return Ok(None);
        }
        let available = limit - self.head;
        let (len, kind, flags) = unpack(theirs.read_slot(slot::HEADER));
        let size = theirs.read_slot(slot::ADVANCE);
        let prefix = [0, 1].map(|i| theirs.read_slot(slot::PREFIX + i));
        let len = len as usize;
        let fits = (16..=slot::BODY).contains(&len);
        if !fits || size == 0 || size > available || !size.is_multiple_of(16) || kind <= WRAP {
            return Err(self.bad_slot(kind, len, size, available));
        }
        Ok(Some(Short { kind, flags, len, prefix, size }))
    }

    /// Appends the rest of the message's body to `into`, and moves past it.
    #[inline]
    pub fn take<T: Theirs>(&mut self, theirs: &T, short: &Short, into: &mut Buf) {
        if short.len > 16 {
            theirs.copy_slot_rest(short.len - 16, into);
        }
        self.head += short.size;
        self.seq += 1;
        self.in_slot = false;
    }

    /// Appends bytes `from..` of the record's body to `into`; `from` is a multiple of 16.
    #[inline]
    pub fn body<T: Theirs>(&self, theirs: &T, record: &Record, from: usize, into: &mut Buf) {
        let len = record.len.saturating_sub(from);
        theirs.copy_out(self.lane, record.at + RECORD_HEADER + from, len, into);
    }

    /// The first 16 bytes of the record's body, which has at least that many.
    #[inline]
    pub fn prefix<T: Theirs>(&self, theirs: &T, record: &Record) -> Result<[u64; 2], Violation> {
        if record.len < 16 {
            return Err(self.broken(format_args!("record of {} bytes", record.len)));
        }
        Ok(theirs.head16(self.lane, record.at + RECORD_HEADER))
    }

    /// Moves past a record whose body has been copied out.
    #[inline]
    pub fn consume(&mut self, record: &Record) {
        self.head += record.size;
        self.seq += 1;
    }

    /// Tells the peer what may be overwritten, if there is anything to tell.
    #[inline]
    pub fn release<O: Own>(&mut self, own: &O) -> bool {
        if self.told == self.head {
            return false;
        }
        self.told = self.head;
        own.publish(self.lane.head(), self.head);
        true
    }

    /// Consumed and not yet told.
    pub fn held(&self) -> u64 {
        self.head - self.told
    }

    // By value: a variable of which a reference goes anywhere lives in memory.
    #[cold]
    fn bad_tail(&self, tail: u64) -> Violation {
        self.broken(format_args!("tail {tail} after {}", self.tail))
    }

    #[cold]
    fn bad_slot(&self, kind: u16, len: usize, size: u64, available: u64) -> Violation {
        self.broken(format_args!(
            "record of kind {kind} and {len} bytes in the slot, taking {size} of {available}"
        ))
    }

    #[cold]
    fn broken(&self, what: std::fmt::Arguments<'_>) -> Violation {
        Violation(format!("{:?} ring at {}: {what}", self.lane, self.head))
    }
}
