//! What ranking needs of every row of a segment, in one mapped file.
//!
//! A copy of the light columns. A question takes two hundred candidates from all over the
//! table; read from LanceDB they cost most of its time and memory, read from here a few
//! pages of the page cache. Rows are numbered in the order of the scan that wrote them, the
//! same in the segment's other files.
//!
//! Layout, little endian: header; one record a row; strings; the fragments of the table
//! that the segment copies, each with its first row here and how many there are; the files
//! by the hash of their path, with their first row and how many follow it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use memmap2::Mmap;

use crate::rank::Candidate;

const MAGIC: &[u8; 8] = b"LAILIT03";
const HEADER: usize = 64;
/// row id u64, path at u32, other strings at u32, first line u32, last line u32, lengths of
/// path, symbol and crumb u16 each, length of kind u8, flags u8.
const RECORD: usize = 32;
const RUN: usize = 16;
/// hash u64, first row u32, rows u32.
const FILE: usize = 16;

/// One row on its way into the file.
#[derive(Debug, Clone, Copy)]
pub struct Light<'a> {
    pub row: u64,
    pub start_line: u32,
    pub end_line: u32,
    pub flags: u8,
    pub path: &'a str,
    pub symbol: &'a str,
    pub kind: &'a str,
    pub crumb: &'a str,
}

/// Rows of one fragment of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub fragment: u64,
    pub first: u32,
    pub rows: u32,
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
    /// (hash of the path, first row, rows)
    files: Vec<(u64, u32, u32)>,
    /// The path of the row before, and where it lies: rows of a file share it.
    path: (String, u32),
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
            files: Vec::new(),
            path: (String::new(), 0),
        })
    }

    pub fn push(&mut self, light: &Light<'_>) -> io::Result<()> {
        let at = (self.done + (self.records.len() / RECORD) as u64) as u32;
        let fragment = light.row >> 32;
        match self.runs.last_mut() {
            Some(run) if run.fragment == fragment => run.rows += 1,
            _ => self.runs.push(Run { fragment, first: at, rows: 1 }),
        }
        if self.path.0 != light.path || at == 0 {
            self.path = (light.path.to_owned(), self.text(light.path)?);
            self.files.push((hash(light.path), at, 0));
        }
        if let Some(file) = self.files.last_mut() {
            file.2 += 1;
        }
        let others = self.text(light.symbol)?;
        self.text(light.kind)?;
        self.text(light.crumb)?;
        let too_long = |_| io::Error::new(io::ErrorKind::InvalidData, "a string is too long");
        self.records.extend_from_slice(&light.row.to_le_bytes());
        for number in [self.path.1, others, light.start_line, light.end_line] {
            self.records.extend_from_slice(&number.to_le_bytes());
        }
        for text in [light.path, light.symbol, light.crumb] {
            let length = u16::try_from(text.len()).map_err(too_long)?;
            self.records.extend_from_slice(&length.to_le_bytes());
        }
        self.records.push(u8::try_from(light.kind.len()).map_err(too_long)?);
        self.records.push(light.flags);
        Ok(())
    }

    /// Where the string lies.
    fn text(&mut self, text: &str) -> io::Result<u32> {
        let at = self.texts_done + self.texts.len() as u64;
        self.texts.extend_from_slice(text.as_bytes());
        u32::try_from(at)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "too much text in one segment"))
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

    /// The header comes last, so that what a build left off is no file. One sync does: nobody
    /// looks at a segment before the view that names it, which is written after.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        if self.done != self.count {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "fewer rows than announced"));
        }
        let mut runs = Vec::with_capacity(self.runs.len() * RUN);
        for run in &self.runs {
            runs.extend_from_slice(&run.fragment.to_le_bytes());
            runs.extend_from_slice(&run.first.to_le_bytes());
            runs.extend_from_slice(&run.rows.to_le_bytes());
        }
        self.files.sort_unstable();
        for (hash, first, rows) in &self.files {
            runs.extend_from_slice(&hash.to_le_bytes());
            runs.extend_from_slice(&first.to_le_bytes());
            runs.extend_from_slice(&rows.to_le_bytes());
        }
        self.file.write_all_at(&runs, self.texts_at() + self.texts_done)?;
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        let numbers =
            [self.count, self.texts_done, self.runs.len() as u64, self.files.len() as u64];
        for (at, number) in numbers.into_iter().enumerate() {
            header[8 + at * 8..16 + at * 8].copy_from_slice(&number.to_le_bytes());
        }
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
    count: u32,
    texts: Range<usize>,
    runs: Range<usize>,
    files: Range<usize>,
}

