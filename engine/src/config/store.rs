//! The file on disk: read when it is first needed and again when it has changed.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io};

use lapce_ai_ipc::wire::{ErrorKind, WireError};

use super::Config;
use crate::limits::CONFIG_BYTES;

/// The file, loaded lazily.
#[derive(Debug)]
pub struct ConfigStore {
    file: PathBuf,
    loaded: Mutex<Option<Loaded>>,
}

#[derive(Debug)]
struct Loaded {
    stamp: Stamp,
    result: Result<Arc<Config>, WireError>,
}

/// Tells one state of the file from another.
type Stamp = Option<(u64, u64, i64, i64)>;

impl ConfigStore {
    pub fn new(file: PathBuf) -> Self {
        Self { file, loaded: Mutex::new(None) }
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The configuration as the file says now; defaults when there is no file.
    pub fn get(&self) -> Result<Arc<Config>, WireError> {
        let stamp =
            fs::metadata(&self.file).ok().map(|m| (m.ino(), m.len(), m.mtime(), m.mtime_nsec()));
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        match &*loaded {
            Some(known) if known.stamp == stamp => known.result.clone(),
            _ => {
                let result = self.read();
                *loaded = Some(Loaded { stamp, result: result.clone() });
                result
            }
        }
    }

    fn read(&self) -> Result<Arc<Config>, WireError> {
        let name = self.file.display();
        let text = match read_bounded(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Arc::default()),
            Err(error) => {
                return Err(WireError::new(
                    ErrorKind::Invalid,
                    format!("{name} cannot be read: {error}"),
                )
                .hint("make it a readable text file, or remove it"));
            }
        };
        Config::parse(&text).map(Arc::new).map_err(|problem| {
            WireError::new(ErrorKind::Invalid, format!("{name}, {problem}")).hint(format!(
                "correct line {} of {name}; docs/reference/config.md lists every key",
                problem.line
            ))
        })
    }
}

fn read_bounded(file: &Path) -> io::Result<String> {
    // A FIFO or device of that name would block or never end.
    let meta = fs::metadata(file)?;
    if !meta.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    fs::File::open(file)?.take(CONFIG_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > CONFIG_BYTES {
        return Err(io::Error::other(format!("it is longer than {CONFIG_BYTES} bytes")));
    }
    Ok(text)
}
