//! `edit` over a real ring, with a scripted model.

mod support;

use lapce_ai_ipc::CallError;
use lapce_ai_ipc::wire::engine::{Edit, EditReply};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use serde_json::json;
use support::scripted::{Scripted, cut, delta, end, error, stream, words};
use support::{Fixture, config, within};

fn edit_of(fixture: &Fixture, piece: &str) -> Edit {
    Edit {
        root: fixture.root(),
        path: format!("{}/src/pay.rs", fixture.root()),
        language: "rust".into(),
        instruction: "retry five times".into(),
        before: "fn pay() {\n".into(),
        piece: piece.into(),
        after: "}\n".into(),
        ..Edit::default()
    }
}

async fn go(fixture: &Fixture, edit: Edit) -> Result<EditReply, WireError> {
    match within(fixture.client.edit(edit).finish()).await {
        Ok(reply) => Ok(reply),
        Err(CallError::Remote(error)) => Err(error),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_piece_comes_back_anew() {
    let server = Scripted::new(vec![words("<rewritten>\nretry(5);\n</rewritten>")]).await;
    let fixture = Fixture::new(&config(&server.base_url(), "")).await;
    let reply = go(&fixture, edit_of(&fixture, "    retry(3);\n")).await.unwrap();
    // Moved to the left by the model, and back.
    assert_eq!(reply.text, "    retry(5);\n");
    assert_eq!((reply.model.as_str(), reply.usage.input), ("test/m", 20));
    let seen = server.seen();
    let asked = seen[0].body["messages"][1]["content"].as_str().unwrap();
    assert!(asked.contains("File \"src/pay.rs\", language \"rust\"."), "{asked}");
    assert!(asked.contains(">\n    retry(3);\n</piece-"), "{asked}");
    assert!(fixture.engine.runs.is_empty());
}

/// A rewritten piece with a blotted key in it would take the user's key away.
#[tokio::test]
async fn a_piece_with_a_key_in_it_is_not_sent() {
    const VARIABLE: &str = "CARGO_MANIFEST_DIR";
    let key = std::env::var(VARIABLE).unwrap();
    let server = Scripted::new(vec![words("<rewritten>\nx\n</rewritten>")]).await;
    let config = config(&server.base_url(), "").replace(
        "kind = \"openai\"\n",
        &format!("kind = \"openai\"\nkey = {{ env = \"{VARIABLE}\" }}\n"),
    );
    let fixture = Fixture::new(&config).await;
    let kept = edit_of(&fixture, &format!("let key = {key:?};\n"));
    let refused = go(&fixture, kept).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Invalid);
    assert!(!format!("{refused:?}").contains(&key), "{refused:?}");
    assert!(server.seen().is_empty());
    // Beside the piece it is blotted.
    let beside = Edit { before: format!("let key = {key:?};\n"), ..edit_of(&fixture, "a\n") };
    assert_eq!(go(&fixture, beside).await.unwrap().text, "x\n");
    assert!(!server.seen()[0].body.to_string().contains(&key));
}

#[tokio::test]
async fn half_an_answer_words_and_errors_edit_nothing() {
    let half = delta(&json!({ "content": "<rewritten>\nretry(" }));
    let server = Scripted::new(vec![
        cut(&half),
        stream(&format!("{half}{}", end("length"))),
        words("There is no retry here."),
        words(""),
        error(400, &[], "{\"error\":{\"message\":\"bad\"}}"),
    ])
    .await;
    let fixture = Fixture::new(&config(&server.base_url(), "")).await;
    let mut said = Vec::new();
    for _ in 0..5 {
        let error = go(&fixture, edit_of(&fixture, "    retry(3);\n")).await.unwrap_err();
        said.push((error.kind, error.message));
    }
    assert_eq!(said[1].0, ErrorKind::Limit, "{said:?}");
    assert!(said[1].1.contains("longer than"), "{said:?}");
    assert!(said[2].1.contains("There is no retry here."), "{said:?}");
    assert!(said[3].1.contains("answered nothing"), "{said:?}");
    for at in [0, 2, 3, 4] {
        assert_eq!(said[at].0, ErrorKind::Provider, "{said:?}");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_anything_is_sent() {
    let server = Scripted::new(Vec::new()).await;
    let fixture = Fixture::new(&config(&server.base_url(), "context = 4096")).await;
    for (edit, kind) in [
        (Edit { instruction: " ".into(), ..edit_of(&fixture, "a\n") }, ErrorKind::Invalid),
        (Edit { root: "/none".into(), ..edit_of(&fixture, "a\n") }, ErrorKind::NotFound),
        (Edit { path: "/w/.env".into(), ..edit_of(&fixture, "A=b\n") }, ErrorKind::Denied),
        (edit_of(&fixture, &"let a = 1;\n".repeat(4000)), ErrorKind::Limit),
        (edit_of(&fixture, &"let a = 1;\n".repeat(1000)), ErrorKind::Limit),
    ] {
        let error = go(&fixture, edit).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error:?}");
    }
    assert!(server.seen().is_empty());
    let none = Fixture::new("[models]\ndetect_local = false\n").await;
    let error = go(&none, edit_of(&none, "a\n")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(!error.hint.is_empty());
}
