//! Finds the files of a workspace that could be indexed.
//!
//! Honours every git ignore rule (`.gitignore` at each level, `.git/info/exclude`,
//! `core.excludesFile`) and `.aiignore` in the same syntax. Hidden files are indexed;
//! version-control folders and our own are not. Symbolic links are never followed, so a
//! loop of them costs nothing and nothing outside the workspace is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::UNIX_EPOCH;

use ignore::{WalkBuilder, WalkState};

use crate::limits::MAX_FOLDERS;
use crate::sniff::{Skip, by_name};

/// A file that may be indexed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Workspace-relative, `/` separated.
    pub path: String,
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime: i64,
}

/// Counts of skipped files by reason, with one example each.
#[derive(Debug, Default, Clone)]
pub struct Skips(BTreeMap<Skip, (u64, String)>);

impl Skips {
    pub fn add(&mut self, reason: Skip, path: &str) {
        let slot = self.0.entry(reason).or_insert_with(|| (0, path.to_string()));
        slot.0 += 1;
    }

    pub fn iter(&self) -> impl Iterator<Item = (Skip, u64, &str)> {
        self.0.iter().map(|(reason, (count, example))| (*reason, *count, example.as_str()))
    }
}

/// What a walk found, but for the files.
#[derive(Debug, Default)]
pub struct Found {
    pub files: u64,
    pub skips: Skips,
    /// Folders that were looked into, the root as ""; no more than `limits::MAX_FOLDERS`.
    pub folders: Vec<String>,
}

/// Files and folders that a walk is restricted to.
#[derive(Debug, Clone, Default)]
pub struct Only(BTreeSet<String>);

impl Only {
    /// Workspace-relative paths; anything else is dropped.
    pub fn new(paths: impl IntoIterator<Item = String>) -> Self {
        let inside = |path: &String| {
            path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains('\0')
        };
        Self(paths.into_iter().filter(inside).collect())
    }

    /// One of the paths, or below one of them.
    pub fn covers(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.into_iter().any(|end| self.0.contains(&path[..end]))
    }

    /// One of the paths lies below.
    fn leads(&self, folder: &str) -> bool {
        let below = format!("{folder}/");
        self.0.range(below.clone()..).next().is_some_and(|path| path.starts_with(&below))
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    pub fn contains(&self, path: &str) -> bool {
        self.0.contains(path)
    }
}

/// Folders of tools, never of the project.
const NEVER: &[&str] = &[
    ".git",
    ".hg",
    ".svn",
    ".jj",
    ".lapce",
    "node_modules",
    "__pycache__",
    ".venv",
    ".mypy_cache",
    ".pytest_cache",
];

/// The files of a workspace that could be indexed, sorted by path. They are held in memory:
/// builds use [`look`].
pub fn walk(root: &Path, threads: usize) -> (Vec<Entry>, Skips) {
    let entries = Mutex::new(Vec::new());
    let found = look(root, None, threads, &AtomicBool::new(false), |entry, _| {
        entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(entry);
    });
    let mut entries = entries.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    (entries, found.skips)
}

/// Looks at all below `root`, or only at what `only` covers, with every rule that holds there.
/// `each` takes the files in any order, from several threads, with their number so far;
/// `cancel` ends it early.
pub fn look(
    root: &Path,
    only: Option<&Only>,
    threads: usize,
    cancel: &AtomicBool,
    each: impl Fn(Entry, u64) + Sync,
) -> Found {
    struct Part<'a> {
        found: Found,
        all: &'a Mutex<Found>,
    }
    impl Drop for Part<'_> {
        fn drop(&mut self) {
            let mut all = self.all.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            all.folders.append(&mut self.found.folders);
            all.folders.truncate(MAX_FOLDERS);
            for (reason, count, example) in self.found.skips.iter() {
                let slot = all.skips.0.entry(reason).or_insert_with(|| (0, example.to_string()));
                slot.0 += count;
            }
        }
    }
    let all = Mutex::new(Found::default());
    let count = std::sync::atomic::AtomicU64::new(0);
    let walker = WalkBuilder::new(root)
        .hidden(false)
        .parents(true)
        .require_git(false)
        .follow_links(false)
        .add_custom_ignore_filename(".aiignore")
        .filter_entry({
            let (only, root) = (only.cloned(), root.to_path_buf());
            move |entry| {
                let name = entry.file_name().to_str().unwrap_or_default();
                if entry.depth() == 0 {
                    return true;
                }
                let wanted = only.as_ref().is_none_or(|only| {
                    let relative = entry.path().strip_prefix(&root).unwrap_or(entry.path());
                    relative.to_str().is_some_and(|path| only.covers(path) || only.leads(path))
                });
                wanted && !NEVER.contains(&name) && !is_cache(entry)
            }
        })
        .threads(threads.max(1))
        .build_parallel();
    walker.run(|| {
        let mut part = Part { found: Found::default(), all: &all };
        let (count, each) = (&count, &each);
        Box::new(move |entry| {
            if cancel.load(Ordering::Relaxed) {
                return WalkState::Quit;
            }
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    part.found.skips.add(Skip::Unreadable, &error.to_string());
                    return WalkState::Continue;
                }
            };
            let Some(kind) = entry.file_type() else { return WalkState::Continue };
            let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
            if kind.is_dir() {
                let room = part.found.folders.len() < MAX_FOLDERS;
                part.found.folders.extend(relative.to_str().filter(|_| room).map(str::to_owned));
                return WalkState::Continue;
            }
            let Some(path) = relative.to_str() else {
                part.found.skips.add(Skip::Name, &relative.to_string_lossy());
                return WalkState::Continue;
            };
            if !kind.is_file() {
                part.found.skips.add(Skip::NotAFile, path);
                return WalkState::Continue;
            }
            let Ok(meta) = entry.metadata() else {
                part.found.skips.add(Skip::Unreadable, path);
                return WalkState::Continue;
            };
            if let Some(reason) = by_name(path, meta.len()) {
                part.found.skips.add(reason, path);
                return WalkState::Continue;
            }
            let mtime = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
            let entry = Entry {
                path: path.to_string(),
                size: meta.len(),
                mtime: mtime.map_or(0, |d| d.as_nanos() as i64),
            };
            each(entry, count.fetch_add(1, Ordering::Relaxed) + 1);
            WalkState::Continue
        })
    });
    let mut found = all.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    found.files = count.into_inner();
    found
}

