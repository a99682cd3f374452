//! The command tree: names, options and help texts. Nothing here acts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use lapce_ai_ipc::Transport;

const ABOUT: &str = "Code search, questions and agents for Lapce, from the command line";

const LONG_ABOUT: &str = "\
Code search, questions and agents for Lapce, from the command line.

lapce-ai talks to one background process per user, the engine, and starts it when it is not \
there. The engine keeps the indexes, talks to model providers and runs tools in a sandbox; it \
ends by itself when it has been idle for ten minutes. The language server lapce-ai-lsp, which \
the Lapce plugin starts, uses the same engine.

Nothing leaves this machine but what is sent to the model provider that you configure in \
config.toml. A repository cannot name a provider, a key, a program or a permission.";

const AFTER: &str = "\
Exit status:
  0    done
  1    it failed: a check, a tool call, a run that did not complete
  2    wrong usage, or input that cannot be used
  3    something named does not exist: a path, an index, a tool
  4    denied by a rule, by you, or by the sandbox
  5    a part that is needed is not there: the engine, a helper program, a worker
  6    the model provider failed
  7    a limit was reached
  70   a bug of ours; the log has the details
  130  interrupted or cancelled

Environment:
  LAPCE_AI_HOME         one folder for everything, instead of the XDG folders
  LAPCE_AI_BIN_DIR      where our programs are, before the folder of this one and PATH
  LAPCE_AI_LOG          log filter, for example lapce_ai_engine=debug
  LAPCE_AI_IDLE_EXIT_S  seconds without work after which the engine ends (600)
  NO_COLOR              no colours

Files:
  $XDG_CONFIG_HOME/lapce-ai/config.toml    providers and models
  $XDG_CONFIG_HOME/lapce-ai/rules.toml     what tools may do
  $XDG_STATE_HOME/lapce-ai/logs/           the engine's log
  $XDG_DATA_HOME/lapce-ai/index/           indexes, one folder a workspace
  $XDG_RUNTIME_DIR/lapce-ai/               the engine's socket and lock";

const EXAMPLES: &str = "\
Examples:
  lapce-ai index                                 index the workspace around this folder
  lapce-ai search \"where are retries decided\"    find code by words and meaning
  lapce-ai ask \"how does a request reach the handler?\"
  lapce-ai run \"add a test for the empty config file\"
  lapce-ai doctor                                what works, and what to do about the rest";

#[derive(Debug, Parser)]
#[command(name = "lapce-ai", version, about = ABOUT, long_about = LONG_ABOUT)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{AFTER}"))]
#[command(subcommand_required = true, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// Memory of the connection to the engine: sealed memory files, or named shared memory
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    #[arg(value_parser = Transport::NAMES.map(|(name, _)| name), default_value = Transport::default().name())]
    pub transport: String,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the engine, its processes and their memory
    #[command(long_about = "\
Show the engine: version, uptime, connections, indexes, active runs, and the memory of each of \
our processes (resident, proportional share, private dirty). Starts nothing: when no engine is \
running it says so and exits with 0.")]
    Status(Json),

    /// Show what the connections and rings of the engine have done
    #[command(long_about = "\
Show what each connection to the engine has done: messages and bytes, how often a sleeping side \
was woken and how often spinning saved that, stalls on a full ring, the most that ever waited, \
and how long calls took, as a histogram. Then what each tool has done. Starts nothing.")]
    Diagnostics(Json),

    /// Start the engine, if it is not running
    #[command(long_about = "\
Start the engine, if it is not running, and print its process id. Other commands do that by \
themselves.")]
    Start(Json),

    /// End the engine and everything it started
    #[command(long_about = "\
End the engine and everything it started: searches, builds, runs, tools. Works for an engine of \
another version and for one that hangs. Exits with 0 when no engine is running.")]
    Stop(Json),

    /// Check the installation and say what to do about what is wrong
    #[command(long_about = "\
