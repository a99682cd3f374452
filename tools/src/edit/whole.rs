//! `write_to_file`: the whole text at once, unless it was left incomplete.

use std::sync::LazyLock;

use regex::Regex;

use super::Edited;
use crate::call::{ToolCall, one_line};

/// A comment that stands for text the model did not write.
static PLACEHOLDER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?xi)^\s*
        (?:// | \# | /\* | -- | <!-- | ; | % | \{/\* | \.\.\. | … | \[ )
        [\s./*\-(\[]* (?:\.{2,}|…)? [\s(\[]*
        (?:
            (?:the\s+)? (?:rest|remainder) \s+ of \s+ (?:the\s+|your\s+|this\s+)?
                (?:\w+\s+){0,3}? (?:code|file|content|contents|function|class|method|methods|functions|implementation|component|document|text|lines|module)
                (?:\s+ (?:is|are|remains?|stays?|goes|here|unchanged|the\s+same) )*
          | (?:existing|previous|remaining|other|original|unchanged) \s+
                (?:\w+\s+){0,2}? (?:code|content|contents|functions?|methods?|implementation|lines|text|imports|tests)
                (?: \s+ (?:here|unchanged|remains?|stays?|goes|is|are|the\s+same) )*
          | (?:code|content|everything|all)\ (?:else\ )?(?:above|below|else)? \s* (?:is|are|remains?|stays?) \s+ (?:unchanged|the\s+same)
          | (?:same|unchanged) \s+ as \s+ (?:before|above|the\s+original)
        )
        [\s./*\-…)\]]* (?:\*/\}? | -->)? \s*$",
    )
    .unwrap_or_else(|e| unreachable!("the pattern is constant: {e}"))
});

pub(super) fn write(call: &ToolCall, old: Option<&str>) -> Result<Edited, String> {
    let content = call.text("content");
    if let Some(line) = placeholder(content, old) {
        return Err(format!(
            "the content is incomplete: the line '{}' stands for text that is not there. Write \
             the whole file, or change only a part of it with an editing tool. Nothing was written",
            one_line(line, 120)
        ));
    }
    let lines = content.lines().count();
    if let Some(promised) = call.number("line_count")
        && promised > lines as i64 + 2
        && promised as f64 > lines as f64 * 1.1
    {
        return Err(format!(
            "the content has {lines} lines where line_count says {promised}: it seems to be cut \
             off. Nothing was written"
        ));
    }
    let mut notes = Vec::new();
    let mut text = content.to_owned();
    if let Some(old) = old {
        // A file keeps its line endings; a model hardly ever means to change them.
        if super::lines::is_crlf(old) && !content.contains('\r') && content.contains('\n') {
            text = content.replace('\n', "\r\n");
            notes.push("kept the file's CRLF line endings".into());
        }
    }
    Ok(Edited { text, notes })
}

/// The first line of `content` that is a placeholder and was not in the file before.
fn placeholder<'a>(content: &'a str, old: Option<&str>) -> Option<&'a str> {
    content.lines().find(|line| {
        line.len() < 200
            && PLACEHOLDER.is_match(line)
            && !old.is_some_and(|old| old.lines().any(|l| l.trim() == line.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(content: &str, old: Option<&str>) -> Result<String, String> {
        let call = ToolCall::new("1", "write_to_file").with("content", content);
        write(&call, old).map(|e| e.text)
    }

    #[test]
    fn placeholders_are_refused() {
        for line in [
            "// rest of code unchanged",
            "// ... rest of the code remains the same",
            "    # ... existing code ...",
            "/* remaining methods unchanged */",
            "<!-- rest of the file -->",
            "// ... (rest of the implementation)",
            "{/* existing code */}",
            "-- previous content here",
            "# ... other functions ...",
        ] {
            assert!(run(&format!("fn a() {{}}\n{line}\n"), None).is_err(), "{line}");
        }
    }

    #[test]
    fn ordinary_comments_pass() {
        for line in [
            "// the rest of the buffer is zeroed below",
            "# existing users keep their role",
            "// previous code used a mutex; see #12",
            "let rest = \"rest of code\";",
            "# Remaining work",
            "... and the rest is history",
            "// Returns the rest of the line.",
        ] {
            assert!(run(&format!("{line}\n"), None).is_ok(), "{line}");
        }
        let old = "// ... existing code ...\n";
        assert!(run(old, Some(old)).is_ok(), "a line that was there is no placeholder");
    }

    #[test]
    fn a_short_text_with_a_large_line_count_is_cut() {
        let call =
            ToolCall::new("1", "write_to_file").with("content", "a\nb\n").with("line_count", 40);
        assert!(write(&call, None).is_err());
        let call =
            ToolCall::new("1", "write_to_file").with("content", "a\nb\n").with("line_count", 3);
        assert!(write(&call, None).is_ok());
    }

    #[test]
    fn line_endings_stay() {
        assert_eq!(run("a\nb\n", Some("x\r\ny\r\n")).unwrap(), "a\r\nb\r\n");
        assert_eq!(run("a\nb", Some("x\ny\r\nz\n")).unwrap(), "a\nb");
        assert_eq!(run("  a\n\n\n", None).unwrap(), "  a\n\n\n");
    }
}
