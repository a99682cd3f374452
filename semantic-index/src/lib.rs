//! The semantic index of Lapce AI.
//!
//! The pure core (`walk`, `sniff`, `chunk`, `tokens`, `doc`, `rank`, `embed`, `eval`)
//! builds without LanceDB in seconds; the feature `lance` adds the store and what runs on
//! it. The program `lapce-ai-index` is a worker that answers searches, or a build process
//! that brings one index up to date and ends; the engine starts both and talks to them
//! over a ring (`server`). Nothing here reads settings, talks to the network (but `shared`,
//! to a store that the user configured), or writes into a workspace.

pub mod bm25;
pub mod chunk;
pub mod doc;
pub mod embed;
pub mod error;
pub mod eval;
pub mod fault;
pub mod lang;
pub mod limits;
pub mod manifest;
pub mod rank;
pub mod sniff;
pub mod tokens;
pub mod walk;

#[cfg(feature = "lance")]
pub mod builder;
#[cfg(feature = "lance")]
pub mod cache;
#[cfg(feature = "lance")]
mod rest;
#[cfg(feature = "lance")]
pub mod search;
#[cfg(feature = "lance")]
pub mod server;
#[cfg(feature = "lance")]
pub mod shared;
#[cfg(feature = "lance")]
pub mod spool;
#[cfg(feature = "lance")]
pub mod store;

#[cfg(all(test, feature = "lance"))]
mod tests;
