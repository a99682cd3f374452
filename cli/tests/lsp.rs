//! The shim over stdio, as Lapce drives it, with a real engine.
//!
//! Needs `lapce-ai-engine`, `lapce-ai-tool` and `lapce-ai-lsp` beside the test or in
//! `LAPCE_AI_BIN_DIR`. No index program: what needs one is in `tests/tests/editor.rs`.

mod lsp_support;

use std::path::{Path, PathBuf};

use lapce_ai_tests::{TestHome, alive, kill, wait_for};
use lsp_support::model::{Model, Reply, gate};
use lsp_support::{Editor, at, lapce, opened, uri};
use serde_json::{Value, json};

const CANCELLED: i64 = -32800;
const SUPERSEDED: i64 = -32802;
const FAILED: i64 = -32803;
const MODIFIED: i64 = -32801;

const SOURCE: &str = "// ai: make this faster\nfn total(items: &[u64]) -> u64 {\n    items.iter().sum()\n}\n\n// ? where is the total\n";

/// A home, a workspace with one source file, and its path.
fn place() -> (TestHome, PathBuf, PathBuf) {
    let home = TestHome::new();
    home.config("[models]\ndetect_local = false\n");
    let root = home.workspace("project", &[("src/a.rs", SOURCE)]).canonicalize().unwrap();
    let file = root.join("src/a.rs");
    (home, root, file)
}

/// Settings without the index, which these tests have no program for.
fn settings() -> Value {
    json!({ "index.auto": false })
}

fn started(home: &TestHome, root: &Path, file: &Path) -> Editor {
    let mut editor = Editor::start(home, root, &settings());
    editor.open(file, "rust", SOURCE);
    editor
}

fn actions(editor: &mut Editor, file: &Path, line: u32) -> Vec<Value> {
    let here = json!({ "line": line, "character": 0 });
    let params = json!({
        "textDocument": { "uri": uri(file) },
        "range": { "start": here, "end": here },
        "context": { "diagnostics": [] },
    });
    match editor.request("textDocument/codeAction", &params) {
        Ok(list) => list.as_array().expect("a list").clone(),
        Err((code, _)) => {
            assert_eq!(code, FAILED);
            Vec::new()
        }
    }
}

fn pick(actions: &[Value], title: &str) -> Value {
    let found = actions.iter().find(|a| a["title"].as_str().is_some_and(|t| t.contains(title)));
    found.unwrap_or_else(|| panic!("no action {title:?} in {actions:#?}")).clone()
}

fn rename(file: &Path, line: u32, text: &str) -> Value {
    let mut params = at(file, line, 0);
    params["newName"] = json!(text);
    params
}

#[test]
fn capabilities_are_those_that_lapce_can_use() {
    let (home, root, _) = place();
    let mut editor = Editor::spawn(&home);
    let result = editor.initialize(&root, &settings(), lapce()).unwrap();
    assert_eq!(
        result["capabilities"],
        json!({
            "positionEncoding": "utf-16",
            "textDocumentSync": { "openClose": true, "change": 2, "save": { "includeText": false } },
            "referencesProvider": true,
            "workspaceSymbolProvider": true,
            "codeActionProvider": { "codeActionKinds": ["quickfix", "refactor"], "resolveProvider": true },
            "renameProvider": { "prepareProvider": true },
            "inlineCompletionProvider": true,
        })
    );
    assert_eq!(editor.request("initialize", &json!({})).unwrap_err().0, -32600);
    assert_eq!(editor.quit(), Some(0));
    // Nothing was asked for, so nothing was started.
    assert_eq!(home.engine_pid(), None);
}

#[test]
fn settings_switch_features_off() {
    let (home, root, file) = place();
    let mut editor = Editor::spawn(&home);
    let off = json!({
        "index.auto": false, "search.enabled": false, "ask.enabled": false,
        "completion.enabled": false, "actions.enabled": false,
    });
    let capabilities = editor.initialize(&root, &off, lapce()).unwrap()["capabilities"].clone();
    for absent in ["renameProvider", "inlineCompletionProvider"] {
        assert!(capabilities.get(absent).is_none(), "{capabilities}");
    }
    assert_eq!(capabilities["workspaceSymbolProvider"], false);
    editor.open(&file, "rust", SOURCE);
    assert_eq!(actions(&mut editor, &file, 0), Vec::<Value>::new());
}

