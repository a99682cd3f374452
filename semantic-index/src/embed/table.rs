//! The static table: a vector for each word, summed.
//!
//! The format and the rules stand in `model/README.md`; `training/table.py` is the plain
//! reader whose answers a test holds this one to. The table is part of the program's
//! file, so the kernel maps it and loads only the rows that are looked up.

use std::collections::HashMap;

use super::Embedder;
use crate::tokens;

/// The table that ships.
static SHIPPED: &[u8] = include_bytes!("../../model/code-static-v2.bin");

const MAGIC: &[u8; 8] = b"LAPSEM01";
const VERSION: u32 = 2;
const HEADER: usize = 64;
const EMPTY: u16 = 0xffff;

/// A validated table.
pub struct Table {
    bytes: &'static [u8],
    name: String,
    dims: usize,
    words: usize,
    buckets: usize,
    slots: usize,
    gram: usize,
    place: f32,
    symbol: f32,
    phrases: bool,
    max_word: usize,
    max_words: usize,
    query_scale: usize,
    code_scale: usize,
    starts: usize,
    slots_at: usize,
    strings: usize,
    vectors: usize,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// Why a file is no table.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a usable table: {0}")]
pub struct Unusable(&'static str);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Query,
    Code,
}

impl Table {
    /// The table of this build.
    pub fn shipped() -> Result<Self, Unusable> {
        Self::new(SHIPPED)
    }

    /// Checks everything a look-up relies on.
    pub fn new(bytes: &'static [u8]) -> Result<Self, Unusable> {
        let header = bytes.get(..HEADER).ok_or(Unusable("too short"))?;
        let u32_at = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let u16_at = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
        if &header[..8] != MAGIC || u32_at(8) != VERSION {
            return Err(Unusable("magic or version"));
        }
        let (dims, words, buckets, slots) =
            (u32_at(12) as usize, u32_at(16) as usize, u32_at(20) as usize, u32_at(24) as usize);
        if u64_at(48) != bytes.len() as u64 {
            return Err(Unusable("length"));
        }
        if !(1..=4096).contains(&dims)
            || words + buckets >= usize::from(EMPTY)
            || !buckets.is_power_of_two()
            || !slots.is_power_of_two()
            || slots > 1 << 20
        {
            return Err(Unusable("sizes"));
        }
        let rows = words + buckets;
        let mut at = HEADER;
        let mut section = |len: usize| {
            let start = at.next_multiple_of(64);
            at = start + len;
            start
        };
        let query_scale = section(rows * 4);
        let code_scale = section(rows * 4);
        let starts = section((words + 1) * 4);
        let slots_at = section(slots * 2);
        let string_bytes =
            bytes.get(starts + words * 4..starts + words * 4 + 4).ok_or(Unusable("length"))?;
        let string_bytes = u32::from_le_bytes([
            string_bytes[0],
            string_bytes[1],
            string_bytes[2],
            string_bytes[3],
        ]) as usize;
        let strings = section(string_bytes);
        let vectors = section(rows * dims);
        if at > bytes.len() {
            return Err(Unusable("sections"));
        }
        let (place, symbol) = (f32::from_bits(u32_at(32)), f32::from_bits(u32_at(44)));
        let table = Self {
            bytes,
            name: format!("code-static-{:016x}", u64_at(56)),
            dims,
            words,
            buckets,
            slots,
            gram: u32_at(28) as usize,
            place,
            symbol,
            phrases: u32_at(36) & 1 != 0,
            max_word: u16_at(40),
            max_words: u16_at(42),
            query_scale,
            code_scale,
            starts,
            slots_at,
            strings,
            vectors,
        };
        if (0..words).any(|n| table.start(n) > table.start(n + 1))
            || table.start(words) > string_bytes
        {
            return Err(Unusable("starts"));
        }
        let mut empty = false;
        for slot in 0..slots {
            match table.slot(slot) {
                EMPTY => empty = true,
                row if usize::from(row) >= words => return Err(Unusable("slots")),
                _ => {}
            }
        }
        if !empty || table.gram == 0 || !place.is_finite() || !symbol.is_finite() {
            return Err(Unusable("values"));
        }
        Ok(table)
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes([
            self.bytes[at],
            self.bytes[at + 1],
            self.bytes[at + 2],
            self.bytes[at + 3],
        ])
    }

    fn start(&self, word: usize) -> usize {
        self.u32(self.starts + word * 4) as usize
    }

    fn slot(&self, n: usize) -> u16 {
        u16::from_le_bytes([
            self.bytes[self.slots_at + n * 2],
            self.bytes[self.slots_at + n * 2 + 1],
        ])
    }

