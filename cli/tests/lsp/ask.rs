//! Questions: F2, commands, answers that stream into a transcript.

use lapce_ai_tests::wait_for;
use serde_json::{Value, json};

use crate::support::model::{Model, Reply, gate};
use crate::support::{Editor, at, opened, uri};
use crate::{CANCELLED, FAILED, SOURCE, actions, pick, place, rename, settings, started};

#[test]
fn f2_is_ours_on_comments_and_blank_lines_alone() {
    let (home, root, file) = place();
    let mut editor = started(&home, &root, &file);
    for line in [0, 4, 5] {
        let offer = editor.request("textDocument/prepareRename", &at(&file, line, 0)).unwrap();
        let here = json!({ "line": line, "character": 0 });
        assert_eq!(
            offer,
            json!({ "range": { "start": here, "end": here }, "placeholder": "ask " })
        );
    }
    for (line, character) in [(1, 3), (2, 8), (99, 0)] {
        let declined = editor.request("textDocument/prepareRename", &at(&file, line, character));
        assert_eq!(declined.unwrap_err().0, FAILED);
    }
    assert_eq!(
        editor.request("textDocument/rename", &rename(&file, 1, "sum")).unwrap_err().0,
        FAILED
    );
    // An edit moves the code under the caret.
    editor.notify(
        "textDocument/didChange",
        &json!({
            "textDocument": { "uri": uri(&file), "version": 2 },
            "contentChanges": [{
                "range": { "start": { "line": 0, "character": 0 }, "end": { "line": 1, "character": 0 } },
                "text": "",
            }],
        }),
    );
    assert_eq!(
        editor.request("textDocument/prepareRename", &at(&file, 0, 0)).unwrap_err().0,
        FAILED
    );
    // Nor is a document ours that was never opened.
    let other = root.join("other.rs");
    assert_eq!(
        editor.request("textDocument/prepareRename", &at(&other, 0, 0)).unwrap_err().0,
        FAILED
    );
    assert_eq!(home.engine_pid(), None, "offering starts nothing");
}

/// The question typed into F2 reaches the model with the text around the caret; the edit
/// opens a transcript that grows while the model speaks.
#[test]
fn f2_asks_and_the_answer_streams_into_a_transcript() {
    let (home, root, file) = place();
    let (go_on, halt) = gate();
    let model = Model::new(vec![Reply::Halting("It sums ", halt, "the items.")]);
    home.config(&model.config());
    let mut editor = started(&home, &root, &file);
    let edit = editor
        .request("textDocument/rename", &rename(&file, 0, "ask what does total do?"))
        .unwrap();
    let transcript = opened(&edit);
    assert!(transcript.starts_with(root.join(".lapce/ai/runs")), "{}", transcript.display());
    let text = || std::fs::read_to_string(&transcript).unwrap();
    wait_for("the first words in the transcript", || text().contains("It sums"));
    assert!(!text().contains("the items."));
    editor
        .until("the status bar", |e| e.progress().contains(&("begin".into(), "answering".into())));
    drop(go_on);
    wait_for("the rest of the answer", || text().contains("It sums the items."));
    editor.until("the end of the display", |e| e.progress().iter().any(|(kind, _)| kind == "end"));
    let prompt = model.seen()[0].to_string();
    assert!(prompt.contains("what does total do?"), "{prompt}");
    assert!(prompt.contains("items.iter().sum()"), "the open text goes along: {prompt}");
    assert_eq!(editor.popups(), Vec::<String>::new());
    assert_eq!(editor.quit(), Some(0));
    home.assert_nothing_left();
}

/// Lapce shows no error of a rename, so it comes as a popup with the next step in it.
#[test]
fn without_a_model_the_user_is_told_what_to_do() {
    let (home, root, file) = place();
    let mut editor = started(&home, &root, &file);
    let (code, message) =
        editor.request("textDocument/rename", &rename(&file, 4, "run: fix it")).unwrap_err();
    assert_eq!(code, FAILED);
    assert!(message.contains("no model is configured"), "{message}");
    editor.until("a popup", |e| !e.popups().is_empty());
    assert!(editor.popups()[0].contains(&message), "{:?}", editor.popups());

    let ghost = editor.request("textDocument/inlineCompletion", &at(&file, 2, 4)).unwrap_err();
    assert_eq!(ghost.0, FAILED);
    let empty = editor.request("textDocument/rename", &rename(&file, 4, "ask")).unwrap_err();
    assert!(empty.1.contains("nothing was asked"), "{}", empty.1);
}

#[test]
fn a_cancelled_request_stops_the_model() {
    let (home, root, file) = place();
    // A model that takes the request and never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = Model::new(vec![]).config();
    let port = listener.local_addr().unwrap().port();
    let old = config.split("127.0.0.1:").nth(1).unwrap().split('/').next().unwrap().to_owned();
    home.config(&config.replace(&old, &port.to_string()));
    let mut editor = started(&home, &root, &file);
    let completion = json!({ "triggerKind": 1 });
    let mut params = at(&file, 2, 4);
    params["context"] = completion;
    let id = editor.begin("textDocument/inlineCompletion", &params);
    let (mut stream, _) = listener.accept().unwrap();
    editor.notify("$/cancelRequest", &json!({ "id": id }));
    assert_eq!(editor.answer(id).unwrap_err().0, CANCELLED);
    // The engine lets go of the connection.
    let mut rest = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream, &mut rest);
}

/// Elsewhere actions may be resolved ahead of time, so they are commands, and the transcript
/// is shown by request.
#[test]
fn other_editors_get_commands_and_show_document() {
    let (home, root, file) = place();
    let model = Model::new(vec![Reply::Words("Because.")]);
    home.config(&model.config());
    let mut editor = Editor::spawn(&home);
    let params = json!({ "capabilities": {
        "general": { "positionEncodings": ["utf-8", "utf-16"] },
        "window": { "workDoneProgress": true, "showDocument": { "support": true } },
    }});
    let result = editor.initialize(&root, &settings(), params).unwrap();
    assert_eq!(result["capabilities"]["positionEncoding"], "utf-8");
    assert_eq!(
        result["capabilities"]["executeCommandProvider"],
        json!({ "commands": ["lapce-ai.start"] })
    );
    editor.open(&file, "rust", SOURCE);
    let action = pick(&actions(&mut editor, &file, 0), "ask about");
    let command = &action["command"];
    let params = json!({ "command": command["command"], "arguments": command["arguments"] });
    assert_eq!(editor.request("workspace/executeCommand", &params).unwrap(), Value::Null);
    editor.until("the transcript to be shown", |e| {
        e.requests.iter().any(|(method, params)| {
            method == "window/showDocument"
                && params["uri"].as_str().unwrap().contains(".lapce/ai/runs/")
        })
    });
    let unknown = json!({ "command": "rm -rf", "arguments": [] });
    assert_eq!(editor.request("workspace/executeCommand", &unknown).unwrap_err().0, FAILED);
}
