//! Chunks of file contents seen before, so that a branch that comes back, another work tree
//! or a moved file is not cut and embedded again.
//!
//! One folder for all indexes of a user. Immutable segments hold entries under the hash of a
//! file's content, once together with its path (cuts and vectors) and once with the language
//! alone (cuts, for a file that moved). Vectors that a provider made lie under the hash of
//! their text (`vector`), so that nothing is paid for twice. An entry follows from its key, so that nothing here
//! can be out of date: a lost segment costs time, never a result. Segments appear by a
//! rename, go oldest first when the folder grows over its bound, and are read by mapping, so
//! that builds at the same time neither wait nor disturb each other. Used by `builder`.

mod entry;
mod segment;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use entry::Entry;
pub use entry::Reuse;
use segment::{Segment, Writer};

use crate::fault::fault;
use crate::lang;
use crate::limits::{
    CACHE_BUILD_BYTES, CACHE_BYTES, CACHE_SEGMENT_BYTES, CACHE_SMALL_BYTES, CACHE_SMALL_SEGMENTS,
};
use crate::manifest::FORMAT;
use crate::store::Row;

/// What an entry is found by.
pub type Key = [u8; 16];

/// The keys of one file's content.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    /// Content and path: cuts and vectors fit.
    pub exact: Key,
    /// Content and language: cuts fit.
    pub moved: Key,
}

/// The chunks of one file, ready to be kept.
#[derive(Debug)]
pub struct Kept {
    pub keys: Keys,
    pub bytes: Vec<u8>,
}

/// Read by all threads of a build.
#[derive(Debug, Default)]
pub struct Cache {
    /// Newest first.
    segments: Vec<Segment>,
    /// Embedder and program: what else an entry depends on.
    salt: Vec<u8>,
}

impl Cache {
    /// What is there; an unusable folder is an empty cache.
    pub fn open(dir: &Path, embedder: &str) -> Self {
        let mut salt = FORMAT.to_le_bytes().to_vec();
        for part in [env!("CARGO_PKG_VERSION"), embedder] {
            salt.extend_from_slice(&(part.len() as u64).to_le_bytes());
            salt.extend_from_slice(part.as_bytes());
        }
        let mut names = segments(dir);
        names.sort_unstable_by(|a, b| b.cmp(a));
        let segments = names.iter().filter_map(|(_, path)| Segment::open(path)).collect();
        Self { segments, salt }
    }

    pub fn keys(&self, path: &str, content: &blake3::Hash) -> Keys {
        let key = |what: &[u8], name: &str| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&self.salt).update(what).update(content.as_bytes());
            hasher.update(name.as_bytes());
            let mut key = Key::default();
            key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
            key
        };
        Keys { exact: key(b"p", path), moved: key(b"l", &lang::format_label(path)) }
    }

    /// The chunks of this content, as far as they are known.
    pub fn get(&self, keys: &Keys, text: &str) -> Option<Reuse> {
        let find = |key| self.segments.iter().find_map(|s| Entry::decode(s.get(key)?, text));
        if let Some(entry) = find(&keys.exact) {
            return Some(Reuse { entry, vectors: true });
        }
        find(&keys.moved).map(|entry| Reuse { entry, vectors: false })
    }

    /// The key of a text's vector.
    pub fn text_key(&self, text: &str) -> Key {
        let mut key = Key::default();
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.salt).update(b"t").update(text.as_bytes());
        key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        key
    }

    /// The vector of a text, as it was made before.
    pub fn vector(&self, key: &Key, dims: usize) -> Option<Vec<i8>> {
        let bytes = self.segments.iter().find_map(|s| s.get(key))?;
        (bytes.len() == dims).then(|| bytes.iter().map(|byte| byte.cast_signed()).collect())
    }

    /// What the cache is to keep of a file.
    pub fn kept(keys: Keys, chunks: &[crate::chunk::Chunk], rows: &[Row]) -> Option<Kept> {
        Some(Kept { keys, bytes: entry::encode(chunks, rows)? })
    }
}

/// Adds the entries of one build.
#[derive(Debug)]
pub struct Keeper {
    dir: PathBuf,
    writer: Option<Writer>,
    written: u64,
    /// Something failed, or this build has had its share: nothing more is kept.
    off: bool,
}

