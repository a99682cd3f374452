//! The messages that cross the ring: plain data, no behaviour.
//!
//! Two protocols share one shape: a call sends one request, receives any number of
//! events, and ends with exactly one reply or [`WireError`]. [`engine`] is what
//! clients (the shim, the command line) say to the engine; [`index`] is what the
//! engine says to the index worker. Nothing here may hold a reference, an `Rc`, or a
//! platform path type: paths travel as UTF-8 strings.

/// The derives every message has.
macro_rules! wire {
    ($($item:tt)*) => {
        #[derive(Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize, Debug, Clone, PartialEq)]
        $($item)*
    };
}

pub mod engine;
pub mod index;

use rkyv::{Archive, Deserialize, Serialize};

/// What went wrong, as the far side must act on it.
#[derive(
    Archive,
    Serialize,
    Deserialize,
    serde::Serialize,
    serde::Deserialize,
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request itself is wrong: a missing path, a bad parameter.
    Invalid,
    /// The thing named does not exist.
    NotFound,
    /// Policy, approval or the sandbox said no.
    Denied,
    /// Cancelled by the caller.
    Cancelled,
    /// A newer request made this one pointless (ghost text).
    Superseded,
    /// A limit was reached: memory, time, output, connections, budget.
    Limit,
    /// The state on disk changed under the request.
    Conflict,
    /// A part that is needed is not there now: worker, model server, helper program.
    Unavailable,
    /// The model provider answered with an error.
    Provider,
    /// Not possible in this build or on this system.
    Unsupported,
    /// A bug on our side.
    Internal,
}

/// An error as it crosses the ring: what, and what to do next.
#[derive(
    Archive,
    Serialize,
    Deserialize,
    serde::Serialize,
    serde::Deserialize,
    Debug,
    Clone,
    PartialEq,
    Eq,
    thiserror::Error,
)]
#[error("{message}")]
pub struct WireError {
    pub kind: ErrorKind,
    /// One sentence with the path or name concerned; no secrets.
    pub message: String,
    /// The next step for the user, or empty.
    pub hint: String,
}

impl WireError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: String::new() }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

/// Memory of one process, in KiB, from `/proc/PID/smaps_rollup`.
#[derive(
    Archive,
    Serialize,
    Deserialize,
    serde::Serialize,
    serde::Deserialize,
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
)]
pub struct Memory {
    pub rss_kib: u64,
    pub pss_kib: u64,
    /// Private dirty: what the process would free if it ended.
    pub private_dirty_kib: u64,
}
