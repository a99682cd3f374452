//! `Complete`: ghost text at a caret.
//!
//! A request waits a moment in case the user goes on typing; a newer one with the same key
//! makes an older one pointless at any point. What comes back is cleaned: one sensible
//! piece of code, no fences, nothing that stands behind the caret already.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapce_ai_ipc::wire::engine::{Complete, CompleteReply};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{Cx, EngineProtocol};
use tokio_util::sync::CancellationToken;

use super::{check_text, holds_secrets, secret_file};
use crate::limits;
use crate::provider::{FimRequest, limits as provider_limits};
use crate::state::Engine;
use crate::workspace::Root;

/// How long a request that nobody asked for waits for the next key.
const DEBOUNCE: Duration = Duration::from_millis(120);
/// Keys (documents) with a request under way, at most.
const KEYS: usize = 256;
/// Most lines of ghost text.
const LINES: usize = 12;

/// The newest request of each key.
#[derive(Debug, Default)]
pub struct Newest {
    open: Mutex<HashMap<String, (u64, CancellationToken)>>,
}

impl Newest {
    /// Makes an older request of `key` pointless and returns a ticket for this one.
    fn take(&self, key: &str) -> Result<Ticket<'_>, WireError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let number = match open.get(key) {
            Some((number, token)) => {
                token.cancel();
                number + 1
            }
            None if open.len() >= KEYS => {
                return Err(WireError::new(
                    ErrorKind::Limit,
                    format!("{KEYS} documents wait for ghost text already"),
                ));
            }
            None => 0,
        };
        let superseded = CancellationToken::new();
        open.insert(key.to_owned(), (number, superseded.clone()));
        Ok(Ticket { newest: self, key: key.to_owned(), number, superseded })
    }
}

/// One request's place; dropping it frees the key when no newer one took it.
struct Ticket<'a> {
    newest: &'a Newest,
    key: String,
    number: u64,
    superseded: CancellationToken,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut open = self.newest.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(&self.key).is_some_and(|(number, _)| *number == self.number) {
            open.remove(&self.key);
        }
    }
}

pub async fn handle(
    engine: &Arc<Engine>,
    request: Complete,
    cx: &Cx<EngineProtocol>,
) -> Result<CompleteReply, WireError> {
    check_text("key", &request.key, limits::QUERY_BYTES)?;
    if holds_secrets(&request.path) {
        return Err(secret_file(&request.path));
    }
    Root::open(&request.root)?;
    let config = engine.config.get()?;
    let model = engine.providers.completion_model(&config)?;
    // Per client: two windows may use the same key.
    let ticket = engine.completions.take(&format!("{}/{}", cx.peer().session, request.key))?;
    let secrets = engine.providers.keys_at_hand(&config);
    let prefix = crate::provider::keys::redact(
        tail(&request.prefix, provider_limits::COMPLETION_PREFIX_BYTES).to_owned(),
        &secrets,
    );
    let suffix = crate::provider::keys::redact(
        head(&request.suffix, provider_limits::COMPLETION_SUFFIX_BYTES).to_owned(),
        &secrets,
    );
    let fill = async {
        if !request.invoked {
            tokio::time::sleep(DEBOUNCE).await;
        }
        let fim = FimRequest {
            prefix,
            suffix,
            max_tokens: provider_limits::COMPLETION_TOKENS.min(model.max_output),
            // Two blank lines end a piece of code.
            stop: vec!["\n\n\n".to_owned()],
        };
        engine.providers.fill(&model, &fim).await
    };
    let text = tokio::select! {
        biased;
        () = ticket.superseded.cancelled() => {
            return Err(WireError::new(ErrorKind::Superseded, "a newer request took the place of this one"));
        }
        () = cx.cancelled().cancelled() => return Err(WireError::new(ErrorKind::Cancelled, "ghost text was cancelled")),
        () = engine.shutdown.cancelled() => return Err(WireError::new(ErrorKind::Cancelled, "the engine is ending")),
        text = fill => text?,
    };
    Ok(CompleteReply { text: tidy(&text, &request.prefix, &request.suffix), model: model.id() })
}

/// The last `max` bytes, in whole lines where there are several.
fn tail(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let cut = &text[text.ceil_char_boundary(text.len() - max)..];
    cut.find('\n').map_or(cut, |at| &cut[at + 1..])
}

/// The first `max` bytes, in whole lines where there are several.
fn head(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let cut = &text[..text.floor_char_boundary(max)];
    cut.rfind('\n').map_or(cut, |at| &cut[..=at])
}