#[test]
fn garbage_neither_ends_nor_confuses_it() {
    let (home, root, file) = place();
    let mut editor = started(&home, &root, &file);
    for garbage in [
        &b"nonsense\r\n\r\n"[..],
        b"Content-Length: 99999999999999999999\r\n\r\n",
        b"Content-Length: -4\r\n\r\n",
        b"Content-Length: 3\r\n\r\n\xff\xfe\xfd",
        b"Content-Length: 2\r\n\r\n[]",
        b"Content-Length: 4\r\n\r\nnull",
        b"Content-Length: 1\r\n\r\n{\"id\":1}",
        b"\r\n\r\n\r\n",
    ] {
        editor.raw(garbage);
    }
    // A message larger than is taken, whole and well-formed.
    let body = format!("{{\"method\":\"x\",\"params\":\"{}\"}}", "a".repeat(17 << 20));
    editor.raw(format!("Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    for odd in [
        json!({ "jsonrpc": "2.0", "method": "textDocument/didOpen", "params": [] }),
        json!({ "jsonrpc": "2.0", "method": "textDocument/didChange" }),
        json!({ "jsonrpc": "2.0", "method": "$/cancelRequest", "params": { "id": 4711 } }),
        json!({ "jsonrpc": "2.0", "id": 77, "result": 1 }),
        json!({ "id": { "x": 1 }, "method": "workspace/symbol" }),
    ] {
        editor.send(&odd);
    }
    assert_eq!(editor.request("no/such", &json!({})).unwrap_err().0, -32601);
    assert_eq!(editor.request("textDocument/rename", &json!({ "x": 1 })).unwrap_err().0, -32602);
    let here = editor.request("textDocument/prepareRename", &at(&file, 0, 0)).unwrap();
    assert_eq!(here["placeholder"], "ask ");
    assert_eq!(editor.quit(), Some(0));
}

#[test]
fn requests_come_after_initialize_and_before_shutdown() {
    let (home, root, file) = place();
    let mut editor = Editor::spawn(&home);
    assert_eq!(editor.request("workspace/symbol", &json!({ "query": "x" })).unwrap_err().0, -32002);
    assert_eq!(editor.request("initialize", &json!(7)).unwrap_err().0, -32602);
    editor.initialize(&root, &settings(), lapce()).unwrap();
    assert_eq!(editor.request("shutdown", &json!({})).unwrap(), Value::Null);
    assert_eq!(
        editor.request("textDocument/prepareRename", &at(&file, 0, 0)).unwrap_err().0,
        -32600
    );
    editor.notify("exit", &json!({}));
    assert_eq!(lapce_ai_tests::wait(&mut editor.child), Some(0));

    let mut editor = Editor::spawn(&home);
    editor.notify("exit", &json!({}));
    assert_eq!(lapce_ai_tests::wait(&mut editor.child), Some(1), "exit without shutdown");
}

/// Lapce quits by closing stdin; and when something else holds that pipe, its death counts.
#[test]
fn it_ends_with_the_editor() {
    let (home, root, file) = place();
    assert_eq!(started(&home, &root, &file).quit(), Some(0));

    // A shell stands for the editor: it starts the shim on the pipe that this test holds.
    let shim = home.command("lapce-ai-lsp");
    let mut shell = home.command("lapce-ai-lsp");
    shell = {
        let mut sh = std::process::Command::new("/bin/sh");
        sh.envs(shell.get_envs().filter_map(|(k, v)| Some((k, v?))));
        sh.arg("-c").arg("exec 3<&0; \"$0\" --stdio <&3 & wait").arg(shim.get_program());
        sh
    };
    let mut editor = Editor::over(&mut shell);
    editor.request("initialize", &json!({ "capabilities": {} })).unwrap();
    let shims = || home.processes().into_iter().filter(|p| p.name == "lapce-ai-lsp").count();
    assert_eq!(shims(), 1);
    kill(editor.child.id(), libc::SIGKILL);
    wait_for("the shim to end", || shims() == 0);
    drop(editor);

    // `processId` alone: the shim's parent (this test) lives on.
    let mut other = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let mut editor = Editor::spawn(&home);
    editor.request("initialize", &json!({ "processId": other.id(), "capabilities": {} })).unwrap();
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(lapce_ai_tests::wait(&mut editor.child), Some(0));
}

#[test]
fn an_editor_that_stops_reading_does_not_keep_it_alive() {
    let (home, root, file) = place();
    let mut editor = started(&home, &root, &file);
    // Far more answers than a pipe holds, none of them read by the test's thread yet.
    for _ in 0..2_000 {
        editor.begin("textDocument/prepareRename", &at(&file, 0, 0));
    }
    assert_eq!(editor.quit(), Some(0));
}

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

/// However many of the requests reach the model, none of them is answered by it before the
/// last one is there: so the others can only have been superseded.
#[test]
fn ghost_text_comes_superseded_requests_do_not() {
    const REQUESTS: usize = 5;
    let (home, root, file) = place();
    let (answers, waits): (Vec<_>, Vec<_>) = (0..REQUESTS).map(|_| gate()).unzip();
    let model =
        Model::new(waits.into_iter().map(|wait| Reply::Ghost("copied().", Some(wait))).collect());
    home.config(&model.config());
    let mut editor = started(&home, &root, &file);
    let params = at(&file, 2, 17);
    let mut ids: Vec<i64> =
        (0..REQUESTS).map(|_| editor.begin("textDocument/inlineCompletion", &params)).collect();
    let last = ids.pop().unwrap();
    for id in ids {
        assert_eq!(editor.answer(id).unwrap_err().0, SUPERSEDED, "request {id}");
    }
    drop(answers);
    let items = editor.answer(last).unwrap();
    let here = json!({ "line": 2, "character": 17 });
    assert_eq!(
        items,
        json!({ "items": [{ "insertText": "copied().", "range": { "start": here, "end": here } }] })
    );
    let body = &model.seen()[0];
    assert!(body["prompt"].as_str().unwrap().ends_with("    items.iter()."), "{body}");
    assert!(body["suffix"].as_str().unwrap().starts_with("sum()\n}"), "{body}");
}

#[test]
fn no_ghost_text_takes_away_what_is_shown() {
    let (home, root, file) = place();
    let model = Model::new(vec![Reply::Ghost("", None)]);
    home.config(&model.config());
    let mut editor = started(&home, &root, &file);
    let answer = editor.request("textDocument/inlineCompletion", &at(&file, 2, 17));
    assert_eq!(answer.unwrap(), json!([]));
}

#[test]
fn ghost_text_for_an_older_text_is_withheld() {
    let (home, root, file) = place();
    let (answer, wait) = gate();
    let model = Model::new(vec![Reply::Ghost("copied().", Some(wait))]);
    home.config(&model.config());
    let mut editor = started(&home, &root, &file);
    let id = editor.begin("textDocument/inlineCompletion", &at(&file, 2, 17));
    wait_for("the request to reach the model", || model.seen().len() == 1);
    editor.notify(
        "textDocument/didChange",
        &json!({
            "textDocument": { "uri": uri(&file), "version": 2 },
            "contentChanges": [{ "text": "fn other() {}\n" }],
        }),
    );
    // In order: the change is in before the answer is let go.
    assert!(editor.request("textDocument/prepareRename", &at(&file, 0, 0)).is_err());
    drop(answer);
    assert_eq!(editor.answer(id).unwrap_err().0, -32801);
}

/// The agent asks before it runs a command; the answer is given with a code action in the
/// transcript.
#[test]
fn an_approval_is_answered_in_the_transcript() {
    for allow in [true, false] {
        let (home, root, file) = place();
        let model = Model::new(vec![
            Reply::Call("execute_command", json!({ "command": "touch made-by-the-agent" })),
            Reply::Call("attempt_completion", json!({ "result": "All done." })),
        ]);
        home.config(&model.config());
        let mut editor = started(&home, &root, &file);
        let offered = actions(&mut editor, &file, 0);
        let action = pick(&offered, "run the agent on “make this faster”");
        assert!(action.get("edit").is_none(), "Lapce would apply it without resolving: {action}");
        let resolved = editor.request("codeAction/resolve", &action).unwrap();
        let transcript = opened(&resolved["edit"]);
        editor.until("the question", |e| !e.popups().is_empty());
        let popup = editor.popups()[0].clone();
        assert!(popup.contains("touch made-by-the-agent"), "{popup}");
        assert!(popup.contains(transcript.to_str().unwrap()), "{popup}");

        let text = std::fs::read_to_string(&transcript).unwrap();
        editor.open(&transcript, "markdown", &text);
        let answers = actions(&mut editor, &transcript, 0);
        assert!(
            pick(&answers, "for the rest of this run")["title"]
                .as_str()
                .unwrap()
                .contains("execute_command")
        );
        pick(&answers, "stop this run");
        let answer = pick(
            &answers,
            if allow {
                "Lapce AI: approve execute_command for 'touch"
            } else {
                "Lapce AI: deny execute_command for 'touch"
            },
        );
        let resolved = editor.request("codeAction/resolve", &answer).unwrap();
        assert_eq!(opened(&resolved["edit"]), transcript);

        wait_for("the end of the run", || {
            std::fs::read_to_string(&transcript).unwrap().contains("All done.")
        });
        assert_eq!(root.join("made-by-the-agent").exists(), allow);
        editor.until("the end of the display", |e| {
            e.progress().iter().any(|(kind, _)| kind == "end")
        });
        // The run is over: the transcript is a document like any other.
        assert!(
            editor
                .request("codeAction/resolve", &answer)
                .unwrap_err()
                .1
                .contains("answered already")
        );
        assert_eq!(editor.quit(), Some(0));
        home.assert_nothing_left();
    }
}

/// A run that was started in a terminal waits; the editor hears of it and answers. What the
/// editor shows and has not saved is what its tools read, and write over by no means.
#[test]
fn a_run_of_the_terminal_is_answered_here_and_sees_unsaved_text() {
    let (home, root, file) = place();
    let model = Model::new(vec![
        Reply::Call("read_file", json!({ "path": "src/a.rs" })),
        Reply::Call("write_to_file", json!({ "path": "src/a.rs", "content": "x" })),
        Reply::Call("execute_command", json!({ "command": "touch made-by-the-agent" })),
        Reply::Call("attempt_completion", json!({ "result": "All done." })),
    ]);
    home.config(&model.config());
    let mut editor = started(&home, &root, &file);
    let before = std::fs::read_to_string(&file).unwrap();
    editor.notify(
        "textDocument/didChange",
        &json!({
            "textDocument": { "uri": uri(&file), "version": 9 },
            "contentChanges": [{ "text": "// only in the editor\n" }],
        }),
    );
    // Whatever needs the engine connects to it; the shim starts none for this.
    let _ = editor.request("workspace/symbol", &json!({ "query": "anything" }));
    wait_for("the engine to hold the text", || {
        let mut read = home.command("lapce-ai");
        read.args(["tool", "run", "read_file", "--json", "{\"path\":\"src/a.rs\"}", "--root"]);
        let given = read.arg(&root).output().unwrap();
        String::from_utf8_lossy(&given.stdout).contains("only in the editor")
    });
    let mut command = home.command("lapce-ai");
    // SAFETY: setsid is async-signal-safe and touches no memory.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, || {
            libc::setsid();
            Ok(())
        });
    }
    let mut run = command
        .args(["run", "--wait", "--root", root.to_str().unwrap(), "look"])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let runs = root.join(".lapce/ai/runs");
    let transcript = || Some(std::fs::read_dir(&runs).ok()?.flatten().next()?.path());
    wait_for("the transcript", || {
        transcript().is_some_and(|t| {
            t.extension().is_some_and(|e| e == "md")
                && std::fs::read_to_string(t).unwrap().contains("Waiting for the user's approval")
        })
    });
    let transcript = transcript().unwrap();
    editor.open(&transcript, "markdown", &std::fs::read_to_string(&transcript).unwrap());
    let mut answers = Vec::new();
    wait_for("the question to be heard of", || {
        answers = actions(&mut editor, &transcript, 0);
        answers
            .iter()
            .any(|a| a["title"].as_str().unwrap().contains("approve execute_command for 'touch"))
    });
    pick(&answers, "in this workspace");
    let answer = pick(&answers, "Lapce AI: approve execute_command for 'touch");
    editor.request("codeAction/resolve", &answer).unwrap();
    assert!(run.wait().unwrap().success());
    assert!(root.join("made-by-the-agent").exists());
    let seen = model.seen();
    let last = seen.last().unwrap().to_string();
    assert!(last.contains("only in the editor"), "{last}");
    assert!(last.contains("not saved, so nothing was written"), "{last}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    assert_eq!(editor.quit(), Some(0));
    home.assert_nothing_left();
}

