//! The transcript of a run that has ended, at whose end the run can be gone on with.
//!
//! What a document says only picks a name: the engine goes on with nothing but a run of its own
//! record that was made in this workspace.

use std::path::Path;

use super::documents::Document;
use super::runs;
use super::shell::Shell;

/// Where transcripts lie in a workspace.
const FOLDER: &str = ".lapce/ai/runs";
/// Lines at the top of a transcript in which it names its run.
const HEAD: usize = 8;
/// Longest name of a run.
const NAME: usize = 64;

/// The run to go on with, if `line` is at the end of its transcript and it is over.
pub(super) fn ended_run(shell: &Shell, document: &Document, line: u32) -> Option<String> {
    let root = shell.root_of(Some(&document.path)).ok()?;
    let run = run_of(&root, document, line)?;
    let active = shell.runs.active();
    let over = !active.iter().any(|active| runs::is_transcript(active, &document.path))
        && shell.runs.waiting_in(&document.path).is_empty();
    over.then_some(run)
}

fn run_of(root: &Path, document: &Document, line: u32) -> Option<String> {
    if document.path.parent()? != root.join(FOLDER) {
        return None;
    }
    let name = document.path.file_name()?.to_str()?.strip_suffix(".md")?;
    let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !is_name || name.is_empty() || name.len() > NAME {
        return None;
    }
    // A question has a transcript too.
    let title = format!("*Run {name} with ");
    if !document.text.lines().take(HEAD).any(|line| line.starts_with(&title)) {
        return None;
    }
    let at_end = document.text.lines().skip(line as usize).all(|line| line.trim().is_empty());
    at_end.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_gone_on_with_at_the_end_of_its_transcript_alone() {
        let text = "# Task\n\n*Run 20260101-000000-abc123 with p/m*\n\nWords.\n\n**Done**\n\n";
        let document = |path: &str, text: &str| Document {
            path: path.into(),
            language: "markdown".into(),
            version: 1,
            text: text.into(),
        };
        let name = "/w/.lapce/ai/runs/20260101-000000-abc123.md";
        let find = |path: &str, text: &str, line: u32| {
            run_of(Path::new("/w"), &document(path, text), line)
        };
        assert_eq!(find(name, text, 7).as_deref(), Some("20260101-000000-abc123"));
        assert_eq!(find(name, text, 8).as_deref(), Some("20260101-000000-abc123"));
        assert_eq!(find(name, text, 5), None, "in the middle");
        assert_eq!(find("/w/docs/20260101-000000-abc123.md", text, 7), None);
        assert_eq!(find("/w/.lapce/ai/runs/20260101-000000-abc124.md", text, 7), None);
        assert_eq!(find(name, "# Question\n\nAn answer.\n\n", 3), None, "no run");
        assert_eq!(find("/w/.lapce/ai/runs/a b.md", "*Run a b with m*\n", 1), None);
    }
}
