//! Every limit and default of the engine, in one place.

use std::time::Duration;

/// The engine ends itself after this long without a connection or a run.
pub const IDLE_EXIT: Duration = Duration::from_mins(10);
/// An index worker ends after this long without a search.
pub const WORKER_IDLE: Duration = Duration::from_mins(1);
/// How long children get to end by themselves before they are killed.
pub const CHILD_GRACE: Duration = Duration::from_secs(2);
/// How long an index process may take to say hello.
pub const INDEX_HELLO: Duration = Duration::from_secs(20);
/// A search that takes longer has failed.
pub const SEARCH_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections served at a time.
pub const CONNECTIONS: usize = 64;
/// Pause after a connection could not be accepted.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long an ending engine waits for its clients to read their last replies.
pub const DRAIN: Duration = Duration::from_millis(300);
/// Threads for file work that would block the runtime.
pub const BLOCKING_THREADS: usize = 4;
/// Index builds at a time; more wait.
pub const BUILDS: usize = 2;
/// Runs (asks and agents) at a time.
pub const RUNS: usize = 32;
/// Approvals waiting for an answer at a time.
pub const APPROVALS: usize = 64;
/// An approval nobody answers is denied after this long.
pub const APPROVAL_TIMEOUT: Duration = Duration::from_mins(5);
/// Longest `meta.json` of an index that is read, and most indexes that are listed.
pub const INDEX_META_BYTES: u64 = 64 * 1024;
pub const INDEXES_LISTED: usize = 1000;
/// Events kept for a slow listener of an index build.
pub const BUILD_EVENTS: usize = 64;
/// One log file is at most this long, and this many are kept.
pub const LOG_FILE_BYTES: u64 = 2 * 1024 * 1024;
pub const LOG_FILES: usize = 4;
/// Longest search, question, task and parameter text that a client may send.
pub const QUERY_BYTES: usize = 4 * 1024;
pub const PROMPT_BYTES: usize = 256 * 1024;
pub const TOOL_JSON_BYTES: usize = 1024 * 1024;
/// What is kept of a child's standard error.
pub const CHILD_STDERR_BYTES: usize = 4 * 1024;
/// Hits of one search.
pub const HITS: u32 = 100;
/// Hits that a model is shown.
pub const TOOL_HITS: u32 = 10;
/// Chunks of a command's live output that may wait for the client.
pub const TOOL_OUTPUT_EVENTS: usize = 64;
/// Calls of one tool in a minute, of all runs and clients together: a bound on what has run
/// wild, far above what work needs.
pub const TOOL_CALLS_PER_MINUTE: u32 = 6_000;
/// Tools that are counted apart.
pub const TOOLS_COUNTED: usize = 64;
/// Calls listed as undoable.
pub const UNDOABLE_LISTED: usize = 500;
/// Slash commands and skills named in a prompt.
pub const TEXTS_OFFERED: usize = 100;
/// Largest image taken from a provider, and how long one may take to be made.
pub const IMAGE_BYTES: usize = 16 * 1024 * 1024;
pub const IMAGE_TIMEOUT: Duration = Duration::from_mins(5);

/// Workspaces watched at a time.
pub const WATCHED_ROOTS: usize = 16;
/// Folders of one workspace that are watched; with more it is looked through now and then.
pub const WATCHED_FOLDERS: usize = 20_000;
/// Folders added at a time, so that other calls are not held up.
pub const WATCH_ADD: usize = 200;
/// Changes known one by one; with more everything is looked at.
pub const WATCH_PATHS: usize = 4_000;
/// Files remembered as left out of an index.
pub const WATCH_IGNORED: usize = 1_000;
/// Events of the kernel taken at a time.
pub const WATCH_EVENTS: usize = 1_000;
/// An update waits for this much quiet, and at most this long.
pub const WATCH_QUIET: Duration = Duration::from_millis(120);
pub const WATCH_LONGEST: Duration = Duration::from_secs(2);
/// After an update a rest of this many times its length, at most this long.
pub const WATCH_REST: u32 = 3;
pub const WATCH_REST_MOST: Duration = Duration::from_secs(30);
/// Git's lock is waited for so long; a lock that stays is a dead command's.
pub const WATCH_GIT: Duration = Duration::from_secs(30);
/// How often it is looked for.
pub const WATCH_GIT_POLL: Duration = Duration::from_millis(100);
/// A failed update is tried again after this long, doubled each time up to the second.
pub const WATCH_RETRY: Duration = Duration::from_secs(1);
pub const WATCH_RETRY_MOST: Duration = Duration::from_mins(5);
/// A workspace that is not watched is looked through this often, and not more often than
/// this many times as long as a look takes.
pub const SCAN_EVERY: Duration = Duration::from_secs(30);
pub const SCAN_REST: u32 = 20;
/// Events kept for a slow listener of a watch.
pub const WATCH_LISTENER: usize = 64;
/// An index is tidied after this long without an update.
pub const TIDY_QUIET: Duration = Duration::from_secs(20);
/// What all indexes and the cache of chunks may take on disk, MB.
pub const INDEX_DISK_MB: u64 = 20_000;
/// Indexes offered for removal when it is reached.
pub const INDEXES_OFFERED: usize = 3;
/// Files of the cache of chunks that are looked at for its size.
pub const CACHE_FILES: usize = 1_000;
/// Largest batch of texts that an index build may have embedded.
pub const EMBED_TEXTS: usize = 64;
pub const EMBED_BYTES: usize = 256 * 1024;
/// A question waits this long for its vector, then is asked by words alone.
pub const EMBED_QUESTION: Duration = Duration::from_secs(5);
/// A local model: how long it may take to load and to answer a batch, how long it stays
/// without being asked, its memory, one line of its answers.
pub const ONNX_LOAD: Duration = Duration::from_mins(1);
pub const ONNX_BATCH: Duration = Duration::from_mins(2);
pub const ONNX_IDLE: Duration = Duration::from_mins(1);
pub const ONNX_MEMORY_BYTES: u64 = 3 << 30;
pub const ONNX_PROCESSES: u32 = 64;
pub const ONNX_LINE_BYTES: u64 = 4 << 20;

/// Changes of the open approvals kept for a slow watcher; one that falls behind gets the list.
pub const APPROVAL_CHANGES: usize = 256;
/// Unsaved texts of editors: of one connection, one text, all of a connection.
pub const BUFFERS: usize = 128;
pub const BUFFER_BYTES: usize = 2 * 1024 * 1024;
pub const BUFFERS_BYTES: usize = 8 * 1024 * 1024;

/// Largest `config.toml` that is read.
pub const CONFIG_BYTES: u64 = 256 * 1024;

/// Most modes of the user's own, and the longest prompt of one.
pub const MODES: usize = 40;
pub const MODE_PROMPT_BYTES: usize = 16 * 1024;
