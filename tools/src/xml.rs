//! Reads tool calls in XML form out of a model's text as it streams.
//!
//! The result does not depend on how the stream was split. Three rules keep content
//! apart from markup:
//!
//! - A tag opens a call only when it names an offered tool and one of that tool's
//!   parameters, or its own close tag, follows it. A tool's name in prose is prose.
//! - A call ends at its close tag that follows a parameter's close tag and matches: a
//!   whole call quoted inside a parameter is content.
//! - Inside a call, a parameter ends at the close tag that matches it and after which
//!   the rest of the call makes sense. Nothing is decoded: entities and CDATA are
//!   content. [`Kind::Code`](crate::spec::Kind) parameters keep every byte but the line
//!   break right after their open tag, which is markup; others are trimmed.
//!
//! A stream that ends inside a call gives an error, never a call.

use serde_json::Value;

use crate::call::{Invalid, ToolCall};
use crate::limits::MAX_CALL_BYTES;
use crate::spec::{Kind, ToolSpec};

/// Longest tag, and white space looked past, for the bound on a call's length.
const MAX_TAG_BYTES: usize = 64;

/// What the text so far amounts to.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// Words for the user; consecutive pieces belong together.
    Text(String),
    /// A call has begun; its parameters are still on their way.
    CallStarted {
        name: String,
    },
    Call(ToolCall),
    /// A call that cannot run; the text goes back to the model.
    Error(ParseError),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParseError {
    /// The stream ended inside the call.
    Cut {
        tool: String,
    },
    /// The call is complete but wrong.
    Invalid {
        tool: String,
        problem: Invalid,
    },
    /// The parameters cannot be told apart.
    Malformed {
        tool: String,
        problem: String,
    },
    TooLong {
        tool: String,
    },
}

/// One per model answer.
#[derive(Debug)]
pub struct StreamParser {
    tools: Vec<&'static ToolSpec>,
    /// Not yet decided on. In a call: its text, from the open tag on.
    buffer: String,
    /// Bytes of a character that has not fully arrived.
    partial: Vec<u8>,
    /// Everything in `buffer` before this was looked at.
    scanned: usize,
    open: Option<Open>,
    calls: usize,
    /// A call was too long: what follows cannot be told from its content.
    lost: bool,
}

/// A call being read.
#[derive(Debug)]
struct Open {
    spec: &'static ToolSpec,
    /// Length of the open tag.
    body_at: usize,
    /// Quoted calls of the same tool that are open inside a parameter.
    depth: usize,
}

/// The outcome of looking ahead in a stream.
enum Look {
    Yes,
    No,
    /// Not enough text yet.
    More,
}

impl StreamParser {
    /// Only `tools` are recognised.
    pub fn new(tools: impl IntoIterator<Item = &'static ToolSpec>) -> Self {
        Self {
            tools: tools.into_iter().collect(),
            buffer: String::new(),
            partial: Vec::new(),
            scanned: 0,
            open: None,
            calls: 0,
            lost: false,
        }
    }

