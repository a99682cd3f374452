//! The user's own modes of the agent.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::limits::{MODE_PROMPT_BYTES, MODES};

/// A class of tools that a mode may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolClass {
    Read,
    Write,
    Execute,
    Mcp,
}

/// A role of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModeConfig {
    /// One line: what it is for.
    pub summary: String,
    /// Added to the system prompt.
    pub prompt: String,
    pub allow: Vec<ToolClass>,
    /// Glob of the files that writing tools may change; empty for all.
    #[serde(default)]
    pub files: String,
}

/// The modes by name, each checked; an error has its offset in the file.
pub(super) fn check(
    raw: BTreeMap<toml::Spanned<String>, ModeConfig>,
) -> Result<BTreeMap<String, ModeConfig>, (usize, String)> {
    if raw.len() > MODES {
        return Err((0, format!("there are {} modes; at most {MODES} are taken", raw.len())));
    }
    let mut modes = BTreeMap::new();
    for (slug, mode) in raw {
        let start = slug.span().start;
        let slug = slug.into_inner();
        check_mode(&slug, &mode).map_err(|problem| (start, problem))?;
        modes.insert(slug, mode);
    }
    Ok(modes)
}

fn check_mode(slug: &str, mode: &ModeConfig) -> Result<(), String> {
    let plain = slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if slug.is_empty() || slug.len() > 40 || !plain {
        return Err(format!(
            "the mode's name {slug:?} must be lower-case letters, digits and -, at most 40"
        ));
    }
    if mode.summary.trim().is_empty() {
        return Err(format!("the mode {slug} needs a summary"));
    }
    if mode.prompt.len() > MODE_PROMPT_BYTES {
        return Err(format!(
            "the prompt of the mode {slug} is longer than {MODE_PROMPT_BYTES} bytes"
        ));
    }
    globset::Glob::new(&mode.files).map(drop).map_err(|e| format!("files of the mode {slug}: {e}"))
}
