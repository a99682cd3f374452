//! Lists of files that may be longer than memory is large, for `builder` and `verify`.
//!
//! A build of a million files must not hold their names. A [`Sorter`] takes items in any order,
//! writes sorted runs to a file when it has gathered some, and gives them merged; a [`Spool`]
//! takes items in order, and can be read again and again. Short lists never touch the disk. The
//! files have no name once they are open, so that they end with the process.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering as Atomic};

use crate::limits::{MAX_PATH_BYTES, SPOOL_BYTES, SPOOL_READ_BYTES};
use crate::manifest::Record;
use crate::walk::Entry;

/// What the names of the files begin with while they have one.
pub const PREFIX: &str = "spool-";

/// A file on its way through a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Item {
    pub entry: Entry,
    /// What the list of files knows of it.
    pub old: Option<Record>,
    /// The table has rows of it that the list does not know.
    pub stale: bool,
}

impl Item {
    pub fn named(path: &str) -> Self {
        Self { entry: Entry { path: path.to_owned(), ..Entry::default() }, ..Self::default() }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let Entry { path, size, mtime } = &self.entry;
        out.extend_from_slice(&(path.len() as u32).to_le_bytes());
        out.extend_from_slice(path.as_bytes());
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(&mtime.to_le_bytes());
        out.push(u8::from(self.stale) << 1 | u8::from(self.old.is_some()));
        if let Some(old) = &self.old {
            out.extend_from_slice(&old.size.to_le_bytes());
            out.extend_from_slice(&old.mtime.to_le_bytes());
            out.extend_from_slice(&old.hash);
            out.extend_from_slice(&old.chunks.to_le_bytes());
            out.push(old.skip);
        }
    }

    fn decode(from: &mut impl Read) -> io::Result<Self> {
        fn take<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
            let mut bytes = [0; N];
            from.read_exact(&mut bytes)?;
            Ok(bytes)
        }
        let length = u32::from_le_bytes(take(from)?) as usize;
        if length > MAX_PATH_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut path = vec![0; length];
        from.read_exact(&mut path)?;
        let path = String::from_utf8(path).map_err(|_| io::ErrorKind::InvalidData)?;
        let (size, mtime) = (u64::from_le_bytes(take(from)?), i64::from_le_bytes(take(from)?));
        let [flags] = take(from)?;
        let mut old = None;
        if flags & 1 != 0 {
            old = Some(Record {
                size: u64::from_le_bytes(take(from)?),
                mtime: i64::from_le_bytes(take(from)?),
                hash: take(from)?,
                chunks: u32::from_le_bytes(take(from)?),
                skip: take::<1>(from)?[0],
            });
        }
        Ok(Self { entry: Entry { path, size, mtime }, old, stale: flags & 2 != 0 })
    }
}

/// A file without a name in this folder.
fn nameless(dir: &Path) -> io::Result<File> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Atomic::Relaxed);
    let path = dir.join(format!("{PREFIX}{}-{number}", std::process::id()));
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)?;
    // A build may sweep what a dead process left, and this with it.
    let gone = std::fs::remove_file(&path);
    gone.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
    Ok(file)
}

/// Encoded items, in order.
#[derive(Debug, Clone)]
enum Bytes {
    Memory(Arc<Vec<u8>>),
    File(Arc<File>),
}

#[derive(Debug)]
struct Reading {
    bytes: Bytes,
    at: u64,
}

impl Read for Reading {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = match &self.bytes {
            Bytes::File(file) => file.read_at(out, self.at)?,
            Bytes::Memory(bytes) => {
                let rest = bytes.get(self.at as usize..).unwrap_or_default();
                let count = rest.len().min(out.len());
                out[..count].copy_from_slice(&rest[..count]);
                count
            }
        };
        self.at += read as u64;
        Ok(read)
    }
}

/// Part of a list in order.
#[derive(Debug)]
struct Run {
    from: BufReader<Reading>,
    left: u64,
}

impl Run {
    fn new(bytes: Bytes, at: u64, left: u64) -> Self {
        Self { from: BufReader::with_capacity(SPOOL_READ_BYTES, Reading { bytes, at }), left }
    }

