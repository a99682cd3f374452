//! The tools a model can call: what they are, how a call is read, who may make it,
//! and how it runs.
//!
//! The engine links this library for everything up to the edge of the sandbox:
//! [`spec`] declares the tools once, [`prompt`] and [`schema`] derive what models are
//! told, [`xml`] and [`native`] turn a model's words into a [`call::ToolCall`],
//! [`policy`] decides, [`host`] starts one `lapce-ai-tool` process per call and
//! [`envelope`] words the result. The code in [`exec`] and [`sandbox`] runs in that
//! process only: the engine never runs a tool in its own address space.

#![expect(
    clippy::single_match_else,
    reason = "a match shows both outcomes of a system call side by side"
)]

pub(crate) mod artefact;
pub(crate) mod browser;
pub mod call;
pub(crate) mod cgroup;
pub mod closed;
pub mod edit;
pub mod envelope;
pub mod exec;
pub mod host;
pub mod hostile;
pub mod image;
pub mod journal;
pub mod limits;
pub mod native;
pub mod policy;
pub mod prompt;
pub mod protocol;
pub mod proxy;
pub mod sandbox;
pub mod schema;
pub mod server;
pub mod spec;
pub mod terminal;
pub mod workspace;
pub mod xml;
