//! Rules for command lines, judged word by word.

use super::programs::{GRAVE, LOOKERS, LOOKING, OPAQUE, RUNNERS, SHELLS, WRAPPERS, writes_or_runs};
use super::shell::{self, Simple};
use super::{Effect, Rule, Verdict};
use crate::call::ToolCall;
use crate::sandbox::network::Network;

/// The verdict on a command, with the network it asks for: what no rule grants is asked
/// about, unless a turbo rule allows the command.
pub(super) fn decide(rules: &[&Rule], call: &ToolCall) -> Verdict {
    let verdict = by_words(rules, call);
    let wanted = match Network::parse_list(call.text("network")) {
        Ok(wanted) => wanted,
        Err(why) => return Verdict::Deny { rule: format!("the parameter network: {why}") },
    };
    let Verdict::Allow { rule } = verdict else { return verdict };
    let turbo = rules.iter().any(|r| r.effect == Effect::Turbo && rule == r.describe());
    if wanted.is_off() || turbo || network(rules, call).covers(&wanted) {
        return Verdict::Allow { rule };
    }
    Verdict::Ask { why: format!("it asks for the network: {wanted}") }
}

/// What the rules let a command line reach: what every program in it may reach, since they
/// share one sandbox. Programs that only look have no use for it and do not count.
pub(super) fn network(rules: &[&Rule], call: &ToolCall) -> Network {
    let Ok(commands) = shell::parse(call.text("command")) else { return Network::default() };
    let mut judged = Vec::new();
    let mut opaque = None;
    for command in &commands {
        unwrap(command, &mut judged, &mut opaque, 0);
    }
    if opaque.is_some() {
        return Network::default();
    }
    let mut all: Option<Network> = None;
    for command in judged.iter().filter(|c| !c.assignments.is_empty() || !looks_only(c)) {
        // A variable can change what runs; then only a rule for everything counts.
        let free = command.assignments.is_empty();
        let own = rules
            .iter()
            .filter(|r| r.pattern.is_empty() || (free && covers(r, command, false)))
            .fold(Network::default(), |sum, rule| sum.with(&rule.grants()));
        all = Some(all.map_or(own.clone(), |all| all.common(&own)));
    }
    all.unwrap_or_default()
}

fn by_words(rules: &[&Rule], call: &ToolCall) -> Verdict {
    let line = call.text("command");
    let whole = |effect: Effect| rules.iter().find(|r| r.effect == effect && r.pattern.is_empty());
    if let Some(rule) = whole(Effect::Deny) {
        return Verdict::Deny { rule: rule.describe() };
    }
    let commands = match shell::parse(line) {
        Ok(commands) => commands,
        // Not understood: no rule with words may allow it, and one that denies could be
        // hidden in it.
        Err(unclear) => {
            if let Some(rule) = suspected(rules, line) {
                return Verdict::Deny { rule };
            }
            return match (whole(Effect::Ask), whole(Effect::Turbo)) {
                (None, Some(rule)) => Verdict::Allow { rule: rule.describe() },
                _ => Verdict::Ask {
                    why: format!("the command cannot be judged by rules: {unclear}"),
                },
            };
        }
    };
    if commands.is_empty() {
        return Verdict::Ask { why: "the command is empty".into() };
    }
    // What each would really run, behind wrappers and `sh -c`.
    let mut judged = Vec::new();
    let mut opaque = None;
    for command in &commands {
        unwrap(command, &mut judged, &mut opaque, 0);
    }
    // One that denies may be hidden in what cannot be judged.
    if opaque.is_some()
        && let Some(rule) = suspected(rules, line)
    {
        return Verdict::Deny { rule };
    }
    for rule in rules.iter().filter(|r| r.effect == Effect::Deny) {
        if judged.iter().chain(&commands).any(|c| covers(rule, c, true)) {
            return Verdict::Deny { rule: rule.describe() };
        }
    }
    for rule in rules.iter().filter(|r| r.effect == Effect::Ask) {
        if rule.pattern.is_empty() || judged.iter().chain(&commands).any(|c| covers(rule, c, true))
        {
            return Verdict::Ask { why: rule.describe() };
        }
    }
    if let Some(rule) = whole(Effect::Turbo) {
        return Verdict::Allow { rule: rule.describe() };
    }
    if let Some(why) = opaque {
        return Verdict::Ask { why };
    }
    let mut used: Vec<String> = Vec::new();
    for command in &judged {
        match allowed(rules, command) {
            Ok(rule) => {
                if !used.contains(&rule) {
                    used.push(rule);
                }
            }
            Err(why) => return Verdict::Ask { why },
        }
    }
    Verdict::Allow { rule: used.join(", ") }
}

