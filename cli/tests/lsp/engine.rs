//! An engine that dies or is missing, and what needs none.

use lapce_ai_tests::{TestHome, alive, kill, programs, wait_for};
use serde_json::{Value, json};

use crate::support::model::{Model, Reply, gate};
use crate::support::{Editor, at, lapce, opened, uri};
use crate::{FAILED, SOURCE, place, rename, started};

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
    programs::copy(&home.bin_dir().join("lapce-ai-lsp"), &bare.join("lapce-ai-lsp"));
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