    fn take(&mut self) -> io::Result<Option<Item>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        Item::decode(&mut self.from).map(Some)
    }
}

/// The next item of a run; the heap has the smallest path on top.
#[derive(Debug)]
struct Head(Item, usize);

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Head {}
impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        (&other.0.entry.path, other.1).cmp(&(&self.0.entry.path, self.1))
    }
}

/// Items in the order of their paths.
#[derive(Debug)]
pub struct Items {
    runs: Vec<Run>,
    heads: BinaryHeap<Head>,
}

impl Items {
    fn of(runs: Vec<Run>) -> io::Result<Self> {
        let mut items = Self { runs, heads: BinaryHeap::new() };
        for run in 0..items.runs.len() {
            items.fill(run)?;
        }
        Ok(items)
    }

    fn fill(&mut self, run: usize) -> io::Result<()> {
        if let Some(item) = self.runs[run].take()? {
            self.heads.push(Head(item, run));
        }
        Ok(())
    }

    pub fn peek(&self) -> Option<&Item> {
        self.heads.peek().map(|head| &head.0)
    }

    pub fn take(&mut self) -> io::Result<Option<Item>> {
        let Some(Head(item, run)) = self.heads.pop() else { return Ok(None) };
        self.fill(run)?;
        Ok(Some(item))
    }
}

/// Takes items in any order.
#[derive(Debug)]
pub struct Sorter {
    dir: PathBuf,
    bytes: Vec<u8>,
    /// Where each item begins and ends.
    places: Vec<(u32, u32)>,
    most: usize,
    file: Option<File>,
    /// Bytes in the file.
    end: u64,
    /// (where it begins, items)
    runs: Vec<(u64, u64)>,
    failed: Option<io::Error>,
    /// The last path, so that the same one again can be left out.
    last: String,
}

impl Sorter {
    /// `dir`: where there is room for what memory should not hold.
    pub fn new(dir: &Path) -> Self {
        Self::with_room(dir, SPOOL_BYTES)
    }

    fn with_room(dir: &Path, most: usize) -> Self {
        Self {
            dir: dir.to_path_buf(),
            bytes: Vec::new(),
            places: Vec::new(),
            most,
            file: None,
            end: 0,
            runs: Vec::new(),
            failed: None,
            last: String::new(),
        }
    }

    /// A failure is told at the end.
    pub fn push(&mut self, item: &Item) {
        if self.failed.is_some() {
            return;
        }
        let start = self.bytes.len() as u32;
        item.encode(&mut self.bytes);
        self.places.push((start, self.bytes.len() as u32));
        if self.bytes.len() >= self.most {
            self.failed = self.spill().err();
        }
    }

    /// Adds a path, if it is not the one before.
    pub fn push_path(&mut self, path: &str) {
        if self.last != path || path.is_empty() {
            path.clone_into(&mut self.last);
            self.push(&Item::named(path));
        }
    }

    /// What is in memory, in order.
    fn sorted(&mut self) -> Vec<u8> {
        let bytes = std::mem::take(&mut self.bytes);
        let mut places = std::mem::take(&mut self.places);
        let path = |start: u32| {
            let start = start as usize;
            let (length, rest) = bytes[start..].split_first_chunk().unwrap_or((&[0; 4], &[]));
            &rest[..u32::from_le_bytes(*length) as usize]
        };
        places.sort_unstable_by(|a, b| path(a.0).cmp(path(b.0)));
        let mut out = Vec::with_capacity(bytes.len());
        for (start, end) in places {
            out.extend_from_slice(&bytes[start as usize..end as usize]);
        }
        out
    }

