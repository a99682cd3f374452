//! The command tree: names, options and help texts. Nothing here acts.

mod agent;
mod index;
mod mcp;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use lapce_ai_ipc::Transport;

pub use agent::*;
pub use index::*;
pub use mcp::*;

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
  VISUAL, EDITOR        your editor, for `approvals allow --edit`
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
passages are the answer. With --continue the questions and answers before go along.",
        after_help = "\
Examples:
  lapce-ai ask \"why is the lock taken twice in open()?\"
  lapce-ai ask --continue \"and who releases it?\"
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
the run; a second Ctrl-C leaves at once.

With --continue a new run begins with the conversation of an earlier one, however that ended: with \
its mode, model and to-do list, but with limits of its own, and without what was allowed for that \
run.",
        after_help = "\
Examples:
  lapce-ai run \"make the tests in parser.rs pass\"
  lapce-ai run --continue \"and now those in lexer.rs\"
  lapce-ai run --continue 3fa1c2      go on with that run; `lapce-ai runs list` names it
  lapce-ai run --max-turns 10 \"explain the build in a README\""
    )]
    Run(Run),

    /// List the agent's runs, and show one
    #[command(
        subcommand,
        long_about = "\
List the agent's runs that are on record (the newest 200), and show one: what it was asked, what it \
did, how it ended, and the runs that it went on with. `lapce-ai run --continue ID` goes on with one.",
        after_help = "\
Examples:
  lapce-ai runs list
  lapce-ai runs list --all --json | jq -r '.[].task'
  lapce-ai runs show 3fa1c2"
    )]
    Runs(Runs),

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
  lapce-ai approvals allow 3fa1 --edit
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
