//! What can go wrong on a connection, in the terms of whoever has to act.

use std::io;

use crate::wire::WireError;

/// No connection came about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The other side said no and why (version, schema, too many connections, user).
    #[error("refused by {peer}: {message}")]
    Refused { peer: String, message: String, reason: Refusal },
    #[error("no answer to the hello within {0:?}")]
    Timeout(std::time::Duration),
    /// What came was not a hello of ours.
    #[error("handshake: {0}")]
    Handshake(String),
    #[error("handshake: {0}")]
    Io(#[from] io::Error),
}

/// Why a peer was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// No protocol version in common.
    Version,
    /// Same version, other message types: the programs come from different builds.
    Schema,
    /// Not this protocol (an engine client on an index worker).
    Protocol,
    /// The server has as many connections as it takes.
    Busy,
    /// Another user.
    User,
    /// The peer's memory or descriptors are not as agreed.
    Memory,
    /// A reason this build does not know.
    Other,
}

/// A call ended without a reply.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The far side answered with an error.
    #[error("{0}")]
    Remote(#[from] WireError),
    /// The connection is gone; the text says how it ended.
    #[error("connection lost: {0}")]
    Disconnected(String),
    #[error("no reply before the deadline")]
    Deadline,
    /// The engine ended under a request that is not repeated by itself: whether it was
    /// carried out is not known.
    #[error("the engine ended before this was done; run it again ({0})")]
    EngineLost(String),
    /// There is no engine to ask.
    #[error(transparent)]
    NoEngine(#[from] NoEngine),
    /// Too many calls or bytes in flight on this connection.
    #[error("too much in flight on this connection: {0}")]
    Busy(String),
    /// The request does not fit the protocol's bounds.
    #[error("request cannot be sent: {0}")]
    TooLarge(String),
    /// The reply was of a kind that does not answer this request.
    #[error("unexpected reply: {0}")]
    Unexpected(String),
}

impl CallError {
    /// As whoever outlives engines says it.
    pub(crate) fn of_engine(self) -> Self {
        match self {
            Self::Disconnected(how) => Self::EngineLost(how),
            other => other,
        }
    }
}

/// No engine could be reached or started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no engine: {message} – {hint}")]
pub struct NoEngine {
    pub message: String,
    /// What the user can do about it.
    pub hint: &'static str,
    /// Attempts before this one had failed too, so the user has been told.
    pub again: bool,
}

/// The caller is gone or has cancelled; nobody reads what a handler still emits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cancelled by the caller")]
pub struct Cancelled;

/// A connection a server had did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    #[error("{0}")]
    Handshake(#[from] ConnectError),
    /// The peer broke the rules; the connection was closed, nothing else was touched.
    #[error("peer broke the protocol: {0}")]
    Violation(#[from] Violation),
    #[error("connection: {0}")]
    Io(#[from] io::Error),
}

/// A rule of the ring that the peer broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);
