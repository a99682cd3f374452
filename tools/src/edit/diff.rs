//! `apply_diff`: search and replace blocks.
//!
//! ```text
//! <<<<<<< SEARCH
//! :start_line:12
//! -------
//! the lines that are there
//! =======
//! the lines to put in their place
//! >>>>>>> REPLACE
//! ```
//!
//! Blocks are applied in order; each one's line is shifted by what the earlier ones
//! added. An exact match is looked for first, nearest to the line given, then one that
//! is nearly the same, within bounds, whose likeness is reported. The replacement goes in
//! as it is written. When a block fails, nothing is applied.

use std::fmt::Write as _;

use super::lines::{self, Line};
use super::{Edited, similar};
use crate::call::{ToolCall, one_line};

/// Blocks in one call.
const MAX_BLOCKS: usize = 200;
/// How alike a block must be to lines of the file to be taken for them.
const ALIKE: f64 = 0.92;
/// How far from its line an inexact match is looked for.
const WINDOW: usize = 60;
/// Without a line given, files of up to this many lines are searched whole.
const WHOLE_FILE: usize = 3_000;
/// Blocks longer than this must match exactly.
const MAX_FUZZY_LINES: usize = 200;

#[derive(Debug, PartialEq, Eq)]
struct Block {
    start: Option<usize>,
    search: Vec<String>,
    replace: Vec<String>,
}

pub(super) fn apply(call: &ToolCall, old: &str) -> Result<Edited, String> {
    let blocks = parse(call.text("diff"))?;
    let total = blocks.len();
    let ending = if lines::is_crlf(old) { "\r\n" } else { "\n" };
    let mut text = old.to_owned();
    let mut shift = 0isize;
    let mut notes = Vec::new();
    let mut failures = String::new();
    for (i, block) in blocks.iter().enumerate() {
        let number = i + 1;
        let file = lines::split(&text);
        let hint = block.start.map(|s| (s as isize - 1 + shift).max(0) as usize);
        match locate(&file, block, hint) {
            Ok((at, likeness)) => {
                if let Some(likeness) = likeness {
                    notes.push(format!(
                        "block {number} of {total}: not an exact match, {:.0}% alike, at line {}",
                        likeness * 100.0,
                        at + 1
                    ));
                }
                let end = at + block.search.len();
                // The last line keeps its ending, or its lack of one.
                let last = if end == file.len() && end > at { file[end - 1].end } else { ending };
                let count = block.replace.len();
                let mut new: Vec<Line<'_>> = file[..at].to_vec();
                if at == file.len()
                    && let Some(line) = new.last_mut().filter(|l| l.end.is_empty())
                {
                    line.end = ending;
                }
                new.extend(block.replace.iter().enumerate().map(|(i, text)| Line {
                    text,
                    end: if i + 1 == count { last } else { ending },
                }));
                new.extend_from_slice(&file[end..]);
                let joined = lines::join(&new);
                shift += count as isize - block.search.len() as isize;
                text = joined;
            }
            Err(why) => {
                let _ = write!(failures, "\nblock {number} of {total}: {why}");
            }
        }
    }
    if failures.is_empty() {
        notes.insert(
            0,
            if total == 1 { "1 block applied".into() } else { format!("{total} blocks applied") },
        );
        return Ok(Edited { text, notes });
    }
    let failed = failures.matches("\nblock ").count();
    let good = match total - failed {
        0 => String::new(),
        1 => " The other block matches, but was not applied either.".into(),
        n => format!(" The other {n} blocks match, but were not applied either."),
    };
    Err(format!(
        "{failed} of {total} blocks could not be applied; nothing was changed.{good} Read the file \
         again, then repeat the call with every block.{failures}"
    ))
}

