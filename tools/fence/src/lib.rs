//! What every system's fence around a tool call has in common, and the fences of macOS and
//! Windows. That of Linux, the only one in use, is `lapce_ai_tools::sandbox`.
//!
//! This crate depends on nothing of ours, so that `cargo xtask test systems` can compile it for
//! systems that the rest does not build for yet. Nothing in it has run on those: the profile for
//! Seatbelt is a text that is tested word for word, the rest is compiled and no more.

pub mod layers;
#[cfg(target_os = "macos")]
pub mod macos;
pub mod policy;
pub mod seatbelt;
#[cfg(windows)]
pub mod windows;

pub use layers::Layers;
pub use policy::{Limits, Network, Policy};

/// One system's way to fence a process in.
pub trait Fence {
    /// What a call may do, in this system's terms.
    type Policy<'p>;

    /// Puts the fence around the calling process, and so around all that it starts. Nothing can
    /// be loosened afterwards. Each layer is noted, with the reason when it does not stand.
    ///
    /// An error is a refusal: the policy asks for more than this system can keep, and the call
    /// must not be run.
    fn enter(&self, policy: &Self::Policy<'_>, layers: &mut Layers) -> Result<(), String>;
}
