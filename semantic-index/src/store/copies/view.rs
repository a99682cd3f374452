//! Which segments copy the table, and which of their rows are gone: one small file that a
//! build writes last.

use std::fs;
use std::io;
use std::path::Path;

const MAGIC: &[u8; 8] = b"LAIVIEW1";

/// The segments that together hold every row of one version of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The version of the table.
    pub version: u64,
    pub segments: Vec<Part>,
}

/// One segment as the view sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// In the names of its files.
    pub number: u64,
    /// A bit a row that is gone; empty when none is.
    pub dead: Vec<u64>,
}

impl Part {
    pub fn is_dead(&self, row: u32) -> bool {
        self.dead.get(row as usize / 64).is_some_and(|bits| bits >> (row % 64) & 1 == 1)
    }

    /// Whether it can be of a segment with so many rows.
    pub fn fits(&self, rows: u32) -> bool {
        let words = (rows as usize).div_ceil(64);
        self.dead.is_empty()
            || self.dead.len() == words
                && (rows.is_multiple_of(64) || self.dead[words - 1] >> (rows % 64) == 0)
    }

    /// Marks a row of `rows` as gone.
    pub fn bury(&mut self, rows: u32, row: u32) {
        if self.dead.is_empty() {
            self.dead = vec![0; (rows as usize).div_ceil(64)];
        }
        self.dead[row as usize / 64] |= 1 << (row % 64);
    }

    pub fn dead_rows(&self) -> u32 {
        self.dead.iter().map(|bits| bits.count_ones()).sum()
    }
}

impl View {
    /// None when it is missing or damaged.
    pub fn load(path: &Path) -> Option<Self> {
        let bytes = fs::read(path).ok()?;
        let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
        if blake3::hash(body).as_bytes() != sum {
            return None;
        }
        let mut numbers = body
            .strip_prefix(MAGIC)?
            .chunks_exact(8)
            .map(|bytes| bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
        let version = numbers.next()?;
        let count = numbers.next()?;
        let mut segments = Vec::new();
        for _ in 0..count {
            let (number, words) = (numbers.next()?, numbers.next()?);
            let mut dead = Vec::new();
            for _ in 0..words {
                dead.push(numbers.next()?);
            }
            segments.push(Part { number, dead });
        }
        Some(Self { version, segments })
    }

    /// Writes it under its own new name.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let mut numbers = vec![self.version, self.segments.len() as u64];
        for part in &self.segments {
            numbers.extend([part.number, part.dead.len() as u64]);
            numbers.extend(&part.dead);
        }
        let mut out = MAGIC.to_vec();
        out.extend(numbers.into_iter().flat_map(u64::to_le_bytes));
        let sum = blake3::hash(&out);
        out.extend_from_slice(sum.as_bytes());
        crate::manifest::replace(path, &out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_comes_back_and_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("view-1");
        let segments = vec![
            Part { number: 7, dead: Vec::new() },
            Part { number: 9, dead: vec![1 << 63, 0, 5] },
        ];
        let view = View { version: 12, segments };
        view.save(&path).unwrap();
        assert_eq!(View::load(&path).as_ref(), Some(&view));
        let part = &view.segments[1];
        assert!(part.is_dead(63) && part.is_dead(128) && part.is_dead(130));
        assert!(!part.is_dead(0) && !part.is_dead(129) && !part.is_dead(4000));
        assert_eq!(part.dead_rows(), 3);
        assert!(part.fits(131) && part.fits(192));
        assert!(!part.fits(130) && !part.fits(193) && !part.fits(128) && !part.fits(0));
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 4;
            fs::write(&path, &bad).unwrap();
            assert!(View::load(&path).is_none(), "{at}");
        }
        fs::write(&path, &bytes[..20]).unwrap();
        assert!(View::load(&path).is_none());
    }
}
