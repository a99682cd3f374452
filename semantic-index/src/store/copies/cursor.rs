//! A word's postings, block by block, for `words`.

use super::words::{Term, Words};

/// BM25 as LanceDB has it.
pub(super) const K1: f64 = 1.2;
const B: f64 = 0.75;
/// Rows of a block; a word with more rows has a directory of its blocks.
pub(super) const BLOCK: usize = 128;
/// last row u32, end of the block's bytes u32, most of a row's worth u16, 0 u16.
pub(super) const ENTRY: usize = 12;

pub(super) fn score(weight: f64, count: u16, length: u16, mean: f64) -> f64 {
    weight * worth(count, length, mean)
}

/// What a word's occurrences in a row of this length are worth: from 0 to 1.
pub(super) fn worth(count: u16, length: u16, mean: f64) -> f64 {
    let count = f64::from(count);
    count / (count + K1 * (1.0 - B + B * f64::from(length) / mean))
}

/// In 65,535ths, rounded up.
pub(super) fn rounded(worth: f64) -> u16 {
    (worth * f64::from(u16::MAX)).ceil() as u16
}

/// Walks one word's rows.
pub(super) struct Cursor<'a> {
    pub(super) weight: f64,
    /// What a row may be worth at most in the whole index for each 65,535th here.
    scale: f64,
    rows: u32,
    end_row: u32,
    most: u16,
    directory: &'a [u8],
    bytes: &'a [u8],
    /// Which block is unpacked below.
    unpacked: Option<usize>,
    found: Vec<(u32, u16)>,
}

impl<'a> Cursor<'a> {
    /// `drift`: how much more a row may be worth with the lengths of the whole index than
    /// with those of this segment.
    pub(super) fn new(words: &'a Words, term: &Term, weight: f64, drift: f64) -> Option<Self> {
        let all = words.map.get(term.bytes.clone())?;
        let blocks = (term.rows as usize).div_ceil(BLOCK);
        let (directory, bytes) =
            all.split_at_checked(if blocks > 1 { blocks * ENTRY } else { 0 })?;
        Some(Self {
            weight,
            scale: weight * drift / f64::from(u16::MAX),
            rows: term.rows,
            end_row: words.rows,
            most: term.most,
            directory,
            bytes,
            unpacked: None,
            found: Vec::with_capacity(BLOCK.min(term.rows as usize)),
        })
    }

    fn blocks(&self) -> usize {
        (self.rows as usize).div_ceil(BLOCK)
    }

    /// (last row, most of a row's worth)
    fn entry(&self, block: usize) -> (u32, u16) {
        let at = block * ENTRY;
        match (int(self.directory, at), short(self.directory, at + 8)) {
            (Some(last), Some(most)) => (last, most),
            _ => (u32::MAX, self.most),
        }
    }

    /// The first block that reaches `row`.
    fn reach(&self, row: u32) -> usize {
        let (mut low, mut high) = (0, self.blocks());
        // The block in hand, or the one after it, is what is mostly asked for.
        if let Some(here) = self.unpacked {
            if self.entry(here).0 < row {
                low = here + 1;
                if low < high && self.entry(low).0 >= row {
                    return low;
                }
            } else {
                high = here;
                if here == 0 || self.entry(here - 1).0 < row {
                    return here;
                }
            }
        }
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.entry(middle).0 < row { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Lifts each window's bound by the most that a row of it can get from this word.
    pub(super) fn bounds(&mut self, window: u32, bounds: &mut [f64]) {
        if self.directory.is_empty() {
            self.unpack(0);
            let most = self.scale * f64::from(self.most);
            for (row, _) in &self.found {
                if let Some(bound) = bounds.get_mut((row / window) as usize) {
                    *bound = most;
                }
            }
            return;
        }
        let mut first = 0;
        for block in 0..self.blocks() {
            let (last, most) = self.entry(block);
            let most = self.scale * f64::from(most);
            let last_window = ((last / window) as usize).min(bounds.len().saturating_sub(1));
            for bound in bounds.get_mut(first..=last_window).into_iter().flatten() {
                *bound = bound.max(most);
            }
            first = (last.saturating_add(1) / window) as usize;
        }
    }

    pub(super) fn each_within(&mut self, from: u32, to: u32, mut each: impl FnMut(u32, u16)) {
        let mut block = self.reach(from);
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

    /// How often the word stands in this row.
    pub(super) fn count_in(&mut self, row: u32) -> Option<u16> {
        let block = self.reach(row);
        if block >= self.blocks() {
            return None;
        }
        self.unpack(block);
        let at = self.found.binary_search_by_key(&row, |(row, _)| *row).ok()?;
        Some(self.found[at].1)
    }

    fn unpack(&mut self, block: usize) {
        if self.unpacked == Some(block) {
            return;
        }
        self.unpacked = Some(block);
        self.found.clear();
        let end_of = |block: usize| int(self.directory, block * ENTRY + 4).map(|n| n as usize);
        let (start, before) = if block == 0 {
            (0, 0)
        } else {
            (end_of(block - 1).unwrap_or(usize::MAX), self.entry(block - 1).0)
        };
        let end = end_of(block).unwrap_or(self.bytes.len());
        let bytes = self.bytes.get(start..end).unwrap_or_default();
        unpack(bytes, before, |row, count| {
            // Only a damaged file has such rows.
            let sane = row < self.end_row && self.found.len() < BLOCK;
            if sane {
                self.found.push((row, count));
            }
            sane
        });
    }
}

/// Reads postings that follow the row `before`, until `each` says that it is enough.
pub(super) fn unpack(mut bytes: &[u8], before: u32, mut each: impl FnMut(u32, u16) -> bool) {
    let mut row = u64::from(before);
    while let Some(number) = take(&mut bytes) {
        row = row.saturating_add(number >> 1);
        let count = if number & 1 == 1 { Some(1) } else { take(&mut bytes) };
        let (Ok(here), Some(count)) = (u32::try_from(row), count) else { break };
        if !each(here, u16::try_from(count).unwrap_or(u16::MAX)) {
            break;
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
