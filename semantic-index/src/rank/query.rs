//! What a query asks for: its words, the names in it, and its kind.

use super::part_stems;
use crate::limits::{MAX_QUERY_BYTES, MAX_QUERY_TOKENS};
use crate::tokens;

/// Decides the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A name: `parse_config`, `HttpServer::bind`.
    Symbol,
    /// Words, with or without names among them.
    Words,
    /// A sentence that says what a definition does: `returns the number of open sockets`.
    Sentence,
}

impl Kind {
    /// As `--explain` names it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Symbol => "symbol",
            Self::Words => "words",
            Self::Sentence => "sentence",
        }
    }
}

/// Words that make a row of words a sentence about one thing.
const ARTICLES: &[&str] =
    &["a", "an", "if", "its", "that", "the", "their", "these", "this", "those"];
/// Words that begin a question: it may be about several places.
const QUESTIONS: &[&str] = &[
    "are", "can", "do", "does", "how", "is", "should", "what", "when", "where", "which", "who",
    "why",
];
/// Beginnings of words that begin a change: it is about files, as a commit's subject is.
const CHANGES: &[&str] = &[
    "add",
    "allow",
    "avoid",
    "chang",
    "clean",
    "correct",
    "fix",
    "implement",
    "improv",
    "introduc",
    "mak",
    "mov",
    "refactor",
    "remov",
    "renam",
    "simplif",
    "support",
    "updat",
    "us",
];
const ENDINGS: &[&str] = &["", "d", "e", "ed", "es", "ied", "ies", "s", "y"];
/// What documentation begins with and a commit's subject seldom does: a verb in the third
/// person. Those that are as often a plural (`reads`, `builds`) are left out.
const DOES: &[&str] = &[
    "adds",
    "allocates",
    "allows",
    "appends",
    "applies",
    "asserts",
    "calculates",
    "checks",
    "clears",
    "closes",
    "collects",
    "combines",
    "compares",
    "computes",
    "configures",
    "constructs",
    "consumes",
    "converts",
    "creates",
    "decodes",
    "deletes",
    "describes",
    "deserializes",
    "destroys",
    "determines",
    "disables",
    "enables",
    "encodes",
    "ensures",
    "evaluates",
    "executes",
    "extracts",
    "fetches",
    "fills",
    "finds",
    "finishes",
    "flushes",
    "generates",
    "gets",
    "handles",
    "implements",
    "indicates",
    "initializes",
    "inserts",
    "invokes",
    "iterates",
    "looks",
    "makes",
    "marks",
    "merges",
    "moves",
    "normalizes",
    "obtains",
    "opens",
    "parses",
    "performs",
    "prepares",
    "produces",
    "provides",
    "pushes",
    "receives",
    "registers",
    "releases",
    "removes",
    "renders",
    "replaces",
    "represents",
    "resets",
    "resolves",
    "retrieves",
    "returns",
    "saves",
    "sends",
    "serializes",
    "sets",
    "specifies",
    "splits",
    "starts",
    "stops",
    "takes",
    "transforms",
    "tries",
    "updates",
    "validates",
    "verifies",
    "waits",
    "wraps",
];
/// A sentence has at least so many words.
const SENTENCE_WORDS: usize = 5;

fn is_sentence(text: &str) -> bool {
    let lower = text.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
    let Some(first) = words.first() else { return false };
    let change =
        || CHANGES.iter().any(|c| first.strip_prefix(c).is_some_and(|end| ENDINGS.contains(&end)));
    text.split_whitespace().count() >= SENTENCE_WORDS
        && !lower.ends_with('?')
        && !QUESTIONS.contains(first)
        // `collecting the results` is a topic, not what one definition does.
        && !first.ends_with("ing")
        && (DOES.binary_search(first).is_ok()
            || !change() && words.iter().any(|w| ARTICLES.contains(w)))
}

/// A query taken apart.
#[derive(Debug, Clone)]
pub struct Query {
    pub text: String,
    pub kind: Kind,
    /// Names as written, the last part of a path of names.
    pub identifiers: Vec<String>,
    /// `Foo` of `Foo::bar`.
    pub owner: Option<String>,
    /// Stems of the words that say something, distinct, in order.
    stems: Vec<String>,
    terms: Vec<String>,
}

