//! The tools that change files: reading the old text, checking that it is the one the
//! run knows, and putting the new one in its place in one step.

use std::fmt::Write as _;
use std::fs::{File, Metadata};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::call::ToolCall;
use crate::edit;
use crate::exec::files::Done;
use crate::exec::problems;
use crate::exec::safe_fs::{self, Tree, seen, show};
use crate::limits::{EDIT_MAX_BYTES, IMAGE_BYTES, size};
use crate::protocol::Report;
use crate::sandbox::sys;

/// The tool that writes bytes which the engine fetched.
const IMAGE: &str = "generate_image";

/// Whether a tool of this name changes files.
pub(crate) fn is_writer(tool: &str) -> bool {
    edit::NAMES.contains(&tool) || tool == super::restore::NAME || tool == IMAGE
}

/// A file as it is before the change.
pub(crate) struct Old {
    pub(crate) bytes: Vec<u8>,
    pub(crate) meta: Metadata,
}

impl Old {
    pub(crate) fn text(&self, path: &Path) -> Result<&str, String> {
        std::str::from_utf8(&self.bytes)
            .map_err(|_| format!("'{}' is not valid UTF-8; it is not changed", show(path)))
    }
}

pub(crate) fn run(call: &ToolCall, tree: &Tree<'_>, report: &mut Report) -> Done {
    match call.name.as_str() {
        "apply_patch" => return super::patch::run(call, tree, report),
        IMAGE => return image(call, tree, report),
        "delete_file" => {
            let path = tree.relative(call.text("path"))?;
            let old =
                load(tree, &path)?.ok_or_else(|| format!("'{}' does not exist", show(&path)))?;
            delete(tree, &path, &old, report)?;
            return Ok(result(&show(&path), "deleted", &[], &[]));
        }
        _ => {}
    }
    let named = if call.has("path") { call.text("path") } else { call.text("file_path") };
    let path = tree.relative(named)?;
    if path.as_os_str().is_empty() {
        return Err("the path names the workspace folder itself".into());
    }
    let old = load(tree, &path)?;
    let before = match old.as_ref().map(|old| old.text(&path)) {
        // A whole-file write may replace what cannot be edited.
        Some(Err(_)) if call.name == "write_to_file" => None,
        Some(text) => Some(text?),
        None => None,
    };
    let edited = edit::apply(call, before)?;
    let unchanged = old.as_ref().is_some_and(|o| o.bytes == edited.text.as_bytes());
    if !unchanged {
        store(tree, &path, old.as_ref(), edited.text.as_bytes(), None, report)?;
    }
    let operation = match (&old, unchanged) {
        (_, true) => "unchanged",
        (None, _) => "created",
        (Some(_), _) => "modified",
    };
    let problems = problems::introduced(&path, before, &edited.text);
    Ok(result(&show(&path), operation, &edited.notes, &problems))
}

/// Writes the image that came along with the request.
fn image(call: &ToolCall, tree: &Tree<'_>, report: &mut Report) -> Done {
    let path = tree.relative(call.text("path"))?;
    if path.as_os_str().is_empty() {
        return Err("the path names the workspace folder itself".into());
    }
    let old = load(tree, &path)?;
    // Asked before the image is paid for.
    let Some(payload) = tree.request.payload.as_deref() else { return Ok(String::new()) };
    let bytes = super::restore::from_hex(payload).ok_or("the image is damaged")?;
    if bytes.len() > IMAGE_BYTES {
        return Err(format!("the image is larger than {}", size(IMAGE_BYTES as u64)));
    }
    // The engine has looked already; what is written is decided here.
    let image = crate::image::check(&bytes).map_err(|why| format!("nothing was written: {why}"))?;
    store(tree, &path, old.as_ref(), &bytes, None, report)?;
    let mut notes = vec![format!(
        "{} image, {} × {}, {}",
        image.format,
        image.width,
        image.height,
        size(bytes.len() as u64)
    )];
    let shown = show(&path);
    if crate::image::format_of(&shown) != Some(image.format) {
        notes.push("the name says another format; rename it if that matters".into());
    }
    let operation = if old.is_some() { "modified" } else { "created" };
    Ok(result(&shown, operation, &notes, &[]))
}

/// The result text of a change.
pub(crate) fn result(path: &str, operation: &str, notes: &[String], problems: &[String]) -> String {
    let mut out =
        format!("<file_write_result>\n<path>{path}</path>\n<operation>{operation}</operation>\n");
    if !problems.is_empty() {
        let _ = writeln!(out, "<problems>\n{}\n</problems>", problems.join("\n"));
    }
    for note in notes {
        let _ = writeln!(out, "<notice>{note}</notice>");
    }
    out.push_str("</file_write_result>");
    out
}

/// Reads what is at `path` now. Refuses what a tool may not change, and a file that is
/// not as the run last saw it.
pub(crate) fn load(tree: &Tree<'_>, path: &Path) -> Result<Option<Old>, String> {
    let shown = show(path);
    // The editor's text and the tool's would each be lost to the other.
    if tree.request.buffers.contains_key(shown.as_str()) {
        return Err(format!(
            "'{shown}' has changes in the user's editor that are not saved, so nothing was written; \
             ask the user to save it, then read it again"
        ));
    }
    let old = load_unchecked(tree, path)?;
    let Some(known) = tree.request.seen.get(shown.as_str()) else { return Ok(old) };
    match &old {
        None => Err(format!(
            "'{shown}' was deleted since it was read; look at the folder again before writing"
        )),
        // The hash decides; a touched file with the same content is the same.
        Some(old) if known.hash != seen(&old.meta, &old.bytes).hash => Err(format!(
            "'{shown}' changed on disk since it was read; read it again, then repeat the change on \
             what is there now"
        )),
        Some(_) => Ok(old),
    }
}

