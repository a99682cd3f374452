//! Every limit and default of the provider layer, in one place.

use std::time::Duration;

/// Longest line of a streamed body; a longer one ends the stream with an error.
pub const LINE_BYTES: usize = 1024 * 1024;
/// Longest server-sent event (all its `data:` lines together).
pub const EVENT_BYTES: usize = 4 * 1024 * 1024;
/// Most text (answer and reasoning together) taken from one answer.
pub const ANSWER_BYTES: usize = 8 * 1024 * 1024;
/// Most tool calls in one answer, and the longest arguments of one.
pub const CALLS: usize = 64;
pub const ARGUMENT_BYTES: usize = 1024 * 1024;
/// Most of an error body that is read, and of a provider's message that is shown.
pub const ERROR_BODY_BYTES: usize = 64 * 1024;
pub const ERROR_MESSAGE_CHARS: usize = 400;
/// Most of a body that is not a stream (completions, model lists).
pub const BODY_BYTES: usize = 1024 * 1024;
/// Most of an answer with embeddings: a batch of long vectors written as decimals.
pub const EMBEDDINGS_BYTES: usize = 8 * 1024 * 1024;
/// Most numbers of one embedding.
pub const EMBEDDING_DIMS: usize = 4_096;
/// Largest request body sent.
pub const REQUEST_BYTES: usize = 8 * 1024 * 1024;

/// TCP and TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// From the request to the response's head; a local model may first read a long prompt.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_mins(2);
pub const FIRST_BYTE_TIMEOUT_LOCAL: Duration = Duration::from_mins(10);
/// Silence between two chunks of a stream.
pub const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
pub const IDLE_TIMEOUT_LOCAL: Duration = Duration::from_mins(5);
/// After the answer's end was announced, how long to wait for the usage that may follow.
pub const AFTER_END: Duration = Duration::from_secs(3);
/// Ghost text that takes longer is of no use.
pub const COMPLETION_TIMEOUT: Duration = Duration::from_secs(10);

/// Tries of one request in all.
pub const TRIES: u32 = 4;
/// Backoff without a hint of the provider: doubling, with jitter.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(500);
pub const BACKOFF_MAX: Duration = Duration::from_secs(8);
/// A provider's own hint is honoured up to this.
pub const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);

/// Idle connections kept per host, and for how long.
pub const POOL_PER_HOST: usize = 2;
pub const POOL_IDLE: Duration = Duration::from_secs(30);
/// Deltas waiting for a slow reader; the network is held back beyond that.
pub const DELTAS: usize = 64;

/// Looking for a model server on this machine.
pub const DETECT_TIMEOUT: Duration = Duration::from_millis(400);
pub const DETECT_FOUND_FOR: Duration = Duration::from_secs(30);
pub const DETECT_NOTHING_FOR: Duration = Duration::from_secs(5);

/// Context windows assumed when neither the configuration nor the name tells.
pub const CONTEXT_LOCAL: u32 = 8_192;
pub const CONTEXT_REMOTE: u32 = 32_768;
/// Longest answer asked for unless configured.
pub const MAX_OUTPUT: u32 = 4_096;
/// Ghost text.
pub const COMPLETION_TOKENS: u32 = 96;
pub const COMPLETION_PREFIX_BYTES: usize = 6 * 1024;
pub const COMPLETION_SUFFIX_BYTES: usize = 2 * 1024;
/// Providers accept at most this many stop strings.
pub const STOPS: usize = 4;
