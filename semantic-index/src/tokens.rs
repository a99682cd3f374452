//! Code-aware words: what the full-text index holds and what a query is cut into.
//!
//! `parseHTTPRequest_v2` gives `parsehttprequest_v2`, `parse`, `http`, `request`, `v2`.
//! Chunks are tokenised here, not in LanceDB, whose index splits on spaces only: so
//! chunks, queries and the static table share one rule. Pure; called by `chunk` users,
//! `rank` and `embed`.

use crate::limits::MAX_TOKEN_BYTES;

/// Words that say nothing in a question about code.
const STOP: &[&str] = &[
    "a", "an", "and", "are", "as", "at", "be", "been", "being", "but", "by", "can", "could", "did",
    "do", "does", "for", "from", "had", "has", "have", "how", "i", "if", "in", "into", "is", "it",
    "its", "me", "my", "not", "of", "on", "or", "our", "should", "so", "such", "than", "that",
    "the", "their", "them", "then", "there", "these", "they", "this", "those", "to", "too", "via",
    "was", "we", "were", "what", "when", "where", "which", "while", "who", "why", "will", "with",
    "would", "you", "your",
];

pub fn is_stop_word(word: &str) -> bool {
    STOP.binary_search(&word).is_ok()
}

/// Calls `each` with every word of `text`, lower-cased: first the whole identifier when it
/// is a compound one, then its parts.
pub fn for_each(text: &str, mut each: impl FnMut(&str)) {
    let mut lower = String::new();
    for ident in identifiers(text) {
        let mut parts = 0;
        split(ident, |_| parts += 1);
        if parts > 1 && ident.len() <= MAX_TOKEN_BYTES {
            lower_into(&mut lower, ident.trim_matches('_'));
            each(&lower);
        }
        split(ident, |part| {
            if part.len() <= MAX_TOKEN_BYTES {
                lower_into(&mut lower, part);
                each(&lower);
            }
        });
    }
}

/// The words of `text` in order.
pub fn words(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    for_each(text, |word| out.push(word.to_string()));
    out
}

/// Only the parts of identifiers, no compounds: what the static table is looked up by.
pub fn parts(text: &str, mut each: impl FnMut(&str)) {
    let mut lower = String::new();
    for ident in identifiers(text) {
        split(ident, |part| {
            lower_into(&mut lower, part);
            each(&lower);
        });
    }
}

/// Runs of letters, digits and underscores.
pub fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|s| !s.is_empty() && s.bytes().any(|b| b != b'_'))
}

/// The parts of one identifier: at underscores, at a small letter followed by a capital, and
/// before the last capital of a run (`HTTPServer` → `HTTP`, `Server`).
pub fn split<'a>(ident: &'a str, mut each: impl FnMut(&'a str)) {
    for segment in ident.split('_').filter(|s| !s.is_empty()) {
        let mut start = 0;
        let mut chars = segment.char_indices().peekable();
        let mut prev: Option<char> = None;
        while let Some((at, c)) = chars.next() {
            if let Some(p) = prev {
                let next_lower = chars.peek().is_some_and(|(_, n)| n.is_lowercase());
                if c.is_uppercase()
                    && (p.is_lowercase() || p.is_numeric() || (p.is_uppercase() && next_lower))
                    && at > start
                {
                    each(&segment[start..at]);
                    start = at;
                }
            }
            prev = Some(c);
        }
        each(&segment[start..]);
    }
}

fn lower_into(buffer: &mut String, word: &str) {
    buffer.clear();
    if word.is_ascii() {
        buffer.push_str(word);
        buffer.make_ascii_lowercase();
    } else {
        buffer.extend(word.chars().flat_map(char::to_lowercase));
    }
}

/// A light stem: plural and verb endings off, enough to join `routes`, `routing`, `routed`
/// and `route`. The index holds stems beside words that differ from theirs.
pub fn stem(word: &str) -> &str {
    let n = word.len();
    if n < 4 || !word.bytes().all(|b| b.is_ascii_lowercase()) {
        return word;
    }
    let cut = |end: &str, keep: usize| word.strip_suffix(end).filter(|s| s.len() >= keep);
    let base = cut("ies", 3)
        .or_else(|| cut("ations", 4))
        .or_else(|| cut("ation", 4))
        .or_else(|| cut("ings", 4))
        .or_else(|| cut("ing", 4))
        .or_else(|| cut("ers", 4))
        .or_else(|| cut("ed", 4))
        .or_else(|| cut("er", 4))
        .or_else(|| cut("es", 4))
        .or_else(|| cut("ors", 4))
        .or_else(|| cut("or", 4))
        .or_else(|| if word.ends_with("ss") { None } else { cut("s", 3) })
        .or_else(|| cut("y", 3))
        .unwrap_or(word);
    let base = base.strip_suffix('e').filter(|s| s.len() >= 3).unwrap_or(base);
    // `running` → `run`: a doubled consonant at the end goes.
    let b = base.as_bytes();
    if b.len() > 3 && b[b.len() - 1] == b[b.len() - 2] && !b"aeiouls".contains(&b[b.len() - 1]) {
        &base[..base.len() - 1]
    } else {
        base
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_split_and_kept() {
        assert_eq!(
            words("parseHTTPRequest_v2"),
            ["parsehttprequest_v2", "parse", "http", "request", "v2"]
        );
        assert_eq!(words("fn open()"), ["fn", "open"]);
        assert_eq!(words("__init__"), ["init"]);
        assert_eq!(words("Größe_Ändern"), ["größe_ändern", "größe", "ändern"]);
        assert_eq!(words("utf8Decoder"), ["utf8decoder", "utf8", "decoder"]);
        assert_eq!(words("___"), Vec::<String>::new());
    }

    #[test]
    fn long_tokens_are_left_out() {
        assert!(words(&"a".repeat(MAX_TOKEN_BYTES + 1)).is_empty());
    }

    #[test]
    fn stems_join_word_forms() {
        for set in [
            &["route", "routes", "routing", "routed", "router"][..],
            &["handle", "handles", "handling", "handler", "handlers"],
            &["run", "running", "runs"],
            &["parse", "parser", "parsing"],
            &["query", "queries"],
        ] {
            let stems: Vec<_> = set.iter().map(|w| stem(w)).collect();
            assert!(stems.iter().all(|s| *s == stems[0]), "{stems:?}");
        }
        assert_eq!(stem("class"), "class");
        assert_eq!(stem("go"), "go");
    }

    #[test]
    fn stop_words_are_sorted() {
        assert!(STOP.is_sorted());
        assert!(is_stop_word("how") && !is_stop_word("router"));
    }
}
