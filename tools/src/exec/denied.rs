//! What the user's rules close to a command: the paths that it must not read, which are covered,
//! and those that it must not write, which are made read-only. Found before the fence goes up,
//! since the view is built from it; fails closed.
//!
//! What a command makes where a rule denies writing and nothing was before, no mount can hold:
//! it is moved aside when the command has ended, as at protected paths ([`super::guard`]).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::safe_fs::show;
use crate::closed::{Closed, Paths};
use crate::limits::{CLOSED_MAX_ASIDE, CLOSED_MAX_PATHS, HIDDEN_MAX_ENTRIES, HIDDEN_NAMED};
use crate::protocol::Request;

/// What was found, absolute and topmost.
#[derive(Debug, Default)]
pub(crate) struct Denied {
    /// Not to be read, nor written.
    pub(crate) covered: Vec<PathBuf>,
    /// Not to be written.
    pub(crate) fixed: Vec<PathBuf>,
    /// The rule that denies writing anything, if one does.
    pub(crate) all_fixed: Option<String>,
    /// The rules that cover something.
    rules: BTreeSet<String>,
}

impl Denied {
    /// For the reader of a command that failed: it may have missed one of these.
    pub(crate) fn note(&self, root: &Path) -> Option<String> {
        if self.covered.is_empty() {
            return None;
        }
        let shown = |p: &PathBuf| show(p.strip_prefix(root).unwrap_or(p));
        let mut names: Vec<String> = self.covered.iter().take(HIDDEN_NAMED).map(shown).collect();
        if self.covered.len() > HIDDEN_NAMED {
            names.push(format!("{} more", self.covered.len() - HIDDEN_NAMED));
        }
        let rules: Vec<&str> = self.rules.iter().map(String::as_str).collect();
        Some(format!(
            "closed to commands by the user's rules ('{}'): {}",
            rules.join("', '"),
            names.join(", ")
        ))
    }

    /// Why a system without a mount namespace runs no command here, if it does not.
    pub(crate) fn needs_view(&self, root: &Path, landlock: bool) -> Option<String> {
        let (path, what) = match (self.covered.first(), self.fixed.first()) {
            (Some(path), _) => (path, "reading"),
            (None, Some(path)) if !landlock => (path, "writing"),
            _ => return None,
        };
        Some(format!(
            "the command was not run: a rule of the user's denies {what} '{}', and without a mount \
             namespace this system cannot keep commands from it",
            show(path.strip_prefix(root).unwrap_or(path))
        ))
    }
}

pub(crate) fn find(root: &Path, closed: &Closed) -> Result<Denied, String> {
    let mut denied = Denied::default();
    if closed.is_empty() {
        return Ok(denied);
    }
    let (read, write) = (closed.to_readers(), closed.to_writers());
    if let Some(rule) = read.everything() {
        return Err(format!(
            "the command was not run: the rule '{rule}' closes the whole workspace to reading"
        ));
    }
    denied.all_fixed = write.everything().map(str::to_owned);
    let write = if denied.all_fixed.is_some() { Paths::of(&[]) } else { write };
    let mut search = Search { root, read, write, left: HIDDEN_MAX_ENTRIES, found: &mut denied };
    search.walk(Path::new(""), false)?;
    for paths in [&mut denied.covered, &mut denied.fixed] {
        paths.sort();
        paths.dedup();
    }
    for (paths, word) in [(&denied.covered, "reading"), (&denied.fixed, "writing")] {
        if paths.len() > CLOSED_MAX_PATHS {
            return Err(format!(
                "the command was not run: rules deny {word} {} paths here, at most \
                 {CLOSED_MAX_PATHS} can be kept from commands. Let the rules name the folders that \
                 hold them",
                paths.len()
            ));
        }
    }
    Ok(denied)
}

struct Search<'a> {
    root: &'a Path,
    read: Paths,
    write: Paths,
    left: usize,
    found: &'a mut Denied,
}