impl Keeper {
    pub fn new(dir: Option<&Path>) -> Self {
        let off = dir.is_none_or(|dir| lapce_ai_ipc::paths::private_dir(dir).is_err());
        Self { dir: dir.map(Path::to_path_buf).unwrap_or_default(), writer: None, written: 0, off }
    }

    /// Keeps one file's chunks. A full disk ends the keeping, not the build.
    pub fn add(&mut self, kept: &Kept) {
        self.keep(&[kept.keys.exact, kept.keys.moved], &kept.bytes);
    }

    /// Keeps the vector of one text.
    pub fn add_vector(&mut self, key: Key, vector: &[i8]) {
        let bytes: Vec<u8> = vector.iter().map(|value| value.cast_unsigned()).collect();
        self.keep(&[key], &bytes);
    }

    fn keep(&mut self, keys: &[Key], bytes: &[u8]) {
        if self.off {
            return;
        }
        if self.try_keep(keys, bytes).is_err() || self.written > CACHE_BUILD_BYTES {
            self.close();
            self.off = true;
        }
    }

    fn try_keep(&mut self, keys: &[Key], bytes: &[u8]) -> io::Result<()> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => self.writer.insert(Writer::create(&self.dir)?),
        };
        writer.add(keys, bytes)?;
        self.written += bytes.len() as u64;
        if writer.len() > CACHE_SEGMENT_BYTES {
            self.close();
        }
        Ok(())
    }

    /// Makes what was added readable.
    pub fn close(&mut self) {
        if let Some(writer) = self.writer.take() {
            fault("cache-written");
            if let Err(error) = writer.finish() {
                tracing::warn!(%error, "chunks of this build are not kept");
            }
        }
    }

    /// Closes, joins small segments, and drops the oldest until the rest fits.
    pub fn tidy(mut self) {
        self.close();
        if !self.dir.as_os_str().is_empty() {
            let _ = tidy(&self.dir, CACHE_BYTES);
        }
    }
}

/// (age and name, path) of every segment.
fn segments(dir: &Path) -> Vec<(String, PathBuf)> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| Some((e.file_name().to_str()?.to_owned(), e.path())))
        .filter(|(name, path)| name.starts_with("seg-") && path.extension().is_none())
        .collect()
}

