//! Ghost text.

use lapce_ai_tests::wait_for;
use serde_json::json;

use crate::support::model::{Model, Reply, gate};
use crate::support::{at, uri};
use crate::{SUPERSEDED, place, started};

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
