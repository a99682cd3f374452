//! F2 as an input box: on a blank or comment line it asks a question, or edits in place.
//!
//! `prepareRename` offers the box, `rename` carries what was typed. The answer is written
//! into a transcript by the engine; the edit that is returned has no edits for that file,
//! which makes Lapce open it. At the end of the transcript of a run that is over, a task goes
//! on with that run. On code both are declined, so that renaming stays with the language's
//! server.

use std::path::Path;
use std::rc::Rc;

use lapce_ai_ipc::wire::engine::{Approval, Ask, Decision, Run, Wanted};
use serde_json::{Value, json};

use super::super::client::Level;
use super::super::documents::Document;
use super::super::edits::{self, Order};
use super::super::limits;
use super::super::past;
use super::super::rpc::{Answer, Failure};
use super::super::runs::{self, Job};
use super::super::shell::{self, Shell};
use super::super::text;
use super::super::types::{DocumentPosition, Rename};
use super::super::uri;
use crate::lines::Lines;
use crate::mentions;

const PLACEHOLDER: &str = "ask ";
/// At the end of the transcript of a run that is over.
const GO_ON: &str = "run: ";

pub(in super::super) async fn prepare(shell: Rc<Shell>, params: DocumentPosition) -> Answer {
    let at = params.position;
    shell.with_document(&params.text_document.uri, |document| {
        shell::ours(document, at.line)?;
        let ended = past::ended_run(&shell, document, at.line).is_some();
        let placeholder = if ended { GO_ON } else { PLACEHOLDER };
        Ok(json!({ "range": { "start": at, "end": at }, "placeholder": placeholder }))
    })
}

pub(in super::super) async fn rename(shell: Rc<Shell>, params: Rename) -> Answer {
    let line = params.position.line;
    if let Some(answered) = answer(&shell, &params).await {
        return answered;
    }
    if let Typed::Edit(words) = typed(&params.new_name) {
        return edit(&shell, &params, words).await;
    }
    let mut job = shell.with_document(&params.text_document.uri, |document| {
        shell::ours(document, line)?;
        let root = shell.root_of(Some(&document.path))?.to_string_lossy().into_owned();
        let editor = Some(shell::context(document, line));
        let comment = || comment(document, line);
        let ended = past::ended_run(&shell, document, line);
        Ok(match typed(&params.new_name) {
            Typed::Run(task) if ended.is_some() => {
                let task = bounded(task.to_owned())?;
                Job::Run(Run { root, task, continues: ended, ..Run::default() })
            }
            Typed::Run(task) => {
                let task = checked(task, comment)?;
                Job::Run(Run { root, task, editor, ..Run::default() })
            }
            Typed::Ask(question) | Typed::Edit(question) => {
                let question = checked(question, comment)?;
                Job::Ask(Ask { root, question, editor, transcript: true, ..Ask::default() })
            }
        })
    })?;
    let named = match typed(&params.new_name) {
        Typed::Ask(words) | Typed::Run(words) | Typed::Edit(words) => words,
    };
    // In what is typed only: a comment of the document names no server.
    if mentions::may_be(named)
        && let Err(failure) = read_named(&shell, &mut job, named).await
    {
        // Lapce drops the error of a rename silently.
        shell.editor.show(Level::Error, &format!("Lapce AI: {}", failure.message));
        return Err(failure);
    }
    let transcript = runs::start_and_say(&shell, job).await?;
    Ok(opening(&transcript))
}

/// The change comes as the rename's own.
async fn edit(shell: &Rc<Shell>, params: &Rename, words: &str) -> Answer {
    let uri = params.text_document.uri.clone();
    let line = params.position.line;
    let instruction = shell.with_document(&uri, |document| {
        shell::ours(document, line)?;
        checked(words, || comment(document, line))
    })?;
    let at = line as usize;
    let selected = Lines { first: at, end: at + 1 };
    edits::make_and_say(shell, Order { uri, line, selected, instruction }).await
}

/// The instruction of the comment at a line.
fn comment(document: &Document, line: u32) -> Option<String> {
    let block = text::comment_block(&document.text, line, &document.language)?;
    Some(text::instruction(&block.0).to_owned())
}

/// Puts the prompt and the resources that `words` names into the job.
async fn read_named(shell: &Rc<Shell>, job: &mut Job, words: &str) -> Result<(), Failure> {
    let (Job::Ask(Ask { root, question: text, attached, .. })
    | Job::Run(Run { root, task: text, attached, .. })) = job;
    let engine = shell.link.client().await?;
    (*text, *attached) = mentions::expand(&engine, root, words).await?;
    Ok(())
}

/// An approval of a command, which may be answered with another one.
fn runs_command(waiting: &Approval) -> bool {
    let editable = waiting.editable.as_ref();
    waiting.wanted == Wanted::Approval && editable.is_some_and(|e| e.name == "command")
}

