//! Text as lines that keep their endings.

/// A line and what ends it: `\n`, `\r\n`, or nothing at the end of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) text: &'a str,
    pub(super) end: &'a str,
}

pub(super) fn split(text: &str) -> Vec<Line<'_>> {
    text.split_inclusive('\n')
        .map(|line| {
            if let Some(text) = line.strip_suffix("\r\n") {
                Line { text, end: "\r\n" }
            } else if let Some(text) = line.strip_suffix('\n') {
                Line { text, end: "\n" }
            } else {
                Line { text: line, end: "" }
            }
        })
        .collect()
}

pub(super) fn join(lines: &[Line<'_>]) -> String {
    lines.iter().flat_map(|l| [l.text, l.end]).collect()
}

/// Whether most of the text's lines end in CRLF.
pub(super) fn is_crlf(text: &str) -> bool {
    let crlf = text.matches("\r\n").count();
    crlf * 2 > text.matches('\n').count()
}

/// `given` with the line endings of `file`, unless it has CRLF of its own.
pub(super) fn adapt(given: &str, file: &str) -> String {
    if is_crlf(file) && !given.contains('\r') {
        given.replace('\n', "\r\n")
    } else {
        given.to_owned()
    }
}

/// The byte range of lines `from..=to`, counted from 1. `None` when `from` is past the end.
pub(super) fn span(text: &str, from: usize, to: usize) -> Option<(usize, usize)> {
    let mut at = 0;
    let mut start = None;
    for (i, line) in text.split_inclusive('\n').enumerate() {
        if i + 1 == from {
            start = Some(at);
        }
        at += line.len();
        if i + 1 == to {
            break;
        }
    }
    start.map(|start| (start, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitting_loses_nothing() {
        for text in ["", "a", "a\n", "a\r\nb", "\n\n", "a\rb\n", "é\r\n\r\n"] {
            assert_eq!(join(&split(text)), text, "{text:?}");
        }
    }

    #[test]
    fn spans_are_lines() {
        assert_eq!(span("a\nbb\nc", 2, 2), Some((2, 5)));
        assert_eq!(span("a\nbb\nc", 2, 9), Some((2, 6)));
        assert_eq!(span("a\n", 2, 2), None);
    }
}
