//! The list of indexed files: a sorted base that is never changed (`base`), and the changes
//! since, which are written anew with every commit. An update so reads and writes what has
//! changed, not a million names; when the changes have grown, a build merges them into a
//! new base.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Bound;
use std::path::{Path, PathBuf};

use super::base::{Base, Sum};
use super::{IN_SHARED, Record, decode, encode, replace_with};
use crate::fault::fault;
use crate::limits::{LIST_CHANGES_MOST, MAX_PATH_BYTES};
use crate::walk::Only;

const MAGIC: &[u8; 8] = b"LAIXFIL2";
/// The name of the changes in the database folder; bases are `list-N`.
const NAME: &str = "files.bin";
/// One record: lengths, numbers, hash; without its path.
const RECORD_BYTES: usize = 4 + 8 + 8 + 16 + 4 + 1;

/// All indexed files.
#[derive(Debug, Default)]
pub struct Files {
    base: Option<(u64, Sum, Base)>,
    /// What differs from the base; None: the file is gone.
    changes: BTreeMap<String, Option<Record>>,
    sums: Sums,
    /// A build began and did not finish: rows may exist that no record tells of.
    pub dirty: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sums {
    files: u64,
    searchable: u64,
    chunks: u64,
}

impl Sums {
    fn add(&mut self, record: &Record) {
        self.files += 1;
        self.searchable += u64::from(is_searchable(record));
        self.chunks += u64::from(record.chunks);
    }

    fn take(&mut self, record: &Record) {
        self.files = self.files.saturating_sub(1);
        self.searchable = self.searchable.saturating_sub(u64::from(is_searchable(record)));
        self.chunks = self.chunks.saturating_sub(u64::from(record.chunks));
    }
}

fn is_searchable(record: &Record) -> bool {
    record.skip == 0 || record.skip == IN_SHARED
}

impl Files {
    /// None when missing or damaged: the index is then built anew.
    pub fn load(db: &Path) -> Option<Self> {
        Self::decode(
            io::BufReader::with_capacity(1 << 18, File::open(db.join(NAME)).ok()?),
            Some(db),
        )
    }

    /// The same, from a file that [`Self::save_flat`] wrote.
    pub fn load_flat(file: &Path) -> Option<Self> {
        Self::decode(io::BufReader::with_capacity(1 << 18, File::open(file).ok()?), None)
    }

    /// Whether what a build that looks at `only` will read of the base is undamaged.
    pub fn is_whole(&self, only: Option<&Only>) -> bool {
        let Some((.., base)) = &self.base else { return true };
        match only.filter(|_| !self.dirty) {
            None => base.is_whole("", None),
            Some(only) => only.iter().all(|path| base.is_whole(path, Some(&after(path)))),
        }
    }

    pub fn get(&self, path: &str) -> Option<Record> {
        match self.changes.get(path) {
            Some(change) => *change,
            None => self.base.as_ref()?.2.get(path),
        }
    }

    pub fn contains(&self, path: &str) -> bool {
        self.get(path).is_some()
    }

    pub fn insert(&mut self, path: String, record: Record) {
        if let Some(old) = self.get(&path) {
            self.sums.take(&old);
        }
        self.sums.add(&record);
        self.changes.insert(path, Some(record));
    }

    pub fn remove(&mut self, path: &str) -> Option<Record> {
        let old = self.get(path)?;
        self.sums.take(&old);
        if self.base.is_some() {
            self.changes.insert(path.to_owned(), None);
        } else {
            self.changes.remove(path);
        }
        Some(old)
    }

    /// All files in the order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Record)> {
        self.from("")
    }

    /// This file and all that lie below it, were it a folder.
    pub fn within(&self, path: &str) -> impl Iterator<Item = (&str, Record)> {
        let (folder, end) = (format!("{path}/"), after(path));
        let below = self.from(&folder).take_while(move |(here, _)| *here < end.as_str());
        // `path-x` and the like lie between a path and what is below it.
        let own = self.from(path).next().filter(|(here, _)| *here == path);
        own.into_iter().chain(below)
    }

