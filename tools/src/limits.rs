//! Every limit of the tool system, in one place.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What one call may use. Reaching one ends the call with a result that names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub wall_ms: u64,
    /// CPU seconds of each process.
    pub cpu_s: u64,
    /// Data memory of each process, and resident memory of all of them together.
    pub memory_bytes: u64,
    pub processes: u32,
    /// Output kept; a command that writes more is stopped.
    pub output_bytes: u64,
    /// Size of any one file written.
    pub file_bytes: u64,
    /// How far the free space of the workspace's disk may fall during the call.
    pub disk_bytes: u64,
    pub open_files: u32,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

impl Limits {
    /// Tools that read.
    pub const READ: Self = Self {
        wall_ms: 20_000,
        cpu_s: 20,
        memory_bytes: 256 * MIB,
        processes: 32,
        output_bytes: MIB,
        file_bytes: 0,
        disk_bytes: 64 * MIB,
        open_files: 128,
    };
    /// Tools that change files.
    pub const WRITE: Self = Self { file_bytes: 16 * MIB, disk_bytes: 64 * MIB, ..Self::READ };
    /// Shell commands.
    pub const COMMAND: Self = Self {
        wall_ms: 120_000,
        cpu_s: 600,
        memory_bytes: 4096 * MIB,
        processes: 512,
        output_bytes: 16 * MIB,
        file_bytes: 2048 * MIB,
        disk_bytes: 8192 * MIB,
        open_files: 1024,
    };
    /// A call of an MCP server, unless the server's configuration says otherwise. Memory and
    /// processes are the server's.
    pub const MCP: Self = Self { wall_ms: 60_000, output_bytes: MIB, ..Self::SERVER };
    /// An MCP server, which lives for long: no wall time, and processor time for days.
    pub const SERVER: Self = Self {
        wall_ms: 0,
        cpu_s: 86_400,
        memory_bytes: 2048 * MIB,
        processes: 128,
        output_bytes: MIB,
        file_bytes: 512 * MIB,
        disk_bytes: 2048 * MIB,
        open_files: 1024,
    };
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} s, {} memory, {} processes, {} output, {} per file",
            self.wall_ms.div_ceil(1000),
            size(self.memory_bytes),
            self.processes,
            size(self.output_bytes),
            size(self.file_bytes),
        )
    }
}

/// A size in the words a person uses: `512 MB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        b if b >= 1024 * MIB && b % (1024 * MIB) == 0 => format!("{} GB", b / (1024 * MIB)),
        b if b >= MIB => format!("{} MB", b / MIB),
        b if b >= KIB => format!("{} KB", b / KIB),
        b => format!("{b} B"),
    }
}

/// Longest tool call in a model's text.
pub const MAX_CALL_BYTES: usize = 4 << 20;
/// Longest request the helper accepts.
pub const MAX_REQUEST_BYTES: usize = 96 << 20;
/// Longest single frame from the helper.
pub const MAX_FRAME_BYTES: usize = 20 << 20;
/// Read ahead from a helper, one for each call under way; larger frames pass it by.
pub const FRAME_BUFFER: usize = 4 << 10;
/// Longest report before an MCP server's own bytes.
pub const MAX_REPORT_BYTES: usize = 2 << 20;
/// How long the fence around an MCP server may take to stand.
pub const SERVER_START_MS: u64 = 20_000;
/// How long an MCP server gets to end by itself once its input is closed.
pub const SERVER_GRACE_MS: u64 = 1_500;
/// How often a server's memory, processes and disk use are looked at.
pub const SERVER_WATCH_INTERVAL_MS: u64 = 1_000;
/// Entries of a workspace's top folder that a server may be let write.
pub const SERVER_MAX_ENTRIES: usize = 1_000;
/// What is kept of a server's standard error.
pub const SERVER_STDERR_BYTES: usize = 4 << 10;
/// Longest envelope given to a model.
pub const MAX_ENVELOPE_BYTES: usize = 256 << 10;

