//! The folder a call may work in, and what is fenced off inside it.
//!
//! Built by the host from the user's own configuration; nothing in the repository can
//! change it.

use std::io;
use std::path::{Path, PathBuf};

/// Where tools work.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// `root` must be an existing folder, and neither `/` nor a home folder's parent.
    pub fn new(root: &Path) -> io::Result<Self> {
        let root = root.canonicalize()?;
        if !root.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::NotADirectory,
                format!("{} is not a folder", root.display()),
            ));
        }
        if root.parent().is_none() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the whole disk cannot be a workspace; open the project's folder",
            ));
        }
        Ok(Self { root })
    }

    /// Absolute, without symlinks.
    pub fn root(&self) -> &Path {
        &self.root
    }
}
