//! What clients say to the engine, and what it answers.
//!
//! | request | events | reply |
//! |---|---|---|
//! | `Ping` | – | `Pong` |
//! | `Status` | – | `Status` |
//! | `Stop` | – | `Done` |
//! | `IndexBuild` | `Progress`, `Notice` | `IndexReport` |
//! | `Watch` | `Progress`, `Notice`, `Indexed` | – (until it is dropped) |
//! | `Search` | – | `Search` |
//! | `Ask` | `Started`, `Citations`, `Text`, `Notice` | `Ask` |
//! | `Run` | `Started`, `Text`, `ToolStarted`, `ToolOutput`, `ToolFinished`, `Approval`, `Answered`, `Notice` | `Run` |
//! | `Answer`, `CancelRun` | – | `Done` |
//! | `Tool` | `ToolOutput`, `Approval`, `Answered`, `Notice` | `Tool` |
//! | `Complete` | – | `Complete` |
//! | `Edit` | `Started`, `Text`, `Notice` | `Edit` |
//! | `Undo` | – | `Undo` |
//! | `Undoable` | – | `Undoable` |
//! | `Mcp` | – | `Mcp` |
//! | `Approvals` | – | `Approvals` |
//! | `Follow` | `Approval`, `Answered` | – (until it is dropped) |
//! | `Buffer` | – | `Done` |
//! | `Runs`, `PastRun` | – | `Runs`, `PastRun` |

use rkyv::{Archive, Deserialize, Serialize};

use super::Memory;
pub use super::index::{BuildReport, Hit, Progress};

wire! {
    /// One call of a client.
    pub enum Request {
        Ping,
        Status,
        /// End the engine and everything it started.
        Stop,
        IndexBuild(IndexBuild),
        Search(Search),
        Ask(Ask),
        Run(Run),
        Answer(Answer),
        CancelRun { run_id: String },
        Tool(ToolCall),
        Complete(Complete),
        Edit(Edit),
        Undo(Undo),
        /// What `Undo` could take back in `root`, newest first.
        Undoable { root: String },
        Watch(Watch),
        Mcp(Mcp),
        /// What waits for an answer of the user; in every workspace when `root` is empty.
        Approvals { root: String },
        /// Tell this client of everything that comes to wait for an answer in `root`, begun
        /// with what waits already, until the call is cancelled.
        Follow { root: String },
        /// A file's text in an editor while it is not saved, or `None` once it is. Kept as long
        /// as the connection has a `Follow` open.
        Buffer { path: String, text: Option<String> },
        /// The agent runs of `root` that are on record, newest first; of every workspace when
        /// it is empty.
        Runs { root: String },
        /// One of them, by its name or a beginning or end of that.
        PastRun { run: String },
    }
}

wire! {
    /// Keep the index of `root` up to date for as long as this call lasts.
    pub struct Watch {
        /// Absolute path of the workspace.
        pub root: String,
    }
}

wire! {
    /// Put files back as they were before tools changed them.
    pub struct Undo {
        pub root: String,
        pub what: UndoWhat,
    }
}

wire! {
    pub enum UndoWhat {
        /// The last run, or single call, that changed something.
        Last,
        Run(String),
        Call(String),
    }
}

wire! {
    /// Bring the index of `root` up to date.
    pub struct IndexBuild {
        /// Absolute path of the workspace.
        pub root: String,
        /// Start from nothing instead of updating.
        pub force: bool,
    }
}

wire! {
    pub struct Search {
        pub root: String,
        pub query: String,
        /// At most this many hits (1..=100).
        pub limit: u32,
        /// Say in each hit why it ranks where it does.
        pub explain: bool,
    }
}

wire! {
    /// Where the user's caret is, when a question comes from an editor.
    pub struct EditorContext {
        /// Absolute path of the file.
        pub path: String,
        /// Zero-based line.
        pub line: u32,
        /// The file's text as the editor has it, saved or not; may be cut around `line`.
        pub text: String,
        /// Line number of the first line of `text`, zero-based.
        pub text_start_line: u32,
    }
}

