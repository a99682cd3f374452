//! Every bound of the shim, in one place. Nothing here is configurable.

use std::time::Duration;

use crate::lines;

/// Largest message that is taken from the editor; a larger one is skipped whole.
pub(super) const MESSAGE: usize = 16 << 20;
/// A `Content-Length` above this is garbage and not a message to skip.
pub(super) const SKIPPABLE: u64 = 1 << 30;
/// Longest header line.
pub(super) const HEADER_LINE: usize = 8 << 10;
/// Messages read ahead of the loop.
pub(super) const READ_AHEAD: usize = 4;
/// Bytes of answers waiting for the editor before no more requests are read.
pub(super) const UNSENT: usize = 8 << 20;
/// Waiting messages beyond which progress is dropped instead of queued.
pub(super) const UNSENT_PROGRESS: usize = 64;
/// How long no key must have been pressed before Lapce's palette gets hits.
pub(super) const PALETTE_REST: Duration = Duration::from_millis(250);
/// Requests in work at a time; more are answered with an error.
pub(super) const IN_FLIGHT: usize = 128;

/// Largest document whose text is kept.
pub(super) const DOCUMENT: usize = 1 << 20;
/// All kept texts together; the least recently used go first (Lapce never closes a document).
pub(super) const DOCUMENTS: usize = 4 << 20;
/// Documents known at a time, with or without text.
pub(super) const DOCUMENT_COUNT: usize = 512;
/// Workspace folders looked at.
pub(super) const ROOTS: usize = 8;

/// Text around the caret that goes along with a question, before and after.
pub(super) const CONTEXT_BEFORE: usize = lines::BEFORE;
pub(super) const CONTEXT_AFTER: usize = lines::AFTER;
/// Text around the caret for ghost text, before and after.
pub(super) const PREFIX: usize = 16 << 10;
pub(super) const SUFFIX: usize = 4 << 10;
/// Longest question or task, in bytes.
pub(super) const QUESTION: usize = 8 << 10;
/// Longest search query, in bytes.
pub(super) const QUERY: usize = 512;
/// Shortest query worth a search, in characters.
pub(super) const QUERY_MIN: usize = 2;
/// Lines of one comment block.
pub(super) const COMMENT_LINES: usize = 40;
/// Lines looked back for the start of a block comment.
pub(super) const BLOCK_LOOKBACK: usize = 200;

/// Hits shown at most: there are no more of the numerals ① … ㊿.
pub(super) const HITS: u32 = 50;
/// Characters of a hit's first line in the palette.
pub(super) const SNIPPET: usize = 60;

/// Asks and runs that this editor has going at a time.
pub(super) const RUNS: usize = 8;
/// Approvals of one run shown as code actions.
pub(super) const APPROVALS: usize = 4;
/// How long a run may take until it names its transcript.
pub(super) const STARTED: Duration = Duration::from_secs(20);

/// Approvals of all runs kept at a time.
pub(super) const WAITING: usize = 64;
/// Pause after a change before the engine is told of an unsaved text.
pub(super) const UNSAVED_DEBOUNCE: Duration = Duration::from_millis(400);

/// A lost engine is announced at most this often.
pub(super) const LOST_NOTICE: Duration = Duration::from_mins(1);

/// Pause after a save before a watch that has ended is begun again.
pub(super) const INDEX_AGAIN: Duration = Duration::from_secs(3);
/// An update of the index shows itself when it takes longer than this.
pub(super) const PROGRESS_AFTER: Duration = Duration::from_secs(1);
/// Pause between two progress messages.
pub(super) const PROGRESS: Duration = Duration::from_millis(200);
/// Time for the last answers to be taken when the program ends.
pub(super) const FAREWELL: Duration = Duration::from_millis(500);
/// Time an editor has to agree to a progress display.
pub(super) const PROGRESS_CREATE: Duration = Duration::from_secs(2);
