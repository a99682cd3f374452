//! The user's `rules.toml`. Strict: a misspelt key or tool is an error, since a rule that
//! is silently dropped may be the one that denies.
//!
//! Read by the engine before each decision and by `lapce-ai rules`; a workspace has none.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde::Deserialize;

use super::{Effect, Policy, Rule};
use crate::sandbox::network::Network;
use crate::spec;

/// Largest file that is read.
pub const FILE_BYTES: u64 = 64 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    #[serde(default)]
    rules: Vec<Line>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    effect: Effect,
    tool: String,
    #[serde(default)]
    pattern: String,
    #[serde(default)]
    network: Vec<String>,
    #[serde(default)]
    workspace: String,
    #[serde(default)]
    mode: String,
    #[serde(default)]
    exact: bool,
}

/// The rules in `file`; none when there is no such file. An error says what is wrong where.
pub fn load(file: &Path) -> Result<Policy, String> {
    let text = match read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Policy::default()),
        Err(error) => return Err(format!("{} cannot be read: {error}", file.display())),
    };
    parse(&text).map_err(|problem| format!("{}: {problem}", file.display()))
}

fn read(file: &Path) -> io::Result<String> {
    if !std::fs::metadata(file)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    File::open(file)?.take(FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES {
        return Err(io::Error::other(format!("it is longer than {FILE_BYTES} bytes")));
    }
    Ok(text)
}

/// The rules that `text` holds.
pub fn parse(text: &str) -> Result<Policy, String> {
    let page: Page = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
        format!("line {line}: {}", error.message())
    })?;
    let mut rules = Vec::with_capacity(page.rules.len());
    for (number, line) in page.rules.into_iter().enumerate() {
        let Line { effect, tool, pattern, network, workspace, mode, exact } = line;
        if !spec::is_rule_subject(&tool) {
            return Err(format!("rule {}: there is no tool {tool:?}", number + 1));
        }
        if let Err(why) = Network::parse(&network) {
            return Err(format!("rule {}: {why}", number + 1));
        }
        if !network.is_empty() && !matches!(effect, Effect::Allow | Effect::Turbo) {
            return Err(format!("rule {}: network goes with allow and turbo only", number + 1));
        }
        if !workspace.is_empty() && !Path::new(&workspace).is_absolute() {
            return Err(format!(
                "rule {}: the workspace {workspace:?} is not absolute",
                number + 1
            ));
        }
        rules.push(Rule { effect, tool, pattern, network, workspace, mode, exact });
    }
    Ok(Policy { rules })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read() {
        let text = "[[rules]]\neffect = \"allow\"\ntool = \"execute_command\"\npattern = \"cargo check\"\n\
                    [[rules]]\neffect = \"deny\"\ntool = \"*\"\n";
        let policy = parse(text).unwrap();
        let described: Vec<_> = policy.rules.iter().map(Rule::describe).collect();
        assert_eq!(described, ["allow execute_command 'cargo check'", "deny *"]);
        assert_eq!(parse("").unwrap(), Policy::default());
    }

    #[test]
    fn what_would_be_dropped_is_an_error() {
        for (text, words) in [
            ("[[rule]]\neffect = \"deny\"\ntool = \"*\"\n", "unknown field `rule`"),
            ("\n\n[[rules]]\neffect = \"never\"\ntool = \"*\"\n", "line 4"),
            (
                "[[rules]]\neffect = \"deny\"\ntool = \"exec\"\n",
                "rule 1: there is no tool \"exec\"",
            ),
            ("[[rules]]\neffect = \"deny\"\ntool = \"*\"\npath = \"x\"\n", "unknown field `path`"),
            ("[[rules]]\ntool = \"*\"\n", "missing field `effect`"),
            (
                "[[rules]]\neffect = \"allow\"\ntool = \"*\"\nnetwork = [\"localhost\"]\n",
                "this machine needs a port",
            ),
            (
                "[[rules]]\neffect = \"ask\"\ntool = \"*\"\nnetwork = [\"a.com\"]\n",
                "allow and turbo only",
            ),
        ] {
            let problem = parse(text).unwrap_err();
            assert!(problem.contains(words), "{problem}");
        }
    }

    #[test]
    fn no_file_is_no_rule_and_a_bad_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rules.toml");
        assert_eq!(load(&file), Ok(Policy::default()));
        std::fs::write(&file, "x").unwrap();
        assert!(load(&file).unwrap_err().contains("rules.toml: line 1"));
        assert!(load(dir.path()).unwrap_err().contains("not a regular file"));
        std::fs::write(&file, " ".repeat(70_000)).unwrap();
        assert!(load(&file).unwrap_err().contains("longer than"));
    }
}