wire! {
    /// Retrieve, build a prompt, stream the answer.
    #[derive(Default)]
    pub struct Ask {
        pub root: String,
        pub question: String,
        pub editor: Option<EditorContext>,
        /// `provider/model`, or empty for the configured default.
        pub model: String,
        /// Also write the answer to a transcript file in the workspace.
        pub transcript: bool,
        /// Resources of MCP servers that the user named, as `McpOrder::Expand` gave them.
        pub attached: Vec<Attached>,
        /// Ask within an earlier conversation of this workspace: its name, or nothing for the
        /// newest.
        pub continues: Option<String>,
    }
}

wire! {
    /// A text that the user put beside a question or a task: data, whatever it says.
    #[derive(Default)]
    pub struct Attached {
        pub name: String,
        pub text: String,
    }
}

wire! {
    /// Run the agent on a task.
    #[derive(Default)]
    pub struct Run {
        pub root: String,
        pub task: String,
        pub editor: Option<EditorContext>,
        pub model: String,
        /// At most this many model turns; 0 for the default.
        pub max_turns: u32,
        /// Slug of the mode to begin in, or empty.
        pub mode: String,
        /// Put the result to the user before the run ends; what they say goes back to the model.
        pub review: bool,
        /// As in `Ask`.
        pub attached: Vec<Attached>,
        /// Go on with the conversation of an earlier run of this workspace: its name or a part
        /// of it, or nothing for the newest. Empty `model` and `mode` are that run's then.
        pub continues: Option<String>,
    }
}

wire! {
    pub enum Decision {
        /// This once. The answer to a question, too.
        Allow,
        AllowForRun,
        /// Remembered in the user's data, for this workspace or for all.
        AllowInWorkspace,
        AllowAlways,
        Deny,
        /// This once, with the text in `feedback` in place of what [`Approval::editable`] holds.
        AllowChanged,
    }
}

wire! {
    /// The user's answer to an [`Approval`]; the first answer wins.
    pub struct Answer {
        pub approval_id: String,
        pub decision: Decision,
        /// What the user said when denying, for the model to read; the answer to a question; the
        /// text of [`Decision::AllowChanged`].
        pub feedback: String,
    }
}

wire! {
    pub struct ToolCall {
        pub root: String,
        pub name: String,
        /// Parameters, a JSON object.
        pub json: String,
        /// Skip the approval question: the caller is the user who typed the command.
        pub approved: bool,
    }
}

wire! {
    /// Ghost text at a caret.
    pub struct Complete {
        pub root: String,
        pub path: String,
        pub language: String,
        pub prefix: String,
        pub suffix: String,
        /// A newer request with the same key supersedes an older one.
        pub key: String,
        /// The user asked for it: no debounce.
        pub invoked: bool,
    }
}

wire! {
    /// Have a model rewrite one piece of a text. Nothing is written: the caller does that.
    #[derive(Default)]
    pub struct Edit {
        pub root: String,
        /// Absolute path of the file that the text belongs to.
        pub path: String,
        pub language: String,
        pub instruction: String,
        /// What stands before the piece, the piece, and what follows: whole lines. With an empty
        /// piece new text is wanted in that place.
        pub before: String,
        pub piece: String,
        pub after: String,
        /// White space that new text begins with when the piece is empty.
        pub indent: String,
        /// `provider/model`, or empty for the configured default.
        pub model: String,
    }
}

wire! {
    pub enum Event {
        Started { run_id: String, transcript: Option<String>, model: String },
        Progress(Progress),
        Citations(Vec<Hit>),
        Text(String),
        /// Something the user should know now ("rate limited, next try in 12 s").
        Notice(String),
        ToolStarted { call_id: String, name: String, summary: String },
        ToolOutput { call_id: String, text: String },
        ToolFinished {
            call_id: String,
            name: String,
            ok: bool,
            summary: String,
            wall_ms: u64,
            /// The rule that allowed the call, or empty.
            rule: String,
        },
        Approval(Approval),
        /// An update of a watched index has ended.
        Indexed(BuildReport),
        /// An approval is decided: answered by the client `by`, or, when that is empty, timed
        /// out or withdrawn.
        Answered { approval_id: String, by: String },
    }
}