/// Where the block's lines are; with how alike they are when not the same.
fn locate(
    file: &[Line<'_>],
    block: &Block,
    hint: Option<usize>,
) -> Result<(usize, Option<f64>), String> {
    let n = block.search.len();
    if n == 0 {
        return match hint {
            Some(at) if at <= file.len() => Ok((at, None)),
            Some(at) => {
                Err(format!("line {} is past the end: the file has {} lines", at + 1, file.len()))
            }
            None => {
                Err("the search part is empty, and no :start_line: says where to insert".into())
            }
        };
    }
    let same = |at: usize, f: fn(&str) -> &str| {
        block.search.iter().zip(&file[at..]).all(|(s, l)| f(s) == f(l.text))
    };
    let places = file.len().checked_sub(n).map_or(0, |last| last + 1);
    let ways: [fn(&str) -> &str; 2] = [|l| l, str::trim_end];
    for way in ways {
        let found: Vec<usize> = (0..places).filter(|at| same(*at, way)).collect();
        match (found.as_slice(), hint) {
            ([], _) => {}
            ([one], _) => return Ok((*one, None)),
            (many, Some(hint)) => {
                let best = many.iter().min_by_key(|at| at.abs_diff(hint));
                return best.map(|at| (*at, None)).ok_or_else(String::new);
            }
            (many, None) => {
                let list: Vec<String> =
                    many.iter().take(8).map(|at| (at + 1).to_string()).collect();
                return Err(format!(
                    "the search part matches {} places (lines {}); give :start_line: or more lines",
                    many.len(),
                    list.join(", ")
                ));
            }
        }
    }
    let (from, to) = match hint {
        Some(hint) => (hint.saturating_sub(WINDOW), (hint + WINDOW + 1).min(places)),
        None if file.len() <= WHOLE_FILE => (0, places),
        None => (0, 0),
    };
    let wanted: Vec<&str> = block.search.iter().map(String::as_str).collect();
    let mut best = (0.0f64, 0);
    let mut second = 0.0f64;
    if n <= MAX_FUZZY_LINES {
        for at in from..to {
            let here: Vec<&str> = file[at..at + n].iter().map(|l| l.text).collect();
            let likeness = similar::lines(&wanted, &here, best.0.min(ALIKE) - 0.1);
            if likeness > best.0 {
                second = best.0;
                best = (likeness, at);
            } else {
                second = second.max(likeness);
            }
        }
    }
    let (likeness, at) = best;
    // Two places that are as good make a guess of it.
    if likeness >= ALIKE && likeness > second {
        return Ok((at, Some(likeness)));
    }
    let first = one_line(&block.search[0], 60);
    if likeness < 0.3 {
        return Err(format!("the search part ('{first}', …) was not found"));
    }
    let mut text = format!(
        "the search part ('{first}', …) was not found. The nearest is {:.0}% alike, lines {} to {}:",
        likeness * 100.0,
        at + 1,
        at + n
    );
    for (i, line) in file[at..at + n].iter().enumerate().take(12) {
        let _ = write!(text, "\n{} | {}", at + 1 + i, one_line_keeping_indent(line.text));
    }
    Err(text)
}

fn one_line_keeping_indent(line: &str) -> String {
    line.chars().take(160).collect()
}

/// What part of a block a line belongs to.
#[derive(PartialEq, Clone, Copy)]
enum Part {
    Outside,
    Head,
    Search,
    Replace,
}

const OPEN: &str = "<<<<<<< SEARCH";
const MIDDLE: &str = "=======";
const CLOSE: &str = ">>>>>>> REPLACE";
const RULE: &str = "-------";

fn parse(diff: &str) -> Result<Vec<Block>, String> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut part = Part::Outside;
    let bad = |number: usize, what: &str| {
        Err(format!("line {number} of the diff: {what}. Nothing was changed"))
    };
    for (i, raw) in diff.lines().enumerate() {
        let number = i + 1;
        let marker = raw.trim_end();
        let open = marker == OPEN || marker == "<<<<<<< SEARCH>";
        match part {
            Part::Outside => {
                if open {
                    blocks.push(Block { start: None, search: Vec::new(), replace: Vec::new() });
                    part = Part::Head;
                } else if marker == MIDDLE || marker == CLOSE {
                    return bad(number, &format!("'{marker}' outside of a block"));
                } else if !marker.is_empty() && !marker.starts_with("```") {
                    return bad(number, &format!("expected '{OPEN}'"));
                }
            }
            Part::Head | Part::Search | Part::Replace => {
                let Some(block) = blocks.last_mut() else { continue };
                if open {
                    return bad(
                        number,
                        &format!(
                            "'{OPEN}' inside a block; is '{CLOSE}' missing? A line of the file that looks like this is written with a backslash before it"
                        ),
                    );
                }
                if part == Part::Head {
                    if let Some(n) = marker.strip_prefix(":start_line:") {
                        let Ok(n) = n.trim().parse::<usize>() else {
                            return bad(number, ":start_line: needs a number");
                        };
                        block.start = (n > 0).then_some(n);
                        continue;
                    }
                    if marker.starts_with(":end_line:") {
                        continue;
                    }
                    if marker == RULE {
                        part = Part::Search;
                        continue;
                    }
                    part = Part::Search;
                }
                if marker == MIDDLE {
                    if part == Part::Replace {
                        return bad(
                            number,
                            &format!(
                                "a second '{MIDDLE}' in one block; a line of the file that looks like this is written with a backslash before it"
                            ),
                        );
                    }
                    part = Part::Replace;
                    continue;
                }
                if marker == CLOSE {
                    if part != Part::Replace {
                        return bad(number, &format!("'{CLOSE}' before '{MIDDLE}'"));
                    }
                    part = Part::Outside;
                    continue;
                }
                let line = unescape(raw).to_owned();
                if part == Part::Search {
                    block.search.push(line);
                } else {
                    block.replace.push(line);
                }
            }
        }
    }
    if part != Part::Outside {
        return Err(format!("the last block is not closed by '{CLOSE}'. Nothing was changed"));
    }
    if blocks.is_empty() {
        return Err(format!(
            "the diff has no block; a block begins with '{OPEN}'. Nothing was changed"
        ));
    }
    if blocks.len() > MAX_BLOCKS {
        return Err(format!("the diff has {} blocks; at most {MAX_BLOCKS}", blocks.len()));
    }
    if let Some(at) = blocks.iter().position(|b| b.search == b.replace) {
        return Err(format!("block {} changes nothing: both its parts are the same", at + 1));
    }
    Ok(blocks)
}

