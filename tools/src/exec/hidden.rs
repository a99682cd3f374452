//! What a command must not see: every path that an `.aiignore` names. Found before the
//! fence goes up, since the view is built from it. Fails closed.

use std::path::{Path, PathBuf};

use ignore::{Match, WalkBuilder};

use super::ignored;
use crate::limits::HIDDEN_MAX_ENTRIES;

/// The topmost paths that an `.aiignore` names, absolute.
pub(crate) fn find(root: &Path) -> Result<Vec<PathBuf>, String> {
    let mut hidden = Vec::new();
    let mut left = HIDDEN_MAX_ENTRIES;
    let mut done: Vec<PathBuf> = Vec::new();
    for folder in folders_with_rules(root, &mut left)? {
        // A folder below one that was walked already was judged there.
        if done.iter().any(|d| folder.starts_with(d)) {
            continue;
        }
        judge(root, &folder, &mut Vec::new(), &mut hidden, &mut left)?;
        done.push(folder);
    }
    Ok(hidden)
}

fn too_many() -> String {
    format!(
        "the workspace has more than {HIDDEN_MAX_ENTRIES} entries to check against .aiignore, so \
         commands are not run in it; open a smaller folder"
    )
}

/// Folders that hold an `.aiignore`, outermost first. Folders that git ignores are not
/// searched for more rules; the rules found do apply inside them.
fn folders_with_rules(root: &Path, left: &mut usize) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let walk = WalkBuilder::new(root)
        .hidden(false)
        .parents(false)
        .ignore(false)
        .git_global(false)
        .require_git(false)
        .follow_links(false)
        .filter_entry(|e| e.file_name() != ".git")
        .build();
    for entry in walk.flatten() {
        *left = left.checked_sub(1).ok_or_else(too_many)?;
        if entry.file_name() == ".aiignore"
            && let Some(folder) = entry.path().parent()
        {
            found.push(folder.to_owned());
        }
    }
    // One that git itself ignores still counts at the top.
    if root.join(".aiignore").symlink_metadata().is_ok() {
        found.push(root.to_owned());
    }
    found.sort();
    found.dedup();
    Ok(found)
}

type Rules = Vec<ignore::gitignore::Gitignore>;

fn judge(
    root: &Path,
    folder: &Path,
    rules: &mut Rules,
    hidden: &mut Vec<PathBuf>,
    left: &mut usize,
) -> Result<(), String> {
    let own = ignored::load(folder, &folder.join(".aiignore"))?;
    let depth = rules.len();
    rules.extend(own);
    let entries = std::fs::read_dir(folder)
        .map_err(|e| format!("{} cannot be checked against .aiignore: {e}", folder.display()))?;
    for entry in entries {
        let entry = entry.map_err(|e| format!("{}: {e}", folder.display()))?;
        *left = left.checked_sub(1).ok_or_else(too_many)?;
        let path = entry.path();
        let is_dir = entry.file_type().is_ok_and(|k| k.is_dir());
        if folder == root && entry.file_name() == ".git" {
            continue;
        }
        let verdict = rules
            .iter()
            .rev()
            .map(|rule| rule.matched(&path, is_dir))
            .find(|m| !m.is_none())
            .unwrap_or(Match::None);
        if verdict.is_ignore() {
            hidden.push(path);
        } else if is_dir {
            judge(root, &path, rules, hidden, left)?;
        }
    }
    rules.truncate(depth);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_topmost_named_paths_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("private/deep")).unwrap();
        fs::create_dir_all(root.join("sub/keys")).unwrap();
        fs::write(root.join(".gitignore"), ".env\n").unwrap();
        fs::write(root.join(".aiignore"), ".env\n/private/\n*.pem\n").unwrap();
        fs::write(root.join("sub/.aiignore"), "keys\n!ok.pem\n").unwrap();
        for file in [".env", "private/deep/x", "a.pem", "sub/ok.pem", "sub/keys/k", "sub/free"] {
            fs::write(root.join(file), "x").unwrap();
        }
        let mut found = find(root).unwrap();
        found.sort();
        let want = [".env", "a.pem", "private", "sub/keys"].map(|p| root.join(p));
        assert_eq!(found, want);
    }

    #[test]
    fn without_rules_nothing_is_hidden() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x"), "x").unwrap();
        assert!(find(dir.path()).unwrap().is_empty());
    }
}
