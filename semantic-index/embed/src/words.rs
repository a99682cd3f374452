//! BERT's tokeniser: text to the numbers of pieces of words, as `tokenizer.json` describes.
//!
//! Only this one (`BertNormalizer`, `BertPreTokenizer`, `WordPiece`): a model with another is
//! refused, since near enough would be wrong. Marks such as `[SEP]` in a text are text here;
//! nothing that is indexed can end its own input.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use unicode_categories::UnicodeCategories as _;
use unicode_normalization::UnicodeNormalization as _;

use crate::Unusable;
use crate::limits::VOCABULARY;

pub struct Words {
    vocabulary: HashMap<String, u32>,
    unknown: i32,
    prefix: String,
    /// A longer word is unknown.
    longest: usize,
    clean: bool,
    chinese: bool,
    accents: bool,
    lower: bool,
    before: Vec<i32>,
    after: Vec<i32>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    model: Value,
}

#[derive(Deserialize)]
struct Piece {
    unk_token: String,
    continuing_subword_prefix: String,
    max_input_chars_per_word: usize,
    vocab: HashMap<String, u32>,
}

impl Words {
    pub fn parse(json: &[u8]) -> Result<Self, Unusable> {
        let wrong = |why: String| Unusable(format!("tokenizer.json: {why}"));
        let file: File = serde_json::from_slice(json).map_err(|e| wrong(e.to_string()))?;
        for (part, kind, known) in [
            ("model", &file.model["type"], "WordPiece"),
            ("normalizer", &file.normalizer["type"], "BertNormalizer"),
            ("pre_tokenizer", &file.pre_tokenizer["type"], "BertPreTokenizer"),
        ] {
            if kind != known {
                let kind = kind.as_str().unwrap_or("nothing");
                return Err(wrong(format!(
                    "its {part} is {kind}, and only {known} is known here (models of the BERT family)"
                )));
            }
        }
        let model: Piece = serde_json::from_value(file.model).map_err(|e| wrong(e.to_string()))?;
        if model.vocab.len() > VOCABULARY || model.vocab.values().any(|id| *id > i32::MAX as u32) {
            return Err(wrong("its vocabulary is too large".into()));
        }
        let id = |token: &str| {
            let id = model.vocab.get(token).map(|id| *id as i32);
            id.ok_or_else(|| wrong(format!("{token:?} is not in its vocabulary")))
        };
        let (before, after) = frame(&file.post_processor, id)?;
        let is = |name: &str, default| file.normalizer[name].as_bool().unwrap_or(default);
        let lower = is("lowercase", true);
        Ok(Self {
            unknown: id(&model.unk_token)?,
            prefix: model.continuing_subword_prefix,
            longest: model.max_input_chars_per_word.min(1_000),
            clean: is("clean_text", true),
            chinese: is("handle_chinese_chars", true),
            accents: is("strip_accents", lower),
            lower,
            before,
            after,
            vocabulary: model.vocab,
        })
    }

    /// At most `most` numbers, with the marks of begin and end.
    pub fn encode(&self, text: &str, most: usize) -> Vec<i32> {
        let room = most.saturating_sub(self.after.len());
        let mut out = self.before.clone();
        let mut word = String::new();
        let clean = self.normal(text);
        for c in clean.chars() {
            if c.is_whitespace() {
                self.end_word(&mut word, &mut out);
            } else if is_punctuation(c) {
                self.end_word(&mut word, &mut out);
                word.push(c);
                self.end_word(&mut word, &mut out);
            } else {
                word.push(c);
            }
            if out.len() >= room {
                word.clear();
                break;
            }
        }
        self.end_word(&mut word, &mut out);
        out.truncate(room);
        out.extend(&self.after);
        out
    }

    fn normal(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '\0' | '\u{fffd}' if self.clean => {}
                '\t' | '\n' | '\r' if self.clean => out.push(' '),
                c if self.clean && c.is_other() => {}
                c if self.clean && c.is_whitespace() => out.push(' '),
                c if self.chinese && is_chinese(c) => out.extend([' ', c, ' ']),
                c => out.push(c),
            }
        }
        if self.accents {
            out = out.nfd().filter(|c| !c.is_mark_nonspacing()).collect();
        }
        if self.lower { out.chars().flat_map(char::to_lowercase).collect() } else { out }
    }

    /// The longest known pieces from the left; a word with a rest is unknown as a whole.
    fn end_word(&self, word: &mut String, out: &mut Vec<i32>) {
        if word.is_empty() {
            return;
        }
        let whole = std::mem::take(word);
        let start = out.len();
        if whole.chars().count() > self.longest {
            out.push(self.unknown);
            return;
        }
        let mut rest = whole.as_str();
        let mut piece = String::with_capacity(whole.len() + self.prefix.len());
        while !rest.is_empty() {
            piece.clear();
            if out.len() > start {
                piece.push_str(&self.prefix);
            }
            let prefix = piece.len();
            piece.push_str(rest);
            let found = loop {
                match self.vocabulary.get(piece.as_str()) {
                    Some(id) => break Some(*id as i32),
                    None if piece.len() <= prefix => break None,
                    None => drop(piece.pop()),
                }
            };
            let Some(id) = found.filter(|_| piece.len() > prefix) else {
                out.truncate(start);
                out.push(self.unknown);
                return;
            };
            out.push(id);
            rest = &rest[piece.len() - prefix..];
        }
    }
}

