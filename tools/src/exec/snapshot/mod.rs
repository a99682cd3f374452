//! Undo for commands: what the workspace's files are before a command runs, and which of
//! them differ afterwards. Two orders of the host's, offered to no model; both run in the
//! fence of a file tool, with the journal's folder besides.
//!
//! Contents go into the journal's objects once, and a file whose stamp is as it was at the last
//! command is not read again ([`index::Stamp`]). Ignored files (build output) and files past the
//! bounds are not covered, and a change of one of the latter is named.

pub(crate) mod index;
mod scan;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use index::{Folder, Index, Known, Stamp};

use crate::call::ToolCall;
use crate::exec::files::Done;
use crate::exec::restore::to_hex;
use crate::exec::safe_fs::Tree;
use crate::journal;
use crate::limits::{EDIT_MAX_BYTES, SNAPSHOT_MAX_BYTES, SNAPSHOT_MAX_FILE};
use crate::protocol::{Changed, Report, State};

/// The orders' names.
pub(crate) const TAKE: &str = "snapshot_take";
pub(crate) const DIFF: &str = "snapshot_diff";

fn folder(call: &ToolCall) -> PathBuf {
    PathBuf::from(call.text("journal"))
}

fn not_kept(e: &std::io::Error) -> String {
    format!("the state of the files could not be kept: {e}")
}

/// The content of a walked file, if it is within the bound; of a symlink where it leads.
fn read(tree: &Tree<'_>, path: &str, stamp: &Stamp) -> Option<Vec<u8>> {
    if stamp.is_link() {
        return tree.read_link(Path::new(path)).ok();
    }
    let file = tree.open_walked(Path::new(path)).ok()?;
    let mut bytes = Vec::new();
    file.take(SNAPSHOT_MAX_FILE + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= SNAPSHOT_MAX_FILE).then_some(bytes)
}

/// Keeps the contents of `index`; what `before` knows unchanged is not read again.
fn keep(journal: &Path, tree: &Tree<'_>, index: &mut Index, before: &Index) -> Result<(), String> {
    let mut total = 0u64;
    for folder in &mut index.folders {
        let old = before.folder(&folder.path);
        let path = folder.path.clone();
        for (at, known) in folder.files.iter_mut().enumerate() {
            total += known.stamp.size;
            if known.stamp.size > SNAPSHOT_MAX_FILE || total > SNAPSHOT_MAX_BYTES {
                continue;
            }
            let old = old.and_then(|old| old.file(&known.name, at));
            if let Some(old) = old.filter(|old| old.settled && old.stamp == known.stamp)
                && old.hash.is_some()
            {
                known.hash = old.hash;
                continue;
            }
            let path = if path.is_empty() {
                known.name.to_string()
            } else {
                format!("{path}/{}", known.name)
            };
            let Some(bytes) = read(tree, &path, &known.stamp) else { continue };
            known.hash =
                Some(*journal::keep(journal, &bytes).map_err(|e| not_kept(&e))?.as_bytes());
        }
    }
    Ok(())
}

/// Before a command: the state of the files, under the name `into`.
pub(crate) fn take(call: &ToolCall, tree: &Tree<'_>) -> Done {
    let folder = folder(call);
    // Nothing that the last state names is collected meanwhile, nor what is kept here.
    let _held = journal::hold(&folder).map_err(|e| not_kept(&e))?;
    let last = Index::load(&folder.join(journal::SNAPSHOT));
    let mut index = scan::scan(tree, &last);
    keep(&folder, tree, &mut index, &last)?;
    index.save(&folder.join(call.text("into"))).map_err(|e| not_kept(&e))?;
    Ok(String::new())
}

