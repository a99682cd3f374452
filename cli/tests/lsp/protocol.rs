//! The protocol: what is offered, what is refused, how it ends.

use lapce_ai_tests::{kill, wait_for};
use serde_json::{Value, json};

use crate::support::{Editor, at, lapce};
use crate::{SOURCE, actions, place, settings, started};

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
