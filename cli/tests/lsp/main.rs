//! The shim over stdio, as Lapce drives it, with a real engine.
//!
//! Needs `lapce-ai-engine`, `lapce-ai-tool` and `lapce-ai-lsp` beside the test or in
//! `LAPCE_AI_BIN_DIR`. No index program: what needs one is in `tests/tests/editor.rs`.

mod ask;
mod edit;
mod engine;
mod ghost;
mod protocol;
mod runs;
mod support;

use std::path::{Path, PathBuf};

use lapce_ai_tests::TestHome;
use serde_json::{Value, json};
use support::{Editor, at, uri};

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
