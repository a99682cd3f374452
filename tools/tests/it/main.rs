//! The real helper, in real sandboxes.

mod support;
mod tools;
