//! What one look at the workspace's files found, and its form on disk. Read by the host as
//! well, so nothing in a file is believed before it is checked.

use std::fs::{self, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::limits::{SNAPSHOT_INDEX_BYTES, SNAPSHOT_SETTLED_MS};

const MAGIC: &[u8; 8] = b"lai-snp2";

/// Where the kernel names this start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What tells one state of a file from another without reading it. The time of the last change
/// of the inode is part of it, since no program can set that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamp {
    pub(crate) size: u64,
    pub(crate) mtime_ns: i64,
    pub(crate) ctime_ns: i64,
    pub(crate) inode: u64,
    pub(crate) mode: u32,
}

impl Stamp {
    pub(crate) fn of(meta: &Metadata) -> Self {
        Self {
            size: meta.size(),
            mtime_ns: nanos(meta.mtime(), meta.mtime_nsec()),
            ctime_ns: nanos(meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
            mode: meta.mode(),
        }
    }

    pub(crate) fn of_stat(stat: &libc::stat) -> Self {
        Self {
            size: stat.st_size as u64,
            mtime_ns: nanos(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: nanos(stat.st_ctime, stat.st_ctime_nsec),
            inode: stat.st_ino,
            mode: stat.st_mode,
        }
    }

    pub(crate) fn is_link(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFLNK
    }

    pub(crate) fn is_folder(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFDIR
    }

    /// Files and symlinks; nothing else is covered.
    pub(crate) fn is_covered(&self) -> bool {
        self.is_link() || self.mode & libc::S_IFMT == libc::S_IFREG
    }

    /// Whether a change after `start_ns` is sure to give another stamp. Clocks of file systems
    /// tick coarsely: what was changed just before may change again within the same tick.
    pub(crate) fn settled(&self, start_ns: i64) -> bool {
        self.ctime_ns < start_ns.saturating_sub(SNAPSHOT_SETTLED_MS * 1_000_000)
    }
}

/// Wrong for years that no clock shows; only compared.
fn nanos(seconds: i64, nanos: i64) -> i64 {
    seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos)
}

/// A regular file, or a symlink, whose content is where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) name: Arc<str>,
    pub(crate) stamp: Stamp,
    /// Whether the stamp alone tells that it is as it was.
    pub(crate) settled: bool,
    /// Of the content; `None` when it is not covered.
    pub(crate) hash: Option<[u8; 32]>,
}

/// A folder that no rule ignores, with its files sorted by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder {
    /// Relative to the workspace, empty for the workspace itself.
    pub(crate) path: String,
    pub(crate) stamp: Stamp,
    pub(crate) settled: bool,
    pub(crate) files: Vec<Known>,
}

impl Folder {
    /// The file of that name; most often it is at the same place as in another look.
    pub(crate) fn file(&self, name: &str, hint: usize) -> Option<&Known> {
        if let Some(file) = self.files.get(hint).filter(|file| *file.name == *name) {
            return Some(file);
        }
        let at = self.files.binary_search_by(|f| (*f.name).cmp(name)).ok()?;
        Some(&self.files[at])
    }

    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.path) }
    }
}

/// A file with ignore rules, or the place of one that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) path: String,
    pub(crate) stamp: Option<Stamp>,
    pub(crate) settled: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Index {
    /// Contents written before a crash of the machine may be gone.
    pub(crate) boot: String,
    /// When the look began, by the clock that files are stamped with.
    pub(crate) start_ns: i64,
    /// There were not more files than are looked at.
    pub(crate) whole: bool,
    pub(crate) rules: Vec<Rule>,
    /// Sorted by path.
    pub(crate) folders: Vec<Folder>,
}

impl Index {
    pub(crate) fn folder(&self, path: &str) -> Option<&Folder> {
        let at = self.folders.binary_search_by(|f| f.path.as_str().cmp(path)).ok()?;
        Some(&self.folders[at])
    }