    /// The row of the string made of these pieces, whose running hash is `hash`.
    fn row(&self, hash: u64, pieces: [&str; 3]) -> Option<usize> {
        let mut at = finish(hash) as usize & (self.slots - 1);
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        loop {
            match self.slot(at) {
                EMPTY => return None,
                row => {
                    let row = usize::from(row);
                    let mut string = &self.bytes
                        [self.strings + self.start(row)..self.strings + self.start(row + 1)];
                    let equal = string.len() == length
                        && pieces.iter().all(|piece| {
                            string.strip_prefix(piece.as_bytes()).is_some_and(|rest| {
                                string = rest;
                                true
                            })
                        });
                    if equal {
                        return Some(row);
                    }
                }
            }
            at = (at + 1) & (self.slots - 1);
        }
    }

    /// Adds `amount` of a row to a sum.
    fn add(&self, sum: &mut [f32], row: usize, amount: f32, side: Side) {
        let scales = if side == Side::Query { self.query_scale } else { self.code_scale };
        let factor = amount * f32::from_bits(self.u32(scales + row * 4));
        let vector =
            &self.bytes[self.vectors + row * self.dims..self.vectors + (row + 1) * self.dims];
        for (sum, value) in sum.iter_mut().zip(vector) {
            *sum += factor * f32::from(*value as i8);
        }
    }

    /// Adds a text to a sum; false when no word of it is known.
    fn text(&self, sum: &mut [f32], text: &str, side: Side, factor: f32) -> bool {
        let mut words = Words::default();
        tokens::parts(text, |word| {
            if words.ends.len() < self.max_words {
                words.push(word);
            }
        });
        let mut counts: HashMap<u64, (u32, usize, bool), Hasher> = HashMap::default();
        for at in 0..words.ends.len() {
            let hash = words.hashes[at];
            counts.entry(hash).or_insert((0, at, false)).0 += 1;
            if self.phrases && at > 0 {
                let (first, second) = (words.get(at - 1), words.get(at));
                let hash = fnv(fnv(words.hashes[at - 1], b" "), second.as_bytes());
                match counts.get_mut(&hash) {
                    Some(slot) => slot.0 += 1,
                    None if self.row(hash, [first, " ", second]).is_some() => {
                        counts.insert(hash, (1, at, true));
                    }
                    None => {}
                }
            }
        }
        let mut any = false;
        for (hash, (count, at, phrase)) in counts {
            let amount = factor * (1.0 + (count as f32).ln());
            let word = words.get(at);
            if phrase {
                if let Some(row) = self.row(hash, [words.get(at - 1), " ", word]) {
                    self.add(sum, row, amount, side);
                    any = true;
                }
            } else if let Some(row) = self.row(hash, [word, "", ""]) {
                self.add(sum, row, amount, side);
                any = true;
            } else if word.len() <= self.max_word && word.chars().any(char::is_alphabetic) {
                self.grams(sum, word, amount, side);
                any = true;
            }
        }
        any
    }

    /// An unknown word is the mean of its pieces.
    fn grams(&self, sum: &mut [f32], word: &str, amount: f32, side: Side) {
        let bracketed = format!("<{word}>");
        let starts: Vec<usize> =
            bracketed.char_indices().map(|(at, _)| at).chain([bracketed.len()]).collect();
        let chars = starts.len() - 1;
        let windows = chars.saturating_sub(self.gram - 1).max(1);
        for n in 0..windows {
            let window = &bracketed[starts[n]..starts[(n + self.gram).min(chars)]];
            let bucket = finish(fnv(SEED, window.as_bytes())) as usize & (self.buckets - 1);
            self.add(sum, self.words + bucket, amount / windows as f32, side);
        }
    }

    fn unit(mut sum: Vec<f32>) -> Option<Vec<f32>> {
        let norm = sum.iter().map(|v| v * v).sum::<f32>().sqrt();
        if norm < 1e-12 {
            return None;
        }
        for value in &mut sum {
            *value /= norm;
        }
        Some(sum)
    }

    /// The unit vector of a chunk; the second line of its place is the symbol.
    pub fn code_vector(&self, place: &str, code: &str) -> Option<Vec<f32>> {
        let mut sum = vec![0.0; self.dims];
        let code = self.text(&mut sum, code, Side::Code, 1.0);
        let (near, symbol) = place.split_once('\n').unwrap_or((place, ""));
        let near = self.text(&mut sum, near, Side::Code, self.place);
        let symbol = self.text(&mut sum, symbol, Side::Code, self.symbol);
        if code || near || symbol { Self::unit(sum) } else { None }
    }

    /// The unit vector of a question.
    pub fn query_vector(&self, text: &str) -> Option<Vec<f32>> {
        let mut sum = vec![0.0; self.dims];
        if self.text(&mut sum, text, Side::Query, 1.0) { Self::unit(sum) } else { None }
    }
}

impl Embedder for Table {
    fn name(&self) -> &str {
        &self.name
    }

    fn dims(&self) -> usize {
        self.dims
    }

