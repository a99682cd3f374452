//! Lines, positions and comments: pure functions over a document's text.
//!
//! What counts as a comment decides where the shim answers at all: F2, references and code
//! actions are ours on blank and comment lines only, so that everything on code stays with
//! the language's own server.

use super::limits;
use super::types::{Position, Range};

/// How the editor counts `character`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Encoding {
    #[default]
    Utf16,
    Utf8,
}

/// Byte range of line `line` without its line break, if there is such a line.
pub(super) fn line_span(text: &str, line: u32) -> Option<(usize, usize)> {
    let mut start = 0;
    for _ in 0..line {
        start += text[start..].find('\n')? + 1;
    }
    let end = text[start..].find('\n').map_or(text.len(), |n| start + n);
    let end = if end > start && text.as_bytes()[end - 1] == b'\r' { end - 1 } else { end };
    Some((start, end))
}

/// Byte offset of a position. A character beyond the line is its end, as the protocol
/// says; a line beyond the text is the text's end.
pub(super) fn offset(text: &str, at: Position, encoding: Encoding) -> usize {
    let Some((start, end)) = line_span(text, at.line) else { return text.len() };
    let line = &text[start..end];
    let wanted = at.character as usize;
    match encoding {
        Encoding::Utf8 => {
            let mut at = wanted.min(line.len());
            while !line.is_char_boundary(at) {
                at -= 1;
            }
            start + at
        }
        Encoding::Utf16 => {
            let mut units = 0;
            for (at, c) in line.char_indices() {
                // Between the halves of a pair counts as before it.
                if units + c.len_utf16() > wanted {
                    return start + at;
                }
                units += c.len_utf16();
            }
            end
        }
    }
}

/// Replaces `range`; `false` when it is upside down and nothing was done.
pub(super) fn replace(text: &mut String, range: Range, with: &str, encoding: Encoding) -> bool {
    if range.start > range.end {
        return false;
    }
    let (start, end) = (offset(text, range.start, encoding), offset(text, range.end, encoding));
    text.replace_range(start..end.max(start), with);
    true
}

/// The position at the end of the text.
pub(super) fn end(text: &str, encoding: Encoding) -> Position {
    let last = text.rsplit('\n').next().unwrap_or_default();
    let character = match encoding {
        Encoding::Utf8 => last.len(),
        Encoding::Utf16 => last.encode_utf16().count(),
    };
    Position { line: text.matches('\n').count() as u32, character: character as u32 }
}

/// Whole lines around `line`, within the limits, and the number of the first.
pub(super) fn around(text: &str, line: u32) -> (&str, u32) {
    let Some((start, end)) = line_span(text, line) else { return ("", 0) };
    let mut from = start.saturating_sub(limits::CONTEXT_BEFORE);
    if from > 0 {
        // The first whole line after the cut; the caret's own line at the latest.
        let cut = text.as_bytes()[from..start].iter().position(|&b| b == b'\n');
        from = cut.map_or(start, |n| from + n + 1);
    }
    let mut to = (end + limits::CONTEXT_AFTER).min(text.len());
    if to < text.len() {
        let cut = text.as_bytes()[end..to].iter().rposition(|&b| b == b'\n');
        to = cut.map_or(end, |n| end + n + 1);
    }
    let skipped = text[..from].matches('\n').count();
    (&text[from..to], u32::try_from(skipped).unwrap_or(u32::MAX))
}

/// The text before and after an offset, within the limits of ghost text.
pub(super) fn prefix_suffix(text: &str, at: usize) -> (&str, &str) {
    let mut from = at.saturating_sub(limits::PREFIX);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    (&text[from..at], cut(&text[at..], limits::SUFFIX))
}

/// At most `max` bytes of `text`, whole characters.
pub(super) fn cut(text: &str, max: usize) -> &str {
    let mut to = max.min(text.len());
    while !text.is_char_boundary(to) {
        to -= 1;
    }
    &text[..to]
}

/// What a line is to us.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(super) enum Line<'a> {
    Blank,
    /// A line that holds nothing but a comment; its text without the marks.
    Comment(&'a str),
    Code,
}