/// After a command, or while it runs: what differs from the snapshot `was`. With `into`, the
/// state now takes its place. Gives the names of what differs and is not covered.
pub(crate) fn diff(call: &ToolCall, tree: &Tree<'_>, report: &mut Report) -> Done {
    let folder = folder(call);
    let _held = journal::hold(&folder).map_err(|e| not_kept(&e))?;
    let before = Index::load(&folder.join(call.text("was")));
    if before == Index::default() {
        return Err("what the files were is not known any more".into());
    }
    let mut now = scan::scan(tree, &before);
    if call.has("into") {
        keep(&folder, tree, &mut now, &before)?;
        now.save(&folder.join(call.text("into"))).map_err(|e| not_kept(&e))?;
    }
    // With only a part of the files known, what is missing from it tells nothing.
    let whole = now.whole && before.whole;
    let mut uncovered = Vec::new();
    for folder in &before.folders {
        let current = now.folder(&folder.path);
        for (at, known) in folder.files.iter().enumerate() {
            let current = current.and_then(|f| f.file(&known.name, at));
            changed(tree, folder, known, current, whole, report, &mut uncovered);
        }
    }
    let same_rules = now.same_rules(&before);
    for folder in now.folders.iter().filter(|_| whole) {
        let old = before.folder(&folder.path);
        // One that the rules ignored before is not new because they no longer do. What was hidden
        // from the command was there before it, however fresh its stamp: nothing else is closed
        // to an order of the host's.
        let is_new = |(at, known): &(usize, &Known)| {
            old.and_then(|f| f.file(&known.name, *at)).is_none()
                && (same_rules || known.stamp.ctime_ns >= before.start_ns)
                && tree.closed.rule_for(Path::new(&folder.path_of(&known.name))).is_none()
        };
        for (_, known) in folder.files.iter().enumerate().filter(is_new) {
            let path = folder.path_of(&known.name);
            if known.stamp.size > EDIT_MAX_BYTES {
                uncovered.push(path);
                continue;
            }
            report.changed.push(Changed {
                existed: false,
                mode: known.stamp.mode,
                size: 0,
                before: String::new(),
                after: state(known, content(tree, &path, known)),
                path,
            });
        }
    }
    Ok(uncovered.join("\n"))
}

/// The hash of a file's content as it is now.
fn content(tree: &Tree<'_>, path: &str, known: &Known) -> Option<[u8; 32]> {
    let read = || read(tree, path, &known.stamp);
    known.hash.or_else(|| read().map(|bytes| *blake3::hash(&bytes).as_bytes()))
}

/// What is there now, with the hash of its content.
fn state(known: &Known, hash: Option<[u8; 32]>) -> State {
    match hash.map(|hash| to_hex(&hash)) {
        Some(hash) if known.stamp.is_link() => State::Link(hash),
        Some(hash) => State::File(hash),
        None => State::Unknown,
    }
}

/// Notes a file that is not as it was.
fn changed(
    tree: &Tree<'_>,
    folder: &Folder,
    known: &Known,
    current: Option<&Known>,
    whole: bool,
    report: &mut Report,
    uncovered: &mut Vec<String>,
) {
    let same_stamp = current.is_some_and(|c| c.stamp == known.stamp);
    if (same_stamp && known.settled) || (current.is_none() && !whole) {
        return;
    }
    let path = folder.path_of(&known.name);
    let mut gone = State::Gone;
    if current.is_none()
        && let Ok(there) = tree.stat(Path::new(&path))
    {
        let there = Stamp::of_stat(&there);
        if !there.is_folder() {
            // Now ignored, or something that is never covered. An undo would not write there.
            uncovered.extend((there != known.stamp).then_some(path));
            return;
        }
        gone = State::Folder;
    }
    let Some(hash) = known.hash else {
        // What changed in the moment before the command is not called its doing.
        uncovered.extend((!same_stamp).then_some(path));
        return;
    };
    let after = current.and_then(|current| content(tree, &path, current));
    if after == Some(hash) && current.is_some_and(|c| c.stamp.mode == known.stamp.mode) {
        return;
    }
    report.changed.push(Changed {
        path,
        existed: true,
        mode: known.stamp.mode,
        size: known.stamp.size,
        before: to_hex(&hash),
        after: current.map_or(gone, |current| state(current, after)),
    });
}
