//! Indexes stay within their bound on disk, `index.disk_mb`.
//!
//! Reads what the indexes say of themselves; deletes nothing: it names the oldest and the
//! command that removes them.

use std::path::{Path, PathBuf};

use lapce_ai_ipc::wire::{ErrorKind, WireError};

use super::{meta, shell_word};
use crate::limits;
use crate::workspace::Root;

const MB: u64 = 1_000_000;

/// The folder of the cache of chunks.
pub(super) fn cache(index_root: &Path) -> PathBuf {
    index_root.join("cache")
}

/// What the index of `root` may take, in bytes.
pub(super) fn room(index_root: &Path, root: &Root, disk_mb: u64) -> Result<u64, WireError> {
    let others = meta::list(index_root).into_iter().filter(|info| info.root != root.as_str());
    let taken = others.map(|info| info.disk_bytes).sum::<u64>() + cached(index_root);
    let most = disk_mb.saturating_mul(MB);
    if taken < most {
        return Ok(most - taken);
    }
    let what = format!(
        "the other indexes take {} MB of the {disk_mb} MB that index.disk_mb allows",
        taken / MB
    );
    Err(WireError::new(ErrorKind::Limit, what))
}

fn cached(index_root: &Path) -> u64 {
    let files = cache(index_root).read_dir().into_iter().flatten().flatten();
    files.take(limits::CACHE_FILES).filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum()
}

/// Names what could be removed, when the disk is the problem.
pub(super) fn offer(index_root: &Path, root: &Root, error: WireError) -> WireError {
    if error.kind != ErrorKind::Limit {
        return error;
    }
    let mut old: Vec<_> =
        meta::list(index_root).into_iter().filter(|info| info.root != root.as_str()).collect();
    old.sort_by_key(|info| info.built_at);
    let commands: Vec<String> = old
        .iter()
        .take(limits::INDEXES_OFFERED)
        .map(|info| {
            let size = info.disk_bytes / MB;
            format!("`lapce-ai index rm {}` ({size} MB)", shell_word(&info.root))
        })
        .collect();
    let hint = if commands.is_empty() {
        "raise `index.disk_mb` in config.toml".to_owned()
    } else {
        format!(
            "remove one that is not needed, oldest first: {}; or raise `index.disk_mb` in config.toml",
            commands.join(", ")
        )
    };
    error.hint(hint)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn over_the_bound_the_oldest_are_offered() {
        let dir = tempfile::tempdir().unwrap();
        for (name, built_at, bytes) in
            [("new", 30, 2_000_000), ("old one", 10, 5_000_000), ("mid", 20, 1_000_000)]
        {
            let index = dir.path().join(name.replace(' ', ""));
            fs::create_dir(&index).unwrap();
            let text =
                format!(r#"{{"root":"/w/{name}","built_at":{built_at},"disk_bytes":{bytes}}}"#);
            fs::write(index.join("meta.json"), text).unwrap();
        }
        fs::create_dir(cache(dir.path())).unwrap();
        fs::write(cache(dir.path()).join("seg-1"), vec![0; 1_000_000]).unwrap();
        let root = Root::open(dir.path().to_str().unwrap()).unwrap();
        assert_eq!(room(dir.path(), &root, 10), Ok(1_000_000));
        let error = offer(dir.path(), &root, room(dir.path(), &root, 9).unwrap_err());
        assert_eq!(
            error.message,
            "the other indexes take 9 MB of the 9 MB that index.disk_mb allows"
        );
        assert_eq!(
            error.hint,
            "remove one that is not needed, oldest first: `lapce-ai index rm '/w/old one'` (5 MB), \
             `lapce-ai index rm /w/mid` (1 MB), `lapce-ai index rm /w/new` (2 MB); or raise \
             `index.disk_mb` in config.toml"
        );
    }
}
