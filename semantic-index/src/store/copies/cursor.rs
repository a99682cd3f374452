//! A word's postings, block by block, for `words`.

use super::words::{Term, Words};

/// BM25 as LanceDB has it.
pub(super) const K1: f64 = 1.2;
const B: f64 = 0.75;
/// Rows of a block; a word with more rows has a directory of its blocks.
pub(super) const BLOCK: usize = 128;
/// last row u32, end of the block's bytes u32, most occurrences u16, shortest row u16.
pub(super) const ENTRY: usize = 12;

pub(super) fn score(weight: f64, count: u16, length: u16, mean: f64) -> f64 {
    let count = f64::from(count);
    weight * count / (count + K1 * (1.0 - B + B * f64::from(length) / mean))
}

/// Walks one word's rows forwards.
pub(super) struct Cursor<'a> {
    pub(super) weight: f64,
    /// Most that the word adds to a row of the current window.
    pub(super) bound: f64,
    rows: u32,
    end_row: u32,
    most: u16,
    shortest: u16,
    directory: &'a [u8],
    bytes: &'a [u8],
    /// The first block that may hold what is asked for next.
    block: usize,
    /// Which block is unpacked below.
    unpacked: Option<usize>,
    found: Vec<(u32, u16)>,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(words: &'a Words, term: &Term, weight: f64) -> Option<Self> {
        let all = words.map.get(term.bytes.clone())?;
        let blocks = (term.rows as usize).div_ceil(BLOCK);
        let (directory, bytes) =
            all.split_at_checked(if blocks > 1 { blocks * ENTRY } else { 0 })?;
        Some(Self {
            weight,
            bound: 0.0,
            rows: term.rows,
            end_row: words.rows,
            most: term.most,
            shortest: term.shortest,
            directory,
            bytes,
            block: 0,
            unpacked: None,
            found: Vec::new(),
            at: 0,
        })
    }

    fn blocks(&self) -> usize {
        (self.rows as usize).div_ceil(BLOCK)
    }

    /// (last row, most occurrences, shortest row)
    fn entry(&self, block: usize) -> (u32, u16, u16) {
        let at = block * ENTRY;
        match (
            int(self.directory, at),
            short(self.directory, at + 8),
            short(self.directory, at + 10),
        ) {
            (Some(last), Some(most), Some(shortest)) => (last, most, shortest),
            _ => (u32::MAX, self.most, self.shortest),
        }
    }

    /// Moves to the first block that reaches `row`.
    fn reach(&mut self, row: u32) {
        while self.block < self.blocks() && self.entry(self.block).0 < row {
            self.block += 1;
        }
    }

    /// Most that a row of the window can get from this word.
    pub(super) fn bound_within(&mut self, from: u32, to: u32, mean: f64) -> f64 {
        if self.directory.is_empty() {
            self.unpack(0);
            let next = self.found.partition_point(|(row, _)| *row < from);
            let any = self.found.get(next).is_some_and(|(row, _)| *row < to);
            return if any { score(self.weight, self.most, self.shortest, mean) } else { 0.0 };
        }
        self.reach(from);
        let mut bound = 0.0_f64;
        let mut block = self.block;
        let mut first = from;
        while block < self.blocks() && first < to {
            let (last, most, shortest) = self.entry(block);
            bound = bound.max(score(self.weight, most, shortest, mean));
            first = last.saturating_add(1);
            block += 1;
        }
        bound
    }

    pub(super) fn each_within(&mut self, from: u32, to: u32, mut each: impl FnMut(u32, u16)) {
        self.reach(from);
        let mut block = self.block;
        while block < self.blocks() {
            self.unpack(block);
            let start = self.found.partition_point(|(row, _)| *row < from);
            for (row, count) in &self.found[start..] {
                if *row >= to {
                    return;
                }
                each(*row, *count);
            }
            block += 1;
        }
    }

    /// How often the word stands in this row; rows are asked for in order.
    pub(super) fn count_in(&mut self, row: u32) -> Option<u16> {
        self.reach(row);
        if self.block >= self.blocks() {
            return None;
        }
        self.unpack(self.block);
        while self.found.get(self.at).is_some_and(|(at, _)| *at < row) {
            self.at += 1;
        }
        self.found.get(self.at).filter(|(at, _)| *at == row).map(|(_, count)| *count)
    }

    fn unpack(&mut self, block: usize) {
        if self.unpacked == Some(block) {
            return;
        }
        self.unpacked = Some(block);
        self.at = 0;
        self.found.clear();
        let end_of = |block: usize| int(self.directory, block * ENTRY + 4).map(|n| n as usize);
        let (start, before) = if block == 0 {
            (0, 0)
        } else {
            (end_of(block - 1).unwrap_or(usize::MAX), self.entry(block - 1).0)
        };
        let end = end_of(block).unwrap_or(self.bytes.len());
        let mut bytes = self.bytes.get(start..end).unwrap_or_default();
        let mut row = u64::from(before);
        while let Some(number) = take(&mut bytes) {
            row = row.saturating_add(number >> 1);
            let count = if number & 1 == 1 { Some(1) } else { take(&mut bytes) };
            // Only a damaged file has such rows.
            let (Ok(here), Some(count)) = (u32::try_from(row), count) else { break };
            if here >= self.end_row || self.found.len() >= BLOCK {
                break;
            }
            self.found.push((here, u16::try_from(count).unwrap_or(u16::MAX)));
        }
    }
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..63).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

pub(super) fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

pub(super) fn int(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub(super) fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}
