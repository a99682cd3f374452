//! BM25 over the rows of one segment, in one mapped file.
//!
//! The table's words turned round: for each word the rows that have it and how often, in
//! blocks of 128, each with the most that a row of it is worth. A search takes windows of
//! rows, some that may hold the best first, and leaves out those that can hold none; words that
//! cannot lift a row of a window among the best so far are looked up only for rows that others
//! lift. The result is exact. Nothing is held in memory but a cursor a word, and a bound for each
//! word and window.
//!
//! Layout, little endian: header; length of each row (u16); words in order, a record each;
//! their text; their postings. A posting is the distance to the row before it, shifted left
//! by one, the lowest bit set when the word stands there once; else its count follows.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use memmap2::Mmap;

use super::cursor::{BLOCK, Cursor, ENTRY, K1, int, long, rounded, score, short, unpack, worth};

const MAGIC: &[u8; 8] = b"LAIWRD02";
const HEADER: usize = 64;
/// text at u32, text length u16, most of a row's worth u16, rows u32, 0 u32, postings at u64.
const TERM: usize = 24;
/// Rows that are scored together.
pub const WINDOW: u32 = 1024;

/// What BM25 needs to know of the whole index.
#[derive(Debug, Clone, Copy)]
pub struct Totals {
    pub rows: u64,
    pub length: u64,
}

impl Totals {
    /// How much one occurrence in rows this rare weighs.
    pub fn weight(self, rows_with: u64) -> f64 {
        let (n, df) = (self.rows as f64, rows_with.min(self.rows) as f64);
        ((n - df + 0.5) / (df + 0.5) + 1.0).ln() * (K1 + 1.0)
    }

    pub fn mean(self) -> f64 {
        (self.length as f64 / self.rows.max(1) as f64).max(f64::MIN_POSITIVE)
    }
}

/// One word's rows on their way into the file.
#[derive(Debug, Default)]
struct Postings {
    bytes: Vec<u8>,
    /// (last row, end of bytes) of each full block.
    blocks: Vec<(u32, u32)>,
    rows: u32,
    last: u32,
}

impl Postings {
    fn push(&mut self, row: u32, count: u16) {
        let distance = if self.rows == 0 { row } else { row - self.last };
        varint(&mut self.bytes, u64::from(distance) << 1 | u64::from(count == 1));
        if count != 1 {
            varint(&mut self.bytes, u64::from(count));
        }
        self.rows += 1;
        self.last = row;
        if (self.rows as usize).is_multiple_of(BLOCK) {
            self.blocks.push((row, self.bytes.len() as u32));
        }
    }

    fn close(&mut self) {
        if !(self.rows as usize).is_multiple_of(BLOCK) {
            self.blocks.push((self.last, self.bytes.len() as u32));
        }
    }

