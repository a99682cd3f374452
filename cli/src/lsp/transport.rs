//! The two threads on stdin and stdout, and the queue between the shim and the second.
//!
//! Blocking threads instead of tokio's stdin: that one keeps a pool, and a pipe that is set
//! to non-blocking stays so for whoever else holds it. Nothing here looks into a message.

use std::collections::VecDeque;
use std::io::{self, BufReader, BufWriter};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::{Notify, mpsc};

use super::framing::{self, Frame};
use super::limits;

/// The threads only copy; a small stack keeps the program small.
const STACK: usize = 128 << 10;

/// Starts reading stdin.
pub(super) fn reader() -> io::Result<mpsc::Receiver<Frame>> {
    let (tx, rx) = mpsc::channel(limits::READ_AHEAD);
    thread::Builder::new().name("stdin".into()).stack_size(STACK).spawn(move || {
        let mut input = BufReader::new(io::stdin().lock());
        loop {
            let frame = framing::read(&mut input).unwrap_or(Frame::Eof);
            let end = frame == Frame::Eof;
            if tx.blocking_send(frame).is_err() || end {
                return;
            }
        }
    })?;
    Ok(rx)
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
    /// No more will come; the writer ends when it is through.
    closed: bool,
    /// Stdout is gone.
    broken: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
    /// The writer took something, or broke.
    less: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is whole between any two statements, so a panic elsewhere does not matter.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where messages to the editor go. Clones share one queue.
#[derive(Clone)]
pub(super) struct Outbox(Arc<Shared>);

impl Outbox {
    /// Starts writing to stdout.
    pub(super) fn start() -> io::Result<(Self, thread::JoinHandle<()>)> {
        let outbox = Self(Arc::default());
        let shared = outbox.0.clone();
        let thread = thread::Builder::new()
            .name("stdout".into())
            .stack_size(STACK)
            .spawn(move || write_all(&shared))?;
        Ok((outbox, thread))
    }

    /// Queues a message. Answers are never dropped: their number is bounded by the
    /// requests that are let in ([`Outbox::room`]).
    pub(super) fn push(&self, message: Vec<u8>) {
        let mut queue = self.0.lock();
        if !queue.broken {
            queue.bytes += message.len();
            queue.messages.push_back(message);
            self.0.more.notify_one();
        }
    }

    /// Queues a message that does not matter when the editor is behind.
    pub(super) fn push_if_idle(&self, message: Vec<u8>) {
        if self.0.lock().messages.len() < limits::UNSENT_PROGRESS {
            self.push(message);
        }
    }

    /// Resolves when the editor has taken enough for another request to be let in.
    pub(super) async fn room(&self) {
        loop {
            let less = self.0.less.notified();
            {
                let queue = self.0.lock();
                if queue.bytes <= limits::UNSENT || queue.broken {
                    return;
                }
            }
            less.await;
        }
    }

    /// Resolves when stdout is gone.
    pub(super) async fn broken(&self) {
        loop {
            let less = self.0.less.notified();
            if self.0.lock().broken {
                return;
            }
            less.await;
        }
    }

    /// Lets the writer end once it has written what is queued.
    pub(super) fn close(&self) {
        self.0.lock().closed = true;
        self.0.more.notify_one();
    }
}

fn write_all(shared: &Shared) {
    let mut output = BufWriter::new(io::stdout().lock());
    loop {
        let message = {
            let mut queue = shared.lock();
            loop {
                if let Some(message) = queue.messages.pop_front() {
                    break message;
                }
                if queue.closed {
                    return;
                }
                queue = shared.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        };
        let written = framing::write(&mut output, &message);
        let mut queue = shared.lock();
        queue.bytes = queue.bytes.saturating_sub(message.len());
        if written.is_err() {
            queue.broken = true;
            queue.messages = VecDeque::new();
        }
        drop(queue);
        shared.less.notify_waiters();
        if written.is_err() {
            return;
        }
    }
}