    /// Takes text of any length.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        self.buffer.push_str(text);
        let mut pieces = Vec::new();
        self.advance(&mut pieces);
        pieces
    }

    /// Takes bytes; a character may be split between two calls. Invalid UTF-8 becomes
    /// the replacement character.
    pub fn push_bytes(&mut self, bytes: &[u8]) -> Vec<Piece> {
        self.partial.extend_from_slice(bytes);
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.partial) {
                Ok(good) => {
                    text.push_str(good);
                    self.partial.clear();
                    break;
                }
                Err(e) => {
                    let good = e.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.partial[..good]));
                    let Some(bad) = e.error_len() else {
                        self.partial.drain(..good);
                        break;
                    };
                    text.push('\u{fffd}');
                    self.partial.drain(..good + bad);
                }
            }
        }
        self.push(&text)
    }

    /// The stream has ended. A call that is still open is reported as cut.
    pub fn finish(mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if !self.partial.is_empty() {
            self.partial.clear();
            self.buffer.push('\u{fffd}');
            self.advance(&mut pieces);
        }
        match self.open.take() {
            Some(open) => {
                pieces.push(Piece::Error(ParseError::Cut { tool: open.spec.name.into() }));
            }
            None => text(&mut pieces, std::mem::take(&mut self.buffer)),
        }
        pieces
    }

    /// Whether the text so far ends inside a call.
    pub fn in_call(&self) -> bool {
        self.open.is_some()
    }

    fn advance(&mut self, pieces: &mut Vec<Piece>) {
        loop {
            if self.lost {
                self.buffer.clear();
                return;
            }
            let went_on =
                if self.open.is_some() { self.in_body(pieces) } else { self.in_text(pieces) };
            if !went_on {
                return;
            }
        }
    }

    /// Looks for the start of a call. Returns whether there is more to do.
    fn in_text(&mut self, pieces: &mut Vec<Piece>) -> bool {
        let mut from = self.scanned;
        while let Some(at) = self.buffer[from..].find('<').map(|i| from + i) {
            let rest = &self.buffer[at + 1..];
            let mut undecided = false;
            for spec in &self.tools {
                match opens(rest, spec) {
                    Look::Yes => {
                        let spec = *spec;
                        text(pieces, self.buffer[..at].to_owned());
                        self.buffer.drain(..at);
                        self.open = Some(Open { spec, body_at: spec.name.len() + 2, depth: 0 });
                        self.scanned = spec.name.len() + 2;
                        pieces.push(Piece::CallStarted { name: spec.name.into() });
                        return true;
                    }
                    Look::More => undecided = true,
                    Look::No => {}
                }
            }
            if undecided {
                // Everything before the tag is text; the tag waits.
                text(pieces, self.buffer[..at].to_owned());
                self.buffer.drain(..at);
                self.scanned = 0;
                return false;
            }
            from = at + 1;
        }
        text(pieces, std::mem::take(&mut self.buffer));
        self.scanned = 0;
        false
    }

    /// Looks for the end of the open call. Returns whether there is more to do.
    fn in_body(&mut self, pieces: &mut Vec<Piece>) -> bool {
        let Some(open) = self.open.as_mut() else { return false };
        let spec = open.spec;
        let mut from = self.scanned;
        while let Some(at) = self.buffer[from..].find('<').map(|i| from + i) {
            if at > MAX_CALL_BYTES {
                break;
            }
            let rest = &self.buffer[at + 1..];
            match opens(rest, spec) {
                Look::Yes => {
                    open.depth += 1;
                    from = at + 1 + spec.name.len();
                    continue;
                }
                Look::More => {
                    self.scanned = at;
                    return false;
                }
                Look::No => {}
            }
            match starts(rest, &["/", spec.name, ">"]) {
                Look::Yes => {}
                Look::More => {
                    self.scanned = at;
                    return false;
                }
                Look::No => {
                    from = at + 1;
                    continue;
                }
            }
            let end = at + spec.name.len() + 3;
            let body = &self.buffer[open.body_at..at];
            if !(body.trim().is_empty() || ends_with_parameter(body, spec)) {
                from = end;
                continue;
            }
            if open.depth > 0 {
                open.depth -= 1;
                from = end;
                continue;
            }
            self.calls += 1;
            let id = format!("xml-{}", self.calls);
            pieces.push(match read(body, spec, id) {
                Ok(call) => Piece::Call(call),
                Err(error) => Piece::Error(error),
            });
            self.buffer.drain(..end);
            self.scanned = 0;
            self.open = None;
            return true;
        }
        self.scanned = from.max(self.scanned).min(self.buffer.len());
        if self.buffer.len() > MAX_CALL_BYTES + MAX_TAG_BYTES {
            pieces.push(Piece::Error(ParseError::TooLong { tool: spec.name.into() }));
            self.lost = true;
            self.buffer.clear();
            self.scanned = 0;
            self.open = None;
        }
        false
    }
}

fn text(pieces: &mut Vec<Piece>, words: String) {
    if words.is_empty() {
        return;
    }
    match pieces.last_mut() {
        Some(Piece::Text(before)) => before.push_str(&words),
        _ => pieces.push(Piece::Text(words)),
    }
}

/// Whether `rest`, which follows a `<`, opens a call of `spec`.
fn opens(rest: &str, spec: &ToolSpec) -> Look {
    match starts(rest, &[spec.name, ">"]) {
        Look::Yes => {}
        other => return other,
    }
    let after = rest[spec.name.len() + 1..].trim_start();
    let Some(after) = after.strip_prefix('<') else {
        return if after.is_empty() { Look::More } else { Look::No };
    };
    any(spec.params.iter().map(|p| starts(after, &[p.name, ">"])))
        .or_else(|| starts(after, &["/", spec.name, ">"]))
}