/// Files in one `read_file` call.
pub const READ_MAX_FILES: usize = 32;
/// Lines of one file shown without a range.
pub const READ_MAX_LINES: usize = 2_000;
/// Bytes of one line shown; the rest is cut with a mark.
pub const READ_MAX_LINE_BYTES: usize = 2_000;
/// Bytes of one file shown.
pub const READ_MAX_BYTES: usize = 200 << 10;
/// Bytes looked at to tell text from binary.
pub const SNIFF_BYTES: usize = 8 << 10;

/// Hits of one `search_files` call.
pub const SEARCH_MAX_HITS: usize = 300;
/// Context lines before and after a hit.
pub const SEARCH_CONTEXT: usize = 1;
/// Bytes of one line in search results.
pub const SEARCH_MAX_LINE_BYTES: usize = 500;
/// Bytes of search results.
pub const SEARCH_MAX_BYTES: usize = 128 << 10;
/// Longest regular expression.
pub const REGEX_MAX_BYTES: usize = 4 << 10;
/// Memory a compiled regular expression may take.
pub const REGEX_SIZE_LIMIT: usize = 16 << 20;

/// Entries of one `list_files` call.
pub const LIST_MAX_ENTRIES: usize = 1_000;

/// Files, bytes of one file, and bytes of all that `list_code_definition_names` takes …
pub const OUTLINE_MAX_FILES: usize = 200;
pub const OUTLINE_FILE_BYTES: usize = 1 << 20;
pub const OUTLINE_MAX_TOTAL: usize = 16 << 20;
/// … and bytes of the list.
pub const OUTLINE_SHOWN_BYTES: usize = 512 << 10;

