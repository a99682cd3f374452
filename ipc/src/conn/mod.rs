//! One connection: messages in and out of the rings, queues when they are full, and the
//! task that drives it. Knows streams by number only; what a message means is decided by
//! a [`Role`] (`client` or `server`).
//!
//! Locks, always taken in this order: `rx`, then the role's own, then `tx`. None is held
//! across an await.

mod counters;
mod driver;
mod message;
mod pool;
mod rx;
mod spin;
mod tx;
#[cfg(feature = "raw")]
pub(crate) use spin::{Pass, Spinner};
#[cfg(feature = "raw")]
pub(crate) use tx::fragment;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};

use futures::task::AtomicWaker;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub(crate) use counters::Counters;
pub(crate) use driver::drive;
#[cfg(feature = "fuzzing")]
pub(crate) use message::prefix;
pub(crate) use message::{Kind, Message, PREFIX};

use crate::client::Options;
use crate::error::Violation;
use crate::handshake::Link;
use crate::limits;
use crate::ring::park::News;
use crate::ring::region::{Mine, Peers};
use crate::ring::{Buf, Lane};
use crate::server::Peer;
use crate::sys::wake::Wake;
use crate::wire::engine::ConnectionInfo;

/// What the two ends do with messages.
pub(crate) trait Role: Send + Sync {
    /// Takes one message. Called with `rx` locked: must not block or wait.
    fn message(&self, core: &Core, message: Message) -> Result<(), Violation>;
    /// The connection is over; called once.
    fn ended(&self, how: &End);
    /// Whether somebody waits for the peer, so that its silence means something.
    fn waiting(&self) -> bool;
}

/// How a connection ended.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// The peer left, orderly or by dying; the text says what is known.
    Left(String),
    /// We closed it.
    Local(String),
    /// The peer broke a rule, and we closed it.
    Broken(Violation),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Left(text) | Self::Local(text) => f.write_str(text),
            Self::Broken(violation) => write!(f, "closed: peer broke the protocol: {violation}"),
        }
    }
}

/// The shared half of a connection; everything but the descriptors the driver waits on.
pub(crate) struct Core {
    mine: Mine,
    peers: Peers,
    wake: Wake,
    peer: Peer,
    spin: bool,
    rx: Mutex<rx::Rx>,
    tx: Mutex<tx::Tx>,
    /// Output waits for space in a ring.
    stalled: AtomicBool,
    /// Control bytes copied out, for `tx` to tell the peer with its next message.
    taken: AtomicU64,
    /// The driver has something to look at besides its descriptors.
    kicked: AtomicBool,
    kick: AtomicWaker,
    /// The driver's timer runs; whoever starts to wait while it does not kicks it.
    ticking: AtomicBool,
    /// Told when queued output has shrunk.
    room: Notify,
    ended: OnceLock<End>,
    gone: CancellationToken,
    pool: Mutex<pool::Pool>,
    /// Size of the last message sent: the next one is often like it.
    last_size: AtomicUsize,
    counters: Counters,
}

impl Core {
    /// Takes what the handshake made; gives back what the driver needs.
    pub(crate) fn new(link: Link, options: &Options) -> (Self, driver::Inputs) {
        let Link { mine, peers, wait, wake, peer, socket, pending } = link;
        let core = Self::assemble(mine, peers, wake, peer, options);
        (core, driver::Inputs { socket, wait, pending })
    }

    /// Everything but the waiting.
    pub(crate) fn assemble(
        mine: Mine,
        peers: Peers,
        wake: Wake,
        peer: Peer,
        options: &Options,
    ) -> Self {
        Self {
            rx: Mutex::new(rx::Rx::new(peers.capacity())),
            tx: Mutex::new(tx::Tx::new(mine.capacity())),
            mine,
            peers,
            wake,
            peer,
            spin: options.spin,
            stalled: AtomicBool::new(false),
            taken: AtomicU64::new(0),
            kicked: AtomicBool::new(false),
            kick: AtomicWaker::new(),
            ticking: AtomicBool::new(false),
            room: Notify::new(),
            ended: OnceLock::new(),
            gone: CancellationToken::new(),
            pool: Mutex::default(),
            last_size: AtomicUsize::new(0),
            counters: Counters::default(),
        }
    }

