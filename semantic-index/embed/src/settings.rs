//! What a model's folder says beside its weights, in the files of sentence-transformers.
//! All of them may be missing.

use std::path::Path;

use serde_json::Value;

use crate::limits::{DEFAULT_TOKENS, MAX_TOKENS, PROMPT_BYTES, SETTINGS_BYTES};
use crate::{Unusable, read};

/// How the vectors of tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    Mean,
    First,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub pooling: Pooling,
    pub tokens: usize,
    /// What the model wants before a question, and before a text that is to be found.
    pub question: String,
    pub document: String,
}

impl Settings {
    pub fn read(folder: &Path) -> Result<Self, Unusable> {
        let pooling = json(&folder.join("1_Pooling/config.json"))?;
        let limits = json(&folder.join("sentence_bert_config.json"))?;
        let prompts = json(&folder.join("config_sentence_transformers.json"))?;
        let tokens = limits["max_seq_length"].as_u64().unwrap_or(DEFAULT_TOKENS as u64);
        Ok(Self {
            pooling: pool(&pooling)?,
            tokens: (tokens as usize).clamp(8, MAX_TOKENS),
            question: prompt(&prompts["prompts"], &["query"])?,
            document: prompt(&prompts["prompts"], &["document", "passage"])?,
        })
    }
}

fn json(path: &Path) -> Result<Value, Unusable> {
    if !path.exists() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&read(path, SETTINGS_BYTES)?)
        .map_err(|e| Unusable(format!("{}: {e}", path.display())))
}

fn pool(config: &Value) -> Result<Pooling, Unusable> {
    let on: Vec<&str> = config
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, value)| name.starts_with("pooling_mode_") && **value == true)
        .map(|(name, _)| name.as_str())
        .collect();
    match on.as_slice() {
        [] | ["pooling_mode_mean_tokens"] => Ok(Pooling::Mean),
        ["pooling_mode_cls_token"] => Ok(Pooling::First),
        other => Err(Unusable(format!(
            "1_Pooling/config.json asks for {}; the mean and the first token are known here",
            other.join(", ")
        ))),
    }
}

fn prompt(prompts: &Value, names: &[&str]) -> Result<String, Unusable> {
    let text = names.iter().find_map(|name| prompts[*name].as_str()).unwrap_or_default();
    if text.len() > PROMPT_BYTES {
        return Err(Unusable("config_sentence_transformers.json has a prompt too long".into()));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(files: &[(&str, &str)]) -> Result<Settings, Unusable> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Settings::read(dir.path())
    }

    #[test]
    fn a_bare_folder_means_the_mean_of_256_tokens() {
        let settings = with(&[]).unwrap();
        assert_eq!((settings.pooling, settings.tokens), (Pooling::Mean, 256));
        assert_eq!((settings.question.as_str(), settings.document.as_str()), ("", ""));
    }

    #[test]
    fn the_files_of_sentence_transformers_decide() {
        let settings = with(&[
            (
                "1_Pooling/config.json",
                r#"{"word_embedding_dimension": 384, "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#,
            ),
            ("sentence_bert_config.json", r#"{"max_seq_length": 100000}"#),
            (
                "config_sentence_transformers.json",
                r#"{"prompts": {"query": "query: ", "passage": "passage: "}}"#,
            ),
        ])
        .unwrap();
        assert_eq!((settings.pooling, settings.tokens), (Pooling::First, MAX_TOKENS));
        assert_eq!(
            (settings.question.as_str(), settings.document.as_str()),
            ("query: ", "passage: ")
        );
    }

    #[test]
    fn what_cannot_be_followed_is_an_error_and_not_ignored() {
        let max = r#"{"pooling_mode_max_tokens": true}"#;
        let error = with(&[("1_Pooling/config.json", max)]).unwrap_err();
        assert!(error.0.contains("pooling_mode_max_tokens"), "{error}");
        let error = with(&[("sentence_bert_config.json", "{")]).unwrap_err();
        assert!(error.0.contains("sentence_bert_config.json: "), "{error}");
        let long = format!(r#"{{"prompts": {{"query": "{}"}}}}"#, "x".repeat(PROMPT_BYTES + 1));
        assert!(with(&[("config_sentence_transformers.json", &long)]).is_err());
    }
}
