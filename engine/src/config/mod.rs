//! The user's `config.toml`: models, providers, limits. Read on first use, re-read when
//! the file changes; never read from a workspace.
//!
//! Used by `provider/` (which model, where, with which key), the agent loop (limits) and
//! `status`. The file holds no secrets: a key is named (`{ env = … }`, `{ keyring = … }`)
//! and fetched by `provider::keys` when a request needs it.

mod index;
mod keys;
mod models;
mod modes;
mod reference;
mod sandbox;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::mcp::config::{RawMcp, ServerConfig};
use crate::mcp::limits as mcp_limits;

pub use index::{Index, ONNX};
pub use keys::KeySource;
pub use models::{Auth, Fim, Kind, ModelConfig, Network, ProviderConfig, ToolForm, is_loopback};
pub use modes::{ModeConfig, ToolClass};
pub use reference::{REFERENCE, reference_markdown};
pub use sandbox::{Ignored, Sandbox};
pub use store::ConfigStore;

/// What `config.toml` says, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `provider/model` for `ask` and `run`, or empty.
    pub chat: String,
    /// `provider/model` for ghost text, or empty.
    pub complete: String,
    /// `provider/model` for `generate_image`, or empty.
    pub image: String,
    /// Look for a model server on this machine when `chat` is empty.
    pub detect_local: bool,
    pub providers: BTreeMap<String, ProviderConfig>,
    pub network: Network,
    pub limits: Limits,
    pub sandbox: Sandbox,
    pub index: Index,
    /// MCP servers by name.
    pub mcp: BTreeMap<String, ServerConfig>,
    /// The user's own modes, by slug.
    pub modes: BTreeMap<String, ModeConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            chat: String::new(),
            complete: String::new(),
            image: String::new(),
            detect_local: true,
            providers: BTreeMap::new(),
            network: Network::default(),
            limits: Limits::default(),
            sandbox: Sandbox::default(),
            index: Index::default(),
            mcp: BTreeMap::new(),
            modes: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most tokens, in and out, that one run may use.
    pub run_tokens: u64,
    /// Most model turns of a run, when the request does not say.
    pub run_turns: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { run_tokens: 500_000, run_turns: 25 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    models: models::RawModels,
    #[serde(default)]
    providers: BTreeMap<String, models::RawProvider>,
    #[serde(default)]
    network: Network,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    sandbox: Sandbox,
    #[serde(default)]
    mcp: RawMcp,
    #[serde(default)]
    index: index::RawIndex,
    #[serde(default)]
    modes: BTreeMap<toml::Spanned<String>, ModeConfig>,
}

/// What is wrong with the file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct Problem {
    pub line: usize,
    pub column: usize,
    pub message: String,
}

impl Config {
    /// Reads the text of a `config.toml`. Unknown keys are errors: a misspelt limit must
    /// not be silently without effect.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let raw: Raw = toml::from_str(text).map_err(|e| {
            let offset = e.span().map_or(0, |s| s.start);
            Problem::at(text, offset, e.message().trim().to_owned())
        })?;
        Self::check(raw).map_err(|(offset, message)| Problem::at(text, offset, message))
    }

    /// An error has its offset in the file.
    fn check(raw: Raw) -> Result<Self, (usize, String)> {
        let providers = models::providers(raw.providers)?;
        raw.sandbox.check().map_err(|problem| (0, problem))?;
        let home = std::env::var_os("HOME").map(PathBuf::from).filter(|h| h.is_absolute());
        if raw.mcp.servers.len() > mcp_limits::SERVERS {
            return Err((0, format!("there are more than {} MCP servers", mcp_limits::SERVERS)));
        }
        let mut mcp = BTreeMap::new();
        for (name, server) in raw.mcp.servers {
            let server = server.check(&name, home.as_deref())?;
            mcp.insert(name, server);
        }
        Ok(Self {
            chat: models::model(raw.models.chat, &providers)?,
            complete: models::model(raw.models.complete, &providers)?,
            image: models::model(raw.models.image, &providers)?,
            detect_local: raw.models.detect_local.unwrap_or(true),
            network: raw.network,
            limits: raw.limits,
            sandbox: raw.sandbox,
            index: raw.index.check(&providers)?,
            modes: modes::check(raw.modes)?,
            mcp,
            providers,
        })
    }
}

impl Problem {
    fn at(text: &str, offset: usize, message: String) -> Self {
        let before = &text[..text.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message,
        }
    }
}
