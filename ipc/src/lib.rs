//! The shared-memory ring between our processes, and the messages that cross it.

pub mod env;
pub mod paths;
pub mod wire;