Check programs, folders, engine, sandbox, model and index; each finding comes with the next \
step. Exits with 1 when something does not work. `lapce-ai doctor sandbox` looks at the \
sandbox alone, layer by layer.")]
    Doctor(Doctor),

    /// Index a workspace, or bring its index up to date
    #[command(
        long_about = "\
Index a workspace, or bring its index up to date: only files that changed are read again. Files \
that git or an .aiignore excludes stay out. The index lies in your own data folder, never in the \
workspace. Ctrl-C cancels; the index stays as it was. While an editor is open on a workspace its \
index is kept up to date by itself; --watch does the same in a terminal.",
        after_help = "\
Examples:
  lapce-ai index
  lapce-ai index ~/src/tokio
  lapce-ai index --dry-run    what would be indexed, and why the rest is not
  lapce-ai index --force      start from nothing
  lapce-ai index rm           delete the index of this workspace"
    )]
    Index(Index),

    /// Find code by words and meaning
    #[command(
        long_about = "\
Find the passages of an indexed workspace that fit the words best. The words may be a question, \
a description or identifiers; `parseConfig` is found by `parse config`.",
        after_help = "\
Examples:
  lapce-ai search \"retry with backoff\"
  lapce-ai search \"parse config\" -k 3 --explain
  lapce-ai search \"socket handshake\" --json | jq -r '.hits[].path'"
    )]
    Search(Search),

    /// Ask a question about the code
    #[command(
        long_about = "\
Retrieve the passages that fit the question, send them with it to the configured model, and \
print the answer as it comes, with the passages it rests on. Without a configured model the \
passages are the answer.",
        after_help = "\
Examples:
  lapce-ai ask \"why is the lock taken twice in open()?\"
  lapce-ai ask --model local/smollm2 \"what does the scheduler do?\"
  git diff | lapce-ai ask \"is this right?\" -"
    )]
    Ask(Ask),

    /// Have the model rewrite a piece of a file
    #[command(
        long_about = "\
Have the model rewrite a piece of a file: lines, the block that begins at a line, or all of it. \
The change is shown and put to you before it is written; `lapce-ai undo` takes it back. What stands \
around the piece goes along, and passages of other files that the instruction finds.",
        after_help = "\
Examples:
  lapce-ai edit src/stats.rs:12 \"no panic on an empty list\"     the block that begins there
  lapce-ai edit src/stats.rs:12-20 \"use an iterator\"            these lines
  lapce-ai edit --dry-run notes.md \"fix the spelling\""
    )]
    Edit(Edit),

    /// Let the agent work on a task
    #[command(
        long_about = "\
Let the agent work on a task: the model reads, searches and edits through tools that run in a \
sandbox, and every call that your rules do not allow is put to you first.

At a question answer y (this once), a (everything alike for the rest of this run), w (exactly \
this, always in this workspace), e (exactly this, everywhere), n (no), or write what it should do \
instead: that is a no, and the model reads it. Without a terminal every question is answered no, \
unless --yes is given, or --wait: then it waits for `lapce-ai approvals` or the editor.

The transcript is written to .lapce/ai/runs/ in the workspace as the run goes on. Ctrl-C cancels \
the run; a second Ctrl-C leaves at once.",
        after_help = "\
Examples:
  lapce-ai run \"make the tests in parser.rs pass\"
  lapce-ai run --max-turns 10 \"explain the build in a README\""
    )]
    Run(Run),

    /// Questions, agent runs and their approvals in one terminal
    #[command(long_about = "\
