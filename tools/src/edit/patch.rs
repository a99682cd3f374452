//! `apply_patch`: several files in one patch. This reads the patch and applies one
//! file's part to its text; the helper sees to it that all files change or none.

use super::Edited;
use super::lines::{self, Line};
use crate::call::one_line;

/// Files in one patch.
const MAX_FILES: usize = 100;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Add { text: String },
    Delete,
    Update { to: Option<String>, hunks: Vec<Hunk> },
}

#[derive(Debug, PartialEq, Eq, Default)]
pub(crate) struct Hunk {
    /// Lines to find first, each after the other: what follows `@@`.
    anchors: Vec<String>,
    old: Vec<String>,
    new: Vec<String>,
    at_end: bool,
}

/// The files of a patch in order, each with its change.
pub(crate) fn parse(patch: &str) -> Result<Vec<(String, Change)>, String> {
    let bad = |number: usize, what: &str| {
        format!("line {number} of the patch: {what}. Nothing was changed")
    };
    let mut lines = patch
        .lines()
        .enumerate()
        .map(|(i, l)| (i + 1, l))
        .skip_while(|(_, l)| l.trim().is_empty())
        .peekable();
    match lines.next() {
        Some((_, line)) if line.trim() == "*** Begin Patch" => {}
        _ => return Err("the patch must begin with '*** Begin Patch'. Nothing was changed".into()),
    }
    let mut changes: Vec<(String, Change)> = Vec::new();
    let mut ended = false;
    for (number, line) in lines {
        let head = line.trim_end();
        if head == "*** End Patch" {
            ended = true;
            break;
        }
        if let Some(path) = head.strip_prefix("*** Add File: ") {
            changes.push((path.trim().into(), Change::Add { text: String::new() }));
            continue;
        }
        if let Some(path) = head.strip_prefix("*** Delete File: ") {
            changes.push((path.trim().into(), Change::Delete));
            continue;
        }
        if let Some(path) = head.strip_prefix("*** Update File: ") {
            changes.push((path.trim().into(), Change::Update { to: None, hunks: Vec::new() }));
            continue;
        }
        match changes.last_mut().map(|(_, change)| change) {
            None => {
                return Err(bad(
                    number,
                    "expected '*** Add File: ', '*** Update File: ' or '*** Delete File: '",
                ));
            }
            Some(Change::Delete) if head.is_empty() => {}
            Some(Change::Delete) => return Err(bad(number, "a deleted file has no lines")),
            Some(Change::Add { text }) => match line.strip_prefix('+') {
                Some(line) => {
                    text.push_str(line);
                    text.push('\n');
                }
                None if head.is_empty() => {}
                None => return Err(bad(number, "each line of an added file begins with '+'")),
            },
            Some(Change::Update { to, hunks }) => {
                if let Some(path) = head.strip_prefix("*** Move to: ") {
                    *to = Some(path.trim().into());
                    continue;
                }
                if head == "*** End of File" {
                    if let Some(hunk) = hunks.last_mut() {
                        hunk.at_end = true;
                    }
                    continue;
                }
                if head == "@@" || head.starts_with("@@ ") {
                    let anchor = head[2..].trim();
                    // A run of @@ lines narrows one place down.
                    match hunks.last_mut().filter(|h| h.old.is_empty() && h.new.is_empty()) {
                        Some(hunk) => {
                            hunk.anchors.extend((!anchor.is_empty()).then(|| anchor.to_owned()));
                        }
                        None => {
                            let mut hunk = Hunk::default();
                            hunk.anchors.extend((!anchor.is_empty()).then(|| anchor.to_owned()));
                            hunks.push(hunk);
                        }
                    }
                    continue;
                }
                if hunks.is_empty() {
                    hunks.push(Hunk::default());
                }
                let Some(hunk) = hunks.last_mut() else { continue };
                match line.chars().next() {
                    None => {
                        hunk.old.push(String::new());
                        hunk.new.push(String::new());
                    }
                    Some(' ') => {
                        hunk.old.push(line[1..].into());
                        hunk.new.push(line[1..].into());
                    }
                    Some('-') => hunk.old.push(line[1..].into()),
                    Some('+') => hunk.new.push(line[1..].into()),
                    Some(_) => {
                        return Err(bad(number, "a line of a hunk begins with ' ', '-' or '+'"));
                    }
                }
            }
        }
    }
    if !ended {
        return Err("the patch does not end with '*** End Patch': it seems to be cut off. Nothing was changed".into());
    }
    if changes.is_empty() || changes.len() > MAX_FILES {
        return Err(format!(
            "the patch names {} files; 1 to {MAX_FILES} are possible",
            changes.len()
        ));
    }
    for (path, change) in &changes {
        if path.is_empty() {
            return Err("the patch names an empty path. Nothing was changed".into());
        }
        if let Change::Update { to: None, hunks } = change
            && hunks.iter().all(|h| h.old.is_empty() && h.new.is_empty())
        {
            return Err(format!(
                "'{path}' is to be updated, but no change is given. Nothing was changed"
            ));
        }
    }
    Ok(changes)
}

