//! Texts that a model can ask for by name: the user's slash commands and skills, those that a
//! repository proposes, and our own instructions.
//!
//! The user's lie in the configuration folder (`commands/NAME.md`, `skills/NAME/SKILL.md`), a
//! repository's below `.lapce/ai/`. The user's win. A repository's text is read in the sandbox,
//! is marked as such, and is nothing but text: no front matter of it has an effect, and nothing
//! reads it unless a model (or the user) names it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use lapce_ai_tools::host::ToolHost;
use lapce_ai_tools::limits::{NOTE_BYTES, NOTES_LISTED};
use lapce_ai_tools::workspace::Workspace;

use crate::limits;

/// Below the workspace.
const REPOSITORY: &str = ".lapce/ai";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Command,
    Skill,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Skill => "skill",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Command => "commands",
            Self::Skill => "skills",
        }
    }

    /// The file of `name` below the kind's folder.
    fn file(self, name: &str) -> String {
        match self {
            Self::Command => format!("{name}.md"),
            Self::Skill => format!("{name}/SKILL.md"),
        }
    }
}

/// A text that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub text: String,
    /// The user's own, or a repository's.
    pub own: bool,
}

/// Our own instructions, by the name of the task.
pub fn instructions(task: &str) -> Option<&'static str> {
    match task {
        "create_mode" => Some(include_str!("instructions/create_mode.md")),
        "create_mcp_server" => Some(include_str!("instructions/create_mcp_server.md")),
        _ => None,
    }
}

/// The text called `name`, with `args` put in. An error names the texts there are.
pub async fn find(
    kind: Kind,
    name: &str,
    args: &str,
    config: &Path,
    host: &ToolHost,
    workspace: &Workspace,
) -> Result<Found, String> {
    let name = name.trim().trim_start_matches('/');
    let word = kind.word();
    if !is_name(name) {
        return Err(format!("{name:?} is no name of a {word}"));
    }
    let file = config.join(kind.folder()).join(kind.file(name));
    let (text, own) = match read(&file) {
        Ok(text) => (text, true),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(format!("{} cannot be read: {error}", file.display()));
        }
        Err(_) => {
            let path = format!("{REPOSITORY}/{}/{}", kind.folder(), kind.file(name));
            match host.note(workspace, &path).await {
                Ok(text) => (text, false),
                Err(why) if !why.contains("does not exist") => return Err(why),
                Err(_) => {
                    let known = offered(config, host, workspace).await;
                    let names: Vec<&str> =
                        known.iter().filter(|o| o.kind == kind).map(|o| o.name.as_str()).collect();
                    let names = if names.is_empty() { "none".into() } else { names.join(", ") };
                    return Err(format!("there is no {word} '{name}'; there are: {names}"));
                }
            }
        }
    };
    Ok(Found { text: with_arguments(body(&text), args), own })
}

/// A text that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    pub kind: Kind,
    pub name: String,
    /// One line; only the user's own have one.
    pub summary: String,
    pub own: bool,
}

/// Everything that can be asked for, the user's first. Names of a repository are only names:
/// its words do not get into a prompt unasked.
pub async fn offered(config: &Path, host: &ToolHost, workspace: &Workspace) -> Vec<Offered> {
    let mut all = Vec::new();
    for kind in [Kind::Command, Kind::Skill] {
        for (name, summary) in users(config, kind) {
            all.push(Offered { kind, name, summary, own: true });
        }
    }
    // Most repositories have none: then no process is started for it.
    if fs::symlink_metadata(workspace.root().join(REPOSITORY)).is_ok() {
        let folders = [format!("{REPOSITORY}/commands"), format!("{REPOSITORY}/skills")];
        let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
        for path in host.note_names(workspace, &folders).await.unwrap_or_default() {
            let Some((folder, name)) = path.rsplit_once('/') else { continue };
            let kind = if folder.ends_with("commands") { Kind::Command } else { Kind::Skill };
            let name = match kind {
                Kind::Command => name.strip_suffix(".md").unwrap_or_default(),
                Kind::Skill => name,
            };
            if is_name(name) && !all.iter().any(|o| o.kind == kind && o.name == name) {
                let (name, summary) = (name.to_owned(), String::new());
                all.push(Offered { kind, name, summary, own: false });
            }
        }
    }
    all.truncate(limits::TEXTS_OFFERED);
    all
}

/// The section of a system prompt about them, or nothing.
pub fn section(offered: &[Offered]) -> String {
    let mut text = String::new();
    for (kind, head) in [
        (Kind::Command, "Slash commands (run_slash_command gives their text):"),
        (
            Kind::Skill,
            "Skills (skill gives their instructions; load one when its subject comes up):",
        ),
    ] {
        let mut of_kind = offered.iter().filter(|o| o.kind == kind).peekable();
        if of_kind.peek().is_some() {
            let _ = writeln!(text, "\n{head}");
        }
        for one in of_kind {
            let note = if one.own { &one.summary } else { "proposed by the repository" };
            let note = if note.is_empty() { String::new() } else { format!(": {note}") };
            let _ = writeln!(text, "- {}{note}", one.name);
        }
    }
    text
}

