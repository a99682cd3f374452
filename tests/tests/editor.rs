//! The editor's side of the whole product: the shim over stdio, the engine, and real LanceDB.
//!
//! What needs no index is in `cli/tests/lsp/`. The programs come from `LAPCE_AI_BIN_DIR`.

#[path = "../../cli/tests/lsp/support/mod.rs"]
mod shim;
#[expect(dead_code, reason = "the index is built by the shim here, and searched through it")]
mod support;

use std::path::Path;

use lapce_ai_tests::{TestHome, kill, wait_for};
use serde_json::{Value, json};
use shim::model::{Model, Reply};
use shim::{Editor, at, opened, uri};
use support::repository;

/// A home and a repository, its path as the shim and the index know it.
fn place() -> (TestHome, std::path::PathBuf) {
    let home = TestHome::new();
    home.config("[models]\ndetect_local = false\n");
    let root = repository(&home, "shop").canonicalize().expect("the repository");
    (home, root)
}

fn symbols(editor: &mut Editor, query: &str) -> Vec<Value> {
    match editor.request("workspace/symbol", &json!({ "query": query })) {
        Ok(list) => list.as_array().expect("a list").clone(),
        Err(_) => Vec::new(),
    }
}

/// Waits until the first build is through: the search finds what only a file holds.
fn wait_for_index(editor: &mut Editor, query: &str) {
    editor.until("the index", |e| !symbols(e, query).is_empty());
}

fn file_of(entry: &Value) -> &str {
    entry["location"]["uri"].as_str().expect("a file")
}

/// Opening the workspace indexes it, with progress in the status bar; then the palette finds
/// by meaning, in the engine's order, in a form that Lapce's filter keeps.
#[test]
fn the_palette_searches_by_meaning_soon_after_opening() {
    let (home, root) = place();
    let mut editor = Editor::start(&home, &root, &json!({}));
    wait_for_index(&mut editor, "exponential backoff");
    editor.until("the end of the display", |e| e.progress().iter().any(|(kind, _)| kind == "end"));
    let progress = editor.progress();
    assert_eq!(progress[0].0, "begin", "{progress:?}");
    assert!(progress.iter().all(|(kind, text)| kind == "end" || !text.is_empty()), "{progress:?}");

    let found = symbols(&mut editor, "settings parse");
    assert_eq!(file_of(&found[0]), format!("{}/src/config.rs", uri(&root)), "{found:#?}");
    let first = &found[0];
    assert!(
        first["name"].as_str().expect("a name").starts_with("① parse_settings_file"),
        "{first}"
    );
    assert_eq!(first["containerName"], "/settings/parse/");
    let line = first["location"]["range"]["start"]["line"].as_u64().expect("a line") as usize;
    let text = std::fs::read_to_string(root.join("src/config.rs")).expect("the file");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[line..].iter().take(3).any(|l| l.contains("parse_settings_file")), "line {line}");
    let numerals: Vec<char> =
        found.iter().filter_map(|entry| entry["name"].as_str()?.chars().next()).collect();
    assert!(numerals.windows(2).all(|pair| pair[0] < pair[1]), "{numerals:?}");
    assert!(found.iter().all(|entry| !file_of(entry).contains("/secret/")), "{found:#?}");
    assert_eq!(editor.popups(), Vec::<String>::new());
    assert_eq!(editor.quit(), Some(0));
    home.assert_nothing_left();
}

#[test]
fn the_setting_limits_what_is_shown() {
    let (home, root) = place();
    let settings = json!({ "search.limit": 2, "references.limit": 1 });
    let mut editor = Editor::start(&home, &root, &settings);
    wait_for_index(&mut editor, "exponential backoff");
    // Once all files are in.
    editor.until("several hits", |e| symbols(e, "message recipient settings price").len() > 1);
    assert_eq!(symbols(&mut editor, "message recipient settings price").len(), 2);

    let file = root.join("src/new.rs");
    editor.open(&file, "rust", "// ? message to a recipient\nfn f() {}\n");
    let places = editor.request("textDocument/references", &at(&file, 0, 0)).expect("references");
    let places = places.as_array().expect("a list");
    assert_eq!(places.len(), 1);
    assert_eq!(places[0]["uri"], format!("{}/lib/mailer.py", uri(&root)));
    assert!(
        editor.request("textDocument/references", &at(&file, 1, 0)).is_err(),
        "code is not ours"
    );
}

#[test]
fn a_saved_file_is_found_after_a_while() {
    let (home, root) = place();
    let mut editor = Editor::start(&home, &root, &json!({}));
    wait_for_index(&mut editor, "exponential backoff");
    let file = root.join("src/queue.rs");
    std::fs::write(&file, "pub fn drain_pending_jobs() {}\n").expect("a file");
    editor.notify("textDocument/didSave", &json!({ "textDocument": { "uri": uri(&file) } }));
    editor.until("the new file", |e| {
        symbols(e, "drain pending jobs")
            .first()
            .is_some_and(|hit| file_of(hit).ends_with("queue.rs"))
    });
}

