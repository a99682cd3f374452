//! The task behind a connection: read, spin a little, park, notice death.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures::future::poll_fn;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::time::Sleep;

use super::{Core, End, Kind, Role, lock};
use crate::error::Violation;
use crate::handshake::Pending;
use crate::hello::printable;
use crate::limits::{BYE_MAX, HEARTBEAT, HEARTBEATS_MISSED, IDLE_AFTER, SPIN_MAX};
use crate::sys::eventfd::EventFd;
use crate::sys::wake::WAKE_BYTE;

/// Descriptors that only the driver waits on.
pub(crate) struct Inputs {
    pub socket: UnixStream,
    /// Absent where wakes come over the socket.
    pub wait: Option<EventFd>,
    pub pending: Pending,
}

const BYE: &[u8] = b"BYE ";

/// Runs a connection until it ends, and says how.
pub(crate) async fn drive(core: &Core, role: &dyn Role, inputs: Inputs) -> io::Result<End> {
    let Inputs { socket, wait, pending } = inputs;
    let wait = wait.map(EventFd::watch).transpose()?;
    let mut driver = Driver { core, role, socket: &socket, wait, pending, idle: Idle::new() };
    let end = driver.run().await;
    let end = core.ended.get_or_init(|| end).clone();
    if let End::Broken(violation) = &end {
        let mut bye = BYE.to_vec();
        bye.extend_from_slice(violation.0.as_bytes());
        bye.truncate(BYE_MAX);
        // The peer may be gone or not reading; the reason is in our log.
        let _ = socket.try_write(&bye);
    }
    // Not left to the last descriptor: `Wake` may hold another one.
    let _ = socket.into_std().and_then(|s| s.shutdown(std::net::Shutdown::Both));
    core.gone.cancel();
    core.room.notify_waiters();
    role.ended(&end);
    Ok(end)
}

struct Driver<'a> {
    core: &'a Core,
    role: &'a dyn Role,
    socket: &'a UnixStream,
    wait: Option<AsyncFd<EventFd>>,
    /// Kept until the peer has shown that it has our memory.
    pending: Pending,
    idle: Idle,
}

/// Why the driver woke.
enum Woke {
    /// Something may be in the rings or the queues.
    Look,
    /// The socket has ended or said something.
    Ended(End),
    Tick,
}

