//! Who may make a call: allowed by a rule, asked about, or denied.
//!
//! Deny wins over ask, ask wins over allow. Rules come from the user's own files; a
//! repository cannot add one. Called by the agent and the tool handler before a call is
//! handed to the host; the sandbox holds whatever policy lets through.

pub(crate) mod commands;
pub mod file;
pub mod mcp;
mod programs;
pub mod remember;
pub mod shell;

use std::path::Path;

use crate::call::ToolCall;
use crate::closed::{self, Closed};
use crate::exec::safe_fs;
use crate::sandbox::network::Network;
use crate::spec::{Class, ToolSpec};
use crate::workspace::Workspace;

/// The rules that stand without the user's: for tools that do nothing to the world, and for
/// files of the workspace.
pub const BUILT_IN: &str = "built-in";
pub const INSIDE: &str = "inside the workspace";

/// The answer, with the rule that gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Allow { rule: String },
    Ask { why: String },
    Deny { rule: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    Allow,
    Ask,
    Deny,
    /// Allows even what otherwise is always asked about: system changes, deployment,
    /// network, spending.
    Turbo,
}

impl Effect {
    fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
            Self::Turbo => "turbo",
        }
    }
}

/// One rule of the user's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Rule {
    pub effect: Effect,
    /// A tool's name, a class of tools (`read`, `write`, `execute`, `mcp`), or `*`.
    pub tool: String,
    /// For commands: the leading words that must match, `git status`. For files: a glob
    /// on the workspace-relative path; for MCP a glob on `server/tool`. Empty matches every
    /// call.
    #[serde(default)]
    pub pattern: String,
    /// With allow and turbo: hosts and local ports that what it covers may reach, as in
    /// [`Network::parse`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network: Vec<String>,
    /// Only in this workspace (an absolute path); in all when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workspace: String,
    /// Only in runs of this mode; everywhere when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mode: String,
    /// The pattern is the whole of what [`remember::pattern_of`] says of a call.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exact: bool,
}

impl Rule {
    /// The rule in a sentence: `allow execute_command 'git status'`.
    pub fn describe(&self) -> String {
        let mut text = format!("{} {}", self.effect.word(), self.tool);
        if !self.pattern.is_empty() {
            text = format!("{text} '{}'", self.pattern);
        }
        if !self.network.is_empty() {
            text = format!("{text} with network {}", self.network.join(", "));
        }
        if self.exact {
            text.push_str(" exactly");
        }
        if !self.workspace.is_empty() {
            text = format!("{text} in {}", self.workspace);
        }
        if !self.mode.is_empty() {
            text = format!("{text} in the mode {}", self.mode);
        }
        text
    }

    /// What it lets calls reach. A rule that cannot be understood grants nothing.
    fn grants(&self) -> Network {
        match self.effect {
            Effect::Allow | Effect::Turbo => Network::parse(&self.network).unwrap_or_default(),
            Effect::Ask | Effect::Deny => Network::default(),
        }
    }

    fn is_in(&self, root: &Path) -> bool {
        self.workspace.is_empty() || Path::new(&self.workspace) == root
    }

    fn is_for(&self, spec: &ToolSpec) -> bool {
        self.tool == "*" || self.tool == spec.name || spec.class.word() == Some(&self.tool)
    }
}

/// The user's rules on top of the defaults: reading and writing inside the workspace is
/// allowed, commands and MCP calls are asked about.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Policy {
    pub rules: Vec<Rule>,
}

impl Policy {
    /// The rules as they stand in a mode; outside of runs there is none.
    #[must_use]
    pub fn in_mode(mut self, mode: &str) -> Self {
        self.rules.retain(|r| r.mode.is_empty() || r.mode == mode);
        self
    }

    /// What the rules let a call reach without being asked. A repository has no say in it, and
    /// neither has a rule for one call.
    pub fn network(&self, spec: &ToolSpec, call: &ToolCall, workspace: &Workspace) -> Network {
        let wide = |r: &&Rule| r.is_for(spec) && r.is_in(workspace.root()) && !r.exact;
        let rules: Vec<&Rule> = self.rules.iter().filter(wide).collect();
        match spec.name {
            "execute_command" => commands::network(&rules, call),
            _ => rules
                .iter()
                .filter(|r| r.pattern.is_empty())
                .fold(Network::default(), |all, rule| all.with(&rule.grants())),
        }
    }

