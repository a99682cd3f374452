//! The one declaration of every tool; schemas, prompts, help and limits derive from it.

mod catalogue;

use crate::limits::Limits;

/// What a tool does to the world; policy decides by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    Read,
    Write,
    Execute,
    Mcp,
    Mode,
    Subtask,
    /// Talks to the user or keeps notes.
    None,
}

impl Class {
    /// The word that stands for all tools of this class in a rule.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::Read => Some("read"),
            Self::Write => Some("write"),
            Self::Execute => Some("execute"),
            Self::Mcp => Some("mcp"),
            Self::Mode | Self::Subtask | Self::None => None,
        }
    }
}

/// Who carries a call out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Runs {
    /// `lapce-ai-tool`, through [`crate::host::ToolHost`].
    Helper,
    /// The host itself, from what it keeps (artefacts of earlier commands).
    Host,
    /// The agent loop: questions, modes, subtasks, the to-do list.
    Agent,
    /// The engine, through the index worker.
    Index,
    /// The engine: texts that the user keeps, images of a provider (which the helper writes).
    Engine,
    /// The engine, through an MCP server of the user's configuration.
    Mcp,
    /// Declared, not built: offered to nobody.
    Absent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Words, a path, a pattern; surrounding white space means nothing.
    Text,
    /// Text kept byte for byte.
    Code,
    Integer,
    Flag,
    Choice(&'static [&'static str]),
    /// `<file><path>…</path><line_range>a-b</line_range></file>`, once or more.
    Files,
    /// `<suggest mode="…">…</suggest>`, once or more.
    Suggestions,
    Json,
}

impl Kind {
    /// The kind in a sentence.
    pub fn word(self) -> &'static str {
        match self {
            Self::Text | Self::Code => "text",
            Self::Integer => "a whole number",
            Self::Flag => "true or false",
            Self::Choice(_) => "one of the listed words",
            Self::Files => "a list of files",
            Self::Suggestions => "a list of suggestions",
            Self::Json => "a JSON object",
        }
    }
}

#[derive(Debug)]
pub struct Param {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
    pub doc: &'static str,
}

#[derive(Debug)]
pub struct ToolSpec {
    pub name: &'static str,
    pub class: Class,
    pub runs: Runs,
    /// One sentence.
    pub summary: &'static str,
    /// What a model must know beyond the summary; may be empty.
    pub doc: &'static str,
    pub params: &'static [Param],
    /// At least one of these must be given.
    pub one_of: Option<&'static [&'static str]>,
    /// A call in XML form.
    pub example: &'static str,
    pub limits: Limits,
}

/// Parameters that hold what a call writes or runs.
const EDITABLE: [&str; 6] = ["content", "diff", "patch", "new_string", "replace", "command"];

impl ToolSpec {
    /// The parameter that a user may change before they allow a call.
    pub fn editable(&self) -> Option<&'static str> {
        if !matches!(self.class, Class::Write | Class::Execute) {
            return None;
        }
        EDITABLE.into_iter().find(|name| self.params.iter().any(|param| param.name == *name))
    }
}

/// Every declared tool, those that are not built included.
pub fn all() -> &'static [ToolSpec] {
    catalogue::TOOLS
}

/// The tools that work in this build: the only ones to tell models and users about.
pub fn offered() -> impl Iterator<Item = &'static ToolSpec> {
    all().iter().filter(|spec| spec.runs != Runs::Absent)
}

/// An offered tool by name.
pub fn find(name: &str) -> Option<&'static ToolSpec> {
    offered().find(|spec| spec.name == name)
}

/// Whether a rule may name this as what it is about: a tool, a class of tools, or `*`.
pub fn is_rule_subject(name: &str) -> bool {
    name == "*" || all().iter().any(|spec| spec.name == name || spec.class.word() == Some(name))
}
