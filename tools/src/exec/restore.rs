//! Putting files back for an undo: an order of the host's, offered to no model. All files
//! change, or none does.
//!
//! What is there may be of another kind than what was: a folder or a symlink in a file's place, a
//! file in a folder's. So first what must go goes, the deepest first, and then what was is made.
//! Each of both is kept before it happens, so that the undo can be undone. No symlink is
//! followed, and nothing goes that the undone calls did not leave there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::call::ToolCall;
use crate::exec::files::Done;
use crate::exec::safe_fs::{self, Tree, explain, show};
use crate::exec::write::{Old, delete, result, store};
use crate::limits::{EDIT_MAX_BYTES, SNAPSHOT_MAX_FILES, size};
use crate::protocol::{Report, State};
use crate::sandbox::sys;

/// The order's name.
pub(crate) const NAME: &str = "restore_files";

/// What is at a path.
enum There {
    File(Old),
    Link(Vec<u8>),
    Folder(u32),
}

/// What is to be at a path.
enum Want {
    File(Vec<u8>, Option<u32>),
    Link(Vec<u8>),
    Folder(u32),
}

/// One path that is not as it is to be.
struct Place {
    path: PathBuf,
    there: Option<There>,
    want: Option<Want>,
}

/// What was done, to be taken back when a later step fails.
enum Did {
    Removed(PathBuf, There),
    Made(PathBuf),
    Replaced(PathBuf, Old),
}

/// Each file as the host names it: `{path, existed, mode, hex, expect}`.
pub(crate) fn run(call: &ToolCall, tree: &Tree<'_>, report: &mut Report) -> Done {
    let files = call.params.get("files").and_then(Value::as_array).ok_or("no files are named")?;
    let mut places = BTreeMap::new();
    for file in files {
        if let Some(place) = place(file, tree)? {
            places.insert(place.path.clone(), place);
        }
    }
    if places.is_empty() {
        return Ok("everything is already as it was; nothing was changed".into());
    }
    let texts: Vec<String> = places.values().map(said).collect();
    add_folders(&mut places, tree)?;
    for place in places.values().filter(|p| p.want.is_some()) {
        way_is_free(&place.path, &places, tree)?;
    }
    let mut done = Vec::new();
    if let Err(error) = take_all(places, tree, &mut done, report) {
        let kept = take_back(done, tree, report);
        return Err(format!("{error}. {kept}"));
    }
    Ok(texts.join("\n"))
}

/// What has to become of one path; `None` when it is as it was.
fn place(file: &Value, tree: &Tree<'_>) -> Result<Option<Place>, String> {
    let path = tree.relative(file["path"].as_str().unwrap_or_default())?;
    let shown = show(&path);
    let existed = file["existed"].as_bool().unwrap_or(false);
    let mode = file["mode"].as_u64().map(|m| m as u32);
    let content = from_hex(file["hex"].as_str().unwrap_or_default())
        .ok_or_else(|| format!("the kept content of '{shown}' is damaged"))?;
    let want = existed.then(|| match mode.map(|mode| mode & libc::S_IFMT) {
        Some(libc::S_IFLNK) => Want::Link(content),
        Some(libc::S_IFDIR) => Want::Folder(mode.unwrap_or_default()),
        _ => Want::File(content, mode),
    });
    let expect = serde_json::from_value(file["expect"].clone()).unwrap_or(State::Unknown);
    let there = look(tree, &path)?;
    let same = match (&there, &want) {
        (None, None) | (Some(There::Folder(_)), Some(Want::Folder(_))) => true,
        (Some(There::Link(there)), Some(Want::Link(want))) => there == want,
        (Some(There::File(old)), Some(Want::File(want, mode))) => {
            let now = std::os::unix::fs::MetadataExt::mode(&old.meta) & 0o7777;
            old.bytes == *want && mode.is_none_or(|mode| mode & 0o7777 == now)
        }
        _ => false,
    };
    if same {
        return Ok(None);
    }
    let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
    let as_left = match (&there, &expect) {
        // Nothing is lost where nothing is, and a folder may have been made for what is in it,
        // which is looked at later.
        (None, _) | (_, State::Unknown) | (Some(There::Folder(_)), State::Folder | State::Gone) => {
            true
        }
        (Some(There::File(old)), State::File(left)) => hash(&old.bytes) == *left,
        (Some(There::Link(target)), State::Link(left)) => hash(target) == *left,
        _ => false,
    };
    if !as_left {
        return Err(format!(
            "'{shown}' changed on disk since the call that is to be undone, so nothing was put \
             back; move it away to undo all the same"
        ));
    }
    Ok(Some(Place { path, there, want }))
}