impl Lights {
    /// None when there is no usable file.
    pub fn open(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        // SAFETY: as for the words: the file is ours, written once under a name of its own
        // and only ever unlinked while readers may map it.
        let map = unsafe { Mmap::map(&file).ok()? };
        if map.get(..8)? != MAGIC {
            return None;
        }
        let [count, texts, runs, files] = [1, 2, 3, 4].map(|n| number(&map, n * 8));
        let size = |count: u64, each: usize| usize::try_from(count).ok()?.checked_mul(each);
        let start = size(count?, RECORD)?.checked_add(HEADER)?;
        let end = start.checked_add(size(texts?, 1)?)?;
        let runs = end..end.checked_add(size(runs?, RUN)?)?;
        let files = runs.end..runs.end.checked_add(size(files?, FILE)?)?;
        let count = u32::try_from(count?).ok()?;
        (files.end == map.len()).then_some(Self { count, texts: start..end, runs, files, map })
    }

    pub fn len(&self) -> u32 {
        self.count
    }

    /// The fragments of the table that are copied here.
    pub fn runs(&self) -> impl Iterator<Item = Run> {
        self.map[self.runs.clone()].chunks_exact(RUN).filter_map(|bytes| {
            Some(Run {
                fragment: number(bytes, 0)?,
                first: u32::from_le_bytes(bytes[8..12].try_into().ok()?),
                rows: u32::from_le_bytes(bytes[12..16].try_into().ok()?),
            })
        })
    }

    /// The row's id in the table.
    pub fn row(&self, at: u32) -> Option<u64> {
        (at < self.count).then(|| number(&self.map, HEADER + at as usize * RECORD))?
    }

    /// What ranking needs of this row.
    pub fn get(&self, at: u32) -> Option<Candidate> {
        let row = self.row(at)?;
        let record = &self.map[HEADER + at as usize * RECORD..][..RECORD];
        let half = |n: usize| Some(u32::from_le_bytes(record.get(n..n + 4)?.try_into().ok()?));
        let length = |n: usize| usize::from(u16::from_le_bytes([record[n], record[n + 1]]));
        let text = |from: usize, length: usize| {
            let from = self.texts.start.checked_add(from)?;
            let bytes = self.map.get(from..from.checked_add(length)?)?;
            let inside = from + length <= self.texts.end;
            Some(std::str::from_utf8(bytes).ok().filter(|_| inside)?.to_owned())
        };
        let (path, symbol, crumb) = (length(24), length(26), length(28));
        let kind = usize::from(record[30]);
        let others = half(12)? as usize;
        Some(Candidate {
            row,
            path: text(half(8)? as usize, path)?,
            symbol: text(others, symbol)?,
            kind: text(others + symbol, kind)?,
            crumb: text(others + symbol + kind, crumb)?,
            start_line: half(16)?,
            end_line: half(20)?,
            flags: record[31],
            ..Candidate::default()
        })
    }

    /// Tells of each row its path, looking at each string once.
    pub fn each_path(&self, mut each: impl FnMut(u32, &str)) {
        let (mut last, mut path) = (u32::MAX, String::new());
        for row in 0..self.count {
            let at = HEADER + row as usize * RECORD + 8;
            let here = u32::from_le_bytes([0, 1, 2, 3].map(|n| self.map[at + n]));
            if here != last {
                let Some(candidate) = self.get(row) else { continue };
                (last, path) = (here, candidate.path);
            }
            each(row, &path);
        }
    }

    /// The places of a file's rows.
    pub fn rows_of(&self, path: &str) -> Vec<u32> {
        let wanted = hash(path);
        let file = |at: usize| {
            let at = self.files.start + at * FILE;
            let half =
                |at: usize| Some(u32::from_le_bytes(self.map.get(at..at + 4)?.try_into().ok()?));
            Some((number(&self.map, at)?, half(at + 8)?, half(at + 12)?))
        };
        let count = self.files.len() / FILE;
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = usize::midpoint(low, high);
            if file(middle).is_some_and(|f| f.0 < wanted) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let here = (low..count).map_while(file).take_while(|f| f.0 == wanted);
        let inside = |first: u32, rows: u32| first..first.saturating_add(rows).min(self.count);
        let rows = here.flat_map(|(_, first, rows)| inside(first, rows));
        // Another path may have the same hash.
        rows.filter(|row| self.get(*row).is_some_and(|c| c.path == path)).collect()
    }

