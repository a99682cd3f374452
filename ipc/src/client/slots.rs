//! The open calls of a connection, on the client's side: what has come for each, what of
//! it has been taken, and who waits.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::task::{Context, Poll};

use crate::conn::{Core, End, Kind, Message, Role, lock};
use crate::error::{CallError, Violation};
use crate::limits::{CALLS_MAX, CREDIT_BYTES, CREDIT_EVENTS, STREAM_BYTES, STREAM_EVENTS};
use crate::ring::Buf;

/// A client's role with `calls` open, for the hostile peer to play with.
#[cfg(feature = "fuzzing")]
pub(crate) fn slots_for_tests(calls: u64) -> Slots {
    let slots = Slots::default();
    for _ in 0..calls {
        let _ = slots.open(|_| ());
    }
    slots
}

/// The open calls of a connection, by stream number.
#[derive(Default)]
pub(crate) struct Slots(Mutex<Table>);

#[derive(Default)]
struct Table {
    slots: HashMap<u64, Slot>,
    last: u64,
    lost: Option<String>,
}

#[derive(Default)]
struct Slot {
    events: VecDeque<Buf>,
    outcome: Option<Outcome>,
    waker: Option<std::task::Waker>,
    came: Credit,
    taken: Credit,
    told: Credit,
}

/// Events and bytes since the stream began.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Credit {
    pub events: u64,
    pub bytes: u64,
}

pub(super) enum Outcome {
    Came(Kind, Buf),
    Lost(String),
}

pub(super) struct Taken {
    pub event: Poll<Option<Buf>>,
    pub credit: Option<Credit>,
}

impl Slots {
    pub(super) fn open(&self, send: impl FnOnce(u64)) -> Result<u64, CallError> {
        let mut table = lock(&self.0);
        if let Some(how) = &table.lost {
            return Err(CallError::Disconnected(how.clone()));
        }
        if table.slots.len() >= CALLS_MAX {
            return Err(CallError::Busy(format!("{CALLS_MAX} calls are open")));
        }
        table.last += 1;
        let id = table.last;
        table.slots.insert(id, Slot::default());
        // Sent under the lock: numbers reach the ring in order.
        send(id);
        Ok(id)
    }

    pub(super) fn take(&self, id: u64, cx: &mut Context<'_>) -> Taken {
        let mut table = lock(&self.0);
        let Some(slot) = table.slots.get_mut(&id) else {
            return Taken { event: Poll::Ready(None), credit: None };
        };
        if let Some(buf) = slot.events.pop_front() {
            slot.taken.events += 1;
            slot.taken.bytes += buf.len() as u64;
            let due = slot.taken.events - slot.told.events >= u64::from(CREDIT_EVENTS)
                || slot.taken.bytes - slot.told.bytes >= CREDIT_BYTES;
            let credit = (due && slot.outcome.is_none()).then(|| {
                slot.told = slot.taken;
                slot.taken
            });
            return Taken { event: Poll::Ready(Some(buf)), credit };
        }
        if slot.outcome.is_some() {
            return Taken { event: Poll::Ready(None), credit: None };
        }
        if !slot.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            slot.waker = Some(cx.waker().clone());
        }
        Taken { event: Poll::Pending, credit: None }
    }

    pub(super) fn ready(&self, id: u64) -> bool {
        lock(&self.0).slots.get(&id).is_none_or(|s| !s.events.is_empty() || s.outcome.is_some())
    }

    pub(super) fn close(&self, id: u64) -> Option<Outcome> {
        lock(&self.0).slots.remove(&id)?.outcome
    }

    /// Forgets a call; whether the server still works on it.
    pub(super) fn abandon(&self, id: u64) -> bool {
        lock(&self.0).slots.remove(&id).is_some_and(|slot| slot.outcome.is_none())
    }
}

impl Role for Slots {
    fn message(&self, _core: &Core, message: Message) -> Result<(), Violation> {
        let Message { kind, stream, body, .. } = message;
        let mut table = lock(&self.0);
        if stream == 0 || stream > table.last {
            return Err(Violation(format!("{kind:?} for call {stream}, which was never made")));
        }
        // Unknown from here on means cancelled a moment ago.
        let Some(slot) = table.slots.get_mut(&stream) else { return Ok(()) };
        if slot.outcome.is_some() {
            return Err(Violation(format!("{kind:?} after the reply of call {stream}")));
        }
        match kind {
            Kind::Event => {
                let open = Credit {
                    events: slot.came.events - slot.told.events,
                    bytes: slot.came.bytes - slot.told.bytes,
                };
                if open.events >= u64::from(STREAM_EVENTS) || open.bytes >= STREAM_BYTES {
                    return Err(Violation(format!("event beyond the credit of call {stream}")));
                }
                slot.came.events += 1;
                slot.came.bytes += body.len() as u64;
                slot.events.push_back(body);
            }
            Kind::Reply | Kind::Error => slot.outcome = Some(Outcome::Came(kind, body)),
            other => return Err(Violation(format!("{other:?} from a server"))),
        }
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    fn ended(&self, how: &End) {
        let mut table = lock(&self.0);
        let text = how.to_string();
        for slot in table.slots.values_mut() {
            if slot.outcome.is_none() {
                slot.outcome = Some(Outcome::Lost(text.clone()));
            }
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
        table.lost = Some(text);
    }

    fn waiting(&self) -> bool {
        lock(&self.0).slots.values().any(|slot| slot.outcome.is_none())
    }
}
