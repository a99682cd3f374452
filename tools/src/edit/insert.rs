//! `insert_content` and `append_to_file`.

use super::{Edited, lines};
use crate::call::ToolCall;

pub(super) fn insert(call: &ToolCall, old: Option<&str>) -> Result<Edited, String> {
    let line = call.number("line").unwrap_or(-1);
    let old = match old {
        Some(old) => old,
        None if line <= 1 => "",
        None => return Err("the file does not exist; line 0 or 1 creates it".into()),
    };
    let count = old.lines().count();
    let line = usize::try_from(line).map_err(|_| format!("line {line} is negative"))?;
    if line == 0 || line == count + 1 {
        return Ok(append(call, Some(old)));
    }
    if line > count {
        return Err(format!("line {line} is past the end: the file has {count} lines"));
    }
    let mut content = lines::adapt(call.text("content"), old);
    if !content.ends_with('\n') {
        content.push_str(if lines::is_crlf(old) { "\r\n" } else { "\n" });
    }
    let (at, _) = lines::span(old, line, line).ok_or("the line is not there")?;
    Ok(Edited::new(format!("{}{content}{}", &old[..at], &old[at..])))
}

pub(super) fn append(call: &ToolCall, old: Option<&str>) -> Edited {
    let old = old.unwrap_or_default();
    let content = lines::adapt(call.text("content"), old);
    let mut text = old.to_owned();
    let mut notes = Vec::new();
    if !old.is_empty() && !old.ends_with('\n') && !content.is_empty() {
        text.push_str(if lines::is_crlf(old) { "\r\n" } else { "\n" });
        notes
            .push("the file did not end in a line break; one was added before the new text".into());
    }
    text.push_str(&content);
    Edited { text, notes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: i64, content: &str, old: &str) -> Result<String, String> {
        let call = ToolCall::new("1", "insert_content").with("line", line).with("content", content);
        insert(&call, Some(old)).map(|e| e.text)
    }

    #[test]
    fn lines_go_where_they_are_told() {
        assert_eq!(at(1, "x\n", "a\nb\n").unwrap(), "x\na\nb\n");
        assert_eq!(at(2, "x", "a\nb\n").unwrap(), "a\nx\nb\n");
        assert_eq!(at(0, "x\n", "a\nb\n").unwrap(), "a\nb\nx\n");
        assert_eq!(at(3, "x\n", "a\nb").unwrap(), "a\nb\nx\n");
        assert_eq!(at(2, "  x\n\n", "a\r\nb\r\n").unwrap(), "a\r\n  x\r\n\r\nb\r\n");
        assert!(at(9, "x", "a\n").is_err());
        assert!(at(-1, "x", "a\n").is_err());
    }
}
