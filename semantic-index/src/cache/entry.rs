//! One cache entry: the cuts of a file and their vectors.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::chunk::Chunk;
use crate::limits::MAX_CHUNKS_PER_FILE;
use crate::store::Row;

/// What is known of a content.
#[derive(Debug)]
pub struct Reuse {
    pub entry: Entry,
    /// The vectors fit too; else the file is to be embedded again under its new path.
    pub vectors: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub chunks: Vec<Chunk>,
    pub vectors: Vec<Option<Vec<i8>>>,
}

/// None when a text is longer than an entry can say; such a file is cut again.
pub(super) fn encode(chunks: &[Chunk], rows: &[Row]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(8 + chunks.len() * 340);
    out.extend_from_slice(&u32::try_from(chunks.len()).ok()?.to_le_bytes());
    for (chunk, row) in chunks.iter().zip(rows) {
        for number in [chunk.start, chunk.end] {
            out.extend_from_slice(&u32::try_from(number).ok()?.to_le_bytes());
        }
        for number in [chunk.start_line, chunk.end_line] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for text in [&chunk.symbol, chunk.kind, &chunk.crumb] {
            out.extend_from_slice(&u16::try_from(text.len()).ok()?.to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        let vector = row.vector.as_deref().unwrap_or_default();
        out.extend_from_slice(&u16::try_from(vector.len()).ok()?.to_le_bytes());
        out.extend(vector.iter().map(|value| value.cast_unsigned()));
    }
    Some(out)
}

impl Entry {
    /// None unless every range lies in `text`.
    pub(super) fn decode(bytes: &[u8], text: &str) -> Option<Self> {
        let mut reader = Reader(bytes);
        let count = reader.u32()? as usize;
        if count > MAX_CHUNKS_PER_FILE {
            return None;
        }
        let mut entry = Self { chunks: Vec::with_capacity(count), vectors: Vec::new() };
        for _ in 0..count {
            let (start, end) = (reader.u32()? as usize, reader.u32()? as usize);
            text.get(start..end)?;
            entry.chunks.push(Chunk {
                start,
                end,
                start_line: reader.u32()?,
                end_line: reader.u32()?,
                symbol: reader.text()?.to_owned(),
                kind: kind(reader.text()?)?,
                crumb: reader.text()?.to_owned(),
            });
            let vector = reader.bytes()?;
            let vector = vector.iter().map(|byte| byte.cast_signed()).collect::<Vec<_>>();
            entry.vectors.push((!vector.is_empty()).then_some(vector));
        }
        reader.0.is_empty().then_some(entry)
    }
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, n: usize) -> Option<&'b [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'b [u8]> {
        let len = u16::from_le_bytes(self.take(2)?.try_into().ok()?);
        self.take(usize::from(len))
    }

    fn text(&mut self) -> Option<&'b str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

/// Kinds of chunks are few and live as long as the program.
fn kind(name: &str) -> Option<&'static str> {
    const MOST: usize = 200;
    static KNOWN: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if let Some(kind) = known.get(name) {
        return Some(kind);
    }
    if known.len() >= MOST || name.len() > 64 {
        return None;
    }
    let kind: &'static str = Box::leak(name.to_owned().into_boxed_str());
    known.insert(kind);
    Some(kind)
}
