//! The vectors of one segment in one mapped file, for the dense arm.
//!
//! A copy of the table's vector column: one sign bit a dimension, and the bytes. A search
//! counts differing signs (32 bytes a row at 256 dimensions), then takes the exact cosine of
//! the nearest few hundred. The signs of a large segment lie in groups of like vectors
//! (`clusters`), so that a search may look at the groups near the question only. The pages
//! belong to the page cache, not to the worker; nothing is read ahead of the first question.
//! A row without a vector has zeros.
//!
//! Layout, little endian: header; of a grouped segment the middle of each group, where each
//! begins (u32, and the end of the last), the row of each place (u32); signs, place by place;
//! bytes, row by row.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use memmap2::Mmap;

use super::clusters::{Centres, SAMPLE, products};
use super::cursor::int;
use crate::embed::cosine;
use crate::limits::{GROUP_FROM_ROWS, GROUP_ROWS};

const MAGIC: &[u8; 8] = b"LAIVEC03";
const HEADER: usize = 64;
/// Rows read at once when a segment is grouped.
const READ_ROWS: usize = 1024;

/// Where the sections lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    dims: usize,
    count: usize,
    groups: usize,
}

impl Layout {
    fn sign_bytes(self) -> usize {
        self.dims.div_ceil(8)
    }
    fn starts(self) -> usize {
        HEADER + self.groups * self.dims
    }
    fn order(self) -> usize {
        self.starts() + if self.groups > 0 { (self.groups + 1) * 4 } else { 0 }
    }
    fn signs(self) -> usize {
        self.order() + if self.groups > 0 { self.count * 4 } else { 0 }
    }
    fn bytes(self) -> usize {
        self.signs() + self.count * self.sign_bytes()
    }
    fn len(self) -> usize {
        self.bytes() + self.count * self.dims
    }
}

/// Writes the file row by row; it is one when `finish` has written the header.
#[derive(Debug)]
pub struct Writer {
    file: File,
    layout: Layout,
    next: usize,
    /// Of the rows so far.
    signs: Vec<u8>,
}

impl Writer {
    pub fn create(path: &Path, dims: usize, count: usize) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        let groups = if count < GROUP_FROM_ROWS { 0 } else { count / GROUP_ROWS };
        let layout = Layout { dims, count, groups };
        file.set_len(layout.len() as u64)?;
        Ok(Self { file, layout, next: 0, signs: Vec::with_capacity(count * layout.sign_bytes()) })
    }

    /// Adds rows: their vectors one after the other.
    pub fn push(&mut self, vectors: &[i8]) -> io::Result<()> {
        let (layout, at) = (self.layout, self.next);
        let rows = vectors.len() / layout.dims;
        if vectors.len() != rows * layout.dims || at + rows > layout.count {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "more vectors than announced"));
        }
        let bytes: Vec<u8> = vectors.iter().map(|v| v.to_le_bytes()[0]).collect();
        for vector in vectors.chunks_exact(layout.dims) {
            signs_of(vector, &mut self.signs);
        }
        self.file.write_all_at(&bytes, (layout.bytes() + at * layout.dims) as u64)?;
        self.next += rows;
        Ok(())
    }

    /// The header comes last: a file that was cut short is no file.
    pub fn finish(mut self) -> io::Result<()> {
        if self.next != self.layout.count {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "fewer vectors than announced",
            ));
        }
        if self.layout.groups > 0 {
            self.group()?;
        } else {
            self.file.write_all_at(&self.signs, self.layout.signs() as u64)?;
        }
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&(self.layout.dims as u32).to_le_bytes());
        header[12..16].copy_from_slice(&(self.layout.groups as u32).to_le_bytes());
        header[16..24].copy_from_slice(&(self.layout.count as u64).to_le_bytes());
        self.file.write_all_at(&header, 0)?;
        self.file.sync_data()
    }

    /// Writes the groups, and the signs by group.
    fn group(&mut self) -> io::Result<()> {
        let (layout, dims) = (self.layout, self.layout.dims);
        let sample = (layout.groups * SAMPLE).min(layout.count);
        let mut bytes = vec![0; dims];
        let mut vectors = Vec::with_capacity(sample * dims);
        for n in 0..sample {
            let row = n * layout.count / sample;
            self.file.read_exact_at(&mut bytes, (layout.bytes() + row * dims) as u64)?;
            vectors.extend_from_slice(signed(&bytes));
        }
        let centres = Centres::train(&vectors, dims, layout.groups);
        // Fewer when hardly a row has a vector; the rest stay empty.
        let mut of: Vec<u32> = Vec::with_capacity(layout.count);
        for first in (0..layout.count).step_by(READ_ROWS) {
            bytes.resize(READ_ROWS.min(layout.count - first) * dims, 0);
            self.file.read_exact_at(&mut bytes, (layout.bytes() + first * dims) as u64)?;
            let rows = signed(&bytes).chunks_exact(dims);
            of.extend(rows.map(|row| centres.nearest(row) as u32));
        }
        let mut starts = vec![0_u32; layout.groups + 1];
        for group in &of {
            starts[*group as usize + 1] += 1;
        }
        for group in 0..layout.groups {
            starts[group + 1] += starts[group];
        }
        let mut order: Vec<u32> = (0..layout.count as u32).collect();
        order.sort_by_key(|row| of[*row as usize]);
        let mut middles: Vec<u8> = centres.bytes().iter().map(|v| v.to_le_bytes()[0]).collect();
        middles.resize(layout.groups * dims, 0);
        self.file.seek(SeekFrom::Start(HEADER as u64))?;
        let mut out = BufWriter::with_capacity(1 << 18, &self.file);
        out.write_all(&middles)?;
        for number in starts.iter().chain(&order) {
            out.write_all(&number.to_le_bytes())?;
        }
        let width = layout.sign_bytes();
        for row in &order {
            out.write_all(&self.signs[*row as usize * width..][..width])?;
        }
        out.flush()
    }
}