Questions, agent runs and their approvals in one terminal, made for the terminal panel of an \
editor: keyboard only, and what was said stays in the terminal's own scrollback. A line is a \
question, or after Tab a task for the agent; /help names the commands. What went before goes along \
with the next question. Runs started elsewhere in the workspace ask here too.")]
    Tui(Tui),

    /// List the agent's tools, show their parameters, run one
    #[command(subcommand)]
    Tool(Tool),

    /// Put files back as they were before tools changed them
    #[command(
        long_about = "\
Put files back as they were before tools changed them: those of the last run, of a run, or of one \
call. A file that someone else has changed since stops it, and then nothing is put back. An undo \
is a change of its own and can be undone.",
        after_help = "\
Examples:
  lapce-ai undo            the last run, or single call, that changed something
  lapce-ai undo --list     what can be undone, newest first"
    )]
    Undo(Undo),

    /// List what waits for your answer, and answer it
    #[command(
        subcommand,
        long_about = "\
List what waits for your answer in any run or tool call of yours, and answer it. The first answer \
counts, whether it comes from here, from the terminal of the run or from the editor; what nobody \
answers is denied when its time is over. A yes can reach further than this once: `run` for the \
rest of the run, `workspace` and `always` are remembered as a rule that fits exactly this call \
(`lapce-ai rules list` shows it, `lapce-ai rules remove` forgets it).",
        after_help = "\
Examples:
  lapce-ai approvals list
  lapce-ai approvals allow 3fa1 --for workspace
  lapce-ai approvals deny 3fa1 use cargo instead
  lapce-ai approvals answer 3fa1 8080"
    )]
    Approvals(Approvals),

    /// List and change what tools may do
    #[command(
        subcommand,
        long_about = "\
List and change what tools may do. Without rules, reading and writing inside the workspace is \
allowed and every command is put to you. Deny wins over ask, ask over allow. The rules are yours: \
they lie in rules.toml beside config.toml, and no repository can add one; answers that you wanted \
remembered follow them in the list. They hold for agents \
and, where they deny, for `lapce-ai tool run` too.",
        after_help = "\
Examples:
  lapce-ai rules allow execute_command \"cargo test\"
  lapce-ai rules deny write_to_file \"migrations/**\"
  lapce-ai rules list"
    )]
    Rules(Rules),

    /// Measure search quality on your own repository
    #[command(subcommand)]
    Eval(Eval),

    /// Set up, try and list MCP servers; be one
    #[command(
        subcommand,
        long_about = "\
Set up, try and list MCP servers: programs and addresses that give agents more tools. Only your \
own config.toml can name one, never a repository. Programs run in the sandbox with the folders \
and the network that their section names, and every call is put to you unless a rule allows it \
(`lapce-ai rules allow use_mcp_tool \"git/git_log\"`). docs/mcp.md has the details.",
        after_help = "\
Examples:
  lapce-ai mcp catalogue
  lapce-ai mcp add git
  lapce-ai mcp add docs --url https://docs.example.org/mcp --header Authorization=keyring:docs
  lapce-ai mcp add mine --network api.example.org -- /opt/mine/server --stdio
  lapce-ai mcp test git"
    )]
    Mcp(McpCommand),

    /// Print a completion script for a shell
    #[command(after_help = "\
Examples:
  lapce-ai completions bash > ~/.local/share/bash-completion/completions/lapce-ai
  lapce-ai completions fish > ~/.config/fish/completions/lapce-ai.fish")]
    Completions { shell: Shell },

    /// Print reference documentation in Markdown
    #[command(hide = true)]
    Generate { what: Reference },
}