impl Look {
    fn or_else(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Yes => Self::Yes,
            Self::No => other(),
            Self::More => match other() {
                Self::Yes => Self::Yes,
                _ => Self::More,
            },
        }
    }
}

fn any(looks: impl Iterator<Item = Look>) -> Look {
    let mut best = Look::No;
    for look in looks {
        match look {
            Look::Yes => return Look::Yes,
            Look::More => best = Look::More,
            Look::No => {}
        }
    }
    best
}

/// Whether `text` starts with the parts, or may once more of it is there.
fn starts(text: &str, parts: &[&str]) -> Look {
    let mut rest = text;
    for part in parts {
        match rest.strip_prefix(part) {
            Some(after) => rest = after,
            None if part.starts_with(rest) => return Look::More,
            None => return Look::No,
        }
    }
    Look::Yes
}

/// Whether `body` ends, white space aside, with the close tag of one of the parameters.
fn ends_with_parameter(body: &str, spec: &ToolSpec) -> bool {
    let Some(inner) = body.trim_end().strip_suffix('>') else { return false };
    spec.params.iter().any(|p| inner.strip_suffix(p.name).is_some_and(|b| b.ends_with("</")))
}

/// Splits the body of a complete call into parameters.
fn read(body: &str, spec: &'static ToolSpec, id: String) -> Result<ToolCall, ParseError> {
    let mut budget = 20_000;
    let mut values = Vec::new();
    if !split(body, spec, &mut values, &mut budget) {
        return Err(ParseError::Malformed {
            tool: spec.name.into(),
            problem: "the parameters cannot be told apart; write each as <name>value</name> with \
                      nothing between them"
                .into(),
        });
    }
    let mut call = ToolCall::new(id, spec.name);
    for (name, kind, value) in values {
        let value = match kind {
            Kind::Code => strip_first_break(value),
            _ => value.trim(),
        };
        // An empty optional parameter is one that was left out.
        if value.is_empty() && kind != Kind::Code {
            continue;
        }
        call.params.insert(name.into(), Value::String(value.into()));
    }
    call.normalise(spec).map_err(|problem| ParseError::Invalid { tool: spec.name.into(), problem })
}

fn strip_first_break(value: &str) -> &str {
    value.strip_prefix("\r\n").or_else(|| value.strip_prefix('\n')).unwrap_or(value)
}

type Values<'a> = Vec<(&'static str, Kind, &'a str)>;

/// Reads `rest` as a sequence of parameters that are not in `values` yet. Tries the
/// matching close tag of each first, then later ones, so that any reading that accounts
/// for the whole body is found; `budget` bounds the tries.
fn split<'a>(
    rest: &'a str,
    spec: &'static ToolSpec,
    values: &mut Values<'a>,
    budget: &mut usize,
) -> bool {
    let rest = rest.trim_start();
    if rest.is_empty() {
        return true;
    }
    let Some(param) = spec.params.iter().find(|p| {
        matches!(starts(rest, &["<", p.name, ">"]), Look::Yes)
            && values.iter().all(|(name, ..)| *name != p.name)
    }) else {
        return false;
    };
    let body = &rest[param.name.len() + 2..];
    let (open, close) = (format!("<{}>", param.name), format!("</{}>", param.name));
    let mut ends: Vec<(bool, usize)> = Vec::new();
    let mut depth = 0usize;
    let mut from = 0;
    while let Some(at) = body[from..].find('<').map(|i| from + i) {
        if body[at..].starts_with(&close) {
            ends.push((depth == 0, at));
            depth = depth.saturating_sub(1);
        } else if body[at..].starts_with(&open) {
            depth += 1;
        }
        from = at + 1;
    }
    let matching = ends.iter().filter(|(matches, _)| *matches);
    let others = ends.iter().rev().filter(|(matches, _)| !*matches);
    for (_, end) in matching.chain(others) {
        if *budget == 0 {
            return false;
        }
        *budget -= 1;
        values.push((param.name, param.kind, &body[..*end]));
        if split(&body[end + close.len()..], spec, values, budget) {
            return true;
        }
        values.pop();
    }
    false
}