    /// The most that a row of each block is worth.
    fn most(&self, lengths: &[u16], mean: f64) -> Vec<u16> {
        let (mut start, mut before) = (0, 0);
        let mut out = Vec::with_capacity(self.blocks.len());
        for (last, end) in &self.blocks {
            let mut most = 0.0_f64;
            unpack(&self.bytes[start..*end as usize], before, |row, count| {
                most = most.max(worth(count, lengths[row as usize], mean));
                true
            });
            out.push(rounded(most));
            (start, before) = (*end as usize, *last);
        }
        out
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Gathers the words of a segment's rows; memory is about two bytes a word and row.
#[derive(Debug, Default)]
pub struct Writer {
    lengths: Vec<u16>,
    length: u64,
    numbers: HashMap<Box<str>, u32>,
    postings: Vec<Postings>,
    /// Numbers of the words of the row in hand.
    row: Vec<u32>,
}

impl Writer {
    /// Adds the next row: its words, separated by spaces.
    pub fn push(&mut self, words: &str) {
        let row = self.lengths.len() as u32;
        self.row.clear();
        for word in words.split_ascii_whitespace() {
            let number = if let Some(number) = self.numbers.get(word) {
                *number
            } else {
                let number = self.postings.len() as u32;
                self.numbers.insert(word.into(), number);
                self.postings.push(Postings::default());
                number
            };
            self.row.push(number);
        }
        let short = u16::try_from(self.row.len()).unwrap_or(u16::MAX);
        self.row.sort_unstable();
        for same in self.row.chunk_by(u32::eq) {
            let count = u16::try_from(same.len()).unwrap_or(u16::MAX);
            self.postings[same[0] as usize].push(row, count);
        }
        self.lengths.push(short);
        self.length += u64::from(short);
    }

    /// Writes the file; the header comes last, so that a file cut short is no file.
    pub fn finish(mut self, path: &Path) -> io::Result<()> {
        let file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let mut terms: Vec<(Box<str>, u32)> = self.numbers.drain().collect();
        terms.sort_unstable();
        let mut out = BufWriter::with_capacity(1 << 18, file);
        out.write_all(&[0; HEADER])?;
        for length in &self.lengths {
            out.write_all(&length.to_le_bytes())?;
        }
        let (mut text_at, mut at) = (0_u32, 0_u64);
        let mean = Totals { rows: self.lengths.len() as u64, length: self.length }.mean();
        let mut worths = Vec::with_capacity(terms.len());
        for (text, number) in &terms {
            let postings = &mut self.postings[*number as usize];
            postings.close();
            let worth = postings.most(&self.lengths, mean);
            let most = worth.iter().copied().max().unwrap_or(0);
            out.write_all(&text_at.to_le_bytes())?;
            out.write_all(&(text.len() as u16).to_le_bytes())?;
            out.write_all(&most.to_le_bytes())?;
            out.write_all(&postings.rows.to_le_bytes())?;
            out.write_all(&[0; 4])?;
            out.write_all(&at.to_le_bytes())?;
            let directory = if postings.rows as usize > BLOCK { postings.blocks.len() } else { 0 };
            text_at = text_at.checked_add(text.len() as u32).ok_or_else(too_large)?;
            at += (directory * ENTRY + postings.bytes.len()) as u64;
            worths.push(if directory > 0 { worth } else { Vec::new() });
        }
        for (text, _) in &terms {
            out.write_all(text.as_bytes())?;
        }
        for ((_, number), worths) in terms.iter().zip(&worths) {
            let postings = &self.postings[*number as usize];
            // A word with one block has no worths here.
            for ((last, end), most) in postings.blocks.iter().zip(worths) {
                out.write_all(&last.to_le_bytes())?;
                out.write_all(&end.to_le_bytes())?;
                out.write_all(&most.to_le_bytes())?;
                out.write_all(&[0; 2])?;
            }
            out.write_all(&postings.bytes)?;
        }
        let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        let numbers =
            [self.lengths.len() as u64, self.length, terms.len() as u64, u64::from(text_at), at];
        for (n, number) in numbers.into_iter().enumerate() {
            header[8 + n * 8..16 + n * 8].copy_from_slice(&number.to_le_bytes());
        }
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header)?;
        file.sync_data()
    }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "too many words in one segment")
}

/// The mapped file.
#[derive(Debug)]
pub struct Words {
    pub(super) map: Mmap,
    pub(super) rows: u32,
    length: u64,
    terms: usize,
    lengths: Range<usize>,
    records: Range<usize>,
    texts: Range<usize>,
    postings: Range<usize>,
}

/// Where a word's rows lie.
#[derive(Debug, Clone)]
pub struct Term {
    /// How many rows have it.
    pub rows: u32,
    pub(super) most: u16,
    pub(super) bytes: Range<usize>,
}

impl Words {
    /// None when there is no usable file.
    pub fn open(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        // SAFETY: the file is ours (a 0700 folder), written once under a name of its own and
        // only ever unlinked, never changed or cut, while readers may map it.
        let map = unsafe { Mmap::map(&file).ok()? };
        if map.get(..8)? != MAGIC {
            return None;
        }
        let number = |n: usize| usize::try_from(long(&map, 8 + n * 8)?).ok();
        let section = |start: usize, count: usize, each: usize| {
            Some(start..start.checked_add(count.checked_mul(each)?)?)
        };
        let (rows, terms) = (number(0)?, number(2)?);
        let lengths = section(HEADER, rows, 2)?;
        let records = section(lengths.end, terms, TERM)?;
        let texts = section(records.end, number(3)?, 1)?;
        let postings = section(texts.end, number(4)?, 1)?;
        let (rows, length) = (u32::try_from(rows).ok()?, long(&map, 16)?);
        let sane = postings.end == map.len() && length <= u64::from(rows) * u64::from(u16::MAX);
        sane.then_some(Self { map, rows, length, terms, lengths, records, texts, postings })
    }

    pub fn totals(&self) -> Totals {
        Totals { rows: u64::from(self.rows), length: self.length }
    }

