//! One call on the server's side: its events wait for the reader's credit, its reply ends
//! it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Peer;
use crate::conn::{Core, Kind, PREFIX, lock};
use crate::error::{Cancelled, Violation};
use crate::limits::{
    BEHIND_EVENTS, MERGE_DELAY, MERGE_EVENTS, MESSAGE_MAX, STREAM_BYTES, STREAM_EVENTS,
};
use crate::protocol::{Protocol, Wire as _};
use crate::wire::{ErrorKind, WireError};

/// The handler's side of one call.
pub struct Cx<P: Protocol>(pub(super) Arc<CallState<P>>);

impl<P: Protocol> Clone for Cx<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

pub(super) struct CallState<P: Protocol> {
    pub core: Arc<Core>,
    pub stream: Arc<Stream>,
    pub tasks: TaskTracker,
    pub deadline: Option<Instant>,
    pub outbox: tokio::sync::Mutex<Outbox<P>>,
}

/// Events held back while the reader is behind.
pub(super) struct Outbox<P: Protocol> {
    held: Option<P::Event>,
    merged: u32,
    /// Tells a delayed flush whether it is still meant.
    generation: u64,
}

impl<P: Protocol> Default for Outbox<P> {
    fn default() -> Self {
        Self { held: None, merged: 0, generation: 0 }
    }
}

impl<P: Protocol> Cx<P> {
    /// Sends an event; waits while the reader is behind. Events that `P::merge` can
    /// join may leave together, at the latest after `limits::MERGE_DELAY`.
    pub async fn emit(&self, event: P::Event) -> Result<(), Cancelled> {
        let state = &self.0;
        if state.stream.token.is_cancelled() {
            return Err(Cancelled);
        }
        let mut outbox = state.outbox.lock().await;
        let mut event = event;
        if let Some(mut held) = outbox.held.take() {
            match P::merge(&mut held, event) {
                None => {
                    outbox.merged += 1;
                    if outbox.merged < MERGE_EVENTS {
                        outbox.held = Some(held);
                        return Ok(());
                    }
                    return state.send(&held).await;
                }
                Some(next) => {
                    state.send(&held).await?;
                    event = next;
                }
            }
        }
        if !state.behind() {
            return state.send(&event).await;
        }
        outbox.held = Some(event);
        outbox.merged = 1;
        outbox.generation += 1;
        let (later, generation) = (Arc::clone(state), outbox.generation);
        state.tasks.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(MERGE_DELAY) => {}
                () = later.stream.token.cancelled() => return,
            }
            let mut outbox = later.outbox.lock().await;
            if outbox.generation == generation {
                // An error means cancelled: nobody reads it.
                let _ = later.flush(&mut outbox).await;
            }
        });
        Ok(())
    }

    /// Fires when the caller dropped the call, its deadline passed, or it is gone.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.0.stream.token
    }

    pub fn peer(&self) -> &Peer {
        self.0.core.peer()
    }

    /// Time the caller gives this call, if it said so.
    pub fn time_left(&self) -> Option<Duration> {
        self.0.deadline.map(|at| at.saturating_duration_since(Instant::now()))
    }
}

impl<P: Protocol> CallState<P> {
    fn behind(&self) -> bool {
        lock(&self.stream.credit).open_events() >= u64::from(BEHIND_EVENTS)
            || self.core.queued() > 0
    }

    async fn flush(&self, outbox: &mut Outbox<P>) -> Result<(), Cancelled> {
        match outbox.held.take() {
            Some(held) => self.send(&held).await,
            None => Ok(()),
        }
    }