    /// The paths that rules deny to a call of `spec`, or to whatever runs when there is none. A
    /// rule for `*`, for `read` or for `read_file` is about all that reads, one for `*` or for
    /// `write` about all that writes; one for another tool is about that tool.
    pub fn closed(&self, spec: Option<&ToolSpec>, root: &Path) -> Closed {
        let denies = |r: &&Rule| r.effect == Effect::Deny && !r.exact && r.is_in(root);
        let own = |r: &Rule, class: Class| {
            spec.is_some_and(|spec| spec.class == class && r.tool == spec.name)
        };
        let rules = self.rules.iter().filter(denies);
        let read = rules.clone().filter(|r| {
            matches!(r.tool.as_str(), "*" | "read" | "read_file") || own(r, Class::Read)
        });
        let write =
            rules.filter(|r| matches!(r.tool.as_str(), "*" | "write") || own(r, Class::Write));
        Closed::of(root, read, write)
    }

    pub fn decide(&self, spec: &ToolSpec, call: &ToolCall, workspace: &Workspace) -> Verdict {
        let here = self.rules.iter().filter(|r| r.is_for(spec) && r.is_in(workspace.root()));
        let (exact, rules): (Vec<&Rule>, Vec<&Rule>) = here.partition(|r| r.exact);
        let verdict = Self::by_class(&rules, spec, call, workspace);
        remember::over(verdict, &exact, &rules, spec, call)
    }

    fn by_class(
        rules: &[&Rule],
        spec: &ToolSpec,
        call: &ToolCall,
        workspace: &Workspace,
    ) -> Verdict {
        match spec.class {
            Class::Execute if spec.name == "execute_command" => commands::decide(rules, call),
            Class::Write if spec.name == "generate_image" => {
                spend(rules, files(rules, spec.class, call, workspace))
            }
            Class::Read | Class::Write => files(rules, spec.class, call, workspace),
            Class::Execute if spec.name == "browser_action" => browser(rules, call, workspace),
            Class::None | Class::Mode | Class::Subtask => plain(rules, BUILT_IN, true),
            Class::Mcp => mcp::decide(rules, call),
            Class::Execute => plain(rules, "", false),
        }
    }
}

/// What costs money is asked about, unless a turbo rule covers it.
fn spend(rules: &[&Rule], as_file: Verdict) -> Verdict {
    match as_file {
        Verdict::Allow { rule } => {
            if rules.iter().any(|r| r.effect == Effect::Turbo && r.describe() == rule) {
                return Verdict::Allow { rule };
            }
            let turbo = rules.iter().find(|r| r.effect == Effect::Turbo && r.pattern.is_empty());
            match turbo {
                Some(rule) => Verdict::Allow { rule: rule.describe() },
                None => Verdict::Ask { why: "it may spend money".into() },
            }
        }
        other => other,
    }
}

/// A launch is judged by what it opens; the browser that is open was agreed to.
fn browser(rules: &[&Rule], call: &ToolCall, workspace: &Workspace) -> Verdict {
    let launch = call.text("action") == "launch";
    match plain(rules, "the run's own browser", !launch) {
        Verdict::Deny { rule } => return Verdict::Deny { rule },
        Verdict::Ask { why } if !launch || rules.iter().any(|r| r.effect == Effect::Ask) => {
            return Verdict::Ask { why };
        }
        verdict if !launch => return verdict,
        _ => {}
    }
    let wanted = match crate::browser::address(call.text("url"), workspace.root()) {
        Ok(wanted) => wanted,
        Err(why) => return Verdict::Deny { rule: why },
    };
    let whole = rules.iter().filter(|r| r.pattern.is_empty());
    for rule in whole.clone() {
        let granted = match rule.effect {
            Effect::Turbo => true,
            Effect::Allow => rule.grants().covers(&wanted),
            Effect::Ask | Effect::Deny => false,
        };
        if granted {
            return Verdict::Allow { rule: rule.describe() };
        }
    }
    let what = if wanted.is_off() { call.text("url").to_owned() } else { wanted.to_string() };
    Verdict::Ask { why: format!("it opens {what} in a browser") }
}

