//! The vectors of one segment in one mapped file, for the dense arm.
//!
//! A copy of the table's vector column: one sign bit a dimension, and the bytes. A search
//! counts differing signs over all rows (32 bytes each at 256 dimensions), then takes the
//! exact cosine of the nearest few hundred. The pages belong to the page cache, not to the
//! worker; nothing is read ahead of the first question. A row without a vector has zeros.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use memmap2::Mmap;

use crate::embed::cosine;

const MAGIC: &[u8; 8] = b"LAIVEC02";
const HEADER: usize = 64;

/// Where the sections lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    dims: usize,
    count: usize,
}

impl Layout {
    fn sign_bytes(self) -> usize {
        self.dims.div_ceil(8)
    }
    fn bytes(self) -> usize {
        HEADER + self.count * self.sign_bytes()
    }
    fn len(self) -> usize {
        self.bytes() + self.count * self.dims
    }
}

/// Writes the file row by row; it appears under its name when `finish` has synced it.
#[derive(Debug)]
pub struct Writer {
    file: File,
    layout: Layout,
    next: usize,
}

impl Writer {
    pub fn create(path: &Path, dims: usize, count: usize) -> io::Result<Self> {
        let file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let layout = Layout { dims, count };
        file.set_len(layout.len() as u64)?;
        Ok(Self { file, layout, next: 0 })
    }

    /// Adds rows: their vectors one after the other.
    pub fn push(&mut self, vectors: &[i8]) -> io::Result<()> {
        let (layout, at) = (self.layout, self.next);
        let rows = vectors.len() / layout.dims;
        if vectors.len() != rows * layout.dims || at + rows > layout.count {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "more vectors than announced"));
        }
        let bytes: Vec<u8> = vectors.iter().map(|v| v.to_le_bytes()[0]).collect();
        let mut signs = Vec::with_capacity(rows * layout.sign_bytes());
        for vector in vectors.chunks_exact(layout.dims) {
            signs_of(vector, &mut signs);
        }
        self.file.write_all_at(&signs, (HEADER + at * layout.sign_bytes()) as u64)?;
        self.file.write_all_at(&bytes, (layout.bytes() + at * layout.dims) as u64)?;
        self.next += rows;
        Ok(())
    }

    /// The header comes last: a file that was cut short is no file.
    pub fn finish(self) -> io::Result<()> {
        if self.next != self.layout.count {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "fewer vectors than announced",
            ));
        }
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&(self.layout.dims as u32).to_le_bytes());
        header[16..24].copy_from_slice(&(self.layout.count as u64).to_le_bytes());
        self.file.write_all_at(&header, 0)?;
        self.file.sync_data()
    }
}

fn signs_of(vector: &[i8], out: &mut Vec<u8>) {
    for group in vector.chunks(8) {
        out.push(group.iter().enumerate().fold(0, |byte, (n, v)| byte | u8::from(*v > 0) << n));
    }
}

/// The mapped file.
#[derive(Debug)]
pub struct Vectors {
    map: Mmap,
    layout: Layout,
}