/// Applies the hunks of one file, in order.
pub(crate) fn update(path: &str, old: &str, hunks: &[Hunk]) -> Result<Edited, String> {
    let ending = if lines::is_crlf(old) { "\r\n" } else { "\n" };
    let file = lines::split(old);
    let mut out: Vec<Line<'_>> = Vec::new();
    let mut at = 0;
    let mut notes = Vec::new();
    for (i, hunk) in hunks.iter().enumerate() {
        let number = i + 1;
        let mut from = at;
        for anchor in &hunk.anchors {
            // The line after the anchor is where the hunk may begin; the anchor itself may
            // also be its first line.
            let found = file[from..].iter().position(|l| l.text.trim() == anchor.trim());
            let found =
                found.or_else(|| file[from..].iter().position(|l| l.text.contains(anchor.trim())));
            match found {
                Some(offset) => from += offset,
                None => {
                    return Err(format!(
                        "'{path}', hunk {number}: the line '{}' after @@ was not found. Nothing was changed",
                        one_line(anchor, 80)
                    ));
                }
            }
        }
        let (place, used, loose) = find(&file, from, hunk, i == 0 && hunk.anchors.is_empty())
            .ok_or_else(|| {
                let first = hunk.old.first().map_or("", String::as_str);
                format!("'{path}', hunk {number}: its lines ('{}', …) were not found after line {from}. Read the file again. Nothing was changed", one_line(first, 60))
            })?;
        if loose {
            notes.push(format!("'{path}', hunk {number}: matched with differences in white space"));
        }
        out.extend_from_slice(&file[at..place]);
        let end = place + used;
        if place == file.len()
            && let Some(line) = out.last_mut().filter(|l| l.end.is_empty())
        {
            line.end = ending;
        }
        let last = if end == file.len() && used > 0 { file[end - 1].end } else { ending };
        // Context lines are kept as the file has them.
        let mut kept = hunk.old[..used].iter().zip(&file[place..end]);
        let count = hunk.new.len();
        for (j, text) in hunk.new.iter().enumerate() {
            let end = if j + 1 == count { last } else { ending };
            let same = kept.clone().position(|(old, _)| old == text);
            match same.and_then(|n| kept.nth(n)) {
                Some((_, line)) if loose => out.push(Line { text: line.text, end }),
                _ => out.push(Line { text, end }),
            }
        }
        at = end;
    }
    out.extend_from_slice(&file[at..]);
    Ok(Edited { text: lines::join(&out), notes })
}

