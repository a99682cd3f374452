//! The real helper, in real sandboxes.

mod background;
mod browser;
mod cgroup;
mod closed;
mod escape;
mod limits;
mod network;
mod outline;
mod race;
mod server;
mod support;
mod tools;
mod undo;
mod writes;