wire! {
    /// What is wanted of the user.
    #[derive(Default)]
    pub enum Wanted {
        /// May this run?
        #[default]
        Approval,
        /// A question of the model: the answer is the `feedback` of `Allow`.
        Question,
        /// Is this result right? `Allow` ends the run; the `feedback` of `Deny` goes back.
        Review,
    }
}

wire! {
    /// Exactly what will run, where, with which limits.
    #[derive(Default)]
    pub struct Approval {
        pub approval_id: String,
        pub run_id: String,
        pub tool: String,
        pub summary: String,
        pub detail: String,
        pub cwd: String,
        pub limits: String,
        /// Denied by itself after this many seconds.
        pub timeout_s: u32,
        pub wanted: Wanted,
        /// Answers that the model suggests to a question.
        pub suggestions: Vec<String>,
        /// What may be answered besides `Allow` and `Deny`.
        pub scopes: Vec<Decision>,
        /// The workspace, and the transcript of the run or nothing.
        pub root: String,
        pub transcript: String,
        /// What may be changed with [`Decision::AllowChanged`], if anything.
        pub editable: Option<Box<Editable>>,
    }
}

wire! {
    /// A parameter of a call, and its text.
    pub struct Editable {
        pub name: String,
        pub text: String,
    }
}

wire! {
    pub enum Reply {
        Pong,
        Done,
        Status(Status),
        IndexReport(BuildReport),
        Search(SearchReply),
        Ask(AskReply),
        Run(RunReply),
        Tool(ToolReply),
        Complete(CompleteReply),
        Edit(EditReply),
        Undo(UndoReply),
        Undoable(Vec<Undoable>),
        Mcp(McpReply),
        Approvals(Vec<Approval>),
        Runs(Vec<RunInfo>),
        PastRun(Box<PastRun>),
    }
}

wire! {
    pub struct UndoReply {
        /// False: nothing was put back, and `text` says why.
        pub ok: bool,
        pub text: String,
        /// Under this name the undo can be undone.
        pub run: String,
    }
}

wire! {
    /// A call that changed files.
    pub struct Undoable {
        pub run: String,
        pub call: String,
        pub tool: String,
        /// Unix milliseconds.
        pub at_ms: u64,
        /// Workspace-relative.
        pub files: Vec<String>,
    }
}

wire! {
    pub enum SearchMode { Lexical, Hybrid }
}

wire! {
    pub struct SearchReply {
        pub hits: Vec<Hit>,
        pub mode: SearchMode,
        /// Files known to be missing from the index, or older there than on disk.
        pub behind: u64,
        pub indexed_files: u64,
        pub took_us: u64,
        /// The first build has not ended: these are partial results.
        pub partial: bool,
        /// Unix seconds of the last look at the workspace, 0 for never.
        pub built_at: u64,
        pub watch: WatchState,
    }
}

wire! {
    /// Tokens in disjoint buckets, as the provider reported them.
    #[derive(Default)]
    pub struct Usage {
        pub input: u64,
        pub cache_read: u64,
        pub cache_write: u64,
        pub reasoning: u64,
        pub output: u64,
    }
}

wire! {
    pub struct AskReply {
        /// False when no model is configured: the passages are the answer.
        pub answered: bool,
        pub model: String,
        pub citations: Vec<Hit>,
        pub usage: Usage,
        /// `stop`, `length`, `truncated`, `cancelled`, …
        pub stop: String,
        pub hint: String,
        /// Names the conversation for a question that follows; empty when it is not kept.
        pub conversation: String,
    }
}

wire! {
    pub enum RunOutcome { Completed, TurnLimit, Cancelled, Failed }
}

wire! {
    pub struct RunReply {
        pub run_id: String,
        pub outcome: RunOutcome,
        pub result: String,
        pub transcript: String,
        pub turns: u32,
        pub tool_calls: u32,
        pub usage: Usage,
    }
}

