//! What an editing call makes of a file's text: pure functions from the old text and the
//! call to the new text, no I/O. Called by the helper.

mod diff;
mod insert;
mod lines;
pub(crate) mod patch;
mod replace;
mod similar;
mod whole;

use crate::call::ToolCall;

/// The tools that change files and are built.
pub const NAMES: &[&str] = &[
    "write_to_file",
    "apply_diff",
    "insert_content",
    "search_and_replace",
    "append_to_file",
    "edit",
    "search_replace",
    "edit_file",
    "apply_patch",
    "delete_file",
];

/// The new text and what there is to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    pub text: String,
    pub notes: Vec<String>,
}

impl Edited {
    fn new(text: String) -> Self {
        Self { text, notes: Vec::new() }
    }
}

/// Applies a call that changes one file to `old`, the file's text or `None` when there is
/// no file.
pub fn apply(call: &ToolCall, old: Option<&str>) -> Result<Edited, String> {
    match call.name.as_str() {
        "write_to_file" => return whole::write(call, old),
        "insert_content" => return insert::insert(call, old),
        "append_to_file" => return Ok(insert::append(call, old)),
        "edit_file" => return replace::tolerant(call, old),
        _ => {}
    }
    let Some(old) = old else {
        return Err("the file does not exist; write_to_file creates files".into());
    };
    match call.name.as_str() {
        "apply_diff" => diff::apply(call, old),
        "search_and_replace" => replace::search_and_replace(call, old),
        "edit" | "search_replace" => replace::exact(call, old),
        other => Err(format!("{other} does not change the text of one file")),
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
