//! `search_and_replace`, `edit`, `search_replace` and `edit_file`.

use regex::{NoExpand, RegexBuilder};

use super::{Edited, lines};
use crate::call::{ToolCall, one_line};
use crate::limits::{REGEX_MAX_BYTES, REGEX_SIZE_LIMIT};

/// `search_and_replace`.
pub(super) fn search_and_replace(call: &ToolCall, old: &str) -> Result<Edited, String> {
    let search = call.text("search");
    if search.is_empty() {
        return Err("search is empty".into());
    }
    let use_regex = call.flag("use_regex");
    if use_regex && search.len() > REGEX_MAX_BYTES {
        return Err(format!("the regex is {} bytes long; at most {REGEX_MAX_BYTES}", search.len()));
    }
    let pattern = if use_regex {
        // A line break right before the close tag is the markup's, as after the open tag.
        search.strip_suffix('\n').unwrap_or(search).to_owned()
    } else {
        regex::escape(&lines::adapt(search, old))
    };
    let regex = RegexBuilder::new(&pattern)
        .case_insensitive(call.flag("ignore_case"))
        .multi_line(true)
        .crlf(lines::is_crlf(old))
        .size_limit(REGEX_SIZE_LIMIT)
        .build()
        .map_err(|e| format!("the regex is not valid (Rust syntax): {e}"))?;
    let from = call.number("start_line").unwrap_or(1).max(1) as usize;
    let to = call.number("end_line").map_or(usize::MAX, |n| n.max(0) as usize);
    if to < from {
        return Err(format!("lines {from} to {to} are not a range"));
    }
    let (start, end) = if old.is_empty() {
        (0, 0)
    } else {
        lines::span(old, from, to).ok_or_else(|| {
            format!("line {from} is past the end: the file has {} lines", old.lines().count())
        })?
    };
    let part = &old[start..end];
    let count = regex.find_iter(part).count();
    if count == 0 {
        return Err(format!("'{}' was not found; nothing was changed", one_line(search, 80)));
    }
    let replace = lines::adapt(call.text("replace"), old);
    let new = if use_regex {
        regex.replace_all(part, replace.as_str())
    } else {
        // Literal means literal: `$1` and `$&` are text.
        regex.replace_all(part, NoExpand(&replace))
    };
    let mut edited = Edited::new(format!("{}{new}{}", &old[..start], &old[end..]));
    edited.notes.push(replaced(count));
    Ok(edited)
}

/// `edit` and `search_replace`: exact, and unique unless `replace_all`.
pub(super) fn exact(call: &ToolCall, old: &str) -> Result<Edited, String> {
    let (search, replace) = strings(call)?;
    if search.is_empty() {
        return Err("old_string is empty; write_to_file creates files".into());
    }
    let (search, replace) = (lines::adapt(search, old), lines::adapt(replace, old));
    let count = old.matches(&search).count();
    match count {
        0 => Err(missing(&search, old)),
        1 => {
            let mut edited = Edited::new(old.replacen(&search, &replace, 1));
            edited.notes.push(replaced(1));
            Ok(edited)
        }
        n if call.flag("replace_all") => {
            let mut edited = Edited::new(old.replace(&search, &replace));
            edited.notes.push(replaced(n));
            Ok(edited)
        }
        n => Err(format!(
            "old_string occurs {n} times (lines {}); include more of the text around the one you \
             mean. Nothing was changed",
            line_list(old, &search)
        )),
    }
}

/// Finds the byte ranges of a text that a search text stands for.
type Find = fn(&str, &str) -> Vec<(usize, usize)>;