struct Syntax {
    /// Marks that start a line comment, longest first.
    line: &'static [&'static str],
    block: Option<(&'static str, &'static str)>,
}

fn syntax(language: &str) -> Syntax {
    const C: Option<(&str, &str)> = Some(("/*", "*/"));
    const SGML: Option<(&str, &str)> = Some(("<!--", "-->"));
    let (line, block): (&[&str], _) = match language {
        "rust" | "c" | "cpp" | "csharp" | "java" | "javascript" | "javascriptreact"
        | "typescript" | "typescriptreact" | "go" | "swift" | "kotlin" | "kotlinbuildscript"
        | "scala" | "dart" | "zig" | "dlang" | "groovy" | "fsharp" | "less" | "scss" | "proto"
        | "thrift" | "objective-c" | "objective-cpp" | "jsonc" => (&["///", "//!", "//"], C),
        "php" => (&["///", "//", "#"], C),
        "css" => (&[], C),
        "python" | "shellscript" | "ruby" | "perl" | "perl6" | "r" | "yaml" | "toml"
        | "makefile" | "dockerfile" | "julia" | "elixir" | "powershell" | "coffeescript"
        | "git" | "nix" | "cmake" | "properties" => (&["##", "#"], None),
        "sql" | "lua" | "haskell" | "elm" | "ada" => (&["--"], None),
        "clojure" | "lisp" | "scheme" => (&[";;;", ";;", ";"], None),
        "ini" => (&[";", "#"], None),
        "tex" | "latex" | "erlang" | "matlab" => (&["%%", "%"], None),
        "vim" => (&["\""], None),
        "vb" | "bat" => (&["'", "REM ", "rem "], None),
        "html" | "xml" | "xsl" | "markdown" | "handlebars" => (&[], SGML),
        "vue" | "svelte" => (&["//"], SGML),
        // A file type that Lapce has no name for.
        _ => (&["///", "//", "##", "#"], None),
    };
    Syntax { line, block }
}

/// Classifies line `line`; `None` when there is no such line.
pub(super) fn classify<'a>(text: &'a str, line: u32, language: &str) -> Option<Line<'a>> {
    let (start, end) = line_span(text, line)?;
    let trimmed = text[start..end].trim();
    if trimmed.is_empty() {
        return Some(Line::Blank);
    }
    let Syntax { line: marks, block } = syntax(language);
    if let Some(rest) = marks.iter().find_map(|mark| trimmed.strip_prefix(mark)) {
        // `#[attr]`, `#!/bin/sh` and `#include` are no comments.
        let code = trimmed.starts_with('#') && rest.starts_with(['!', '[', '+', '-'])
            || trimmed.starts_with("#include")
            || trimmed.starts_with("#define");
        return Some(if code { Line::Code } else { Line::Comment(rest.trim()) });
    }
    let Some((open, close)) = block else { return Some(Line::Code) };
    let inside = if trimmed.starts_with(open) { true } else { in_block(text, start, open, close) };
    if !inside {
        return Some(Line::Code);
    }
    // Whatever follows the end of the comment makes it a line of code.
    let body = match trimmed.find(close) {
        Some(at) if !trimmed[at + close.len()..].trim().is_empty() => return Some(Line::Code),
        Some(at) => &trimmed[..at],
        None => trimmed,
    };
    let body = body.strip_prefix(open).unwrap_or(body);
    Some(Line::Comment(body.trim_start_matches(['*', '!']).trim()))
}

/// Whether the offset `start` of a line lies in a block comment that began at the start of
/// an earlier line.
fn in_block(text: &str, start: usize, open: &str, close: &str) -> bool {
    for line in text[..start].lines().rev().take(limits::BLOCK_LOOKBACK) {
        let line = line.trim();
        if line.contains(close) {
            return false;
        }
        if line.starts_with(open) {
            return true;
        }
    }
    false
}

