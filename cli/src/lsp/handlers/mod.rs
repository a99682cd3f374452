//! One file per feature; each handler is a free function from parameters to an answer.
//!
//! A handler declines with an error whenever another server should answer: in Lapce the
//! first success wins, and an empty list is a success.

pub(super) mod actions;
pub(super) mod completion;
pub(super) mod rename;
pub(super) mod search;