fn said(place: &Place) -> String {
    let operation = match (&place.there, &place.want) {
        (None, _) => "restored",
        (Some(_), None) => "deleted",
        (Some(_), Some(_)) => "put back",
    };
    result(&show(&place.path), operation, &[], &[])
}

/// What is at `path`, through no symlink. Refuses what a tool may not change.
fn look(tree: &Tree<'_>, path: &Path) -> Result<Option<There>, String> {
    tree.check_protected(path)?;
    tree.check_ignored(path)?;
    let shown = show(path);
    let error = |e: &std::io::Error| explain(&shown, e);
    let stat = match tree.stat(path) {
        Ok(stat) => stat,
        // Something else may stand in the way above; that is looked at later.
        Err(e) => match e.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP) => return Ok(None),
            _ => return Err(error(&e)),
        },
    };
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => Ok(Some(There::Folder(stat.st_mode))),
        libc::S_IFLNK => Ok(Some(There::Link(tree.read_link(path).map_err(|e| error(&e))?))),
        libc::S_IFREG => {
            let file = tree.open_walked(path).map_err(|e| error(&e))?;
            let meta = file.metadata().map_err(|e| error(&e))?;
            let mut bytes = Vec::new();
            (&file).take(EDIT_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| error(&e))?;
            if bytes.len() as u64 > EDIT_MAX_BYTES {
                return Err(format!(
                    "'{shown}' is larger than the {} that can be kept, so nothing was put back",
                    size(EDIT_MAX_BYTES)
                ));
            }
            Ok(Some(There::File(Old { bytes, meta })))
        }
        _ => Err(format!("'{shown}' is neither a file nor a folder, so nothing was put back")),
    }
}

/// Whether what is there goes before anything is made.
fn goes(place: &Place) -> bool {
    let stays = matches!(
        (&place.there, &place.want),
        (None, _) | (Some(There::File(_)), Some(Want::File(..)))
    );
    !stays
}

/// Adds what is in folders that go. Refuses when that is anything but folders and what goes
/// anyway.
fn add_folders(places: &mut BTreeMap<PathBuf, Place>, tree: &Tree<'_>) -> Result<(), String> {
    let is_folder = |p: &&Place| goes(p) && matches!(p.there, Some(There::Folder(_)));
    let mut left: Vec<PathBuf> =
        places.values().filter(is_folder).map(|p| p.path.clone()).collect();
    let mut looked = 0;
    while let Some(folder) = left.pop() {
        let opened = tree.folder(&folder, false)?;
        let listed = sys::names_in(opened.as_fd(), SNAPSHOT_MAX_FILES + 1)
            .map_err(|e| explain(&show(&folder), &e))?;
        for name in listed {
            looked += 1;
            let path = folder.join(name);
            let shown = show(&path);
            if places.get(&path).is_some_and(goes) {
                continue;
            }
            let there = look(tree, &path)?;
            let (Some(There::Folder(_)), true) = (&there, looked <= SNAPSHOT_MAX_FILES) else {
                return Err(format!(
                    "'{shown}' was not left there by the call that is to be undone and is in the \
                     way, so nothing was put back; move it away, then undo again"
                ));
            };
            left.push(path.clone());
            places.insert(path.clone(), Place { path, there, want: None });
        }
    }
    Ok(())
}

/// Refuses when something above `path` is no folder and stays.
fn way_is_free(
    path: &Path,
    places: &BTreeMap<PathBuf, Place>,
    tree: &Tree<'_>,
) -> Result<(), String> {
    for above in path.ancestors().skip(1).filter(|a| !a.as_os_str().is_empty()) {
        let free = match tree.path_handle(above) {
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => true,
            Err(_) => places.get(above).is_some_and(goes),
        };
        if free {
            continue;
        }
        // What is wrong may be further up.
        if above.ancestors().skip(1).any(|up| places.get(up).is_some_and(goes)) {
            continue;
        }
        return Err(format!(
            "'{}' is no folder any more and is in the way of '{}', so nothing was put back; move \
             it away, then undo again",
            show(above),
            show(path)
        ));
    }
    Ok(())
}

