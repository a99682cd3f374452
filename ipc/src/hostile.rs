//! The hostile peer: a script of bytes drives an attacker who owns the other region and
//! does what a peer must not. For the fuzzer (`ipc/fuzz`) and its bounded run in the
//! ordinary tests; compiled only for those.
//!
//! What must hold whatever the script: no panic, no read outside the rings, no message
//! that was not published, memory in proportion to what was sent, and after a violation
//! the connection is over.

use std::cell::Cell;
use std::sync::Arc;

use crate::client::Options;
use crate::conn::{Core, End};
use crate::limits::RING_MIN;
use crate::protocol::{EngineProtocol, Wire as _};
use crate::ring::producer::Producer;
use crate::ring::region::{Mine, Peers, Region};
use crate::ring::{Capacity, Lane, Own as _, Way, Word, slot};
use crate::server::{Cx, Handler, Peer};
use crate::sys::wake::Wake;
use crate::wire::engine::{Event, Reply, Request};
use crate::wire::{ErrorKind, WireError};

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The script broke no rule (or not yet).
    Tolerated { messages: u64 },
    /// Closed, with the reason that is logged.
    Closed(String),
}

struct Victim;

impl Handler<EngineProtocol> for Victim {
    async fn handle(&self, request: Request, cx: Cx<EngineProtocol>) -> Result<Reply, WireError> {
        match request {
            Request::Ping => Ok(Reply::Pong),
            Request::Status => {
                for i in 0..200 {
                    let _ = cx.emit(Event::Text(i.to_string())).await;
                }
                Ok(Reply::Done)
            }
            _ => Err(WireError::new(ErrorKind::Unsupported, "no")),
        }
    }
}

const CAPACITY: Capacity = Capacity { control: RING_MIN, bulk: RING_MIN };

fn region() -> (Mine, Peers) {
    let (a, b) = Region::twins(CAPACITY.region());
    // SAFETY: ordinary memory that lives as long as either view; written through one.
    unsafe { (Mine::new(a, CAPACITY), Peers::new(b, CAPACITY)) }
}

/// Plays `script` against a server, or with `client` against a client with open calls.
pub fn play(script: &[u8], client: bool) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without io needs nothing");
    let _inside = runtime.enter();
    let (mine, mine_seen) = region();
    let (theirs, theirs_seen) = region();
    let peer = Peer {
        pid: 0,
        uid: 0,
        name: "hostile".into(),
        version: String::new(),
        session: String::new(),
    };
    let core = Arc::new(Core::assemble(mine, theirs_seen, Wake::Nobody, peer, &Options::default()));
    let slots = crate::client::slots_for_tests(if client { 3 } else { 0 });
    let serving = crate::server::serving_for_tests::<EngineProtocol, _>(&core, Arc::new(Victim));
    let role: &dyn crate::conn::Role = if client { &slots } else { &serving };
    let mut attacker = Attacker {
        script,
        own: theirs,
        victim: mine_seen,
        lanes: [Lane::Control, Lane::Bulk].map(|l| Producer::new(l, CAPACITY.of(l))),
        next_stream: 1,
    };
    let rounds = Cell::new(0);
    while attacker.step() {
        rounds.set(rounds.get() + 1);
        if !core.pump_for_tests(role) {
            break;
        }
        if rounds.get() % 4 == 0 {
            runtime.block_on(async {
                for _ in 0..4 {
                    tokio::task::yield_now().await;
                }
            });
        }
    }
    let messages = core.info().messages_in;
    let verdict = match core.end() {
        Some(End::Broken(violation)) => Verdict::Closed(violation.0.clone()),
        _ => Verdict::Tolerated { messages },
    };
    core.finish(End::Local("over".into()));
    core.gone().cancel();
    verdict
}

struct Attacker<'a> {
    script: &'a [u8],
    own: Mine,
    victim: Peers,
    lanes: [Producer; 2],
    next_stream: u64,
}

impl Attacker<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.script.split_first()?;
        self.script = rest;
        Some(byte)
    }

    fn number(&mut self) -> u64 {
        let mut value = 0;
        // The first byte says how many follow, so that small numbers are likely.
        let bytes = self.byte().unwrap_or(0) % 9;
        for _ in 0..bytes {
            value = value << 8 | u64::from(self.byte().unwrap_or(0));
        }
        value
    }

    /// One act; false at the end of the script.
    fn step(&mut self) -> bool {
        let Some(act) = self.byte() else { return false };
        let lane = if act & 0x80 == 0 { Lane::Control } else { Lane::Bulk };
        match act & 0x0f {
            0 => {
                let word = match self.byte().unwrap_or(0) % 8 {
                    0 => Word::ControlTail,
                    1 => Word::BulkTail,
                    2 => Word::ControlHead,
                    3 => Word::BulkHead,
                    4 => Word::Park,
                    5 => Word::Cpu,
                    6 => Word::Taken,
                    _ => {
                        self.forge_slot();
                        return true;
                    }
                };
                let value = self.number();
                self.own.publish(word, value);
            }
            1 => {
                let at = self.number() as usize % (CAPACITY.of(lane) - 16);
                let bytes: Vec<u8> = (0..16).map(|_| self.byte().unwrap_or(0)).collect();
                self.own.write(lane, at, &bytes, Way::Memory);
            }
            // Well-formed requests, so that later acts meet open calls.
            2..=5 => {
                let request = if act & 0x10 == 0 { Request::Ping } else { Request::Status };
                if let Ok(body) = request.encode(crate::ring::Buf::new()) {
                    let stream = self.next_stream;
                    self.next_stream += 1;
                    self.push(lane, 2, 1, stream, body.len() as u32, 0, &body);
                }
            }
            // Replies and events that decode.
            6 | 7 => {
                let event = Event::Text("x".into()).encode(crate::ring::Buf::new());
                if let Ok(body) = event {
                    let stream = self.number();
                    let kind = 3 + u16::from(act & 0x10 != 0);
                    self.push(lane, kind, 1, stream, body.len() as u32, 0, &body);
                }
            }
            // Anything at all in a record that is well-formed for the ring.
            _ => {
                let kind = u16::from(self.byte().unwrap_or(0) % 12);
                let flags = u16::from(self.byte().unwrap_or(0) % 8);
                let stream = self.number();
                let total = self.number() as u32;
                let len = usize::from(self.byte().unwrap_or(0)) * 8 % 2000;
                let body: Vec<u8> = (0..len).map(|_| self.byte().unwrap_or(0)).collect();
                let total = if act & 0x40 == 0 { len as u32 } else { total };
                self.push(lane, kind, flags, stream, total, 0, &body);
            }
        }
        true
    }

    /// Says that the slot holds the next message, and puts anything there.
    fn forge_slot(&mut self) {
        let at = self.lanes[Lane::Control as usize].tail();
        for index in slot::HEADER..slot::WORDS {
            let word = self.number();
            self.own.write_slot(index, word);
        }
        self.own.write_slot(slot::START, at | 1);
        let size = u64::from(self.byte().unwrap_or(0) % 4) * 16;
        self.own.publish(Word::ControlTail, at + size);
    }

    #[expect(clippy::too_many_arguments, reason = "a message, field by field")]
    fn push(
        &mut self,
        lane: Lane,
        kind: u16,
        flags: u16,
        stream: u64,
        total: u32,
        extra: u32,
        body: &[u8],
    ) {
        let prefix = crate::conn::prefix(stream, total, extra);
        // The attacker does not care about full rings or what the victim claims.
        let _ = self.lanes[lane as usize].push(&self.own, &self.victim, kind, flags, prefix, body);
    }
}
