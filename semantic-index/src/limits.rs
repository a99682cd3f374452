//! Every bound of the index in one place. No other module names a number of this kind.

use std::time::Duration;

/// A larger file is skipped: it is data, a bundle or a dump.
pub const MAX_FILE_BYTES: u64 = 1_500_000;
/// A longer line marks a file as minified or as data.
pub const MAX_LINE_BYTES: usize = 20_000;
/// A mean line longer than this marks a source file as minified.
pub const MAX_MEAN_LINE_BYTES: usize = 400;
/// Bytes looked at to tell text from binary.
pub const SNIFF_BYTES: usize = 8_192;

/// A definition up to this size is one chunk.
pub const CHUNK_BYTES: usize = 2_400;
/// Parts of what is larger, and runs of leftovers, grow up to this size.
pub const PART_BYTES: usize = 1_500;
/// A container (class, impl, module) up to this size stays whole.
pub const CONTAINER_WHOLE_BYTES: usize = 900;
/// A shorter opening line joins the first definition after it.
pub const HEAD_BYTES: usize = 100;
/// A definition with fewer lines than this joins its neighbours.
pub const SMALL_DEF_LINES: usize = 2;
/// No file yields more chunks; the rest of it is cut off.
pub const MAX_CHUNKS_PER_FILE: usize = 4_000;
/// Nodes deeper than this are cut by lines.
pub const MAX_DEPTH: usize = 150;
/// A parse that takes longer is given up and the file cut by lines.
pub const PARSE_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Longest symbol and breadcrumb kept.
pub const MAX_SYMBOL_BYTES: usize = 120;
pub const MAX_CRUMB_BYTES: usize = 300;
/// What `outline` takes: a file, its path; and gives: definitions, bytes of a line, bytes.
pub const OUTLINE_FILE_BYTES: usize = 1 << 20;
pub const OUTLINE_PATH_BYTES: usize = 4 << 10;
pub const OUTLINE_MAX_ITEMS: usize = 2_000;
pub const OUTLINE_LINE_BYTES: usize = 200;
pub const OUTLINE_BYTES: usize = 64 << 10;
/// Longest path in the list of files: what the system takes.
pub const MAX_PATH_BYTES: usize = 4_096;
/// Bytes of a block of the list of files.
pub const LIST_BLOCK: usize = 8 << 10;
/// A build merges the changes of the list into its base when there are more than this, and
/// than this part of the base; and when an index is tidied.
pub const LIST_CHANGES: (usize, usize) = (16_384, 4);
pub const LIST_CHANGES_TIDY: (usize, usize) = (64, 64);
/// More changes than this are not held in memory.
pub const LIST_CHANGES_MOST: usize = 65_536;
/// A build holds so many bytes of the names of files before it writes them to disk, and reads
/// so many at once from there. Unit tests go through the disk with a few files.
pub const SPOOL_BYTES: usize = if cfg!(test) { 512 } else { 4 << 20 };
pub const SPOOL_READ_BYTES: usize = 32 << 10;
/// A build that is told what changed looks at everything when that is more files.
pub const ONLY_FILES: usize = 65_536;
/// Files that are gone whose rows are deleted at once.
pub const GONE_FILES: usize = 4_000;
/// Folders that a build names: more than a watcher can watch.
pub const MAX_FOLDERS: usize = 32_768;
/// Longest token indexed; longer ones are hashes and encoded data.
pub const MAX_TOKEN_BYTES: usize = 40;
/// Distinct words of a query that count.
pub const MAX_QUERY_TOKENS: usize = 48;
/// Longest query read.
pub const MAX_QUERY_BYTES: usize = 4_096;

/// Candidates taken from the full-text index and from the vectors.
pub const CANDIDATES: usize = 150;
/// Up to this many vectors are all compared exactly.
pub const EXACT_VECTORS: usize = 10_000;
/// A segment with as many rows has its vectors in groups of about so many.
pub const GROUP_FROM_ROWS: usize = 16_384;
pub const GROUP_ROWS: usize = 512;
/// Of grouped rows a question looks at the nearest groups: this part of all rows, at least
/// this many.
pub const LOOK_PART: usize = 4;
pub const LOOK_ROWS: usize = 131_072;
/// Candidates that only the vectors found.
pub const DENSE_CANDIDATES: usize = 60;
/// The best hits of the words of which it is asked how many of the words they have.
pub const COVER_HITS: usize = 10;
/// Most hits of one search.
pub const MAX_HITS: usize = 100;
/// Code in one hit.
pub const MAX_HIT_CODE_BYTES: usize = 4_096;

