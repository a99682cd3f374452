//! Answers that the user wants remembered: rules that fit one call exactly.
//!
//! They lie in the user's data (`remembered.toml`, the form of `rules.toml`), apart from the
//! rules that the user writes. They turn a question into a yes and nothing else: a rule that
//! denies or asks wins, and what changes the system, deploys, spends or reaches the network is
//! asked about every time.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::{Effect, Policy, Rule, Verdict, commands, file, mcp};
use crate::call::ToolCall;
use crate::limits::REMEMBERED_RULES;
use crate::spec::{Class, ToolSpec};
use crate::workspace::Workspace;

/// Parameters of a command that a remembered answer covers.
const OF_A_COMMAND: &[&str] = &["command", "cwd", "timeout"];

/// The one text that says what a call does; `None` for what no answer may be remembered for.
pub fn pattern_of(spec: &ToolSpec, call: &ToolCall) -> Option<String> {
    match spec.class {
        Class::Execute if spec.name == "execute_command" => {
            // What asks for more than a plain command is asked about each time.
            if call.params.keys().any(|name| !OF_A_COMMAND.contains(&name.as_str())) {
                return None;
            }
            let command = call.text("command").trim();
            match call.text("cwd").trim() {
                "" | "." => Some(command.to_owned()),
                // A path that a shell would read as anything else is not worth a rule.
                cwd if cwd.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b)) => {
                    Some(format!("cd {cwd} && {command}"))
                }
                _ => None,
            }
        }
        Class::Mcp => (!call.text("server_name").contains('/')).then(|| mcp::subject(call)),
        Class::Mode => Some(call.text("mode_slug").trim().to_owned()),
        Class::Subtask => Some(call.text("mode").trim().to_owned()),
        Class::Read | Class::Write => match call.paths().as_slice() {
            [path] => Some((*path).to_owned()),
            _ => None,
        },
        Class::Execute | Class::None => None,
    }
    .filter(|pattern| !pattern.is_empty())
}

/// What the exact rules make of a verdict.
pub(super) fn over(
    verdict: Verdict,
    exact: &[&Rule],
    rules: &[&Rule],
    spec: &ToolSpec,
    call: &ToolCall,
) -> Verdict {
    if exact.is_empty() || matches!(verdict, Verdict::Deny { .. }) {
        return verdict;
    }
    let Some(pattern) = pattern_of(spec, call) else { return verdict };
    let hit = |effect: &[Effect]| {
        exact.iter().find(|r| effect.contains(&r.effect) && r.pattern == pattern)
    };
    if let Some(rule) = hit(&[Effect::Deny]) {
        return Verdict::Deny { rule: rule.describe() };
    }
    if let Some(rule) = hit(&[Effect::Ask]) {
        return Verdict::Ask { why: rule.describe() };
    }
    let Verdict::Ask { why } = &verdict else { return verdict };
    let by_rule = rules.iter().any(|r| r.effect == Effect::Ask && r.describe() == *why);
    if by_rule || is_grave(spec, call) {
        return verdict;
    }
    match hit(&[Effect::Allow, Effect::Turbo]) {
        Some(rule) => Verdict::Allow { rule: rule.describe() },
        None => verdict,
    }
}

/// What is put to the user every time.
fn is_grave(spec: &ToolSpec, call: &ToolCall) -> bool {
    match spec.name {
        "generate_image" => true,
        "execute_command" => commands::is_grave(call.text("command")),
        _ => false,
    }
}

impl Policy {
    /// The rule that would keep a yes to this call, if one may be kept: one that would make
    /// the next such call go through.
    pub fn rule_for(
        &self,
        spec: &ToolSpec,
        call: &ToolCall,
        workspace: &Workspace,
        only_here: bool,
    ) -> Option<Rule> {
        let rule = Rule {
            effect: Effect::Allow,
            tool: spec.name.to_owned(),
            pattern: pattern_of(spec, call)?,
            network: Vec::new(),
            workspace: if only_here {
                workspace.root().to_str()?.to_owned()
            } else {
                String::new()
            },
            mode: String::new(),
            exact: true,
        };
        let mut with = self.clone();
        with.rules.push(rule.clone());
        matches!(with.decide(spec, call, workspace), Verdict::Allow { .. }).then_some(rule)
    }
}

