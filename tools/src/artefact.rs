//! The whole output of commands whose result was cut: kept in the user's state for
//! `read_command_output`, the oldest going first. Used by the host.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::{ARTEFACTS_MAX, ARTEFACTS_MAX_BYTES};

/// The folder of artefacts.
#[derive(Debug, Clone)]
pub(crate) struct Artefacts(PathBuf);

impl Artefacts {
    pub(crate) fn new(state: &Path) -> Self {
        Self(state.join("artefacts"))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.0
    }

    /// Keeps `text` and returns its name.
    pub(crate) fn keep(&self, text: &str) -> io::Result<String> {
        let id = format!("cmd-{}", fresh());
        self.put(&id, text)?;
        Ok(id)
    }

    /// Keeps a JPEG and returns where.
    pub(crate) fn picture(&self, bytes: &[u8]) -> io::Result<PathBuf> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let path = self.0.join(format!("shot-{}.jpg", fresh()));
        fs::write(&path, bytes)?;
        let _ = self.trim();
        Ok(path)
    }

    /// Keeps `text` under a name of the host's own making, in place of what was there.
    pub(crate) fn put(&self, id: &str, text: &str) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        fs::write(self.0.join(file_name(id)), text)?;
        let _ = self.trim();
        Ok(())
    }

    /// Whether `id` is a name this has given out, and its file is still there.
    pub(crate) fn has(&self, id: &str) -> bool {
        let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        plain && !id.is_empty() && self.0.join(file_name(id)).is_file()
    }

    fn trim(&self) -> io::Result<()> {
        let mut files: Vec<(String, u64)> = Vec::new();
        for entry in fs::read_dir(&self.0)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            files.push((name, entry.metadata().map_or(0, |m| m.len())));
        }
        // After the kind, names are the time.
        files.sort_by(|(a, _), (b, _)| age(a).cmp(age(b)));
        let mut total: u64 = files.iter().map(|(_, size)| size).sum();
        let mut count = files.len();
        for (name, size) in files {
            if count <= ARTEFACTS_MAX && total <= ARTEFACTS_MAX_BYTES {
                break;
            }
            let _ = fs::remove_file(self.0.join(name));
            count -= 1;
            total -= size;
        }
        Ok(())
    }
}

/// A name, without its kind, that sorts by time.
pub(crate) fn fresh() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let time = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_millis());
    format!("{time:x}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn age(name: &str) -> &str {
    name.split_once('-').map_or(name, |(_, time)| time)
}

pub(crate) fn file_name(id: &str) -> String {
    format!("{id}.txt")
}