    /// Drops the file's pages from this process; the next question maps them again.
    pub fn let_go(&self) {
        // SAFETY: a read-only mapping of a file that does not change: what is read again is
        // what was there.
        let _ = unsafe { self.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    }

    /// Whether a word stands in a row.
    pub fn has(&self, term: &Term, row: u32) -> bool {
        Cursor::new(self, term, 1.0, 1.0).is_some_and(|mut cursor| cursor.count_in(row).is_some())
    }

    /// Looks a word up.
    pub fn term(&self, word: &str) -> Option<Term> {
        let (mut low, mut high) = (0, self.terms);
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.text(middle)?.cmp(word.as_bytes()) {
                std::cmp::Ordering::Equal => return self.record(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    fn text(&self, term: usize) -> Option<&[u8]> {
        let at = self.records.start + term * TERM;
        let from = self.texts.start.checked_add(int(&self.map, at)? as usize)?;
        let to = from.checked_add(usize::from(short(&self.map, at + 4)?))?;
        self.map.get(from..to)
    }

    fn record(&self, term: usize) -> Option<Term> {
        let at = self.records.start + term * TERM;
        let place = |at: usize| {
            self.postings.start.checked_add(usize::try_from(long(&self.map, at + 16)?).ok()?)
        };
        let from = place(at)?;
        let to = if term + 1 < self.terms { place(at + TERM)? } else { self.postings.end };
        let sane = from <= to && to <= self.postings.end;
        sane.then_some(Term {
            rows: int(&self.map, at + 8)?,
            most: short(&self.map, at + 6)?,
            bytes: from..to,
        })
    }

    /// The lengths of the rows of a window.
    fn lengths(&self, from: u32, to: u32) -> &[[u8; 2]] {
        let all = self.map.get(self.lengths.clone()).unwrap_or_default().as_chunks::<2>().0;
        all.get(from as usize..to as usize).unwrap_or_default()
    }
}

/// A question on its way through one segment.
pub struct Search<'a> {
    words: &'a Words,
    cursors: Vec<Cursor<'a>>,
    windows: usize,
    /// Cursor by cursor, the most that a row of each window can get from it.
    bounds: Vec<f64>,
}

/// What a search writes into, window after window.
pub struct Desk {
    mean: f64,
    scores: Vec<f64>,
    order: Vec<usize>,
}

impl Desk {
    pub fn new(totals: Totals) -> Self {
        let scores = vec![0.0; WINDOW as usize];
        Self { mean: totals.mean(), scores, order: Vec::new() }
    }
}

impl<'a> Search<'a> {
    /// `weights` are of the whole index and belong to `terms`.
    pub fn new(words: &'a Words, terms: &[(Term, f64)], totals: Totals) -> Self {
        // The bounds were written with the lengths of the segment alone.
        let drift = (totals.mean() / words.totals().mean()).max(1.0);
        let mut cursors: Vec<Cursor<'_>> = terms
            .iter()
            .filter_map(|(term, weight)| Cursor::new(words, term, *weight, drift))
            .collect();
        let windows = words.rows.div_ceil(WINDOW) as usize;
        let mut bounds = vec![0.0; cursors.len() * windows];
        for (cursor, bounds) in cursors.iter_mut().zip(bounds.chunks_mut(windows.max(1))) {
            cursor.bounds(WINDOW, bounds);
        }
        Self { words, cursors, windows, bounds }
    }

    /// Tells of each window the most that a row of it can score.
    pub fn windows(&self, mut each: impl FnMut(u32, f64)) {
        for window in 0..self.windows {
            let of = |at: usize| self.bounds[at * self.windows + window];
            each(window as u32, (0..self.cursors.len()).map(of).sum());
        }
    }

    /// Offers every row of the window that may be among the best, with its score, to `best`.
    pub fn window(&mut self, window: u32, desk: &mut Desk, best: &mut impl Best) {
        let from = window * WINDOW;
        let to = from.saturating_add(WINDOW).min(self.words.rows);
        let (windows, bounds) = (self.windows, &self.bounds);
        let bound = |at: usize| bounds[at * windows + window as usize];
        let Desk { mean, scores, order } = desk;
        order.clear();
        order.extend((0..self.cursors.len()).filter(|at| bound(*at) > 0.0));
        order.sort_unstable_by(|a, b| bound(*a).total_cmp(&bound(*b)));
        // The words that together cannot lift a row: looked up for others' rows only.
        let (mut few, mut sum) = (0, 0.0);
        while few < order.len() && sum + bound(order[few]) < best.threshold() {
            sum += bound(order[few]);
            few += 1;
        }
        let lengths = self.words.lengths(from, to);
        let length = |slot: usize| lengths.get(slot).map_or(u16::MAX, |l| u16::from_le_bytes(*l));
        let mut seen = [0_u64; WINDOW as usize / 64];
        for at in &order[few..] {
            let weight = self.cursors[*at].weight;
            self.cursors[*at].each_within(from, to, |row, count| {
                let slot = (row - from) as usize;
                seen[slot / 64] |= 1 << (slot % 64);
                scores[slot] += score(weight, count, length(slot), *mean);
            });
        }
        for (word, bits) in seen.iter().enumerate() {
            let mut bits = *bits;
            while bits != 0 {
                let slot = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let mut here = std::mem::take(&mut scores[slot]);
                let mut rest = sum;
                for at in order[..few].iter().rev() {
                    if here + rest < best.threshold() {
                        break;
                    }
                    rest -= bound(*at);
                    let cursor = &mut self.cursors[*at];
                    if let Some(count) = cursor.count_in(from + slot as u32) {
                        here += score(cursor.weight, count, length(slot), *mean);
                    }
                }
                if here >= best.threshold() {
                    best.offer(from + slot as u32, here);
                }
            }
        }
    }
}

/// Keeps the best rows.
pub trait Best {
    /// A row must score as much; among equals the first wins.
    fn threshold(&self) -> f64;
    fn offer(&mut self, row: u32, score: f64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bm25::Bm25;

    struct Top(Vec<(u32, f64)>, usize);

    impl Best for Top {
        fn threshold(&self) -> f64 {
            if self.0.len() < self.1 { 0.0 } else { self.0[self.1 - 1].1 }
        }
        fn offer(&mut self, row: u32, score: f64) {
            self.0.push((row, score));
            self.0.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            self.0.truncate(self.1);
        }
    }

    /// Texts whose words are as unevenly common as real ones.
    fn texts(rows: u64) -> Vec<String> {
        let mut state = 7_u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state >> 11
        };
        (0..rows)
            .map(|_| {
                let words = next() % 40;
                let word = |_| {
                    let rank = 1 << (next() % 14);
                    format!("w{}", next() % rank)
                };
                (0..words).map(word).collect::<Vec<_>>().join(" ")
            })
            .collect()
    }

    fn written(texts: &[String]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("words");
        let mut writer = Writer::default();
        for text in texts {
            writer.push(text);
        }
        writer.finish(&path).unwrap();
        (dir, path)
    }

    /// `whole`: the file is not damaged, so that its bounds hold.
    fn ask(words: &Words, query: &[String], limit: usize, whole: bool) -> Vec<(u32, f64)> {
        let totals = words.totals();
        let terms: Vec<_> = query
            .iter()
            .filter_map(|word| words.term(word))
            .map(|term| (term.clone(), totals.weight(u64::from(term.rows))))
            .collect();
        let mut best = Top(Vec::new(), limit);
        let mut search = Search::new(words, &terms, totals);
        let mut desk = Desk::new(totals);
        let mut windows = Vec::new();
        search.windows(|window, bound| windows.push((bound, window)));
        windows.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (bound, window) in windows {
            let before = best.0.clone();
            let least = best.threshold();
            search.window(window, &mut desk, &mut best);
            // What the order of windows rests on.
            assert!(bound >= least || best.0 == before || !whole);
            let new = best.0.iter().filter(|row| !before.contains(row));
            assert!(new.into_iter().all(|(_, score)| *score <= bound || !whole), "{bound}");
        }
        best.0
    }

    #[test]
    fn the_best_rows_are_those_of_a_full_count() {
        let texts = texts(3 * u64::from(WINDOW) + 100);
        let (_dir, path) = written(&texts);
        let words = Words::open(&path).unwrap();
        let mut full = Bm25::default();
        for text in &texts {
            full.add(text);
        }
        for query in [
            &["w0", "w1", "w5000"][..],
            &["w0"],
            &["w3", "w77", "w1200", "absent"],
            &["w8000", "w8001"],
            &["w0", "w1", "w2", "w3", "w4", "w5", "w6", "w7", "w8", "w9", "w10"],
        ] {
            let query: Vec<String> = query.iter().map(ToString::to_string).collect();
            for limit in [1, 10, 150] {
                let (ours, all) = (ask(&words, &query, limit, true), full.search(&query, limit));
                assert_eq!(ours.len(), all.len(), "{query:?}");
                for (ours, full) in ours.iter().zip(&all) {
                    assert!((ours.1 as f32 - full.1).abs() < 1e-4, "{query:?} {ours:?} {full:?}");
                }
            }
        }
        assert!(ask(&words, &["absent".into()], 5, true).is_empty());
    }

    #[test]
    fn a_damaged_file_is_no_file_or_finds_less() {
        let (dir, path) = written(&texts(600));
        let whole = std::fs::read(&path).unwrap();
        let query: Vec<String> = ["w0", "w1", "w9", "w300"].map(String::from).into();
        let bad = dir.path().join("bad");
        for len in [0, 7, 63, 64, whole.len() - 1] {
            std::fs::write(&bad, &whole[..len]).unwrap();
            assert!(Words::open(&bad).is_none(), "{len} bytes");
        }
        for at in (0..whole.len()).step_by(5) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            std::fs::write(&bad, &bytes).unwrap();
            if let Some(words) = Words::open(&bad) {
                assert!(ask(&words, &query, 20, false).iter().all(|(row, _)| *row < 600));
            }
        }
    }

    #[test]
    fn an_empty_segment_finds_nothing() {
        let (_dir, path) = written(&[]);
        assert!(ask(&Words::open(&path).unwrap(), &["w0".into()], 5, true).is_empty());
    }
}
