//! An immutable file of entries.
//!
//! Layout, little endian: entries, each its bytes and a checksum; the table, sorted by key
//! (key, place, length); its length, its checksum, a magic. What does not end so is no segment.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use memmap2::Mmap;

use super::Key;

const MAGIC: &[u8; 8] = b"LAISEG01";
const FOOTER: usize = 8 + 8 + 8;
const RECORD: usize = 16 + 8 + 4;
const SUM: usize = 8;

#[derive(Debug)]
pub(super) struct Segment {
    map: Mmap,
    table: usize,
    count: usize,
}

impl Segment {
    pub(super) fn open(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        // SAFETY: segments are ours, in a private folder, appear whole by a rename, are never
        // written again and only unlinked.
        let map = unsafe { Mmap::map(&file).ok()? };
        let end = map.len().checked_sub(FOOTER)?;
        let footer = &map[end..];
        if &footer[16..] != MAGIC {
            return None;
        }
        let count = usize::try_from(u64::from_le_bytes(footer[..8].try_into().ok()?)).ok()?;
        let table = end.checked_sub(count.checked_mul(RECORD)?)?;
        (sum(&map[table..end]) == footer[8..16]).then_some(Self { map, table, count })
    }

    fn record(&self, n: usize) -> &[u8] {
        &self.map[self.table + n * RECORD..][..RECORD]
    }

    pub(super) fn get(&self, key: &Key) -> Option<&[u8]> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.record(middle)[..16].cmp(key) {
                std::cmp::Ordering::Equal => return self.entry(middle).map(|(_, bytes)| bytes),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Place and bytes, when they are whole.
    fn entry(&self, n: usize) -> Option<(u64, &[u8])> {
        let record = self.record(n);
        let place = u64::from_le_bytes(record[16..24].try_into().ok()?);
        let at = usize::try_from(place).ok()?;
        let len = u32::from_le_bytes(record[24..].try_into().ok()?) as usize;
        let end = at.checked_add(len)?;
        let whole = self.map.get(at..end.checked_add(SUM)?).filter(|_| end + SUM <= self.table)?;
        let (bytes, check) = whole.split_at(len);
        (sum(bytes) == check).then_some((place, bytes))
    }

    /// Every entry with its keys, in the order they were written.
    pub(super) fn each(
        &self,
        mut to: impl FnMut(&[Key], &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut order: Vec<(u64, usize)> =
            (0..self.count).filter_map(|n| Some((self.entry(n)?.0, n))).collect();
        order.sort_unstable();
        for group in order.chunk_by(|a, b| a.0 == b.0) {
            let keys: Vec<Key> =
                group.iter().filter_map(|(_, n)| self.record(*n)[..16].try_into().ok()).collect();
            if let Some((_, bytes)) = self.entry(group[0].1) {
                to(&keys, bytes)?;
            }
        }
        Ok(())
    }
}

fn sum(bytes: &[u8]) -> [u8; SUM] {
    let mut out = [0; SUM];
    out.copy_from_slice(&blake3::hash(bytes).as_bytes()[..SUM]);
    out
}

#[derive(Debug)]
pub(super) struct Writer {
    out: BufWriter<File>,
    temporary: PathBuf,
    path: PathBuf,
    len: u64,
    table: Vec<(Key, u64, u32)>,
}

impl Writer {
    pub(super) fn create(dir: &Path) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros());
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        // By age, as names sort.
        let path = dir.join(format!("seg-{now:020}-{}-{n}", std::process::id()));
        let temporary = path.with_extension("tmp");
        let file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
        // Held while it is written: `sweep` takes only what nobody holds.
        file.lock()?;
        Ok(Self { out: BufWriter::new(file), temporary, path, len: 0, table: Vec::new() })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn add(&mut self, keys: &[Key], bytes: &[u8]) -> io::Result<()> {
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.out.write_all(bytes)?;
        self.out.write_all(&sum(bytes))?;
        self.table.extend(keys.iter().map(|key| (*key, self.len, len)));
        self.len += bytes.len() as u64 + SUM as u64;
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        // The newest of one key is what a search finds.
        self.table.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        self.table.dedup_by_key(|record| record.0);
        let mut table = Vec::with_capacity(self.table.len() * RECORD);
        for (key, at, len) in &self.table {
            table.extend_from_slice(key);
            table.extend_from_slice(&at.to_le_bytes());
            table.extend_from_slice(&len.to_le_bytes());
        }
        self.out.write_all(&table)?;
        self.out.write_all(&(self.table.len() as u64).to_le_bytes())?;
        self.out.write_all(&sum(&table))?;
        self.out.write_all(MAGIC)?;
        // Not synced: what a power cut tears fails its sums, and is only made again.
        self.out.flush()?;
        fs::rename(&self.temporary, &self.path)
    }

    /// Removes what writers that died have left.
    pub(super) fn sweep(dir: &Path) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("seg-")
                && entry.path().extension().is_some_and(|e| e == "tmp")
                && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok())
            {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Gone already when it was renamed.
        let _ = fs::remove_file(&self.temporary);
    }
}