/// The marks before and after a text.
fn frame(
    post: &Value,
    id: impl Fn(&str) -> Result<i32, Unusable>,
) -> Result<(Vec<i32>, Vec<i32>), Unusable> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    match post["type"].as_str() {
        Some("TemplateProcessing") => {
            let mut passed = false;
            for part in post["single"].as_array().into_iter().flatten().take(8) {
                match part["SpecialToken"]["id"].as_str() {
                    Some(token) if passed => after.push(id(token)?),
                    Some(token) => before.push(id(token)?),
                    None => passed = true,
                }
            }
        }
        Some("BertProcessing") => {
            before.push(id(post["cls"][0].as_str().unwrap_or("[CLS]"))?);
            after.push(id(post["sep"][0].as_str().unwrap_or("[SEP]"))?);
        }
        other => {
            let other = other.unwrap_or("nothing");
            return Err(Unusable(format!(
                "tokenizer.json: its post_processor is {other}, which is not known here"
            )));
        }
    }
    Ok((before, after))
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || c.is_punctuation()
}

fn is_chinese(c: char) -> bool {
    matches!(u32::from(c),
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x2_0000..=0x2_A6DF | 0x2_A700..=0x2_B73F
        | 0x2_B740..=0x2_B81F | 0x2_B920..=0x2_CEAF | 0xF900..=0xFAFF | 0x2_F800..=0x2_FA1F)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A small tokeniser of the same kind.
    pub(crate) fn small() -> String {
        let words = [
            "[PAD]",
            "[UNK]",
            "[CLS]",
            "[SEP]",
            "fn",
            "main",
            "back",
            "##off",
            "##s",
            "(",
            ")",
            "{",
            "}",
            "_",
            "naive",
            "世",
            "界",
            "a",
            "##b",
            "exponential",
        ];
        let vocab: serde_json::Map<String, Value> =
            words.iter().enumerate().map(|(n, word)| ((*word).to_owned(), n.into())).collect();
        serde_json::json!({
            "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "TemplateProcessing", "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": vocab},
        })
        .to_string()
    }

    #[test]
    fn words_become_the_longest_known_pieces() {
        let words = Words::parse(small().as_bytes()).unwrap();
        let ids = |text: &str| words.encode(text, 64);
        assert_eq!(ids("fn main() {}"), [2, 4, 5, 9, 10, 11, 12, 3]);
        assert_eq!(ids("Exponential_BackOffs"), [2, 19, 13, 6, 7, 8, 3]);
        assert_eq!(ids("NAÏVE\u{200b}\u{0}\tfn"), [2, 14, 4, 3], "accents, case, controls");
        assert_eq!(ids("世界"), [2, 15, 16, 3], "each by itself");
        assert_eq!(ids("backx main"), [2, 1, 5, 3], "a rest makes the whole word unknown");
        assert_eq!(ids(&format!("fn {}", "a".repeat(101))), [2, 4, 1, 3], "too long");
        assert_eq!(ids("[SEP] fn"), [2, 1, 1, 1, 4, 3], "a mark in a text is text");
        assert_eq!(ids(""), [2, 3]);
    }

    #[test]
    fn an_input_is_cut_and_keeps_its_end() {
        let words = Words::parse(small().as_bytes()).unwrap();
        assert_eq!(words.encode(&"fn main ".repeat(10_000), 6), [2, 4, 5, 4, 5, 3]);
        assert_eq!(words.encode("abbbbb", 4), [2, 17, 18, 3], "also within a word");
    }

    #[test]
    fn another_kind_of_tokeniser_is_refused_by_name() {
        for (part, with, says) in [
            ("/model/type", "BPE", "its model is BPE, and only WordPiece"),
            ("/normalizer/type", "NFC", "its normalizer is NFC"),
            ("/pre_tokenizer/type", "Metaspace", "its pre_tokenizer is Metaspace"),
            ("/post_processor/type", "ByteLevel", "its post_processor is ByteLevel"),
            ("/model/unk_token", "<unk>", "\"<unk>\" is not in its vocabulary"),
            ("/post_processor/single/0/SpecialToken/id", "<s>", "\"<s>\" is not in its vocabulary"),
        ] {
            let mut json: Value = serde_json::from_str(&small()).unwrap();
            *json.pointer_mut(part).unwrap() = with.into();
            let error = Words::parse(json.to_string().as_bytes()).err().unwrap();
            assert!(error.0.contains(says), "{error}");
            assert_eq!(error.0.matches("tokenizer.json").count(), 1, "{error}");
        }
        for bad in ["", "{}", "[]", "{\"model\": 3}"] {
            assert!(Words::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
