//! Prose and configuration: cut at headings and at tables.

use super::Out;
use crate::limits::{CHUNK_BYTES, PART_BYTES};

/// One chunk a section; its breadcrumb is the headings above it.
pub(super) fn markdown(out: &mut Out<'_>) {
    let text = out.text;
    // (level, title, start)
    let mut headings: Vec<(usize, &str, usize)> = Vec::new();
    let mut fenced = false;
    let starts = out.line_starts.clone();
    for (n, &start) in starts.iter().enumerate() {
        let line = line_at(text, &starts, n);
        let trimmed = line.trim_start();
        if trimmed.starts_with("```") || trimmed.starts_with("~~~") {
            fenced = !fenced;
        } else if !fenced {
            let hashes = line.bytes().take_while(|b| *b == b'#').count();
            if (1..=6).contains(&hashes) && line.as_bytes().get(hashes) == Some(&b' ') {
                headings.push((hashes, line[hashes..].trim().trim_end_matches('#').trim(), start));
            } else if n > 0 && is_underline(line) {
                let title = line_at(text, &starts, n - 1).trim();
                let fits = line.trim_end().chars().count() + 2 >= title.chars().count();
                if !title.is_empty() && fits && title.chars().any(char::is_alphanumeric) {
                    let level = match line.as_bytes()[0] {
                        b'=' => 1,
                        b'-' => 2,
                        _ => 3,
                    };
                    headings.push((level, title, starts[n - 1]));
                }
            }
        }
    }
    let first = headings.first().map_or(text.len(), |h| h.2);
    out.run(0, first, "", "section", "", &[]);
    let mut open: Vec<(usize, &str)> = Vec::new();
    for (n, &(level, title, start)) in headings.iter().enumerate() {
        while open.last().is_some_and(|(l, _)| *l >= level) {
            open.pop();
        }
        let crumb = open.iter().map(|(_, t)| *t).collect::<Vec<_>>().join(" > ");
        open.push((level, title));
        let end = headings.get(n + 1).map_or(text.len(), |h| h.2);
        if end - start <= CHUNK_BYTES {
            out.push(start, end, title, "section", &crumb);
        } else {
            out.run(start, end, title, "section", &crumb, &[]);
        }
    }
}

fn is_underline(line: &str) -> bool {
    let line = line.trim_end();
    line.len() >= 3 && line.bytes().all(|b| b == b'=')
        || line.len() >= 3
            && line.bytes().all(|b| b == b'-' || b == b'~')
            && line.bytes().all(|b| b == line.as_bytes()[0])
}

/// Chunks of whole tables (`[name]`) or top-level keys (`name:`); small neighbours share one.
pub(super) fn config(out: &mut Out<'_>) {
    let text = out.text;
    let starts = out.line_starts.clone();
    let mut cuts: Vec<(usize, &str)> = Vec::new();
    for (n, &start) in starts.iter().enumerate() {
        let line = line_at(text, &starts, n).trim_end();
        let table = line.strip_prefix('[').map(|l| l.trim_matches(['[', ']', ' ']));
        let key = || {
            let key = line.split_once(':').map(|(k, _)| k)?;
            key.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"')
                .then(|| key.trim_matches('"'))
        };
        if let Some(name) = table.or_else(key) {
            cuts.push((start, name));
        }
    }
    let mut from = 0;
    let mut symbol = "";
    for (n, &(start, name)) in cuts.iter().enumerate() {
        if symbol.is_empty() {
            symbol = name;
        }
        let end = cuts.get(n + 1).map_or(text.len(), |c| c.0);
        if end - from > PART_BYTES && start > from {
            out.run(from, start, symbol, "table", "", &[]);
            from = start;
            symbol = name;
        }
    }
    out.run(from, text.len(), symbol, "table", "", &[]);
}

fn line_at<'t>(text: &'t str, starts: &[usize], n: usize) -> &'t str {
    let end = starts.get(n + 1).copied().unwrap_or(text.len());
    text[starts[n]..end].trim_end_matches(['\n', '\r'])
}
