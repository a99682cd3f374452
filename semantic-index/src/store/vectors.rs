//! The vectors of a table in one mapped file, for the dense arm.
//!
//! A copy of the table's vector column, written at the end of each build: row ids, one
//! sign bit a dimension, and the bytes. A search counts differing signs over all rows
//! (32 bytes each at 256 dimensions), then takes the exact cosine of the nearest few
//! hundred. The pages belong to the page cache, not to the worker; nothing is read ahead
//! of the first question. The table stays the truth: without this file search is lexical.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use memmap2::Mmap;

use crate::embed::cosine;
use crate::limits::EXACT_VECTORS;

const MAGIC: &[u8; 8] = b"LAIVEC01";
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
    fn signs(self) -> usize {
        HEADER + self.count * 8
    }
    fn bytes(self) -> usize {
        self.signs() + self.count * self.sign_bytes()
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

    /// Adds rows: their ids, and their vectors one after the other.
    pub fn push(&mut self, ids: &[u64], vectors: &[i8]) -> io::Result<()> {
        let (layout, at) = (self.layout, self.next);
        if vectors.len() != ids.len() * layout.dims || at + ids.len() > layout.count {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "more vectors than announced"));
        }
        let id_bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let bytes: Vec<u8> = vectors.iter().map(|v| v.to_le_bytes()[0]).collect();
        let mut signs = Vec::with_capacity(ids.len() * layout.sign_bytes());
        for vector in vectors.chunks_exact(layout.dims) {
            signs_of(vector, &mut signs);
        }
        self.file.write_all_at(&id_bytes, (HEADER + at * 8) as u64)?;
        self.file.write_all_at(&signs, (layout.signs() + at * layout.sign_bytes()) as u64)?;
        self.file.write_all_at(&bytes, (layout.bytes() + at * layout.dims) as u64)?;
        self.next += ids.len();
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
        self.file.sync_data()?;
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

    pub fn len(&self) -> usize {
        self.layout.count
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

    fn id(&self, at: usize) -> u64 {
        let start = HEADER + at * 8;
        let mut id = [0; 8];
        id.copy_from_slice(&self.map[start..start + 8]);
        u64::from_le_bytes(id)
    }

    /// The `limit` rows with the highest cosine, best first.
    pub fn nearest(&self, query: &[i8], limit: usize) -> Vec<(u64, f32)> {
        if query.len() != self.layout.dims {
            return Vec::new();
        }
        let few = if self.layout.count <= EXACT_VECTORS {
            (0..self.layout.count as u32).collect()
        } else {
            self.fewest_differing_signs(query, limit * 4)
        };
        let mut row = vec![0_i8; self.layout.dims];
        let mut found: Vec<(u32, f32)> = few
            .into_iter()
            .map(|at| {
                for (to, from) in row.iter_mut().zip(self.vector(at as usize)) {
                    *to = *from as i8;
                }
                (at, cosine(query, &row))
            })
            .filter(|(_, score)| *score > 0.0)
            .collect();
        found.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found.truncate(limit);
        found.into_iter().map(|(at, score)| (self.id(at as usize), score)).collect()
    }

    /// Rows that differ from the query in the fewest signs: at least `wanted` of them.
    fn fewest_differing_signs(&self, query: &[i8], wanted: usize) -> Vec<u32> {
        let mut signs = Vec::new();
        signs_of(query, &mut signs);
        let width = self.layout.sign_bytes();
        let all = &self.map[self.layout.signs()..self.layout.bytes()];
        let distances = distances(all, width, &signs);
        let mut counts = vec![0_usize; self.layout.dims + 8];
        for distance in &distances {
            counts[usize::from(*distance)] += 1;
        }
        let mut sum = 0;
        let limit = counts.iter().position(|count| {
            sum += count;
            sum >= wanted
        });
        let limit = limit.unwrap_or(counts.len()) as u16;
        distances
            .iter()
            .enumerate()
            .filter(|(_, d)| **d <= limit)
            .map(|(at, _)| at as u32)
            .collect()
    }
}

/// Differing bits of each row.
fn distances(rows: &[u8], width: usize, signs: &[u8]) -> Vec<u16> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("popcnt") {
        // SAFETY: the processor has the instruction, as just asked.
        return unsafe { distances_popcnt(rows, width, signs) };
    }
    rows.chunks_exact(width).map(|row| differing(row, signs)).collect()
}

/// The same, counting with one instruction, which not every x86-64 has.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt")]
fn distances_popcnt(rows: &[u8], width: usize, signs: &[u8]) -> Vec<u16> {
    rows.chunks_exact(width).map(|row| differing(row, signs)).collect()
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
        for (n, some) in rows.chunks(100).enumerate() {
            let ids: Vec<u64> = (0..some.len()).map(|i| (n * 100 + i) as u64 * 3).collect();
            writer.push(&ids, &some.concat()).unwrap();
        }
        writer.finish().unwrap();
        (dir, path, rows)
    }

    #[test]
    fn the_nearest_rows_are_found_in_small_and_large_files() {
        for count in [500, EXACT_VECTORS + 1000] {
            let (_dir, path, rows) = file(count, 256);
            let vectors = Vectors::open(&path).unwrap();
            assert_eq!(vectors.len(), count);
            for wanted in [0, 7, count - 1] {
                let mut query = rows[wanted].clone();
                query.iter_mut().step_by(5).for_each(|v| *v = v.wrapping_add(30));
                let found = vectors.nearest(&query, 10);
                assert_eq!(found[0].0, wanted as u64 * 3);
                assert!(found.windows(2).all(|w| w[0].1 >= w[1].1));
            }
        }
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
        assert!(
            Vectors::open(&path).unwrap().nearest(&[1, 2], 5).is_empty(),
            "another number of dimensions"
        );
    }

    #[test]
    fn an_empty_file_finds_nothing() {
        let (_dir, path, _) = file(0, 8);
        assert!(Vectors::open(&path).unwrap().nearest(&[1; 8], 5).is_empty());
    }
}
