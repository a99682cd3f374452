//! What git says about a workspace: where its folder is, which branch is checked out, and
//! whether it is changing files right now. Reads three small files; runs nothing.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Longest of these files that is read.
const BYTES: u64 = 4096;
/// Longest branch name that is shown.
const NAME_CHARS: usize = 100;

/// The git folder of the work tree that `root` lies in.
pub(super) fn folder(root: &Path) -> Option<PathBuf> {
    root.ancestors().find_map(|dir| {
        let git = dir.join(".git");
        let meta = git.symlink_metadata().ok()?;
        if meta.is_dir() {
            return Some(git);
        }
        // A work tree or a submodule: the file names the folder.
        let text = small(&git)?;
        let named = text.lines().next()?.strip_prefix("gitdir:")?.trim();
        Some(dir.join(named)).filter(|folder| folder.is_dir())
    })
}

/// The branch that is checked out, or the first digits of the commit.
pub(super) fn head(git: &Path) -> String {
    let text = small(&git.join("HEAD")).unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let name = match line.strip_prefix("ref:") {
        Some(name) => name.trim().trim_start_matches("refs/heads/"),
        None => line.get(..8).unwrap_or_default(),
    };
    name.chars().filter(|c| !c.is_control()).take(NAME_CHARS).collect()
}

/// A git command is at work on the files.
pub(super) fn busy(git: &Path) -> bool {
    git.join("index.lock").symlink_metadata().is_ok()
}

fn small(path: &Path) -> Option<String> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
    let mut text = String::new();
    file.take(BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn folder_and_branch_of_a_work_tree() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("main");
        fs::create_dir_all(main.join(".git/worktrees/w")).unwrap();
        fs::create_dir_all(main.join("deep/er")).unwrap();
        fs::write(main.join(".git/HEAD"), "ref: refs/heads/fix/\u{7}one\n").unwrap();
        let git = folder(&main.join("deep/er")).unwrap();
        assert_eq!(git, main.join(".git"));
        assert_eq!(head(&git), "fix/one");
        assert!(!busy(&git));
        fs::write(git.join("index.lock"), "").unwrap();
        assert!(busy(&git));
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join(".git"), "gitdir: ../main/.git/worktrees/w\n").unwrap();
        let git = folder(&tree).unwrap();
        fs::write(git.join("HEAD"), "0123456789abcdef0123456789abcdef01234567\n").unwrap();
        assert_eq!(head(&git), "01234567");
        fs::write(tree.join(".git"), "gitdir: /does/not/exist\n").unwrap();
        assert!(folder(&tree).is_none_or(|git| !git.starts_with(&tree)));
        fs::write(main.join(".git/HEAD"), "é".repeat(9000)).unwrap();
        head(&main.join(".git"));
    }
}
