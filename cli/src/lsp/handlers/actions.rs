//! Code actions: ask, edit in place, run the agent, answer its questions.
//!
//! Offered on blank and comment lines, and anywhere in the transcript of a run that is under
//! way; everywhere else the request is declined, so that the language server's quick fixes
//! are seen. In Lapce an action is started by resolving it (there are no commands); other
//! editors resolve ahead of time, so there it is a command.

use std::path::PathBuf;
use std::rc::Rc;

use lapce_ai_ipc::paths;
use lapce_ai_ipc::wire::engine::{Approval, Ask, Decision, Run, Wanted};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::client::Level;
use super::super::documents::Document;
use super::super::edits::{self, Order};
use super::super::limits;
use super::super::past;
use super::super::rpc::{Answer, CONTENT_MODIFIED, Failure, INVALID_PARAMS};
use super::super::runs::{self, Job};
use super::super::shell::{self, Shell};
use super::super::text::{self, Line};
use super::super::types::{CodeActions, ExecuteCommand, Range};
use super::rename::opening;
use crate::lines::Lines;

/// The command of editors that have commands.
pub(in super::super) const COMMAND: &str = "lapce-ai.start";
/// The member of an action's `data` that is ours.
const DATA: &str = "lapceAi";
/// What Lapce runs in its terminal panel.
const TERMINAL_COMMAND: &str = "rust-analyzer.runSingle";
const CLI: &str = "lapce-ai";
/// Characters of a task in a title.
const TITLE: usize = 48;

/// What an action does when it is chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "camelCase")]
enum Action {
    Ask {
        uri: String,
        line: u32,
        question: String,
    },
    Run {
        uri: String,
        line: u32,
        task: String,
    },
    /// `first` and `end`: the selected lines.
    Edit {
        uri: String,
        line: u32,
        first: usize,
        end: usize,
        instruction: String,
    },
    StopEdit {
        uri: String,
    },
    Answer {
        approval_id: String,
        decision: Decision,
        #[serde(default)]
        words: String,
    },
    Stop {
        run_id: String,
    },
    GoOn {
        uri: String,
        run_id: String,
    },
}

pub(in super::super) async fn list(shell: Rc<Shell>, params: CodeActions) -> Answer {
    // An editor that wants `source.organizeImports` alone wants none of ours.
    let only = params.context.only.as_deref().unwrap_or_default();
    if !only.is_empty()
        && !only.iter().any(|kind| matches!(kind.as_str(), "" | "quickfix" | "refactor"))
    {
        return Err(Failure::declined("no actions of this kind"));
    }
    let uri = params.text_document.uri;
    let line = params.range.start.line;
    let mut offered = Vec::new();
    let terminal = shell.with_document(&uri, |document| {
        let in_transcript = pending(&shell, document, &mut offered);
        let enabled = shell.settings.borrow().actions;
        let line_is = shell::ours(document, line);
        if in_transcript || !enabled {
            return Ok(None);
        }
        let line_is = line_is?;
        if shell.edits.under_way(&uri) {
            let stop = Action::StopEdit { uri: uri.clone() };
            offered.push(("Lapce AI: stop the edit".into(), stop));
        }
        if let Some(run_id) = past::ended_run(&shell, document, line) {
            let title = "Lapce AI: go on with this run".to_owned();
            offered.push((title, Action::GoOn { uri: uri.clone(), run_id }));
        }
        let selected = selected(params.range);
        let task = on_line(document, &uri, line, selected, line_is, &mut offered);
        // A transcript that grows loses its list in Lapce at each write; here it stays.
        for active in shell.runs.active().into_iter().take(limits::APPROVALS) {
            let title = format!("Lapce AI: stop run {}", active.run_id);
            offered.push((title, Action::Stop { run_id: active.run_id.clone() }));
        }
        Ok(Some(task))
    })?;
    if offered.is_empty() {
        return Err(Failure::declined("no actions here"));
    }
    let lapce = shell.editor.can().lapce;
    let mut actions: Vec<Value> =
        offered.iter().map(|(title, action)| entry(title, action, lapce)).collect();
    if let Some(task) = terminal.filter(|_| shell.editor.can().run_single) {
        actions.extend(in_terminal(task.as_deref(), &uri));
    }
    Ok(actions.into())
}

