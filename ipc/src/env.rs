//! Every environment variable the product reads, in one place.

/// One folder that holds `run/`, `state/`, `data/` and `config/` instead of the XDG
/// folders. Tests and benches use it to stay apart from the user's engine.
pub const HOME: &str = "LAPCE_AI_HOME";
/// Folder with our programs, searched before the folder of the running one and `PATH`.
pub const BIN_DIR: &str = "LAPCE_AI_BIN_DIR";
/// Log filter in `tracing` syntax, for example `lapce_ai_engine=debug`.
pub const LOG: &str = "LAPCE_AI_LOG";
/// Seconds without work after which the engine ends itself; demos and tests use a short one.
pub const IDLE_EXIT_S: &str = "LAPCE_AI_IDLE_EXIT_S";
/// The user's editor, for `lapce-ai approvals allow --edit`; the first that is set.
pub const VISUAL: &str = "VISUAL";
pub const EDITOR: &str = "EDITOR";
/// Debug builds of `lapce-ai-index` die at this point: for the tests of its crash safety.
pub const INDEX_FAULT: &str = "LAPCE_AI_INDEX_FAULT";