    fn from(&self, path: &str) -> impl Iterator<Item = (&str, Record)> + use<'_> {
        let mut base =
            self.base.as_ref().map(|(.., base)| base.from(path)).into_iter().flatten().peekable();
        let from = (Bound::Included(path), Bound::Unbounded);
        let mut changes =
            self.changes.range::<str, _>(from).map(|(p, r)| (p.as_str(), *r)).peekable();
        std::iter::from_fn(move || {
            loop {
                let order = match (base.peek(), changes.peek()) {
                    (Some((old, _)), Some((new, _))) => old.cmp(new),
                    (Some(_), None) => std::cmp::Ordering::Less,
                    (None, _) => std::cmp::Ordering::Greater,
                };
                if order.is_lt() {
                    return base.next();
                }
                if order.is_eq() {
                    base.next();
                }
                let (path, change) = changes.next()?;
                if let Some(record) = change {
                    return Some((path, record));
                }
            }
        })
    }

    pub fn chunks(&self) -> u64 {
        self.sums.chunks
    }

    /// Files that are searchable.
    pub fn count(&self) -> u64 {
        self.sums.searchable
    }

    pub fn is_empty(&self) -> bool {
        self.sums.files == 0
    }

    /// So many changes that they are worth a new base: the larger it is, the more.
    pub fn has_grown(&self, least: usize, part: usize) -> bool {
        let base = self.base.as_ref().map_or(0, |(.., base)| base.len() as usize);
        self.changes.len() > least.max(base / part).min(LIST_CHANGES_MOST)
    }

    /// Writes the changes; readers see the old list or the new one.
    pub fn save(&self, db: &Path) -> io::Result<()> {
        replace_with(&db.join(NAME), |out| self.encode(out))
    }

    /// Writes a new base of all files; `save` then makes it count. `number` is new.
    pub fn merge(&mut self, db: &Path, number: u64) -> io::Result<()> {
        let path = base_path(db, number);
        let records = self.iter().map(|(path, record)| (path.to_owned(), record));
        let sum = Base::write(&path, records)?;
        fault("list-merged");
        let base = Base::open(&path, &sum).ok_or(io::ErrorKind::InvalidData)?;
        self.base = Some((number, sum, base));
        self.changes.clear();
        Ok(())
    }

    /// Whether a file of the database folder is a base that this list does not use.
    pub fn is_old_base(&self, name: &str) -> bool {
        let number = name.strip_prefix("list-").and_then(|number| number.parse::<u64>().ok());
        number.is_some_and(|number| self.base.as_ref().is_none_or(|base| base.0 != number))
    }

    /// Writes all of it into one file.
    pub fn save_flat(&self, file: &Path) -> io::Result<()> {
        let flat = |out: &mut io::BufWriter<File>| {
            let all = self.iter().map(|(path, record)| (path, Some(record)));
            self.write(out, (0, [0; 16]), self.sums.files, all)
        };
        replace_with(file, flat)
    }

    fn encode(&self, out: impl Write) -> io::Result<()> {
        let base = self.base.as_ref().map_or((0, [0; 16]), |(number, sum, _)| (*number, *sum));
        let changes = self.changes.iter().map(|(path, change)| (path.as_str(), *change));
        self.write(out, base, self.changes.len() as u64, changes)
    }

    /// Piece by piece: a flat list of a million files is a hundred megabytes.
    fn write<'a>(
        &self,
        out: impl Write,
        base: (u64, Sum),
        count: u64,
        changes: impl Iterator<Item = (&'a str, Option<Record>)>,
    ) -> io::Result<()> {
        let mut out = Hashing { inner: out, hash: blake3::Hasher::new() };
        out.write_all(MAGIC)?;
        out.write_all(&[u8::from(self.dirty)])?;
        out.write_all(&base.0.to_le_bytes())?;
        out.write_all(&base.1)?;
        for number in [self.sums.files, self.sums.searchable, self.sums.chunks, count] {
            out.write_all(&number.to_le_bytes())?;
        }
        let mut one = Vec::new();
        for (path, change) in changes {
            one.clear();
            one.push(u8::from(change.is_some()));
            encode(path, &change.unwrap_or_default(), &mut one);
            out.write_all(&one)?;
        }
        let sum = out.hash.finalize();
        out.inner.write_all(sum.as_bytes())
    }

    fn decode(from: impl Read, db: Option<&Path>) -> Option<Self> {
        let mut from = Hashing { inner: from, hash: blake3::Hasher::new() };
        if &from.take::<8>()? != MAGIC {
            return None;
        }
        let dirty = from.take::<1>()?[0] != 0;
        let base = (u64::from_le_bytes(from.take()?), from.take()?);
        let mut number = || Some(u64::from_le_bytes(from.take()?));
        let sums = Sums { files: number()?, searchable: number()?, chunks: number()? };
        let count = number()?;
        let mut changes = BTreeMap::new();
        let mut one = Vec::new();
        for _ in 0..count {
            let there = from.take::<1>()?[0] != 0;
            let length: [u8; 4] = from.take()?;
            let path = u32::from_le_bytes(length) as usize;
            if path > MAX_PATH_BYTES {
                return None;
            }
            one.clear();
            one.extend_from_slice(&length);
            one.resize(RECORD_BYTES + path, 0);
            from.fill(&mut one[4..])?;
            let (path, record) = decode(&mut one.as_slice())?;
            changes.insert(path.to_owned(), there.then_some(record));
        }
        let sum = from.hash.finalize();
        let mut end = Vec::new();
        from.inner.take(33).read_to_end(&mut end).ok()?;
        if sum.as_bytes() != end.as_slice() {
            return None;
        }
        let base = match base {
            (0, _) => None,
            (number, sum) => Some((number, sum, Base::open(&base_path(db?, number), &sum)?)),
        };
        Some(Self { base, changes, sums, dirty })
    }
}