/// Whether a command line holds something that is asked about every time, or may hold it.
pub(super) fn is_grave(line: &str) -> bool {
    let Ok(commands) = shell::parse(line) else { return true };
    let (mut judged, mut opaque) = (Vec::new(), None);
    for command in &commands {
        unwrap(command, &mut judged, &mut opaque, 0);
    }
    opaque.is_some() || judged.iter().chain(&commands).any(|c| grave(c).is_some())
}

/// Whether a command line does nothing but look, so that nothing needs to be kept for undo.
pub(crate) fn only_looks(line: &str) -> bool {
    shell::parse(line).is_ok_and(|commands| {
        commands.iter().all(|c| {
            c.assignments.is_empty() && !c.redirects.iter().any(is_written) && looks_only(c)
        })
    })
}

/// The rule that allows this one command, or why it must be asked about.
fn allowed(rules: &[&Rule], command: &Simple) -> Result<String, String> {
    let shown = || {
        let words: Vec<&str> = command.words.iter().map(|w| w.text.as_str()).collect();
        crate::call::one_line(&words.join(" "), 80)
    };
    if let Some(rule) =
        rules.iter().find(|r| r.effect == Effect::Turbo && covers(r, command, false))
    {
        return Ok(rule.describe());
    }
    if let Some(name) = command.assignments.first().and_then(|a| a.split('=').next()) {
        // PATH, LD_PRELOAD, GIT_SSH_COMMAND, …: a variable can change what runs.
        return Err(format!("'{}' sets the variable {name}", shown()));
    }
    if let Some((_, target)) = command.redirects.iter().find(|redirect| is_written(redirect)) {
        return Err(format!("'{}' writes to '{}'", shown(), target.text));
    }
    if let Some(why) = grave(command) {
        return Err(format!("'{}' {why}", shown()));
    }
    if let Some(rule) =
        rules.iter().find(|r| r.effect == Effect::Allow && covers(r, command, false))
    {
        return Ok(rule.describe());
    }
    if looks_only(command) {
        return Ok("built-in: only looks".into());
    }
    Err(format!("no rule allows '{}'", shown()))
}

fn grave(command: &Simple) -> Option<&'static str> {
    let name = base(&command.words.first()?.text);
    // Options may stand before the second word, so any word may be it.
    let with = |entry: &str| {
        entry.split_once(' ').is_some_and(|(program, second)| {
            program == name && command.words[1..].iter().any(|w| w.text == second)
        })
    };
    GRAVE
        .iter()
        .find(|(_, list)| list.iter().any(|entry| *entry == name || with(entry)))
        .map(|(why, _)| *why)
}

fn is_written((operator, target): &(String, shell::Word)) -> bool {
    operator.contains('>') && (target.dynamic || target.text != "/dev/null")
}

fn looks_only(command: &Simple) -> bool {
    let Some(first) = command.words.first() else { return true };
    if first.dynamic {
        return false;
    }
    let arguments = &command.words[1..];
    // Only the words are known here: a value from a variable or glob could be an option.
    if arguments.iter().any(|w| {
        w.splits || (w.dynamic && !w.text.starts_with(|c: char| c.is_alphanumeric() || c == '.'))
    }) {
        return false;
    }
    let texts: Vec<&str> = arguments.iter().map(|w| w.text.as_str()).collect();
    if writes_or_runs(&first.text, &texts) {
        return false;
    }
    LOOKERS.contains(&first.text.as_str())
        || arguments
            .first()
            .is_some_and(|second| LOOKING.iter().any(|l| l[0] == first.text && l[1] == second.text))
}

