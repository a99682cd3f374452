//! Paths that the user's rules deny: the patterns that hold for a call, and what they match.
//!
//! Made by [`crate::policy`] where the rules are, and matched wherever a path could be reached
//! by another name than its own: in the helper below a folder, in the engine among the hits of a
//! search. A denied folder is denied with all that is in it.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

use crate::limits::CLOSED_MAX_RULES;
use crate::policy::Rule;

/// What a call must not read, and what it must not write.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    pub(crate) read: Vec<Pattern>,
    pub(crate) write: Vec<Pattern>,
}

/// A glob on workspace-relative paths; `**` closes the whole workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pattern {
    glob: String,
    /// The rule in a sentence.
    rule: String,
}

const EVERYTHING: &str = "**";

/// In place of a rule, for [`Closed::sealing`].
const SEALED: &str = "git ignored it until a command changed the rules";

/// A rule as a part of a sentence.
pub(crate) fn named(rule: &str) -> String {
    if rule == SEALED {
        return format!(
            "the sandbox: {SEALED}; the user can show it with sandbox.show in config.toml"
        );
    }
    format!("the user's rule '{rule}'")
}

impl Closed {
    pub(crate) fn of<'r>(
        root: &Path,
        read: impl Iterator<Item = &'r Rule>,
        write: impl Iterator<Item = &'r Rule>,
    ) -> Self {
        Self { read: patterns(root, read), write: patterns(root, write) }
    }

    pub fn is_empty(&self) -> bool {
        self.read.is_empty() && self.write.is_empty()
    }

    /// With what git ignored until a command changed its rules.
    pub(crate) fn sealing(mut self, paths: &[String]) -> Self {
        self.read.extend(
            paths
                .iter()
                .map(|path| Pattern { glob: globset::escape(path), rule: SEALED.to_owned() }),
        );
        self
    }

    /// What must not be read.
    pub fn to_readers(&self) -> Paths {
        Paths::of(&self.read)
    }

    /// What must not be written.
    pub fn to_writers(&self) -> Paths {
        Paths::of(&self.write)
    }
}

/// The patterns of rules that name paths.
pub(crate) fn patterns<'r>(root: &Path, rules: impl Iterator<Item = &'r Rule>) -> Vec<Pattern> {
    let mut all = Vec::new();
    for (n, rule) in rules.filter(|rule| !rule.pattern.is_empty()).enumerate() {
        if n == CLOSED_MAX_RULES {
            // What cannot all be held is not held in part.
            let rule = format!("more than {CLOSED_MAX_RULES} rules that deny paths");
            return vec![Pattern { glob: EVERYTHING.into(), rule }];
        }
        let globs = globs(&rule.pattern, root);
        all.extend(globs.into_iter().map(|glob| Pattern { glob, rule: rule.describe() }));
    }
    all
}

/// What a rule's pattern means: the folder in place of all that is in it, and where the part
/// before the first wildcard leads when a symlink is among it.
fn globs(pattern: &str, root: &Path) -> Vec<String> {
    let text = pattern.trim();
    let below = root.to_str().and_then(|root| text.strip_prefix(root));
    let inside = below.filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let text = inside.unwrap_or(text);
    let from_top = text.starts_with('/') || inside.is_some();
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let anchored = from_top || parts.len() > 1;
    while parts.len() > 1 && matches!(parts.last(), Some(&("*" | "**"))) {
        parts.pop();
    }
    let folder: PathBuf = Path::new("/").join(parts.iter().collect::<PathBuf>());
    let holds_root = from_top && inside.is_none() && root.starts_with(folder);
    if holds_root || parts.is_empty() || matches!(parts[..], ["*" | "**"]) {
        return vec![EVERYTHING.into()];
    }
    if !anchored {
        return vec![format!("**/{}", parts[0])];
    }
    let mut globs = vec![parts.join("/")];
    let literal = parts.iter().take_while(|part| !part.contains(WILD)).count();
    for length in (1..=literal).rev() {
        let Ok(real) = root.join(parts[..length].join("/")).canonicalize() else { continue };
        if let Ok(real) = real.strip_prefix(root)
            && let Some(real) = real.to_str()
            && real != parts[..length].join("/")
        {
            let rest = parts[length..].iter().copied();
            let whole: Vec<String> =
                std::iter::once(globset::escape(real)).chain(rest.map(str::to_owned)).collect();
            globs.push(if real.is_empty() && literal == parts.len() {
                EVERYTHING.into()
            } else {
                whole.join("/").trim_start_matches('/').to_owned()
            });
        }
        break;
    }
    globs
}

/// What begins to mean something else than itself in a glob.
const WILD: [char; 6] = ['*', '?', '[', ']', '{', '\\'];

