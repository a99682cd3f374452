//! Protected paths that were not there when a command began, and are when it has ended.
//!
//! What exists is held by read-only mounts; a path that does not exist cannot be mounted
//! over without making it. So a command can create one, and here it is moved aside before
//! anybody but the command has reason to look. Runs when no process of the command is
//! left, so nothing races with it.

use std::fs;
use std::path::{Path, PathBuf};

use super::denied::Watched;

/// What a moved path is renamed to, beside where it was.
const SUFFIX: &str = "blocked-by-lapce-ai";
const PROTECTED: &str = "is protected";

/// Those of `protected` whose first part is there: one look at the folder in place of one at
/// each of them. All of them when the folder cannot be read.
pub(crate) fn begun<'p>(root: &Path, protected: &'p [String]) -> Vec<&'p String> {
    let Ok(entries) = fs::read_dir(root) else { return protected.iter().collect() };
    let mut there: Vec<&String> = Vec::new();
    for entry in entries {
        let Ok(entry) = entry else { return protected.iter().collect() };
        let name = entry.file_name();
        let first = |path: &&String| path.split('/').next().is_some_and(|first| name == *first);
        there.extend(protected.iter().filter(first));
    }
    there
}

/// The protected paths that are missing.
pub(crate) struct Guard {
    root: PathBuf,
    missing: Vec<String>,
    had_git: bool,
}

impl Guard {
    pub(crate) fn before(root: &Path, protected: &[String]) -> Self {
        let begun = begun(root, protected);
        let is_missing = |path: &&String| {
            !begun.contains(path) || fs::symlink_metadata(root.join(path)).is_err()
        };
        Self {
            root: root.to_owned(),
            missing: protected.iter().filter(is_missing).cloned().collect(),
            had_git: fs::symlink_metadata(root.join(".git")).is_ok(),
        }
    }

    /// Moves aside what has come to be there. Says what and where to.
    pub(crate) fn after(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let mut git_judged = false;
        for path in &self.missing {
            if fs::symlink_metadata(self.root.join(path)).is_err() {
                continue;
            }
            if path.starts_with(".git/") && !self.had_git {
                // A repository that the command made: fine as git makes it, and moved as
                // a whole when anything in it would run.
                if !std::mem::replace(&mut git_judged, true)
                    && !is_plain_repository(&self.root.join(".git"))
                {
                    notes.push(self.aside(".git", PROTECTED));
                }
                continue;
            }
            notes.push(self.aside(self.entry(path), PROTECTED));
        }
        notes
    }

    /// The part of `path` to move: the first symlink on the way, or all of it.
    fn entry<'p>(&self, path: &'p str) -> &'p str {
        let mut at = 0;
        while let Some(next) = path[at..].find('/') {
            let part = &path[..at + next];
            if fs::symlink_metadata(self.root.join(part)).is_ok_and(|m| m.is_symlink()) {
                return part;
            }
            at += next + 1;
        }
        path
    }

    /// The same for what has come to be where the user's rules deny writing.
    pub(crate) fn after_rules(&self, watched: &Watched) -> Vec<String> {
        let (made, more) = watched.made();
        let aside = |(path, rule): &(PathBuf, String)| {
            self.aside(&path.to_string_lossy(), &format!("is closed by the rule '{rule}'"))
        };
        let mut notes: Vec<String> = made.iter().map(aside).collect();
        if more {
            notes.push("it made more where the user's rules deny writing; that stays".into());
        }
        notes
    }

    /// Moves what is at `path`; `why` it must not stay.
    fn aside(&self, path: &str, why: &str) -> String {
        for n in 1..1_000 {
            let to = format!("{path}.{SUFFIX}-{n}");
            if fs::symlink_metadata(self.root.join(&to)).is_ok() {
                continue;
            }
            return match fs::rename(self.root.join(path), self.root.join(&to)) {
                Ok(()) => {
                    format!("'{path}' {why}, so what the command made there was moved to '{to}'")
                }
                Err(e) => format!(
                    "'{path}' {why}, but what the command made there could not be moved: {e}"
                ),
            };
        }
        format!("'{path}' {why}, but what the command made there could not be moved")
    }
}