/// The answer to a question is built on what the index finds, and names it.
#[test]
fn f2_answers_with_the_passages_found() {
    let (home, root) = place();
    let model = Model::new(vec![Reply::Words("It doubles the delay.")]);
    home.config(&model.config());
    let mut editor = Editor::start(&home, &root, &json!({}));
    wait_for_index(&mut editor, "exponential backoff");
    let file = root.join("README.md");
    editor.open(&file, "markdown", "\n# Shop\n");
    let mut params = at(&file, 0, 0);
    params["newName"] = json!("ask how long does exponential backoff wait between attempts?");
    let edit = editor.request("textDocument/rename", &params).expect("an edit");
    let transcript = opened(&edit);
    let text = || std::fs::read_to_string(&transcript).expect("the transcript");
    wait_for("the answer and its sources", || {
        text().contains("It doubles the delay.") && text().contains("src/retry.rs")
    });
    let prompt = model.seen()[0].to_string();
    assert!(prompt.contains("saturating_mul"), "the passage reaches the model: {prompt}");
    assert_eq!(editor.quit(), Some(0));
    home.assert_nothing_left();
}

/// Lapce asks at each key press and shows the answer that it reads last: it is the one to the
/// whole query.
#[test]
fn typing_fast_ends_with_the_answer_to_the_whole_query() {
    let (home, root) = place();
    let mut editor = Editor::start(&home, &root, &json!({}));
    wait_for_index(&mut editor, "exponential backoff");
    let query = "how are settings parsed";
    let ids: Vec<i64> = (1..=query.len())
        .map(|typed| editor.begin("workspace/symbol", &json!({ "query": query[..typed] })))
        .collect();
    let newest = *ids.last().expect("a request");
    let answers: Vec<_> = ids.into_iter().map(|id| editor.answer(id)).collect();
    assert_eq!(editor.last_answered, newest);
    let whole = answers.last().expect("an answer").as_ref().expect("hits");
    assert_eq!(whole[0]["containerName"], "/how/are/settings/parsed/");
    assert_eq!(editor.quit(), Some(0));
    home.assert_nothing_left();
}

/// The engine dies: one popup, not one more from the index; the next search starts another engine,
/// which watches the workspace again without a save.
#[test]
fn a_killed_engine_is_said_once_and_its_successor_watches_again() {
    let (home, root) = place();
    let mut editor = Editor::start(&home, &root, &json!({}));
    wait_for_index(&mut editor, "exponential backoff");
    kill(home.engine_pid().expect("an engine"), libc::SIGKILL);
    editor.until("a word about it", |e| !e.popups().is_empty());
    editor.until("a search that works again", |e| !symbols(e, "exponential backoff").is_empty());
    std::fs::write(root.join("src/queue.rs"), "pub fn drain_pending_jobs() {}\n").expect("a file");
    editor.until("a file that nobody saved", |e| {
        symbols(e, "drain pending jobs")
            .first()
            .is_some_and(|hit| file_of(hit).ends_with("queue.rs"))
    });
    let popups = editor.popups();
    assert_eq!(popups.len(), 1, "{popups:?}");
    assert_eq!(editor.quit(), Some(0));
    home.assert_nothing_left();
}

/// The index worker dies: the next search has another one.
#[test]
fn a_killed_worker_is_not_noticed_in_the_palette() {
    let (home, root) = place();
    let mut editor = Editor::start(&home, &root, &json!({}));
    wait_for_index(&mut editor, "exponential backoff");
    let workers = |home: &TestHome| -> Vec<u32> {
        home.processes().into_iter().filter(|p| p.name == "lapce-ai-index").map(|p| p.pid).collect()
    };
    for worker in workers(&home) {
        kill(worker, libc::SIGKILL);
    }
    editor.until("a search that works again", |e| !symbols(e, "exponential backoff").is_empty());
    assert_eq!(editor.quit(), Some(0));
    home.assert_nothing_left();
}

/// A folder that is gone, or no folder at all, is said and does no harm.
#[test]
fn a_workspace_that_is_not_there_is_declined() {
    let home = TestHome::new();
    let mut editor = Editor::start(&home, Path::new("/no/such/folder"), &json!({}));
    let (_, message) =
        editor.request("workspace/symbol", &json!({ "query": "anything" })).expect_err("no folder");
    assert!(message.contains("no folder is open"), "{message}");
    assert_eq!(editor.quit(), Some(0));
    assert_eq!(home.engine_pid(), None);
}
