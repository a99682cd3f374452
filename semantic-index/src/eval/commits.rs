//! Makes a test of file search from any history: a commit's subject must find the files
//! that the commit changed.
//!
//! The split `path` holds the subjects that share a word stem with the path of a changed
//! file, `other` the rest. The corpus is the newest state, so a file that a commit changed
//! has been changed since; files that are gone do not count.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;

use super::{Labelled, Target};
use crate::{sniff, tokens};

/// A commit that changed more files than this says little about each.
const MAX_FILES: usize = 5;
/// A subject has this many words.
const WORDS: std::ops::RangeInclusive<usize> = 3..=20;
/// History looked at.
const MAX_COMMITS: usize = 20_000;

/// At most `most` commits of the repository `git`, spread over its history, the same ones
/// each time. `corpus` is the checkout that is searched.
pub fn queries(git: &Path, corpus: &Path, most: usize) -> anyhow::Result<Vec<Labelled>> {
    let log = Command::new("git")
        .args(["-c", "safe.directory=*", "-c", "diff.renames=false", "-C"])
        .arg(git)
        .args(["log", "--no-merges", "--name-only", "--diff-filter=AM", "-n"])
        .arg(MAX_COMMITS.to_string())
        .args(["--format=%x01%s", "HEAD"])
        .stdin(Stdio::null())
        .output()
        .context("git log")?;
    anyhow::ensure!(
        log.status.success(),
        "git log in {}: {}",
        git.display(),
        String::from_utf8_lossy(&log.stderr).trim()
    );
    let mut indexed: HashMap<String, bool> = HashMap::new();
    let mut is_code = |path: &str| {
        *indexed.entry(path.to_string()).or_insert_with(|| {
            matches!(crate::lang::format_of(path), crate::lang::Format::Code(_))
                && sniff::flags_of(path, "") & sniff::flags::TEST == 0
                && corpus.join(path).is_file()
        })
    };
    let mut found: Vec<([u8; 16], Labelled)> = Vec::new();
    let mut seen = HashSet::new();
    for commit in String::from_utf8_lossy(&log.stdout).split('\u{1}') {
        let mut lines = commit.lines().filter(|l| !l.is_empty());
        let Some(subject) = lines.next().and_then(subject_of) else { continue };
        let files: Vec<&str> = lines.collect();
        let paths: Vec<String> =
            files.iter().filter(|f| is_code(f)).map(ToString::to_string).collect();
        if paths.is_empty() || files.len() > MAX_FILES || !seen.insert(subject.clone()) {
            continue;
        }
        let of_paths: HashSet<String> = paths
            .iter()
            .flat_map(|path| tokens::words(path.rsplit_once('.').map_or(path, |p| p.0)))
            .map(|word| tokens::stem(&word).to_string())
            .collect();
        let shared = tokens::words(&subject)
            .iter()
            .any(|w| !tokens::is_stop_word(w) && of_paths.contains(tokens::stem(w)));
        found.push((
            crate::manifest::hash(subject.as_bytes()),
            Labelled {
                query: subject,
                relevant: paths.into_iter().map(Target::Path).collect(),
                split: if shared { "path".into() } else { "other".into() },
                secondary: Vec::new(),
            },
        ));
    }
    found.sort_by_key(|f| f.0);
    Ok(found.into_iter().take(most).map(|(_, q)| q).collect())
}

/// A subject without its `fix(scope):` and `(#123)`; None when it says nothing of the code.
fn subject_of(line: &str) -> Option<String> {
    let head = line.split_once(": ").filter(|(head, _)| {
        !head.contains(' ') && head.chars().all(|c| c.is_alphanumeric() || "_-./()!".contains(c))
    });
    let line = head.map_or(line, |(_, rest)| rest);
    let words: Vec<&str> = line
        .split_whitespace()
        .filter(|w| !w.trim_start_matches(['(', '[']).starts_with('#'))
        .collect();
    let text = words.join(" ");
    let text = text.trim_end_matches('.');
    let noise = ["bump", "merge", "release", "revert", "changelog", "version", "typo", "wip"];
    let lower = text.to_lowercase();
    (WORDS.contains(&words.len()) && !noise.iter().any(|n| lower.contains(n)))
        .then(|| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_lose_their_prefix_and_numbers() {
        assert_eq!(
            subject_of("fix(router): keep the trailing slash (#12).").as_deref(),
            Some("keep the trailing slash")
        );
        assert_eq!(subject_of("Bump version to 1.2"), None);
        assert_eq!(subject_of("Fix it"), None);
    }

    #[test]
    fn a_history_becomes_queries() {
        let dir = tempfile::tempdir().unwrap();
        let git = |args: &[&str]| {
            let done = Command::new("git")
                .args(["-c", "user.name=a", "-c", "user.email=a@b", "-C"])
                .arg(dir.path())
                .args(args)
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .output()
                .unwrap();
            assert!(done.status.success(), "{done:?}");
        };
        git(&["init", "-q"]);
        for (file, subject) in [
            ("src/router.rs", "fix: keep the trailing slash of routes (#3)"),
            ("src/lib.rs", "refuse bodies that are too long"),
            ("README.md", "say how bodies are limited here"),
        ] {
            std::fs::create_dir_all(dir.path().join("src")).unwrap();
            std::fs::write(dir.path().join(file), subject).unwrap();
            git(&["add", "."]);
            git(&["commit", "-q", "-m", subject]);
        }
        let mut got: Vec<_> = queries(dir.path(), dir.path(), 10)
            .unwrap()
            .into_iter()
            .map(|q| (q.query, q.split))
            .collect();
        got.sort();
        assert_eq!(
            got,
            [
                ("keep the trailing slash of routes".to_string(), "path".to_string()),
                ("refuse bodies that are too long".to_string(), "other".to_string()),
            ]
        );
    }
}