/// The comment block that line `line` belongs to, as one text, with the line numbers of its
/// first and last line. `None` on a line that is no comment.
pub(super) fn comment_block(text: &str, line: u32, language: &str) -> Option<(String, u32, u32)> {
    let comment = |line: u32| match classify(text, line, language)? {
        Line::Comment(body) => Some(body),
        Line::Blank | Line::Code => None,
    };
    comment(line)?;
    let max = limits::COMMENT_LINES as u32;
    let mut first = line;
    while first > 0 && line - first < max && comment(first - 1).is_some() {
        first -= 1;
    }
    let mut bodies = Vec::new();
    let mut last = first;
    while let Some(body) = comment(last).filter(|_| last - first < 2 * max) {
        bodies.push(body);
        last += 1;
    }
    Some((bodies.join("\n").trim().to_owned(), first, last - 1))
}

/// The instruction in a comment: what follows `ai:`, or else the whole comment.
pub(super) fn instruction(comment: &str) -> &str {
    find_marker(comment).map_or(comment, |(_, rest)| rest).trim()
}

/// Whether a comment is there to be read by us alone: it begins with `ai:`.
pub(super) fn is_instruction(comment: &str) -> bool {
    matches!(find_marker(comment), Some((0, _)))
}

/// The query of a comment line: what follows `ai:` or `?` at its start.
pub(super) fn query(comment: &str) -> Option<&str> {
    let rest = match find_marker(comment) {
        Some((0, rest)) => rest,
        _ => comment.strip_prefix('?')?,
    };
    Some(rest.trim()).filter(|rest| !rest.is_empty())
}

