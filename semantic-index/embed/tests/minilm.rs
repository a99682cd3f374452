//! The real all-MiniLM-L6-v2 with weights of eight bits, against what onnxruntime and Hugging
//! Face's tokenizers make of it (`reference.py`). `cargo xtask test onnx` fetches it and
//! names the folder.

use std::path::PathBuf;

use lapce_ai_embed::model::{Model, Side};
use lapce_ai_embed::words::Words;
use serde::Deserialize;

#[derive(Deserialize)]
struct Item {
    text: String,
    ids: Vec<i32>,
    vector: Vec<f32>,
}

fn folder() -> PathBuf {
    let folder = std::env::var_os("LAPCE_AI_TEST_MINILM");
    PathBuf::from(
        folder.expect("LAPCE_AI_TEST_MINILM names the folder; run `cargo xtask test onnx`"),
    )
}

fn items() -> Vec<Item> {
    serde_json::from_str(include_str!("minilm.json")).unwrap()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
#[ignore = "needs the model: cargo xtask test onnx"]
fn minilm_numbers_of_words_are_those_of_the_reference() {
    let words = Words::parse(&std::fs::read(folder().join("tokenizer.json")).unwrap()).unwrap();
    for item in items() {
        assert_eq!(words.encode(&item.text, 256), item.ids, "{:?}", item.text);
    }
}

#[test]
#[ignore = "needs the model: cargo xtask test onnx"]
fn minilm_vectors_are_those_of_the_reference() {
    let model = Model::load(&folder()).unwrap();
    assert_eq!(model.dims(), 384);
    let items = items();
    // Together: texts of many lengths, padded, in their order.
    let texts: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
    let (floats, bytes) = (
        model.floats(&texts, Side::Document).unwrap(),
        model.vectors(&texts, Side::Document).unwrap(),
    );
    for ((item, ours), bytes) in items.iter().zip(&floats).zip(&bytes) {
        let near = cosine(ours, &item.vector);
        assert!(near > 0.9999, "{:?}: {near}", item.text);
        let bytes: Vec<f32> = bytes.iter().map(|b| f32::from(*b)).collect();
        let near = cosine(&bytes, &item.vector);
        assert!(near > 0.999, "{:?} in bytes: {near}", item.text);
    }
}

#[test]
#[ignore = "needs the model: cargo xtask test onnx"]
fn minilm_knows_what_is_meant() {
    let model = Model::load(&folder()).unwrap();
    let question =
        model.floats(&["computes the pause before the next attempt"], Side::Question).unwrap();
    let codes =
        ["fn backoff_delay(retries: u32) -> Duration", "fn parse_config(path: &Path) -> Config"];
    let codes = model.floats(&codes, Side::Document).unwrap();
    assert!(cosine(&question[0], &codes[0]) > cosine(&question[0], &codes[1]) + 0.1);
}