/// What a model wrote as what an editor can show: no fence, no mark of its training, not
/// what stands there already, and no more than one piece.
fn tidy(text: &str, prefix: &str, suffix: &str) -> String {
    let mut text = text.replace("\r\n", "\n").replace('\r', "");
    for mark in [
        "<|endoftext|>",
        "<|fim_pad|>",
        "<|file_separator|>",
        "<EOT>",
        "</s>",
        "<|im_end|>",
        "<|fim_prefix|>",
        "<fim_prefix>",
    ] {
        if let Some(at) = text.find(mark) {
            text.truncate(at);
        }
    }
    // A chat model answers with a fenced block.
    if let Some(rest) = text.trim_start().strip_prefix("```") {
        let body = rest.split_once('\n').map_or("", |(_, body)| body);
        text = body.split("```").next().unwrap_or_default().to_owned();
    } else if let Some(at) = text.find("```") {
        text.truncate(at);
    }
    // What a model repeats of the line the caret is on.
    let line = prefix.rsplit('\n').next().unwrap_or_default();
    if line.trim().len() > 3 && text.starts_with(line) {
        text.drain(..line.len());
    }
    let inside = !line.trim().is_empty() || suffix.starts_with(|c: char| !c.is_whitespace());
    if inside {
        // In the middle of a line a leading break would push code around.
        text = text.trim_start_matches('\n').to_owned();
    }
    let mut out = String::new();
    for (n, row) in text.split('\n').enumerate() {
        if n == LINES {
            break;
        }
        if n > 0 {
            out.push('\n');
        }
        out.push_str(row);
    }
    let mut text = out.trim_end().to_owned();
    // The end that the text behind the caret begins with.
    let next = suffix.lines().next().unwrap_or_default();
    if !next.trim().is_empty() {
        let overlap = (1..=next.len().min(text.len()))
            .rev()
            .filter(|n| next.is_char_boundary(*n) && text.is_char_boundary(text.len() - n))
            .find(|n| text.ends_with(&next[..*n]));
        if let Some(n) =
            overlap.filter(|n| *n == next.trim_end().len() || next[..*n].trim().len() > 1)
        {
            text.truncate(text.len() - n);
        }
    }
    // Lines that stand behind the caret already end the piece.
    if let Some(following) = suffix.lines().find(|l| l.trim().len() > 3).map(str::trim)
        && let Some(at) = text.lines().skip(1).position(|l| l.trim() == following)
    {
        text = text.lines().take(at + 1).collect::<Vec<_>>().join("\n");
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_request_supersedes_an_older_one() {
        let newest = Newest::default();
        let first = newest.take("a").unwrap();
        let other = newest.take("b").unwrap();
        let second = newest.take("a").unwrap();
        assert!(first.superseded.is_cancelled());
        assert!(!second.superseded.is_cancelled() && !other.superseded.is_cancelled());
        drop(first);
        assert_eq!(newest.open.lock().unwrap().len(), 2, "an old ticket does not free a newer one");
        drop((second, other));
        assert!(newest.open.lock().unwrap().is_empty());
        let many: Vec<_> = (0..KEYS).map(|n| newest.take(&n.to_string()).unwrap()).collect();
        assert_eq!(newest.take("x").err().unwrap().kind, ErrorKind::Limit);
        drop(many);
    }

    #[test]
    fn ghost_text_is_tidy() {
        assert_eq!(tidy("a: u32) -> u32 {\n    a\n}\n", "fn f(", ""), "a: u32) -> u32 {\n    a\n}");
        assert_eq!(tidy("```rust\nlet x = 1;\n```\nThis code", "", ""), "let x = 1;");
        assert_eq!(tidy("1;<|endoftext|>junk", "let x = ", ""), "1;");
        assert_eq!(
            tidy("let x = 1;", "    let x = ", ""),
            "let x = 1;",
            "no shared start with the whole line"
        );
        assert_eq!(tidy("let x = 1;", "let x = ", ""), "1;");
        assert_eq!(tidy("\n\nfoo", "bar(", ")"), "foo");
        assert_eq!(tidy("x, y)", "f(", ")"), "x, y");
        assert_eq!(
            tidy("return 1;\n}\n\nfn next() {\n", "    ", "\n}\n\nfn next() {\n"),
            "return 1;\n}"
        );
        assert_eq!(tidy(&"l\n".repeat(100), "", "").lines().count(), LINES);
        assert_eq!(tidy("", "a", "b"), "");
        assert_eq!(tidy("grün", "", "ün"), "gr");
    }

    #[test]
    fn only_the_nearest_text_is_sent() {
        assert_eq!(tail("one\ntwo\nthree", 8), "three");
        assert_eq!(tail("short", 8), "short");
        assert_eq!(head("one\ntwo\nthree", 9), "one\ntwo\n");
        assert_eq!(head("ünicode", 1), "");
    }
}
