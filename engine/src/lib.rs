//! The engine: one process per user that owns connections, providers, agents, policy and
//! every child process. Clients reach it over the ring; see `docs/architecture.md`.
//!
//! Entry points: [`lifecycle::main`] (the program), [`dispatch`] (a request comes in),
//! [`handlers`] (one file a feature), [`state::Engine`] (what a handler is given).

pub mod agent;
pub mod approvals;
pub mod asked;
pub mod buffers;
pub mod config;
pub mod dispatch;
pub mod gate;
pub mod handlers;
pub mod ids;
pub mod index_client;
pub mod lifecycle;
pub mod limits;
pub mod logging;
pub mod mcp;
pub mod metrics;
pub mod past;
pub mod process;
pub mod provider;
pub mod runs;
pub mod secret;
pub mod state;
pub mod texts;
pub mod transcript;
pub mod workspace;