    /// One turn of the driver without its waiting: reads, and ends on a violation. False
    /// when it is over.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn pump_for_tests(&self, role: &dyn Role) -> bool {
        let outcome = lock(&self.rx).pump(self, role);
        if let Err(violation) = outcome {
            self.finish(End::Broken(violation));
        }
        if let Err(violation) = lock(&self.tx).flush(self) {
            self.finish(End::Broken(violation));
        }
        self.ended.get().is_none()
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Cancelled when the connection is over.
    pub(crate) fn gone(&self) -> &CancellationToken {
        &self.gone
    }

    pub(crate) fn end(&self) -> Option<&End> {
        self.ended.get()
    }

    /// Ends the connection; the first reason counts. The driver cleans up.
    pub(crate) fn finish(&self, how: End) {
        let _ = self.ended.set(how);
        self.kick();
    }

    /// Makes the driver look again.
    fn kick(&self) {
        self.kicked.store(true, Ordering::Release);
        self.kick.wake();
    }

    /// Somebody starts to wait for the peer: silence has a meaning from now on.
    pub(crate) fn watch(&self) {
        if !self.ticking.load(Ordering::Acquire) {
            self.kick();
        }
    }

    /// A buffer to encode into: the prefix is there, the body follows it.
    pub(crate) fn buffer(&self) -> Buf {
        // Growing a buffer step by step would copy a large message twice over.
        let expected = self.last_size.load(Ordering::Relaxed).min(limits::POOL_BYTES / 2);
        let mut buf = lock(&self.pool).take(expected);
        buf.extend_from_slice(&[0; PREFIX]);
        buf
    }

    pub(crate) fn recycle(&self, buf: Buf) {
        if pool::worth_keeping(&buf) {
            lock(&self.pool).put(buf);
        }
    }

    /// Sends one message, or queues it. `buf` came from [`Core::buffer`]. With `bulk` the
    /// message takes the bulk lane whatever its size: a stream that has used it stays
    /// there, so that its messages keep their order. Returns whether bulk was taken.
    pub(crate) fn send(&self, kind: Kind, stream: u64, extra: u32, buf: Buf, bulk: bool) -> bool {
        if self.ended.get().is_some() {
            return bulk;
        }
        let mut tx = lock(&self.tx);
        if tx.queued_bytes() > limits::QUEUE_HARD {
            drop(tx);
            let what = format!("does not read: {} bytes are waiting", limits::QUEUE_HARD);
            self.finish(End::Broken(Violation(what)));
            return bulk;
        }
        let lane = if bulk || !tx.fits_control(&buf) { Lane::Bulk } else { Lane::Control };
        self.counters.sent(buf.len());
        self.last_size.store(buf.len(), Ordering::Relaxed);
        let outcome = tx.send(self, kind, stream, extra, buf, lane);
        self.settle(tx, outcome);
        lane == Lane::Bulk
    }

    /// After work on the queues: remembers a stall, makes the driver see to it.
    fn settle(&self, tx: MutexGuard<'_, tx::Tx>, outcome: Result<bool, Violation>) {
        self.counters.waiting(tx.queued_bytes() as u64 + tx.in_rings());
        drop(tx);
        match outcome {
            Ok(true) => {}
            Ok(false) => {
                if !self.stalled.swap(true, Ordering::AcqRel) {
                    self.kick();
                }
            }
            Err(violation) => self.finish(End::Broken(violation)),
        }
    }

    /// Takes a message of `stream` back out of the queue, if none of it has been sent.
    pub(crate) fn withdraw(&self, stream: u64) -> bool {
        lock(&self.tx).withdraw(stream)
    }

    /// Bytes waiting in our queues.
    pub(crate) fn queued(&self) -> usize {
        lock(&self.tx).queued_bytes()
    }

    /// Waits until the queue is short enough for one more message.
    pub(crate) async fn room(&self) {
        loop {
            let told = self.room.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if self.queued() < limits::QUEUE_BYTES || self.ended.get().is_some() {
                return;
            }
            told.await;
        }
    }

    /// Wakes the peer if it sleeps and waits for such news.
    fn notify(&self, waker: &mut crate::ring::park::Waker, news: News) {
        if waker.must_wake(&self.mine, &self.peers, news) {
            self.wake.wake();
            self.counters.wake();
        }
    }

    pub(crate) fn info(&self) -> ConnectionInfo {
        let peer = &self.peer;
        self.counters.fill(ConnectionInfo {
            session: peer.session.clone(),
            pid: peer.pid,
            client: format!("{} {}", peer.name, peer.version),
            transport: self.wake.transport().name().to_owned(),
            ..ConnectionInfo::default()
        })
    }
}

/// A poisoned lock means that a thread panicked while it held it; the data are plain and
/// every operation leaves them whole, so go on.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