/// Rules without a pattern only.
fn plain(rules: &[&Rule], default: &str, allowed: bool) -> Verdict {
    let whole: Vec<&&Rule> = rules.iter().filter(|r| r.pattern.is_empty()).collect();
    if let Some(rule) = whole.iter().find(|r| r.effect == Effect::Deny) {
        return Verdict::Deny { rule: rule.describe() };
    }
    if let Some(rule) = whole.iter().find(|r| r.effect == Effect::Ask) {
        return Verdict::Ask { why: rule.describe() };
    }
    if let Some(rule) = whole.iter().find(|r| matches!(r.effect, Effect::Allow | Effect::Turbo)) {
        return Verdict::Allow { rule: rule.describe() };
    }
    if allowed {
        Verdict::Allow { rule: default.into() }
    } else {
        Verdict::Ask { why: "no rule allows it".into() }
    }
}

fn files(rules: &[&Rule], class: Class, call: &ToolCall, workspace: &Workspace) -> Verdict {
    let root = workspace.root();
    let mut paths = Vec::new();
    let image = Some(call.text("image")).filter(|path| !path.is_empty());
    let patched = crate::edit::patch_paths(call);
    for path in call.paths().into_iter().chain(image).chain(patched.iter().map(AsRef::as_ref)) {
        match safe_fs::relative(root, path) {
            Ok(path) => {
                // Where a symlink of the workspace leads counts as well.
                let real = root.join(&path).canonicalize().ok();
                let real = real.and_then(|p| p.strip_prefix(root).map(Path::to_owned).ok());
                paths.extend(real.filter(|real| *real != path));
                paths.push(path);
            }
            Err(why) => return Verdict::Deny { rule: why },
        }
    }
    let hit = |effect: Effect, path: Option<&Path>| {
        rules.iter().find(|r| r.effect == effect && matches(r, path))
    };
    let each: Vec<Option<&Path>> = if paths.is_empty() {
        vec![None]
    } else {
        paths.iter().map(|p| Some(p.as_path())).collect()
    };
    let denies = |r: &&&Rule| r.effect == Effect::Deny;
    if let Some(rule) = rules.iter().filter(denies).find(|r| r.pattern.is_empty()) {
        return Verdict::Deny { rule: rule.describe() };
    }
    let denying = rules.iter().filter(denies).copied();
    let closed = closed::Paths::of(&closed::patterns(root, denying));
    if let Some(rule) = paths.iter().find_map(|path| closed.rule_for(path)) {
        return Verdict::Deny { rule: rule.to_owned() };
    }
    for path in &each {
        if let Some(rule) = hit(Effect::Ask, *path) {
            return Verdict::Ask { why: rule.describe() };
        }
    }
    let named =
        each.iter().filter_map(|p| hit(Effect::Allow, *p).or_else(|| hit(Effect::Turbo, *p)));
    let rule = named.map(|r| r.describe()).next();
    // With other rules of git's, files that hold secrets would be open to the next call.
    let is_gate = |path: &std::path::PathBuf| path.file_name().is_some_and(|n| n == ".gitignore");
    if rule.is_none() && class == Class::Write && paths.iter().any(is_gate) {
        return Verdict::Ask { why: "it changes which files tools may read".into() };
    }
    Verdict::Allow { rule: rule.unwrap_or_else(|| INSIDE.into()) }
}