    /// Whether the ignore rules are those of another look.
    pub(crate) fn same_rules(&self, other: &Self) -> bool {
        let rules = |index: &Self| {
            let mut rules: Vec<_> = index.rules.iter().map(|r| (r.path.clone(), r.stamp)).collect();
            rules.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            rules
        };
        rules(self) == rules(other)
    }

    /// One that is missing or damaged knows nothing, and neither does one from before this
    /// start of the machine.
    pub(crate) fn load(path: &Path) -> Self {
        let read = bytes(path).ok().and_then(|bytes| decode(&bytes));
        read.filter(|index| !index.boot.is_empty() && index.boot == boot()).unwrap_or_default()
    }

    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let temporary = path.with_extension("new");
        fs::write(&temporary, encode(self))?;
        fs::rename(&temporary, path)
    }
}

/// Names this start of the machine, or nothing.
pub(crate) fn boot() -> String {
    fs::read_to_string(BOOT_ID).map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// The contents that a snapshot names.
pub(crate) fn hashes(path: &Path) -> Vec<[u8; 32]> {
    let index = bytes(path).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default();
    index.folders.iter().flat_map(|f| f.files.iter().filter_map(|k| k.hash)).collect()
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = SNAPSHOT_INDEX_BYTES;
    fs::File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(io::Error::other("too long")) } else { Ok(bytes) }
}

fn encode(index: &Index) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    text(&mut out, &index.boot);
    out.extend_from_slice(&index.start_ns.to_le_bytes());
    out.push(u8::from(index.whole));
    count(&mut out, index.rules.len());
    for rule in &index.rules {
        text(&mut out, &rule.path);
        out.push(u8::from(rule.settled) | u8::from(rule.stamp.is_some()) << 1);
        stamp(&mut out, &rule.stamp.unwrap_or_default());
    }
    count(&mut out, index.folders.len());
    for folder in &index.folders {
        text(&mut out, &folder.path);
        out.push(u8::from(folder.settled));
        stamp(&mut out, &folder.stamp);
        count(&mut out, folder.files.len());
        for file in &folder.files {
            text(&mut out, &file.name);
            out.push(u8::from(file.settled) | u8::from(file.hash.is_some()) << 1);
            stamp(&mut out, &file.stamp);
            out.extend_from_slice(file.hash.as_ref().map_or(&[], |h| &h[..]));
        }
    }
    out
}

