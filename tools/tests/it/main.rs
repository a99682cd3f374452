//! The real helper, in real sandboxes.

mod escape;
mod limits;
mod support;
mod tools;
mod undo;
mod writes;
