//! Which lines an inline edit is about, and the edit that puts new ones in their place. Pure.
//!
//! An editor like Lapce sends a caret and no selection, so the piece is found from the lines
//! alone: below a comment, the block that it stands over, by indentation. No grammar is
//! needed, and every language with blocks that are indented is served alike.

use serde_json::{Value, json};

use super::text::{self, Encoding};
use super::types::{Position, Range};
use crate::lines::{self, Lines};

/// What is to be edited.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// What the new text takes the place of.
    pub(super) lines: Lines,
    /// What the model is given of it: less than `lines` where a comment is an instruction
    /// alone, and goes.
    pub(super) code: Lines,
    /// White space of new text, where there is none to go by.
    pub(super) indent: String,
}

/// The piece at `line`: on a comment the comment and the block below it, on a blank line
/// that line; or the selected lines, if `selected` has more than one.
pub(super) fn find(text: &str, line: u32, selected: Lines, language: &str) -> Option<Piece> {
    let all: Vec<&str> = text.lines().collect();
    let line = line as usize;
    let indent = |at: usize| {
        let line = all.get(at).copied().unwrap_or_default();
        line[..line.len() - line.trim_start().len()].to_owned()
    };
    let several = selected.end > selected.first + 1 && selected.end <= all.len();
    let Some((comment, first, last)) = text::comment_block(text, line as u32, language) else {
        let blank = all.get(line).is_none_or(|line| line.trim().is_empty());
        let end = all.len().min(line + 1);
        let own = Lines { first: line.min(end), end };
        let piece = |lines| Piece { lines, code: lines, indent: String::new() };
        if several {
            return Some(piece(selected));
        }
        let code = Lines { first: own.first, end: own.first };
        return blank.then(|| Piece { lines: own, code, indent: indent(line) });
    };
    let (first, last) = (first as usize, last as usize);
    let end = if several { selected.end.max(last + 1) } else { lines::block_end(&all, last + 1) };
    let instruction_alone = text::is_instruction(&comment);
    let start = if instruction_alone { last + 1 } else { first };
    Some(Piece {
        lines: Lines { first, end },
        code: Lines { first: start, end },
        indent: indent(first),
    })
}