fn matches(rule: &Rule, path: Option<&Path>) -> bool {
    if rule.pattern.is_empty() {
        return true;
    }
    let Some(path) = path else { return false };
    let pattern = rule.pattern.trim_start_matches("./");
    let anywhere = if pattern.contains('/') { pattern.to_owned() } else { format!("**/{pattern}") };
    match globset::GlobBuilder::new(&anywhere)
        .literal_separator(true)
        .case_insensitive(true)
        .build()
    {
        Ok(glob) => glob.compile_matcher().is_match(path),
        // A rule that cannot be understood must not widen, and must not be lost.
        Err(_) => rule.effect == Effect::Ask,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec;

    impl Policy {
        /// Rules of an effect, a tool and a pattern, for everywhere.
        pub(crate) fn of(rules: &[(Effect, &str, &str)]) -> Self {
            let rule = |(effect, tool, pattern): &(Effect, &str, &str)| Rule {
                effect: *effect,
                tool: (*tool).into(),
                pattern: (*pattern).into(),
                network: Vec::new(),
                workspace: String::new(),
                mode: String::new(),
                exact: false,
            };
            Self { rules: rules.iter().map(rule).collect() }
        }
    }

    fn decide(rules: &[(Effect, &str, &str)], call: &ToolCall) -> Verdict {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspace::new(dir.path()).unwrap();
        Policy::of(rules).decide(spec::find(&call.name).unwrap(), call, &workspace)
    }

    fn read(path: &str) -> ToolCall {
        ToolCall::new("1", "read_file").with("path", path)
    }

    #[test]
    fn files_inside_are_allowed_and_outside_denied() {
        assert!(matches!(decide(&[], &read("a/b")), Verdict::Allow { .. }));
        assert!(matches!(decide(&[], &read("../b")), Verdict::Deny { .. }));
        assert!(matches!(decide(&[], &read("/etc/passwd")), Verdict::Deny { .. }));
    }

    /// Each of these got past a rule by another name of the same file.
    #[test]
    fn other_names_of_a_file_are_judged_too() {
        let patch = |path: &str| {
            let text = format!("*** Begin Patch\n*** Delete File: {path}\n*** End Patch\n");
            ToolCall::new("1", "apply_patch").with("patch", text)
        };
        let rules = [(Effect::Deny, "*", "migrations/**")];
        for path in ["migrations/1.sql", "./migrations/1.sql", "x/../migrations/1.sql"] {
            let verdict = decide(&rules, &patch(path));
            assert!(matches!(verdict, Verdict::Deny { .. }), "{path}: {verdict:?}");
        }
        assert!(matches!(decide(&[], &patch("../x")), Verdict::Deny { .. }));
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("migrations")).unwrap();
        std::fs::write(dir.path().join("migrations/1.sql"), "").unwrap();
        std::os::unix::fs::symlink("migrations", dir.path().join("docs")).unwrap();
        let workspace = Workspace::new(dir.path()).unwrap();
        let spec = spec::find("read_file").unwrap();
        let verdict = Policy::of(&rules).decide(spec, &read("docs/1.sql"), &workspace);
        assert!(matches!(verdict, Verdict::Deny { .. }), "{verdict:?}");
    }

    #[test]
    fn what_decides_which_files_are_read_is_asked_about() {
        let write =
            |path: &str| ToolCall::new("1", "write_to_file").with("path", path).with("content", "");
        for path in [".gitignore", "sub/.gitignore"] {
            let verdict = decide(&[], &write(path));
            assert!(matches!(verdict, Verdict::Ask { .. }), "{path}: {verdict:?}");
        }
        let allowed = [(Effect::Allow, "write", ".gitignore")];
        assert!(matches!(decide(&allowed, &write(".gitignore")), Verdict::Allow { .. }));
        assert!(matches!(decide(&[], &read(".gitignore")), Verdict::Allow { .. }));
    }

    #[test]
    fn what_costs_money_is_asked_about_unless_a_turbo_rule_covers_it() {
        let call = ToolCall::new("1", "generate_image").with("path", "a.png").with("prompt", "x");
        assert!(matches!(decide(&[], &call), Verdict::Ask { why } if why.contains("money")));
        let allow = [(Effect::Allow, "*", "")];
        assert!(matches!(decide(&allow, &call), Verdict::Ask { .. }));
        for pattern in ["", "*.png"] {
            let turbo = [(Effect::Turbo, "generate_image", pattern)];
            assert!(matches!(decide(&turbo, &call), Verdict::Allow { .. }), "{pattern}");
        }
        let deny = [(Effect::Turbo, "*", ""), (Effect::Deny, "generate_image", "")];
        assert!(matches!(decide(&deny, &call), Verdict::Deny { .. }));
        let secret = [(Effect::Turbo, "*", ""), (Effect::Deny, "*", "secret/**")];
        let from = call.clone().with("image", "secret/x.png");
        assert!(matches!(decide(&secret, &from), Verdict::Deny { .. }));
        let outside = call.with("path", "../a.png");
        assert!(matches!(decide(&[], &outside), Verdict::Deny { .. }));
    }

    #[test]
    fn a_rule_for_a_class_covers_its_tools_and_one_for_a_mode_its_runs() {
        use Effect::{Allow, Ask, Deny};
        let write = ToolCall::new("1", "edit").with("file_path", "a.rs");
        let make = ToolCall::new("1", "execute_command").with("command", "make");
        for (tool, call) in [("write", &write), ("execute", &make)] {
            assert!(matches!(decide(&[(Deny, tool, "")], call), Verdict::Deny { .. }), "{tool}");
            assert!(!matches!(decide(&[(Deny, "read", "")], call), Verdict::Deny { .. }));
        }
        assert!(matches!(decide(&[(Ask, "write", "*.rs")], &write), Verdict::Ask { .. }));
        assert!(matches!(decide(&[(Allow, "execute", "make")], &make), Verdict::Allow { .. }));
        let text = "[[rules]]\neffect=\"deny\"\ntool=\"write\"\nmode=\"debug\"";
        let policy = file::parse(text).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspace::new(dir.path()).unwrap();
        let spec = spec::find("edit").unwrap();
        for (mode, denied) in [("debug", true), ("code", false), ("", false)] {
            let verdict = policy.clone().in_mode(mode).decide(spec, &write, &workspace);
            assert_eq!(matches!(verdict, Verdict::Deny { .. }), denied, "{mode}");
        }
        assert_eq!(policy.rules[0].describe(), "deny write in the mode debug");
    }

    #[test]
    fn a_network_granted_in_one_workspace_holds_there() {
        let dir = tempfile::tempdir().unwrap();
        let here = Workspace::new(dir.path()).unwrap();
        let other = tempfile::tempdir().unwrap();
        let other = Workspace::new(other.path()).unwrap();
        let text = format!(
            "[[rules]]\neffect=\"allow\"\ntool=\"execute_command\"\npattern=\"cargo build\"\n\
             network=[\"crates.io\"]\nworkspace={:?}",
            here.root().to_str().unwrap()
        );
        let mut policy = file::parse(&text).unwrap();
        let spec = spec::find("execute_command").unwrap();
        let call = ToolCall::new("1", "execute_command").with("command", "cargo build");
        assert_eq!(policy.network(spec, &call, &here).to_string(), "crates.io");
        assert!(policy.network(spec, &call, &other).is_off());
        policy.rules[0].exact = true;
        assert!(policy.network(spec, &call, &here).is_off(), "a remembered answer grants none");
    }

    #[test]
    fn deny_wins_over_ask_and_ask_over_allow() {
        use Effect::{Allow, Ask, Deny};
        let rules = [(Allow, "*", ""), (Ask, "read_file", "*.rs"), (Deny, "*", "secret/**")];
        assert!(matches!(decide(&rules, &read("x.txt")), Verdict::Allow { .. }));
        assert!(matches!(decide(&rules, &read("a/x.rs")), Verdict::Ask { .. }));
        assert!(matches!(decide(&rules, &read("secret/x.rs")), Verdict::Deny { .. }));
        assert!(matches!(decide(&[(Deny, "*", "[")], &read("x")), Verdict::Deny { .. }));
        assert!(matches!(
            decide(&[(Allow, "*", "["), (Ask, "*", "")], &read("x")),
            Verdict::Ask { .. }
        ));
    }

    #[test]
    fn a_browser_is_asked_about_when_it_is_launched() {
        use Effect::{Allow, Ask, Deny, Turbo};
        let launch = |url: &str| {
            ToolCall::new("1", "browser_action").with("action", "launch").with("url", url)
        };
        let click = ToolCall::new("1", "browser_action").with("action", "click");
        let web = launch("https://a.com/x");
        let why = |verdict| match verdict {
            Verdict::Ask { why } => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(why(decide(&[], &web)), "it opens a.com:443 in a browser");
        assert_eq!(
            why(decide(&[(Allow, "browser_action", "")], &web)),
            "it opens a.com:443 in a browser"
        );
        assert!(matches!(decide(&[], &click), Verdict::Allow { .. }));
        assert!(matches!(decide(&[(Deny, "browser_action", "")], &click), Verdict::Deny { .. }));
        assert!(matches!(decide(&[(Ask, "browser_action", "")], &click), Verdict::Ask { .. }));
        assert!(matches!(decide(&[(Turbo, "*", "")], &web), Verdict::Allow { .. }));
        assert!(matches!(
            decide(&[(Turbo, "*", "")], &launch("file:///etc/passwd")),
            Verdict::Deny { .. }
        ));
        let granting = Policy {
            rules: vec![Rule {
                effect: Allow,
                tool: "browser_action".into(),
                pattern: String::new(),
                network: vec!["*.a.com".into(), "a.com".into()],
                workspace: String::new(),
                mode: String::new(),
                exact: false,
            }],
        };
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspace::new(dir.path()).unwrap();
        let spec = spec::find("browser_action").unwrap();
        assert!(matches!(granting.decide(spec, &web, &workspace), Verdict::Allow { .. }));
        assert!(matches!(
            granting.decide(spec, &launch("https://b.com"), &workspace),
            Verdict::Ask { .. }
        ));
    }
}
