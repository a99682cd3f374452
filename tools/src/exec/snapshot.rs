//! Undo for commands: what the workspace's files are before a command runs, and which of
//! them differ afterwards. Two orders of the host's, offered to no model; both run in the
//! fence of a file tool, with the journal's folder besides.
//!
//! Contents go into the journal's objects once; files that have the same size, time and
//! inode as at the last command are not read again. Ignored files (build output) and
//! files past the bounds are not covered, and a change of one of the latter is named.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::call::ToolCall;
use crate::exec::files::Done;
use crate::exec::list::walker;
use crate::exec::safe_fs::Tree;
use crate::journal;
use crate::limits::{SNAPSHOT_MAX_BYTES, SNAPSHOT_MAX_FILE, SNAPSHOT_MAX_FILES};
use crate::protocol::{Changed, Report};

/// The orders' names.
pub(crate) const TAKE: &str = "snapshot_take";
pub(crate) const DIFF: &str = "snapshot_diff";

/// A file as the snapshot knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    size: u64,
    mtime_ns: i128,
    inode: u64,
    mode: u32,
    /// Empty when the content is not covered.
    hash: String,
}

impl Known {
    fn of(meta: &fs::Metadata) -> Self {
        Self {
            size: meta.size(),
            mtime_ns: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
            inode: meta.ino(),
            mode: meta.mode(),
            hash: String::new(),
        }
    }

    fn same_stat(&self, other: &Self) -> bool {
        (self.size, self.mtime_ns, self.inode, self.mode)
            == (other.size, other.mtime_ns, other.inode, other.mode)
    }
}

type Index = BTreeMap<String, Known>;

fn folder(call: &ToolCall) -> PathBuf {
    PathBuf::from(call.text("journal"))
}

fn load(folder: &Path, name: &str) -> Index {
    let text = fs::read(folder.join(name)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn save(folder: &Path, name: &str, index: &Index) -> Result<(), String> {
    let temporary = folder.join(format!("{name}.new"));
    let text = serde_json::to_vec(index).map_err(|e| e.to_string())?;
    fs::write(&temporary, text)
        .and_then(|()| fs::rename(&temporary, folder.join(name)))
        .map_err(|e| format!("the state of the files could not be kept: {e}"))
}

/// Every regular file that is not ignored, with its state; contents are not read. Whether
/// there were too many.
fn walk(tree: &Tree<'_>) -> (Index, bool) {
    let mut index = Index::new();
    for entry in walker(tree, &tree.root).build().flatten() {
        if !entry.file_type().is_some_and(|k| k.is_file()) {
            continue;
        }
        let Ok(relative) = entry.path().strip_prefix(&tree.root) else { continue };
        let (Some(path), Ok(meta)) = (relative.to_str(), entry.metadata()) else { continue };
        if index.len() >= SNAPSHOT_MAX_FILES {
            return (index, true);
        }
        index.insert(path.to_owned(), Known::of(&meta));
    }
    (index, false)
}

/// The content of a walked file, if it is within the bound.
fn read(tree: &Tree<'_>, path: &str) -> Option<Vec<u8>> {
    let file = tree.open_walked(Path::new(path)).ok()?;
    let mut bytes = Vec::new();
    file.take(SNAPSHOT_MAX_FILE + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= SNAPSHOT_MAX_FILE).then_some(bytes)
}

/// Keeps the contents of `index`; what `before` knows unchanged is not read again.
fn keep(folder: &Path, tree: &Tree<'_>, index: &mut Index, before: &Index) -> Result<(), String> {
    let mut total = 0u64;
    for (path, known) in index {
        total += known.size;
        if known.size > SNAPSHOT_MAX_FILE || total > SNAPSHOT_MAX_BYTES {
            continue;
        }
        if let Some(old) =
            before.get(path).filter(|old| old.same_stat(known) && !old.hash.is_empty())
            && folder.join("objects").join(&old.hash).exists()
        {
            known.hash.clone_from(&old.hash);
            continue;
        }
        let Some(bytes) = read(tree, path) else { continue };
        known.hash = journal::keep(folder, &bytes)
            .map_err(|e| format!("the state of the files could not be kept: {e}"))?;
    }
    Ok(())
}

/// Before a command: the state of the files, under the name `into`.
pub(crate) fn take(call: &ToolCall, tree: &Tree<'_>) -> Done {
    let folder = folder(call);
    let (mut index, _) = walk(tree);
    let last = load(&folder, journal::SNAPSHOT);
    keep(&folder, tree, &mut index, &last)?;
    let into = call.text("into");
    // Files as they were are not written down once more; no snapshot is changed in place.
    let same =
        index == last && fs::hard_link(folder.join(journal::SNAPSHOT), folder.join(into)).is_ok();
    if !same {
        save(&folder, into, &index)?;
    }
    Ok(String::new())
}

/// After a command, or while it runs: what differs from the snapshot `was`. With `into`, the
/// state now takes its place. Gives the names of what differs and is not covered.
pub(crate) fn diff(call: &ToolCall, tree: &Tree<'_>, report: &mut Report) -> Done {
    let folder = folder(call);
    let before = load(&folder, call.text("was"));
    let (mut now, too_many) = walk(tree);
    if call.has("into") {
        keep(&folder, tree, &mut now, &before)?;
        save(&folder, call.text("into"), &now)?;
    }
    let hash = |path: &str, known: &Known| match known.hash.as_str() {
        "" => read(tree, path).map(|bytes| blake3::hash(&bytes).to_hex().to_string()),
        kept => Some(kept.to_owned()),
    };
    // With only a part of the files known, what is missing from it tells nothing.
    let whole = !too_many && before.len() < SNAPSHOT_MAX_FILES;
    let mut uncovered = Vec::new();
    for (path, known) in &before {
        let current = now.get(path);
        if current.is_some_and(|c| c.same_stat(known)) || (current.is_none() && !whole) {
            continue;
        }
        if current.is_none() && tree.exists(Path::new(path)) == Ok(true) {
            // Now ignored, or no regular file any more: still there under its name.
            continue;
        }
        if known.hash.is_empty() {
            uncovered.push(path.clone());
            continue;
        }
        let after = current.and_then(|current| hash(path, current));
        let same_mode = current.is_some_and(|c| c.mode == known.mode);
        if after.as_deref() == Some(known.hash.as_str()) && same_mode {
            continue;
        }
        report.changed.push(Changed {
            path: path.clone(),
            existed: true,
            mode: known.mode,
            size: known.size,
            before: known.hash.clone(),
            after,
        });
    }
    for (path, known) in now.iter().filter(|(path, _)| whole && !before.contains_key(*path)) {
        report.changed.push(Changed {
            path: path.clone(),
            existed: false,
            mode: known.mode,
            size: 0,
            before: String::new(),
            after: hash(path, known),
        });
    }
    Ok(uncovered.join("\n"))
}
