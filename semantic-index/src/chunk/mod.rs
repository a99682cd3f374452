//! Cuts a file into chunks: what is embedded, indexed and shown as a hit.
//!
//! Code is cut by its syntax tree into whole definitions with their doc comments
//! (`tree`), prose by headings, configuration by tables, everything else by lines
//! (`text`). Every line that holds a letter or a digit lands in exactly one chunk. Pure:
//! text in, ranges out; called by the build and by the evaluation.

mod names;
pub mod outline;
mod text;
mod tree;

use crate::lang::{Format, format_of};
use crate::limits::{MAX_CHUNKS_PER_FILE, MAX_CRUMB_BYTES, MAX_SYMBOL_BYTES, PART_BYTES};

/// One piece of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Byte range in the file's text.
    pub start: usize,
    pub end: usize,
    /// One-based, inclusive.
    pub start_line: u32,
    pub end_line: u32,
    /// Names defined here, separated by `, `; the first is what the chunk is about.
    pub symbol: String,
    /// `function`, `class`, `section`, `code`, `text`, …
    pub kind: &'static str,
    /// Enclosing definitions or headings, outermost first, joined by ` > `.
    pub crumb: String,
}

/// A reusable parser: one per thread.
pub struct Chunker {
    parser: tree_sitter::Parser,
}

impl Default for Chunker {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Chunker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chunker")
    }
}

impl Chunker {
    pub fn new() -> Self {
        Self { parser: tree_sitter::Parser::new() }
    }

    /// The chunks of one file, in order. `path` only decides the language.
    pub fn chunk(&mut self, path: &str, text: &str) -> Vec<Chunk> {
        let mut out = Out::new(text);
        match format_of(path) {
            Format::Code(lang) => {
                if !tree::cut(&mut self.parser, lang, &mut out) {
                    out.chunks.clear();
                    out.run(0, text.len(), "", "code", "", &[]);
                }
            }
            Format::Markdown => text::markdown(&mut out),
            Format::Config => text::config(&mut out),
            Format::Text => out.run(0, text.len(), "", "text", "", &[]),
        }
        out.chunks.truncate(MAX_CHUNKS_PER_FILE);
        out.chunks
    }
}

/// A name defined inside a run of leftovers.
struct Named {
    at: usize,
    name: String,
    label: &'static str,
}

/// The file being cut and what has been cut so far.
struct Out<'t> {
    text: &'t str,
    line_starts: Vec<usize>,
    chunks: Vec<Chunk>,
}

impl<'t> Out<'t> {
    fn new(text: &'t str) -> Self {
        let mut line_starts = vec![0];
        line_starts.extend(memchr_lines(text));
        Self { text, line_starts, chunks: Vec::new() }
    }

    fn full(&self) -> bool {
        self.chunks.len() >= MAX_CHUNKS_PER_FILE
    }

    /// Zero-based line of a byte.
    fn line_of(&self, at: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= at).saturating_sub(1)
    }

    /// `at` moved back to the start of its line when only blanks lie between.
    fn line_start(&self, at: usize) -> usize {
        let start = self.line_starts[self.line_of(at)];
        if self.text[start..at].bytes().all(|b| b == b' ' || b == b'\t') { start } else { at }
    }

    /// Adds one chunk over the range, less surrounding blank lines; nothing when it holds no word.
    fn push(&mut self, start: usize, end: usize, symbol: &str, kind: &'static str, crumb: &str) {
        let body = &self.text[start..end];
        if self.full() || !body.chars().any(char::is_alphanumeric) {
            return;
        }
        let end = start + body.trim_end().len();
        let start = self.line_start(start + (body.len() - body.trim_start().len())).max(start);
        self.chunks.push(Chunk {
            start,
            end,
            start_line: self.line_of(start) as u32 + 1,
            end_line: self.line_of(end.saturating_sub(1)) as u32 + 1,
            symbol: cut(symbol, MAX_SYMBOL_BYTES).to_string(),
            kind,
            crumb: cut(crumb, MAX_CRUMB_BYTES).to_string(),
        });
    }

    /// Cuts a range into parts of at most `PART_BYTES`, at the line of least indentation in
    /// the second half of each part: the boundary of the outermost statement there.
    fn run(
        &mut self,
        start: usize,
        end: usize,
        symbol: &str,
        kind: &'static str,
        crumb: &str,
        named: &[Named],
    ) {
        let mut from = start;
        while from < end && !self.full() {
            let to = self.part_end(from, end);
            let mut names = String::from(symbol);
            let mut label = kind;
            if symbol.is_empty() {
                for item in named.iter().filter(|n| (from..to).contains(&n.at)) {
                    if names.is_empty() {
                        label = item.label;
                    } else {
                        names.push_str(", ");
                    }
                    names.push_str(&item.name);
                    if names.len() > MAX_SYMBOL_BYTES {
                        break;
                    }
                }
            }
            self.push(from, to, &names, label, crumb);
            from = to;
        }
    }

    fn part_end(&self, from: usize, end: usize) -> usize {
        if end - from <= PART_BYTES + PART_BYTES / 3 {
            return end;
        }
        let first = self.line_of(from) + 1;
        let mut best: Option<(usize, usize)> = None;
        for &start in &self.line_starts[first..] {
            if start >= end || start - from > PART_BYTES {
                break;
            }
            if start - from < PART_BYTES / 2 {
                continue;
            }
            let indent =
                self.text[start..end].bytes().take_while(|b| *b == b' ' || *b == b'\t').count();
            let closes = self.text[start + indent..].starts_with(['}', ')', ']']);
            let cost = if self.text[start + indent..].starts_with('\n') {
                0
            } else {
                1 + indent * 2 + usize::from(closes)
            };
            if best.is_none_or(|(c, _)| cost <= c) {
                best = Some((cost, start));
            }
        }
        if let Some((_, at)) = best {
            return at;
        }
        // One very long line: the next line's start, or a cut inside it.
        let next = self.line_starts[first..]
            .iter()
            .copied()
            .find(|s| s - from >= PART_BYTES / 2)
            .map_or(end, |next| next.min(end));
        if next - from <= 2 * PART_BYTES {
            next
        } else {
            ceil_char(self.text, from + PART_BYTES).min(end)
        }
    }
}

fn memchr_lines(text: &str) -> impl Iterator<Item = usize> + '_ {
    text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1)
}

/// The longest prefix of at most `max` bytes.
pub fn cut(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn ceil_char(text: &str, mut at: usize) -> usize {
    while at < text.len() && !text.is_char_boundary(at) {
        at += 1;
    }
    at.min(text.len())
}

#[cfg(test)]
mod tests;
