//! The real helper, in real sandboxes.

mod escape;
mod limits;
mod outline;
mod support;
mod tools;
mod undo;
mod writes;