/// One process at a time; another one's turn is as good.
pub(crate) fn tidy(dir: &Path, bound: u64) -> io::Result<()> {
    let lock = File::options().write(true).create(true).truncate(false).open(dir.join("lock"))?;
    if lock.try_lock().is_err() {
        return Ok(());
    }
    Writer::sweep(dir);
    let size = |path: &Path| fs::metadata(path).map_or(0, |m| m.len());
    let mut all = segments(dir);
    all.sort_unstable();
    let small: Vec<PathBuf> = all
        .iter()
        .map(|(_, path)| path.clone())
        .filter(|path| size(path) < CACHE_SMALL_BYTES)
        .collect();
    if small.len() > CACHE_SMALL_SEGMENTS {
        let mut writer = Writer::create(dir)?;
        for segment in small.iter().filter_map(|path| Segment::open(path)) {
            segment.each(|keys, bytes| writer.add(keys, bytes))?;
        }
        writer.finish()?;
        fault("cache-joined");
        for path in small {
            fs::remove_file(path)?;
        }
        all = segments(dir);
        all.sort_unstable();
    }
    let mut total: u64 = all.iter().map(|(_, path)| size(path)).sum();
    for (_, path) in all {
        if total <= bound {
            break;
        }
        total -= size(&path);
        fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::Chunker;

    const TEXT: &str = "/// Größe.\nfn size() {\n    one();\n    two();\n}\n\nstruct Wide {\n    a: u8,\n    b: u8,\n}\n";

    fn kept(cache: &Cache, path: &str, text: &str) -> Kept {
        let chunks = Chunker::new().chunk(path, text);
        let rows: Vec<Row> = chunks
            .iter()
            .enumerate()
            .map(|(n, chunk)| Row {
                path: path.into(),
                start_line: chunk.start_line,
                end_line: chunk.end_line,
                symbol: chunk.symbol.clone(),
                kind: chunk.kind,
                crumb: chunk.crumb.clone(),
                flags: 0,
                code: String::new(),
                tokens: String::new(),
                vector: (n > 0).then(|| vec![n as i8, -3, 7]),
            })
            .collect();
        Cache::kept(cache.keys(path, &blake3::hash(text.as_bytes())), &chunks, &rows).unwrap()
    }

    fn look(dir: &Path, path: &str, text: &str) -> Option<Reuse> {
        let cache = Cache::open(dir, "e");
        cache.get(&cache.keys(path, &blake3::hash(text.as_bytes())), text)
    }

    #[test]
    fn content_comes_back_with_its_vectors_and_after_a_move_without() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), "e");
        let mut keeper = Keeper::new(Some(dir.path()));
        keeper.add(&kept(&cache, "src/a.rs", TEXT));
        keeper.tidy();
        let there = look(dir.path(), "src/a.rs", TEXT).unwrap();
        assert!(there.vectors);
        let chunks = Chunker::new().chunk("src/a.rs", TEXT);
        assert_eq!(there.entry.chunks, chunks);
        assert_eq!(there.entry.vectors[0], None);
        let moved = look(dir.path(), "lib/b.rs", TEXT).unwrap();
        assert!(!moved.vectors);
        assert_eq!(moved.entry.chunks, chunks);
        assert!(look(dir.path(), "lib/b.py", TEXT).is_none(), "another language, other cuts");
        assert!(look(dir.path(), "src/a.rs", &format!("{TEXT} ")).is_none());
        let other = Cache::open(dir.path(), "another embedder");
        assert!(other.get(&other.keys("src/a.rs", &blake3::hash(TEXT.as_bytes())), TEXT).is_none());
    }

    #[test]
    fn a_text_s_vector_is_kept_for_its_embedder_alone() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), "e");
        let mut keeper = Keeper::new(Some(dir.path()));
        keeper.add_vector(cache.text_key("one"), &[1, -128, 127]);
        keeper.tidy();
        let cache = Cache::open(dir.path(), "e");
        assert_eq!(cache.vector(&cache.text_key("one"), 3), Some(vec![1, -128, 127]));
        assert_eq!(cache.vector(&cache.text_key("one"), 4), None, "of another size");
        assert_eq!(cache.vector(&cache.text_key("two"), 3), None);
        let other = Cache::open(dir.path(), "f");
        assert_eq!(other.vector(&other.text_key("one"), 3), None);
    }

    #[test]
    fn damage_is_a_miss_and_a_torn_segment_no_segment() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), "e");
        let mut keeper = Keeper::new(Some(dir.path()));
        keeper.add(&kept(&cache, "a.rs", TEXT));
        keeper.close();
        let (_, path) = segments(dir.path()).remove(0);
        let whole = fs::read(&path).unwrap();
        let good = look(dir.path(), "a.rs", TEXT).unwrap().entry;
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x41;
            fs::write(&path, &bytes).unwrap();
            if let Some(found) = look(dir.path(), "a.rs", TEXT) {
                assert_eq!(found.entry, good, "byte {at}");
            }
        }
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            assert!(look(dir.path(), "a.rs", TEXT).is_none(), "{len} bytes");
        }
    }

    #[test]
    fn small_segments_are_joined_and_the_oldest_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), "e");
        let text = |n: usize| format!("fn number_{n}() {{\n    a();\n    b();\n}}\n");
        for n in 0..=CACHE_SMALL_SEGMENTS {
            let mut keeper = Keeper::new(Some(dir.path()));
            keeper.add(&kept(&cache, "a.rs", &text(n)));
            keeper.close();
        }
        fs::write(dir.path().join("seg-1.tmp"), "left by a build that died").unwrap();
        tidy(dir.path(), CACHE_BYTES).unwrap();
        assert_eq!(segments(dir.path()).len(), 1);
        assert!(!dir.path().join("seg-1.tmp").exists());
        for n in 0..=CACHE_SMALL_SEGMENTS {
            assert!(look(dir.path(), "a.rs", &text(n)).unwrap().vectors, "{n}");
        }
        let mut keeper = Keeper::new(Some(dir.path()));
        keeper.add(&kept(&cache, "new.rs", TEXT));
        keeper.close();
        let newest = segments(dir.path()).into_iter().max().unwrap().1;
        tidy(dir.path(), fs::metadata(&newest).unwrap().len()).unwrap();
        assert!(look(dir.path(), "a.rs", &text(0)).is_none());
        assert!(look(dir.path(), "new.rs", TEXT).is_some());
    }
}