#[test]
fn a_run_is_stopped_from_its_transcript_and_by_quitting() {
    let (home, root, file) = place();
    let (_keep, halt) = gate();
    let (_keep_too, halt_too) = gate();
    let model = Model::new(vec![
        Reply::Halting("Thinking", halt, ""),
        Reply::Halting("Thinking", halt_too, ""),
    ]);
    home.config(&model.config());
    let mut editor = started(&home, &root, &file);
    let start = |editor: &mut Editor| {
        let edit = editor.request("textDocument/rename", &rename(&file, 4, "run: think")).unwrap();
        opened(&edit)
    };
    let runs = |home: &TestHome| {
        let status = home.cli(["status", "--json"]).ok().json();
        status["active_runs"].as_array().expect("a list").len()
    };
    let transcript = start(&mut editor);
    wait_for("the run", || runs(&home) == 1);
    editor.open(&transcript, "markdown", "");
    let stop = pick(&actions(&mut editor, &transcript, 0), "stop this run");
    editor.request("codeAction/resolve", &stop).unwrap();
    wait_for("the run to end", || runs(&home) == 0);

    start(&mut editor);
    wait_for("the second run", || runs(&home) == 1);
    assert_eq!(editor.quit(), Some(0));
    wait_for("the run to end with its editor", || runs(&home) == 0);
    home.assert_nothing_left();
}

