//! What an index folder says about itself in `meta.json`, written by the build process as
//! its last act. A folder without it holds no finished index.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use lapce_ai_ipc::wire::engine::{IndexInfo, WatchState};

use crate::limits;

#[derive(Debug, serde::Deserialize)]
pub(super) struct Meta {
    pub(super) root: String,
    #[serde(default)]
    files: u64,
    #[serde(default)]
    chunks: u64,
    /// Unix seconds of the last finished build, 0 while the first one runs.
    #[serde(default)]
    pub(super) built_at: u64,
    #[serde(default)]
    changed_at: u64,
    #[serde(default)]
    pub(super) disk_bytes: u64,
    /// The name of the embedder that made the vectors.
    #[serde(default)]
    pub(super) embedder: String,
}

/// The finished index in `dir`, if there is one.
pub(super) fn read(dir: &Path) -> Option<Meta> {
    let mut text = String::new();
    let file = File::open(dir.join("meta.json")).ok()?;
    file.take(limits::INDEX_META_BYTES).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// The finished indexes under `index_root`, by path of their workspace.
pub(super) fn list(index_root: &Path) -> Vec<IndexInfo> {
    let Ok(entries) = index_root.read_dir() else { return Vec::new() };
    let mut found: Vec<_> = entries
        .flatten()
        .take(limits::INDEXES_LISTED)
        .filter_map(|entry| read(&entry.path()))
        .map(|meta| IndexInfo {
            root: meta.root,
            files: meta.files,
            chunks: meta.chunks,
            behind: 0,
            building: false,
            built_at: meta.built_at,
            changed_at: meta.changed_at,
            disk_bytes: meta.disk_bytes,
            watch: WatchState::Off,
            head: String::new(),
        })
        .collect();
    found.sort_by(|a, b| a.root.cmp(&b.root));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_and_broken_indexes_are_not_listed() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("a", Some(r#"{"root":"/z","files":3,"chunks":9,"built_at":7,"other":[]}"#)),
            ("b", Some("{")),
            ("c", None),
            ("d", Some(r#"{"root":"/b"}"#)),
        ] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            if let Some(text) = text {
                std::fs::write(dir.path().join(name).join("meta.json"), text).unwrap();
            }
        }
        let found = list(dir.path());
        assert_eq!(found.iter().map(|i| &*i.root).collect::<Vec<_>>(), ["/b", "/z"]);
        assert_eq!((found[1].files, found[1].chunks, found[1].built_at), (3, 9, 7));
        assert!(list(&dir.path().join("missing")).is_empty());
    }
}
