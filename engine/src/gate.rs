//! How a call is put to the user: the words of the question, what a yes may cover, and how a
//! yes is remembered. Used by the `tool` request and by the agent loop.

use lapce_ai_ipc::wire::WireError;
use lapce_ai_ipc::wire::engine::{Decision, Editable};
use lapce_ai_tools::call::ToolCall;
use lapce_ai_tools::policy::{Policy, Verdict, remember};
use lapce_ai_tools::spec::ToolSpec;
use lapce_ai_tools::workspace::Workspace;
use lapce_ai_tools::{envelope, host};

use crate::approvals::{Question, Scope};
use crate::limits;
use crate::state::Engine;

/// The question for a call that `why` keeps from running.
pub fn question(
    policy: &Policy,
    spec: &ToolSpec,
    call: &ToolCall,
    workspace: &Workspace,
    why: &str,
) -> Question {
    let root = workspace.root().display().to_string();
    let mut scopes = Vec::new();
    if policy.rule_for(spec, call, workspace, true).is_some() {
        scopes.extend([Decision::AllowInWorkspace, Decision::AllowAlways]);
    }
    let cwd = match call.text("cwd").trim() {
        "" | "." => root.clone(),
        below => workspace.root().join(below).display().to_string(),
    };
    let editable = editable(spec, call)
        .map(|(name, text)| Editable { name: name.to_owned(), text: text.to_owned() });
    Question {
        editable,
        tool: spec.name.to_owned(),
        summary: call.summary(),
        detail: format!("{why}\n{}", detail(call)),
        cwd,
        limits: host::limits_of(spec, call).to_string(),
        scopes,
        root,
        ..Question::default()
    }
}

/// What the user may change in a call: the parameter and its text, unless it is too long to be
/// sent back.
fn editable<'c>(spec: &ToolSpec, call: &'c ToolCall) -> Option<(&'static str, &'c str)> {
    let name = spec.editable().filter(|name| call.has(name))?;
    Some((name, call.text(name))).filter(|(_, text)| text.len() <= limits::PROMPT_BYTES)
}

/// A call as the user changed it: what stands in for it, and what the model is told below the
/// result. An error is a rule that denies it, or why it is none any more.
pub fn changed(
    policy: &Policy,
    spec: &ToolSpec,
    call: &ToolCall,
    workspace: &Workspace,
    text: String,
) -> Result<(ToolCall, String), String> {
    let (name, written) = editable(spec, call).ok_or("nothing in this call can be changed")?;
    let note = envelope::user_edits(name, written, &text);
    let mut changed = call.clone().with(name, text);
    // The model's own count of what it wrote.
    changed.params.remove("line_count");
    let changed = changed.normalise(spec).map_err(|problem| problem.to_string())?;
    // They have agreed to it by writing it; what they forbid stays forbidden.
    match policy.decide(spec, &changed, workspace) {
        Verdict::Deny { rule } => Err(rule),
        _ => Ok((changed, note)),
    }
}

/// Keeps a yes beyond the run, where it reaches that far. Says what was kept.
pub fn remember(
    engine: &Engine,
    policy: &Policy,
    spec: &ToolSpec,
    call: &ToolCall,
    workspace: &Workspace,
    scope: Scope,
) -> Result<Option<String>, WireError> {
    if !matches!(scope, Scope::Workspace | Scope::Always) {
        return Ok(None);
    }
    let only_here = scope == Scope::Workspace;
    let Some(rule) = policy.rule_for(spec, call, workspace, only_here) else { return Ok(None) };
    remember::keep(&engine.paths.remembered_file(), &rule).map_err(|why| {
        use lapce_ai_ipc::wire::ErrorKind::Unavailable;
        WireError::new(Unavailable, format!("the answer could not be remembered: {why}"))
    })?;
    Ok(Some(rule.describe()))
}

/// What exactly will run, for the user to read.
pub fn detail(call: &ToolCall) -> String {
    let line = |(name, value): (&String, &serde_json::Value)| match value {
        serde_json::Value::String(value) if value.contains('\n') => format!("{name}:\n{value}\n"),
        serde_json::Value::String(value) => format!("{name}: {value}\n"),
        other => format!("{name}: {other}\n"),
    };
    call.params.iter().map(line).collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use lapce_ai_tools::spec::find;

    use super::*;

    #[test]
    fn the_detail_shows_what_runs() {
        let call =
            ToolCall::new("1", "execute_command").with("command", "make -j2").with("timeout", 5);
        assert_eq!(detail(&call), "command: make -j2\ntimeout: 5\n");
    }

    #[test]
    fn a_question_shows_what_where_and_with_which_limits() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspace::new(dir.path()).unwrap();
        let root = workspace.root().display().to_string();
        let spec = find("execute_command").unwrap();
        let call = ToolCall::new("1", "execute_command")
            .with("command", "make")
            .with("cwd", "sub")
            .with("timeout", 7);
        let policy = Policy::default();
        let asked = question(&policy, spec, &call, &workspace, "no rule allows 'make'");
        assert_eq!(asked.detail, "no rule allows 'make'\ncommand: make\ncwd: sub\ntimeout: 7\n");
        assert_eq!((asked.cwd, asked.root.clone()), (format!("{root}/sub"), root));
        assert!(asked.limits.starts_with("7 s, 4 GB memory"), "{}", asked.limits);
        assert_eq!(asked.scopes, [Decision::AllowInWorkspace, Decision::AllowAlways]);
        let push = ToolCall::new("1", "execute_command").with("command", "git push");
        assert!(question(&policy, spec, &push, &workspace, "x").scopes.is_empty());
    }
}