/// `edit_file`: exact, then tolerant of white space, then by tokens.
pub(super) fn tolerant(call: &ToolCall, old: Option<&str>) -> Result<Edited, String> {
    let (search, replace) = (call.text("old_string"), call.text("new_string"));
    let Some(old) = old else {
        if search.is_empty() {
            return Ok(Edited::new(replace.to_owned()));
        }
        return Err("the file does not exist; an empty old_string creates it".into());
    };
    if search.is_empty() {
        return Err("the file exists already, and old_string is empty; nothing was changed".into());
    }
    strings(call)?;
    let expected = call.number("expected_replacements").unwrap_or(1);
    let expected = usize::try_from(expected)
        .ok()
        .filter(|n| *n > 0)
        .ok_or("expected_replacements must be 1 or more")?;
    let (search, replace) = (lines::adapt(search, old), lines::adapt(replace, old));
    let ways: [(&str, Find); 3] =
        [("exact", find_exact), ("ignoring white space", find_spaced), ("by tokens", find_tokens)];
    for (how, find) in ways {
        let found = find(old, &search);
        if found.is_empty() {
            continue;
        }
        if found.len() != expected {
            return Err(format!(
                "old_string matches {} times ({how}) where {expected} is expected; nothing was \
                 changed",
                found.len()
            ));
        }
        // A token match begins and ends at a token, so the replacement does too.
        let replace = if how == "by tokens" { replace.trim() } else { replace.as_str() };
        let mut text = String::with_capacity(old.len() + replace.len());
        let mut at = 0;
        for (from, to) in &found {
            text.push_str(&old[at..*from]);
            text.push_str(replace);
            at = *to;
        }
        text.push_str(&old[at..]);
        let mut edited = Edited::new(text);
        edited.notes.push(replaced(found.len()));
        if how != "exact" {
            edited.notes.push(format!("matched {how}; check the result"));
        }
        return Ok(edited);
    }
    Err(missing(&search, old))
}

fn strings(call: &ToolCall) -> Result<(&str, &str), String> {
    let (search, replace) = (call.text("old_string"), call.text("new_string"));
    if search == replace && !search.is_empty() {
        return Err("old_string and new_string are the same; nothing was changed".into());
    }
    Ok((search, replace))
}

fn replaced(count: usize) -> String {
    if count == 1 { "1 replacement".into() } else { format!("{count} replacements") }
}

fn missing(search: &str, old: &str) -> String {
    let first = search.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or_default();
    let near = old.lines().position(|l| !first.is_empty() && l.trim() == first);
    match near {
        Some(at) => format!(
            "old_string was not found; its first line is at line {} of the file, but what follows \
             differs. Read the file again. Nothing was changed",
            at + 1
        ),
        None => "old_string was not found; read the file again. Nothing was changed".into(),
    }
}

fn line_list(text: &str, search: &str) -> String {
    let at: Vec<String> = text
        .match_indices(search)
        .take(8)
        .map(|(i, _)| (text[..i].matches('\n').count() + 1).to_string())
        .collect();
    at.join(", ")
}

fn find_exact(text: &str, search: &str) -> Vec<(usize, usize)> {
    text.match_indices(search).map(|(at, found)| (at, at + found.len())).collect()
}

/// Whole lines that are equal when runs of white space count as one blank.
fn find_spaced(text: &str, search: &str) -> Vec<(usize, usize)> {
    let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let wanted: Vec<String> = search.lines().map(squeeze).collect();
    if wanted.iter().all(String::is_empty) {
        return Vec::new();
    }
    let mut at = 0;
    let lines: Vec<(usize, usize, String)> = text
        .split_inclusive('\n')
        .map(|line| {
            let start = at;
            at += line.len();
            // The match ends before the line break unless the search has one there.
            let end = if search.ends_with('\n') {
                at
            } else {
                start + line.trim_end_matches(['\r', '\n']).len()
            };
            (start, end, squeeze(line))
        })
        .collect();
    let mut found = Vec::new();
    let mut i = 0;
    while i + wanted.len() <= lines.len() {
        if wanted.iter().zip(&lines[i..]).all(|(w, (_, _, l))| w == l) {
            found.push((lines[i].0, lines[i + wanted.len() - 1].1));
            i += wanted.len();
        } else {
            i += 1;
        }
    }
    found
}

/// Runs of tokens that are equal whatever the white space between them.
fn find_tokens(text: &str, search: &str) -> Vec<(usize, usize)> {
    let wanted: Vec<&str> = tokens(search).into_iter().map(|(_, t)| t).collect();
    // A few tokens would match by chance.
    if wanted.len() < 3 {
        return Vec::new();
    }
    let have = tokens(text);
    let mut found = Vec::new();
    let mut i = 0;
    while i + wanted.len() <= have.len() {
        if wanted.iter().zip(&have[i..]).all(|(w, (_, t))| w == t) {
            let (last, token) = have[i + wanted.len() - 1];
            found.push((have[i].0, last + token.len()));
            i += wanted.len();
        } else {
            i += 1;
        }
    }
    found
}