wire! {
    /// What became of a run.
    #[derive(Copy, Eq)]
    pub enum RunState {
        Running,
        Completed,
        TurnLimit,
        Cancelled,
        Failed,
        /// The record ends in the middle: the engine was killed.
        Interrupted,
    }
}

wire! {
    /// A run as its event log tells it.
    pub struct RunInfo {
        pub run: String,
        pub root: String,
        /// Unix milliseconds.
        pub started_ms: u64,
        pub state: RunState,
        /// First line of the task, and of the result.
        pub task: String,
        pub result: String,
        pub mode: String,
        pub model: String,
        pub turns: u32,
        pub usage: Usage,
        /// The run that it went on with, or empty.
        pub continues: String,
        /// Why it cannot be continued, or empty.
        pub refused: String,
    }
}

wire! {
    pub struct PastRun {
        pub info: RunInfo,
        pub task: String,
        pub result: String,
        pub todos: String,
        /// The runs that it went on with, the newest first; a name alone where the log is gone.
        pub chain: Vec<RunInfo>,
        /// The runs that went on with it.
        pub continued_by: Vec<String>,
        pub steps: Vec<RunStep>,
        /// Steps before those.
        pub more_steps: u32,
        pub transcript: String,
        /// What is wrong with the log, or empty.
        pub damage: String,
    }
}

wire! {
    /// A call of a run.
    pub struct RunStep {
        pub what: String,
        /// `None`: it was interrupted.
        pub ok: Option<bool>,
        pub wall_ms: u64,
    }
}

wire! {
    pub struct ToolReply {
        /// The envelope, exactly what a model is given.
        pub text: String,
        pub ok: bool,
        pub wall_ms: u64,
        /// Sandbox layers that were active, e.g. `landlock-v7`, `seccomp`.
        pub layers: Vec<String>,
        /// Which limit stopped the call, or empty.
        pub limit_hit: String,
        /// The rule that allowed the call, or empty.
        pub rule: String,
    }
}

wire! {
    pub struct CompleteReply { pub text: String, pub model: String }
}

wire! {
    pub struct EditReply {
        /// The piece anew: whole lines, each with a line break (`\n`); nothing when all of it goes.
        pub text: String,
        pub model: String,
        pub usage: Usage,
    }
}

wire! {
    pub enum ProcessRole { Engine, IndexWorker, IndexBuild, Tool, Client }
}

wire! {
    pub struct ProcessInfo {
        pub role: ProcessRole,
        pub name: String,
        pub pid: u32,
        pub memory: Memory,
    }
}

wire! {
    /// How the engine hears of changes in a workspace.
    #[derive(Copy, Default, Eq)]
    pub enum WatchState {
        /// It does not, until someone asks for a build.
        #[default]
        Off,
        /// From the kernel, at once.
        Watching,
        /// By looking through it now and then: it has too many folders to watch.
        Scanning,
    }
}

wire! {
    pub struct IndexInfo {
        pub root: String,
        pub files: u64,
        pub chunks: u64,
        pub behind: u64,
        pub building: bool,
        /// Unix seconds of the last finished build, 0 for never.
        pub built_at: u64,
        /// Unix seconds of the last build that changed something, 0 for never.
        pub changed_at: u64,
        pub disk_bytes: u64,
        pub watch: WatchState,
        /// Branch that is checked out, or the first digits of the commit; empty outside git.
        pub head: String,
    }
}

wire! {
    /// Counters of one connection.
    #[derive(Default)]
    pub struct ConnectionInfo {
        pub session: String,
        pub pid: u32,
        pub client: String,
        /// Where the memory comes from: `memfd` or `portable`.
        pub transport: String,
        pub messages_in: u64,
        pub messages_out: u64,
        pub bytes_in: u64,
        pub bytes_out: u64,
        pub wakes: u64,
        pub spins: u64,
        pub stalls: u64,
        /// Most bytes that ever waited in a ring or its queue.
        pub high_water: u64,
        /// Calls open now.
        pub calls: u64,
        /// Time from a request's arrival to its reply, microseconds (upper bound of a
        /// power-of-two bucket); 0 before the first call.
        pub call_p50_us: u64,
        pub call_p99_us: u64,
        /// Calls by that time: entry `n` counts those below `2^n` microseconds and not
        /// below half of it. Ends with the last entry that is not 0.
        pub call_times: Vec<u64>,
    }
}

