//! One file through the pipeline: read, cut, tokenise, embed.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cache::{Cache, Kept};
use crate::chunk::Chunker;
use crate::embed::{self, Embedder};
use crate::limits::MAX_FILE_BYTES;
use crate::spool::Item;
use crate::store::Row;
use crate::{doc, manifest, sniff};

/// One file through the pipeline.
pub(super) struct Done {
    pub(super) item: Item,
    pub(super) hash: [u8; 16],
    pub(super) outcome: Outcome,
}

pub(super) enum Outcome {
    /// Same bytes as before.
    Touched,
    Skipped(sniff::Skip),
    Rows {
        rows: Vec<Row>,
        /// The cache knew them.
        reused: bool,
        /// For the cache to keep.
        kept: Option<Kept>,
    },
}

/// Reads one file and cuts it. Never fails: what cannot be read is a reason.
pub(super) fn process(
    root: &Path,
    mut item: Item,
    known: Option<[u8; 16]>,
    chunker: &mut Chunker,
    embedder: Option<&dyn Embedder>,
    cache: &Cache,
) -> Done {
    let started = SystemTime::now();
    let bytes = match read(&root.join(&item.entry.path)) {
        Ok(bytes) => bytes,
        Err(reason) => return Done { item, hash: [0; 16], outcome: Outcome::Skipped(reason) },
    };
    let content = blake3::hash(&bytes);
    let hash = manifest::short(&content);
    // Written while we read, or within the clock's grain before: look again next time.
    let now = started.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64);
    if now - item.entry.mtime < RACY_NS {
        item.entry.mtime = 0;
    }
    item.entry.size = bytes.len() as u64;
    if known == Some(hash) {
        return Done { item, hash, outcome: Outcome::Touched };
    }
    let text = match sniff::text_of(bytes) {
        Ok(text) => text,
        Err(reason) => return Done { item, hash, outcome: Outcome::Skipped(reason) },
    };
    let path = item.entry.path.as_str();
    let flags = sniff::flags_of(path, &text);
    let keys = cache.keys(path, &content);
    let (chunks, vectors, reused) = match cache.get(&keys, &text) {
        Some(known) => (known.entry.chunks, known.vectors.then_some(known.entry.vectors), true),
        None => (chunker.chunk(path, &text), None, false),
    };
    let fresh = vectors.is_none();
    let vectors = vectors.unwrap_or_else(|| {
        let vector = |chunk: &crate::chunk::Chunk| {
            let place = embed::place(path, &chunk.crumb, &chunk.symbol);
            embedder.and_then(|e| e.chunk(&place, &text[chunk.start..chunk.end]))
        };
        chunks.iter().map(vector).collect()
    });
    let rows: Vec<Row> = chunks
        .iter()
        .zip(vectors)
        .map(|(chunk, vector)| {
            let code = &text[chunk.start..chunk.end];
            Row {
                tokens: doc::index_text(path, chunk, code),
                vector,
                path: path.to_owned(),
                start_line: chunk.start_line,
                end_line: chunk.end_line,
                symbol: chunk.symbol.clone(),
                kind: chunk.kind,
                crumb: chunk.crumb.clone(),
                flags,
                code: code.to_string(),
            }
        })
        .collect();
    let kept = if fresh { Cache::kept(keys, &chunks, &rows) } else { None };
    Done { item, hash, outcome: Outcome::Rows { rows, reused, kept } }
}

/// File times have this grain at worst.
const RACY_NS: i64 = 20_000_000;

/// Reads a regular file, never through a link, never more than the cap.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, sniff::Skip> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = std::fs::File::options()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(|_| sniff::Skip::Unreadable)?;
    let meta = file.metadata().map_err(|_| sniff::Skip::Unreadable)?;
    if !meta.is_file() {
        return Err(sniff::Skip::NotAFile);
    }
    if meta.len() > MAX_FILE_BYTES {
        return Err(sniff::Skip::TooLarge);
    }
    let mut bytes = Vec::with_capacity(meta.len() as usize + 1);
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|_| sniff::Skip::Unreadable)?;
    Ok(bytes)
}