    /// Sends one event when the reader has room for it.
    async fn send(&self, event: &P::Event) -> Result<(), Cancelled> {
        let Ok(buf) = event.encode(self.core.buffer()) else {
            tracing::error!(protocol = P::NAME, "an event does not encode; dropped");
            return Ok(());
        };
        if buf.len() - PREFIX > MESSAGE_MAX {
            tracing::error!(
                protocol = P::NAME,
                bytes = buf.len(),
                "an event is too large; dropped"
            );
            return Ok(());
        }
        self.stream.credit(buf.len() - PREFIX).await?;
        tokio::select! {
            biased;
            () = self.core.room() => {}
            () = self.stream.token.cancelled() => return Err(Cancelled),
        }
        if self.stream.token.is_cancelled() {
            return Err(Cancelled);
        }
        let bulk = self.stream.bulk.load(Ordering::Relaxed);
        if self.core.send(Kind::Event, self.stream.id, 0, buf, bulk) {
            self.stream.bulk.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Ends the stream: what is held back, then the reply.
    pub(super) async fn reply(&self, result: Result<P::Reply, WireError>) {
        let mut outbox = self.outbox.lock().await;
        if self.flush(&mut outbox).await.is_err() {
            return;
        }
        drop(outbox);
        tokio::select! {
            biased;
            () = self.core.room() => {}
            () = self.stream.token.cancelled() => return,
        }
        let result = result.and_then(|reply| {
            let buf = reply.encode(self.core.buffer()).map_err(|e| {
                WireError::new(ErrorKind::Internal, format!("the reply does not encode: {e}"))
            })?;
            if buf.len() - PREFIX > MESSAGE_MAX {
                let text = format!("a reply of {} bytes is too large to send", buf.len() - PREFIX);
                return Err(WireError::new(ErrorKind::Limit, text));
            }
            Ok(buf)
        });
        let bulk = self.stream.bulk.load(Ordering::Relaxed);
        match result {
            Ok(buf) => {
                self.core.send(Kind::Reply, self.stream.id, 0, buf, bulk);
            }
            Err(error) => send_error(&self.core, self.stream.id, &error, bulk),
        }
    }
}

pub(super) fn send_error(core: &Core, stream: u64, error: &WireError, bulk: bool) {
    match error.encode(core.buffer()) {
        Ok(buf) => {
            core.send(Kind::Error, stream, 0, buf, bulk);
        }
        Err(e) => tracing::error!("an error does not encode: {e}"),
    }
}

/// One open call.
pub(super) struct Stream {
    pub id: u64,
    pub token: CancellationToken,
    /// Of its request.
    pub bytes: usize,
    /// Has used the bulk lane, and stays there.
    bulk: AtomicBool,
    credit: Mutex<Ledger>,
    credited: Notify,
}

#[derive(Default)]
struct Ledger {
    sent_events: u64,
    sent_bytes: u64,
    taken_events: u64,
    taken_bytes: u64,
}

impl Ledger {
    fn open_events(&self) -> u64 {
        self.sent_events - self.taken_events
    }

    fn has_room(&self) -> bool {
        self.open_events() < u64::from(STREAM_EVENTS)
            && self.sent_bytes - self.taken_bytes < STREAM_BYTES
    }
}

impl Stream {
    pub(super) fn new(id: u64, token: CancellationToken, bytes: usize) -> Self {
        Self {
            id,
            token,
            bytes,
            bulk: AtomicBool::new(false),
            credit: Mutex::default(),
            credited: Notify::new(),
        }
    }

    /// Waits for credit and spends it. One emitter at a time (the outbox lock).
    async fn credit(&self, bytes: usize) -> Result<(), Cancelled> {
        loop {
            let told = self.credited.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            {
                let mut ledger = lock(&self.credit);
                if ledger.has_room() {
                    ledger.sent_events += 1;
                    ledger.sent_bytes += bytes as u64;
                    return Ok(());
                }
            }
            tokio::select! {
                () = told => {}
                () = self.token.cancelled() => return Err(Cancelled),
            }
        }
    }

    pub(super) fn taken(&self, events: u64, bytes: u64) -> Result<(), Violation> {
        let mut ledger = lock(&self.credit);
        let forward = events >= ledger.taken_events && bytes >= ledger.taken_bytes;
        if !forward || events > ledger.sent_events || bytes > ledger.sent_bytes {
            return Err(Violation(format!("credit of call {} for what was not sent", self.id)));
        }
        ledger.taken_events = events;
        ledger.taken_bytes = bytes;
        drop(ledger);
        self.credited.notify_waiters();
        Ok(())
    }
}