/// Bytes shown of what the user changed in a call.
pub const USER_EDITS_SHOWN: usize = 16 << 10;
/// Longest text that is looked at for problems after an edit.
pub const PROBLEMS_MAX_BYTES: usize = 1 << 20;
/// Largest file that an edit loads.
pub const EDIT_MAX_BYTES: u64 = 16 << 20;
/// Output of a command shown to the model, head and tail together.
pub const COMMAND_SHOWN_BYTES: usize = 32 << 10;
/// Longest wait a command may ask for.
pub const COMMAND_MAX_TIMEOUT_S: u64 = 3_600;
/// Calls running at once in one engine; more wait.
pub const MAX_LIVE_CALLS: usize = 64;
/// The host kills a helper that is this late in keeping its own wall limit.
pub const KILL_GRACE_MS: u64 = 2_000;
/// How often a running command's memory and disk use are looked at.
pub const WATCH_INTERVAL_MS: u64 = 100;
/// Private `/tmp` of a command.
pub const TMP_BYTES: u64 = 1 << 30;
/// Entries of a workspace checked against `.aiignore` before a command.
pub const HIDDEN_MAX_ENTRIES: usize = 1_000_000;
/// Contents kept for undo, per workspace.
pub const JOURNAL_MAX_BYTES: u64 = 512 << 20;
/// Changes kept for undo, per workspace.
pub const JOURNAL_MAX_CHANGES: usize = 20_000;
/// Outputs kept for `read_command_output`.
pub const ARTEFACTS_MAX: usize = 200;
/// Bytes of them together.
pub const ARTEFACTS_MAX_BYTES: u64 = 512 << 20;
/// Lines of a kept output shown when none are named.
pub const OUTPUT_DEFAULT_LINES: usize = 500;
/// Files, and folders, looked at before and after a command, for undo.
pub const SNAPSHOT_MAX_FILES: usize = 50_000;
/// Folders that changed since the last look and are listed anew, next to an eighth of all; with
/// more of them everything is walked.
pub const SNAPSHOT_LISTED_ANEW: usize = 16;
/// What changed within this time before a look is read again at the next one: the clocks of file
/// systems tick as slowly as every two seconds.
pub const SNAPSHOT_SETTLED_MS: i64 = 2_000;
/// What such a look found, on disk.
pub const SNAPSHOT_INDEX_BYTES: u64 = 64 << 20;
/// Larger files are not covered by the undo of commands.
pub const SNAPSHOT_MAX_FILE: u64 = 1 << 20;
/// Contents kept for the undo of commands, per workspace.
pub const SNAPSHOT_MAX_BYTES: u64 = 256 << 20;
/// Time for one look at the workspace's files.
pub const SNAPSHOT_WALL_MS: u64 = 20_000;
/// A slash command or skill is at most this long, and this many are listed of one folder.
pub const NOTE_BYTES: usize = 64 << 10;
pub const NOTES_LISTED: usize = 200;
/// Answers of the user that are remembered.
pub const REMEMBERED_RULES: usize = 300;
/// Images of one `read_file` call that a model is shown, and bytes of one.
pub const READ_PICTURES: usize = 4;
pub const PICTURE_BYTES: usize = 3 << 19;
/// Largest image of the workspace that is sent to a provider.
pub const SENT_IMAGE_BYTES: u64 = 4 << 20;
/// Largest image that is written.
pub const IMAGE_BYTES: usize = 16 << 20;
/// Entries of one network grant.
pub const NETWORK_MAX_ENTRIES: usize = 64;
/// Connections through the proxy at once, per call; more wait.
pub const PROXY_MAX_CONNECTIONS: usize = 64;
/// Head of a request to the proxy.
pub const PROXY_HEAD_BYTES: usize = 16 << 10;
/// How long the proxy waits for a request's head.
pub const PROXY_HEAD_MS: u64 = 30_000;
/// How long the proxy tries to resolve a name, and to connect to one address.
pub const PROXY_CONNECT_MS: u64 = 10_000;
/// How long a connection into a command's own loopback may take to be made.
pub const INLET_CONNECT_MS: u64 = 200;
/// Refused hosts named in a call's result.
pub const PROXY_MAX_REFUSED: usize = 8;
/// Background commands of one run at once.
pub const BACKGROUND_MAX: usize = 8;
/// Background commands of one run, ended ones included, whose output is kept at hand.
pub const BACKGROUND_KEPT: usize = 32;
/// How long a background command is watched before its call returns: what fails at once
/// is told at once.
pub const BACKGROUND_LOOK_MS: u64 = 1_000;
/// Longest wait for the end of a background command in one call.
pub const BACKGROUND_MAX_WAIT_S: u64 = 600;
/// Lines and columns of a command's terminal.
pub const PTY_SIZE: (u16, u16) = (40, 120);
/// One action of the browser, its page's load included; the host waits for it a little longer.
pub const BROWSER_ACTION_MS: u64 = 30_000;
pub const BROWSER_CALL_MS: u64 = 60_000;
/// Life of one browser.
pub const BROWSER_SESSION_MS: u64 = 3_600_000;
/// How long a page is waited for to be quiet, and what quiet is.
pub const BROWSER_SETTLE_MS: u64 = 8_000;
pub const BROWSER_QUIET_MS: u64 = 400;
/// Lines of a page's console shown after an action.
pub const BROWSER_CONSOLE_LINES: usize = 50;
/// Text typed by one action.
pub const BROWSER_TYPE_BYTES: usize = 64 << 10;
/// Width and height of the window, and the most of each.
pub const BROWSER_VIEWPORT: (u32, u32) = (900, 600);
pub const BROWSER_VIEWPORT_MAX: u32 = 3_000;
/// Longest message of the browser, and events held while an answer is waited for.
pub const BROWSER_MESSAGE_BYTES: usize = 32 << 20;
pub const BROWSER_EVENTS: usize = 10_000;
/// Paths hidden from a command, each by a mount; a workspace with more runs no commands.
pub const HIDDEN_MAX_PATHS: usize = 256;
/// Longest list of what stays hidden although git ignores it no more.
pub const SEALED_FILE_BYTES: u64 = 2 << 20;
/// Rules that deny paths and are held from above; with more, every path is denied.
pub const CLOSED_MAX_RULES: usize = 256;
/// Paths that rules close to a command, each by a mount; with more, commands do not run.
pub const CLOSED_MAX_PATHS: usize = 256;
/// Paths that a command made where a rule denies writing: so many are moved aside.
pub const CLOSED_MAX_ASIDE: usize = 256;
/// Share of all processors that a command's group may use.
pub const CGROUP_CPU_PERCENT: usize = 90;
/// How often an emptied group is tried to be removed, a millisecond apart.
pub const CGROUP_REMOVE_TRIES: usize = 50;
/// Of those, how many a command's result names.
pub const HIDDEN_NAMED: usize = 5;