/// Patterns, ready to be matched; cheap to clone.
#[derive(Debug, Clone)]
pub struct Paths(Option<Arc<Set>>);

#[derive(Debug)]
struct Set {
    globs: GlobSet,
    patterns: Vec<Pattern>,
    /// The pattern that closes the whole workspace, if one does.
    everything: Option<usize>,
}

impl Paths {
    pub(crate) fn of(patterns: &[Pattern]) -> Self {
        if patterns.is_empty() {
            return Self(None);
        }
        let mut everything = None;
        let mut set = GlobSetBuilder::new();
        for (n, pattern) in patterns.iter().enumerate() {
            let glob = GlobBuilder::new(&pattern.glob)
                .literal_separator(true)
                .case_insensitive(true)
                .build();
            match glob {
                Ok(glob) if pattern.glob != EVERYTHING => drop(set.add(glob)),
                // A rule that cannot be understood must not be lost.
                _ => {
                    everything.get_or_insert(n);
                    set.add(globset::Glob::new(EVERYTHING).unwrap_or_else(|_| unreachable!()));
                }
            }
        }
        let globs = set.build().unwrap_or_else(|_| {
            everything = Some(0);
            GlobSet::empty()
        });
        Self(Some(Arc::new(Set { globs, patterns: patterns.to_vec(), everything })))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The rule that closes `relative`, or a folder above it.
    pub fn rule_for(&self, relative: &Path) -> Option<&str> {
        let set = self.0.as_ref()?;
        if let Some(rule) = self.everything() {
            return Some(rule);
        }
        let above = relative.ancestors().filter(|path| !path.as_os_str().is_empty());
        let found = above.filter_map(|path| set.globs.matches(path).first().copied()).last();
        found.map(|n| set.patterns[n].rule.as_str())
    }

    /// The number of the pattern that matches `relative` itself.
    pub(crate) fn matched(&self, relative: &Path) -> Option<usize> {
        let set = self.0.as_ref()?;
        set.everything.or_else(|| set.globs.matches(relative).first().copied())
    }

    /// The rule of a pattern.
    pub(crate) fn rule(&self, number: usize) -> &str {
        self.0.as_ref().and_then(|set| set.patterns.get(number)).map_or("", |p| &p.rule)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |set| set.patterns.len())
    }

    /// The rule that closes the whole workspace.
    pub(crate) fn everything(&self) -> Option<&str> {
        self.0.as_ref()?.everything.map(|n| self.rule(n))
    }

    /// Whether anything below the folder `relative` could match: what spares walks.
    pub(crate) fn may_hold(&self, relative: &Path) -> bool {
        let Some(set) = &self.0 else { return false };
        let folder: Vec<String> = relative
            .components()
            .filter_map(|part| match part {
                Component::Normal(name) => Some(name.to_string_lossy().to_lowercase()),
                _ => None,
            })
            .collect();
        // Git's own folder is looked into only for a pattern that names it.
        let git = folder.iter().any(|name| name == ".git");
        let mut patterns = set.patterns.iter();
        patterns.any(|p| (!git || p.glob.contains(".git")) && leads_below(&p.glob, &folder))
    }
}

fn leads_below(glob: &str, folder: &[String]) -> bool {
    let mut parts = glob.split('/');
    for name in folder {
        match parts.next() {
            // These may stand for several parts.
            Some(part) if part.contains("**") || part.contains(['[', '{', '\\']) => return true,
            Some(part) if part.contains(['*', '?']) || part.to_lowercase() == *name => {}
            _ => return false,
        }
    }
    parts.next().is_some()
}

/// What a walk left out.
#[derive(Debug)]
pub(crate) struct LeftOut {
    paths: Paths,
    root: PathBuf,
    by: Vec<std::sync::atomic::AtomicBool>,
}

impl LeftOut {
    pub(crate) fn new(paths: &Paths, root: &Path) -> Self {
        let by = (0..paths.len()).map(|_| false.into()).collect();
        Self { paths: paths.clone(), root: root.to_owned(), by }
    }

    /// Whether a walk goes on to `path`, which is absolute and below what was judged before.
    pub(crate) fn lets(&self, path: &Path) -> bool {
        let Ok(relative) = path.strip_prefix(&self.root) else { return false };
        let Some(number) = self.paths.matched(relative) else { return true };
        self.by[number].store(true, std::sync::atomic::Ordering::Relaxed);
        false
    }

