//! Every bound of this crate. Other crates read them; nothing here is configurable.

use std::time::Duration;

/// Oldest and newest wire protocol this build speaks. The hello carries both.
pub const PROTOCOL_MIN: u16 = 3;
pub const PROTOCOL_MAX: u16 = 3;

/// Bytes of the control ring (small messages), one per direction.
pub const CONTROL_RING: u32 = 256 << 10;
/// Bytes of the bulk ring (messages that do not fit a control record), one per direction.
pub const BULK_RING: u32 = 1 << 20;
/// Smallest and largest ring a peer may announce; powers of two.
pub const RING_MIN: u32 = 16 << 10;
pub const RING_MAX: u32 = 16 << 20;
/// A record takes at most this share of its ring; what is larger travels in fragments.
pub const RECORD_SHARE: u32 = 8;
/// An empty ring starts over once this much of it has been used, so that it stays in the
/// caches, and few of its pages become resident.
pub const REWIND_CONTROL: u64 = 4 << 10;
pub const REWIND_BULK: u64 = 64 << 10;
/// Payload of one fragment: the reader copies one out while the writer copies the next in.
pub const FRAGMENT: usize = 16 << 10;
/// A message of at least this many bytes goes in larger fragments through all of the ring.
pub const LARGE: usize = 256 << 10;
pub const FRAGMENT_LARGE: usize = 32 << 10;
/// So many bytes of it are copied by ordinary stores; the rest too if that took less than
/// this, else past the cache.
pub const PROBE: usize = 2 << 10;
pub const PROBE_TIME: Duration = Duration::from_nanos(500);
/// Up to this many bytes are copied into a ring by 16-byte stores, and from that many on
/// past the cache (`ring::copy`).
pub const SHORT: usize = 256;
pub const PAST_CACHE: usize = 4 << 10;
/// Largest encoded message, fragments joined.
pub const MESSAGE_MAX: usize = 64 << 20;

/// Connections one server accepts at a time.
pub const CONNECTIONS_MAX: usize = 64;
/// Calls one connection may have open.
pub const CALLS_MAX: usize = 256;
/// Bytes of requests one connection may have in work on the server.
pub const REQUEST_BYTES_MAX: usize = 96 << 20;
/// Encoded bytes waiting for room in a full ring before a sender has to wait.
pub const QUEUE_BYTES: usize = 1 << 20;
/// Encoded bytes that a client may have queued; more is an error, not a wait.
pub const CLIENT_QUEUE_MAX: usize = 96 << 20;
/// A peer for which more than this waits does not read at all: the connection ends.
pub const QUEUE_HARD: usize = 160 << 20;
/// Events a stream may have sent that its reader has not taken yet.
pub const STREAM_EVENTS: u32 = 64;
/// Bytes of such events.
pub const STREAM_BYTES: u64 = 256 << 10;
/// The reader returns credit each time it has taken this many events …
pub const CREDIT_EVENTS: u32 = 16;
/// … or this many bytes.
pub const CREDIT_BYTES: u64 = 64 << 10;
/// A stream whose reader is this many events behind has its tokens merged …
pub const BEHIND_EVENTS: u32 = 32;
/// … until this many are together …
pub const MERGE_EVENTS: u32 = 20;
/// … or this long has passed.
pub const MERGE_DELAY: Duration = Duration::from_millis(50);

/// Time a peer has for its hello.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(15);
/// Largest hello or refusal on the socket.
pub const HELLO_MAX: usize = 1024;
/// Largest name or version in a hello.
pub const IDENT_MAX: usize = 64;
/// Largest farewell text on the socket.
pub const BYE_MAX: usize = 512;
/// A cancelled handler has this long to end before it is dropped.
pub const CANCEL_GRACE: Duration = Duration::from_secs(2);

/// How long a reader spins before it parks: about what waking a process costs.
pub const SPIN_MAX: Duration = Duration::from_micros(50);
/// After waits longer than that, at most this many waits go by without one.
pub const SPIN_SKIP_MAX: u32 = 64;
/// A CPU is offered to a peer that last ran on it so many times in one wait.
pub const YIELDS_MAX: u32 = 4;
/// A CPU that was offered to the peer and comes back later than this was taken by somebody
/// else …
pub const YIELD_LOST: Duration = Duration::from_micros(200);
/// … and is not offered again for so many times as long, at most for that long.
pub const YIELD_REST: u32 = 100;
pub const YIELD_REST_MAX: Duration = Duration::from_secs(2);
/// A reader in a stream leaves the writer alone for so many turns of a spin loop, at least
/// and at most, …
pub const PACE_MIN: u32 = 2;
pub const PACE_MAX: u32 = 64;
/// … until so many messages come at a time.
pub const PACE_BATCH: u32 = 16;
/// Messages handled before a reader lets other tasks run.
pub const PUMP_BATCH: usize = 64;
/// Bytes of message buffers a connection keeps for reuse while it is busy, and idle.
pub const POOL_BYTES: usize = 4 << 20;
pub const POOL_IDLE_BYTES: usize = 64 << 10;
/// A connection is idle after this long without a message.
pub const IDLE_AFTER: Duration = Duration::from_secs(1);
/// How often a waiting caller asks a silent peer for a sign of life, and how many
/// unanswered questions make it hung.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
pub const HEARTBEATS_MISSED: u32 = 6;

/// How long a client tries to get an engine. Milliseconds are enough, but on a machine that
/// compiles on all cores it takes seconds; one that fails says so at once.
pub const LAUNCH_TIMEOUT: Duration = Duration::from_secs(30);
/// Engines one client starts before it gives up.
pub const LAUNCH_STARTS: u32 = 3;
/// Pauses between its tries, doubled each time.
pub const LAUNCH_PAUSE: Duration = Duration::from_millis(2);
pub const LAUNCH_PAUSE_MAX: Duration = Duration::from_millis(100);

/// Pauses between attempts of a client that has lost its engine, doubled each time; half of
/// each is random.
pub const RECONNECT_MIN: Duration = Duration::from_millis(500);
pub const RECONNECT_MAX: Duration = Duration::from_secs(15);
