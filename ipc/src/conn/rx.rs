//! Incoming messages: out of the rings, checked, joined, handed to the role.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::message::{FIRST, Kind, MORE, Message, PREFIX, split_prefix};
use super::spin::{Pass, Spinner};
use super::{Core, End, Role, lock};
use crate::error::Violation;
use crate::limits::{MESSAGE_MAX, PUMP_BATCH, SPIN_MAX};
use crate::ring::consumer::Consumer;
use crate::ring::park::{News, Parker};
use crate::ring::{Buf, Capacity, Lane, Own as _, Theirs as _, Word};
use crate::sys;

pub(super) struct Rx {
    control: Consumer,
    bulk: Consumer,
    pub(super) parker: Parker,
    spinner: Spinner,
    /// The spinner of callers: how long answers take says nothing of how long nobody asks.
    callers: Spinner,
    /// Bulk up to the second tail may be read once control has been read up to the
    /// first: that much control was published before it.
    gate: Option<(u64, u64)>,
    joining: Option<Joining>,
    cpu: u64,
    /// When the wait that goes on began.
    idle_since: Option<Instant>,
    /// When a caller began to wait.
    asked: Option<Instant>,
}

/// What came out of the bulk ring.
enum Part {
    None,
    Fragment,
    /// The last fragment of this one.
    Message(Message),
}

/// A message of which some fragments have come.
struct Joining {
    kind: Kind,
    stream: u64,
    extra: u32,
    total: usize,
    body: Buf,
}

impl Rx {
    pub(super) fn new(capacity: Capacity) -> Self {
        Self {
            control: Consumer::new(Lane::Control, capacity.of(Lane::Control)),
            bulk: Consumer::new(Lane::Bulk, capacity.of(Lane::Bulk)),
            parker: Parker::default(),
            spinner: Spinner::default(),
            callers: Spinner::default(),
            gate: None,
            joining: None,
            cpu: 0,
            idle_since: None,
            asked: None,
        }
    }

    /// Whether there is something to read.
    #[inline]
    pub(super) fn stirs(&self, core: &Core) -> bool {
        self.control.stirs(&core.peers) || self.bulk.stirs(&core.peers)
    }

    /// One step of a wait; whether something came, and whether to go on so if not.
    pub(super) fn look_again(&mut self, core: &Core, pass: Pass, asking: bool) -> (bool, bool) {
        match pass {
            Pass::Spin => (self.spin(core), true),
            Pass::Yield => {
                let again = self.offer(core, asking);
                (self.stirs(core), again)
            }
        }
    }