/// Takes the backslash off a line that looks like a marker.
fn unescape(line: &str) -> &str {
    let Some(rest) = line.strip_prefix('\\') else { return line };
    let marks = ["<<<<<<<", "=======", ">>>>>>>", "-------", ":start_line:", ":end_line:", "\\"];
    if marks.iter().any(|m| rest.trim_start_matches('\\').starts_with(m) && *m != "\\") {
        rest
    } else {
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(diff: &str, old: &str) -> Result<Edited, String> {
        apply(&ToolCall::new("1", "apply_diff").with("path", "f").with("diff", diff), old)
    }

    fn block(start: &str, search: &str, replace: &str) -> String {
        format!("<<<<<<< SEARCH\n{start}-------\n{search}=======\n{replace}>>>>>>> REPLACE\n")
    }

    #[test]
    fn blocks_apply_in_order_with_the_shift_carried() {
        let old = "a\nx\nb\nx\nc\nx\n";
        let diff = block(":start_line:2\n", "x\n", "1\n2\n3\n")
            + &block(":start_line:4\n", "x\n", "")
            + &block(":start_line:6\n", "x\n", "last\n");
        assert_eq!(run(&diff, old).unwrap().text, "a\n1\n2\n3\nb\nc\nlast\n");
    }

    #[test]
    fn line_endings_and_the_missing_final_newline_stay() {
        assert_eq!(
            run(&block("", "b\n", "B\nBB\n"), "a\r\nb\r\nc").unwrap().text,
            "a\r\nB\r\nBB\r\nc"
        );
        assert_eq!(run(&block("", "c\n", "C\n"), "a\nc").unwrap().text, "a\nC");
        assert_eq!(run(&block(":start_line:3\n", "", "d\n"), "a\nc").unwrap().text, "a\nc\nd\n");
        assert_eq!(run(&block(":start_line:1\n", "", "z\n"), "a\n").unwrap().text, "z\na\n");
    }

    #[test]
    fn the_replacement_is_not_re_indented() {
        let old = "    fn f() {\n        x();\n    }\n";
        let edited = run(&block("", "        x();\n", "  y();\n\n\tz();\n"), old).unwrap();
        assert_eq!(edited.text, "    fn f() {\n  y();\n\n\tz();\n    }\n");
    }

    #[test]
    fn a_near_match_reports_its_likeness() {
        let old = "fn first() {\n    let total = compute_the_total(items);\n    print(total);\n}\n";
        let edited = run(
            &block(
                ":start_line:2\n",
                "    let total = compute_the_total(item);\n    print(total);\n",
                "    done();\n",
            ),
            old,
        )
        .unwrap();
        assert_eq!(edited.text, "fn first() {\n    done();\n}\n");
        assert!(edited.notes[1].contains("% alike, at line 2"), "{:?}", edited.notes);
    }

    #[test]
    fn a_failing_block_is_named_with_its_nearest_and_nothing_changes() {
        let old = "alpha beta\ngamma delta\nepsilon\n";
        let error =
            run(&(block("", "epsilon\n", "E\n") + &block("", "gamma dalda x\n", "G\n")), old)
                .unwrap_err();
        assert!(error.contains("1 of 2 blocks could not be applied"), "{error}");
        assert!(error.contains("block 2 of 2") && error.contains("2 | gamma delta"), "{error}");
        assert!(error.contains("The other block matches, but was not applied"), "{error}");
    }

    #[test]
    fn an_ambiguous_block_needs_a_line() {
        let error = run(&block("", "x\n", "y\n"), "x\na\nx\n").unwrap_err();
        assert!(error.contains("lines 1, 3"), "{error}");
        assert_eq!(
            run(&block(":start_line:3\n", "x\n", "y\n"), "x\na\nx\n").unwrap().text,
            "x\na\ny\n"
        );
    }

    #[test]
    fn files_with_conflict_markers_can_be_edited() {
        let old = "<<<<<<< HEAD\nours\n=======\ntheirs\n>>>>>>> branch\n";
        let diff = block("", "<<<<<<< HEAD\nours\n\\=======\ntheirs\n>>>>>>> branch\n", "ours\n");
        assert_eq!(run(&diff, old).unwrap().text, "ours\n");
        let diff = block("", "ours\n", "\\<<<<<<< SEARCH\n\\>>>>>>> REPLACE\n\\-------\n\\n\n");
        let text = run(&diff, "ours\n").unwrap().text;
        assert_eq!(text, "<<<<<<< SEARCH\n>>>>>>> REPLACE\n-------\n\\n\n");
    }

    #[test]
    fn malformed_diffs_are_explained() {
        for bad in [
            "",
            "text",
            "<<<<<<< SEARCH\na\n",
            "<<<<<<< SEARCH\na\n>>>>>>> REPLACE\n",
            "<<<<<<< SEARCH\na\n=======\nb\n=======\nc\n>>>>>>> REPLACE\n",
            "=======\n",
            "<<<<<<< SEARCH\n:start_line:x\n-------\na\n=======\nb\n>>>>>>> REPLACE\n",
            "<<<<<<< SEARCH\na\n<<<<<<< SEARCH\n=======\n>>>>>>> REPLACE\n",
            "<<<<<<< SEARCH\na\n=======\na\n>>>>>>> REPLACE\n",
        ] {
            assert!(run(bad, "a\n").is_err(), "{bad:?}");
        }
    }
}
