//! Modes: the roles an agent works in. Each has words for the system prompt and the classes of
//! tools it may use; four are built in, others stand in the user's `config.toml`. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use lapce_ai_tools::call::ToolCall;
use lapce_ai_tools::edit;
use lapce_ai_tools::spec::{Class, ToolSpec};

use crate::config::{Config, ModeConfig, ToolClass};

/// The mode a run begins in when nobody says otherwise.
pub const DEFAULT: &str = "code";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mode {
    pub slug: String,
    /// One line: what it is for.
    pub summary: String,
    /// Added to the system prompt.
    pub prompt: String,
    allow: BTreeSet<ToolClass>,
    /// Writing tools change only files that match this glob; empty for all.
    files: String,
}

/// `(slug, summary, prompt, allowed classes, files)`.
type BuiltIn = (&'static str, &'static str, &'static str, &'static [ToolClass], &'static str);

const ALL: &[ToolClass] = &[ToolClass::Read, ToolClass::Write, ToolClass::Execute, ToolClass::Mcp];

const BUILT_IN: &[BuiltIn] = &[
    (
        "code",
        "Write, change and check code",
        "You change code: make the smallest change that does the whole task, and check it by \
         building and testing where that is possible.",
        ALL,
        "",
    ),
    (
        "architect",
        "Plan before code changes; writes Markdown only",
        "You plan. Find out how things are, ask what is unclear, and write down a plan in steps \
         that another can carry out. You may write Markdown files, no code.",
        &[ToolClass::Read, ToolClass::Write, ToolClass::Mcp],
        "**/*.md",
    ),
    (
        "ask",
        "Answer questions; changes nothing",
        "You answer questions about the workspace. You change nothing. Name the places you rely \
         on as path:line.",
        &[ToolClass::Read, ToolClass::Mcp],
        "",
    ),
    (
        "debug",
        "Find the cause of a fault, then mend it",
        "You look for the cause of a fault. Reproduce it, form a few hypotheses, test the \
         likeliest first, and only then change something. Show that the fault is gone.",
        ALL,
        "",
    ),
];

impl Mode {
    fn built_in((slug, summary, prompt, allow, files): &BuiltIn) -> Self {
        Self {
            slug: (*slug).into(),
            summary: (*summary).into(),
            prompt: (*prompt).into(),
            allow: allow.iter().copied().collect(),
            files: (*files).into(),
        }
    }

    fn users(slug: &str, config: &ModeConfig) -> Self {
        Self {
            slug: slug.to_owned(),
            summary: lapce_ai_tools::call::one_line(&config.summary, 120),
            prompt: config.prompt.trim().to_owned(),
            allow: config.allow.iter().copied().collect(),
            files: config.files.clone(),
        }
    }

    /// Whether a tool is offered in this mode.
    pub fn offers(&self, spec: &ToolSpec) -> bool {
        match class(spec.class) {
            Some(class) => self.allow.contains(&class),
            None => true,
        }
    }

    /// Why a call of an offered tool is not for this mode, if it is not.
    pub fn refuses(&self, spec: &ToolSpec, call: &ToolCall) -> Option<String> {
        if spec.class != Class::Write || self.files.is_empty() {
            return None;
        }
        let mut paths: Vec<String> = call.paths().into_iter().map(str::to_owned).collect();
        paths.extend(edit::patch_paths(call));
        let glob = globset::GlobBuilder::new(&self.files).literal_separator(true).build().ok();
        let glob = glob.map(|glob| glob.compile_matcher());
        let fits = |path: &String| {
            let path = path.trim().trim_start_matches("./");
            glob.as_ref().is_some_and(|glob| glob.is_match(path))
        };
        let other = paths.iter().find(|path| !fits(path))?;
        Some(format!(
            "in the mode '{}' only files that match {} are changed, and '{other}' does not",
            self.slug, self.files
        ))
    }

    /// Whether this mode may do something that `other` may not.
    pub fn is_wider_than(&self, other: &Self) -> bool {
        !self.allow.is_subset(&other.allow)
            || (self.allow.contains(&ToolClass::Write)
                && self.files != other.files
                && !other.files.is_empty())
    }
}

fn class(class: Class) -> Option<ToolClass> {
    match class {
        Class::Read => Some(ToolClass::Read),
        Class::Write => Some(ToolClass::Write),
        Class::Execute => Some(ToolClass::Execute),
        Class::Mcp => Some(ToolClass::Mcp),
        Class::Mode | Class::Subtask | Class::None => None,
    }
}

/// Every mode: the built-in ones, each replaced by the user's of the same name, then the rest.
pub fn all(config: &Config) -> Vec<Mode> {
    let built_in = BUILT_IN.iter().map(|mode| match config.modes.get(mode.0) {
        Some(users) => Mode::users(mode.0, users),
        None => Mode::built_in(mode),
    });
    let others = config.modes.iter().filter(|(slug, _)| BUILT_IN.iter().all(|b| b.0 != *slug));
    built_in.chain(others.map(|(slug, config)| Mode::users(slug, config))).collect()
}

/// The mode called `slug`. An error names those there are.
pub fn find(config: &Config, slug: &str) -> Result<Mode, String> {
    let slug = slug.trim();
    let all = all(config);
    if let Some(mode) = all.iter().find(|mode| mode.slug == slug) {
        return Ok(mode.clone());
    }
    let names: Vec<&str> = all.iter().map(|mode| mode.slug.as_str()).collect();
    Err(format!("there is no mode {slug:?}; there are: {}", names.join(", ")))
}

/// The section of a system prompt about modes.
pub fn section(config: &Config, now: &Mode) -> String {
    let mut text = format!("\nMode: {}. {}\n", now.slug, now.prompt);
    if !now.files.is_empty() {
        let _ = writeln!(text, "In this mode only files that match {} are changed.", now.files);
    }
    text.push_str("\nOther modes (switch_mode, new_task):\n");
    for mode in all(config).iter().filter(|mode| mode.slug != now.slug) {
        let _ = writeln!(text, "- {}: {}", mode.slug, mode.summary);
    }
    text
}

#[cfg(test)]
mod tests {
    use lapce_ai_tools::spec;

    use super::*;

    fn config() -> Config {
        Config::parse(
            "[modes.review]\nsummary = \"Reads\"\nprompt = \"Review.\"\nallow = [\"read\"]\n\
             [modes.ask]\nsummary = \"Mine\"\nprompt = \"x\"\nallow = [\"read\", \"execute\"]\n",
        )
        .unwrap()
    }

    #[test]
    fn the_users_modes_add_and_replace() {
        let slugs: Vec<String> = all(&config()).into_iter().map(|m| m.slug).collect();
        assert_eq!(slugs, ["code", "architect", "ask", "debug", "review"]);
        assert_eq!(find(&config(), "ask").unwrap().summary, "Mine");
        let error = find(&config(), "none").unwrap_err();
        assert!(error.ends_with("code, architect, ask, debug, review"), "{error}");
    }

    #[test]
    fn a_mode_offers_its_classes_and_what_every_mode_needs() {
        let of = |slug: &str| {
            let mode = find(&Config::default(), slug).unwrap();
            let names: Vec<&str> =
                spec::offered().filter(|s| mode.offers(s)).map(|s| s.name).collect();
            names
        };
        let ask = of("ask");
        assert!(ask.contains(&"read_file") && ask.contains(&"switch_mode"));
        assert!(!ask.contains(&"write_to_file") && !ask.contains(&"execute_command"));
        assert_eq!(of("code").len(), spec::offered().count());
    }

    #[test]
    fn an_architect_writes_markdown_alone() {
        let mode = find(&Config::default(), "architect").unwrap();
        let write = spec::find("write_to_file").unwrap();
        let call = |path: &str| ToolCall::new("1", "write_to_file").with("path", path);
        assert_eq!(mode.refuses(write, &call("docs/plan.md")), None);
        assert_eq!(mode.refuses(write, &call("./PLAN.md")), None);
        assert!(mode.refuses(write, &call("src/a.rs")).unwrap().contains("'src/a.rs' does not"));
        let patch = spec::find("apply_patch").unwrap();
        let text = "*** Begin Patch\n*** Update File: a.md\n*** Add File: b.rs\n+x\n*** End Patch";
        let call = ToolCall::new("1", "apply_patch").with("patch", text);
        assert!(mode.refuses(patch, &call).unwrap().contains("'b.rs'"));
        let read = spec::find("read_file").unwrap();
        assert_eq!(mode.refuses(read, &ToolCall::new("1", "read_file").with("path", "a.rs")), None);
    }

    #[test]
    fn wider_is_what_may_do_more() {
        let of = |slug: &str| find(&Config::default(), slug).unwrap();
        assert!(of("code").is_wider_than(&of("ask")));
        assert!(of("code").is_wider_than(&of("architect")));
        assert!(of("architect").is_wider_than(&of("ask")));
        assert!(!of("ask").is_wider_than(&of("code")));
        assert!(!of("architect").is_wider_than(&of("code")));
        assert!(!of("debug").is_wider_than(&of("code")));
    }
}