    fn chunk(&self, place: &str, code: &str) -> Option<Vec<i8>> {
        self.code_vector(place, code).map(|v| quantise(&v))
    }

    fn query(&self, text: &str) -> Option<Vec<i8>> {
        self.query_vector(text).map(|v| quantise(&v))
    }

    fn name_of(&self, symbol: &str) -> Option<Vec<i8>> {
        self.code_vector("", symbol).map(|v| quantise(&v))
    }
}

/// Eight bits a number; the scale is lost, which a cosine does not notice.
fn quantise(vector: &[f32]) -> Vec<i8> {
    let top = vector.iter().fold(0.0_f32, |top, v| top.max(v.abs())).max(f32::MIN_POSITIVE);
    vector.iter().map(|v| (v / top * 127.0).round() as i8).collect()
}

/// Cosine of two quantised vectors.
pub fn cosine(a: &[i8], b: &[i8]) -> f32 {
    let (mut dot, mut aa, mut bb) = (0_i32, 0_i32, 0_i32);
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (i32::from(*x), i32::from(*y));
        dot += x * y;
        aa += x * x;
        bb += y * y;
    }
    dot as f32 / ((aa as f32).sqrt() * (bb as f32).sqrt()).max(f32::MIN_POSITIVE)
}

/// The words of a text in one buffer.
#[derive(Default)]
struct Words {
    text: String,
    ends: Vec<usize>,
    hashes: Vec<u64>,
}

impl Words {
    fn push(&mut self, word: &str) {
        self.text.push_str(word);
        self.ends.push(self.text.len());
        self.hashes.push(fnv(SEED, word.as_bytes()));
    }

    fn get(&self, at: usize) -> &str {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.text[start..self.ends[at]]
    }
}

const SEED: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(mut hash: u64, bytes: &[u8]) -> u64 {
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

fn finish(hash: u64) -> u64 {
    hash ^ (hash >> 32)
}

/// The keys are hashes already.
type Hasher = std::hash::BuildHasherDefault<Identity>;

#[derive(Default)]
struct Identity(u64);

impl std::hash::Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = fnv(self.0, bytes);
    }
    fn write_u64(&mut self, value: u64) {
        // The high bits choose within hashbrown's groups; spread them.
        self.0 = finish(value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_match_the_reference() {
        let table = Table::shipped().unwrap();
        let reference: serde_json::Value =
            serde_json::from_str(include_str!("../../model/code-static-v2.vectors.json")).unwrap();
        let items = reference["items"].as_array().unwrap();
        assert!(items.len() >= 5);
        for item in items {
            let text = item["text"].as_str().unwrap();
            let ours = if item["side"] == "query" {
                table.query_vector(text)
            } else {
                table.code_vector(item["place"].as_str().unwrap_or_default(), text)
            };
            let theirs: Option<Vec<f32>> = item["vector"]
                .as_array()
                .map(|v| v.iter().map(|x| x.as_f64().unwrap() as f32).collect());
            match (ours, theirs) {
                (Some(ours), Some(theirs)) => {
                    assert_eq!(ours.len(), theirs.len());
                    let off =
                        ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(off < 1e-4, "{text:?}: off by {off}");
                }
                (ours, theirs) => assert_eq!(
                    ours.is_some(),
                    theirs.is_some_and(|v| v.iter().any(|x| *x != 0.0)),
                    "{text:?}"
                ),
            }
        }
    }

    #[test]
    fn meaning_beats_letters() {
        let table = Table::shipped().unwrap();
        let query = table.query("remove an entry from the collection").unwrap();
        let near =
            table.chunk("", "fn delete(&mut self, key: K) { self.items.drop(key); }").unwrap();
        let far =
            table.chunk("", "fn render(frame: Frame) { draw_triangle(color, shader); }").unwrap();
        assert!(cosine(&query, &near) > cosine(&query, &far) + 0.05);
    }

    #[test]
    fn damaged_tables_are_refused() {
        assert!(Table::new(&[]).is_err());
        for cut in [10, 63, 64, 10_000, SHIPPED.len() - 1] {
            assert!(Table::new(&SHIPPED[..cut]).is_err(), "{cut}");
        }
        for (at, value) in [(0, b'X'), (8, 9), (13, 9), (20, 3), (24, 5), (28, 0), (48, 1)] {
            let mut bytes = SHIPPED.to_vec();
            bytes[at] = value;
            assert!(Table::new(Box::leak(bytes.into_boxed_slice())).is_err(), "byte {at}");
        }
    }

    #[test]
    fn nothing_known_gives_no_vector() {
        let table = Table::shipped().unwrap();
        assert!(table.query("").is_none());
        assert!(table.query("123 456 ___ !!!").is_none());
        assert!(table.query("zzzzqqqqxxxx").is_some(), "pieces of an unknown word");
        table.chunk("größe", &"ß".repeat(10_000));
    }
}