    fn spill(&mut self) -> io::Result<()> {
        let count = self.places.len() as u64;
        let run = self.sorted();
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(nameless(&self.dir)?),
        };
        file.write_all_at(&run, self.end)?;
        self.runs.push((self.end, count));
        self.end += run.len() as u64;
        Ok(())
    }

    pub fn finish(mut self) -> io::Result<Items> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut runs = Vec::new();
        let rest = self.places.len() as u64;
        let memory = Bytes::Memory(Arc::new(self.sorted()));
        if let Some(file) = self.file.take() {
            let file = Arc::new(file);
            let run = |(at, count)| Run::new(Bytes::File(Arc::clone(&file)), at, count);
            runs.extend(self.runs.iter().copied().map(run));
        }
        runs.push(Run::new(memory, 0, rest));
        Items::of(runs)
    }
}

/// Takes items in order.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    bytes: Vec<u8>,
    most: usize,
    file: Option<Arc<File>>,
    end: u64,
    count: u64,
    /// Sum of the sizes of its files.
    size: u64,
}

impl Spool {
    pub fn new(dir: &Path) -> Self {
        Self::with_room(dir, SPOOL_BYTES)
    }

    fn with_room(dir: &Path, most: usize) -> Self {
        let dir = dir.to_path_buf();
        Self { dir, bytes: Vec::new(), most, file: None, end: 0, count: 0, size: 0 }
    }

    pub fn push(&mut self, item: &Item) -> io::Result<()> {
        item.encode(&mut self.bytes);
        self.count += 1;
        self.size += item.entry.size;
        if self.bytes.len() >= self.most { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(Arc::new(nameless(&self.dir)?)),
        };
        file.write_all_at(&self.bytes, self.end)?;
        self.end += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }

    pub fn len(&self) -> u64 {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// What was pushed so far, from the first on.
    pub fn items(&mut self) -> io::Result<Items> {
        if self.file.is_some() {
            self.spill()?;
        }
        let bytes = match &self.file {
            Some(file) => Bytes::File(Arc::clone(file)),
            None => Bytes::Memory(Arc::new(self.bytes.clone())),
        };
        Items::of(vec![Run::new(bytes, 0, self.count)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(n: u64) -> Item {
        let old = n.is_multiple_of(3).then(|| Record {
            size: n + 1,
            mtime: -2,
            hash: [n as u8; 16],
            chunks: 4,
            skip: u8::from(n.is_multiple_of(2)),
        });
        let path = format!("größe/{}/{n}", n * 7919 % 13);
        Item { entry: Entry { path, size: n, mtime: -9 }, old, stale: n.is_multiple_of(5) }
    }

    fn all(mut items: Items) -> Vec<Item> {
        let mut out = Vec::new();
        while let Some(item) = items.take().unwrap() {
            out.push(item);
        }
        out
    }

    #[test]
    fn items_come_back_in_order_however_little_room_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut sorted: Vec<Item> = (0..500).map(item).collect();
        sorted.sort_by(|a, b| a.entry.path.cmp(&b.entry.path));
        for room in [1, 300, 1 << 20] {
            let mut sorter = Sorter::with_room(dir.path(), room);
            (0..500).for_each(|n| sorter.push(&item(n)));
            assert_eq!(all(sorter.finish().unwrap()), sorted, "{room}");
            let mut spool = Spool::with_room(dir.path(), room);
            for item in &sorted {
                spool.push(item).unwrap();
            }
            for _ in 0..2 {
                assert_eq!(all(spool.items().unwrap()), sorted, "{room}");
            }
            assert_eq!((spool.len(), spool.size()), (500, 499 * 250));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_path_that_comes_again_at_once_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(dir.path());
        for path in ["b", "b", "a", "b"] {
            sorter.push_path(path);
        }
        let paths: Vec<_> =
            all(sorter.finish().unwrap()).into_iter().map(|i| i.entry.path).collect();
        assert_eq!(paths, ["a", "b", "b"]);
        assert!(all(Sorter::new(dir.path()).finish().unwrap()).is_empty());
    }

    #[test]
    fn no_room_on_disk_is_an_error() {
        let mut sorter = Sorter::with_room(Path::new("/nonexistent"), 1);
        sorter.push(&item(1));
        sorter.push(&item(2));
        assert!(sorter.finish().is_err());
        assert!(Spool::with_room(Path::new("/nonexistent"), 1).push(&item(1)).is_err());
    }
}