wire! {
    pub struct Status {
        pub version: String,
        pub pid: u32,
        pub uptime_ms: u64,
        /// Unix milliseconds of the engine's start.
        pub started_at_ms: u64,
        pub connections: Vec<ConnectionInfo>,
        pub processes: Vec<ProcessInfo>,
        pub indexes: Vec<IndexInfo>,
        pub active_runs: Vec<String>,
        pub log_file: String,
        /// The model that `ask` would use, or empty with `model_hint` saying what to do.
        pub chat_model: String,
        pub completion_model: String,
        pub model_hint: String,
        /// Who makes the vectors of indexes: `provider/model` and its address, or empty for the
        /// built-in table.
        pub embedder: String,
        /// Requests served since the start.
        pub requests: u64,
        /// The user's MCP servers; empty when the configuration cannot be read.
        pub mcp: Vec<McpServer>,
        /// How each tool that was called has done since the engine's start.
        pub tools: Vec<ToolStats>,
    }
}

wire! {
    /// Something about the user's MCP servers.
    pub struct Mcp {
        pub root: String,
        pub order: McpOrder,
    }
}

wire! {
    pub enum McpOrder {
        /// What is known of each, without starting any.
        List,
        /// Start it now and ask what it offers.
        Test { name: String },
        /// The text of a prompt; `json` holds its arguments.
        Prompt { server: String, prompt: String, json: String },
        /// What the user typed, with `/mcp:SERVER:PROMPT …` replaced by the prompt's text and
        /// the resources of `@SERVER:URI` read. Only for text that the user typed.
        Expand { typed: String },
        /// Log in to a server. The address to be opened comes as `Text`, then the call waits
        /// for the user; dropping it gives up.
        Login { name: String },
        /// Forget a login. `text` of the reply is empty when there was none.
        Logout { name: String },
    }
}

wire! {
    #[derive(Default)]
    pub struct McpReply {
        pub servers: Vec<McpServer>,
        pub attached: Vec<Attached>,
        /// Of a prompt; what a login led to.
        pub text: String,
    }
}

wire! {
    pub struct McpServer {
        pub name: String,
        /// `stdio` or `http`.
        pub kind: String,
        /// The command line or the address, without values of secrets.
        pub starts: String,
        /// What may leave the machine, in a sentence.
        pub network: String,
        /// `off`, `not started`, `running`, `failed`.
        pub state: String,
        pub problem: String,
        /// 0 when it does not run, or is reached over HTTP.
        pub pid: u32,
        /// Name and version, as it says.
        pub says: String,
        pub tools: Vec<McpTool>,
        pub resources: Vec<McpItem>,
        pub prompts: Vec<McpItem>,
        /// What was left out of its lists, and why.
        pub notes: Vec<String>,
        /// Layers of the sandbox around it, and those that are absent with the reason.
        pub layers: Vec<String>,
        pub absent: Vec<String>,
    }
}

wire! {
    pub struct McpTool {
        pub name: String,
        pub description: String,
        /// Of its arguments, JSON.
        pub schema: String,
        /// Whether the server's `allow` and `deny` lists let it through.
        pub allowed: bool,
    }
}

wire! {
    /// A resource (its address) or a prompt.
    pub struct McpItem {
        pub name: String,
        pub description: String,
        /// Of a prompt; required ones end with `*`.
        pub arguments: Vec<String>,
    }
}

wire! {
    pub struct ToolStats {
        pub tool: String,
        /// All of the following four together.
        pub calls: u64,
        pub ok: u64,
        pub failed: u64,
        /// By a rule or the user.
        pub denied: u64,
        /// Stopped by a limit: time, memory, output, rate, …
        pub limit_hits: u64,
        /// Time of those that ran, microseconds (upper bound of a power-of-two bucket).
        pub wall_p50_us: u64,
        pub wall_p99_us: u64,
    }
}
