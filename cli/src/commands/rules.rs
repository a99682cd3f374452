//! `lapce-ai rules`: what tools may do without a question, and what they may never do.

use std::path::Path;

use lapce_ai_ipc::paths::Paths;
use lapce_ai_tools::policy::{Effect, file, remember};
use lapce_ai_tools::spec;

use super::args::{NewRule, Rules};
use super::exit::{Code, Failure, Outcome};
use super::output::{Output, Style};
use super::session;
use super::user_file;

pub fn run(args: Rules, out: Output) -> Outcome {
    let path = Paths::from_env().rules_file();
    match args {
        Rules::List(json) => {
            let (policy, kept) = (load(&path)?, load(&Paths::from_env().remembered_file())?);
            if json.json {
                return out.json(&[policy.rules, kept.rules].concat());
            }
            for (number, rule) in (1..).zip(&policy.rules) {
                out.line(&format!("{number:>3}  {}", rule.describe()))?;
            }
            for (number, rule) in (policy.rules.len() + 1..).zip(&kept.rules) {
                out.line(&format!("{number:>3}  {}  (remembered)", rule.describe()))?;
            }
            if policy.rules.is_empty() && kept.rules.is_empty() {
                out.note("no rules: reading and writing in the workspace is allowed, commands are asked about");
            }
            out.note(&out.paint_err(Style::Dim, &path.display().to_string()));
            Ok(())
        }
        Rules::Allow(rule) => add(&path, Effect::Allow, &rule, out),
        Rules::Ask(rule) => add(&path, Effect::Ask, &rule, out),
        Rules::Deny(rule) => add(&path, Effect::Deny, &rule, out),
        Rules::Remove { number } => remove(&path, number, out),
    }
}

fn load(path: &Path) -> Outcome<lapce_ai_tools::policy::Policy> {
    file::load(path).map_err(|problem| {
        Failure::new(Code::Usage, problem, format!("correct {}", path.display()))
    })
}

/// Appends a rule: comments and order of what is there stay as they are.
fn add(path: &Path, effect: Effect, rule: &NewRule, out: Output) -> Outcome {
    if !spec::is_rule_subject(&rule.tool) {
        let message = format!("there is no tool {:?}", rule.tool);
        return Err(Failure::new(Code::NotFound, message, "`lapce-ai tool list` names every tool"));
    }
    load(path)?;
    let effect = match effect {
        Effect::Allow => "allow",
        Effect::Ask => "ask",
        Effect::Deny => "deny",
        Effect::Turbo => "turbo",
    };
    let mut text = format!("\n[[rules]]\neffect = {effect:?}\ntool = {}\n", quoted(&rule.tool));
    if let Some(pattern) = &rule.pattern {
        text.push_str(&["pattern = ", &quoted(pattern), "\n"].concat());
    }
    if !rule.network.is_empty() {
        let hosts: Vec<String> = rule.network.iter().map(|host| quoted(host)).collect();
        text.push_str(&["network = [", &hosts.join(", "), "]\n"].concat());
    }
    if rule.here {
        // As tools see it: without symlinks.
        let root = session::workspace(None)?;
        let real = Path::new(&root).canonicalize().ok();
        let root = real.as_deref().and_then(Path::to_str).unwrap_or(&root);
        text.push_str(&["workspace = ", &quoted(root), "\n"].concat());
    }
    if let Some(mode) = &rule.mode {
        text.push_str(&["mode = ", &quoted(mode), "\n"].concat());
    }
    // Checked before it is written: a file with a wrong rule denies everything.
    file::parse(&text).map_err(|problem| {
        Failure::new(Code::Usage, problem, "`lapce-ai rules allow --help` shows the form")
    })?;
    write(path, |old| old.to_owned() + &text)?;
    let added = load(path)?;
    let rule = added.rules.last().map(lapce_ai_tools::policy::Rule::describe).unwrap_or_default();
    out.line(&format!("rule {}: {rule}", added.rules.len()))
}

fn remove(path: &Path, number: usize, out: Output) -> Outcome {
    let policy = load(path)?;
    let Some(rule) = number.checked_sub(1).and_then(|index| policy.rules.get(index)) else {
        let file = Paths::from_env().remembered_file();
        let kept = load(&file)?;
        let index = number.checked_sub(policy.rules.len() + 1);
        if let Some(rule) = index.and_then(|i| kept.rules.get(i)) {
            remember::forget(&file, rule).map_err(|problem| {
                Failure::new(Code::Failed, problem, "check its folder's permissions")
            })?;
            return out.line(&format!("removed: {}", rule.describe()));
        }
        let count = policy.rules.len() + kept.rules.len();
        let message = format!("there is no rule {number}; there are {count}");
        return Err(Failure::new(Code::NotFound, message, "`lapce-ai rules list` numbers them"));
    };
    write(path, |old| without(old, number))?;
    // The file was read with the strict parser before; it must say one rule less now.
    let left = load(path)?.rules.len();
    if left + 1 != policy.rules.len() {
        let message = format!("{} is written in a way that this cannot edit", path.display());
        return Err(Failure::new(Code::Failed, message, "remove the rule by hand"));
    }
    out.line(&format!("removed: {}", rule.describe()))
}

/// `text` without its `number`th `[[rules]]` block.
fn without(text: &str, number: usize) -> String {
    let mut seen = 0;
    text.split_inclusive('\n')
        .filter(|line| {
            let line = line.trim_start();
            if line.starts_with("[[") {
                seen += 1;
            }
            // Comments belong to what follows them as often as to what precedes: they stay.
            seen != number || line.starts_with('#')
        })
        .collect()
}

/// Replaces the file.
fn write(path: &Path, change: impl Fn(&str) -> String) -> Outcome {
    user_file::change(path, |old| Ok(change(old)), |_| Ok(()))
}

/// `text` as a TOML string.
fn quoted(text: &str) -> String {
    // JSON's escapes are TOML's, but for the ones JSON leaves out.
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_cut_out_and_comments_stay() {
        let text = "# mine\n[[rules]]\neffect = \"allow\"\n# note\ntool = \"a\"\n\n[[rules]]\ntool = \"b\"\n";
        assert_eq!(without(text, 1), "# mine\n# note\n[[rules]]\ntool = \"b\"\n");
        assert_eq!(without(text, 2), text.split_inclusive("\n\n").next().unwrap());
    }

    #[test]
    fn strings_survive_toml() {
        for text in ["cargo test", "a \"b\" \\ c", "ünï\u{7f}\n\t"] {
            let parsed = file::parse(&format!(
                "[[rules]]\neffect=\"deny\"\ntool=\"*\"\npattern={}",
                quoted(text)
            ));
            assert_eq!(parsed.unwrap().rules[0].pattern, text);
        }
    }
}
