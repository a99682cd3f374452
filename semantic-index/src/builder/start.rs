//! Where a build begins: the workspace, the folder of the index, and what of an earlier
//! build it goes on with.

use std::path::{Path, PathBuf};

use super::Options;
use super::progress::unix_micros;
use crate::error::Error;
use crate::manifest::{FORMAT, Files, State};
use crate::spool;

/// The canonical workspace and the index folder, made private.
pub(super) fn check(options: &Options) -> Result<(PathBuf, PathBuf), Error> {
    let root = match options.root.canonicalize() {
        Ok(root) => root,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::NoRoot(options.root.clone()));
        }
        Err(error) => return Err(Error::io("cannot open", &options.root)(error)),
    };
    if !root.is_dir() {
        return Err(Error::NotAFolder(root));
    }
    std::fs::read_dir(&root).map_err(Error::io("cannot read", &root))?;
    if options.dir.starts_with(&root) {
        return Err(Error::DirInside(options.dir.clone()));
    }
    lapce_ai_ipc::paths::private_dir(&options.dir)
        .map_err(Error::io("cannot create", &options.dir))?;
    let dir = options.dir.canonicalize().map_err(Error::io("cannot open", &options.dir))?;
    if dir.starts_with(&root) {
        return Err(Error::DirInside(dir));
    }
    Ok((root, dir))
}

/// The index to update, or a new one beside it.
pub(super) fn previous(options: &Options, embedder: &str) -> (State, Files) {
    let root = options.root.to_string_lossy().into_owned();
    let old = State::load(&options.dir);
    if let Some(state) = &old
        && !options.force
        && state.root == root
        && state.embedder == embedder
        && state.below.as_ref().map(|b| &b.location)
            == options.layer.as_ref().map(|l| &l.below.location)
        && let Some(files) = Files::load(&state.db_path(&options.dir))
        && files.is_whole(options.only.as_ref())
    {
        return (state.clone(), files);
    }
    let generation = old.as_ref().map_or(0, |s| s.generation);
    let number = match &options.location {
        // No table of a writer that died may lie there.
        Some(_) => unix_micros(),
        None => old.and_then(|s| s.db[3..].parse::<u64>().ok()).unwrap_or(0) + 1,
    };
    let state = State {
        format: FORMAT,
        root,
        db: format!("db-{number}"),
        embedder: embedder.into(),
        generation,
        ..State::default()
    };
    // Left over from a build that died before its first commit.
    let _ = std::fs::remove_dir_all(state.db_path(&options.dir));
    (state, Files::default())
}

/// Removes database folders that nothing points at.
pub(super) fn remove_others(dir: &Path, keep: &str) {
    let current = State::load(dir).map(|s| s.db);
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("db-") && name != keep && Some(name.as_ref()) != current.as_deref() {
            let _ = std::fs::remove_dir_all(entry.path());
        } else if name.starts_with(spool::PREFIX) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