#[derive(Debug, Clone, Copy, Args)]
pub struct Json {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Root {
    /// The workspace [default: the folder around this one that has a .git or .lapce]
    #[arg(long, value_name = "FOLDER")]
    pub root: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// Look at this part alone
    pub part: Option<Part>,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    Sandbox,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Index {
    #[command(subcommand)]
    pub action: Option<IndexAction>,
    /// The workspace [default: the folder around this one that has a .git or .lapce]
    pub path: Option<PathBuf>,
    /// Start from nothing instead of updating
    #[arg(long)]
    pub force: bool,
    /// List what would be indexed, and why the rest is not; builds nothing
    #[arg(long, conflicts_with_all = ["force", "watch"])]
    pub dry_run: bool,
    /// Keep the index up to date until Ctrl-C
    #[arg(long, conflicts_with = "force")]
    pub watch: bool,
    /// Lie on the shared index there, `s3://bucket/prefix` or `file:///folder`: only files that differ
    /// are indexed here. Kept in config.toml for this workspace; `none` forgets it
    #[arg(long, value_name = "URI", conflicts_with = "dry_run")]
    pub location: Option<String>,
    /// Print progress and result as JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum IndexAction {
    /// Delete the index of a workspace; the workspace itself is not touched
    Rm(IndexPath),
    /// Compare an index with its own list of files
    Verify(IndexPath),
    /// Join what updates have left in pieces, drop old versions; runs by itself too
    Gc(IndexPath),
}

#[derive(Debug, Args)]
pub struct IndexPath {
    /// The workspace [default: the folder around this one that has a .git or .lapce]
    pub path: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Eval {
    /// Ask labelled queries and print NDCG@10, MRR@10 and recall@10, by file and by symbol
    #[command(
        long_about = "\
Ask labelled queries and print NDCG@10, MRR@10 and recall@10, by file and by symbol, over all and \
for each split. A line of the file is {\"query\", \"relevant\": [{\"path\", \"line\"?}], \"split\"?}: \
paths relative to the corpus; a hit counts by symbol when its lines cover `line`. The corpus is \
indexed in memory for this; nothing is written.",
        after_help = "\
Examples:
  lapce-ai eval search --corpus . --queries queries.jsonl
  lapce-ai eval search --corpus . --queries queries.jsonl --arm lexical --json"
    )]
    Search(EvalSearch),
}

#[derive(Debug, Args)]
pub struct EvalSearch {
    /// The files to search
    #[arg(long, value_name = "DIR")]
    pub corpus: PathBuf,
    /// Labelled queries, JSON lines
    #[arg(long, value_name = "FILE")]
    pub queries: PathBuf,
    /// What takes part: `bm25` is words without ranking, `lexical` with it, `dense` vectors with it
    #[arg(long, value_enum, default_value_t = Arm::Hybrid)]
    pub arm: Arm,
    /// Measure an index built for this in a temporary folder, not one in memory
    #[arg(long)]
    pub store: bool,
    /// Also print the queries whose NDCG@10 is below this
    #[arg(long, value_name = "SCORE")]
    pub misses: Option<f64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Arm {
    Bm25,
    Lexical,
    Dense,
    Hybrid,
}

#[derive(Debug, Args)]
pub struct Search {
    /// What to look for
    #[arg(required = true)]
    pub words: Vec<String>,
    /// At most this many hits
    #[arg(short = 'k', long = "limit", value_name = "N", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    pub limit: u32,
    /// Say why each hit ranks where it does
    #[arg(long)]
    pub explain: bool,
    /// Index the workspace first
    #[arg(long)]
    pub index: bool,
    #[command(flatten)]
    pub root: Root,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Args)]
pub struct Ask {
    /// The question
    pub question: String,
    /// `-` to append what standard input holds
    #[arg(value_parser = ["-"], hide_possible_values = true)]
    pub input: Option<String>,
    /// The model, as PROVIDER/MODEL [default: the one in config.toml]
    #[arg(long, value_name = "MODEL", default_value = "", hide_default_value = true)]
    pub model: String,
    /// Also write the answer to a transcript in the workspace
    #[arg(long)]
    pub transcript: bool,
    #[command(flatten)]
    pub root: Root,
    /// Print events and result as JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Edit {
    #[arg(value_name = "PLACE")]
    #[arg(
        help = "FILE, FILE:LINE (the block that begins there) or FILE:FIRST-LAST; lines count from 1"
    )]
    pub place: String,
    /// What is to be done
    #[arg(required = true, value_name = "INSTRUCTION")]
    pub instruction: Vec<String>,
    /// Write the change without asking
    #[arg(long, short, conflicts_with = "dry_run")]
    pub yes: bool,
    /// Show the change and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The model, as PROVIDER/MODEL [default: the one in config.toml]
    #[arg(long, value_name = "MODEL", default_value = "", hide_default_value = true)]
    pub model: String,
    #[command(flatten)]
    pub root: Root,
}

