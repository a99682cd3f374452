//! `list_code_definition_names`: the files are read here, past every ignore rule, and handed
//! to the program that knows the grammars. It runs inside this call's fence, has no file of
//! its own open, and ends with the call.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::call::ToolCall;
use crate::exec::files::Done;
use crate::exec::list::{closed, open_walker};
use crate::exec::safe_fs::{Tree, explain, show};
use crate::limits::{
    OUTLINE_FILE_BYTES, OUTLINE_MAX_FILES, OUTLINE_MAX_TOTAL, OUTLINE_SHOWN_BYTES, SNIFF_BYTES,
    size,
};

/// The tool's name.
pub(crate) const NAME: &str = "list_code_definition_names";

pub(crate) fn run(call: &ToolCall, tree: &Tree<'_>) -> Done {
    let found = tree.find(call.text("path"))?;
    let mut notes = Vec::new();
    let files = if found.meta.is_dir() {
        in_folder(tree, &found.path, &mut notes)?
    } else {
        let text = text(tree, &found.path, found.file)?;
        vec![(show(&found.path), text)]
    };
    let program = tree.request.outliner.as_deref().ok_or(
        "the program lapce-ai-index, which knows the grammars, was not found; run `lapce-ai doctor`",
    )?;
    let listed = if files.is_empty() { String::new() } else { outline(program, &files)? };
    let mut out = listed.trim_end().to_owned();
    if out.is_empty() {
        out = match files.as_slice() {
            [(path, _)] => format!("No definitions in '{path}', or no grammar for its language."),
            _ => format!("No definitions in the files of '{}'.", show(&found.path)),
        };
    }
    for note in notes {
        let _ = write!(out, "\n[{note}]");
    }
    Ok(out)
}

type Files = Vec<(String, Vec<u8>)>;

/// The texts of the files directly in a folder, sorted by name.
fn in_folder(tree: &Tree<'_>, folder: &Path, notes: &mut Vec<String>) -> Result<Files, String> {
    let (mut builder, left_out) = open_walker(tree, &tree.root.join(folder));
    builder.max_depth(Some(1)).sort_by_file_name(std::cmp::Ord::cmp);
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut more = 0usize;
    for entry in builder.build() {
        let Ok(entry) = entry else { continue };
        if let Some(error) = entry.error() {
            closed(error)?;
        }
        if !entry.file_type().is_some_and(|kind| kind.is_file()) {
            continue;
        }
        if paths.len() >= OUTLINE_MAX_FILES {
            more += 1;
            continue;
        }
        paths.push(entry.path().strip_prefix(&tree.root).unwrap_or(entry.path()).to_owned());
    }
    let mut files = Vec::new();
    let mut total = 0;
    for path in paths {
        // What is too large or no text has no place in an overview.
        let Some(text) = tree.open_walked(&path).ok().and_then(|f| text(tree, &path, f).ok())
        else {
            continue;
        };
        total += text.len();
        if total > OUTLINE_MAX_TOTAL {
            more += 1;
            continue;
        }
        files.push((show(&path), text));
    }
    if more > 0 {
        notes.push(format!("… {more} more files are left out; name one of them"));
    }
    notes.extend(left_out.note());
    Ok(files)
}

/// The text of a file as the user sees it, or why it has none.
fn text(tree: &Tree<'_>, path: &Path, file: File) -> Result<Vec<u8>, String> {
    let shown = show(path);
    if let Some(text) = tree.request.buffers.get(&shown) {
        return Ok(text.clone().into_bytes());
    }
    let mut bytes = Vec::new();
    file.take(OUTLINE_FILE_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| explain(&shown, &e))?;
    if bytes.len() > OUTLINE_FILE_BYTES {
        let most = size(OUTLINE_FILE_BYTES as u64);
        return Err(format!("'{shown}' is larger than {most}; search_files finds places in it"));
    }
    if bytes[..bytes.len().min(SNIFF_BYTES)].contains(&0) {
        return Err(format!("'{shown}' is a binary file"));
    }
    Ok(bytes)
}

/// Hands the files over and takes the list.
fn outline(program: &Path, files: &Files) -> Result<String, String> {
    let failed = |e: &dyn std::fmt::Display| format!("{} failed: {e}", program.display());
    let mut child = Command::new(program)
        .arg("outline")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| failed(&e))?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(failed(&"it has no pipes"));
    };
    // It writes nothing before its input has ended, so this does not wait for that.
    let sent = files.iter().try_for_each(|(path, text)| send(&mut stdin, path, text));
    drop(stdin);
    let mut listed = Vec::new();
    let read = stdout.take(OUTLINE_SHOWN_BYTES as u64).read_to_end(&mut listed);
    let full = listed.len() >= OUTLINE_SHOWN_BYTES;
    if full {
        let _ = child.kill();
    }
    let ended = child.wait();
    match (sent, read, ended) {
        (Ok(()), Ok(_), Ok(status)) if full || status.success() => {
            Ok(String::from_utf8_lossy(&listed).into_owned())
        }
        // A grammar that crashes on a hostile file takes its process along, no more.
        (_, _, Ok(status)) if !status.success() => Err(failed(&status)),
        (Err(e), ..) | (_, Err(e), _) | (.., Err(e)) => Err(failed(&e)),
        _ => Err(failed(&"it ended early")),
    }
}

fn send(to: &mut impl io::Write, path: &str, text: &[u8]) -> io::Result<()> {
    let length = |n: usize| u32::try_from(n).map_err(io::Error::other);
    to.write_all(&length(path.len())?.to_le_bytes())?;
    to.write_all(&length(text.len())?.to_le_bytes())?;
    to.write_all(path.as_bytes())?;
    to.write_all(text)
}
