//! What an edit has broken, as far as that can be told without a grammar: data files that parsed
//! before and do not any more, and conflict markers that were not there. Called by the tools that
//! change files; the change is made all the same, and the model told.

use std::path::Path;

use serde::de::IgnoredAny;

use crate::limits::PROBLEMS_MAX_BYTES;

/// Problems of `after` that `before` did not have.
pub(crate) fn introduced(path: &Path, before: Option<&str>, after: &str) -> Vec<String> {
    if after.len() > PROBLEMS_MAX_BYTES {
        return Vec::new();
    }
    let mut problems = Vec::new();
    if let Some(problem) = syntax(path, after) {
        // One that was broken before, or is written in a dialect, is not this edit's doing.
        let was_good = before.is_none_or(|before| syntax(path, before).is_none());
        let dialect = before.is_none() && is_dialect(path, after);
        problems.extend((was_good && !dialect).then_some(problem));
    }
    if let Some(line) = new_marker(before.unwrap_or_default(), after) {
        problems.push(format!("line {line} is a conflict marker"));
    }
    problems
}

fn syntax(path: &Path, text: &str) -> Option<String> {
    match path.extension()?.to_str()? {
        // An empty file is a beginning.
        "json" if !text.trim().is_empty() => serde_json::from_str::<IgnoredAny>(text)
            .err()
            .map(|e| format!("this is not valid JSON: {e}")),
        "toml" => toml::from_str::<toml::Table>(text).err().map(|e| {
            let start = e.span().map_or(0, |span| span.start.min(text.len()));
            let line = text[..text.floor_char_boundary(start)].matches('\n').count() + 1;
            format!("this is not valid TOML: {} at line {line}", e.message().replace('\n', ", "))
        }),
        _ => None,
    }
}

/// JSON with comments, as some programs' settings have it.
fn is_dialect(path: &Path, text: &str) -> bool {
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let comment = |line: &str| line.trim_start().starts_with("//") || line.contains("/*");
    path.extension().is_some_and(|e| e == "json")
        && (name.starts_with("tsconfig")
            || name.starts_with("jsconfig")
            || text.lines().any(comment))
}

/// The line of the first conflict marker, when there are more than before.
fn new_marker(before: &str, after: &str) -> Option<usize> {
    let is_marker = |line: &str| line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ");
    let had = before.lines().filter(|line| is_marker(line)).count();
    let has = after.lines().filter(|line| is_marker(line)).count();
    let first = after.lines().position(is_marker)?;
    (has > had).then_some(first + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_edit_broke_is_named() {
        let of = |path: &str, before: Option<&str>, after: &str| {
            introduced(Path::new(path), before, after).join("; ")
        };
        let broken = "{\n  \"a\": 1\n  \"b\": 2\n}\n";
        assert_eq!(
            of("x/package.json", Some("{\"a\": 1}"), broken),
            "this is not valid JSON: expected `,` or `}` at line 3 column 3"
        );
        assert!(!of("new.json", None, broken).is_empty());
        assert_eq!(of("a.json", Some("{,"), broken), "", "it was broken before");
        assert_eq!(of("a.json", Some("{}"), "[1, 2]"), "");
        assert_eq!(of("a.json", None, ""), "");
        assert_eq!(of("a.json", None, "{\n// why\n}"), "", "a dialect");
        assert_eq!(of("tsconfig.json", None, "{\"a\": 1,}"), "");
        assert_eq!(of("a.rs", None, "fn {{{"), "", "no grammar is asked");
        assert_eq!(
            of("Cargo.toml", Some("a = 1\n"), "a = 1\n[b\nc = 2\n"),
            "this is not valid TOML: unclosed table, expected `]` at line 2"
        );
        assert_eq!(of("Cargo.toml", None, "[a]\nb = \"c\"\n"), "");
        let markers = "a\n<<<<<<< ours\nb\n=======\nc\n>>>>>>> theirs\n";
        assert_eq!(of("a.rs", Some("a\n"), markers), "line 2 is a conflict marker");
        assert_eq!(of("a.rs", Some(markers), &format!("x\n{markers}")), "");
        let long = format!("{{{}", " ".repeat(PROBLEMS_MAX_BYTES));
        assert_eq!(of("a.json", Some("{}"), &long), "");
    }
}