/// Words and single other characters, with their places.
fn tokens(text: &str) -> Vec<(usize, &str)> {
    let mut list = Vec::new();
    let mut word = None;
    for (at, c) in text.char_indices() {
        if c.is_alphanumeric() || c == '_' {
            word.get_or_insert(at);
            continue;
        }
        if let Some(start) = word.take() {
            list.push((start, &text[start..at]));
        }
        if !c.is_whitespace() {
            list.push((at, &text[at..at + c.len_utf8()]));
        }
    }
    if let Some(start) = word {
        list.push((start, &text[start..]));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sr(search: &str, replace: &str, old: &str) -> ToolCall {
        let _ = old;
        ToolCall::new("1", "search_and_replace").with("search", search).with("replace", replace)
    }

    #[test]
    fn a_literal_replacement_is_literal() {
        let old = "price $1 and a.b\n";
        let call = sr("a.b", "$1 $& ${x} \\1", old);
        assert_eq!(search_and_replace(&call, old).unwrap().text, "price $1 and $1 $& ${x} \\1\n");
        assert!(search_and_replace(&sr("aXb", "", old), "a.b").is_err());
    }

    #[test]
    fn a_regex_expands_groups_and_keeps_to_its_lines() {
        let old = "foo(1)\nfoo(2)\nfoo(3)\n";
        let call = sr("foo\\((\\d)\\)$", "bar[$1]", old)
            .with("use_regex", true)
            .with("start_line", 2)
            .with("end_line", 2);
        assert_eq!(search_and_replace(&call, old).unwrap().text, "foo(1)\nbar[2]\nfoo(3)\n");
        let call = sr("FOO", "x", old).with("ignore_case", true);
        assert_eq!(search_and_replace(&call, old).unwrap().notes, ["3 replacements"]);
        assert!(search_and_replace(&sr("(", "x", old).with("use_regex", true), old).is_err());
        assert!(search_and_replace(&sr("x", "y", old).with("start_line", 9), old).is_err());
    }

    fn ed(old_string: &str, new_string: &str) -> ToolCall {
        ToolCall::new("1", "edit").with("old_string", old_string).with("new_string", new_string)
    }

    #[test]
    fn an_edit_is_unique() {
        assert_eq!(exact(&ed("b", "X"), "a b c").unwrap().text, "a X c");
        let error = exact(&ed("a", "X"), "a\nb\na\n").unwrap_err();
        assert!(error.contains("2 times (lines 1, 3)"), "{error}");
        assert_eq!(exact(&ed("a", "X").with("replace_all", true), "a b a").unwrap().text, "X b X");
        assert!(exact(&ed("z", "X"), "a").is_err());
        assert!(exact(&ed("a", "a"), "a").is_err());
        assert_eq!(exact(&ed("a\nb", "x\ny"), "a\r\nb\r\n").unwrap().text, "x\r\ny\r\n");
        assert_eq!(exact(&ed("  a\n", "\ta\n"), "  a\n  b\n").unwrap().text, "\ta\n  b\n");
    }

    #[test]
    fn a_tolerant_edit_says_how_it_matched() {
        let old = "fn f() {\n    let x  =  1;\n\tcall( x );\n}\n";
        let edited = tolerant(&ed("let x = 1;", "let x = 2;"), Some(old)).unwrap();
        assert_eq!(edited.text, "fn f() {\nlet x = 2;\n\tcall( x );\n}\n");
        assert!(edited.notes[1].contains("white space"), "{:?}", edited.notes);
        let edited = tolerant(&ed("call(x);", "call(y);"), Some(old)).unwrap();
        assert_eq!(edited.text, "fn f() {\n    let x  =  1;\n\tcall(y);\n}\n");
        assert!(edited.notes[1].contains("tokens"), "{:?}", edited.notes);
        assert!(tolerant(&ed("nothing here", "x"), Some(old)).is_err());
        assert_eq!(tolerant(&ed("", "new"), None).unwrap().text, "new");
        assert!(tolerant(&ed("", "new"), Some(old)).is_err());
        assert!(tolerant(&ed("a", "x").with("expected_replacements", 3), Some("a a")).is_err());
        assert_eq!(
            tolerant(&ed("a", "x").with("expected_replacements", 2), Some("a a")).unwrap().text,
            "x x"
        );
    }
}
