//! Every limit and default of the agent loop and of `ask`, in one place.

use std::time::Duration;

/// Text goes out this often; the first piece at once.
pub const TICK: Duration = Duration::from_millis(50);
/// Mistakes in a row that end a run.
pub const MISTAKES: u32 = 3;
/// The same call this many times in a row ends a run.
pub const SAME_CALL: u32 = 4;
/// An answer that was cut off is asked for again this many times.
pub const CUT_RETRIES: u32 = 2;
/// Most turns a request may ask for.
pub const TURNS: u32 = 200;
/// One tool result takes at most this share of the context window.
pub const RESULT_SHARE: u32 = 4;
/// Most tokens of a question with its passages. A local model reads a prompt at tens to
/// hundreds of tokens a second, so there a long one costs minutes.
pub const ASK_TOKENS: usize = 24_000;
pub const ASK_TOKENS_LOCAL: usize = 2_000;
/// Text around the piece of an edit and passages beside it, the passages at most, and how
/// long they are waited for.
pub const EDIT_TOKENS: usize = 8_000;
pub const EDIT_PASSAGES: usize = 6;
pub const EDIT_SEARCH: Duration = Duration::from_secs(1);
/// Longest piece of an edit, and white space before it.
pub const EDIT_PIECE_BYTES: usize = 32 * 1024;
pub const EDIT_INDENT_BYTES: usize = 256;
/// Most hits `ask` looks at.
pub const ASK_HITS: u32 = 20;
/// Text around the caret that goes into a prompt: at most this share of its room.
pub const EDITOR_SHARE: usize = 4;
/// Pictures of a conversation that are sent again with each turn: the newest.
pub const PICTURES: usize = 2;
/// Text of a run that is shown of one tool result in the transcript.
pub const SHOWN_RESULT_BYTES: usize = 4 * 1024;
/// Live output of tools waiting to be passed on.
pub const OUTPUT_EVENTS: usize = 64;
/// One journal is at most this long, and this many are kept.
pub const JOURNAL_BYTES: usize = 16 * 1024 * 1024;
pub const JOURNALS: usize = 200;
/// Text of one journal entry.
pub const JOURNAL_TEXT_BYTES: usize = 64 * 1024;
/// A log of the past is read up to this length, a line of it up to this, and for a list only
/// its first line and its end.
pub const JOURNAL_READ_BYTES: u64 = 2 * JOURNAL_BYTES as u64;
pub const JOURNAL_LINE_BYTES: u64 = 8 * 1024 * 1024;
pub const JOURNAL_TAIL_BYTES: u64 = 512 * 1024;
/// Longest name of a run.
pub const RUN_NAME_BYTES: usize = 64;
/// Earlier runs that are shown of a chain, and steps of a run.
pub const CHAIN: usize = 20;
pub const STEPS_SHOWN: usize = 200;
/// A conversation that is gone on with takes at most this share of the context, in per cent:
/// the rest is for what is still to be done.
pub const EARLIER_PERCENT: usize = 60;
/// Files that a run knows of the one before it, and those named that changed since.
pub const FILES_SEEN: usize = 2_000;
pub const CHANGED_NAMED: usize = 20;
/// Conversations of questions that are kept, exchanges of one, their texts, and a file.
pub const ASKED: usize = 50;
pub const ASKED_EXCHANGES: usize = 12;
pub const ASKED_QUESTION_BYTES: usize = 4 * 1024;
pub const ASKED_ANSWER_BYTES: usize = 16 * 1024;
pub const ASKED_BYTES: u64 = 2 * 1024 * 1024;
/// Earlier exchanges take at most this share of what a question may take.
pub const ASKED_SHARE: usize = 3;
/// Subtasks within subtasks, and subtasks of one run in all.
pub const SUBTASK_DEPTH: u32 = 3;
pub const SUBTASKS: u32 = 16;
/// A subtask gets at most this share of the tokens that its run has left.
pub const SUBTASK_SHARE: u64 = 2;
/// Reviews of a result that send the model back to work.
pub const REVIEWS: u32 = 8;
/// Items of a to-do list, and characters of one.
pub const TODO_ITEMS: usize = 50;
pub const TODO_ITEM_CHARS: usize = 200;
/// Suggested answers to a question.
pub const SUGGESTIONS: usize = 4;