impl Search<'_> {
    /// `fixed`: the folder is closed to writing as a whole.
    fn walk(&mut self, folder: &Path, fixed: bool) -> Result<(), String> {
        let at = self.root.join(folder);
        let failed = |e: std::io::Error| {
            format!("{} cannot be checked against the user's rules: {e}", at.display())
        };
        for entry in std::fs::read_dir(&at).map_err(failed)? {
            self.left = self.left.checked_sub(1).ok_or_else(|| {
                format!(
                    "the workspace has more than {HIDDEN_MAX_ENTRIES} entries to check against the \
                     user's rules, so commands are not run in it; let the rules name folders"
                )
            })?;
            let entry = entry.map_err(failed)?;
            let relative = folder.join(entry.file_name());
            let kind = entry.file_type().map_err(failed)?;
            if let Some(number) = self.read.matched(&relative) {
                self.found.rules.insert(self.read.rule(number).to_owned());
                self.found.covered.extend(self.held(&relative, kind.is_symlink()));
                continue;
            }
            let own = !fixed && self.write.matched(&relative).is_some();
            if own {
                self.found.fixed.extend(self.held(&relative, kind.is_symlink()));
            }
            let fixed = fixed || own;
            let more = self.read.may_hold(&relative) || (!fixed && self.write.may_hold(&relative));
            if kind.is_dir() && more {
                self.walk(&relative, fixed)?;
            }
        }
        Ok(())
    }

    /// What a mount can hold: a link cannot be covered, what it leads to can.
    fn held(&self, relative: &Path, is_link: bool) -> Option<PathBuf> {
        let path = self.root.join(relative);
        if !is_link {
            return Some(path);
        }
        path.canonicalize().ok().filter(|real| real.starts_with(self.root) && real != self.root)
    }
}

/// What is at paths that a command must not write, before it and after.
pub(crate) struct Watched {
    root: PathBuf,
    paths: Paths,
    there: BTreeSet<PathBuf>,
    links: Vec<(PathBuf, PathBuf)>,
}

impl Watched {
    pub(crate) fn before(request: &Request) -> Self {
        let paths = request.sandbox.closed.to_writers();
        // With everything closed nothing can be made.
        let paths = if paths.everything().is_some() { Paths::of(&[]) } else { paths };
        let mut watched =
            Self { root: request.root.clone(), there: BTreeSet::new(), links: Vec::new(), paths };
        watched.there = watched.look(usize::MAX);
        let link = |path: &PathBuf| {
            Some((path.clone(), std::fs::read_link(watched.root.join(path)).ok()?))
        };
        watched.links = watched.there.iter().filter_map(link).collect();
        watched
    }

    /// What has come to be there, with the rules, and whether there is more.
    pub(crate) fn made(&self) -> (Vec<(PathBuf, String)>, bool) {
        let mut made: Vec<PathBuf> =
            self.look(self.there.len() + CLOSED_MAX_ASIDE + 1).into_iter().collect();
        made.retain(|path| !self.there.contains(path));
        let other = |(path, to): &(PathBuf, PathBuf)| {
            let now = self.root.join(path);
            std::fs::read_link(&now).ok().as_ref() != Some(to) && now.symlink_metadata().is_ok()
        };
        made.extend(self.links.iter().filter(|link| other(link)).map(|(path, _)| path.clone()));
        let more = made.len() > CLOSED_MAX_ASIDE;
        made.truncate(CLOSED_MAX_ASIDE);
        let with_rule = |path: PathBuf| {
            let rule = self.paths.rule_for(&path).unwrap_or_default().to_owned();
            (path, rule)
        };
        (made.into_iter().map(with_rule).collect(), more)
    }

    /// The topmost paths that match, at most so many.
    fn look(&self, most: usize) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut left = HIDDEN_MAX_ENTRIES;
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop().filter(|_| !self.paths.is_empty()) {
            let entries = std::fs::read_dir(self.root.join(&folder));
            for entry in entries.into_iter().flatten().flatten() {
                if found.len() >= most || left == 0 {
                    return found;
                }
                left -= 1;
                let relative = folder.join(entry.file_name());
                if self.paths.matched(&relative).is_some() {
                    found.insert(relative);
                } else if entry.file_type().is_ok_and(|k| k.is_dir())
                    && self.paths.may_hold(&relative)
                {
                    folders.push(relative);
                }
            }
        }
        found
    }
}