/// Rows gathered before they are written to the table.
pub const BATCH_ROWS: usize = 8_192;
/// The same while the engine makes the vectors: what a killed build has to ask for again.
pub const EMBED_ROWS: usize = 512;
/// A batch of texts for the engine's embedder, and the most of one text.
pub const EMBED_TEXTS: usize = 32;
pub const EMBED_BYTES: usize = 64 << 10;
pub const EMBED_TEXT_BYTES: usize = 4_096;
/// Text gathered before it is written, whichever comes first.
pub const BATCH_BYTES: usize = 24 << 20;
/// Files in flight between the reader, the chunkers and the writer.
pub const PIPELINE_FILES: usize = 256;
/// Progress events at most this often.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// Private memory the build process can never pass; its target lies far below.
pub const BUILD_ADDRESS_SPACE: u64 = 4 << 30;
/// Memory of LanceDB's full-text index builder, MiB.
pub const FTS_MEMORY_MIB: u64 = 128;
/// Lance caches of the worker (index, metadata).
pub const WORKER_INDEX_CACHE: usize = 8 << 20;
pub const WORKER_METADATA_CACHE: usize = 4 << 20;
/// A worker that has answered nothing for this long lets go of its program's pages.
pub const REST_AFTER: Duration = Duration::from_secs(2);
/// Tables a worker keeps open.
pub const WORKER_OPEN_TABLES: usize = 8;
/// A fragment with fewer rows is small: compaction joins it with its neighbours.
pub const SMALL_FRAGMENT_ROWS: usize = 2_048;
/// A large build indexes the words of so many rows at once.
pub const INDEX_ROWS: usize = 262_144;
/// In a larger table the bulk of an index is not merged again.
pub const LARGE_TABLE_ROWS: u64 = 100_000;
/// A table of more rows than the first is not opened to add as many as the second to its
/// full-text index: what that holds in memory grows with the table.
pub const CLOSED_INDEX_ROWS: (u64, u64) = if cfg!(test) { (12, 1) } else { (1_000_000, 65_536) };
/// Paths named in one delete predicate.
pub const DELETE_PATHS: usize = 400;
/// Rows named in one delete predicate.
pub const DELETE_ROWS: usize = 4_000;
/// An update of at most this many rows writes segments of at most twice as many.
pub const UPDATE_ROWS: u64 = 8_192;
/// Rows of one mapped segment; its words are gathered in memory, about 100 MB.
pub const SEGMENT_ROWS: u64 = 131_072;
/// Rows read at once for a segment.
pub const COPY_BATCH_ROWS: usize = 1024;
/// The list of indexed files is saved at least this often during a build.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);
/// Small updates tolerated before the table is compacted.
pub const COMPACT_AFTER_FRAGMENTS: usize = 24;
/// Superseded versions are kept this long for readers that still hold them.
pub const KEEP_VERSIONS: Duration = Duration::from_mins(5);

/// Most the cache of chunks keeps on disk, and what one build may add to it.
pub const CACHE_BYTES: u64 = 256 << 20;
pub const CACHE_BUILD_BYTES: u64 = CACHE_BYTES / 2;
/// A segment of the cache is closed at this size; smaller ones than the second are joined
/// when there are more than the third.
pub const CACHE_SEGMENT_BYTES: u64 = 32 << 20;
pub const CACHE_SMALL_BYTES: u64 = 8 << 20;
pub const CACHE_SMALL_SEGMENTS: usize = 8;
/// Updates after which tidying is due: it costs no update any time.
pub const TIDY_AFTER_FRAGMENTS: usize = 8;
/// Folders named in one event.
pub const FOLDERS_PER_EVENT: usize = 500;
/// Longest file of labelled queries.
pub const MAX_QUERY_FILE_BYTES: u64 = 64 << 20;
/// Largest head of a shared index that is read.
pub const MAX_HEAD_BYTES: u64 = 4 << 20;
/// Objects and bytes of one shared index that a reader fetches.
pub const MAX_SHARED_OBJECTS: usize = 20_000;
pub const MAX_SHARED_BYTES: u64 = 64 << 30;
/// Objects fetched at the same time.
pub const SHARED_PARALLEL: usize = 4;
/// A request to an object store is tried again for at most this long.
pub const SHARED_RETRY: Duration = Duration::from_secs(10);
/// Published states whose objects are kept for readers that are behind.
pub const SHARED_HEADS: u64 = 5;
/// Versions of a shared table are kept this long for readers that are behind.
pub const KEEP_SHARED_VERSIONS: Duration = Duration::from_hours(7 * 24);
/// A writer renews its lease this often; one that has not for so long is taken for dead.
pub const LEASE_RENEW: Duration = Duration::from_mins(1);
pub const LEASE_STALE: Duration = Duration::from_mins(10);
