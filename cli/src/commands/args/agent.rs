//! Arguments of what asks a model or runs tools: `ask`, `edit`, `tui`, `run`, `tool`, `undo`, and
//! of what decides about them.

use clap::{Args, Subcommand, ValueEnum};

use super::{Json, Root};

#[derive(Debug, Args)]
pub struct Ask {
    /// The question
    pub question: String,
    /// `-` to append what standard input holds
    #[arg(value_parser = ["-"], hide_possible_values = true)]
    pub input: Option<String>,
    /// Ask within the newest conversation of this workspace
    #[arg(long = "continue")]
    pub continues: bool,
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
    #[arg(required_unless_present = "continues")]
    pub task: Option<String>,
    /// Go on with the conversation of an earlier run [default: the newest of this workspace]
    #[arg(long = "continue", value_name = "ID", num_args = 0..=1, default_missing_value = "")]
    pub continues: Option<String>,
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
pub enum Runs {
    /// List the runs of this workspace, the newest first
    List {
        /// Of every workspace
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        root: Root,
        #[command(flatten)]
        json: Json,
    },
    /// Show what a run was asked, did and said, and the runs that it went on with
    Show {
        /// Its name, or a beginning or end of it
        id: String,
        #[command(flatten)]
        json: Json,
    },
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
        /// Change what is written or run first, in $VISUAL or $EDITOR; the model is told
        #[arg(long, conflicts_with = "scope")]
        edit: bool,
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
