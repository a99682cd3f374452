//! Every limit and default of MCP, in one place.

use std::time::Duration;

/// Servers in one configuration.
pub const SERVERS: usize = 64;
/// Servers running at a time.
pub const RUNNING: usize = 16;
/// Length of a server's name.
pub const SERVER_NAME: usize = 32;
/// Calls of one server at a time; more wait.
pub const CALLS: usize = 8;
/// Calls of one server in a minute, when its configuration does not say.
pub const CALLS_PER_MINUTE: u32 = 120;
/// How long one call may take, when the configuration does not say; and the most it may say.
pub const CALL_TIMEOUT: Duration = Duration::from_mins(1);
pub const CALL_TIMEOUT_MAX: Duration = Duration::from_hours(1);
/// How long a server may take until it has said what it is.
pub const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a run waits for servers whose tools are not known yet.
pub const FIRST_LOOK: Duration = Duration::from_secs(20);
/// A server that nobody has called for this long is ended.
pub const IDLE: Duration = Duration::from_mins(10);
/// How often a running server is looked at.
pub const TICK: Duration = Duration::from_secs(5);
/// Pause before lists are read again, so that a server that says "changed" all the time
/// costs little.
pub const CHANGED_PAUSE: Duration = Duration::from_millis(300);
/// The longest such pause, when it never ends saying so.
pub const CHANGED_PAUSE_MAX: Duration = Duration::from_secs(20);
/// Longest pause before a server that keeps failing is started again.
pub const BACK_OFF: Duration = Duration::from_mins(1);
/// Longest message of a server.
pub const MESSAGE_BYTES: usize = 4 << 20;
/// What a server may send within [`FLOOD_WINDOW`]; one that sends more is ended.
pub const FLOOD_BYTES: u64 = 64 << 20;
pub const FLOOD_LINES: u32 = 20_000;
pub const FLOOD_WINDOW: Duration = Duration::from_secs(10);
/// Text of one result given to a model, when the configuration does not say; and at most.
pub const OUTPUT_BYTES: usize = 100 << 10;
pub const OUTPUT_BYTES_MAX: usize = 240 << 10;
/// Definitions taken of one server, and pages they may come in.
pub const TOOLS: usize = 256;
pub const RESOURCES: usize = 256;
pub const PROMPTS: usize = 128;
pub const PAGES: usize = 20;
/// Length of the name of a tool or prompt.
pub const NAME: usize = 128;
pub const URI_BYTES: usize = 1024;
/// Characters of a description.
pub const DESCRIPTION: usize = 1024;
/// Text of one tool's schema.
pub const SCHEMA_BYTES: usize = 16 << 10;
/// One file of kept definitions.
pub const CACHE_BYTES: u64 = 4 << 20;
/// The servers' part of a prompt takes at most this share of the context window.
pub const PROMPT_SHARE: usize = 8;
/// Resources that one question or task may name, and the text taken of each.
pub const ATTACHED: usize = 8;
pub const ATTACHED_BYTES: usize = 48 << 10;
/// How long a login waits for the user.
pub const LOGIN: Duration = Duration::from_mins(10);
/// How long a server of a login may take to answer, and the text that is read of it.
pub const OAUTH_ANSWER: Duration = Duration::from_secs(20);
pub const OAUTH_BODY_BYTES: usize = 64 << 10;
/// A request of the browser that comes back: how long it may take, and its head.
pub const CALLBACK_READ: Duration = Duration::from_secs(2);
pub const CALLBACK_BYTES: usize = 16 << 10;
/// Length of a token, and scopes that are asked for.
pub const TOKEN_BYTES: usize = 6 << 10;
pub const SCOPES: usize = 64;
/// A token is renewed this long before it ends.
pub const TOKEN_MARGIN: Duration = Duration::from_mins(1);
/// Tokens of one connection that are taken out of texts.
pub const TOKENS_SEEN: usize = 12;
/// Memory of a stdio server, in MiB.
pub const MEMORY_MB: u64 = 2048;
pub const PROCESSES: u32 = 128;