/// A folder that a tool marked as its cache (`CACHEDIR.TAG`), such as Cargo's `target`.
fn is_cache(entry: &ignore::DirEntry) -> bool {
    entry.file_type().is_some_and(|t| t.is_dir()) && entry.path().join("CACHEDIR.TAG").exists()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn paths(root: &Path) -> Vec<String> {
        walk(root, 2).0.into_iter().map(|e| e.path).collect()
    }

    fn write(root: &Path, path: &str, text: &str) {
        let file = root.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[test]
    fn git_and_ai_ignore_rules_hold() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for path in [
            "a.rs",
            "b.log",
            "out/c.rs",
            "keep/d.log",
            "secret/e.rs",
            ".github/f.yml",
            "private.txt",
            "node_modules/x.js",
        ] {
            write(root, path, "text");
        }
        write(root, ".gitignore", "*.log\n/out/\n!keep/d.log\n");
        write(root, ".aiignore", "secret/\n");
        write(root, ".git/info/exclude", "private.txt\n");
        write(root, ".git/config", "");
        assert_eq!(paths(root), [".aiignore", ".github/f.yml", ".gitignore", "a.rs", "keep/d.log"]);
    }

    #[test]
    fn a_restricted_walk_keeps_to_the_rules() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for path in ["a.rs", "src/b.rs", "src/deep/c.rs", "out/d.rs", "src/e.log", "srcs/f.rs"] {
            write(root, path, "text");
        }
        write(root, ".gitignore", "/out/\n*.log\n");
        let only = |paths: &[&str]| {
            let only = Only::new(paths.iter().map(ToString::to_string));
            let paths = Mutex::new(Vec::new());
            let cancel = AtomicBool::new(false);
            let found = look(root, Some(&only), 1, &cancel, |entry, _| {
                paths.lock().unwrap().push(entry.path);
            });
            let mut paths = paths.into_inner().unwrap();
            assert_eq!(found.files, paths.len() as u64);
            paths.sort();
            paths
        };
        assert_eq!(only(&["a.rs", "src/e.log", "gone.rs"]), ["a.rs"]);
        assert_eq!(only(&["src"]), ["src/b.rs", "src/deep/c.rs"]);
        assert_eq!(only(&["src/deep/c.rs"]), ["src/deep/c.rs"]);
        assert!(only(&["out", "out/d.rs", "../x", "/etc/passwd", ""]).is_empty());
        let mut folders = look(root, None, 1, &AtomicBool::new(false), |_, _| {}).folders;
        folders.sort();
        assert_eq!(folders, ["", "src", "src/deep", "srcs"]);
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        write(outside.path(), "secret.rs", "x");
        write(dir.path(), "a.rs", "x");
        std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("away")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret.rs"), dir.path().join("file.rs"))
            .unwrap();
        let (entries, skips) = walk(dir.path(), 1);
        assert_eq!(entries.len(), 1);
        assert_eq!(skips.iter().map(|(r, n, _)| (r, n)).collect::<Vec<_>>(), [(Skip::NotAFile, 3)]);
    }

    #[test]
    fn skipped_files_are_counted_by_reason() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), ".env", "KEY=1");
        write(dir.path(), "Cargo.lock", "");
        write(dir.path(), "a.png", "");
        write(dir.path(), "target/CACHEDIR.TAG", "");
        write(dir.path(), "target/big.rs", "");
        let (entries, skips) = walk(dir.path(), 1);
        assert!(entries.is_empty());
        let reasons: Vec<_> = skips.iter().map(|(r, n, e)| (r, n, e.to_string())).collect();
        assert_eq!(
            reasons,
            [
                (Skip::Binary, 1, "a.png".into()),
                (Skip::Lockfile, 1, "Cargo.lock".into()),
                (Skip::Secret, 1, ".env".into())
            ]
        );
    }
}
