//! Lines of a text, and the block that begins at one. Pure.
//!
//! A caret says where, and not how much; the block is found from the lines alone, by
//! indentation. No grammar is needed, and every language whose blocks are indented is served
//! alike. Used by the inline edits of the editor and of the command line.

/// Text that goes along with a piece, before and after it.
pub const BEFORE: usize = 24 << 10;
pub const AFTER: usize = 8 << 10;
/// Longest piece, in bytes.
pub const PIECE: usize = 24 << 10;
/// Columns of a tab, where indentation is compared.
const TAB: usize = 4;

/// Lines of a document: the first and the one after the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lines {
    pub first: usize,
    pub end: usize,
}

/// The block that begins at line `first`.
pub fn block_at(text: &str, first: usize) -> Lines {
    let all: Vec<&str> = text.lines().collect();
    Lines { first, end: block_end(&all, first) }
}

/// The end of the block that begins at line `first`, by indentation: a definition with its
/// attributes and its body, or statements up to a blank line.
pub fn block_end(lines: &[&str], first: usize) -> usize {
    let Some(head) = lines.get(first).filter(|line| !line.trim().is_empty()) else { return first };
    let base = column(head);
    let (mut end, mut body) = (first + 1, false);
    for (at, line) in lines.iter().enumerate().skip(first + 1) {
        let trimmed = line.trim();
        if trimmed.is_empty() {
            let opened = lines[end - 1].trim_end().ends_with(['{', '(', '[', ':']);
            if body || opened {
                continue;
            }
            break;
        }
        match column(line).cmp(&base) {
            std::cmp::Ordering::Greater => body = true,
            std::cmp::Ordering::Less => break,
            std::cmp::Ordering::Equal if goes_on(trimmed) => body |= trimmed.starts_with('{'),
            std::cmp::Ordering::Equal if body => break,
            std::cmp::Ordering::Equal => {}
        }
        end = at + 1;
    }
    end
}

/// Whether a line belongs to the block above it, although it is no further to the right.
fn goes_on(line: &str) -> bool {
    const WORDS: &[&str] = &[
        "else", "elif", "elsif", "elseif", "except", "catch", "finally", "rescue", "ensure", "end",
        "where", "then", "do", "fi", "done", "esac", "begin",
    ];
    let word: String = line.chars().take_while(char::is_ascii_alphanumeric).collect();
    line.starts_with(['}', ')', ']', '{']) || WORDS.contains(&word.as_str())
}

fn column(line: &str) -> usize {
    line.chars().take_while(|c| c.is_whitespace()).map(|c| if c == '\t' { TAB } else { 1 }).sum()
}

/// Whole lines of `text`, each with its line break as `\n`.
pub fn cut(text: &str, lines: Lines) -> String {
    let mut cut = String::new();
    for line in text.lines().skip(lines.first).take(lines.end.saturating_sub(lines.first)) {
        cut.push_str(line);
        cut.push('\n');
    }
    cut
}

/// What stands before and after `lines`, in whole lines, the nearest within the limits.
pub fn around(text: &str, lines: Lines) -> (String, String) {
    let all: Vec<&str> = text.lines().collect();
    let (start, end) = (lines.first.min(all.len()), lines.end.min(all.len()));
    let before = nearest(all[..start].iter().rev(), BEFORE);
    let after = nearest(all[end..].iter(), AFTER);
    let first = start - before;
    (cut(text, Lines { first, end: start }), cut(text, Lines { first: end, end: end + after }))
}

/// How many of the first lines fit into `room` bytes.
fn nearest<'a>(lines: impl Iterator<Item = &'a &'a str>, mut room: usize) -> usize {
    let fits = |line: &&&str| {
        let left = room.checked_sub(line.len() + 1);
        room = left.unwrap_or(0);
        left.is_some()
    };
    lines.take_while(fits).count()
}

/// `text` with `with` (whole lines) in the place of `lines`; its line breaks stay what they are.
pub fn replaced(text: &str, lines: Lines, with: &str) -> String {
    let line_break = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let all: Vec<&str> = text.lines().collect();
    let kept = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let mut new = kept(&all[..lines.first.min(all.len())]);
    new.extend(with.lines().map(str::to_owned));
    new.extend(kept(&all[lines.end.min(all.len())..]));
    let mut new = new.join(line_break);
    if !new.is_empty() && (text.is_empty() || text.ends_with('\n')) {
        new.push_str(line_break);
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_lines_go_along() {
        let text = (0..4000).map(|n| format!("line number {n}\n")).collect::<Vec<_>>().concat();
        let (before, after) = around(&text, Lines { first: 3000, end: 3001 });
        assert!(before.len() <= BEFORE && before.ends_with("line number 2999\n"));
        assert!(after.len() <= AFTER && after.starts_with("line number 3001\n"));
        assert!(before.len() > BEFORE - 20 && after.len() > AFTER - 20);
        assert_eq!(around("a\nb\nc", Lines { first: 1, end: 2 }), ("a\n".into(), "c\n".into()));
        assert_eq!(around("", Lines { first: 0, end: 0 }), (String::new(), String::new()));
        assert_eq!(around("a", Lines { first: 7, end: 9 }), ("a\n".into(), String::new()));
    }

    #[test]
    fn lines_are_replaced_and_line_breaks_kept() {
        let lines = Lines { first: 1, end: 2 };
        assert_eq!(replaced("a\nb\nc\n", lines, "x\ny\n"), "a\nx\ny\nc\n");
        assert_eq!(replaced("a\r\nb\r\n", lines, "x\ny\n"), "a\r\nx\r\ny\r\n");
        assert_eq!(replaced("a\nb", lines, "x\n"), "a\nx");
        assert_eq!(replaced("a\nb\n", lines, ""), "a\n");
        assert_eq!(replaced("", Lines { first: 0, end: 0 }, "x\n"), "x\n");
        assert_eq!(replaced("a\n", Lines { first: 0, end: 1 }, ""), "");
    }
}