/// Whether a rule's words are the command's first words. When `wide`, for rules that
/// forbid: paths are reduced to names, and unknown words match.
fn covers(rule: &Rule, command: &Simple, wide: bool) -> bool {
    let pattern: Vec<&str> = rule.pattern.split_whitespace().collect();
    if pattern.is_empty() {
        // Nothing but a redirection or assignment is no program to allow.
        return !command.words.is_empty() || wide;
    }
    if wide {
        // Options between the words do not hide them: `git -C x push`.
        let mut words = command.words.iter().enumerate();
        return pattern.iter().all(|p| {
            words.any(|(i, w)| {
                let text = if i == 0 { base(&w.text) } else { w.text.as_str() };
                text == *p || (i == 0 && (w.text == *p || w.dynamic))
            })
        }) && command
            .words
            .first()
            .is_some_and(|w| w.dynamic || base(&w.text) == base(pattern[0]));
    }
    command.words.len() >= pattern.len()
        && pattern.iter().zip(&command.words).all(|(p, w)| !w.dynamic && w.text == *p)
}

fn base(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// A deny rule whose program is named anywhere in a line that cannot be taken apart.
fn suspected(rules: &[&Rule], line: &str) -> Option<String> {
    let words: Vec<&str> = line
        .split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '+')))
        .collect();
    rules
        .iter()
        .filter(|r| r.effect == Effect::Deny)
        .find(|r| r.pattern.split_whitespace().next().is_some_and(|p| words.contains(&base(p))))
        .map(|r| r.describe())
}

/// The text that a shell, or `eval`, is told to run by its arguments; `None` when that is not
/// sure.
fn shell_text(name: &str, arguments: &[shell::Word]) -> Option<String> {
    if arguments.iter().any(|w| w.dynamic) {
        return None;
    }
    if name == "eval" {
        // All of them, with blanks between.
        let texts: Vec<&str> = arguments.iter().map(|w| w.text.as_str()).collect();
        return texts.first().filter(|first| !first.starts_with('-')).map(|_| texts.join(" "));
    }
    if matches!(name, "source" | ".") {
        return None;
    }
    // Anything but these letters before the text may take it for something else: a file to run.
    for (at, word) in arguments.iter().enumerate() {
        let options = word.text.strip_prefix('-')?;
        if options.is_empty() || !options.chars().all(|c| "eulxvnc".contains(c)) {
            return None;
        }
        if options.contains('c') {
            let text = arguments.get(at + 1)?;
            return (!text.text.starts_with('-')).then(|| text.text.clone());
        }
    }
    None
}

