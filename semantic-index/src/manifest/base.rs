//! The bulk of the list of files: written once, sorted by path, mapped and read block by block.
//!
//! Each block of records has a hash, so that an update checks only what it reads. Layout,
//! little endian: header; blocks of records; an entry a block (where it begins u64, its bytes
//! u32, its first path's place among the paths u32, its hash); the first path of each block.
//! The header holds the hash of entries and paths, and the list that refers to this file
//! holds it too.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use memmap2::Mmap;

use super::{Record, decode, encode, hash};
use crate::limits::LIST_BLOCK;

const MAGIC: &[u8; 8] = b"LAILST01";
/// magic, records u64, blocks u64, where the entries begin u64, hash of what follows there.
const HEADER: usize = 64;
const ENTRY: usize = 32;

/// Hash of the entries and the paths.
pub(super) type Sum = [u8; 16];

/// The mapped file.
#[derive(Debug)]
pub(super) struct Base {
    map: Mmap,
    records: u64,
    blocks: usize,
    entries: Range<usize>,
}

impl Base {
    /// Writes the file from records in order; it is one when its header is there.
    pub(super) fn write(
        path: &Path,
        records: impl Iterator<Item = (String, Record)>,
    ) -> io::Result<Sum> {
        let file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let mut out = BufWriter::with_capacity(1 << 18, file);
        out.write_all(&[0; HEADER])?;
        let (mut block, mut entries, mut paths) = (Vec::new(), Vec::new(), Vec::new());
        let (mut count, mut blocks, mut at) = (0_u64, 0_u64, HEADER as u64);
        let mut records = records.peekable();
        while let Some((path, record)) = records.next() {
            if block.is_empty() {
                entries.extend_from_slice(&at.to_le_bytes());
                entries.extend_from_slice(&[0; 4]);
                entries.extend_from_slice(&(paths.len() as u32).to_le_bytes());
                paths.extend_from_slice(path.as_bytes());
            }
            encode(&path, &record, &mut block);
            count += 1;
            if block.len() >= LIST_BLOCK || records.peek().is_none() {
                let end = entries.len();
                entries[end - 8..end - 4].copy_from_slice(&(block.len() as u32).to_le_bytes());
                entries.extend_from_slice(&hash(&block));
                out.write_all(&block)?;
                at += block.len() as u64;
                blocks += 1;
                block.clear();
            }
        }
        entries.extend_from_slice(&paths);
        let sum = hash(&entries);
        out.write_all(&entries)?;
        let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        for (n, number) in [count, blocks, at].into_iter().enumerate() {
            header[8 + n * 8..16 + n * 8].copy_from_slice(&number.to_le_bytes());
        }
        header[32..48].copy_from_slice(&sum);
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header)?;
        file.sync_data()?;
        Ok(sum)
    }

    /// None when there is no such file, or its directory is damaged.
    pub(super) fn open(path: &Path, sum: &Sum) -> Option<Self> {
        let file = File::open(path).ok()?;
        // SAFETY: the file is ours (a 0700 folder), written once under a name of its own and
        // only ever unlinked, never changed or cut, while a build may map it.
        let map = unsafe { Mmap::map(&file).ok()? };
        if map.get(..8)? != MAGIC || map.get(32..48)? != sum {
            return None;
        }
        let number =
            |n: usize| Some(u64::from_le_bytes(map[8 + n * 8..16 + n * 8].try_into().ok()?));
        let (records, blocks) = (number(0)?, usize::try_from(number(1)?).ok()?);
        let start = usize::try_from(number(2)?).ok()?;
        let entries = start..start.checked_add(blocks.checked_mul(ENTRY)?)?;
        let whole = hash(map.get(start..)?) == *sum && entries.end <= map.len();
        whole.then_some(Self { map, records, blocks, entries })
    }

    pub(super) fn len(&self) -> u64 {
        self.records
    }

    fn entry(&self, block: usize) -> Option<&[u8]> {
        self.map.get(self.entries.clone())?.get(block * ENTRY..(block + 1) * ENTRY)
    }

    /// The first path of a block.
    fn first(&self, block: usize) -> Option<&[u8]> {
        let place = |block: usize| Some(word(self.entry(block)?, 12)? as usize);
        let paths = self.map.get(self.entries.end..)?;
        let end = if block + 1 < self.blocks { place(block + 1)? } else { paths.len() };
        paths.get(place(block)?..end)
    }

    /// The block that holds this path, if one does.
    fn block_of(&self, path: &str) -> usize {
        let (mut low, mut high) = (0, self.blocks);
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.first(middle).is_some_and(|first| first <= path.as_bytes()) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.saturating_sub(1)
    }

    /// The records of a block; None when it is damaged.
    fn block(&self, block: usize) -> Option<&[u8]> {
        let entry = self.entry(block)?;
        let start = usize::try_from(u64::from_le_bytes(entry[..8].try_into().ok()?)).ok()?;
        let bytes = self.map.get(start..start.checked_add(word(entry, 8)? as usize)?)?;
        (hash(bytes) == entry[16..]).then_some(bytes)
    }

    pub(super) fn get(&self, path: &str) -> Option<Record> {
        let mut bytes = self.block(self.block_of(path))?;
        while let Some((here, record)) = decode(&mut bytes) {
            if here == path {
                return Some(record);
            }
        }
        None
    }

    /// The records from this path on, in order. Damaged blocks are left out: see `is_whole`.
    pub(super) fn from<'a>(
        &'a self,
        path: &str,
    ) -> impl Iterator<Item = (&'a str, Record)> + use<'a> {
        let path = path.to_owned();
        let blocks = (self.block_of(&path)..self.blocks).filter_map(|block| self.block(block));
        let records = |mut bytes: &'a [u8]| std::iter::from_fn(move || decode(&mut bytes));
        blocks.flat_map(records).skip_while(move |(here, _)| *here < path.as_str())
    }

    /// Whether the blocks with paths from `from` up to `to` are as they were written.
    pub(super) fn is_whole(&self, from: &str, to: Option<&str>) -> bool {
        let last = to.map_or(self.blocks, |to| self.block_of(to) + 1).min(self.blocks);
        (self.block_of(from)..last).all(|block| self.block(block).is_some())
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
