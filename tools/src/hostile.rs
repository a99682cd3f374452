//! A hostile model: any bytes, split anywhere, through the parser of calls in XML. Called by
//! the fuzzer (`fuzz/`) and by the bounded run of it in `tests/hostile.rs`; no part of the
//! product uses it.
//!
//! A script is one byte that says how the rest is split, then the rest. What must hold, whatever
//! it is: the result does not depend on the split; a stream that ends inside a call gives no
//! call; a call has the parameters that its tool declares and no others; text without a call
//! comes back whole.

use crate::call::ToolCall;
use crate::spec;
use crate::xml::{ParseError, Piece, StreamParser};

/// What kind of ending a script has, for a corpus to cover all of them.
pub type Class = &'static str;

/// Plays a script, and panics when something does not hold.
pub fn parse(script: &[u8]) -> Class {
    let Some((&split, text)) = script.split_first() else { return "empty" };
    let whole = run(text, text.len().max(1));
    let step = usize::from(split % 7) + 1;
    assert_eq!(run(text, step), whole, "split every {step} bytes");
    let uneven = uneven(text, split);
    assert_eq!(uneven, whole, "split unevenly");
    let mut class = "text";
    let mut started = 0;
    let mut ended = 0;
    for piece in &whole {
        match piece {
            Piece::Text(_) => {}
            Piece::CallStarted { .. } => started += 1,
            Piece::Call(call) => {
                ended += 1;
                check(call);
                class = "call";
            }
            Piece::Error(error) => {
                ended += 1;
                class = match error {
                    ParseError::Cut { .. } => "cut",
                    ParseError::Invalid { .. } => "invalid",
                    ParseError::Malformed { .. } => "malformed",
                    ParseError::TooLong { .. } => "too long",
                };
            }
        }
    }
    assert_eq!(started, ended, "every call that starts ends in one way");
    if started == 0 {
        let words: String = whole.iter().map(words).collect();
        assert_eq!(words, String::from_utf8_lossy(text), "words are never lost");
    }
    if ended > 1 && class == "call" { "calls" } else { class }
}

fn words(piece: &Piece) -> &str {
    if let Piece::Text(text) = piece { text } else { "" }
}

fn check(call: &ToolCall) {
    let spec = spec::find(&call.name);
    let spec = spec.unwrap_or_else(|| panic!("{} is not offered", call.name));
    for name in call.params.keys() {
        assert!(spec.params.iter().any(|p| p.name == name), "{name} is no parameter");
    }
    for param in spec.params.iter().filter(|p| p.required) {
        assert!(call.params.contains_key(param.name), "{} is missing", param.name);
    }
}

fn run(text: &[u8], step: usize) -> Vec<Piece> {
    finish(text.chunks(step))
}

/// Pieces of lengths that depend on what is read.
fn uneven(text: &[u8], seed: u8) -> Vec<Piece> {
    let mut parts = Vec::new();
    let mut rest = text;
    let mut length = usize::from(seed) % 5 + 1;
    while !rest.is_empty() {
        let (part, after) = rest.split_at(length.min(rest.len()));
        length = usize::from(part[part.len() - 1]) % 13 + 1;
        parts.push(part);
        rest = after;
    }
    finish(parts)
}

fn finish<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<Piece> {
    let mut parser = StreamParser::new(spec::offered());
    let mut pieces: Vec<Piece> = Vec::new();
    for part in parts {
        pieces.extend(parser.push_bytes(part));
    }
    pieces.extend(parser.finish());
    let mut joined: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (joined.last_mut(), piece) {
            (Some(Piece::Text(before)), Piece::Text(more)) => before.push_str(&more),
            (_, piece) => joined.push(piece),
        }
    }
    joined
}
