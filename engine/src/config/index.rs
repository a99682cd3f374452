//! How indexes are made, and their bound.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
    /// `provider/model` that makes the vectors, `onnx:/folder`, or empty: the built-in table.
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
        let embedder = match self.embedder {
            Some(given) if given.get_ref().starts_with(ONNX) => {
                let home = std::env::var_os("HOME").map(PathBuf::from);
                onnx(given.get_ref(), home.as_deref()).map_err(|message| (start, message))?
            }
            given => models::model(given, providers)?,
        };
        if let Some((provider, _)) = embedder.split_once('/')
            && !embedder.starts_with(ONNX)
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

/// Before the folder of a local model.
pub const ONNX: &str = "onnx:";

/// `onnx:` and an absolute folder.
fn onnx(given: &str, home: Option<&Path>) -> Result<String, String> {
    let folder = given.strip_prefix(ONNX).unwrap_or(given);
    let folder = match (folder.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(folder),
    };
    match folder.to_str() {
        Some(path) if folder.is_absolute() => Ok(format!("{ONNX}{path}")),
        _ => Err(format!(
            "{given:?} names no absolute folder; write onnx:/FOLDER or onnx:~/FOLDER, with model.onnx and tokenizer.json in it"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_model_is_a_folder_of_this_machine() {
        let home = Some(Path::new("/home/me"));
        assert_eq!(onnx("onnx:/models/a b", home).unwrap(), "onnx:/models/a b");
        assert_eq!(onnx("onnx:~/minilm", home).unwrap(), "onnx:/home/me/minilm");
        for bad in ["onnx:", "onnx:minilm", "onnx:~/minilm", "onnx:./m", "onnx:https://host/m"] {
            let error = onnx(bad, None).unwrap_err();
            assert!(error.contains("names no absolute folder"), "{error}");
        }
    }
}
