//! What the index holds, file by file, so that an update touches only what changed.
//!
//! `meta.json` names the database folder in use and sums it up: the worker reads it before
//! each search. `<db>/files.bin` and the base below it (`files`) list the indexed files with
//! size, time and hash; only builds read them. Both are replaced atomically, and an entry is
//! written only after its rows are committed: after a crash a file may be indexed again,
//! never forgotten.

mod base;
mod files;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use files::Files;

/// Changes when chunks, tokens or the table change shape: older indexes are rebuilt.
pub const FORMAT: u32 = 1;

/// Sum of an index.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub format: u32,
    /// Workspace the index is of.
    pub root: String,
    /// Name of the database folder in use.
    pub db: String,
    pub files: u64,
    pub chunks: u64,
    /// Unix seconds of the last finished build, 0 while the first one runs.
    pub built_at: u64,
    /// Unix seconds of the last build that changed something.
    #[serde(default)]
    pub changed_at: u64,
    /// Name of the embedder that made the vectors, or empty.
    pub embedder: String,
    /// Size of the index folder at the end of the last build.
    #[serde(default)]
    pub disk_bytes: u64,
    /// File in the database folder that names the mapped copies, or empty.
    #[serde(default)]
    pub view: String,
    /// The shared index that this one lies on (`shared`).
    #[cfg(feature = "lance")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<crate::shared::Below>,
    /// File in the database folder that lists the files hidden in the index below, or empty.
    #[serde(default)]
    pub shadow: String,
    /// Counts up with every commit: a reader reopens the table when it changes.
    pub generation: u64,
}

impl State {
    /// None when there is no index here, or one of another format.
    pub fn load(dir: &Path) -> Option<Self> {
        let text = fs::read(dir.join("meta.json")).ok()?;
        let state: Self = serde_json::from_slice(&text).ok()?;
        state.is_plain().then_some(state)
    }

    /// Of this format, and every name in it is one of ours.
    pub fn is_plain(&self) -> bool {
        let named =
            |name: &str, kind: &str| name.is_empty() || name.strip_prefix(kind).is_some_and(digits);
        self.format == FORMAT
            && self.db.strip_prefix("db-").is_some_and(digits)
            && named(&self.view, "view-")
            && named(&self.shadow, "shadow-")
    }

    pub fn save(&self, dir: &Path) -> io::Result<()> {
        replace(&dir.join("meta.json"), &serde_json::to_vec_pretty(self)?)
    }

    pub fn db_path(&self, dir: &Path) -> PathBuf {
        dir.join(&self.db)
    }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// In `Record::skip`: the file is indexed in the shared index below, with the same bytes.
pub const IN_SHARED: u8 = u8::MAX;

/// One indexed file.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    pub size: u64,
    pub mtime: i64,
    pub hash: [u8; 16],
    pub chunks: u32,
    /// Why the file's bytes were refused (`sniff::Skip::code`), or 0: it is not read again.
    pub skip: u8,
}

/// Appends a record.
fn encode(path: &str, record: &Record, out: &mut Vec<u8>) {
    out.extend_from_slice(&(path.len() as u32).to_le_bytes());
    out.extend_from_slice(path.as_bytes());
    out.extend_from_slice(&record.size.to_le_bytes());
    out.extend_from_slice(&record.mtime.to_le_bytes());
    out.extend_from_slice(&record.hash);
    out.extend_from_slice(&record.chunks.to_le_bytes());
    out.push(record.skip);
}

/// Takes a record off the front.
fn decode<'a>(bytes: &mut &'a [u8]) -> Option<(&'a str, Record)> {
    fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
        let (first, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(first)
    }
    let length = u32::from_le_bytes(*take(bytes)?) as usize;
    let (path, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    let record = Record {
        size: u64::from_le_bytes(*take(bytes)?),
        mtime: i64::from_le_bytes(*take(bytes)?),
        hash: *take(bytes)?,
        chunks: u32::from_le_bytes(*take(bytes)?),
        skip: take::<1>(bytes)?[0],
    };
    Some((std::str::from_utf8(path).ok()?, record))
}

/// The first 16 bytes of the blake3 of some bytes.
pub fn hash(bytes: &[u8]) -> [u8; 16] {
    short(&blake3::hash(bytes))
}

/// The first 16 bytes of a hash.
pub fn short(hash: &blake3::Hash) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&hash.as_bytes()[..16]);
    out
}

/// Where the index of a workspace lies among all of a user's, as the engine has it.
pub fn dir_of(indexes: &Path, root: &str) -> PathBuf {
    indexes.join(&blake3::hash(root.as_bytes()).to_hex()[..32])
}

/// Writes beside the file, syncs, renames: readers see the old or the new, whole.
pub(crate) fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(file, |out| out.write_all(bytes))
}

/// The same, for what is written piece by piece.
fn replace_with(
    file: &Path,
    write: impl FnOnce(&mut io::BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = file.with_extension("tmp");
    let out =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    let mut out = io::BufWriter::with_capacity(1 << 18, out);
    write(&mut out)?;
    let out = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    out.sync_data()?;
    drop(out);
    fs::rename(&temporary, file)
}

/// Held by the one build that may write an index; freed by the kernel with the process.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl Lock {
    /// None when another build holds it.
    pub fn acquire(dir: &Path) -> io::Result<Option<Self>> {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_builder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::acquire(dir.path()).unwrap();
        assert!(first.is_some());
        assert!(Lock::acquire(dir.path()).unwrap().is_none());
        drop(first);
        assert!(Lock::acquire(dir.path()).unwrap().is_some());
    }

    #[test]
    fn a_state_cannot_point_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State { format: FORMAT, db: "db-1".into(), ..State::default() };
        state.save(dir.path()).unwrap();
        assert_eq!(State::load(dir.path()), Some(state.clone()));
        state.db = "db-../../etc".into();
        state.save(dir.path()).unwrap();
        assert_eq!(State::load(dir.path()), None);
    }
}