fn base_path(db: &Path, number: u64) -> PathBuf {
    db.join(format!("list-{number}"))
}

/// The first path that sorts after all that lie below this one: `0` follows `/`.
fn after(path: &str) -> String {
    format!("{path}0")
}

/// Hashes what passes.
struct Hashing<T> {
    inner: T,
    hash: blake3::Hasher,
}

impl<T: Write> Hashing<T> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.inner.write_all(bytes)
    }
}

impl<T: Read> Hashing<T> {
    fn fill(&mut self, bytes: &mut [u8]) -> Option<()> {
        self.inner.read_exact(bytes).ok()?;
        self.hash.update(bytes);
        Some(())
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u64) -> Record {
        Record { size: n, mtime: -5, hash: [n as u8; 16], chunks: 3, skip: u8::from(n % 7 == 3) }
    }

    fn path(n: u64) -> String {
        format!("src/größe/{}/{n}.rs", n % 10)
    }

    fn sample(count: u64) -> Files {
        let mut files = Files { dirty: true, ..Files::default() };
        for n in 0..count {
            files.insert(path(n), record(n));
        }
        files
    }

    fn all(files: &Files) -> Vec<(String, Record)> {
        files.iter().map(|(path, record)| (path.to_owned(), record)).collect()
    }

    fn assert_sums(files: &Files) {
        let mut sums = Sums::default();
        files.iter().for_each(|(_, record)| sums.add(&record));
        assert_eq!(files.sums, sums);
    }

    #[test]
    fn files_survive_a_round_trip() {
        let dir = tempfile::tempdir().unwrap();
        sample(50).save(dir.path()).unwrap();
        let loaded = Files::load(dir.path()).unwrap();
        assert!(loaded.dirty && loaded.is_whole(None));
        assert_eq!(all(&loaded), all(&sample(50)));
        assert_sums(&loaded);
    }