fn count(out: &mut Vec<u8>, n: usize) {
    out.extend_from_slice(&(n as u32).to_le_bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn stamp(out: &mut Vec<u8>, stamp: &Stamp) {
    out.extend_from_slice(&stamp.size.to_le_bytes());
    out.extend_from_slice(&stamp.mtime_ns.to_le_bytes());
    out.extend_from_slice(&stamp.ctime_ns.to_le_bytes());
    out.extend_from_slice(&stamp.inode.to_le_bytes());
    out.extend_from_slice(&stamp.mode.to_le_bytes());
}

fn decode(bytes: &[u8]) -> Option<Index> {
    let mut from = Reader(bytes.strip_prefix(MAGIC)?);
    let (boot, start_ns) = (from.text()?, i64::from_le_bytes(from.array()?));
    let whole = from.array::<1>()?[0] == 1;
    let mut index = Index { boot, start_ns, whole, ..Index::default() };
    for _ in 0..from.count()? {
        let path = from.text()?;
        let [flags] = from.array()?;
        let stamp = Some(from.stamp()?).filter(|_| flags & 2 != 0);
        index.rules.push(Rule { path, stamp, settled: flags & 1 != 0 });
    }
    for _ in 0..from.count()? {
        let path = from.text()?;
        let settled = from.array::<1>()?[0] == 1;
        let stamp = from.stamp()?;
        let mut files = Vec::new();
        for _ in 0..from.count()? {
            let name = from.str()?.into();
            let [flags] = from.array()?;
            let stamp = from.stamp()?;
            let hash = if flags & 2 != 0 { Some(from.array()?) } else { None };
            files.push(Known { name, stamp, settled: flags & 1 != 0, hash });
        }
        index.folders.push(Folder { path, stamp, settled, files });
    }
    let sorted = index.folders.is_sorted_by(|a, b| a.path < b.path)
        && index.folders.iter().all(|f| f.files.is_sorted_by(|a, b| a.name < b.name));
    (from.0.is_empty() && sorted).then_some(index)
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn slice(&mut self, n: usize) -> Option<&'b [u8]> {
        let (slice, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(slice)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.slice(N)?.try_into().ok()
    }

    fn count(&mut self) -> Option<usize> {
        self.array().map(u32::from_le_bytes).map(|n| n as usize)
    }

    fn str(&mut self) -> Option<&'b str> {
        let length = self.count()?;
        std::str::from_utf8(self.slice(length)?).ok()
    }

    fn text(&mut self) -> Option<String> {
        self.str().map(str::to_owned)
    }

    fn stamp(&mut self) -> Option<Stamp> {
        Some(Stamp {
            size: u64::from_le_bytes(self.array()?),
            mtime_ns: i64::from_le_bytes(self.array()?),
            ctime_ns: i64::from_le_bytes(self.array()?),
            inode: u64::from_le_bytes(self.array()?),
            mode: u32::from_le_bytes(self.array()?),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One that names a content.
    pub(crate) fn naming(hash: &blake3::Hash) -> Index {
        let file = Known {
            name: "f".into(),
            stamp: Stamp::default(),
            settled: true,
            hash: Some(*hash.as_bytes()),
        };
        let folder = Folder {
            path: String::new(),
            stamp: Stamp::default(),
            settled: true,
            files: vec![file],
        };
        Index { folders: vec![folder], ..Index::default() }
    }

    fn index() -> Index {
        let stamp = |n: u64| Stamp { size: n, mtime_ns: -1, ctime_ns: 9, inode: n, mode: 0o644 };
        let known = |name: &str, hash| Known {
            name: name.into(),
            stamp: stamp(4),
            settled: hash != Some([0; 32]),
            hash,
        };
        let rule = |path: &str, stamp| Rule { path: path.into(), stamp, settled: true };
        Index {
            boot: boot(),
            start_ns: 5,
            whole: true,
            rules: vec![rule(".gitignore", Some(stamp(3))), rule(".git/info/exclude", None)],
            folders: vec![
                Folder {
                    path: String::new(),
                    stamp: stamp(1),
                    settled: true,
                    files: vec![known("a", Some([7; 32])), known("ä b", None)],
                },
                Folder { path: "d/e".into(), stamp: stamp(2), settled: false, files: vec![] },
                Folder {
                    path: "f".into(),
                    stamp: stamp(2),
                    settled: false,
                    files: vec![known("x", Some([0; 32]))],
                },
            ],
        }
    }

    #[test]
    fn an_index_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snapshot.bin");
        let index = index();
        index.save(&path).unwrap();
        assert_eq!(Index::load(&path), index);
        assert_eq!(hashes(&path), [[7; 32], [0; 32]]);
        let has = |folder, file| index.folder(folder).is_some_and(|f| f.file(file, 0).is_some());
        assert!(has("", "a") && has("f", "x") && !has("", "x") && !has("d", "x"));
    }

    #[test]
    fn a_damaged_index_knows_nothing() {
        let whole = encode(&index());
        for end in 0..whole.len() {
            assert!(decode(&whole[..end]).is_none(), "cut at {end}");
        }
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 0xff;
            // Whatever comes of it, nothing panics and no memory is asked for in vain.
            let _ = decode(&bad);
        }
        let mut long = whole;
        long.push(0);
        assert!(decode(&long).is_none());
    }

    #[test]
    fn what_was_known_before_a_start_of_the_machine_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snapshot.bin");
        Index { boot: "another".into(), ..index() }.save(&path).unwrap();
        assert_eq!(Index::load(&path), Index::default());
    }
}
