//! Outgoing messages: straight into a ring, or into a queue when it is full.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use super::Core;
use super::message::{FIRST, Kind, MORE, PREFIX, prefix};
use crate::error::Violation;
use crate::limits::{FRAGMENT, FRAGMENT_LARGE, LARGE};
use crate::ring::park::{News, Waker};
use crate::ring::producer::{Full, Producer};
use crate::ring::{Buf, Capacity, Lane};

pub(super) struct Tx {
    lanes: [Producer; 2],
    pub(super) waker: Waker,
    control: VecDeque<Out>,
    bulk: VecDeque<Out>,
    queued: usize,
    /// Control messages handed in, and published.
    handed: u64,
    published: u64,
}

struct Out {
    kind: Kind,
    stream: u64,
    extra: u32,
    /// Prefix room, then the payload.
    buf: Buf,
    /// Payload bytes published.
    sent: usize,
    /// For bulk: control messages that must be out first, or a stream would overtake
    /// itself.
    after: u64,
}

/// What a queued message costs in memory.
fn cost(out: &Out) -> usize {
    out.buf.capacity() + size_of::<Out>()
}

/// Payload bytes of one fragment of a message of `total`.
pub(crate) fn fragment(total: usize) -> usize {
    if total < LARGE { FRAGMENT } else { FRAGMENT_LARGE }
}

/// Everything of `out` is in the ring.
fn done(core: &Core, out: Out) {
    core.recycle(out.buf);
}

impl Tx {
    pub(super) fn new(capacity: Capacity) -> Self {
        Self {
            lanes: [Lane::Control, Lane::Bulk].map(|l| Producer::new(l, capacity.of(l))),
            waker: Waker::default(),
            control: VecDeque::new(),
            bulk: VecDeque::new(),
            queued: 0,
            handed: 0,
            published: 0,
        }
    }

    pub(super) fn fits_control(&self, buf: &Buf) -> bool {
        buf.len() <= self.lanes[0].max_body()
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queued
    }

    pub(super) fn in_rings(&self) -> u64 {
        self.lanes.iter().map(Producer::in_ring).sum()
    }

    /// Whether everything has gone into the rings.
    pub(super) fn send(
        &mut self,
        core: &Core,
        kind: Kind,
        stream: u64,
        extra: u32,
        buf: Buf,
        lane: Lane,
    ) -> Result<bool, Violation> {
        debug_assert!(buf.len() >= PREFIX);
        let mut out = Out { kind, stream, extra, buf, sent: 0, after: self.handed };
        match lane {
            Lane::Control => {
                // A cancel passes what waits, so it takes no part in the order.
                let front = kind == Kind::Cancel;
                self.handed += u64::from(!front);
                if (front || self.control.is_empty()) && self.push(core, Lane::Control, &mut out)? {
                    self.published += u64::from(!front);
                    done(core, out);
                } else {
                    self.enqueue(core, Lane::Control, out, front);
                }
            }
            Lane::Bulk => {
                let first = self.bulk.is_empty() && self.published >= out.after;
                if first && self.push(core, Lane::Bulk, &mut out)? {
                    done(core, out);
                } else {
                    self.enqueue(core, Lane::Bulk, out, false);
                }
            }
        }
        Ok(self.control.is_empty() && self.bulk.is_empty())
    }

    fn enqueue(&mut self, core: &Core, lane: Lane, out: Out, front: bool) {
        core.counters.stall();
        self.queued += cost(&out);
        let queue = match lane {
            Lane::Control => &mut self.control,
            Lane::Bulk => &mut self.bulk,
        };
        if front {
            queue.push_front(out);
        } else {
            queue.push_back(out);
        }
    }

    /// Moves what it can from the queues into the rings; whether they are empty now, and
    /// whether anything moved.
    pub(super) fn flush(&mut self, core: &Core) -> Result<(bool, bool), Violation> {
        let mut moved = false;
        while let Some(mut out) = self.control.pop_front() {
            if !self.push(core, Lane::Control, &mut out)? {
                self.control.push_front(out);
                break;
            }
            moved = true;
            self.published += u64::from(out.kind != Kind::Cancel);
            self.queued -= cost(&out);
            done(core, out);
        }
        while self.bulk.front().is_some_and(|out| self.published >= out.after) {
            let Some(mut out) = self.bulk.pop_front() else { break };
            let before = out.sent;
            let whole = self.push(core, Lane::Bulk, &mut out)?;
            moved |= whole || out.sent > before;
            if !whole {
                self.bulk.push_front(out);
                break;
            }
            self.queued -= cost(&out);
            done(core, out);
        }
        Ok((self.control.is_empty() && self.bulk.is_empty(), moved))
    }

    /// Publishes as much of `out` as fits; whether that was all.
    fn push(&mut self, core: &Core, lane: Lane, out: &mut Out) -> Result<bool, Violation> {
        let payload = &out.buf[PREFIX..];
        let total = payload.len() as u32;
        let producer = &mut self.lanes[lane as usize];
        if lane == Lane::Control {
            producer.has_taken(core.taken.load(Ordering::Acquire));
        }
        let largest = match lane {
            Lane::Control => producer.max_body() - PREFIX,
            Lane::Bulk => fragment(payload.len()).min(producer.max_body() - PREFIX),
        };
        if out.sent == 0 {
            producer.spread(payload.len() >= LARGE);
        }
        let head = prefix(out.stream, total, out.extra);
        loop {
            let end = payload.len().min(out.sent + largest);
            let first = if out.sent == 0 { FIRST } else { 0 };
            let more = if end < payload.len() { MORE } else { 0 };
            match producer.push(
                &core.mine,
                &core.peers,
                out.kind as u16,
                first | more,
                head,
                &payload[out.sent..end],
            )? {
                Err(Full) => return Ok(false),
                Ok(()) => core.notify(&mut self.waker, News::Data),
            }
            out.sent = end;
            if more == 0 {
                return Ok(true);
            }
        }
    }

    pub(super) fn withdraw(&mut self, stream: u64) -> bool {
        if let Some(at) =
            self.control.iter().position(|o| o.stream == stream && o.kind == Kind::Request)
            && let Some(out) = self.control.remove(at)
        {
            self.queued -= cost(&out);
            // Counts as published: what waits behind it may go.
            self.published += 1;
            return true;
        }
        if let Some(at) = self.bulk.iter().position(|o| o.stream == stream && o.sent == 0)
            && let Some(out) = self.bulk.remove(at)
        {
            self.queued -= cost(&out);
            return true;
        }
        false
    }
}
