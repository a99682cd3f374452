//! Putting files back for an undo: an order of the host's, offered to no model. All files
//! change, or none does.

use serde_json::Value;

use crate::call::ToolCall;
use crate::exec::files::Done;
use crate::exec::patch::{Step, take_all};
use crate::exec::safe_fs::{Tree, show};
use crate::exec::write::load;
use crate::protocol::Report;

/// The order's name.
pub(crate) const NAME: &str = "restore_files";

/// One file as the host names it: `{path, existed, mode, hex}`.
pub(crate) fn run(call: &ToolCall, tree: &Tree<'_>, report: &mut Report) -> Done {
    let files = call.params.get("files").and_then(Value::as_array).ok_or("no files are named")?;
    let mut steps = Vec::new();
    for file in files {
        let path = tree.relative(file["path"].as_str().unwrap_or_default())?;
        let shown = show(&path);
        let existed = file["existed"].as_bool().unwrap_or(false);
        let mode = file["mode"].as_u64().map(|m| m as u32);
        let gone_is_fine = file["gone"].as_bool().unwrap_or(false);
        let old = match load(tree, &path) {
            // What an undone call had deleted is expected to be missing.
            Err(e) if !(gone_is_fine && e.contains("was deleted")) => return Err(e),
            Err(_) => None,
            Ok(old) => old,
        };
        let new = existed.then(|| from_hex(file["hex"].as_str().unwrap_or_default()));
        let new = new.map(|n| n.ok_or_else(|| format!("the kept content of '{shown}' is damaged")));
        let new = new.transpose()?;
        let operation = match (&old, &new) {
            (None, None) => continue,
            (None, Some(_)) => "restored",
            (Some(_), None) => "deleted",
            (Some(_), Some(_)) => "put back",
        };
        steps.push(Step { path, old, new, mode, notes: Vec::new(), operation });
    }
    take_all(&steps, tree, report)
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
