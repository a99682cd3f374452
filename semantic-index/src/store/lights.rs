//! What ranking needs of every row, in one mapped file beside the vectors.
//!
//! A copy of the light columns, written at the end of each build. A question takes two
//! hundred candidates from all over the table; read from LanceDB they cost most of its time
//! and memory, read from here a binary search and a few pages of the page cache. The table
//! stays the truth: the file names the version of the table that it copies, and with any
//! other version, or without the file, candidates come from the table.
//!
//! Layout, little endian: a header; one record a row, in the order of the table's scan; their
//! strings; the runs of records whose row ids ascend (a fragment each, more or less).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use memmap2::Mmap;

use crate::rank::Candidate;

const MAGIC: &[u8; 8] = b"LAILIT01";
const HEADER: usize = 64;
const RECORD: usize = 56;
const RUN: usize = 32;
/// In a record: this row has no vector.
const NO_VECTOR: u32 = u32::MAX;

/// One row on its way into the file.
#[derive(Debug, Clone, Copy)]
pub struct Light<'a> {
    pub row: u64,
    pub start_line: u32,
    pub end_line: u32,
    /// Its place in the file of vectors.
    pub vector: Option<u32>,
    pub flags: u8,
    /// Path, symbol, kind, crumb.
    pub texts: [&'a str; 4],
}

/// Records whose row ids ascend.
#[derive(Debug, Clone, Copy)]
struct Run {
    first: u64,
    last: u64,
    at: u64,
    count: u64,
}

/// Writes the file; it is one when `finish` has written the header.
#[derive(Debug)]
pub struct Writer {
    file: File,
    count: u64,
    done: u64,
    records: Vec<u8>,
    texts: Vec<u8>,
    /// Bytes of strings that are in the file.
    texts_done: u64,
    runs: Vec<Run>,
}

impl Writer {
    pub fn create(path: &Path, count: usize) -> io::Result<Self> {
        let file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        Ok(Self {
            file,
            count: count as u64,
            done: 0,
            records: Vec::new(),
            texts: Vec::new(),
            texts_done: 0,
            runs: Vec::new(),
        })
    }

    pub fn push(&mut self, light: &Light<'_>) {
        let at = self.done + (self.records.len() / RECORD) as u64;
        match self.runs.last_mut() {
            Some(run) if run.last < light.row => {
                run.last = light.row;
                run.count += 1;
            }
            _ => self.runs.push(Run { first: light.row, last: light.row, at, count: 1 }),
        }
        let text_at = self.texts_done + self.texts.len() as u64;
        self.records.extend_from_slice(&light.row.to_le_bytes());
        self.records.extend_from_slice(&text_at.to_le_bytes());
        for text in light.texts {
            self.records.extend_from_slice(&(text.len() as u32).to_le_bytes());
            self.texts.extend_from_slice(text.as_bytes());
        }
        let vector = light.vector.unwrap_or(NO_VECTOR);
        for number in [light.start_line, light.end_line, vector, u32::from(light.flags), 0, 0] {
            self.records.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// Writes out what was pushed.
    pub fn flush(&mut self) -> io::Result<()> {
        let records = (self.records.len() / RECORD) as u64;
        if self.done + records > self.count {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "more rows than announced"));
        }
        self.file.write_all_at(&self.records, HEADER as u64 + self.done * RECORD as u64)?;
        self.file.write_all_at(&self.texts, self.texts_at() + self.texts_done)?;
        self.done += records;
        self.texts_done += self.texts.len() as u64;
        self.records.clear();
        self.texts.clear();
        Ok(())
    }

    /// The header comes last: a file that was cut short is no file.
    pub fn finish(mut self, version: u64) -> io::Result<()> {
        self.flush()?;
        if self.done != self.count {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "fewer rows than announced"));
        }
        let runs: Vec<u8> = self
            .runs
            .iter()
            .flat_map(|run| [run.first, run.last, run.at, run.count])
            .flat_map(u64::to_le_bytes)
            .collect();
        self.file.write_all_at(&runs, self.texts_at() + self.texts_done)?;
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        for (at, number) in
            [self.count, self.texts_done, self.runs.len() as u64, version].into_iter().enumerate()
        {
            header[8 + at * 8..16 + at * 8].copy_from_slice(&number.to_le_bytes());
        }
        self.file.sync_data()?;
        self.file.write_all_at(&header, 0)?;
        self.file.sync_data()
    }

    fn texts_at(&self) -> u64 {
        HEADER as u64 + self.count * RECORD as u64
    }
}

/// The mapped file.
#[derive(Debug)]
pub struct Lights {
    map: Mmap,
    texts: Range<usize>,
    runs: Vec<Run>,
    version: u64,
}

