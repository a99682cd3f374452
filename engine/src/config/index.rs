//! How indexes are made, and their bound.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::models::{self, Kind, ProviderConfig};
use crate::limits;

/// How indexes are made, and their bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Index {
    /// Most that all indexes together take on disk, MB.
    pub disk_mb: u64,
    /// The shared index that a workspace's own lies on: its folder, and `s3://…` or `file://…`.
    pub shared: BTreeMap<PathBuf, String>,
    /// `provider/model` that makes the vectors, or empty: the built-in table, offline.
    pub embedder: String,
    /// 0: as fast as the provider answers.
    pub requests_per_minute: u32,
    pub price_per_million_tokens: Option<f64>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            disk_mb: limits::INDEX_DISK_MB,
            shared: BTreeMap::new(),
            embedder: String::new(),
            requests_per_minute: 0,
            price_per_million_tokens: None,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawIndex {
    disk_mb: Option<u64>,
    shared: BTreeMap<PathBuf, String>,
    embedder: Option<toml::Spanned<String>>,
    requests_per_minute: u32,
    price_per_million_tokens: Option<f64>,
}

impl RawIndex {
    /// Checked; an error has its offset in the file.
    pub(super) fn check(
        self,
        providers: &BTreeMap<String, ProviderConfig>,
    ) -> Result<Index, (usize, String)> {
        let start = self.embedder.as_ref().map_or(0, |e| e.span().start);
        let embedder = models::model(self.embedder, providers)?;
        if let Some((provider, _)) = embedder.split_once('/')
            && matches!(providers[provider].kind, Kind::Anthropic | Kind::Gemini)
        {
            let message = format!(
                "{provider} speaks a format without embeddings; name a provider of kind openai, mistral, llamacpp or ollama"
            );
            return Err((start, message));
        }
        Ok(Index {
            disk_mb: self.disk_mb.unwrap_or(limits::INDEX_DISK_MB),
            shared: self.shared,
            embedder,
            requests_per_minute: self.requests_per_minute,
            price_per_million_tokens: self.price_per_million_tokens,
        })
    }
}
