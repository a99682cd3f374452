//! Prompts and resources of MCP servers in what the user typed: the engine reads them, this
//! asks for it. Used by `ask`, `run` and the editor's box.
//!
//! Never for other text: what a file or a pipe holds must not name a server.

use lapce_ai_ipc::wire::engine::{Attached, McpOrder};
use lapce_ai_ipc::{CallError, EngineClient};

/// Whether the engine is to look: most texts name nothing.
pub fn may_be(typed: &str) -> bool {
    typed.trim_start().starts_with("/mcp:")
        || typed.split_whitespace().any(|word| word.starts_with('@') && word.contains(':'))
}

/// The text, and what it attaches.
pub async fn expand(
    engine: &EngineClient,
    root: &str,
    typed: &str,
) -> Result<(String, Vec<Attached>), CallError> {
    let reply = engine.mcp(root, McpOrder::Expand { typed: typed.to_owned() }).await?;
    Ok((reply.text, reply.attached))
}

/// The same, with the engine asked only when there may be something.
pub async fn expanded(
    engine: &EngineClient,
    root: &str,
    typed: String,
) -> Result<(String, Vec<Attached>), CallError> {
    if may_be(&typed) { expand(engine, root, &typed).await } else { Ok((typed, Vec::new())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_asked_only_when_something_may_be_named() {
        for named in [" /mcp:git:log", "see @docs:file:///a", "/mcp:"] {
            assert!(may_be(named), "{named}");
        }
        for plain in ["", "@Override", "a /mcp:b", "user@host:path", "why: @ :"] {
            assert!(!may_be(plain), "{plain}");
        }
    }
}