/// In the transcript of a run that asks something, what is typed is the answer: words, or behind
/// `edit:` the command that is to run in place of the one that waits for a yes.
async fn answer(shell: &Rc<Shell>, params: &Rename) -> Option<Answer> {
    let look = |document: &Document| Ok(shell.runs.waiting_in(&document.path));
    let waiting = shell.with_document(&params.text_document.uri, look).ok()?;
    if let Typed::Edit(command) = typed(&params.new_name)
        && let Some(asked) = waiting.iter().find(|w| runs_command(w))
    {
        let done = match command {
            "" => Err(Failure::declined("type the command behind `edit:`")),
            _ => runs::answer(shell, &asked.approval_id, Decision::AllowChanged, command).await,
        };
        return Some(done.map(|transcript| opening(&transcript)));
    }
    let asked = waiting.into_iter().find(|w| w.wanted != Wanted::Approval)?;
    let words = match typed(&params.new_name) {
        Typed::Ask(words) | Typed::Run(words) | Typed::Edit(words) => words,
    };
    let decision = match asked.wanted {
        // Words about a result are what is still to be done.
        Wanted::Review if !words.is_empty() => Decision::Deny,
        _ => Decision::Allow,
    };
    let done = runs::answer(shell, &asked.approval_id, decision, words).await;
    Some(done.map(|transcript| opening(&transcript)))
}

/// An edit that changes nothing and makes Lapce show the file.
pub(in super::super) fn opening(path: &Path) -> Value {
    json!({ "changes": { (uri::from_path(path)): [] } })
}

#[derive(Debug, PartialEq)]
enum Typed<'a> {
    Ask(&'a str),
    Run(&'a str),
    Edit(&'a str),
}

/// `run: task` starts the agent, `edit: instruction` edits in place; anything else is a question. The box begins with `ask `,
/// which the user may have left there.
fn typed(text: &str) -> Typed<'_> {
    fn after<'a>(text: &'a str, word: &str) -> Option<&'a str> {
        let head = text.get(..word.len()).filter(|head| head.eq_ignore_ascii_case(word))?;
        Some(text[head.len()..].trim())
    }
    let text = text.trim();
    if text.eq_ignore_ascii_case(PLACEHOLDER.trim()) {
        return Typed::Ask("");
    }
    let text = after(text, PLACEHOLDER).unwrap_or(text);
    let run = after(text, "run:").map(Typed::Run);
    let edit = || after(text, "edit:").map(Typed::Edit);
    let ask = || after(text, "ask:").unwrap_or(text);
    run.or_else(edit).unwrap_or_else(|| Typed::Ask(ask()))
}

/// What was typed, or else the comment that the caret is on.
fn checked(typed: &str, comment: impl FnOnce() -> Option<String>) -> Result<String, Failure> {
    let text = match typed {
        "" => comment().filter(|comment| !comment.is_empty()),
        typed => Some(typed.to_owned()),
    };
    let text =
        text.ok_or_else(|| Failure::declined("nothing was asked; type a question after `ask`"))?;
    bounded(text)
}

fn bounded(text: String) -> Result<String, Failure> {
    if text.len() > limits::QUESTION {
        return Err(Failure::declined(format!(
            "the text is longer than {} bytes",
            limits::QUESTION
        )));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_a_question_unless_it_says_run() {
        for (text, expected) in [
            ("ask where is auth?", Typed::Ask("where is auth?")),
            ("where is auth?", Typed::Ask("where is auth?")),
            ("Ask: x", Typed::Ask("x")),
            ("ask", Typed::Ask("")),
            ("  ", Typed::Ask("")),
            ("asking for a friend", Typed::Ask("asking for a friend")),
            ("run: fix the tests", Typed::Run("fix the tests")),
            ("RUN:x", Typed::Run("x")),
            ("run time of this?", Typed::Ask("run time of this?")),
            ("run:", Typed::Run("")),
            ("edit: make it async", Typed::Edit("make it async")),
            ("Edit:", Typed::Edit("")),
            ("ask edit: x", Typed::Edit("x")),
            ("ask run: x", Typed::Run("x")),
            ("edit the readme?", Typed::Ask("edit the readme?")),
            ("ü", Typed::Ask("ü")),
            ("rün: x", Typed::Ask("rün: x")),
        ] {
            assert_eq!(typed(text), expected, "{text}");
        }
    }

    #[test]
    fn nothing_typed_means_the_comment() {
        assert_eq!(checked("", || Some("from comment".into())).unwrap(), "from comment");
        assert_eq!(checked("typed", || None).unwrap(), "typed");
        assert!(checked("", || None).is_err());
        assert!(checked("", || Some(String::new())).is_err());
        assert!(checked(&"x".repeat(limits::QUESTION + 1), || None).is_err());
    }
}
