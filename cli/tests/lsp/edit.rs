//! Inline edit.

use std::path::Path;

use lapce_ai_tests::wait_for;
use serde_json::{Value, json};

use crate::support::model::{Model, Reply, gate};
use crate::support::{Editor, uri};
use crate::{CANCELLED, FAILED, MODIFIED, SOURCE, actions, pick, place, rename, settings, started};

const FASTER: &str =
    "<rewritten>\nfn total(items: &[u64]) -> u64 {\n    items.par_iter().sum()\n}\n</rewritten>";

/// Applies the one change of a workspace edit to `text`.
fn edited(text: &str, edit: &Value, file: &Path) -> String {
    let changes = match edit.get("documentChanges") {
        Some(changes) => {
            assert_eq!(changes[0]["textDocument"]["uri"], uri(file));
            changes[0]["edits"].clone()
        }
        None => edit["changes"][uri(file)].clone(),
    };
    let [change] = changes.as_array().expect("a list").as_slice() else { panic!("{edit}") };
    let at = |end: &str| {
        let at = &change["range"][end];
        assert_eq!(at["character"], 0);
        let line = at["line"].as_u64().unwrap() as usize;
        text.split_inclusive('\n').take(line).map(str::len).sum::<usize>()
    };
    let mut text = text.to_owned();
    text.replace_range(at("start")..at("end"), change["newText"].as_str().unwrap());
    text
}

/// The comment is the instruction and goes; the block below it comes back changed. What is
/// typed elsewhere while the model writes does no harm.
#[test]
fn a_piece_is_edited_in_place() {
    let (home, root, file) = place();
    let (go, halt) = gate();
    let model = Model::new(vec![Reply::Halting("<rewritten>\n", halt, &FASTER[12..])]);
    home.config(&model.config());
    let mut editor = started(&home, &root, &file);
    let action = pick(&actions(&mut editor, &file, 0), "edit in place “make this faster”");
    assert!(action.get("edit").is_none(), "Lapce would apply it without resolving: {action}");
    let id = editor.begin("codeAction/resolve", &action);
    wait_for("the request to reach the model", || model.seen().len() == 1);
    let stop = pick(&actions(&mut editor, &file, 0), "stop the edit");
    assert!(stop.get("edit").is_none());
    let again = editor.request("codeAction/resolve", &action).unwrap_err();
    assert!(again.1.contains("being edited already"), "{again:?}");
    // A line above it.
    let top = json!({ "line": 0, "character": 0 });
    editor.notify(
        "textDocument/didChange",
        &json!({
            "textDocument": { "uri": uri(&file), "version": 2 },
            "contentChanges": [{ "range": { "start": top, "end": top }, "text": "use x;\n" }],
        }),
    );
    drop(go);
    let resolved = editor.answer(id).unwrap();
    assert_eq!(
        edited(&format!("use x;\n{SOURCE}"), &resolved["edit"], &file),
        "use x;\nfn total(items: &[u64]) -> u64 {\n    items.par_iter().sum()\n}\n\n// ? where is the total\n"
    );
    // The file itself is the editor's to write.
    assert_eq!(std::fs::read_to_string(&file).unwrap(), SOURCE);
    let body = model.seen()[0].to_string();
    assert!(body.contains("Instruction: make this faster") && body.contains("items.iter().sum()"));
    assert!(!body.contains("ai: make this faster"), "the comment itself is no part of the piece");
    editor.until("the end of the display", |e| e.progress().iter().any(|(kind, _)| kind == "end"));
    assert_eq!(editor.quit(), Some(0));
    home.assert_nothing_left();
}