fn signs_of(vector: &[i8], out: &mut Vec<u8>) {
    for group in vector.chunks(8) {
        out.push(group.iter().enumerate().fold(0, |byte, (n, v)| byte | u8::from(*v > 0) << n));
    }
}

fn signed(bytes: &[u8]) -> &[i8] {
    // SAFETY: both are one byte, of any value, and the slice is the same.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }
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
        let dims = int(header, 8)? as usize;
        let groups = int(header, 12)? as usize;
        let count = usize::try_from(u64::from_le_bytes(header[16..24].try_into().ok()?)).ok()?;
        let layout = Layout { dims, count, groups };
        let sane = &header[..8] == MAGIC
            && (1..=4096).contains(&dims)
            && u32::try_from(count).is_ok()
            && groups <= count;
        (sane && layout.len() == map.len()).then_some(Self { map, layout })
    }

    /// The cosine of the vector at this place, 0 if there is none.
    pub fn cosine(&self, at: u32, query: &[i8]) -> f32 {
        if query.len() != self.layout.dims || at as usize >= self.layout.count {
            return 0.0;
        }
        let start = self.layout.bytes() + at as usize * self.layout.dims;
        cosine(query, signed(&self.map[start..start + self.layout.dims]))
    }

    pub fn dims(&self) -> usize {
        self.layout.dims
    }

    pub fn len(&self) -> usize {
        self.layout.count
    }

    /// The signs of a question.
    pub fn signs(query: &[i8]) -> Vec<u8> {
        let mut signs = Vec::new();
        signs_of(query, &mut signs);
        signs
    }

    /// Tells of each group how near the question is to its middle, and how many rows it has;
    /// false when the segment has no groups.
    pub fn groups(&self, query: &[i8], mut each: impl FnMut(u32, i32, usize)) -> bool {
        if self.layout.groups > 0 && query.len() == self.layout.dims {
            let middles = signed(&self.map[HEADER..self.layout.starts()]);
            products(middles, query, |at, product| {
                each(at as u32, product, self.places(at as u32).len());
            });
        }
        self.layout.groups > 0
    }

    /// The places of a group's rows.
    fn places(&self, group: u32) -> std::ops::Range<usize> {
        let start = |group: usize| int(&self.map, self.layout.starts() + group * 4);
        if group as usize >= self.layout.groups {
            return 0..0;
        }
        match (start(group as usize), start(group as usize + 1)) {
            (Some(from), Some(to)) if from <= to && to as usize <= self.layout.count => {
                from as usize..to as usize
            }
            _ => 0..0,
        }
    }

    /// Tells of each place in how many signs its row differs from the question.
    pub fn differing(&self, signs: &[u8], each: impl FnMut(At<'_>, u16)) {
        self.differing_at(0..self.layout.count, signs, each);
    }

    /// The same for the rows of one group.
    pub fn differing_in(&self, group: u32, signs: &[u8], each: impl FnMut(At<'_>, u16)) {
        self.differing_at(self.places(group), signs, each);
    }

    fn differing_at(
        &self,
        places: std::ops::Range<usize>,
        signs: &[u8],
        mut each: impl FnMut(At<'_>, u16),
    ) {
        let (layout, width) = (self.layout, self.layout.sign_bytes());
        if signs.len() != width {
            return;
        }
        let rows = &self.map[layout.signs() + places.start * width..][..places.len() * width];
        let mut distances = [0_u16; ROWS_AT_ONCE];
        for (block, rows) in rows.chunks(ROWS_AT_ONCE * width).enumerate() {
            let count = rows.len() / width;
            count_differing(rows, width, signs, &mut distances[..count]);
            for (n, distance) in distances[..count].iter().enumerate() {
                let place = places.start + block * ROWS_AT_ONCE + n;
                each(At { vectors: self, place }, *distance);
            }
        }
    }
}

/// A place among the signs.
#[derive(Clone, Copy)]
pub struct At<'a> {
    vectors: &'a Vectors,
    place: usize,
}

impl At<'_> {
    /// The row that lies here; it is looked up only for the few that are near.
    pub fn row(self) -> Option<u32> {
        let Vectors { map, layout } = self.vectors;
        let row = if layout.groups == 0 {
            u32::try_from(self.place).ok()?
        } else {
            int(map, layout.order() + self.place * 4)?
        };
        ((row as usize) < layout.count).then_some(row)
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
    // The width of our own table: without a loop within the loop.
    if let Ok(signs) = <&[u8; 32]>::try_from(signs) {
        for (row, out) in rows.as_chunks::<32>().0.iter().zip(out) {
            *out = differing(row, signs);
        }
        return;
    }
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

    #[test]
    fn a_grouped_segment_has_the_same_rows_group_by_group() {
        let (dims, count) = (32, GROUP_FROM_ROWS + 100);
        let (dir, path, rows) = file(count, dims);
        let vectors = Vectors::open(&path).unwrap();
        let query = noise(99, dims);
        let signs = Vectors::signs(&query);
        let (mut seen, mut groups) = (vec![false; count], Vec::new());
        assert!(vectors.groups(&query, |group, product, rows| groups.push((group, product, rows))));
        assert_eq!(groups.len(), count / GROUP_ROWS);
        for (group, _, size) in &groups {
            let mut rows_here = 0;
            vectors.differing_in(*group, &signs, |at, distance| {
                let at = at.row().unwrap();
                let row = &rows[at as usize];
                let differ = row.iter().zip(&query).filter(|(a, b)| (**a > 0) != (**b > 0)).count();
                assert_eq!(usize::from(distance), differ);
                assert!((vectors.cosine(at, &query) - cosine(&query, row)).abs() < 1e-6);
                assert!(!std::mem::replace(&mut seen[at as usize], true), "row {at} twice");
                rows_here += 1;
            });
            assert_eq!(rows_here, *size);
        }
        assert!(seen.iter().all(|seen| *seen));
        // Rows of the nearest groups are nearer than those of the farthest.
        groups.sort_unstable_by_key(|group| std::cmp::Reverse(group.1));
        let mean = |groups: &[(u32, i32, usize)]| {
            let (mut sum, mut count) = (0.0, 0.0);
            for (group, ..) in groups {
                vectors.differing_in(*group, &signs, |at, _| {
                    sum += vectors.cosine(at.row().unwrap(), &query);
                    count += 1.0;
                });
            }
            sum / count
        };
        let half = groups.len() / 2;
        assert!(mean(&groups[..half]) > mean(&groups[half..]) + 0.05);
        // Damage anywhere before the bytes leads to no file, or to rows that are there.
        let whole = std::fs::read(&path).unwrap();
        let bad = dir.path().join("bad");
        for at in (0..vectors.layout.signs()).step_by(4_999) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            std::fs::write(&bad, &bytes).unwrap();
            if let Some(vectors) = Vectors::open(&bad) {
                vectors.groups(&query, |group, _, _| {
                    vectors.differing_in(group, &signs, |at, _| {
                        assert!(at.row().is_none_or(|row| (row as usize) < count));
                    });
                });
            }
        }
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
            let at = at.row().unwrap();
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