impl Driver<'_> {
    async fn run(&mut self) -> End {
        match self.turns().await {
            Ok(end) => end,
            Err(violation) => End::Broken(violation),
        }
    }

    async fn turns(&mut self) -> Result<End, Violation> {
        let core = self.core;
        loop {
            if let Some(end) = core.ended.get() {
                return Ok(end.clone());
            }
            core.kicked.store(false, Ordering::Release);
            if self.role.waiting() {
                self.idle.arm(core);
            }
            if self.work()? {
                self.idle.active();
                self.idle.arm(core);
                // Other tasks first: among them the handlers of what came.
                yield_now().await;
                continue;
            }
            if self.spin().await {
                continue;
            }
            if !self.park() {
                continue;
            }
            match poll_fn(|cx| self.poll_wait(cx)).await {
                Woke::Look => {}
                Woke::Ended(end) => return self.last_words(end),
                Woke::Tick => {
                    if let Some(end) = self.tick() {
                        return Ok(end);
                    }
                }
            }
        }
    }

    /// One batch in, what fits out; whether anything moved.
    fn work(&self) -> Result<bool, Violation> {
        let core = self.core;
        let mut rx = lock(&core.rx);
        rx.parker.unpark(&core.mine);
        let came = rx.pump(core, self.role)?;
        drop(rx);
        Ok(self.flush()? || came)
    }

    fn flush(&self) -> Result<bool, Violation> {
        let core = self.core;
        if !core.stalled.load(Ordering::Acquire) {
            return Ok(false);
        }
        let mut tx = lock(&core.tx);
        let (empty, moved) = tx.flush(core)?;
        if empty {
            core.stalled.store(false, Ordering::Release);
        }
        drop(tx);
        if moved {
            core.room.notify_waiters();
        }
        Ok(moved)
    }

    /// Looks in slices with other tasks in between; whether something came.
    async fn spin(&self) -> bool {
        let core = self.core;
        let Some(pass) = lock(&core.rx).pass(core, false) else { return false };
        let start = Instant::now();
        loop {
            let (came, again) = lock(&core.rx).look_again(core, pass, false);
            if came {
                core.counters.spin();
                return true;
            }
            if core.kicked.load(Ordering::Acquire) {
                return true;
            }
            if !again || start.elapsed() > SPIN_MAX {
                return false;
            }
            yield_now().await;
        }
    }

    /// Announces sleep and looks once more; whether it may sleep.
    fn park(&self) -> bool {
        let core = self.core;
        let mut rx = lock(&core.rx);
        let stalled = core.stalled.load(Ordering::Acquire);
        rx.parker.park(&core.mine, stalled);
        if rx.stirs(core) {
            return false;
        }
        drop(rx);
        // Space may have come before the peer saw that we want it.
        !stalled || !matches!(self.flush(), Ok(true) | Err(_))
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<Woke> {
        let core = self.core;
        core.kick.register(cx.waker());
        if core.kicked.load(Ordering::Acquire) {
            return Poll::Ready(Woke::Look);
        }
        if let Some(wait) = &self.wait
            && let Poll::Ready(guard) = wait.poll_read_ready(cx)
        {
            // Nobody reads the counter: each write is an edge of its own, and the edge is
            // what wakes (as with mio's own waker).
            return Poll::Ready(match guard {
                Ok(mut guard) => {
                    guard.clear_ready();
                    Woke::Look
                }
                Err(error) => Woke::Ended(End::Local(format!("the runtime ends: {error}"))),
            });
        }
        if let Poll::Ready(woke) = self.poll_socket(cx) {
            return Poll::Ready(woke);
        }
        if self.idle.poll(cx).is_ready() {
            return Poll::Ready(Woke::Tick);
        }
        Poll::Pending
    }

    /// After the hello the socket says one thing at most, a farewell; and wakes, where
    /// there is no eventfd.
    fn poll_socket(&mut self, cx: &mut Context<'_>) -> Poll<Woke> {
        loop {
            if ready!(self.socket.poll_read_ready(cx)).is_err() {
                let end = End::Left("the control socket failed".into());
                return Poll::Ready(Woke::Ended(end));
            }
            let mut bytes = [0; BYE_MAX];
            let end = match self.socket.try_read(&mut bytes) {
                Ok(0) => End::Left("the other process ended".into()),
                Ok(n) => {
                    let mut said = &bytes[..n];
                    if self.wait.is_none() {
                        self.pending = None;
                        while let [WAKE_BYTE, rest @ ..] = said {
                            said = rest;
                        }
                        if said.is_empty() {
                            return Poll::Ready(Woke::Look);
                        }
                    }
                    match said.strip_prefix(BYE) {
                        Some(text) => {
                            End::Left(format!("closed by the other side: {}", printable(text)))
                        }
                        None => End::Broken(Violation(format!(
                            "{} bytes of garbage on the control socket, starting with {:?}",
                            said.len(),
                            printable(&said[..said.len().min(16)])
                        ))),
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
                Err(e) => End::Left(format!("control socket: {e}")),
            };
            return Poll::Ready(Woke::Ended(end));
        }
    }

    /// The peer is gone, but what it published before still counts. Bounded: a peer that
    /// only pretends to be gone cannot keep us here.
    fn last_words(&self, end: End) -> Result<End, Violation> {
        if matches!(end, End::Left(_)) {
            for _ in 0..1024 {
                let mut rx = lock(&self.core.rx);
                if !rx.pump(self.core, self.role)? {
                    break;
                }
            }
        }
        Ok(end)
    }

    /// Once a second while something goes on: heartbeats and tidying.
    fn tick(&mut self) -> Option<End> {
        let core = self.core;
        let waiting = self.role.waiting();
        if !self.idle.was_active() && waiting {
            if self.idle.silent_for(HEARTBEAT) {
                if self.idle.missed >= HEARTBEATS_MISSED {
                    let limit = HEARTBEAT * (HEARTBEATS_MISSED + 1);
                    return Some(End::Local(format!(
                        "the other process hangs: silent for {limit:?}"
                    )));
                }
                self.idle.missed += 1;
                self.idle.asked();
                core.send(Kind::Ping, 0, 0, core.buffer(), false);
            }
        } else if !self.idle.was_active() {
            lock(&core.pool).trim();
            self.idle.stop(core);
            return None;
        }
        self.idle.again();
        None
    }
}

/// The one timer of a connection; not armed while nothing goes on.
struct Idle {
    timer: Option<Pin<Box<Sleep>>>,
    active: bool,
    /// Last sign of life, or last question.
    since: Instant,
    missed: u32,
}

impl Idle {
    fn new() -> Self {
        Self { timer: None, active: false, since: Instant::now(), missed: 0 }
    }

    fn active(&mut self) {
        self.active = true;
        self.missed = 0;
    }

    fn arm(&mut self, core: &Core) {
        if self.timer.is_none() {
            self.since = Instant::now();
            self.timer = Some(Box::pin(tokio::time::sleep(IDLE_AFTER)));
            core.ticking.store(true, Ordering::Release);
        }
    }

    fn was_active(&self) -> bool {
        self.active
    }

    fn silent_for(&self, time: std::time::Duration) -> bool {
        self.since.elapsed() >= time
    }

    fn asked(&mut self) {
        self.since = Instant::now();
    }

    fn again(&mut self) {
        if self.active {
            self.since = Instant::now();
        }
        self.active = false;
        self.timer = Some(Box::pin(tokio::time::sleep(IDLE_AFTER)));
    }

    fn stop(&mut self, core: &Core) {
        self.timer = None;
        core.ticking.store(false, Ordering::Release);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

/// To the end of the run queue, without the detour over epoll that tokio's own takes.
async fn yield_now() {
    let mut yielded = false;
    let turn = poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    });
    pin!(turn).await;
}