/// Where lines that stood in `lines` of `old` stand in `new`; `None` when they have changed,
/// are gone, or stand there more than once.
pub(super) fn moved(old: &str, lines: Lines, new: &str) -> Option<Lines> {
    if old == new {
        return Some(lines);
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let wanted = old.get(lines.first..lines.end)?;
    if wanted.iter().all(|line| line.trim().is_empty()) {
        return None;
    }
    let mut found = new.windows(wanted.len()).enumerate().filter(|(_, window)| *window == wanted);
    let (first, _) = found.next()?;
    found.next().is_none().then_some(Lines { first, end: first + wanted.len() })
}

/// The smallest edit that puts `new` (whole lines) in the place of `lines`; `None` when they
/// are the same.
pub(super) fn edit(text: &str, lines: Lines, new: &str, encoding: Encoding) -> Option<Value> {
    let old: Vec<&str> = text.lines().skip(lines.first).take(lines.end - lines.first).collect();
    let new: Vec<&str> = new.lines().collect();
    let most = old.len().min(new.len());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = most - same;
    let tail = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b);
    let tail = tail.count();
    let (first, end) = (lines.first + same, lines.end - tail);
    let new = &new[same..new.len() - tail];
    if first == end && new.is_empty() {
        return None;
    }
    let line_break = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut with: String = new.iter().flat_map(|line| [line, line_break]).collect();
    let count = text.lines().count();
    let start = Position { line: first as u32, character: 0 };
    let mut range = Range { start, end: Position { line: end as u32, character: 0 } };
    if end >= count && !text.ends_with('\n') && !text.is_empty() {
        // The last line has no line break: the edit ends with the text.
        with.truncate(with.trim_end_matches(['\r', '\n']).len());
        range.end = text::end(text, encoding);
        if first >= count {
            range.start = range.end;
            with.insert_str(0, line_break);
        }
    }
    Some(json!({ "range": range, "newText": with }))
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::lines::cut;

    const NONE: Lines = Lines { first: 0, end: 1 };

    fn found(text: &str, line: u32, language: &str) -> (String, String) {
        let piece = find(text, line, NONE, language).unwrap();
        (cut(text, piece.lines), cut(text, piece.code))
    }

    /// The block below the comment on the first line.
    fn below(text: &str, language: &str) -> String {
        found(text, 0, language).1
    }

    #[test]
    fn the_block_below_a_comment_ends_where_its_indentation_does() {
        let rust = "// ai: x\n#[test]\nfn a<T>() -> bool\nwhere\n    T: Copy,\n{\n    one();\n\n    two()\n}\n\nfn b() {}\n";
        assert_eq!(below(rust, "rust"), rust[9..].replace("\nfn b() {}\n", ""));
        let python = "# ai: x\n@cache\ndef f(a):\n    if a:\n        return 1\n\n    return 2\n\ndef g():\n    pass\n";
        assert_eq!(
            below(python, "python"),
            "@cache\ndef f(a):\n    if a:\n        return 1\n\n    return 2\n"
        );
        let inner = "    // ai: x\n    if a {\n        b();\n    } else {\n        c();\n    }\n    d();\n}\n";
        assert_eq!(
            below(inner, "rust"),
            "    if a {\n        b();\n    } else {\n        c();\n    }\n"
        );
        let allman = "// ai: x\nint f()\n{\n\treturn 1;\n}\nint g();\n";
        assert_eq!(below(allman, "c"), "int f()\n{\n\treturn 1;\n}\n");
        let ruby = "# ai: x\ndef a\n  1\nend\ndef b\nend\n";
        assert_eq!(below(ruby, "ruby"), "def a\n  1\nend\n");
        let statements = "// ai: x\nlet a = 1;\nlet b = 2;\n\nlet c = 3;\n";
        assert_eq!(below(statements, "rust"), "let a = 1;\nlet b = 2;\n");
        let last = "    // ai: x\n    a();\n}\n";
        assert_eq!(below(last, "rust"), "    a();\n");
        assert_eq!(below("// ai: x\n\nfn f() {}\n", "rust"), "", "a blank line: new text there");
        assert_eq!(below("// ai: x", "rust"), "");
    }

    #[test]
    fn an_instruction_goes_and_a_description_stays_with_its_code() {
        let text = "// ai: make it faster\n// please\nfn f() {}\n";
        assert_eq!(found(text, 1, "rust"), (text.into(), "fn f() {}\n".into()));
        let text = "/// Adds one.\nfn f() {}\n";
        assert_eq!(found(text, 0, "rust"), (text.into(), text.into()));
        let here = find("fn f() {\n    \n}\n", 1, NONE, "rust").unwrap();
        let line = Lines { first: 1, end: 2 };
        assert_eq!((here.lines, here.indent.as_str()), (line, "    "));
        assert_eq!(here.code, Lines { first: 1, end: 1 });
        assert_eq!(find("fn f() {}\n", 0, NONE, "rust"), None);
        let end = find("fn f() {}\n", 1, NONE, "rust").unwrap();
        assert_eq!(end.lines, Lines { first: 1, end: 1 });
    }

    #[test]
    fn selected_lines_are_the_piece() {
        let text = "// ai: x\na();\n\nb();\nc();\n";
        let piece = find(text, 0, Lines { first: 0, end: 4 }, "rust").unwrap();
        assert_eq!(cut(text, piece.code), "a();\n\nb();\n");
        let piece = find(text, 3, Lines { first: 3, end: 5 }, "rust").unwrap();
        assert_eq!((piece.lines, piece.code), (piece.code, Lines { first: 3, end: 5 }));
        let beyond = Lines { first: 3, end: 9 };
        assert_eq!(find(text, 3, beyond, "rust"), None);
    }

    #[test]
    fn lines_that_moved_are_found_and_changed_ones_are_not() {
        let old = "a\nb\nc\nd\n";
        let lines = Lines { first: 1, end: 3 };
        assert_eq!(moved(old, lines, old), Some(lines));
        assert_eq!(moved(old, lines, "new\na\nb\nc\nd\n"), Some(Lines { first: 2, end: 4 }));
        assert_eq!(moved(old, lines, "a\nb\nC\nd\n"), None);
        assert_eq!(moved(old, lines, "b\nc\nb\nc\n"), None);
        assert_eq!(moved("a\n\nb", Lines { first: 1, end: 2 }, "\na\n\nb"), None, "a blank line");
        assert_eq!(moved(old, Lines { first: 1, end: 1 }, "x"), None);
    }

    /// Applies the edit as an editor would.
    fn applied(text: &str, lines: Lines, new: &str) -> Option<String> {
        let edit = edit(text, lines, new, Encoding::Utf16)?;
        let range: Range = serde_json::from_value(edit["range"].clone()).unwrap();
        let mut text = text.to_owned();
        assert!(text::replace(
            &mut text,
            range,
            edit["newText"].as_str().unwrap(),
            Encoding::Utf16
        ));
        Some(text)
    }

    #[test]
    fn an_edit_is_the_smallest_one() {
        let text = "a\nb\nc\nd\ne\n";
        let lines = Lines { first: 1, end: 4 };
        let small = edit(text, lines, "b\nX\nd\n", Encoding::Utf16).unwrap();
        let at = |line| json!({ "line": line, "character": 0 });
        assert_eq!(small, json!({ "range": { "start": at(2), "end": at(3) }, "newText": "X\n" }));
        assert_eq!(edit(text, lines, "b\nc\nd\n", Encoding::Utf16), None);
        assert_eq!(applied(text, lines, "").unwrap(), "a\ne\n");
        assert_eq!(applied(text, lines, "b\nb\nc\nd\n").unwrap(), "a\nb\nb\nc\nd\ne\n");
        assert_eq!(
            applied("a\r\nb\r\n", Lines { first: 0, end: 1 }, "x\ny\n").unwrap(),
            "x\r\ny\r\nb\r\n"
        );
    }

    #[test]
    fn a_text_without_a_last_line_break_keeps_its_end() {
        assert_eq!(applied("a\nb", Lines { first: 1, end: 2 }, "x\ny\n").unwrap(), "a\nx\ny");
        assert_eq!(applied("a", Lines { first: 0, end: 1 }, "ü😀\n").unwrap(), "ü😀");
        assert_eq!(applied("ü😀", Lines { first: 1, end: 1 }, "b\n").unwrap(), "ü😀\nb");
        assert_eq!(applied("", Lines { first: 0, end: 0 }, "b\n").unwrap(), "b\n");
        assert_eq!(applied("a\n", Lines { first: 1, end: 1 }, "b\n").unwrap(), "a\nb\n");
    }
}