/// Whether a fresh `.git` holds nothing that git or an editor would run.
fn is_plain_repository(git: &Path) -> bool {
    if !fs::symlink_metadata(git).is_ok_and(|m| m.is_dir()) {
        return false;
    }
    let hooks = match fs::symlink_metadata(git.join("hooks")) {
        Err(_) => true,
        Ok(m) if !m.is_dir() => false,
        Ok(_) => fs::read_dir(git.join("hooks")).is_ok_and(|mut entries| {
            entries.all(|e| e.is_ok_and(|e| e.file_name().to_string_lossy().ends_with(".sample")))
        }),
    };
    let absent = |name: &str| fs::symlink_metadata(git.join(name)).is_err();
    let config = match fs::symlink_metadata(git.join("config")) {
        Err(_) => true,
        Ok(m) => {
            m.is_file() && fs::read_to_string(git.join("config")).is_ok_and(|c| is_plain_config(&c))
        }
    };
    hooks && config && absent("config.worktree") && absent("modules") && absent("commondir")
}

/// Whether a git configuration has only settings that name no program.
fn is_plain_config(text: &str) -> bool {
    const CORE: &[&str] = &[
        "repositoryformatversion",
        "filemode",
        "bare",
        "logallrefupdates",
        "ignorecase",
        "precomposeunicode",
        "symlinks",
        "autocrlf",
        "eol",
    ];
    let mut section = String::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') || line.starts_with(';') {
            continue;
        }
        if let Some(head) = line.strip_prefix('[') {
            let Some(head) = head.strip_suffix(']') else { return false };
            section = head.split([' ', '.']).next().unwrap_or_default().to_lowercase();
            continue;
        }
        let key = line.split('=').next().unwrap_or_default().trim().to_lowercase();
        let plain = match section.as_str() {
            "core" => CORE.contains(&key.as_str()),
            "user" => matches!(key.as_str(), "name" | "email"),
            "branch" => matches!(key.as_str(), "remote" | "merge" | "rebase"),
            "remote" => matches!(key.as_str(), "url" | "fetch") && !line.contains("ext::"),
            "init" => key == "defaultbranch",
            _ => false,
        };
        if !plain || line.ends_with('\\') {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_appears_at_a_protected_path_is_moved() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let list = [".lapce", ".github/workflows", ".envrc"].map(str::to_owned);
        fs::write(root.join(".envrc"), "x").unwrap();
        let guard = Guard::before(root, &list);
        assert!(guard.after().is_empty());
        fs::create_dir_all(root.join(".github/workflows")).unwrap();
        fs::create_dir_all(root.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", root.join(".lapce")).unwrap();
        assert_eq!(guard.after().len(), 2);
        assert!(!root.join(".lapce").exists() && !root.join(".github/workflows").exists());
        assert!(root.join(".github").exists() && root.join("elsewhere").exists());
        assert!(guard.after().is_empty());
    }

    #[test]
    fn a_plain_repository_may_be_made_and_no_other() {
        let plain = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n[remote \"origin\"]\n\turl = https://x/y\n";
        assert!(is_plain_config(plain));
        for bad in [
            "[core]\n\tfsmonitor = ./x\n",
            "[core] fsmonitor = ./x\n",
            "[alias]\n\tst = !x\n",
            "[include]\n\tpath = x\n",
            "[core]\n\tsshCommand = x\n",
            "[remote \"o\"]\n\turl = ext::sh -c x\n",
            "[core]\n\thooksPath = x\n",
            "[filter \"x\"]\n\tclean = y\n",
        ] {
            assert!(!is_plain_config(bad), "{bad}");
        }
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let list = [".git/hooks", ".git/config"].map(str::to_owned);
        let guard = Guard::before(root, &list);
        fs::create_dir_all(root.join(".git/hooks")).unwrap();
        fs::write(root.join(".git/config"), plain).unwrap();
        fs::write(root.join(".git/hooks/pre-commit.sample"), "").unwrap();
        assert!(guard.after().is_empty());
        fs::write(root.join(".git/hooks/pre-commit"), "").unwrap();
        assert_eq!(guard.after().len(), 1);
        assert!(!root.join(".git").exists());
    }
}
