//! `list_files`.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use ignore::{DirEntry, WalkBuilder};

use crate::call::ToolCall;
use crate::closed::LeftOut;
use crate::exec::files::Done;
use crate::exec::safe_fs::{Tree, show};
use crate::limits::LIST_MAX_ENTRIES;

/// A walk of `folder` for a reader: past every ignore rule, and past what the user's rules close.
pub(crate) fn open_walker(tree: &Tree<'_>, folder: &Path) -> (WalkBuilder, Arc<LeftOut>) {
    let left_out = Arc::new(LeftOut::new(&tree.closed, &tree.root));
    let root = tree.root.clone();
    let mut builder = walker(tree, folder);
    if !tree.closed.is_empty() {
        let left_out = left_out.clone();
        builder.filter_entry(move |entry| {
            not_gits(entry, &root) && (entry.depth() == 0 || left_out.lets(entry.path()))
        });
    }
    (builder, left_out)
}

/// Git's own folder is no part of the project.
fn not_gits(entry: &DirEntry, root: &Path) -> bool {
    entry.file_name() != ".git" || entry.path() == root
}

/// A walk of `folder` that honours every ignore rule and follows no symlink.
pub(crate) fn walker(tree: &Tree<'_>, folder: &Path) -> WalkBuilder {
    let root = tree.root.clone();
    let mut builder = WalkBuilder::new(folder);
    builder
        .hidden(false)
        .parents(true)
        .ignore(false)
        .git_global(false)
        .require_git(false)
        .follow_links(false)
        .same_file_system(false)
        .add_custom_ignore_filename(".aiignore")
        .filter_entry(move |entry| not_gits(entry, &root));
    builder
}

pub(crate) fn run(call: &ToolCall, tree: &Tree<'_>) -> Done {
    let path = call.text("path");
    let found = tree.find(path)?;
    if !found.meta.is_dir() {
        return Err(format!("'{}' is a file, not a folder", show(&found.path)));
    }
    let folder = tree.root.join(&found.path);
    let (mut builder, left_out) = open_walker(tree, &folder);
    if !call.flag("recursive") {
        builder.max_depth(Some(1));
    }
    // Breadth first would be kinder when cut; sorting by path within a bound keeps the
    // result the same from run to run.
    builder.sort_by_file_name(std::cmp::Ord::cmp);
    let mut entries = Vec::new();
    let mut problems = 0;
    let mut more = 0usize;
    for entry in builder.build() {
        let Ok(entry) = entry else {
            problems += 1;
            continue;
        };
        if let Some(error) = entry.error() {
            closed(error)?;
        }
        if entry.depth() == 0 {
            continue;
        }
        if entries.len() >= LIST_MAX_ENTRIES {
            more += 1;
            continue;
        }
        let relative = entry.path().strip_prefix(&tree.root).unwrap_or(entry.path());
        let kind = entry.file_type();
        let mark = if kind.is_some_and(|k| k.is_dir()) {
            "/"
        } else if kind.is_some_and(|k| k.is_symlink()) {
            " (symlink)"
        } else {
            ""
        };
        entries.push(format!("{}{mark}", relative.display()));
    }
    entries.sort();
    let mut out = entries.join("\n");
    if entries.is_empty() {
        out.push_str("(no files)");
    }
    if more > 0 {
        let _ = write!(out, "\n[… {more} more; list a folder below '{path}']");
    }
    if problems > 0 {
        let _ = write!(out, "\n[{problems} entries could not be read]");
    }
    if let Some(note) = left_out.note() {
        let _ = write!(out, "\n[{note}]");
    }
    Ok(out)
}

/// A rule file that cannot be understood closes the walk.
pub(crate) fn closed(error: &ignore::Error) -> Result<(), String> {
    let text = error.to_string();
    if text.contains(".aiignore") {
        return Err(format!("an .aiignore cannot be read ({text}), so nothing below it is shown"));
    }
    Ok(())
}
