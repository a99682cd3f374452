//! Whether `.gitignore` or `.aiignore` names one given path. Fails closed: rules that
//! cannot be read ignore everything they might govern.

use std::fs;
use std::io;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Longest ignore file read.
const MAX_IGNORE_BYTES: u64 = 1 << 20;

pub(crate) struct Ignored;

impl Ignored {
    /// The name of the file that ignores `relative`, if one does.
    pub(crate) fn check(root: &Path, relative: &Path) -> Result<Option<String>, String> {
        for name in [".aiignore", ".gitignore"] {
            if let Some(by) = by(root, relative, name)? {
                return Ok(Some(by));
            }
        }
        Ok(None)
    }
}

/// The semantics of git: each folder on the way down is judged by the files above it,
/// the nearest first; once a folder is ignored, all below it is.
fn by(root: &Path, relative: &Path, name: &str) -> Result<Option<String>, String> {
    let mut rules: Vec<(String, Gitignore)> = Vec::new();
    let mut folder = root.to_owned();
    let mut at = Path::new("").to_owned();
    if name == ".gitignore" {
        let exclude = root.join(".git/info/exclude");
        if let Some(read) = load(root, &exclude)? {
            rules.push((".git/info/exclude".into(), read));
        }
    }
    let parts: Vec<_> = relative.components().collect();
    for (i, part) in parts.iter().enumerate() {
        if let Some(read) = load(&folder, &folder.join(name))? {
            rules.push((at.join(name).display().to_string(), read));
        }
        folder.push(part);
        at.push(part);
        let last = i + 1 == parts.len();
        let is_dir = !last || fs::symlink_metadata(&folder).is_ok_and(|m| m.is_dir());
        for (file, rule) in rules.iter().rev() {
            match rule.matched(&folder, is_dir) {
                Match::Ignore(_) => return Ok(Some(file.clone())),
                Match::Whitelist(_) => break,
                Match::None => {}
            }
        }
    }
    Ok(None)
}

pub(crate) fn load(folder: &Path, file: &Path) -> Result<Option<Gitignore>, String> {
    let closed = |why: String| {
        format!(
            "{} cannot be read ({why}), so everything it may name is off limits",
            file.display()
        )
    };
    let meta = match fs::symlink_metadata(file) {
        Ok(meta) => meta,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(closed(e.to_string())),
    };
    // Git does not follow a symlink here either.
    if !meta.is_file() {
        return Err(closed("it is not a regular file".into()));
    }
    if meta.len() > MAX_IGNORE_BYTES {
        return Err(closed("it is too long".into()));
    }
    let text = fs::read(file).map_err(|e| closed(e.to_string()))?;
    let mut builder = GitignoreBuilder::new(folder);
    for line in String::from_utf8_lossy(&text).lines() {
        builder.add_line(None, line).map_err(|e| closed(e.to_string()))?;
    }
    builder.build().map(Some).map_err(|e| closed(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_semantics() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(root.join("target")).unwrap();
        fs::write(root.join(".gitignore"), "*.log\n/target/\n!keep.log\n").unwrap();
        fs::write(root.join("a/.gitignore"), "!x.log\nsecret\n").unwrap();
        fs::write(root.join(".aiignore"), "*.pem\n").unwrap();
        let check = |p: &str| Ignored::check(root, Path::new(p)).unwrap();
        for held in ["y.log", "a/y.log", "target/x/y", "a/b/secret", "a/secret/z", "k.pem"] {
            assert!(check(held).is_some(), "{held}");
        }
        for free in ["keep.log", "a/x.log", "a/b/x.log", "src/target", "secret", "a"] {
            assert!(check(free).is_none(), "{free}");
        }
        assert_eq!(check("a/b/secret").unwrap(), "a/.gitignore");
        assert_eq!(check("k.pem").unwrap(), ".aiignore");
    }

    #[test]
    fn unreadable_rules_close() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(".aiignore")).unwrap();
        assert!(Ignored::check(dir.path(), Path::new("x")).is_err());
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".aiignore"), "{a\n[z-a]\n").unwrap();
        assert!(Ignored::check(dir.path(), Path::new("x")).is_err());
    }
}