/// The lines that a selection touches; where it ends at the start of a line, not that one.
fn selected(range: Range) -> Lines {
    let (first, last) = (range.start.line as usize, range.end.line as usize);
    let beyond = usize::from(range.end.character > 0 || last == first);
    Lines { first, end: last + beyond }
}

/// Answers and stops, if the document is the transcript of a run: one of ours, or one that
/// waits for the user.
fn pending(shell: &Shell, document: &Document, offered: &mut Vec<(String, Action)>) -> bool {
    let waiting = shell.runs.waiting_in(&document.path);
    let ours = shell.runs.active().into_iter().filter(|a| runs::is_transcript(a, &document.path));
    let run_id = ours.map(|a| a.run_id.clone()).next();
    let run_id = run_id.or_else(|| waiting.first().map(|w| w.run_id.clone()));
    for approval in waiting.into_iter().take(limits::APPROVALS) {
        answers(&approval, offered);
    }
    let Some(run_id) = run_id.filter(|id| !id.is_empty()) else { return !offered.is_empty() };
    offered.push(("Lapce AI: stop this run".into(), Action::Stop { run_id }));
    true
}

/// Everything that can be answered to one of them without typing. Lapce shows about 40 characters
/// of a title: what tells two of them apart comes first.
fn answers(approval: &Approval, offered: &mut Vec<(String, Action)>) {
    let what = short(&approval.summary);
    let mut offer = |title: String, decision: Decision, words: &str| {
        let approval_id = approval.approval_id.clone();
        let words = words.to_owned();
        let action = Action::Answer { approval_id, decision, words };
        offered.push((format!("Lapce AI: {title}"), action));
    };
    match approval.wanted {
        Wanted::Approval => {
            offer(format!("approve {what}"), Decision::Allow, "");
            for scope in &approval.scopes {
                let title = match scope {
                    Decision::AllowForRun => format!("approve for this run: {}", approval.tool),
                    Decision::AllowInWorkspace => format!("always in this workspace: {what}"),
                    Decision::AllowAlways => format!("always, everywhere: {what}"),
                    Decision::Allow | Decision::Deny | Decision::AllowChanged => continue,
                };
                offer(title, scope.clone(), "");
            }
            offer(format!("deny {what}"), Decision::Deny, "");
        }
        Wanted::Question => {
            for suggestion in &approval.suggestions {
                offer(format!("answer “{}”", short(suggestion)), Decision::Allow, suggestion);
            }
            offer("give no answer".into(), Decision::Deny, "");
        }
        Wanted::Review => offer("accept the result".into(), Decision::Allow, ""),
    }
}

/// The actions of a blank or comment line; returns the task to offer in the terminal too.
fn on_line(
    document: &Document,
    uri: &str,
    line: u32,
    selected: Lines,
    line_is: Line<'_>,
    offered: &mut Vec<(String, Action)>,
) -> Option<String> {
    let block = match line_is {
        Line::Comment(_) => text::comment_block(&document.text, line, &document.language),
        Line::Blank | Line::Code => None,
    };
    let comment =
        block.as_ref().map(|(text, ..)| text::cut(text::instruction(text), limits::QUESTION));
    let uri = uri.to_owned();
    let Some(comment) = comment.filter(|comment| !comment.is_empty()) else {
        let question = "Explain the code around this line.".to_owned();
        offered.push(("Lapce AI: explain this place".into(), Action::Ask { uri, line, question }));
        return None;
    };
    let task = comment.to_owned();
    let title = short(comment);
    let Lines { first, end } = selected;
    offered.push((
        format!("Lapce AI: edit in place “{title}”"),
        Action::Edit { uri: uri.clone(), line, first, end, instruction: task.clone() },
    ));
    offered.push((
        format!("Lapce AI: run the agent on “{title}”"),
        Action::Run { uri: uri.clone(), line, task: task.clone() },
    ));
    offered.push((
        format!("Lapce AI: ask about “{title}”"),
        Action::Ask { uri, line, question: task.clone() },
    ));
    Some(task)
}

fn entry(title: &str, action: &Action, lapce: bool) -> Value {
    let kind = if matches!(
        action,
        Action::Answer { .. } | Action::Stop { .. } | Action::StopEdit { .. }
    ) {
        "quickfix"
    } else {
        "refactor"
    };
    if lapce {
        json!({ "title": title, "kind": kind, "data": { DATA: action } })
    } else {
        let command = json!({ "title": title, "command": COMMAND, "arguments": [action] });
        json!({ "title": title, "kind": kind, "command": command })
    }
}