#[test]
fn actions_leave_code_to_the_languages_server() {
    let (home, root, file) = place();
    let mut editor = started(&home, &root, &file);
    for line in [1, 2, 3] {
        assert_eq!(actions(&mut editor, &file, line), Vec::<Value>::new(), "line {line}");
    }
    let blank = actions(&mut editor, &file, 4);
    assert_eq!(blank.len(), 2);
    pick(&blank, "open the terminal UI");
    pick(&blank, "explain this place");
    let only = json!({
        "textDocument": { "uri": uri(&file) },
        "range": { "start": { "line": 0, "character": 0 }, "end": { "line": 0, "character": 0 } },
        "context": { "diagnostics": [], "only": ["source.organizeImports"] },
    });
    assert_eq!(editor.request("textDocument/codeAction", &only).unwrap_err().0, FAILED);
    for foreign in [
        json!({ "title": "x" }),
        json!({ "title": "x", "data": 7 }),
        json!([]),
        json!({ "data": { "lapceAi": { "do": "format" } } }),
    ] {
        assert!(editor.request("codeAction/resolve", &foreign).is_err(), "{foreign}");
    }
    assert_eq!(home.engine_pid(), None, "offering starts nothing");
}

/// Lapce runs `kind` with `cargoArgs` in its terminal; the task is one argument whatever it
/// holds.
#[test]
fn a_task_can_be_run_in_the_terminal() {
    let (home, root, file) = place();
    let mut editor = started(&home, &root, &file);
    let action = pick(&actions(&mut editor, &file, 0), "run in the terminal");
    assert_eq!(action["command"], "rust-analyzer.runSingle");
    let args = &action["arguments"][0];
    assert_eq!(
        args["args"],
        json!({
            "cargoArgs": ["run", "--", "make this faster"], "cargoExtraArgs": [], "executableArgs": [],
        })
    );
    let program = args["kind"].as_str().unwrap();
    assert_eq!(Path::new(program), home.bin_dir().canonicalize().unwrap().join("lapce-ai"));
    for part in ["targetUri", "targetRange", "targetSelectionRange"] {
        assert!(!args["location"][part].is_null(), "{args}");
    }
    let tui = pick(&actions(&mut editor, &file, 4), "open the terminal UI");
    assert_eq!(tui["arguments"][0]["args"]["cargoArgs"], json!(["tui"]));
    // An editor without that command is not offered it.
    let mut editor = Editor::spawn(&home);
    editor.initialize(&root, &settings(), json!({ "capabilities": {} })).unwrap();
    editor.open(&file, "rust", SOURCE);
    let offered = actions(&mut editor, &file, 0);
    assert!(offered.iter().all(|a| a["command"] != "rust-analyzer.runSingle"));
}

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

