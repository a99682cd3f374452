//! The folder a request speaks about, checked once at the door.

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use lapce_ai_ipc::wire::{ErrorKind, WireError};

/// A workspace: an absolute, canonical, readable folder whose path is UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Root(String);

impl Root {
    /// Checks what a client sent as `root`.
    pub fn open(given: &str) -> Result<Self, WireError> {
        let path = Path::new(given);
        if !path.is_absolute() {
            return Err(WireError::new(
                ErrorKind::Invalid,
                format!("the workspace path {given:?} is not absolute"),
            ));
        }
        let canonical = fs::canonicalize(path).map_err(|e| unreadable(given, &e))?;
        if !canonical.is_dir() {
            return Err(WireError::new(ErrorKind::Invalid, format!("{given} is not a folder"))
                .hint("name the folder that holds the project"));
        }
        fs::read_dir(&canonical).map_err(|e| unreadable(given, &e))?;
        let text = canonical.into_os_string().into_string().map_err(|raw| {
            WireError::new(
                ErrorKind::Unsupported,
                format!("the path {} is not valid UTF-8", raw.to_string_lossy()),
            )
            .hint("rename the folder")
        })?;
        Ok(Self(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// Name of this workspace's index folder: 32 hex digits of its path's hash.
    pub fn index_dir(&self, index_root: &Path) -> PathBuf {
        index_root.join(&blake3::hash(self.0.as_bytes()).to_hex()[..32])
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn unreadable(given: &str, error: &io::Error) -> WireError {
    match error.kind() {
        io::ErrorKind::NotFound => {
            WireError::new(ErrorKind::NotFound, format!("{given} does not exist"))
                .hint("check the path")
        }
        io::ErrorKind::PermissionDenied => {
            WireError::new(ErrorKind::Denied, format!("{given} cannot be read: permission denied"))
                .hint(format!("check its permissions with `ls -ld {given}`"))
        }
        _ => WireError::new(ErrorKind::Invalid, format!("{given} cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_canonical() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        let real = dir.path().join("real");
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let root = Root::open(link.to_str().unwrap()).unwrap();
        assert_eq!(root.path(), real.canonicalize().unwrap());
        assert_eq!(root, Root::open(&format!("{}/../real", real.display())).unwrap());
    }

    #[test]
    fn bad_roots_say_why() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let kind = |path: &str| Root::open(path).unwrap_err().kind;
        assert_eq!(kind("relative"), ErrorKind::Invalid);
        assert_eq!(kind(""), ErrorKind::Invalid);
        assert_eq!(kind("/does/not/exist"), ErrorKind::NotFound);
        assert_eq!(kind(file.to_str().unwrap()), ErrorKind::Invalid);
    }

    #[test]
    fn index_folders_are_32_hex_digits() {
        let dir = Root("/a".into()).index_dir(Path::new("/data"));
        let name = dir.file_name().unwrap().to_str().unwrap();
        assert_eq!(name.len(), 32);
        assert_ne!(dir, Root("/b".into()).index_dir(Path::new("/data")));
    }
}
