//! The shared-memory ring between our processes, and the messages that cross it.
//!
//! Who uses it: the engine serves [`EngineProtocol`] to the command line and the shim
//! ([`serve`], [`Handler`]) and calls the index process over [`IndexProtocol`]
//! ([`Client`], [`Call`]). [`EngineClient`] is the typed front of one connection, [`Engine`]
//! that of the engine, whichever process it is.
//!
//! Layers, from the bottom: `ring` (memory, indices, park and wake; all `unsafe` of
//! this crate lives there and in `sys`), `handshake` (who is there, which version),
//! `conn` (streams, credits, queues, the driver task), then [`client`] and [`server`].
//! No layer hands out a reference into shared memory; see `docs/ring.md`.

pub mod client;
mod conn;
pub mod engine;
pub mod engine_client;
pub mod env;
pub mod error;
#[cfg(feature = "fault-points")]
pub mod fault;
mod handshake;
mod hello;
#[cfg(feature = "fuzzing")]
pub mod hostile;
pub mod launch;
pub mod limits;
pub mod paths;
pub mod protocol;
#[cfg(feature = "raw")]
pub mod raw;
mod ring;
pub mod server;
mod sys;
pub mod wire;

pub use client::{Call, Client, Options, Transport};
pub use engine::{Engine, Followed, Following};
pub use engine_client::{EngineCall, EngineClient};
pub use error::{CallError, Cancelled, ConnectError, NoEngine, ServeError, Violation};
pub use protocol::{EngineProtocol, Ident, IndexProtocol, Protocol, Wire};
pub use server::{Connections, Cx, Handler, Peer, serve};
