//! What passes between the host and one `lapce-ai-tool` process.
//!
//! The host writes one [`Request`] to the helper's standard input: four bytes of length
//! (little endian) and JSON. It keeps the pipe open; closing it cancels the call. The
//! helper writes frames to its standard output: one byte of kind, four of length, the
//! payload. The last frame is a [`Report`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::closed::Closed;
use crate::envelope::LimitHit;
use crate::limits::Limits;
use crate::sandbox::network::Network;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    pub tool: String,
    pub params: Map<String, Value>,
    pub root: PathBuf,
    pub limits: Limits,
    pub sandbox: SandboxSpec,
    /// The program that knows the grammars, for `list_code_definition_names`.
    #[serde(default)]
    pub outliner: Option<PathBuf>,
    /// Bytes that the engine has for the call, in hex: what `generate_image` writes.
    #[serde(default)]
    pub payload: Option<String>,
    /// Images that are read go to the host as well.
    #[serde(default)]
    pub pictures: bool,
    /// Unsaved text of the user's editor, by workspace-relative path.
    #[serde(default)]
    pub buffers: BTreeMap<String, String>,
    /// What the run knows of files it has read: writing one that differs is refused.
    #[serde(default)]
    pub seen: BTreeMap<String, Seen>,
}

impl Request {
    /// One that knows nothing of the run's files.
    pub fn new(
        tool: &str,
        params: Map<String, Value>,
        root: &Path,
        limits: Limits,
        sandbox: SandboxSpec,
    ) -> Self {
        Self {
            tool: tool.to_owned(),
            params,
            root: root.to_owned(),
            limits,
            sandbox,
            outliner: None,
            payload: None,
            pictures: false,
            buffers: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }
}

/// A file as it was when the run last read or wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub mtime_ns: i128,
    pub size: u64,
    /// BLAKE3 of the content, hex.
    pub hash: String,
}

/// What the helper builds around the call.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Readable and executable besides the workspace: toolchains.
    pub read: Vec<PathBuf>,
    /// Workspace-relative paths that no call may write.
    pub protected: Vec<String>,
    /// The whole environment of a command.
    pub env: Vec<(String, String)>,
    /// Writable besides the workspace: the undo journal, for the host's own orders.
    #[serde(default)]
    pub write: Vec<PathBuf>,
    /// The user's home folder: replaced by an empty one.
    pub home: Option<PathBuf>,
    /// A private folder for this call, for when `/tmp` cannot be replaced.
    pub scratch: Option<PathBuf>,
    /// Secrets that git ignores and commands may see all the same, in the form of a
    /// `.gitignore`; from the user's own settings.
    #[serde(default)]
    pub show: Vec<String>,
    /// Commands see nothing of what git ignores, but for `show`.
    #[serde(default)]
    pub hide_ignored: bool,
    /// The program of `browser_action`.
    #[serde(default)]
    pub browser: Option<PathBuf>,
    /// What the call may reach. Anything needs the helper to be started with `--net`.
    #[serde(default)]
    pub network: Network,
    /// Paths that the user's rules deny.
    #[serde(default)]
    pub closed: Closed,
    /// Secrets that git ignored until a command changed its rules.
    #[serde(default)]
    pub sealed: Vec<String>,
    /// The host's network, for an MCP server whose configuration asks for it.
    #[serde(default)]
    pub host_network: bool,
    /// Layers switched off in the user's own settings, by name.
    #[serde(default)]
    pub off: Vec<String>,
}

/// Kinds of frames.
pub const FRAME_OUTPUT: u8 = b'O';
/// A file about to be changed: a line of JSON ([`BeforeHead`]), then its content.
/// The host answers with [`KEPT`] or [`NOT_KEPT`] on the helper's standard input.
pub const FRAME_BEFORE: u8 = b'B';
/// What git's rules hide from a command that is about to begin, a JSON list; answered like
/// [`FRAME_BEFORE`].
pub const FRAME_HIDDEN: u8 = b'H';
pub const FRAME_REPORT: u8 = b'R';
/// A picture of the browser's page, or an image that was read; before the report.
pub const FRAME_PICTURE: u8 = b'P';

pub const KEPT: u8 = b'K';
pub const NOT_KEPT: u8 = b'N';

/// Head of a [`FRAME_BEFORE`]. The mode tells a symlink, whose content is where it leads, and a
/// folder, which has none, from a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeforeHead {
    /// Workspace-relative.
    pub path: String,
    pub existed: bool,
    pub mode: u32,
}

/// How the call ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    pub ok: bool,
    /// What the envelope holds; for commands the host adds the output it gathered.
    pub body: String,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub limit: Option<LimitHit>,
    /// Active layers, `landlock-v7`, `seccomp`, …
    pub layers: Vec<String>,
    /// Layers that are not active, each with the reason.
    pub absent: Vec<(String, String)>,
    /// Files read or written, as they are now.
    pub seen: BTreeMap<String, Seen>,
    /// Files deleted.
    #[serde(default)]
    pub gone: Vec<String>,
    /// What git's rules hid from an MCP server that is about to begin.
    #[serde(default)]
    pub hidden: Vec<String>,
    /// What they hid from a command and git ignores no more now that it has ended.
    #[serde(default)]
    pub opened: Vec<String>,
    /// What else the reader should know, a sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What a command changed, from the snapshot order.
    #[serde(default)]
    pub changed: Vec<Changed>,
    /// What an undo left that is neither a file nor gone.
    #[serde(default)]
    pub left: BTreeMap<String, State>,
}

/// A file that a command changed, created or deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    pub path: String,
    pub existed: bool,
    pub mode: u32,
    pub size: u64,
    /// Hash of the content before, empty when there was no file.
    pub before: String,
    pub after: State,
}

/// What is at a path. In the journal a text, or null for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<String>", into = "Option<String>")]
pub enum State {
    Gone,
    /// A regular file, by the hash of its content.
    File(String),
    /// A symlink, by the hash of where it leads.
    Link(String),
    Folder,
    /// Something whose content was not read.
    Unknown,
}

const LINK: &str = "link:";
const FOLDER: &str = "folder";
const UNKNOWN: &str = "unknown";

impl From<Option<String>> for State {
    fn from(text: Option<String>) -> Self {
        let Some(text) = text else { return Self::Gone };
        match text.strip_prefix(LINK) {
            Some(hash) => Self::Link(hash.to_owned()),
            None if text == FOLDER => Self::Folder,
            None if text == UNKNOWN => Self::Unknown,
            None => Self::File(text),
        }
    }
}

impl From<State> for Option<String> {
    fn from(state: State) -> Self {
        match state {
            State::Gone => None,
            State::File(hash) => Some(hash),
            State::Link(hash) => Some(format!("{LINK}{hash}")),
            State::Folder => Some(FOLDER.to_owned()),
            State::Unknown => Some(UNKNOWN.to_owned()),
        }
    }
}

/// Exit codes by which the helper tells of an end it could not report in a frame.
pub mod exit {
    /// The wall limit.
    pub const WALL: i32 = 91;
    /// The host closed the pipe.
    pub const CANCELLED: i32 = 92;
    /// The sandboxed process was killed by a signal.
    pub const KILLED: i32 = 93;
    /// An MCP server reached a limit; its standard error names it.
    pub const LIMIT: i32 = 95;
    /// The request could not be read.
    pub const BAD_REQUEST: i32 = 94;
}