impl Vectors {
    /// Drops the file's pages from this process; the next question maps them again.
    pub fn let_go(&self) {
        // SAFETY: a read-only mapping of a file that does not change: what is read again is
        // what was there.
        let _ = unsafe { self.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    }

    /// None when there is no usable file.
    pub fn open(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        // SAFETY: the file is ours (a 0700 folder), written once under a name of its own and
        // only ever unlinked, never changed or cut, while readers may map it.
        let map = unsafe { Mmap::map(&file).ok()? };
        let header = map.get(..HEADER)?;
        let dims = u32::from_le_bytes(header[8..12].try_into().ok()?) as usize;
        let count = usize::try_from(u64::from_le_bytes(header[16..24].try_into().ok()?)).ok()?;
        let layout = Layout { dims, count };
        let sane =
            &header[..8] == MAGIC && (1..=4096).contains(&dims) && u32::try_from(count).is_ok();
        (sane && layout.len() == map.len()).then_some(Self { map, layout })
    }

    /// The cosine of the vector at this place, 0 if there is none.
    pub fn cosine(&self, at: u32, query: &[i8]) -> f32 {
        if query.len() != self.layout.dims || at as usize >= self.layout.count {
            return 0.0;
        }
        let row: Vec<i8> = self.vector(at as usize).iter().map(|byte| *byte as i8).collect();
        cosine(query, &row)
    }

    fn vector(&self, at: usize) -> &[u8] {
        let start = self.layout.bytes() + at * self.layout.dims;
        &self.map[start..start + self.layout.dims]
    }

    pub fn dims(&self) -> usize {
        self.layout.dims
    }

    /// The sign bits of a question.
    pub fn signs(query: &[i8]) -> Vec<u8> {
        let mut signs = Vec::new();
        signs_of(query, &mut signs);
        signs
    }

    /// Tells of each row in how many signs it differs from the question.
    pub fn differing(&self, signs: &[u8], mut each: impl FnMut(u32, u16)) {
        let width = self.layout.sign_bytes();
        if signs.len() != width {
            return;
        }
        let all = &self.map[HEADER..self.layout.bytes()];
        let mut distances = [0_u16; ROWS_AT_ONCE];
        for (block, rows) in all.chunks(ROWS_AT_ONCE * width).enumerate() {
            let count = rows.len() / width;
            count_differing(rows, width, signs, &mut distances[..count]);
            for (n, distance) in distances[..count].iter().enumerate() {
                each((block * ROWS_AT_ONCE + n) as u32, *distance);
            }
        }
    }
}

/// Rows whose differing signs are counted before anyone looks.
const ROWS_AT_ONCE: usize = 1024;

/// Differing bits of each row.
fn count_differing(rows: &[u8], width: usize, signs: &[u8], out: &mut [u16]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("popcnt") {
        // SAFETY: the processor has the instruction, as just asked.
        unsafe { count_differing_popcnt(rows, width, signs, out) };
        return;
    }
    for (row, out) in rows.chunks_exact(width).zip(out) {
        *out = differing(row, signs);
    }
}

/// The same, counting with one instruction, which not every x86-64 has.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt")]
fn count_differing_popcnt(rows: &[u8], width: usize, signs: &[u8], out: &mut [u16]) {
    for (row, out) in rows.chunks_exact(width).zip(out) {
        *out = differing(row, signs);
    }
}

/// Differing bits, eight bytes at a time.
#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled once for each instruction set")]
fn differing(a: &[u8], b: &[u8]) -> u16 {
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    let words: u32 = a
        .iter()
        .zip(b)
        .map(|(x, y)| (u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y)).count_ones())
        .sum();
    let rest: u32 = a_rest.iter().zip(b_rest).map(|(x, y)| (x ^ y).count_ones()).sum();
    (words + rest) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reproducible numbers in -127..=127.
    fn noise(seed: u64, n: usize) -> Vec<i8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..n)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 33) as i8
            })
            .collect()
    }

    fn file(count: usize, dims: usize) -> (tempfile::TempDir, std::path::PathBuf, Vec<Vec<i8>>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v");
        let rows: Vec<Vec<i8>> = (0..count).map(|n| noise(n as u64 + 1, dims)).collect();
        let mut writer = Writer::create(&path, dims, count).unwrap();
        for some in rows.chunks(100) {
            writer.push(&some.concat()).unwrap();
        }
        writer.finish().unwrap();
        (dir, path, rows)
    }

    #[test]
    fn differing_signs_and_cosines_are_those_of_the_rows() {
        let (_dir, path, rows) = file(ROWS_AT_ONCE + 77, 200);
        let vectors = Vectors::open(&path).unwrap();
        let query = noise(99, 200);
        let mut seen = 0;
        vectors.differing(&Vectors::signs(&query), |at, distance| {
            let row = &rows[at as usize];
            let differ = row.iter().zip(&query).filter(|(a, b)| (**a > 0) != (**b > 0)).count();
            assert_eq!(usize::from(distance), differ);
            assert!((vectors.cosine(at, &query) - cosine(&query, row)).abs() < 1e-6);
            seen += 1;
        });
        assert_eq!(seen, rows.len());
        assert!(vectors.cosine(rows.len() as u32, &query).abs() < f32::EPSILON, "no such row");
        assert!(vectors.cosine(0, &query[1..]).abs() < f32::EPSILON, "other dimensions");
        vectors.differing(&[1, 2], |_, _| panic!("another number of dimensions"));
    }

    #[test]
    fn unfinished_and_damaged_files_are_no_files() {
        let (dir, path, _) = file(10, 16);
        let bytes = std::fs::read(&path).unwrap();
        let bad = dir.path().join("bad");
        for (n, cut) in [(0, 0), (1, 10), (2, 64), (3, bytes.len() - 1)] {
            std::fs::write(&bad, &bytes[..cut]).unwrap();
            assert!(Vectors::open(&bad).is_none(), "{n}");
        }
        Writer::create(&bad, 16, 10).unwrap();
        assert!(Vectors::open(&bad).is_none(), "without its header");
        assert!(Vectors::open(&dir.path().join("absent")).is_none());
    }
}