/// As [`load`], whatever the run knows of the file.
pub(crate) fn load_unchecked(tree: &Tree<'_>, path: &Path) -> Result<Option<Old>, String> {
    tree.check_protected(path)?;
    tree.check_ignored(path)?;
    if !tree.exists(path)? {
        return Ok(None);
    }
    let shown = show(path);
    let found = tree.find(&path.to_string_lossy())?;
    if found.path != path {
        return Err(format!("'{shown}' goes through a symlink, which is not followed here"));
    }
    if found.meta.is_dir() {
        return Err(format!("'{shown}' is a folder"));
    }
    if found.meta.len() > EDIT_MAX_BYTES {
        return Err(format!(
            "'{shown}' is {}, more than the {} a tool may change",
            size(found.meta.len()),
            size(EDIT_MAX_BYTES)
        ));
    }
    let mut bytes = Vec::with_capacity(found.meta.len() as usize);
    (&found.file)
        .take(EDIT_MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| safe_fs::explain(&shown, &e))?;
    Ok(Some(Old { bytes, meta: found.meta }))
}

/// Puts `new` at `path` in one step: a temporary file beside it, then a rename. The old
/// file's mode stays, unless another is given.
pub(crate) fn store(
    tree: &Tree<'_>,
    path: &Path,
    old: Option<&Old>,
    new: &[u8],
    mode: Option<u32>,
    report: &mut Report,
) -> Result<(), String> {
    let shown = show(path);
    let limit = tree.request.limits.file_bytes;
    if new.len() as u64 > limit {
        return Err(format!(
            "the new content of '{shown}' is {}, more than the {} a file may have",
            size(new.len() as u64),
            size(limit)
        ));
    }
    safe_fs::before_image(&shown, old)?;
    let parent = path.parent().unwrap_or(Path::new(""));
    let name = Path::new(path.file_name().ok_or("the path has no name")?);
    let dir = tree.folder(parent, true)?;
    let temporary = PathBuf::from(format!(".lapce-ai-{}.tmp", unique()));
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
    let resolve = sys::RESOLVE_BENEATH | sys::RESOLVE_NO_SYMLINKS | sys::RESOLVE_NO_MAGICLINKS;
    let explain = |e: &std::io::Error| safe_fs::explain(&shown, e);
    let file = sys::openat2(dir.as_fd(), &temporary, flags, 0o666, resolve)
        .map(File::from)
        .map_err(|e| explain(&e))?;
    let written = (|| {
        (&file).write_all(new)?;
        if let Some(old) = old {
            // Only the owner's own files can be given away; where that fails, the mode
            // still goes along.
            let _ = fchown(&file, Some(old.meta.uid()), Some(old.meta.gid()));
        }
        if let Some(mode) = mode.or(old.map(|o| o.meta.mode())) {
            file.set_permissions(std::fs::Permissions::from_mode(mode & 0o7777))?;
        }
        file.sync_data()?;
        // The file must still be the one that was read, or still not be there.
        if let Some(old) = old {
            let now = sys::openat2(dir.as_fd(), name, libc::O_PATH, 0, resolve)?;
            let now = File::from(now).metadata()?;
            if identity(&now) != identity(&old.meta) {
                return Err(std::io::Error::other("it changed on disk while it was being written"));
            }
        }
        sys::renameat(dir.as_fd(), &temporary, name, old.is_none())
    })();
    if let Err(e) = written {
        let _ = sys::unlinkat(dir.as_fd(), &temporary);
        return Err(explain(&e));
    }
    let meta = file.metadata().map_err(|e| explain(&e))?;
    report.seen.insert(shown, seen(&meta, new));
    Ok(())
}

/// What tells that a file is still the one that was read.
fn identity(meta: &Metadata) -> (u64, u64, i64, i64, u64) {
    (meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size())
}

/// Deletes the file that was loaded.
pub(crate) fn delete(
    tree: &Tree<'_>,
    path: &Path,
    old: &Old,
    report: &mut Report,
) -> Result<(), String> {
    let shown = show(path);
    safe_fs::before_image(&shown, Some(old))?;
    let dir = tree.folder(path.parent().unwrap_or(Path::new("")), false)?;
    let name = Path::new(path.file_name().ok_or("the path has no name")?);
    // The file must still be the one that was kept.
    let resolve = sys::RESOLVE_BENEATH | sys::RESOLVE_NO_SYMLINKS | sys::RESOLVE_NO_MAGICLINKS;
    let now = sys::openat2(dir.as_fd(), name, libc::O_PATH, 0, resolve)
        .and_then(|now| File::from(now).metadata())
        .map_err(|e| safe_fs::explain(&shown, &e))?;
    if identity(&now) != identity(&old.meta) {
        return Err(format!("'{shown}' changed on disk while it was being deleted"));
    }
    sys::unlinkat(dir.as_fd(), name).map_err(|e| safe_fs::explain(&shown, &e))?;
    report.seen.remove(&shown);
    report.gone.push(shown);
    Ok(())
}

fn unique() -> String {
    let time = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos());
    format!("{}-{:x}", sys::getpid(), time)
}
