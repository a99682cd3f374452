//! `apply_patch` on the workspace: every file of the patch changes, or none does.

use std::path::PathBuf;

use crate::call::ToolCall;
use crate::edit::patch::{self, Change};
use crate::exec::files::Done;
use crate::exec::problems::introduced;
use crate::exec::safe_fs::{Tree, show};
use crate::exec::write::{Old, delete, load, result, store};
use crate::protocol::Report;

/// What will happen to one path.
struct Step {
    path: PathBuf,
    old: Option<Old>,
    /// `None` deletes.
    new: Option<Vec<u8>>,
    /// `None` keeps the mode the file has.
    mode: Option<u32>,
    notes: Vec<String>,
    operation: &'static str,
}

pub(crate) fn run(call: &ToolCall, tree: &Tree<'_>, report: &mut Report) -> Done {
    let steps = plan(call.text("patch"), tree)?;
    take_all(&steps, tree, report)
}

/// Takes every step, or takes those done back and says why.
fn take_all(steps: &[Step], tree: &Tree<'_>, report: &mut Report) -> Done {
    for (i, step) in steps.iter().enumerate() {
        if let Err(error) = take(step, tree, report) {
            let kept = undo(&steps[..i], tree, report);
            return Err(format!("{error}. {kept}"));
        }
    }
    let results: Vec<String> =
        steps.iter().map(|s| result(&show(&s.path), s.operation, &s.notes, &problems(s))).collect();
    Ok(results.join("\n"))
}

/// What the patch broke in a file.
fn problems(step: &Step) -> Vec<String> {
    let text = |bytes: &'_ [u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let before = step.old.as_ref().and_then(|old| text(&old.bytes));
    let after = step.new.as_deref().and_then(text);
    after.map_or_else(Vec::new, |after| introduced(&step.path, before.as_deref(), &after))
}

/// Reads every file and works out its new text; nothing is written here.
fn plan(text: &str, tree: &Tree<'_>) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    for (named, change) in patch::parse(text)? {
        let path = tree.relative(&named)?;
        let shown = show(&path);
        if path.as_os_str().is_empty() || steps.iter().any(|s| s.path == path) {
            return Err(format!(
                "the patch names '{shown}' twice, or it is no file. Nothing was changed"
            ));
        }
        let old = load(tree, &path)?;
        let mut add = |path, old, new: Option<String>, notes, operation| {
            let new = new.map(String::into_bytes);
            steps.push(Step { path, old, new, mode: None, notes, operation });
        };
        match (change, old) {
            (Change::Add { .. }, Some(_)) => {
                return Err(format!("'{shown}' is to be added, but exists. Nothing was changed"));
            }
            (Change::Add { text }, None) => add(path, None, Some(text), Vec::new(), "created"),
            (_, None) => return Err(format!("'{shown}' does not exist. Nothing was changed")),
            (Change::Delete, Some(old)) => add(path, Some(old), None, Vec::new(), "deleted"),
            (Change::Update { to, hunks }, Some(old)) => {
                let edited = patch::update(&shown, old.text(&path)?, &hunks)?;
                let Some(to) = to else {
                    add(path, Some(old), Some(edited.text), edited.notes, "modified");
                    continue;
                };
                let target = tree.relative(&to)?;
                if load(tree, &target)?.is_some() {
                    return Err(format!("'{}' exists already. Nothing was changed", show(&target)));
                }
                let note = format!("moved from '{shown}'");
                let notes = edited.notes.into_iter().chain([note]).collect();
                add(path, Some(old), None, Vec::new(), "deleted");
                add(target, None, Some(edited.text), notes, "created");
            }
        }
    }
    Ok(steps)
}

fn take(step: &Step, tree: &Tree<'_>, report: &mut Report) -> Result<(), String> {
    match (&step.new, &step.old) {
        (Some(new), old) => store(tree, &step.path, old.as_ref(), new, step.mode, report),
        (None, Some(old)) => delete(tree, &step.path, old, report),
        (None, None) => Ok(()),
    }
}

/// Takes the steps that were done back, last first. Says how that went.
fn undo(done: &[Step], tree: &Tree<'_>, report: &mut Report) -> String {
    let mut failed = Vec::new();
    for step in done.iter().rev() {
        let back = (|| {
            let now = load_again(step, tree)?;
            match (&step.old, now) {
                (Some(old), now) => {
                    let mode = Some(std::os::unix::fs::MetadataExt::mode(&old.meta));
                    store(tree, &step.path, now.as_ref(), &old.bytes, mode, report)
                }
                (None, Some(now)) => delete(tree, &step.path, &now, report),
                (None, None) => Ok(()),
            }
        })();
        if back.is_err() {
            failed.push(show(&step.path));
        }
    }
    taken_back(&failed)
}

/// What has become of the files of steps that were taken back.
pub(crate) fn taken_back(failed: &[String]) -> String {
    if failed.is_empty() {
        "Nothing was changed".into()
    } else {
        format!("These files were changed already and could not be put back: {}", failed.join(", "))
    }
}

fn load_again(step: &Step, tree: &Tree<'_>) -> Result<Option<Old>, String> {
    super::write::load_unchecked(tree, &step.path)
}