#[derive(Debug, Args)]
pub struct Tui {
    /// Begin with the agent instead of questions
    #[arg(long)]
    pub agent: bool,
    /// The model, as PROVIDER/MODEL [default: the one in config.toml]
    #[arg(long, value_name = "MODEL", default_value = "", hide_default_value = true)]
    pub model: String,
    #[command(flatten)]
    pub root: Root,
}

#[derive(Debug, Args)]
pub struct Run {
    /// What to do
    pub task: String,
    /// The model, as PROVIDER/MODEL [default: the one in config.toml]
    #[arg(long, value_name = "MODEL", default_value = "", hide_default_value = true)]
    pub model: String,
    /// At most this many turns of the model [default: the one in config.toml]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub max_turns: u32,
    /// The mode to begin in: code, architect, ask, debug, or one of your own [default: code]
    #[arg(long, value_name = "MODE", default_value = "", hide_default_value = true)]
    pub mode: String,
    /// Look at the result before the run ends: what you say goes back to the model
    #[arg(long)]
    pub review: bool,
    /// Without a terminal, let questions wait for `lapce-ai approvals` or the editor
    #[arg(long, conflicts_with = "yes")]
    pub wait: bool,
    /// Answer every question with yes; rules that deny and the sandbox still hold
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub root: Root,
    /// Print events and result as JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Tool {
    /// List the tools
    List(Json),
    /// Show a tool's parameters as JSON schema
    Schema { name: String },
    /// Run one tool in the sandbox and print what a model would be given
    #[command(after_help = "\
Examples:
  lapce-ai tool run read_file --json '{\"path\": \"src/main.rs\"}'
  lapce-ai tool run execute_command --json '{\"command\": \"cargo check\"}'")]
    Run(ToolRun),
}

#[derive(Debug, Args)]
pub struct ToolRun {
    /// The tool; see `lapce-ai tool list`
    pub name: String,
    /// Its parameters, a JSON object
    #[arg(long, value_name = "OBJECT", default_value = "{}")]
    pub json: String,
    /// Ask first where your rules say so, as a run would
    #[arg(long)]
    pub ask: bool,
    /// Print the whole result as JSON: envelope, time, sandbox layers, limits
    #[arg(long)]
    pub report: bool,
    #[command(flatten)]
    pub root: Root,
}

#[derive(Debug, Args)]
pub struct Undo {
    /// A run or a call, as --list names them [default: the last one]
    pub what: Option<String>,
    /// List what can be undone
    #[arg(long, conflicts_with = "what")]
    pub list: bool,
    #[command(flatten)]
    pub root: Root,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Subcommand)]
