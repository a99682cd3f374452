//! `read_command_output`: lines of a kept output. The host has made the folder of
//! artefacts this call's workspace.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};

use crate::artefact::file_name;
use crate::call::ToolCall;
use crate::exec::files::Done;
use crate::exec::safe_fs::Tree;
use crate::limits::{
    COMMAND_SHOWN_BYTES, OUTPUT_DEFAULT_LINES, READ_MAX_LINE_BYTES, REGEX_MAX_BYTES,
    REGEX_SIZE_LIMIT,
};

pub(crate) fn run(call: &ToolCall, tree: &Tree<'_>) -> Done {
    let id = call.text("artifact_id");
    let found = tree.find(&file_name(id)).map_err(|_| format!("there is no kept output '{id}'"))?;
    let search = call.text("search");
    if search.len() > REGEX_MAX_BYTES {
        return Err(format!("the regex is {} bytes long; at most {REGEX_MAX_BYTES}", search.len()));
    }
    let regex = (!search.is_empty())
        .then(|| regex::bytes::RegexBuilder::new(search).size_limit(REGEX_SIZE_LIMIT).build())
        .transpose()
        .map_err(|e| format!("the regex is not valid (Rust syntax): {e}"))?;
    let offset = call.number("offset").unwrap_or(1).max(1) as usize;
    let limit = call.number("limit").map_or(OUTPUT_DEFAULT_LINES, |n| n.max(1) as usize);
    let mut reader = BufReader::new(found.file);
    let mut line = Vec::new();
    let (mut number, mut shown, mut hits) = (0usize, 0usize, 0usize);
    let mut body = String::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => number += 1,
            Err(e) => return Err(format!("the kept output cannot be read: {e}")),
        }
        while matches!(line.last(), Some(b'\n' | b'\r')) {
            line.pop();
        }
        if regex.as_ref().is_some_and(|r| !r.is_match(&line)) {
            continue;
        }
        hits += 1;
        // With a search the offset counts hits, otherwise lines.
        if hits < offset || shown >= limit || body.len() > COMMAND_SHOWN_BYTES {
            continue;
        }
        shown += 1;
        let part = &line[..line.len().min(READ_MAX_LINE_BYTES)];
        let _ = writeln!(body, "{number:>6} | {}", String::from_utf8_lossy(part));
    }
    let what = if regex.is_some() { "matching lines" } else { "lines" };
    let last = offset + shown.saturating_sub(1);
    let range = if shown == 0 { "none".to_owned() } else { format!("{offset}-{last}") };
    Ok(format!("[{id}: {number} lines, {hits} {what}; showing {range}]\n{body}"))
}
