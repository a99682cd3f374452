//! Texts that a repository offers to a run (slash commands, skills): an order of the host's,
//! offered to no model. Read only, bounded, through no symlink that leaves the workspace.

use std::io::Read as _;
use std::path::Path;

use crate::call::ToolCall;
use crate::exec::files::Done;
use crate::exec::safe_fs::{Tree, explain, show};
use crate::limits::{NOTE_BYTES, NOTES_LISTED, SENT_IMAGE_BYTES, size};

/// The order's name.
pub(crate) const NAME: &str = "read_notes";

/// With `file`, its text; with `image`, its bytes in hex; else the names in each of `folders`, one a line: `FOLDER/NAME`.
pub(crate) fn run(call: &ToolCall, tree: &Tree<'_>) -> Done {
    if call.has("file") {
        return text(tree, call.text("file"));
    }
    if call.has("image") {
        return image(tree, call.text("image"));
    }
    let folders = call.params.get("folders").and_then(|v| v.as_array()).ok_or("no folder")?;
    let mut names = Vec::new();
    for folder in folders.iter().filter_map(|f| f.as_str()) {
        let Ok(dir) = tree.folder(Path::new(folder), false) else { continue };
        if tree.check_closed(Path::new(folder)).is_err() {
            continue;
        }
        // Through the open folder: what it is called meanwhile does not matter.
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&dir));
        let Ok(entries) = std::fs::read_dir(link) else { continue };
        let mut found: Vec<String> = entries
            .flatten()
            .take(NOTES_LISTED)
            .filter_map(|e| Some(format!("{folder}/{}", e.file_name().to_str()?)))
            .filter(|name| !name.contains('\n'))
            .collect();
        found.sort();
        names.extend(found);
    }
    Ok(names.join("\n"))
}

fn image(tree: &Tree<'_>, path: &str) -> Done {
    let found = tree.find(path)?;
    let shown = show(&found.path);
    if found.meta.len() > SENT_IMAGE_BYTES {
        return Err(format!("'{shown}' is larger than {}", size(SENT_IMAGE_BYTES)));
    }
    let mut bytes = Vec::new();
    found.file.take(SENT_IMAGE_BYTES).read_to_end(&mut bytes).map_err(|e| explain(&shown, &e))?;
    crate::image::check(&bytes).map_err(|why| format!("'{shown}': {why}"))?;
    Ok(super::restore::to_hex(&bytes))
}

fn text(tree: &Tree<'_>, path: &str) -> Done {
    let relative = tree.relative(path)?;
    let shown = show(&relative);
    tree.check_closed(&relative)?;
    let file = tree.open_walked(&relative).map_err(|e| explain(&shown, &e))?;
    let mut text = String::new();
    file.take(NOTE_BYTES as u64 + 1).read_to_string(&mut text).map_err(|e| explain(&shown, &e))?;
    if text.len() > NOTE_BYTES {
        return Err(format!("'{shown}' is longer than {NOTE_BYTES} bytes"));
    }
    Ok(text)
}