    #[test]
    fn changes_lie_on_the_base_and_are_merged_into_it() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path();
        let mut plain = sample(3000);
        let mut files = sample(3000);
        files.merge(db, 7).unwrap();
        files.save(db).unwrap();
        for round in 8..11_u64 {
            let mut files = Files::load(db).unwrap();
            assert_eq!(all(&files), all(&plain));
            assert_sums(&files);
            for n in (0..3200).step_by(round as usize * 3) {
                let record = record(n + round);
                files.insert(path(n), record);
                plain.insert(path(n), record);
                let gone = path(n + 1);
                assert_eq!(files.remove(&gone), plain.remove(&gone));
                assert_eq!((files.get(&path(n)), files.contains(&gone)), (Some(record), false));
            }
            assert_eq!(all(&files), all(&plain));
            assert_sums(&files);
            // The changes alone are written.
            files.save(db).unwrap();
            assert!(std::fs::metadata(db.join(NAME)).unwrap().len() < 100_000);
            assert!(db.join("list-7").exists());
            if round == 10 {
                files.merge(db, round).unwrap();
                assert!(files.is_old_base("list-7") && !files.is_old_base("list-10"));
                assert!(!files.is_old_base(NAME) && !files.is_old_base("list-x"));
                files.save(db).unwrap();
            }
        }
        let files = Files::load(db).unwrap();
        assert!(files.changes.is_empty());
        assert_eq!(all(&files), all(&plain));
        files.save_flat(&db.join("flat")).unwrap();
        assert_eq!(all(&Files::load_flat(&db.join("flat")).unwrap()), all(&plain));
        // A flat list cannot point at a file of this machine.
        assert!(Files::load_flat(&db.join(NAME)).is_none());
    }

    #[test]
    fn what_lies_below_a_path_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::default();
        for path in ["a", "a-b", "a.rs", "a/b", "a/c/d", "a0", "b"] {
            files.insert(path.into(), record(1));
        }
        for round in 0..2 {
            let within = |path| files.within(path).map(|(path, _)| path).collect::<Vec<_>>();
            assert_eq!(within("a"), ["a", "a/b", "a/c/d"], "{round}");
            assert_eq!(within("a/c"), ["a/c/d"]);
            assert_eq!(within("b"), ["b"]);
            assert!(within("c").is_empty() && within("").is_empty());
            files.merge(dir.path(), 1 + round).unwrap();
        }
    }

    #[test]
    fn damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path();
        let mut good = Vec::new();
        sample(50).encode(&mut good).unwrap();
        for cut in [0, 7, 31, 40, good.len() - 1] {
            assert!(Files::decode(&good[..cut], None).is_none());
        }
        let longer = [&good[..], &[0]].concat();
        assert!(Files::decode(&longer[..], None).is_none());
        for at in (0..good.len()).step_by(97) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(Files::decode(&bad[..], None).is_none(), "bit flip at {at}");
        }
        let mut files = sample(3000);
        files.dirty = false;
        files.merge(db, 1).unwrap();
        files.save(db).unwrap();
        let base = std::fs::read(db.join("list-1")).unwrap();
        for len in [0, 8, 63, 64, base.len() / 2, base.len() - 1] {
            std::fs::write(db.join("list-1"), &base[..len]).unwrap();
            assert!(Files::load(db).is_none(), "{len} bytes");
        }
        let only = Only::new([path(5), "src/größe/3".to_owned()]);
        let (mut seen, mut unseen) = (0, 0);
        for at in (0..base.len()).step_by(97) {
            let mut bad = base.clone();
            bad[at] ^= 1;
            std::fs::write(db.join("list-1"), &bad).unwrap();
            let Some(files) = Files::load(db) else { continue };
            // Bytes of the header that nothing reads.
            let idle = at < HEADER_END;
            assert!(idle || !files.is_whole(None), "bit flip at {at}");
            if files.is_whole(Some(&only)) {
                unseen += 1;
                assert_eq!(files.get(&path(5)), Some(record(5)));
                assert_eq!(files.within("src/größe/3").count(), 300);
            } else {
                seen += 1;
            }
            let _ = all(&files);
        }
        assert!(seen > 0 && unseen > seen, "{seen} {unseen}");
    }

    const HEADER_END: usize = 64;
}
