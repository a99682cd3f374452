//! What a record's body starts with, and the kinds of messages there are.

use crate::error::Violation;
use crate::ring::{Buf, Lane};

/// Bytes before the payload: `{stream u64, total u32, extra u32}`. `total` is the length
/// of the whole payload; every fragment repeats it.
pub(crate) const PREFIX: usize = 16;
/// Record flags.
pub(crate) const FIRST: u16 = 1;
pub(crate) const MORE: u16 = 2;

/// What a message is. 1 is the ring's own wrap record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Kind {
    /// Client: opens a stream. `extra` is the deadline in milliseconds, 0 for none.
    Request = 2,
    /// Server: one event of a stream.
    Event = 3,
    /// Server: ends a stream.
    Reply = 4,
    /// Server: ends a stream; the payload is a `WireError`.
    Error = 5,
    /// Client: nobody reads this stream any more.
    Cancel = 6,
    /// Client: `{events u64, bytes u64}` taken so far from this stream.
    Credit = 7,
    /// Either: say something.
    Ping = 8,
    Pong = 9,
}

impl Kind {
    pub(crate) fn from_wire(kind: u16) -> Result<Self, Violation> {
        Ok(match kind {
            2 => Self::Request,
            3 => Self::Event,
            4 => Self::Reply,
            5 => Self::Error,
            6 => Self::Cancel,
            7 => Self::Credit,
            8 => Self::Ping,
            9 => Self::Pong,
            other => return Err(Violation(format!("message of unknown kind {other}"))),
        })
    }
}

/// One whole message, in memory of ours.
#[derive(Debug)]
pub(crate) struct Message {
    pub kind: Kind,
    pub lane: Lane,
    pub stream: u64,
    pub extra: u32,
    pub body: Buf,
}

pub(crate) fn prefix(stream: u64, total: u32, extra: u32) -> [u64; 2] {
    [stream, u64::from(total) | u64::from(extra) << 32]
}

pub(crate) fn split_prefix([stream, sizes]: [u64; 2]) -> (u64, u32, u32) {
    (stream, sizes as u32, (sizes >> 32) as u32)
}
