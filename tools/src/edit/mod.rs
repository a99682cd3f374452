//! What an editing call makes of a file's text: pure functions from the old text and the
//! call to the new text, no I/O. Called by the helper.

mod lines;
mod whole;

use crate::call::ToolCall;

/// The tools that change files and are built.
pub const NAMES: &[&str] = &["write_to_file"];

/// The new text and what there is to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    pub text: String,
    pub notes: Vec<String>,
}

/// Applies `call` to `old`, the file's text or `None` when there is no file.
pub fn apply(call: &ToolCall, old: Option<&str>) -> Result<Edited, String> {
    match call.name.as_str() {
        "write_to_file" => whole::write(call, old),
        other => Err(format!("{other} does not change files")),
    }
}

/// The paths that a patch names, as written. Other calls name none.
pub fn patch_paths(call: &ToolCall) -> Vec<String> {
    const HEADS: &[&str] =
        &["*** Add File: ", "*** Update File: ", "*** Delete File: ", "*** Move to: "];
    let lines = call.text("patch").lines();
    lines
        .filter_map(|line| HEADS.iter().find_map(|head| line.trim_end().strip_prefix(head)))
        .map(|path| path.trim().to_owned())
        .collect()
}