    /// Spins for about a microsecond; whether something came.
    fn spin(&self, core: &Core) -> bool {
        for _ in 0..64 {
            if self.stirs(core) {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// How to pass the first moments of a wait; tells the peer where we run. `asking` is a
    /// caller who waits for an answer.
    pub(super) fn pass(&mut self, core: &Core, asking: bool) -> Option<Pass> {
        if !core.spin {
            return None;
        }
        let since = if asking { &mut self.asked } else { &mut self.idle_since };
        since.get_or_insert_with(Instant::now);
        self.here(core);
        let (cpu, peers) = (self.cpu, core.peers.load(Word::Cpu));
        self.spinner_of(asking).pass(cpu, peers)
    }

    fn spinner_of(&mut self, asking: bool) -> &mut Spinner {
        if asking { &mut self.callers } else { &mut self.spinner }
    }

    /// Tells the peer where we run.
    fn here(&mut self, core: &Core) {
        let cpu = u64::from(sys::cpu()) + 1;
        if cpu != self.cpu {
            self.cpu = cpu;
            core.mine.store(Word::Cpu, cpu);
        }
    }

    /// Lets the peer run on this CPU; whether to do so again if nothing has come.
    fn offer(&mut self, core: &Core, asking: bool) -> bool {
        let started = Instant::now();
        sys::offer_cpu();
        let again = self.spinner_of(asking).came_back(started.elapsed());
        self.here(core);
        // Somewhere else by now, one of us: spinning is for the next wait.
        again && core.peers.load(Word::Cpu) == self.cpu
    }

    /// Reads one batch; whether there was anything.
    pub(super) fn pump(&mut self, core: &Core, role: &dyn Role) -> Result<bool, Violation> {
        if self.gate.is_none() {
            // Bulk first: see `gate`.
            let bulk = self.bulk.look(&core.peers)?;
            let control = self.control.look(&core.peers)?;
            self.gate = Some((control, bulk));
        }
        let Some((control_until, bulk_until)) = self.gate else { return Ok(false) };
        let mut handled = 0;
        while handled < PUMP_BATCH {
            let Some(message) = self.control_message(core, control_until)? else { break };
            core.taken.store(self.control.head(), Ordering::Release);
            handled += 1;
            core.deliver(role, message)?;
        }
        if self.control.head() >= control_until {
            while handled < PUMP_BATCH {
                match self.bulk_message(core, bulk_until)? {
                    Part::None => break,
                    Part::Fragment => {}
                    Part::Message(message) => core.deliver(role, message)?,
                }
                handled += 1;
            }
            if self.bulk.head() >= bulk_until {
                self.gate = None;
            }
        }
        if handled > 0 {
            if let Some(since) = self.idle_since.take() {
                self.spinner.waited(since.elapsed());
            }
            if let Some(since) = self.asked.take() {
                self.callers.waited(since.elapsed());
            }
            self.release(core);
        }
        Ok(handled > 0)
    }

    /// Takes one message, through the slot or the ring.
    fn control_message(&mut self, core: &Core, until: u64) -> Result<Option<Message>, Violation> {
        if let Some(short) = self.control.short(&core.peers, until)? {
            let mut message = announced(short.kind, short.flags, short.len, short.prefix)?;
            self.control.take(&core.peers, &short, &mut message.body);
            return Ok(Some(message));
        }
        let Some(record) = self.control.next(&core.peers, until)? else { return Ok(None) };
        let prefix = self.control.prefix(&core.peers, &record)?;
        let mut message = announced(record.kind, record.flags, record.len, prefix)?;
        self.control.body(&core.peers, &record, PREFIX, &mut message.body);
        self.control.consume(&record);
        Ok(Some(message))
    }

    /// Takes one fragment.
    fn bulk_message(&mut self, core: &Core, until: u64) -> Result<Part, Violation> {
        let Some(record) = self.bulk.next(&core.peers, until)? else { return Ok(Part::None) };
        let (stream, total, extra) = split_prefix(self.bulk.prefix(&core.peers, &record)?);
        let total = total as usize;
        let kind = Kind::from_wire(record.kind)?;
        let part = record.len - PREFIX;
        let broken = |what: &str| {
            Err(Violation(format!(
                "fragment of {part} of {total} bytes of stream {stream}: {what}"
            )))
        };
        if record.flags & !(FIRST | MORE) != 0 {
            return broken("unknown flags");
        }
        let mut joining = if record.flags & FIRST != 0 {
            if self.joining.is_some() {
                return broken("starts inside another message");
            }
            if total > MESSAGE_MAX {
                return broken("larger than a message may be");
            }
            let body = lock(&core.pool).take(total);
            Joining { kind, stream, extra, total, body }
        } else {
            match self.joining.take() {
                Some(j) if j.kind == kind && j.stream == stream && j.total == total => j,
                _ => return broken("belongs to no message"),
            }
        };
        let so_far = joining.body.len() + part;
        let more = record.flags & MORE != 0;
        // A fragment before the last one fills 16-byte units, so that the next one's copy
        // lands aligned, and no sender gains by sending crumbs.
        if so_far > total
            || more == (so_far == total)
            || (more && (part == 0 || !part.is_multiple_of(16)))
        {
            return broken("does not add up");
        }
        self.bulk.body(&core.peers, &record, PREFIX, &mut joining.body);
        self.bulk.consume(&record);
        if self.bulk.held() * 8 >= core.peers.capacity().of(Lane::Bulk) as u64 {
            self.release(core);
        }
        if more {
            self.joining = Some(joining);
            return Ok(Part::Fragment);
        }
        let Joining { kind, stream, extra, body, .. } = joining;
        Ok(Part::Message(Message { kind, lane: Lane::Bulk, stream, extra, body }))
    }

    /// Tells the peer what it may overwrite, and wakes it if it waits for that.
    fn release(&mut self, core: &Core) {
        let control = self.control.release(&core.mine);
        let bulk = self.bulk.release(&core.mine);
        if control || bulk {
            core.notify(&mut lock(&core.tx).waker, News::Space);
        }
    }
}

/// A control message as its header says, with an empty body that has room for it.
fn announced(kind: u16, flags: u16, len: usize, prefix: [u64; 2]) -> Result<Message, Violation> {
    let (stream, total, extra) = split_prefix(prefix);
    let payload = len - PREFIX;
    if flags != FIRST || total as usize != payload {
        return Err(Violation(format!(
            "control message of {payload} bytes says {total}, flags {flags:#x}"
        )));
    }
    let body = Buf::with_capacity((payload + 15) & !15);
    Ok(Message { kind: Kind::from_wire(kind)?, lane: Lane::Control, stream, extra, body })
}

impl Core {
    fn deliver(&self, role: &dyn Role, message: Message) -> Result<(), Violation> {
        self.counters.received(message.body.len() + PREFIX);
        match message.kind {
            Kind::Ping => {
                // A peer that asks without reading gets no answer, rather than our memory.
                if self.queued() == 0 {
                    self.send(Kind::Pong, 0, 0, self.buffer(), false);
                }
                Ok(())
            }
            Kind::Pong => Ok(()),
            _ => role.message(self, message),
        }
    }

    /// Reads on the caller's own thread while it would otherwise wait: whoever needs the
    /// answer spins for it, and no task switch lies between. Whether `ready` came true.
    pub(crate) fn spin_for(&self, role: &dyn Role, ready: impl Fn() -> bool) -> bool {
        let Ok(mut rx) = self.rx.try_lock() else { return false };
        let Some(pass) = rx.pass(self, true) else { return false };
        let was_parked = rx.parker.is_parked();
        rx.parker.unpark(&self.mine);
        let start = Instant::now();
        let mut failed = None;
        let found = loop {
            let (came, again) = rx.look_again(self, pass, true);
            if came {
                match rx.pump(self, role) {
                    Ok(_) if ready() => break true,
                    Ok(_) => {}
                    Err(violation) => {
                        failed = Some(violation);
                        break true;
                    }
                }
            }
            if !again || start.elapsed() > SPIN_MAX {
                break false;
            }
        };
        if found {
            self.counters.spin();
        }
        if let Some(violation) = failed {
            self.finish(End::Broken(violation));
        } else if was_parked {
            // The driver still sleeps, so leave the word as it left it.
            let stalled = self.stalled.load(Ordering::Acquire);
            rx.parker.park(&self.mine, stalled);
            // Data or space may have come while the word said that nobody sleeps, and then
            // nobody was woken for it.
            if stalled || rx.stirs(self) {
                self.kick();
            }
        }
        found
    }
}