impl Query {
    pub fn parse(text: &str) -> Self {
        let text = crate::chunk::cut(text.trim(), MAX_QUERY_BYTES).to_string();
        let mut identifiers = Vec::new();
        let mut owner = None;
        let blanks = text.split_whitespace().count();
        for word in text.split_whitespace() {
            let word = word.trim_matches(|c: char| !(c.is_alphanumeric() || c == '_'));
            let mut pieces = word
                .split([':', '.', '#', '>', '-', '/'])
                .filter(|p| !p.is_empty())
                .collect::<Vec<_>>();
            let qualified = pieces.len() > 1
                && (word.contains("::")
                    || word.contains('.')
                    || word.contains("->")
                    || word.contains('#'));
            let Some(last) = pieces.pop() else { continue };
            let last = last.trim_end_matches(|c: char| !(c.is_alphanumeric() || c == '_'));
            if qualified || looks_like_name(last) || blanks == 1 {
                identifiers.push(last.to_string());
                if qualified {
                    owner = pieces.pop().map(ToString::to_string);
                }
            }
        }
        let kind = if blanks == 1 && !identifiers.is_empty() {
            Kind::Symbol
        } else if is_sentence(&text) {
            Kind::Sentence
        } else {
            Kind::Words
        };
        let mut terms: Vec<String> = Vec::new();
        let mut stems: Vec<String> = Vec::new();
        let push = |list: &mut Vec<String>, word: &str| {
            let stem = tokens::stem(word);
            if list.len() < MAX_QUERY_TOKENS && !list.iter().any(|t| t == stem) {
                list.push(stem.to_string());
            }
        };
        tokens::for_each(&text, |word| {
            if !tokens::is_stop_word(word) {
                push(&mut terms, word);
            }
        });
        tokens::parts(&text, |word| {
            if !tokens::is_stop_word(word) && word.len() > 1 {
                push(&mut stems, word);
            }
        });
        if terms.is_empty() {
            tokens::for_each(&text, |word| push(&mut terms, word));
        }
        Self { text, kind, identifiers, owner, stems, terms }
    }

    /// What to look up in the full-text index.
    pub fn terms(&self) -> &[String] {
        &self.terms
    }

    /// Any of these stems is in the query.
    pub fn mentions(&self, stems: &[&str]) -> bool {
        self.stems.iter().any(|s| stems.contains(&s.as_str()))
    }

    /// How well a name and the query cover each other, 0..=1.
    pub fn share(&self, name: &str) -> f32 {
        let parts = part_stems(name);
        if parts.is_empty() || self.stems.is_empty() {
            return 0.0;
        }
        let hit = parts.iter().filter(|p| self.stems.iter().any(|s| matches(s, p))).count() as f32;
        let of_name = hit / parts.len() as f32;
        let of_query = hit / self.stems.len().min(4) as f32;
        of_name * of_query.min(1.0)
    }

    /// (file stem, nearest folder): share of the query's words found there, 0..=1.
    pub fn match_path(&self, path: &str) -> (f32, f32) {
        if self.stems.is_empty() {
            return (0.0, 0.0);
        }
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let stem = part_stems(name.split('.').next().unwrap_or(name));
        let near = part_stems(folder.rsplit('/').next().unwrap_or_default());
        let share = |parts: &[String]| {
            let hit =
                self.stems.iter().filter(|s| parts.iter().any(|p| matches(s, p))).count() as f32;
            let covered =
                parts.iter().filter(|p| self.stems.iter().any(|s| matches(s, p))).count() as f32;
            let of_query = hit / self.stems.len() as f32;
            let of_name = covered / parts.len().max(1) as f32;
            (of_query.sqrt() * of_name).min(1.0)
        };
        (share(&stem), share(&near))
    }
}

/// Equal, or one is a long enough beginning of the other (`config`, `configur`).
fn matches(a: &str, b: &str) -> bool {
    a == b || a.len() >= 4 && b.starts_with(a) || b.len() >= 4 && a.starts_with(b)
}

/// Written as code writes names: `snake_case`, `camelCase`, `PascalCase` with two humps.
fn looks_like_name(word: &str) -> bool {
    if word.len() < 3 || !word.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return false;
    }
    let inner_underscore = word.trim_matches('_').contains('_');
    let hump =
        word.chars().zip(word.chars().skip(1)).any(|(a, b)| a.is_lowercase() && b.is_uppercase());
    inner_underscore || hump
}