/// Adds a rule to the remembered ones, at once and for this user alone.
pub fn keep(path: &Path, rule: &Rule) -> Result<(), String> {
    change(path, |rules| {
        if rules.contains(rule) {
            return Ok(());
        }
        if rules.len() >= REMEMBERED_RULES {
            return Err(format!(
                "{REMEMBERED_RULES} answers are remembered already; `lapce-ai rules remove` \
                 forgets some"
            ));
        }
        rules.push(rule.clone());
        Ok(())
    })
}

/// Forgets one of them.
pub fn forget(path: &Path, rule: &Rule) -> Result<(), String> {
    change(path, |rules| {
        rules.retain(|kept| kept != rule);
        Ok(())
    })
}

/// Reads, changes and writes the file as one step: an answer that the engine keeps while the
/// command line forgets another must not bring that one back.
fn change(
    path: &Path,
    change: impl FnOnce(&mut Vec<Rule>) -> Result<(), String>,
) -> Result<(), String> {
    let failed = |e: &dyn std::fmt::Display| format!("{} cannot be written: {e}", path.display());
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| failed(&e))?;
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path.with_extension("lock"))
        .map_err(|e| failed(&e))?;
    lock.lock().map_err(|e| failed(&e))?;
    let mut policy = file::load(path)?;
    let before = policy.rules.clone();
    change(&mut policy.rules)?;
    if policy.rules == before {
        return Ok(());
    }
    let text = toml::to_string(&policy).map_err(|e| failed(&e))?;
    write(path, &text).map_err(|e| failed(&e))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    const HEAD: &str =
        "# Answers that you wanted remembered. `lapce-ai rules` lists and removes them.\n\n";
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let written = file
        .write_all(HEAD.as_bytes())
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::find;

    struct Bench {
        _dir: tempfile::TempDir,
        workspace: Workspace,
        policy: Policy,
    }

    fn bench(rules: &[(Effect, &str, &str)]) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspace::new(dir.path()).unwrap();
        Bench { _dir: dir, workspace, policy: Policy::of(rules) }
    }

    fn command(line: &str) -> ToolCall {
        ToolCall::new("1", "execute_command").with("command", line)
    }

    fn rule(bench: &Bench, call: &ToolCall, only_here: bool) -> Option<Rule> {
        bench.policy.rule_for(find(&call.name).unwrap(), call, &bench.workspace, only_here)
    }

    fn allows(bench: &Bench, call: &ToolCall) -> bool {
        let spec = find(&call.name).unwrap();
        matches!(bench.policy.decide(spec, call, &bench.workspace), Verdict::Allow { .. })
    }

    #[test]
    fn a_kept_yes_fits_that_call_and_no_other() {
        let mut b = bench(&[]);
        let make = command("make -j2 test");
        assert!(!allows(&b, &make));
        let kept = rule(&b, &make, false).unwrap();
        assert_eq!(kept.describe(), "allow execute_command 'make -j2 test' exactly");
        b.policy.rules.push(kept);
        assert!(allows(&b, &make));
        assert!(allows(&b, &make.clone().with("timeout", 9)));
        assert!(allows(&b, &make.clone().with("cwd", ".")));
        for other in [
            "make -j2 test2",
            "make -j2 test; rm -r x",
            "make",
            "make -j2  test",
            "make -j2 test > x",
        ] {
            assert!(!allows(&b, &command(other)), "{other}");
        }
        assert!(!allows(&b, &make.clone().with("cwd", "sub")));
        assert!(rule(&b, &make.clone().with("cwd", "a && rm"), false).is_none());
    }

    #[test]
    fn a_yes_for_one_workspace_holds_there_alone() {
        let mut b = bench(&[]);
        let kept = rule(&b, &command("make"), true).unwrap();
        assert!(kept.describe().ends_with(&format!(" in {}", b.workspace.root().display())));
        b.policy.rules.push(kept);
        assert!(allows(&b, &command("make")));
        let elsewhere = Bench { policy: b.policy.clone(), ..bench(&[]) };
        assert!(!allows(&elsewhere, &command("make")));
    }

    #[test]
    fn rules_and_grave_calls_are_stronger_than_a_kept_yes() {
        let grave = [
            "sudo make",
            "git push",
            "curl x",
            "env curl x",
            "sh -c 'aws s3'",
            "a $(",
            "make && terraform apply",
        ];
        for line in grave {
            assert!(rule(&bench(&[]), &command(line), false).is_none(), "{line}");
        }
        let image = ToolCall::new("1", "generate_image").with("path", "a.png").with("prompt", "x");
        assert!(rule(&bench(&[]), &image, false).is_none());
        assert!(rule(&bench(&[(Effect::Deny, "*", "make")]), &command("make"), false).is_none());
        assert!(rule(&bench(&[(Effect::Ask, "*", "make")]), &command("make"), false).is_none());
        let write = ToolCall::new("1", "write_to_file").with("path", "a").with("content", "x");
        assert!(rule(&bench(&[(Effect::Ask, "write_to_file", "")]), &write, false).is_none());
        // A hand-written one in the file changes nothing about that.
        let mut b = bench(&[]);
        b.policy.rules.push(Rule {
            effect: Effect::Turbo,
            tool: "*".into(),
            pattern: "sudo make".into(),
            network: Vec::new(),
            workspace: String::new(),
            mode: String::new(),
            exact: true,
        });
        assert!(!allows(&b, &command("sudo make")));
    }

    #[test]
    fn kept_answers_survive_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data/remembered.toml");
        let b = bench(&[]);
        for line in ["make", "cargo test -- \"a b\"", "a\nb", "make"] {
            keep(&path, &rule(&b, &command(line), line == "make").unwrap()).unwrap();
        }
        let kept = file::load(&path).unwrap();
        assert_eq!(kept.rules.len(), 3);
        assert_eq!(kept.rules[2].pattern, "a\nb");
        assert!(!kept.rules[0].workspace.is_empty() && kept.rules[1].workspace.is_empty());
        forget(&path, &kept.rules[1]).unwrap();
        let left = file::load(&path).unwrap().rules;
        assert_eq!(left, [kept.rules[0].clone(), kept.rules[2].clone()]);
        let mode = |path: &Path| {
            use std::os::unix::fs::PermissionsExt as _;
            fs::metadata(path).unwrap().permissions().mode() & 0o777
        };
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
        fs::write(&path, "broken").unwrap();
        assert!(keep(&path, &kept.rules[0]).is_err(), "what cannot be read is not replaced");
    }

    /// What was forgotten came back when another was kept at the same time.
    #[test]
    fn answers_kept_side_by_side_are_all_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("remembered.toml");
        let b = bench(&[]);
        let rules: Vec<Rule> =
            (0..24).map(|n| rule(&b, &command(&format!("make {n}")), false).unwrap()).collect();
        rules[..8].iter().for_each(|rule| keep(&path, rule).unwrap());
        std::thread::scope(|scope| {
            for (n, rule) in rules.iter().enumerate() {
                let path = &path;
                scope.spawn(move || if n < 8 { forget(path, rule) } else { keep(path, rule) });
            }
        });
        let left = file::load(&path).unwrap().rules;
        assert_eq!(left.len(), 16);
        assert!(rules[8..].iter().all(|rule| left.contains(rule)));
    }
}