/// Bare commands that Lapce runs in its terminal: `lapce-ai run -- TASK` and `lapce-ai tui`.
fn in_terminal(task: Option<&str>, uri: &str) -> Vec<Value> {
    let Some(program) = paths::find_program(CLI).and_then(|path| path.canonicalize().ok()) else {
        return Vec::new();
    };
    let nowhere =
        json!({ "start": { "line": 0, "character": 0 }, "end": { "line": 0, "character": 0 } });
    let entry = |title: String, label: String, args: &[&str]| {
        json!({
            "title": title,
            "command": TERMINAL_COMMAND,
            "arguments": [{
                "label": label,
                "kind": program,
                "location": { "targetUri": uri, "targetRange": nowhere, "targetSelectionRange": nowhere },
                "args": { "cargoArgs": args, "cargoExtraArgs": [], "executableArgs": [] },
            }],
        })
    };
    let run = task.map(|task| {
        let title = format!("Lapce AI: run in the terminal “{}”", short(task));
        entry(title, format!("lapce-ai run {}", short(task)), &["run", "--", task])
    });
    let tui = entry("Lapce AI: open the terminal UI".into(), "lapce-ai".into(), &["tui"]);
    run.into_iter().chain([tui]).collect()
}

fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim();
    match line.char_indices().nth(TITLE) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}

/// What came of an action.
enum Done {
    /// A transcript to be shown.
    Transcript(PathBuf),
    Edit(Value),
    Nothing,
}

/// Lapce has chosen an action: start it, and open its transcript with the edit.
pub(in super::super) async fn resolve(shell: Rc<Shell>, mut item: Value) -> Answer {
    let data = item.get_mut("data").and_then(|data| data.get_mut(DATA)).map(Value::take);
    let action = data.ok_or_else(|| Failure::declined("not an action of Lapce AI"))?;
    match perform(&shell, action).await? {
        Done::Transcript(path) => item["edit"] = opening(&path),
        Done::Edit(edit) => item["edit"] = edit,
        Done::Nothing => {}
    }
    Ok(item)
}

/// Another editor has chosen an action.
pub(in super::super) async fn execute(shell: Rc<Shell>, params: ExecuteCommand) -> Answer {
    if params.command != COMMAND {
        return Err(Failure::declined(format!("unknown command {}", params.command)));
    }
    let action = params.arguments.into_iter().next().unwrap_or_default();
    if let Done::Edit(edit) = perform(&shell, action).await?
        && !shell.editor.apply("Lapce AI: edit in place", &edit).await
    {
        let failure = Failure::declined("the editor did not take the edit; try again");
        return said(&shell, Err(failure)).map(|()| Value::Null);
    }
    Ok(Value::Null)
}

async fn perform(shell: &Rc<Shell>, action: Value) -> Result<Done, Failure> {
    let action: Action = serde_json::from_value(action)
        .map_err(|error| Failure::new(INVALID_PARAMS, format!("action: {error}")))?;
    let transcript = match action {
        Action::Ask { uri, line, question } => {
            let (root, editor) = place(shell, &uri, line)?;
            let ask = Ask { root, question, editor, transcript: true, ..Ask::default() };
            runs::start_and_say(shell, Job::Ask(ask)).await
        }
        Action::Run { uri, line, task } => {
            let (root, editor) = place(shell, &uri, line)?;
            let run = Run { root, task, editor, ..Run::default() };
            runs::start_and_say(shell, Job::Run(run)).await
        }
        Action::GoOn { uri, run_id } => {
            let (root, _) = place(shell, &uri, 0)?;
            let run = Run { root, continues: Some(run_id), ..Run::default() };
            runs::start_and_say(shell, Job::Run(run)).await
        }
        Action::Edit { uri, line, first, end, instruction } => {
            said(shell, still_there(shell, &uri, line, &instruction))?;
            let order = Order { uri, line, selected: Lines { first, end }, instruction };
            return edits::make_and_say(shell, order).await.map(Done::Edit);
        }
        Action::StopEdit { uri } => {
            shell.edits.stop(&uri);
            return Ok(Done::Nothing);
        }
        Action::Answer { approval_id, decision, words } => {
            said(shell, runs::answer(shell, &approval_id, decision, &words).await)
        }
        Action::Stop { run_id } => said(shell, runs::stop(shell, &run_id).await),
    };
    transcript.map(Done::Transcript)
}