/// Where a hunk's old lines are, how many of them there are, and whether white space
/// differs.
fn find(file: &[Line<'_>], from: usize, hunk: &Hunk, first: bool) -> Option<(usize, usize, bool)> {
    let n = hunk.old.len();
    if n == 0 {
        // Only additions: after the anchor, else at the end.
        let place = if hunk.anchors.is_empty() || hunk.at_end {
            file.len()
        } else {
            (from + 1).min(file.len())
        };
        return Some((place, 0, false));
    }
    let ways: [fn(&str) -> &str; 3] = [|l| l, str::trim_end, str::trim];
    // A blank line at the very end of a hunk is often the model's, not the file's.
    let sizes =
        if n > 1 && hunk.old[n - 1].is_empty() && hunk.new.last().is_some_and(String::is_empty) {
            vec![n, n - 1]
        } else {
            vec![n]
        };
    for size in sizes {
        for (i, way) in ways.iter().enumerate() {
            let last = file.len().checked_sub(size);
            let fits = |at: &usize| {
                hunk.old[..size].iter().zip(&file[*at..]).all(|(o, l)| way(o) == way(l.text))
            };
            let found = match last {
                None => None,
                Some(last) if hunk.at_end => {
                    Some(last).filter(fits).or_else(|| (from..=last).find(fits))
                }
                Some(last) => (from..=last).find(fits),
            };
            let _ = first;
            if let Some(at) = found {
                return Some((at, size, i > 0));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(body: &str, old: &str) -> Result<String, String> {
        let changes = parse(&format!("*** Begin Patch\n*** Update File: f\n{body}*** End Patch"))?;
        let Change::Update { hunks, .. } = &changes[0].1 else { panic!("an update") };
        update("f", old, hunks).map(|e| e.text)
    }

    #[test]
    fn hunks_apply() {
        assert_eq!(one("@@\n a\n-b\n+B\n c\n", "a\nb\nc\n").unwrap(), "a\nB\nc\n");
        let old = "fn a() {\n    x\n}\nfn b() {\n    x\n}\n";
        assert_eq!(
            one("@@ fn b() {\n-    x\n+    y\n", old).unwrap(),
            "fn a() {\n    x\n}\nfn b() {\n    y\n}\n"
        );
        assert_eq!(one("@@\n-a\n+1\n@@\n-a\n+2\n", "a\na\na\n").unwrap(), "1\n2\na\n");
        assert_eq!(one("@@\n-a\n+1\n*** End of File\n", "a\nb\na\n").unwrap(), "a\nb\n1\n");
        assert_eq!(one("@@\n+end\n", "a").unwrap(), "a\nend\n");
        assert_eq!(one("@@\n-b\n+B\n", "a\r\nb\r\n").unwrap(), "a\r\nB\r\n");
        assert_eq!(one("@@\n-c\n+C\n", "a\nc").unwrap(), "a\nC");
    }

    #[test]
    fn context_keeps_the_files_white_space() {
        assert_eq!(one("@@\n if x:\n-  y\n+  z\n", "\tif x:\n\t  y\n").unwrap(), "\tif x:\n  z\n");
    }

    #[test]
    fn every_kind_of_file_change_is_read() {
        let patch = "*** Begin Patch\n*** Add File: n\n+one\n+\n*** Delete File: d\n*** Update File: u\n*** Move to: v\n@@\n-a\n+b\n*** End Patch\n";
        let changes = parse(patch).unwrap();
        assert_eq!(changes[0], ("n".into(), Change::Add { text: "one\n\n".into() }));
        assert_eq!(changes[1], ("d".into(), Change::Delete));
        assert!(
            matches!(&changes[2].1, Change::Update { to: Some(to), hunks } if to == "v" && hunks.len() == 1)
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for bad in [
            "",
            "*** Begin Patch\n*** End Patch",
            "*** Begin Patch\n*** Update File: f\n@@\n-a\n+b\n",
            "*** Begin Patch\nx\n*** End Patch",
            "*** Begin Patch\n*** Add File: f\nx\n*** End Patch",
            "*** Begin Patch\n*** Update File: f\n*** End Patch",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(one("@@\n-zz\n+b\n", "a\n").unwrap_err().contains("hunk 1"));
        assert!(one("@@ nowhere\n-a\n+b\n", "a\n").is_err());
    }
}