fn take_all(
    mut places: BTreeMap<PathBuf, Place>,
    tree: &Tree<'_>,
    done: &mut Vec<Did>,
    report: &mut Report,
) -> Result<(), String> {
    for place in places.values_mut().rev().filter(|p| goes(p)) {
        if let Some(there) = place.there.take() {
            remove(tree, &place.path, &there, report)?;
            done.push(Did::Removed(place.path.clone(), there));
        }
    }
    for (path, place) in places {
        match (place.there, place.want) {
            (Some(There::File(old)), Some(Want::File(new, mode))) => {
                store(tree, &path, Some(&old), &new, mode, report)?;
                done.push(Did::Replaced(path, old));
            }
            (_, Some(want)) => {
                make(tree, &path, &want, report)?;
                done.push(Did::Made(path));
            }
            (_, None) => {}
        }
    }
    Ok(())
}

/// Takes the steps that were done back, last first. Says how that went.
fn take_back(done: Vec<Did>, tree: &Tree<'_>, report: &mut Report) -> String {
    let mut failed = Vec::new();
    for step in done.into_iter().rev() {
        let (path, back) = match step {
            Did::Removed(path, there) => {
                let want = match there {
                    There::File(old) => {
                        Want::File(old.bytes, Some(std::os::unix::fs::MetadataExt::mode(&old.meta)))
                    }
                    There::Link(target) => Want::Link(target),
                    There::Folder(mode) => Want::Folder(mode),
                };
                let back = make(tree, &path, &want, report);
                (path, back)
            }
            Did::Made(path) => {
                let back = look(tree, &path).and_then(|there| match there {
                    Some(there) => remove(tree, &path, &there, report),
                    None => Ok(()),
                });
                (path, back)
            }
            Did::Replaced(path, old) => {
                let mode = Some(std::os::unix::fs::MetadataExt::mode(&old.meta));
                let back = look(tree, &path).and_then(|there| match there {
                    Some(There::File(now)) => {
                        store(tree, &path, Some(&now), &old.bytes, mode, report)
                    }
                    _ => Err(String::new()),
                });
                (path, back)
            }
        };
        if back.is_err() {
            failed.push(show(&path));
        }
    }
    super::patch::taken_back(&failed)
}

fn parent<'p>(
    tree: &Tree<'_>,
    path: &'p Path,
    create: bool,
) -> Result<(OwnedFd, &'p Path), String> {
    let dir = tree.folder(path.parent().unwrap_or(Path::new("")), create)?;
    Ok((dir, Path::new(path.file_name().ok_or("the path has no name")?)))
}

fn remove(tree: &Tree<'_>, path: &Path, there: &There, report: &mut Report) -> Result<(), String> {
    let shown = show(path);
    match there {
        There::File(old) => return delete(tree, path, old, report),
        There::Link(target) => {
            safe_fs::keep(&shown, Some(libc::S_IFLNK | 0o777), target)?;
            let (dir, name) = parent(tree, path, false)?;
            if sys::readlinkat(dir.as_fd(), name).ok().as_ref() != Some(target) {
                return Err(format!("'{shown}' changed on disk meanwhile"));
            }
            sys::unlinkat(dir.as_fd(), name).map_err(|e| explain(&shown, &e))?;
        }
        There::Folder(mode) => {
            safe_fs::keep(&shown, Some(*mode), &[])?;
            let (dir, name) = parent(tree, path, false)?;
            sys::rmdirat(dir.as_fd(), name).map_err(|e| explain(&shown, &e))?;
        }
    }
    report.left.insert(shown, State::Gone);
    Ok(())
}

/// Makes what is not there.
fn make(tree: &Tree<'_>, path: &Path, want: &Want, report: &mut Report) -> Result<(), String> {
    let shown = show(path);
    let left = match want {
        Want::File(bytes, mode) => {
            report.left.remove(&shown);
            return store(tree, path, None, bytes, *mode, report);
        }
        Want::Link(target) => {
            safe_fs::keep(&shown, None, &[])?;
            let (dir, name) = parent(tree, path, true)?;
            sys::symlinkat(target, dir.as_fd(), name).map_err(|e| explain(&shown, &e))?;
            State::Link(blake3::hash(target).to_hex().to_string())
        }
        Want::Folder(mode) => {
            safe_fs::keep(&shown, None, &[])?;
            let folder = File::from(tree.folder(path, true)?);
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode & 0o7777);
            folder.set_permissions(mode).map_err(|e| explain(&shown, &e))?;
            State::Folder
        }
    };
    report.left.insert(shown, left);
    Ok(())
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for b in bytes {
        text.push(DIGITS[usize::from(b >> 4)] as char);
        text.push(DIGITS[usize::from(b & 15)] as char);
    }
    text
}

pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| (c as char).to_digit(16).map(|d| d as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[a, b]| Some(digit(*a)? << 4 | digit(*b)?)).collect()
}