/// Adds what `command` runs: itself, or what it wraps.
fn unwrap(command: &Simple, out: &mut Vec<Simple>, opaque: &mut Option<String>, depth: usize) {
    let Some(first) = command.words.first() else {
        out.push(command.clone());
        return;
    };
    let name = base(&first.text).to_owned();
    if first.dynamic {
        *opaque = Some(format!("the program '{}' is not known before it runs", first.text));
        return;
    }
    if OPAQUE.contains(&name.as_str()) {
        *opaque = Some(format!("'{name}' takes text that rules cannot judge"));
    }
    if depth < 8 && SHELLS.contains(&name.as_str()) {
        match shell_text(&name, &command.words[1..]).map(|text| shell::parse(&text)) {
            Some(Ok(inner)) => {
                for command in &inner {
                    unwrap(command, out, opaque, depth + 1);
                }
                // What it wrote or set around the inner command still counts.
                if !command.redirects.is_empty() || !command.assignments.is_empty() {
                    out.push(Simple { words: Vec::new(), ..command.clone() });
                }
            }
            _ => {
                *opaque = Some(format!("'{name}' runs text that rules cannot judge"));
                out.push(command.clone());
            }
        }
        return;
    }
    if depth < 8 && RUNNERS.contains(&name.as_str()) {
        let at = command.words.iter().skip(1).position(|w| !w.text.starts_with('-'));
        out.push(command.clone());
        if let Some(at) = at {
            let inner = Simple { words: command.words[at + 1..].to_vec(), ..command.clone() };
            unwrap(&inner, out, opaque, depth + 1);
        }
        return;
    }
    if depth < 8 && name == "find" {
        let is_run =
            |w: &shell::Word| matches!(w.text.as_str(), "-exec" | "-execdir" | "-ok" | "-okdir");
        for (at, _) in command.words.iter().enumerate().filter(|(_, w)| is_run(w)) {
            let rest = &command.words[at + 1..];
            let end = rest.iter().position(|w| w.text == ";" || w.text == "+");
            let words = rest[..end.unwrap_or(rest.len())].to_vec();
            unwrap(&Simple { words, ..Simple::default() }, out, opaque, depth + 1);
        }
    }
    if depth < 8 && WRAPPERS.contains(&name.as_str()) {
        let rest = &command.words[1..];
        // Options and their values cannot be told from the program without knowing each
        // wrapper; the first plain word is taken, and any option makes it a question.
        let skip = rest.iter().position(|w| {
            !(w.text.starts_with('-')
                || w.text.contains('=')
                || w.text.starts_with(|c: char| c.is_ascii_digit()))
        });
        if rest.iter().take(skip.unwrap_or(rest.len())).next().is_some() {
            *opaque = Some(format!("'{name}' with options runs another program"));
        }
        if let Some(at) = skip {
            let inner = Simple { words: rest[at..].to_vec(), ..command.clone() };
            unwrap(&inner, out, opaque, depth + 1);
            return;
        }
    }
    out.push(command.clone());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(rules: &[(Effect, &str)], line: &str) -> Verdict {
        let rules: Vec<Rule> = rules
            .iter()
            .map(|(effect, pattern)| Rule {
                effect: *effect,
                tool: "execute_command".into(),
                pattern: (*pattern).into(),
                network: Vec::new(),
                workspace: String::new(),
                mode: String::new(),
                exact: false,
            })
            .collect();
        let rules: Vec<&Rule> = rules.iter().collect();
        super::decide(&rules, &ToolCall::new("1", "execute_command").with("command", line))
    }

    fn is_allowed(rules: &[(Effect, &str)], line: &str) -> bool {
        matches!(decide(rules, line), Verdict::Allow { .. })
    }

    fn is_denied(rules: &[(Effect, &str)], line: &str) -> bool {
        matches!(decide(rules, line), Verdict::Deny { .. })
    }

    #[test]
    fn words_have_boundaries() {
        let rules = [(Effect::Allow, "git stash"), (Effect::Allow, "make")];
        for good in
            ["git stash", "git stash pop", "make -j2", "make; git stash", "(make) 2>/dev/null"]
        {
            assert!(is_allowed(&rules, good), "{good}: {:?}", decide(&rules, good));
        }
        for bad in [
            "git stashx",
            "git",
            "makefile",
            "gitstash",
            "./make",
            "git 'stash pop'",
            "make && rm x",
            "make | sh",
            "make $(rm x)",
            "make `rm x`",
            "make > /etc/x",
            "PATH=. make",
            "$X stash",
            "git $X",
            "make\nrm x",
            "make & rm x",
            "make || rm x",
            "make <(rm x)",
            "",
            "for i in 1; do make; done",
            "make 'x",
        ] {
            assert!(!is_allowed(&rules, bad), "{bad}");
        }
    }

    #[test]
    fn deny_wins_wherever_it_hides() {
        let rules = [
            (Effect::Allow, ""),
            (Effect::Turbo, ""),
            (Effect::Deny, "rm"),
            (Effect::Deny, "git push"),
        ];
        for bad in [
            "rm x",
            "ls; rm x",
            "ls && /bin/rm x",
            "echo $(rm x)",
            "sh -c 'rm x'",
            "env rm x",
            "bash -lc \"ls; rm x\"",
            "nohup rm x",
            "find . | xargs rm",
            "env A=1 rm x",
            "timeout 5 rm x",
            "r'm' x",
            "\\rm x",
            "git push",
            "git -C . push origin",
            "eval 'rm x'",
            "for i in a; do rm $i; done",
            "$RM x",
            "(cd a; rm x)",
            "{ rm x; }",
            "if true; then rm x; fi",
        ] {
            assert!(is_denied(&rules, bad), "{bad}: {:?}", decide(&rules, bad));
        }
        for good in ["ls", "rmdir x", "git status", "cargo rmx", "grep push x"] {
            assert!(is_allowed(&rules, good), "{good}: {:?}", decide(&rules, good));
        }
    }

    /// Each of these ran something, or wrote a file, that no rule had allowed.
    #[test]
    fn what_only_seems_to_look_or_to_be_allowed() {
        let rules = [(Effect::Allow, "make"), (Effect::Allow, "ls")];
        for bad in [
            // A file of the workspace is run; the text behind -c is its argument.
            "bash evil.sh -c ls",
            "sh ./evil -c make",
            ". ./evil -c ls",
            "source evil -c ls",
            "bash --norc ls",
            "bash --norc make",
            "bash --rcfile evil -c ls",
            "bash -o posix ls",
            "bash -c -x ls",
            "fish -C 'touch x' -c ls",
            // Only the first argument was judged.
            "eval ls '; touch x'",
            "eval 'touch x' -c ls",
            // Indices are evaluated, variables set.
            "test -v 'a[$(touch x)]'",
            "[ -v 'a[`touch x`]' ]",
            "printf -v 'a[$(touch x)]' y",
            "printf -v PATH .; make",
            "printf -vPATH .; make",
            // Options by their beginnings, in clusters, from substitutions.
            "sort --compress-prog=./evil -S1k big",
            "sort --outp=x y",
            "sort -uo x y",
            "sort a$(echo ' -o x')",
            "tree -aR -L 1",
            "uniq a b",
            "file -C -m x",
            "git log --outp=x",
            "cat x >/dev/null$(echo /../x)",
            // Text from elsewhere.
            "echo 'touch x' | script ls",
            "trap 'touch x' EXIT",
            // The workspace's own configuration names programs for it.
            "cargo metadata",
            "cargo tree",
        ] {
            assert!(!is_allowed(&rules, bad), "{bad}: {:?}", decide(&rules, bad));
            assert!(!only_looks(bad), "{bad}");
        }
        for good in [
            "bash -c ls",
            "bash -lc 'ls; make'",
            "sh -e -u -c 'make -j2'",
            "eval make",
            "test -f x",
            "[ -d src ]",
            "printf '%s\\n' x",
            "sort -u x",
            "grep -o x y",
            "grep -s x y",
            "uniq -c x",
            "date +%s",
            "git log --oneline -n 5",
        ] {
            assert!(is_allowed(&rules, good), "{good}: {:?}", decide(&rules, good));
        }
    }

    #[test]
    fn a_denied_program_is_found_behind_others() {
        let rules = [(Effect::Allow, ""), (Effect::Turbo, ""), (Effect::Deny, "rm")];
        for bad in [
            "env -S 'rm x'",
            "find . -name x -exec rm {} +",
            "find . -exec sh -c 'rm x' \\;",
            "sudo rm x",
            "watch -n1 rm x",
            "npx rm x",
            "trap 'rm x' EXIT",
            "bash script.sh rm",
            "eval r m x '; rm x'",
            "xargs -n1 rm",
        ] {
            assert!(is_denied(&rules, bad), "{bad}: {:?}", decide(&rules, bad));
        }
        for good in ["find . -name rm.txt", "sudo ls", "npx tsc"] {
            assert!(is_allowed(&rules, good), "{good}: {:?}", decide(&rules, good));
        }
    }

    #[test]
    fn grave_commands_need_turbo() {
        for line in [
            "sudo ls",
            "git push",
            "curl x",
            "terraform apply",
            "npm publish",
            "aws s3 ls",
            "git -c x=y push",
        ] {
            assert!(!is_allowed(&[(Effect::Allow, ""), (Effect::Allow, "git")], line), "{line}");
            assert!(is_allowed(&[(Effect::Turbo, "")], line), "{line}");
        }
        assert!(is_allowed(&[(Effect::Turbo, "git push")], "git push origin main"));
        assert!(!is_allowed(&[(Effect::Turbo, "git push")], "git push origin main; curl x"));
        assert!(!is_allowed(&[(Effect::Turbo, ""), (Effect::Ask, "curl")], "curl x"));
    }

    #[test]
    fn containers_infrastructure_and_clouds_are_asked_about() {
        for (line, why) in [
            ("docker run --rm -v /:/host alpine", "deploys or publishes"),
            ("docker compose up -d", "deploys or publishes"),
            ("sudo docker ps", "changes the system"),
            ("terraform plan", "deploys or publishes"),
            ("terraform -chdir=infra apply -auto-approve", "deploys or publishes"),
            ("aws s3 rm s3://bucket --recursive", "may spend money"),
            ("AWS_PROFILE=prod aws sts get-caller-identity", "sets the variable AWS_PROFILE"),
            ("cd infra && terraform destroy", "deploys or publishes"),
            ("env aws ec2 run-instances", "may spend money"),
            ("sh -c 'docker push x'", "deploys or publishes"),
        ] {
            let rules = [(Effect::Allow, ""), (Effect::Allow, "docker"), (Effect::Allow, "aws")];
            match decide(&rules, line) {
                Verdict::Ask { why: got } => assert!(got.contains(why), "{line}: {got}"),
                other => panic!("{line}: {other:?}"),
            }
            let turbo = [(Effect::Turbo, "")];
            assert!(is_allowed(&turbo, line), "{line}");
        }
        assert!(is_denied(
            &[(Effect::Turbo, ""), (Effect::Deny, "terraform destroy")],
            "cd i && terraform destroy"
        ));
        assert!(is_denied(&[(Effect::Turbo, ""), (Effect::Deny, "aws")], "xargs aws s3 rm"));
    }

    fn granting(rules: &[(Effect, &str, &[&str])], line: &str) -> String {
        let rules: Vec<Rule> = rules
            .iter()
            .map(|(effect, pattern, network)| Rule {
                effect: *effect,
                tool: "execute_command".into(),
                pattern: (*pattern).into(),
                network: network.iter().map(|n| (*n).to_owned()).collect(),
                workspace: String::new(),
                mode: String::new(),
                exact: false,
            })
            .collect();
        let rules: Vec<&Rule> = rules.iter().collect();
        let call = ToolCall::new("1", "execute_command").with("command", line);
        super::network(&rules, &call).to_string()
    }

    #[test]
    fn a_rule_grants_its_hosts_to_its_command_alone() {
        let rules: &[(Effect, &str, &[&str])] = &[
            (Effect::Allow, "cargo build", &["crates.io", "*.crates.io"]),
            (Effect::Allow, "cargo", &["static.crates.io", "localhost:1"]),
            (Effect::Allow, "make", &[]),
            (Effect::Deny, "rm", &["evil.com"]),
        ];
        for line in ["cargo build -q", "cd x && cargo build", "cargo build | head"] {
            assert_eq!(
                granting(rules, line),
                "crates.io, *.crates.io, static.crates.io, localhost:1",
                "{line}"
            );
        }
        assert_eq!(granting(rules, "cargo test; cargo build"), "static.crates.io, localhost:1");
        for line in [
            "make",
            "cargo build; make",
            "cargo build && python3 x.py",
            "cargo build | sh",
            "cargo build $(python3 x.py)",
            "rm x",
            "ls",
            "CARGO_HOME=. cargo build",
            "cargo build 'x",
        ] {
            assert_eq!(granting(rules, line), "no network", "{line}");
        }
    }

    #[test]
    fn a_network_no_rule_grants_is_asked_about() {
        let rule = |effect, network: &[&str]| Rule {
            effect,
            tool: "execute_command".into(),
            pattern: "make".into(),
            network: network.iter().map(|n| (*n).to_owned()).collect(),
            workspace: String::new(),
            mode: String::new(),
            exact: false,
        };
        let ask = |rule: &Rule, network: &str| {
            let call = ToolCall::new("1", "execute_command").with("command", "make");
            super::decide(&[rule], &call.with("network", network))
        };
        let allow = rule(Effect::Allow, &["*.example.com"]);
        assert!(matches!(ask(&allow, ""), Verdict::Allow { .. }));
        assert!(matches!(ask(&allow, "a.example.com"), Verdict::Allow { .. }));
        assert!(
            matches!(ask(&allow, "a.example.com localhost:80"), Verdict::Ask { why } if why.contains("localhost:80"))
        );
        assert!(matches!(ask(&allow, "169.254.169.254"), Verdict::Deny { .. }));
        assert!(matches!(ask(&rule(Effect::Turbo, &[]), "evil.com"), Verdict::Allow { .. }));
        assert!(matches!(ask(&rule(Effect::Ask, &[]), "a.example.com"), Verdict::Ask { .. }));
    }

    #[test]
    fn looking_needs_no_rule() {
        for line in [
            "ls -la",
            "git status",
            "git log --oneline | head -5",
            "grep -rn x src 2>/dev/null",
            "cat a.rs src/*.rs",
        ] {
            assert!(is_allowed(&[], line), "{line}: {:?}", decide(&[], line));
        }
        for line in [
            "git diff --output=x",
            "sort -o x y",
            "cat x > y",
            "git commit",
            "cargo build",
            "python3 x.py",
            "git diff --ext-diff",
            "ls $X",
            "tee x",
        ] {
            assert!(!is_allowed(&[], line), "{line}");
        }
    }
}