/// An action is chosen some time after it was offered: its comment must still be there.
fn still_there(shell: &Shell, uri: &str, line: u32, instruction: &str) -> Result<(), Failure> {
    shell.with_document(uri, |document| {
        let block = text::comment_block(&document.text, line, &document.language);
        let same = block.is_some_and(|(comment, ..)| {
            text::cut(text::instruction(&comment), limits::QUESTION) == instruction
        });
        if same {
            return Ok(());
        }
        let text = "the comment has changed since this was offered; choose the action again";
        Err(Failure::new(CONTENT_MODIFIED, text))
    })
}

/// Errors of a chosen action are shown by no editor reliably.
fn said<T>(shell: &Shell, outcome: Result<T, Failure>) -> Result<T, Failure> {
    if let Err(failure) = &outcome {
        shell.editor.show(Level::Error, &format!("Lapce AI: {}", failure.message));
    }
    outcome
}

type Place = (String, Option<lapce_ai_ipc::wire::engine::EditorContext>);

fn place(shell: &Shell, uri: &str, line: u32) -> Result<Place, Failure> {
    shell.with_document(uri, |document| {
        let root = shell.root_of(Some(&document.path))?.to_string_lossy().into_owned();
        Ok((root, Some(shell::context(document, line))))
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::types::Position;
    use super::*;

    fn document(text: &str) -> Document {
        Document { path: "/w/a.rs".into(), language: "rust".into(), version: 1, text: text.into() }
    }

    fn titles(text: &str, line: u32) -> Vec<String> {
        let document = document(text);
        let mut offered = Vec::new();
        if let Ok(line_is) = shell::ours(&document, line) {
            let selected = Lines { first: line as usize, end: line as usize + 1 };
            on_line(&document, "file:///w/a.rs", line, selected, line_is, &mut offered);
        }
        offered.into_iter().map(|(title, _)| title).collect()
    }

    #[test]
    fn actions_are_offered_on_comments_and_blank_lines_alone() {
        assert_eq!(
            titles("// ai: make it faster\nfn f() {}", 0),
            [
                "Lapce AI: edit in place “make it faster”",
                "Lapce AI: run the agent on “make it faster”",
                "Lapce AI: ask about “make it faster”",
            ]
        );
        assert_eq!(titles("\nfn f() {}", 0), ["Lapce AI: explain this place"]);
        assert_eq!(titles("//\nfn f() {}", 0), ["Lapce AI: explain this place"]);
        assert_eq!(titles("\nfn f() {}", 1), Vec::<String>::new());
        assert_eq!(titles("", 5), Vec::<String>::new());
    }

    #[test]
    fn an_action_is_data_in_lapce_and_a_command_elsewhere() {
        let action = Action::Run { uri: "file:///a".into(), line: 2, task: "t".into() };
        let lapce = entry("x", &action, true);
        assert!(lapce.get("edit").is_none() && lapce.get("command").is_none());
        assert_eq!(serde_json::from_value::<Action>(lapce["data"][DATA].clone()).unwrap(), action);
        let other = entry("x", &action, false);
        assert!(other.get("data").is_none());
        assert_eq!(other["command"]["command"], COMMAND);
        assert_eq!(
            serde_json::from_value::<Action>(other["command"]["arguments"][0].clone()).unwrap(),
            action
        );
    }

    #[test]
    fn a_selection_is_the_lines_that_it_touches() {
        let at = |line, character| Position { line, character };
        for (start, end, lines) in [
            (at(2, 3), at(2, 3), (2, 3)),
            (at(2, 0), at(4, 0), (2, 4)),
            (at(2, 0), at(4, 1), (2, 5)),
            (at(4, 0), at(2, 0), (4, 2)),
        ] {
            let (first, end) =
                (selected(Range { start, end }).first, selected(Range { start, end }).end);
            assert_eq!((first, end), lines);
        }
    }

    #[test]
    fn titles_are_one_short_line() {
        assert_eq!(short("a\nb"), "a");
        assert_eq!(short(&"ä".repeat(60)), format!("{}…", "ä".repeat(TITLE)));
    }
}