    /// A sentence for the reader when something was left out.
    pub(crate) fn note(&self) -> Option<String> {
        let mut rules: Vec<&str> = Vec::new();
        for (n, by) in self.by.iter().enumerate() {
            let rule = self.paths.rule(n);
            if by.load(std::sync::atomic::Ordering::Relaxed) && !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        note(&rules)
    }
}

/// The sentence below what rules left out.
pub fn note(rules: &[&str]) -> Option<String> {
    const NAMED: usize = 3;
    if rules.is_empty() {
        return None;
    }
    let quoted = |rule: &&str| format!("'{rule}'");
    let mut named: Vec<String> = rules.iter().take(NAMED).map(quoted).collect();
    if rules.len() > NAMED {
        named.push(format!("{} more", rules.len() - NAMED));
    }
    Some(format!("left out what the user's rules close: {}", named.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Effect, Policy};

    fn paths(root: &Path, patterns: &[&str]) -> Paths {
        let rules: Vec<_> = patterns.iter().map(|p| (Effect::Deny, "read", *p)).collect();
        let policy = Policy::of(&rules);
        Paths::of(&super::patterns(root, policy.rules.iter()))
    }

    #[test]
    fn a_folder_is_closed_with_all_that_is_in_it() {
        let root = Path::new("/w/s");
        let yes = |pattern: &str, path: &str| {
            let found = paths(root, &[pattern]).rule_for(Path::new(path)).map(str::to_owned);
            assert_eq!(found, Some(format!("deny read '{pattern}'")), "{pattern}: {path}");
        };
        for (pattern, path) in [
            ("secret/**", "secret"),
            ("secret/**", "secret/a/b"),
            ("secret/*", "secret/a/b"),
            ("secret/", "secret/a"),
            ("secret", "deep/secret/a"),
            ("./secret/**", "secret/a"),
            ("/w/s/secret", "secret/a"),
            ("/secret", "secret"),
            ("x/../secret/**", "secret/a"),
            ("*.pem", "a/b.PEM"),
            ("a/**/key", "a/x/y/key/z"),
            ("{a,b}/k", "b/k/x"),
            ("SECRET/**", "secret/a"),
            ("**", ""),
            ("*", "a"),
            ("[", "a/b"),
            ("/w/s", "a"),
            ("/w/**", "a"),
        ] {
            yes(pattern, path);
        }
        for (pattern, path) in [
            ("secret/**", "deep/secret"),
            ("secret/**", "secrets"),
            ("/secret", "deep/secret"),
            ("a/*.pem", "a/b/c.pem"),
            ("secret/**", ""),
            ("/w/sx", "a"),
        ] {
            assert_eq!(
                paths(root, &[pattern]).rule_for(Path::new(path)),
                None,
                "{pattern}: {path}"
            );
        }
        assert!(paths(root, &[]).is_empty() && !paths(root, &["a"]).is_empty());
    }

    #[test]
    fn walks_go_only_where_something_may_match() {
        let root = Path::new("/w/s");
        for (pattern, folder, may) in [
            ("a/b/**", "", true),
            ("a/b/**", "A", true),
            ("a/b/**", "c", false),
            ("a/b/**", "a/b", false),
            ("a/*/c", "a/x", true),
            ("a/*/c", "a/x/c", false),
            ("*.pem", "x/y", true),
            ("*.pem", ".git/refs", false),
            ("/.git/x/y", ".git", true),
            ("a/{b/c,d}/e", "a/b/c", true),
        ] {
            assert_eq!(
                paths(root, &[pattern]).may_hold(Path::new(folder)),
                may,
                "{pattern}: {folder}"
            );
        }
        assert!(!paths(root, &[]).may_hold(Path::new("")));
    }

    #[test]
    fn where_a_link_in_a_pattern_leads_is_closed_too() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("real/[x]/deep")).unwrap();
        std::os::unix::fs::symlink("real/[x]", root.join("link")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("out")).unwrap();
        std::os::unix::fs::symlink(".", root.join("here")).unwrap();
        let rule = |pattern: &str, path: &str| {
            paths(&root, &[pattern]).rule_for(Path::new(path)).is_some()
        };
        assert!(rule("link/**", "link/a") && rule("link/**", "real/[x]/a"));
        assert!(rule("link/deep/*.pem", "real/[x]/deep/a.pem"));
        assert!(rule("link/none/b", "real/[x]/none/b"));
        assert!(!rule("link/**", "real/x/a") && !rule("out/**", "passwd"));
        assert!(rule("here/**", "anything") && rule("here/a", "a"));
    }

    #[test]
    fn more_rules_than_can_be_held_close_everything() {
        let names: Vec<String> = (0..=CLOSED_MAX_RULES).map(|n| format!("f{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let root = Path::new("/w/s");
        assert_eq!(paths(root, &names[1..]).rule_for(Path::new("x")), None);
        assert!(paths(root, &names).rule_for(Path::new("x")).unwrap().contains("more than"));
    }
}
