//! One blocking endpoint straight on the rings: no runtime, no calls, no codec.
//!
//! For the bench alone, which compares the ring itself with other mechanisms; the same
//! producer, consumer and park code as a connection, and the same handshake. Not part of
//! the product (feature `raw`).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Instant;

use tokio::net::UnixStream;

use crate::client::Options;
use crate::conn::{Pass, Spinner, fragment};
use crate::error::ConnectError;
use crate::handshake::{Link, accept, connect};
use crate::limits::{LARGE, SPIN_MAX};
use crate::protocol::{EngineProtocol, Ident};
pub use crate::ring::Buf;
use crate::ring::consumer::Consumer;
use crate::ring::pace::Pace;
use crate::ring::park::{News, Parker, Waker};
use crate::ring::producer::{Full, Producer};
use crate::ring::region::{Mine, Peers};
use crate::ring::{Lane, Own as _, Theirs as _, Word};
use crate::sys::wake::Wake;

/// How an endpoint waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// For ever on the CPU.
    Spin,
    /// Always asleep, woken by the eventfd.
    Park,
    /// As a connection does: a bounded spin, or offering the CPU to a peer that runs on it,
    /// then asleep.
    Adaptive,
}

pub struct Raw {
    mine: Mine,
    peers: Peers,
    wake: Wake,
    epoll: OwnedFd,
    producers: [Producer; 2],
    consumers: [Consumer; 2],
    parker: Parker,
    waker: Waker,
    spinner: Spinner,
    pace: Pace,
    _keep: (UnixStream, Option<crate::sys::eventfd::EventFd>),
}

/// A message over this many bytes takes the bulk ring.
const SMALL: usize = 16 << 10;

