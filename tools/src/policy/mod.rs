//! Who may make a call: allowed by a rule, asked about, or denied.
//!
//! Deny wins over ask, ask wins over allow. Rules come from the user's own files; a
//! repository cannot add one.

use crate::call::ToolCall;
use crate::spec::{Class, ToolSpec};
use crate::workspace::Workspace;

/// The answer, with the rule that gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Allow { rule: String },
    Ask { why: String },
    Deny { rule: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    Allow,
    Ask,
    Deny,
}

/// One rule of the user's.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rule {
    pub effect: Effect,
    /// A tool's name, or `*`.
    pub tool: String,
    /// For commands: the leading words that must match, `git status`. For files: a glob.
    /// Empty matches every call.
    #[serde(default)]
    pub pattern: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Policy {
    pub rules: Vec<Rule>,
}

impl Policy {
    pub fn decide(&self, spec: &ToolSpec, call: &ToolCall, workspace: &Workspace) -> Verdict {
        let _ = (call, workspace);
        match spec.class {
            Class::Read | Class::Write | Class::None | Class::Mode | Class::Subtask => {
                Verdict::Allow { rule: "default".into() }
            }
            Class::Execute | Class::Mcp => Verdict::Ask { why: "commands are asked about".into() },
        }
    }
}