/// The engine dies under a question: its request fails, the user is told once, and the next
/// request starts another engine.
#[test]
fn a_killed_engine_is_said_once_and_started_again() {
    let (home, root, file) = place();
    let (_keep, halt) = gate();
    let model = Model::new(vec![Reply::Ghost("never", Some(halt)), Reply::Words("Hello again.")]);
    home.config(&model.config());
    let mut editor = started(&home, &root, &file);
    let id = editor.begin("textDocument/inlineCompletion", &at(&file, 2, 17));
    wait_for("the request to reach the model", || model.seen().len() == 1);
    let first = home.engine_pid().expect("an engine");
    kill(first, libc::SIGKILL);
    assert_eq!(editor.answer(id).unwrap_err().0, FAILED);
    editor.until("a word about it", |e| !e.popups().is_empty());

    let edit = editor.request("textDocument/rename", &rename(&file, 4, "hello?")).unwrap();
    let transcript = opened(&edit);
    wait_for("the answer", || {
        std::fs::read_to_string(&transcript).unwrap().contains("Hello again.")
    });
    let second = home.engine_pid().expect("another engine");
    assert!(second != first && alive(second));
    let popups = editor.popups();
    assert_eq!(popups.len(), 1, "{popups:?}");
    assert!(popups[0].contains("engine ended"), "{popups:?}");
    assert_eq!(editor.quit(), Some(0));
    home.assert_nothing_left();
}