impl Raw {
    pub async fn open(socket: UnixStream, client: bool) -> Result<Self, ConnectError> {
        let (ident, options) = (Ident::new("bench", "0"), Options::default());
        let link = if client {
            connect::<EngineProtocol>(socket, &ident, &options).await?
        } else {
            accept::<EngineProtocol>(socket, &ident, &options, None).await?
        };
        let Link { mine, peers, wait, wake, socket, .. } = link;
        // SAFETY: plain system call, result checked.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(io::Error::last_os_error().into());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        if let Some(wait) = &wait {
            let mut event =
                libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: 0 };
            // SAFETY: both descriptors are open, the event is live memory.
            let done = unsafe {
                libc::epoll_ctl(
                    epoll.as_raw_fd(),
                    libc::EPOLL_CTL_ADD,
                    wait.as_raw_fd(),
                    &raw mut event,
                )
            };
            if done != 0 {
                return Err(io::Error::last_os_error().into());
            }
        }
        let both = [Lane::Control, Lane::Bulk];
        Ok(Self {
            producers: both.map(|l| Producer::new(l, mine.capacity().of(l))),
            consumers: both.map(|l| Consumer::new(l, peers.capacity().of(l))),
            mine,
            peers,
            wake,
            epoll,
            parker: Parker::default(),
            waker: Waker::default(),
            spinner: Spinner::default(),
            pace: Pace::default(),
            _keep: (socket, wait),
        })
    }

    /// Sends one message, in fragments if it is large; waits while the ring is full.
    pub fn send(&mut self, bytes: &[u8], wait: Wait) {
        self.pace.answered();
        self.producers[0].has_taken(self.consumers[0].head());
        let lane = usize::from(bytes.len() > SMALL);
        if lane == 0 {
            return self.send_part(0, bytes.len(), bytes, wait);
        }
        self.producers[lane].spread(bytes.len() >= LARGE);
        for part in bytes.chunks(fragment(bytes.len())) {
            self.send_part(lane, bytes.len(), part, wait);
        }
    }

    #[inline]
    fn send_part(&mut self, lane: usize, total: usize, part: &[u8], wait: Wait) {
        let prefix = [total as u64, 0];
        while self.producers[lane].push(&self.mine, &self.peers, 3, 0, prefix, part)
            == Ok(Err(Full))
        {
            self.wait(wait, Some(lane));
        }
        // A spinning peer never sleeps, so nobody needs waking.
        if wait != Wait::Spin && self.waker.must_wake(&self.mine, &self.peers, News::Data) {
            self.wake.wake();
        }
    }

    /// Receives one message into `into`.
    pub fn receive(&mut self, into: &mut Buf, wait: Wait) {
        into.clear();
        if let Some(tail) = self.consumers[0].known()
            && self.records(0, tail, into, wait)
        {
            return self.pace.took();
        }
        let turns = self.pace.pause();
        if turns > 0 {
            self.leave_alone(turns);
        }
        self.pace.took();
        loop {
            let control = &mut self.consumers[0];
            let tail = control.look(&self.peers).expect("an honest peer");
            if let Some(short) = control.short(&self.peers, tail).expect("an honest peer") {
                control.take(&self.peers, &short, into);
                return self.release(0, wait);
            }
            if tail != self.consumers[0].head() && self.records(0, tail, into, wait) {
                return;
            }
            let tail = self.consumers[1].look(&self.peers).expect("an honest peer");
            if tail != self.consumers[1].head() && self.records(1, tail, into, wait) {
                return;
            }
            self.wait(wait, None);
        }
    }

    /// In a stream: gives the writer the time for several messages.
    #[inline(never)]
    fn leave_alone(&mut self, turns: u32) {
        for _ in 0..turns {
            std::hint::spin_loop();
        }
        for _ in 0..64 {
            if self.stirs(None) {
                return;
            }
            std::hint::spin_loop();
        }
        self.pace.in_vain();
    }

    /// Reads one message, or as much of it as there is; whether that was all.
    #[inline(never)]
    fn records(&mut self, lane: usize, tail: u64, into: &mut Buf, wait: Wait) -> bool {
        let mut whole = false;
        while !whole {
            let consumer = &mut self.consumers[lane];
            let record = match consumer.next(&self.peers, tail) {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(violation) => panic!("an honest peer: {violation}"),
            };
            let [len, _] = consumer.prefix(&self.peers, &record).expect("an honest peer");
            consumer.body(&self.peers, &record, 16, into);
            consumer.consume(&record);
            whole = len as usize == into.len();
            if consumer.held() * 8 >= u64::from(self.peers.capacity().bulk) {
                self.release(lane, wait);
            }
        }
        // Told in lumps while more waits, at once when all is read.
        let consumer = &self.consumers[lane];
        let lump = consumer.held() * 8 >= u64::from(self.peers.capacity().control);
        if lump || consumer.head() == tail {
            self.release(lane, wait);
        }
        whole
    }

    /// Tells the peer what it may overwrite.
    #[inline]
    fn release(&mut self, lane: usize, wait: Wait) {
        // A spinning peer never sleeps, so nobody needs waking.
        if self.consumers[lane].release(&self.mine)
            && wait != Wait::Spin
            && self.waker.must_wake(&self.mine, &self.peers, News::Space)
        {
            self.wake.wake();
        }
    }

    #[inline]
    fn stirs(&self, full: Option<usize>) -> bool {
        match full {
            // For space: push checks, this only wants to know whether to look again.
            Some(lane) => {
                let head = [Word::ControlHead, Word::BulkHead][lane];
                self.producers[lane].in_ring() > 0
                    && self.peers.load(head) != self.producers[lane].head()
            }
            None => self.consumers.iter().any(|c| c.stirs(&self.peers)),
        }
    }

    #[inline]
    fn wait(&mut self, wait: Wait, full: Option<usize>) {
        if wait == Wait::Spin {
            while !self.stirs(full) {
                std::hint::spin_loop();
            }
            return;
        }
        self.spin_or_park(wait, full);
    }

    fn spin_or_park(&mut self, wait: Wait, full: Option<usize>) {
        let mut start = None;
        if wait == Wait::Adaptive {
            let cpu = u64::from(crate::sys::cpu()) + 1;
            self.mine.store(Word::Cpu, cpu);
            let pass = self.spinner.pass(cpu, self.peers.load(Word::Cpu));
            let came = pass.is_some_and(|pass| self.pass(pass, full, &mut start));
            if came {
                if let Some(start) = start {
                    self.spinner.waited(start.elapsed());
                }
                return;
            }
        }
        let started = *start.get_or_insert_with(Instant::now);
        self.parker.park(&self.mine, full.is_some());
        if !self.stirs(full) {
            // SAFETY: zeroed events are valid; one live slot.
            unsafe {
                let mut event: libc::epoll_event = std::mem::zeroed();
                libc::epoll_wait(self.epoll.as_raw_fd(), &raw mut event, 1, 1000);
            }
        }
        self.parker.unpark(&self.mine);
        self.spinner.waited(started.elapsed());
    }

    /// The first moments of a wait, awake; whether something came.
    fn pass(&mut self, pass: Pass, full: Option<usize>, start: &mut Option<Instant>) -> bool {
        if pass == Pass::Spin {
            loop {
                for _ in 0..64 {
                    if self.stirs(full) {
                        return true;
                    }
                    std::hint::spin_loop();
                }
                if start.get_or_insert_with(Instant::now).elapsed() > SPIN_MAX {
                    return false;
                }
            }
        }
        let started = *start.get_or_insert_with(Instant::now);
        loop {
            let offered = Instant::now();
            crate::sys::offer_cpu();
            let again = self.spinner.came_back(offered.elapsed());
            if self.stirs(full) {
                return true;
            }
            if !again || started.elapsed() > SPIN_MAX {
                return false;
            }
            let cpu = u64::from(crate::sys::cpu()) + 1;
            self.mine.store(Word::Cpu, cpu);
            if self.peers.load(Word::Cpu) != cpu {
                return false;
            }
        }
    }
}