/// A piece that changed meanwhile, an answer that is none, an instruction that is gone: each
/// is said, and nothing is edited.
#[test]
fn an_edit_that_does_not_fit_is_said_and_not_made() {
    let (home, root, file) = place();
    let (go, halt) = gate();
    let model = Model::new(vec![
        Reply::Halting("<rewritten>\n", halt, &FASTER[12..]),
        Reply::Words("There is nothing to make faster here."),
        Reply::Words("<rewritten>\nfn half("),
    ]);
    home.config(&model.config());
    let mut editor = started(&home, &root, &file);
    let action = pick(&actions(&mut editor, &file, 0), "edit in place");
    let id = editor.begin("codeAction/resolve", &action);
    wait_for("the request to reach the model", || model.seen().len() == 1);
    let at = |character: u32| json!({ "line": 2, "character": character });
    let change = |version: u32, text: &str, end: u32| {
        json!({
            "textDocument": { "uri": uri(&file), "version": version },
            "contentChanges": [{ "range": { "start": at(4), "end": at(end) }, "text": text }],
        })
    };
    editor.notify("textDocument/didChange", &change(2, "x", 4));
    drop(go);
    assert_eq!(editor.answer(id).unwrap_err().0, MODIFIED);
    editor.notify("textDocument/didChange", &change(3, "", 5));
    let said = editor.request("codeAction/resolve", &action).unwrap_err().1;
    assert!(said.contains("There is nothing to make faster here."), "{said}");
    let cut = editor.request("codeAction/resolve", &action).unwrap_err().1;
    assert!(cut.contains("cut off"), "{cut}");
    let top = json!({ "line": 0, "character": 0 });
    editor.notify(
        "textDocument/didChange",
        &json!({
            "textDocument": { "uri": uri(&file), "version": 4 },
            "contentChanges": [{ "range": { "start": top, "end": top }, "text": "use x;\n" }],
        }),
    );
    let gone = editor.request("codeAction/resolve", &action).unwrap_err();
    assert_eq!(gone.0, MODIFIED, "{gone:?}");
    assert_eq!(model.seen().len(), 3, "no model was asked for what is gone");
    editor.until("a popup for each", |e| e.popups().len() == 4);
    assert_eq!(editor.quit(), Some(0));
}

/// Stopped, the request ends at once and without a popup, and the provider is let go.
#[test]
fn an_edit_can_be_stopped() {
    let (home, root, file) = place();
    let (_keep, halt) = gate();
    let model = Model::new(vec![Reply::Halting("<rewritten>\n", halt, "")]);
    home.config(&model.config());
    let mut editor = started(&home, &root, &file);
    let action = pick(&actions(&mut editor, &file, 0), "edit in place");
    let id = editor.begin("codeAction/resolve", &action);
    wait_for("the request to reach the model", || model.seen().len() == 1);
    let stop = pick(&actions(&mut editor, &file, 4), "stop the edit");
    assert!(editor.request("codeAction/resolve", &stop).unwrap().get("edit").is_none());
    assert_eq!(editor.answer(id).unwrap_err().0, CANCELLED);
    assert_eq!(editor.popups(), Vec::<String>::new());
    let offered = actions(&mut editor, &file, 0);
    assert!(!offered.iter().any(|a| a["title"].as_str().unwrap().contains("stop the edit")));
    assert_eq!(editor.quit(), Some(0));
    home.assert_nothing_left();
}

/// What is typed into the F2 box edits too: the change is the rename's own.
#[test]
fn f2_edits_in_place() {
    let (home, root, file) = place();
    let model = Model::new(vec![Reply::Words(
        "```rust\nfn mean(items: &[u64]) -> u64 {\n    total(items) / 2\n}\n```",
    )]);
    home.config(&model.config());
    let mut editor = started(&home, &root, &file);
    let typed = rename(&file, 4, "ask edit: write mean()");
    let edit = editor.request("textDocument/rename", &typed).unwrap();
    let text = edited(SOURCE, &edit, &file);
    assert!(
        text.contains("}\nfn mean(items: &[u64]) -> u64 {\n    total(items) / 2\n}\n// ? where"),
        "{text}"
    );
    let nothing = editor.request("textDocument/rename", &rename(&file, 4, "edit:")).unwrap_err();
    assert_eq!(nothing.0, FAILED);
    assert_eq!(editor.quit(), Some(0));
}

/// Other editors are sent the change, for the version that it was made for.
#[test]
fn other_editors_are_sent_the_edit() {
    let (home, root, file) = place();
    let model = Model::new(vec![Reply::Words(FASTER)]);
    home.config(&model.config());
    let mut editor = Editor::spawn(&home);
    let params = json!({ "capabilities": {
        "workspace": { "applyEdit": true, "workspaceEdit": { "documentChanges": true } },
    }});
    editor.initialize(&root, &settings(), params).unwrap();
    editor.open(&file, "rust", SOURCE);
    let action = pick(&actions(&mut editor, &file, 0), "edit in place");
    let command = &action["command"];
    let params = json!({ "command": command["command"], "arguments": command["arguments"] });
    editor.request("workspace/executeCommand", &params).unwrap();
    let sent = editor.requests.iter().find(|(method, _)| method == "workspace/applyEdit");
    let edit = sent.expect("an edit").1["edit"].clone();
    assert_eq!(edit["documentChanges"][0]["textDocument"]["version"], 1);
    assert!(
        edited(SOURCE, &edit, &file).starts_with("fn total(items: &[u64]) -> u64 {\n    items.par")
    );
    assert_eq!(editor.quit(), Some(0));
}
