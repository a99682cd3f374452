//! Rules for calls of MCP servers. A pattern is a glob over `server/tool`, or over
//! `server/uri` for resources; the name of a server alone means all of it.

use super::{Effect, Rule, Verdict};
use crate::call::ToolCall;

/// The one tool that names a resource.
const RESOURCE: &str = "access_mcp_resource";

/// What a rule's pattern is held against.
pub fn subject(call: &ToolCall) -> String {
    // By the tool, not by what is there: a call says more than its tool takes, at times.
    let what = call.text(if call.name == RESOURCE { "uri" } else { "tool_name" });
    format!("{}/{}", call.text("server_name").trim(), what.trim())
}

/// Without a rule that allows it, the user is asked.
pub(crate) fn decide(rules: &[&Rule], call: &ToolCall) -> Verdict {
    let subject = subject(call);
    let hit = |effects: &[Effect]| {
        rules.iter().find(|r| effects.contains(&r.effect) && matches(r, &subject))
    };
    if let Some(rule) = hit(&[Effect::Deny]) {
        return Verdict::Deny { rule: rule.describe() };
    }
    if let Some(rule) = hit(&[Effect::Ask]) {
        return Verdict::Ask { why: rule.describe() };
    }
    if let Some(rule) = hit(&[Effect::Allow, Effect::Turbo]) {
        return Verdict::Allow { rule: rule.describe() };
    }
    Verdict::Ask { why: "no rule allows it".into() }
}

fn matches(rule: &Rule, subject: &str) -> bool {
    let tightens = matches!(rule.effect, Effect::Deny | Effect::Ask);
    if rule.pattern.is_empty() {
        return true;
    }
    // A pattern for every tool is one of paths or commands: it must not widen here.
    if rule.tool == "*" && !tightens {
        return false;
    }
    let pattern = match rule.pattern.as_str() {
        server if !server.contains('/') => format!("{server}/*"),
        pattern => pattern.to_owned(),
    };
    match globset::GlobBuilder::new(&pattern).build() {
        Ok(glob) => glob.compile_matcher().is_match(subject),
        // A rule that cannot be understood must not widen, and must not be lost.
        Err(_) => tightens,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(rules: &[(Effect, &str, &str)], subject: (&str, &str)) -> Verdict {
        let rules: Vec<Rule> = rules
            .iter()
            .map(|(effect, tool, pattern)| {
                let text = format!(
                    "[[rules]]
effect=\"{}\"
tool={tool:?}
pattern={pattern:?}",
                    effect.word()
                );
                crate::policy::file::parse(&text).unwrap().rules.remove(0)
            })
            .collect();
        let call = ToolCall::new("1", "use_mcp_tool")
            .with("server_name", subject.0)
            .with("tool_name", subject.1);
        decide(&rules.iter().collect::<Vec<_>>(), &call)
    }

    #[test]
    fn mcp_calls_are_asked_about_unless_a_rule_names_them() {
        use Effect::{Allow, Ask, Deny};
        let log = ("git", "git_log");
        assert!(matches!(decided(&[], log), Verdict::Ask { .. }));
        let rules = [(Allow, "use_mcp_tool", "git/git_*"), (Deny, "use_mcp_tool", "git/git_reset")];
        assert!(matches!(decided(&rules, log), Verdict::Allow { .. }));
        assert!(matches!(decided(&rules, ("git", "git_reset")), Verdict::Deny { .. }));
        assert!(matches!(decided(&rules, ("git2", "git_log")), Verdict::Ask { .. }));
        assert!(matches!(decided(&[(Allow, "use_mcp_tool", "git")], log), Verdict::Allow { .. }));
        assert!(matches!(decided(&[(Allow, "use_mcp_tool", "")], log), Verdict::Allow { .. }));
        let both = [(Allow, "use_mcp_tool", "git"), (Ask, "use_mcp_tool", "git/git_log")];
        assert!(matches!(decided(&both, log), Verdict::Ask { .. }));
        assert!(matches!(decided(&[(Deny, "*", "")], log), Verdict::Deny { .. }));
    }

    #[test]
    fn a_subject_is_what_the_tool_would_use() {
        let both = |name: &str| {
            let call = ToolCall::new("1", name).with("server_name", "git");
            subject(&call.with("tool_name", "reset").with("uri", "file:///log"))
        };
        assert_eq!(both("use_mcp_tool"), "git/reset");
        assert_eq!(both("access_mcp_resource"), "git/file:///log");
    }

    #[test]
    fn a_pattern_meant_for_files_does_not_allow_a_server() {
        use Effect::{Allow, Deny};
        let call = ("src", "x");
        assert!(matches!(decided(&[(Allow, "*", "src/**")], call), Verdict::Ask { .. }));
        assert!(matches!(decided(&[(Deny, "*", "src/**")], call), Verdict::Deny { .. }));
        assert!(matches!(decided(&[(Allow, "use_mcp_tool", "[")], call), Verdict::Ask { .. }));
    }
}
