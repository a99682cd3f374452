//! Small models (`models.py`): one that works, and what a folder may hold instead.

use std::io::{Cursor, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lapce_ai_embed::limits::MAX_TEXTS;
use lapce_ai_embed::model::{Model, Side};
use lapce_ai_embed::serve;

fn folder(name: &str) -> PathBuf {
    std::env::current_dir().unwrap().join("tests/models").join(name)
}

/// A folder with these files, or those of `tiny` in their place.
fn with(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["model.onnx", "tokenizer.json"] {
        std::fs::copy(folder("tiny").join(name), dir.path().join(name)).unwrap();
    }
    for (name, bytes) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    dir
}

fn error(dir: &Path) -> String {
    Model::load(dir).err().expect("it must not load").0
}

#[test]
fn texts_together_have_the_vectors_they_have_alone() {
    let model = Model::load(&folder("tiny")).unwrap();
    assert_eq!(model.dims(), 16);
    let texts = ["retry backoff config", "", "kangaroo", "parse parse", "something unknown"];
    let together = model.vectors(&texts, Side::Document).unwrap();
    for (text, vector) in texts.iter().zip(&together) {
        assert_eq!(model.vectors(&[text], Side::Document).unwrap()[0], *vector, "{text}");
    }
    let backoff = model.vectors(&["backoff"], Side::Document).unwrap();
    assert_eq!(together[2], backoff[0], "one word by another name");
    assert_ne!(together[2], together[3]);
}

#[test]
fn the_name_of_a_model_changes_with_whatever_its_vectors_depend_on() {
    let id = |dir: &Path| Model::load(dir).unwrap().id().to_owned();
    let tiny = id(&folder("tiny"));
    assert!(tiny.starts_with("onnx:") && tiny.len() == 21, "{tiny}");
    assert_eq!(id(with(&[]).path()), tiny, "the folder's name does not count");
    let tokenizer = std::fs::read_to_string(folder("tiny").join("tokenizer.json")).unwrap();
    let tokenizer = tokenizer.replace("\"lowercase\": true", "\"lowercase\": false");
    let cased = with(&[("tokenizer.json", tokenizer.as_bytes())]);
    let first = with(&[("1_Pooling/config.json", br#"{"pooling_mode_cls_token": true}"#)]);
    let ids = [tiny, id(cased.path()), id(first.path())];
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
}

#[test]
fn prompts_and_pooling_of_the_folder_are_followed() {
    let prompts = br#"{"prompts": {"query": "retry ", "document": ""}}"#;
    let dir = with(&[("config_sentence_transformers.json", prompts)]);
    let (model, plain) = (Model::load(dir.path()).unwrap(), Model::load(&folder("tiny")).unwrap());
    let of = |model: &Model, text, side| model.vectors(&[text], side).unwrap();
    assert_eq!(of(&model, "config", Side::Question), of(&plain, "retry config", Side::Document));
    assert_eq!(of(&model, "config", Side::Document), of(&plain, "config", Side::Document));
    let first = with(&[("1_Pooling/config.json", br#"{"pooling_mode_cls_token": true}"#)]);
    let first = Model::load(first.path()).unwrap();
    assert_eq!(of(&first, "config", Side::Document), of(&first, "parse", Side::Document));
}

#[test]
fn a_folder_without_a_model_of_texts_says_what_is_wrong() {
    let empty = tempfile::tempdir().unwrap();
    assert!(error(empty.path()).ends_with("model.onnx is missing"), "{}", error(empty.path()));
    let no_words = with(&[]);
    std::fs::remove_file(no_words.path().join("tokenizer.json")).unwrap();
    assert!(error(no_words.path()).ends_with("tokenizer.json is missing"));
    let images = error(&folder("images"));
    assert!(images.contains("it wants an input \"pixels\""), "{images}");
    let pipe = tempfile::tempdir().unwrap();
    std::fs::create_dir(pipe.path().join("model.onnx")).unwrap();
    std::fs::write(pipe.path().join("tokenizer.json"), "{}").unwrap();
    assert!(error(pipe.path()).contains("model.onnx: it is not a file"));
}

#[test]
fn damaged_models_are_errors() {
    let whole = std::fs::read(folder("tiny").join("model.onnx")).unwrap();
    let name = std::fs::read(folder("tiny").join("tokenizer.json")).unwrap();
    for cut in (0..whole.len()).step_by(37) {
        let dir = with(&[("model.onnx", &whole[..cut])]);
        assert!(error(dir.path()).contains("model.onnx"), "cut at {cut}");
    }
    for cut in [0, 10, name.len() - 1] {
        let dir = with(&[("tokenizer.json", &name[..cut])]);
        assert!(error(dir.path()).contains("tokenizer.json"), "cut at {cut}");
    }
    // Any byte may be another: an error or a model, never the end of this process.
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x15;
        let dir = with(&[("model.onnx", &bytes)]);
        let _ = std::panic::catch_unwind(|| Model::load(dir.path()).err());
    }
}

fn talk(lines: &str) -> Vec<serde_json::Value> {
    let mut out = Vec::new();
    serve::run(Model::load(&folder("tiny")), &mut Cursor::new(lines), &mut out).unwrap();
    String::from_utf8(out).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn a_bad_request_is_answered_and_the_next_one_too() {
    let many = serde_json::json!({"texts": vec!["a"; MAX_TEXTS + 1]});
    let replies = talk(&format!(
        "nonsense\n{many}\n{{\"texts\": [\"backoff\", \"config\"], \"question\": true}}\n"
    ));
    assert_eq!(replies[0]["dims"], 16);
    assert!(replies[1]["error"].as_str().unwrap().starts_with("the request is not understood"));
    assert!(replies[2]["error"].as_str().unwrap().contains("65 texts at once"));
    assert_eq!(replies[3]["vectors"].as_array().unwrap().len(), 2);
    assert_eq!(replies.len(), 4);
}

#[test]
fn the_program_says_why_it_has_no_model_and_ends() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lapce-ai-embed"))
        .arg(folder("images"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(said.starts_with("{\"error\":") && said.contains("pixels"), "{said}");
}
