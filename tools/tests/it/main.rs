//! The real helper, in real sandboxes.

mod escape;
mod limits;
mod support;
mod tools;
mod writes;
