//! The fence around one call. Runs in `lapce-ai-tool` only.

/// A layer, for `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LayerStatus {
    /// `landlock`, `seccomp`, `user-namespace`, …
    pub name: String,
    pub active: bool,
    /// The version that works, or why it does not.
    pub detail: String,
}