    /// Where the row with this id is, in a fragment's run.
    pub fn find(&self, run: Run, row: u64) -> Option<u32> {
        let (mut low, mut high) = (run.first, run.first.checked_add(run.rows)?);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.row(middle)?.cmp(&row) {
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Drops the file's pages from this process; the next question maps them again.
    pub fn let_go(&self) {
        // SAFETY: a read-only mapping of a file that does not change: what is read again is
        // what was there.
        let _ = unsafe { self.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    }
}

fn hash(path: &str) -> u64 {
    let hash = blake3::hash(path.as_bytes());
    hash.as_bytes()[..8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// The number at this byte.
fn number(map: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(map.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids as a table has them after deletions: fragments with gaps.
    fn ids() -> Vec<u64> {
        let fragment = |n: u64, rows: u64| (0..rows).map(move |i| (n << 32) | (i * 3));
        fragment(2, 40).chain(fragment(4, 1)).chain(fragment(5, 70)).chain(fragment(9, 3)).collect()
    }

    fn written() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lights");
        let ids = ids();
        let mut writer = Writer::create(&path, ids.len()).unwrap();
        for (n, row) in ids.into_iter().enumerate() {
            let (symbol, path) = (format!("näme_{n}"), format!("src/{}.rs", n / 4));
            let light = Light {
                row,
                start_line: n as u32,
                end_line: n as u32 + 9,
                flags: (n % 7) as u8,
                path: &path,
                symbol: &symbol,
                kind: "function",
                crumb: "a > b",
            };
            writer.push(&light).unwrap();
            if n % 10 == 0 {
                writer.flush().unwrap();
            }
        }
        writer.finish().unwrap();
        (dir, path)
    }

    #[test]
    fn every_row_comes_back() {
        let (_dir, path) = written();
        let lights = Lights::open(&path).unwrap();
        for (n, row) in ids().into_iter().enumerate() {
            let c = lights.get(n as u32).unwrap();
            assert_eq!((c.row, c.symbol), (row, format!("näme_{n}")));
            assert_eq!((c.path, c.crumb.as_str()), (format!("src/{}.rs", n / 4), "a > b"));
            assert_eq!((c.start_line, c.end_line), (n as u32, n as u32 + 9));
            assert_eq!((c.kind.as_str(), c.flags), ("function", (n % 7) as u8));
        }
        assert!(lights.get(ids().len() as u32).is_none());
    }

    #[test]
    fn rows_are_found_by_their_fragment() {
        let (_dir, path) = written();
        let lights = Lights::open(&path).unwrap();
        let runs: Vec<Run> = lights.runs().collect();
        assert_eq!(
            runs.iter().map(|r| (r.fragment, r.rows)).collect::<Vec<_>>(),
            [(2, 40), (4, 1), (5, 70), (9, 3)]
        );
        for (n, row) in ids().into_iter().enumerate() {
            let run = runs.iter().find(|r| r.fragment == row >> 32).unwrap();
            assert_eq!(lights.find(*run, row), Some(n as u32));
            assert_eq!(lights.find(*run, row + 1), None);
        }
    }

    #[test]
    fn the_rows_of_a_file_are_found_by_its_path() {
        let (_dir, path) = written();
        let lights = Lights::open(&path).unwrap();
        let count = ids().len() as u32;
        for n in 0..count.div_ceil(4) {
            let rows: Vec<u32> = (n * 4..n * 4 + 4).filter(|row| *row < count).collect();
            assert_eq!(lights.rows_of(&format!("src/{n}.rs")), rows);
        }
        assert!(lights.rows_of("src/99.rs").is_empty() && lights.rows_of("").is_empty());
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
                for n in 0..lights.len() {
                    let _ = lights.get(n);
                }
                for run in lights.runs() {
                    let _ = lights.find(run, 77);
                }
                let _ = lights.rows_of("src/3.rs");
            }
        }
    }
}