pub enum Approvals {
    /// List what waits
    List(Json),
    /// Say yes
    Allow {
        /// The beginning of its name in the list
        id: String,
        /// How far the yes reaches
        #[arg(long = "for", value_name = "SCOPE", default_value = "once")]
        scope: Scope,
    },
    /// Say no
    Deny {
        /// The beginning of its name in the list
        id: String,
        /// What to do instead, for the model to read
        words: Vec<String>,
    },
    /// Answer a question of the model, or say what a result still lacks
    Answer {
        /// The beginning of its name in the list
        id: String,
        #[arg(required = true)]
        words: Vec<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    Once,
    Run,
    Workspace,
    Always,
}

#[derive(Debug, Subcommand)]
pub enum Rules {
    /// List the rules and check the file
    List(Json),
    /// Allow without a question
    Allow(NewRule),
    /// Ask even where it would be allowed
    Ask(NewRule),
    /// Never allow
    Deny(NewRule),
    /// Remove a rule by its number in the list
    Remove { number: usize },
}

#[derive(Debug, Args)]
pub struct NewRule {
    /// A tool's name, a class of tools (`read`, `write`, `execute`, `mcp`), or `*`
    pub tool: String,
    /// For commands the leading words, for files a glob [default: every call]
    pub pattern: Option<String>,
    /// A host or port of this machine that what the rule allows may reach, such as
    /// `*.crates.io` or `localhost:5432`; may be given more than once
    #[arg(long, value_name = "HOST")]
    pub network: Vec<String>,
    /// Only in the workspace that the current folder lies in
    #[arg(long)]
    pub here: bool,
    /// Only in runs of this mode
    #[arg(long)]
    pub mode: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum McpCommand {
    /// List the servers and their state; starts none
    List(McpList),
    /// Start a server now and show what it offers
    Test(McpTest),
    /// Add a server of the catalogue, a program, or an address to config.toml
    Add(McpAdd),
    /// Remove a server from config.toml
    Rm { name: String },
    /// Log in to a server that wants OAuth; its tokens go into the keyring
    Login(McpLogin),
    /// Forget the login to a server
    Logout { name: String },
    /// Show servers that are ready to be added
    Catalogue(Json),
    /// List a server's prompts, or print one
    Prompts(McpPrompts),
    /// Offer our search and tools to other agents, as an MCP server on stdin and stdout
    #[command(long_about = "\
Offer our search and tools to other agents, as an MCP server on standard input and output, for \
the workspace that it was started in. Each call goes through your rules and the sandbox as an \
agent's does; what would be asked about is refused, since there is nobody to ask.")]
    Serve(McpServe),
}

#[derive(Debug, Args)]
pub struct McpList {
    #[command(flatten)]
    pub root: Root,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Args)]
pub struct McpTest {
    /// The server
    pub name: String,
    #[command(flatten)]
    pub root: Root,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Args)]
pub struct McpAdd {
    /// Its name; without a command or --url also its name in the catalogue
    pub name: String,
    /// Its name in the catalogue, when that differs
    #[arg(long, value_name = "ENTRY", conflicts_with_all = ["url", "command"])]
    pub from: Option<String>,
    /// The address of a server that speaks streamable HTTP
    #[arg(long, conflicts_with = "command")]
    pub url: Option<String>,
    /// A variable of its environment: NAME=text, NAME=env:VARIABLE or NAME=keyring:ENTRY
    #[arg(long, value_name = "NAME=VALUE", conflicts_with = "url")]
    pub env: Vec<String>,
    /// A header of each request, written like --env
    #[arg(long, value_name = "NAME=VALUE", requires = "url")]
    pub header: Vec<String>,
    /// It wants a login (OAuth): `lapce-ai mcp login` after it
    #[arg(long, requires = "url")]
    pub oauth: bool,
    /// A host it may reach (api.example.org, localhost:5432), or `all` for the host's network
    #[arg(long, value_name = "HOST")]
    pub network: Vec<String>,
    /// What it may do with the workspace [default: read]
    #[arg(long, value_parser = ["none", "read", "write"])]
    pub workspace: Option<String>,
    /// One more folder it may read
    #[arg(long, value_name = "FOLDER")]
    pub read: Vec<PathBuf>,
    /// One more folder it may write
    #[arg(long, value_name = "FOLDER")]
    pub write: Vec<PathBuf>,
    /// The program and its arguments, after `--`
    #[arg(last = true)]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct McpLogin {
    /// The server
    pub name: String,
    /// Print the address only, and open no browser
    #[arg(long)]
    pub no_browser: bool,
}

#[derive(Debug, Args)]
pub struct McpPrompts {
    /// The server
    pub server: String,
    /// The prompt to print [default: list them]
    pub prompt: Option<String>,
    /// Its arguments, a JSON object
    #[arg(long, value_name = "OBJECT", default_value = "{}")]
    pub arguments: String,
    #[command(flatten)]
    pub root: Root,
}

#[derive(Debug, Args)]
pub struct McpServe {
    /// Which tools to offer: those that read, those that also change files, or commands too
    #[arg(long, default_value = "read", value_parser = ["read", "write", "all"])]
    pub tools: String,
    #[command(flatten)]
    pub root: Root,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Reference {
    Cli,
    Tools,
    Config,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }
}