/// Without the engine's program every request is answered, and the user is told once.
#[test]
fn a_missing_engine_is_said_once() {
    let (home, root, file) = place();
    let bare = home.folder("bare");
    std::fs::copy(home.bin_dir().join("lapce-ai-lsp"), bare.join("lapce-ai-lsp")).unwrap();
    let alone = TestHome::with_programs(&bare);
    let mut command = alone.command("lapce-ai-lsp");
    command.env("PATH", "/usr/bin:/bin");
    let mut editor = Editor::over(&mut command);
    editor.initialize(&root, &json!({}), lapce()).unwrap();
    editor.open(&file, "rust", SOURCE);
    for _ in 0..5 {
        let (code, message) =
            editor.request("workspace/symbol", &json!({ "query": "total" })).unwrap_err();
        assert_eq!(code, FAILED);
        assert!(message.contains("lapce-ai-engine was not found"), "{message}");
    }
    let engines: Vec<_> =
        editor.popups().into_iter().filter(|p| p.contains("has no engine")).collect();
    assert!(engines.len() <= 2, "the index's own word may come too: {engines:?}");
    assert_eq!(editor.quit(), Some(0));
}

#[test]
fn search_declines_when_it_has_nothing() {
    let (home, root, file) = place();
    let mut editor = started(&home, &root, &file);
    for query in ["", "x", "  "] {
        assert_eq!(
            editor.request("workspace/symbol", &json!({ "query": query })).unwrap_err().0,
            FAILED
        );
    }
    assert_eq!(home.engine_pid(), None, "too short to start anything");
    let (code, message) =
        editor.request("workspace/symbol", &json!({ "query": "total price" })).unwrap_err();
    assert_eq!(code, FAILED);
    assert!(message.contains("index"), "says that there is no index, and what to do: {message}");
    // References: only on a query comment.
    let (_, message) = editor.request("textDocument/references", &at(&file, 5, 0)).unwrap_err();
    assert!(message.contains("index"), "{message}");
    for line in [1, 4] {
        let (_, message) =
            editor.request("textDocument/references", &at(&file, line, 0)).unwrap_err();
        assert!(!message.contains("index"), "{message}");
    }
}

/// Opening files starts no model call, whatever is configured.
#[test]
fn opening_a_file_calls_no_model() {
    let (home, root, file) = place();
    let model = Model::new(vec![]);
    home.config(&model.config());
    let mut editor = Editor::start(&home, &root, &json!({}));
    for n in 0..20 {
        editor.open(&root.join(format!("src/{n}.rs")), "rust", SOURCE);
    }
    editor.open(&file, "rust", SOURCE);
    editor.notify("textDocument/didSave", &json!({ "textDocument": { "uri": uri(&file) } }));
    // A search, so that the engine certainly had its turn.
    let _ = editor.request("workspace/symbol", &json!({ "query": "total price" }));
    assert_eq!(model.seen(), Vec::<Value>::new());
    assert_eq!(editor.quit(), Some(0));
}

#[test]
fn the_command_line_is_small() {
    let (home, ..) = place();
    let run = |arg: &str| {
        let mut command = home.command("lapce-ai-lsp");
        command.arg(arg);
        lapce_ai_tests::run(command, b"")
    };
    let version = run("--version").ok().stdout;
    assert_eq!(version, format!("lapce-ai-lsp {}\n", env!("CARGO_PKG_VERSION")));
    assert!(run("--help").ok().stdout.contains("--stdio"));
    assert!(run("--port=1").exited(2).stderr.contains("unknown argument --port=1"));
}