/// The user's texts of a kind, by name, each with its summary.
fn users(config: &Path, kind: Kind) -> BTreeMap<String, String> {
    let folder = config.join(kind.folder());
    let Ok(entries) = fs::read_dir(&folder) else { return BTreeMap::new() };
    let names = entries.flatten().take(NOTES_LISTED).filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let name = match kind {
            Kind::Command => name.strip_suffix(".md")?.to_owned(),
            Kind::Skill => name,
        };
        is_name(&name).then_some(name)
    });
    let summary = |name: String| {
        let text = read(&folder.join(kind.file(&name))).ok()?;
        Some((name, summary(&text)))
    };
    names.filter_map(summary).collect()
}

fn read(file: &Path) -> io::Result<String> {
    use std::io::Read as _;
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    fs::File::open(file)?.take(NOTE_BYTES as u64 + 1).read_to_string(&mut text)?;
    if text.len() > NOTE_BYTES {
        return Err(io::Error::other(format!("it is longer than {NOTE_BYTES} bytes")));
    }
    Ok(text)
}

/// A name is one part of a path, and harmless in a prompt.
fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// A text's front matter (between two lines `---` at its start) and the rest.
fn split(text: &str) -> (&str, &str) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Some(rest) = text.strip_prefix("---\n").or_else(|| text.strip_prefix("---\r\n")) else {
        return ("", text);
    };
    let mut at = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim_end() == "---" {
            return (&rest[..at], &rest[at + line.len()..]);
        }
        at += line.len();
    }
    ("", text)
}

fn body(text: &str) -> &str {
    split(text).1.trim()
}

/// `description:` of the front matter, else the first line.
fn summary(text: &str) -> String {
    let (head, body) = split(text);
    let described = head.lines().find_map(|line| line.strip_prefix("description:"));
    let line = described
        .map(|text| text.trim().trim_matches(['"', '\'']))
        .or_else(|| body.lines().map(|l| l.trim_start_matches('#').trim()).find(|l| !l.is_empty()))
        .unwrap_or_default();
    lapce_ai_tools::call::one_line(line, 120)
}

/// `$ARGUMENTS` replaced, or the arguments at the end.
fn with_arguments(text: &str, args: &str) -> String {
    let args = args.trim();
    if text.contains("$ARGUMENTS") {
        return text.replace("$ARGUMENTS", args);
    }
    if args.is_empty() { text.to_owned() } else { format!("{text}\n\nArguments: {args}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn front_matter_is_no_text() {
        let text =
            "---\ndescription: \"Looks closely\"\nallowed-tools: execute\n---\n# Review\n\nLook.\n";
        assert_eq!(body(text), "# Review\n\nLook.");
        assert_eq!(summary(text), "Looks closely");
        assert_eq!(summary("\n# Review\nx"), "Review");
        assert_eq!(body("---\nno end"), "---\nno end");
        assert_eq!(summary(""), "");
    }

    #[test]
    fn arguments_are_put_in() {
        assert_eq!(with_arguments("Fix $ARGUMENTS now: $ARGUMENTS", " a "), "Fix a now: a");
        assert_eq!(with_arguments("Fix", "a"), "Fix\n\nArguments: a");
        assert_eq!(with_arguments("Fix", " "), "Fix");
    }

    #[test]
    fn names_are_one_harmless_part() {
        for good in ["review", "a.b-c_1", "9"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "..", ".x", "a/b", "../x", "a b", "a\nb", "ü", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn the_users_texts_are_listed_with_their_summaries() {
        let dir = tempfile::tempdir().unwrap();
        let skill = dir.path().join("skills/release");
        fs::create_dir_all(&skill).unwrap();
        fs::write(skill.join("SKILL.md"), "---\ndescription: How to release\n---\nDo it.").unwrap();
        fs::create_dir_all(dir.path().join("skills/empty")).unwrap();
        let found = users(dir.path(), Kind::Skill);
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [("release".into(), "How to release".into())]
        );
        assert!(users(dir.path(), Kind::Command).is_empty());
    }

    #[test]
    fn instructions_are_there_for_every_choice() {
        use lapce_ai_tools::spec::{self, Kind};
        let spec = spec::find("fetch_instructions").unwrap();
        let Kind::Choice(tasks) = spec.params[0].kind else { panic!("no choice") };
        assert!(tasks.iter().all(|task| instructions(task).is_some()));
    }
}