fn find_marker(comment: &str) -> Option<(usize, &str)> {
    const MARKER: &str = "ai:";
    let bytes = comment.as_bytes();
    let at = bytes.windows(MARKER.len()).enumerate().position(|(at, window)| {
        window.eq_ignore_ascii_case(MARKER.as_bytes())
            && (at == 0 || !bytes[at - 1].is_ascii_alphanumeric() && bytes[at - 1] != b'_')
    })?;
    Some((at, &comment[at + MARKER.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32, character: u32) -> Position {
        Position { line, character }
    }

    #[test]
    fn positions_count_utf16_or_utf8() {
        let text = "aä😀b\r\nzwei\n";
        for (character, utf16, utf8) in
            [(0, 0, 0), (1, 1, 1), (2, 3, 1), (3, 3, 3), (4, 7, 3), (5, 8, 3), (99, 8, 8)]
        {
            assert_eq!(
                offset(text, at(0, character), Encoding::Utf16),
                utf16,
                "utf-16 {character}"
            );
            assert_eq!(offset(text, at(0, character), Encoding::Utf8), utf8, "utf-8 {character}");
        }
        assert_eq!(offset(text, at(1, 2), Encoding::Utf16), 12);
        assert_eq!(offset(text, at(2, 0), Encoding::Utf16), text.len());
        assert_eq!(offset(text, at(u32::MAX, u32::MAX), Encoding::Utf16), text.len());
        assert_eq!(offset("", at(0, 5), Encoding::Utf8), 0);
    }

    #[test]
    fn edits_replace_ranges() {
        let mut text = String::from("one\ntwo\nthree");
        let range = |a, b| Range { start: a, end: b };
        assert!(replace(&mut text, range(at(1, 0), at(2, 0)), "", Encoding::Utf16));
        assert_eq!(text, "one\nthree");
        assert!(replace(&mut text, range(at(9, 0), at(9, 0)), "!", Encoding::Utf16));
        assert_eq!(text, "one\nthree!");
        assert!(!replace(&mut text, range(at(1, 0), at(0, 0)), "x", Encoding::Utf16));
        assert_eq!(text, "one\nthree!");
    }

    /// Any sequence of edits, of any positions, leaves valid text and does not panic.
    #[test]
    fn random_edits_never_panic() {
        let mut seed = 1_u32;
        let mut next = |n: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % n
        };
        let mut text = String::from("ä😀\r\n\nx\u{301}\n");
        for _ in 0..2_000 {
            let range = Range { start: at(next(6), next(9)), end: at(next(6), next(9)) };
            let with = ["", "😀", "\n", "\r\n", "ü", "abc"][next(6) as usize];
            let encoding = if next(2) == 0 { Encoding::Utf16 } else { Encoding::Utf8 };
            replace(&mut text, range, with, encoding);
            let caret = offset(&text, range.start, encoding);
            let (prefix, suffix) = prefix_suffix(&text, caret);
            assert!(text.contains(prefix) && text.contains(suffix));
            around(&text, range.start.line);
            comment_block(&text, range.start.line, "rust");
            if text.len() > 400 {
                text.clear();
            }
        }
    }

    #[test]
    fn context_is_whole_lines_around_the_caret() {
        let lines: Vec<String> = (0..5_000).map(|n| format!("line {n}\n")).collect();
        let text = lines.concat();
        let (cut, first) = around(&text, 4_000);
        assert!(cut.len() <= limits::CONTEXT_BEFORE + limits::CONTEXT_AFTER + 20);
        assert_eq!(cut.lines().next().unwrap(), format!("line {first}"));
        assert_eq!(cut.lines().nth((4_000 - first) as usize), Some("line 4000"));
        assert!(cut.ends_with('\n'));
        assert_eq!(around("a\nb", 1), ("a\nb", 0));
        assert_eq!(around("a\nb", 7), ("", 0));
        // One line longer than everything allowed.
        let long = "x".repeat(100_000);
        assert_eq!(around(&format!("{long}\ny"), 1), ("y", 1));
    }

    #[test]
    fn comments_of_many_languages() {
        for (language, line, comment) in [
            ("rust", "  // hello", Some("hello")),
            ("rust", "/// doc", Some("doc")),
            ("rust", "//! doc", Some("doc")),
            ("rust", "let x = 1; // trailing", None),
            ("rust", "#[test]", None),
            ("rust", "/* one */", Some("one")),
            ("rust", "/* one */ fn f() {}", None),
            ("rust", "*x = 1;", None),
            ("python", "# hi", Some("hi")),
            ("python", "#!/usr/bin/env python", None),
            ("python", "x = 1 # no", None),
            ("c", "#include <stdio.h>", None),
            ("sql", "-- q", Some("q")),
            ("lua", "--q", Some("q")),
            ("html", "<!-- q -->", Some("q")),
            ("markdown", "# Heading", None),
            ("markdown", "<!-- ai: x -->", Some("ai: x")),
            ("css", "/* c */", Some("c")),
            ("", "// c", Some("c")),
            ("", "# c", Some("c")),
            ("", "fn f()", None),
            ("cpp", "//", Some("")),
        ] {
            let expected = comment.map_or(Line::Code, Line::Comment);
            assert_eq!(classify(line, 0, language), Some(expected), "{language}: {line}");
        }
        assert_eq!(classify(" \t\r\n", 0, "rust"), Some(Line::Blank));
        assert_eq!(classify("a\n", 1, "rust"), Some(Line::Blank));
        assert_eq!(classify("a", 1, "rust"), None);
    }

    #[test]
    fn block_comments_span_lines() {
        let text = "/*\n * inside\n * more\n */\n*x = 1;\nfn f() {}";
        assert_eq!(classify(text, 1, "rust"), Some(Line::Comment("inside")));
        assert_eq!(classify(text, 3, "rust"), Some(Line::Comment("")));
        assert_eq!(classify(text, 4, "rust"), Some(Line::Code));
        assert_eq!(classify(text, 5, "rust"), Some(Line::Code));
    }

    #[test]
    fn a_block_of_comment_lines_is_one_instruction() {
        let text = "fn a() {}\n// ai: make this\n//   faster\n\n// other\n";
        assert_eq!(comment_block(text, 2, "rust"), Some(("ai: make this\nfaster".into(), 1, 2)));
        assert_eq!(comment_block(text, 0, "rust"), None);
        assert_eq!(comment_block(text, 3, "rust"), None);
        assert_eq!(instruction("note\nAI: do it\nnow"), "do it\nnow");
        assert_eq!(instruction("plain words"), "plain words");
        assert_eq!(instruction("mail: x"), "mail: x");
    }

    #[test]
    fn queries_start_a_comment() {
        assert_eq!(query("ai: where is auth"), Some("where is auth"));
        assert_eq!(query("? where is auth"), Some("where is auth"));
        assert_eq!(query("where is auth?"), None);
        assert_eq!(query("see ai: x"), None);
        assert_eq!(query("ai:  "), None);
        assert_eq!(query("?"), None);
    }
}