impl Lights {
    /// None when there is no usable file.
    pub fn open(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        // SAFETY: as for the vectors: the file is ours, written once under a name of its own
        // and only ever unlinked while readers may map it.
        let map = unsafe { Mmap::map(&file).ok()? };
        if map.get(..8)? != MAGIC {
            return None;
        }
        let [count, texts, runs, version] = [1, 2, 3, 4].map(|n| number(&map, n * 8));
        let size = |count: u64, each: usize| usize::try_from(count).ok()?.checked_mul(each);
        let start = size(count?, RECORD)?.checked_add(HEADER)?;
        let end = start.checked_add(size(texts?, 1)?)?;
        let all = end.checked_add(size(runs?, RUN)?)?;
        if all != map.len() {
            return None;
        }
        let mut list = Vec::new();
        for at in (end..all).step_by(RUN) {
            let [first, last, from, records] = [0, 1, 2, 3].map(|n| number(&map, at + n * 8));
            let run = Run { first: first?, last: last?, at: from?, count: records? };
            if run.at.checked_add(run.count)? > count? {
                return None;
            }
            list.push(run);
        }
        Some(Self { texts: start..end, runs: list, version: version?, map })
    }

    /// The version of the table that this copies.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// A row, and where its vector is.
    pub fn get(&self, row: u64) -> Option<(Candidate, Option<u32>)> {
        let at = self.find(row)?;
        let half = |n: usize| {
            let bytes = self.map.get(at + n..at + n + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let mut from =
            self.texts.start.checked_add(usize::try_from(number(&self.map, at + 8)?).ok()?)?;
        let mut text = |n: usize| {
            let to = from.checked_add(half(16 + n * 4)? as usize)?;
            let bytes = self.map.get(from..to).filter(|_| to <= self.texts.end)?;
            from = to;
            Some(std::str::from_utf8(bytes).ok()?.to_owned())
        };
        let candidate = Candidate {
            row,
            path: text(0)?,
            symbol: text(1)?,
            kind: text(2)?,
            crumb: text(3)?,
            start_line: half(32)?,
            end_line: half(36)?,
            flags: half(44)? as u8,
            ..Candidate::default()
        };
        Some((candidate, half(40).filter(|at| *at != NO_VECTOR)))
    }

    /// Drops the file's pages from this process; the next question maps them again.
    pub fn let_go(&self) {
        // SAFETY: a read-only mapping of a file that does not change: what is read again is
        // what was there.
        let _ = unsafe { self.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    }

    /// Where the record of `row` begins.
    fn find(&self, row: u64) -> Option<usize> {
        self.runs.iter().filter(|run| run.first <= row && row <= run.last).find_map(|run| {
            let (mut low, mut high) = (run.at as usize, (run.at + run.count) as usize);
            while low < high {
                let middle = usize::midpoint(low, high);
                let at = HEADER + middle * RECORD;
                match number(&self.map, at)?.cmp(&row) {
                    std::cmp::Ordering::Equal => return Some(at),
                    std::cmp::Ordering::Less => low = middle + 1,
                    std::cmp::Ordering::Greater => high = middle,
                }
            }
            None
        })
    }
}

/// The number at this byte.
fn number(map: &Mmap, at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(map.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids as a table has them after a compaction: fragments out of order, with gaps.
    fn ids() -> Vec<u64> {
        let fragment = |n: u64, rows: u64| (0..rows).map(move |i| (n << 32) | (i * 3));
        fragment(9, 40).chain(fragment(2, 1)).chain(fragment(5, 70)).chain(fragment(4, 3)).collect()
    }

    fn written() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lights");
        let ids = ids();
        let mut writer = Writer::create(&path, ids.len()).unwrap();
        for (n, row) in ids.into_iter().enumerate() {
            let name = format!("näme_{n}");
            writer.push(&Light {
                row,
                start_line: n as u32,
                end_line: n as u32 + 9,
                vector: (n % 4 != 0).then_some(n as u32),
                flags: (n % 7) as u8,
                texts: ["src/a.rs", &name, "", "a > b"],
            });
            if n % 10 == 0 {
                writer.flush().unwrap();
            }
        }
        writer.finish(77).unwrap();
        (dir, path)
    }

    #[test]
    fn every_row_comes_back_whatever_the_order_of_fragments() {
        let (_dir, path) = written();
        let lights = Lights::open(&path).unwrap();
        assert_eq!(lights.version(), 77);
        for (n, row) in ids().into_iter().enumerate() {
            let (candidate, vector) = lights.get(row).unwrap();
            assert_eq!(candidate.symbol, format!("näme_{n}"));
            assert_eq!((candidate.path.as_str(), candidate.crumb.as_str()), ("src/a.rs", "a > b"));
            assert_eq!((candidate.start_line, candidate.end_line), (n as u32, n as u32 + 9));
            assert_eq!(
                (vector, candidate.flags),
                ((n % 4 != 0).then_some(n as u32), (n % 7) as u8)
            );
            assert!(lights.get(row + 1).is_none());
        }
    }

    #[test]
    fn a_file_that_is_damaged_is_no_file_or_has_no_such_row() {
        let (_dir, path) = written();
        let whole = std::fs::read(&path).unwrap();
        for len in [0, 7, 63, 64, whole.len() - 1] {
            std::fs::write(&path, &whole[..len]).unwrap();
            assert!(Lights::open(&path).is_none(), "{len} bytes");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            std::fs::write(&path, &bytes).unwrap();
            if let Some(lights) = Lights::open(&path) {
                for row in ids() {
                    let _ = lights.get(row);
                }
            }
        }
    }
}
