//! Embeddings: texts to vectors, through `/embeddings` or Ollama's `/api/embed`.
//!
//! Used by `index_client/embedding.rs`. One request a batch, retried as a chat is. Vectors
//! leave here as bytes: a cosine does not notice the scale, and the index keeps bytes.

use serde_json::{Value, json};

use super::error::{Fault, ProviderError};
use super::http::Outgoing;
use super::model::Model;
use super::{format, limits, wire};
use crate::config::Kind;
use crate::secret::Secret;

/// The request for the vectors of `texts`.
pub fn outgoing(model: &Model, key: Option<&Secret>, texts: &[String]) -> Outgoing {
    if model.kind == Kind::Ollama {
        let mut rooted = model.clone();
        format::unversioned(&model.base_url).clone_into(&mut rooted.base_url);
        let body = json!({"model": model.name, "input": texts, "truncate": true});
        return format::post(&rooted, key, "/api/embed", &body);
    }
    let body = json!({"model": model.name, "input": texts, "encoding_format": "float"});
    format::post(model, key, "/embeddings", &body)
}

/// The vectors of an answer, in the order of the texts.
pub fn read(provider: &str, body: &[u8], texts: usize) -> Result<Vec<Vec<i8>>, ProviderError> {
    let wrong = |what: String| wire::protocol(provider, what);
    let value: Value = serde_json::from_slice(body)
        .map_err(|e| wrong(format!("the embeddings are not valid JSON: {e}")))?;
    if let Some(error) = wire::payload_error(provider, None, &value) {
        return Err(error);
    }
    let mut rows: Vec<(u64, &Value)> = match (&value["data"], &value["embeddings"]) {
        (Value::Array(data), _) => data
            .iter()
            .enumerate()
            .map(|(n, item)| (item["index"].as_u64().unwrap_or(n as u64), &item["embedding"]))
            .collect(),
        (_, Value::Array(rows)) => {
            rows.iter().enumerate().map(|(n, row)| (n as u64, row)).collect()
        }
        _ => {
            return Err(wrong("the answer holds no embeddings".to_owned())
                .hint("check that the model of [index] embedder makes embeddings"));
        }
    };
    // Some servers answer in another order and say so.
    rows.sort_by_key(|row| row.0);
    if rows.len() != texts || rows.iter().enumerate().any(|(n, row)| row.0 != n as u64) {
        return Err(wrong(format!("{} embeddings came for {texts} texts", rows.len())));
    }
    let vectors: Vec<Vec<i8>> = rows
        .into_iter()
        .map(|(_, row)| bytes(row))
        .collect::<Option<_>>()
        .ok_or_else(|| wrong("an embedding is not a list of numbers".to_owned()))?;
    let dims = vectors.first().map_or(0, Vec::len);
    if dims == 0 || dims > limits::EMBEDDING_DIMS || vectors.iter().any(|v| v.len() != dims) {
        return Err(wrong(format!(
            "embeddings have {dims} numbers or differ in length; 1 to {} are taken",
            limits::EMBEDDING_DIMS
        )));
    }
    Ok(vectors)
}

/// A list of finite numbers that are not all zero, as bytes.
fn bytes(row: &Value) -> Option<Vec<i8>> {
    let numbers: Vec<f64> = row.as_array()?.iter().map(Value::as_f64).collect::<Option<_>>()?;
    let top = numbers.iter().fold(0.0_f64, |top, n| top.max(n.abs()));
    (top.is_finite() && top > 0.0)
        .then(|| numbers.iter().map(|n| (n / top * 127.0).round() as i8).collect())
}

/// What a provider's error about embeddings should make the user do.
pub fn advise(error: ProviderError) -> ProviderError {
    if error.fault == Fault::NotFound && error.hint.is_empty() {
        let hint = format!(
            "check [index] embedder and `base_url` of [providers.{}] in config.toml; does the server offer embeddings?",
            error.provider
        );
        return error.hint(hint);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn sent(kind: &str) -> (String, Value) {
        let config = Config::parse(&format!(
            "[providers.p]\nkind = \"{kind}\"\nbase_url = \"http://127.0.0.1:1/v1\"\n"
        ))
        .unwrap();
        let model = Model::from_config(&config, "p/m").unwrap();
        let out = outgoing(&model, None, &["a".to_owned(), "b".to_owned()]);
        (out.url, serde_json::from_slice(&out.body.unwrap()).unwrap())
    }

    #[test]
    fn where_and_what_each_kind_sends() {
        let (url, body) = sent("openai");
        assert_eq!(url, "http://127.0.0.1:1/v1/embeddings");
        assert_eq!(body, json!({"model": "m", "input": ["a", "b"], "encoding_format": "float"}));
        let (url, body) = sent("ollama");
        assert_eq!(url, "http://127.0.0.1:1/api/embed");
        assert_eq!(body, json!({"model": "m", "input": ["a", "b"], "truncate": true}));
    }

    #[test]
    fn both_shapes_of_answers_are_read_in_the_order_of_the_texts() {
        let open = br#"{"data":[{"index":1,"embedding":[0,-0.5]},{"index":0,"embedding":[2,1]}]}"#;
        assert_eq!(read("p", open, 2).unwrap(), [vec![127, 64], vec![0, -127]]);
        let ollama = br#"{"embeddings":[[1e-3,0],[0,1]]}"#;
        assert_eq!(read("p", ollama, 2).unwrap(), [vec![127, 0], vec![0, 127]]);
    }

    #[test]
    fn answers_that_would_spoil_an_index_are_refused() {
        for (body, says) in [
            (r#"{"embeddings":[[1]]}"#, "1 embeddings came for 2 texts"),
            (r#"{"embeddings":[[1],[1,2]]}"#, "differ in length"),
            (r#"{"embeddings":[[],[]]}"#, "not a list of numbers"),
            (r#"{"embeddings":[[0,0],[1,1]]}"#, "not a list of numbers"),
            (r#"{"embeddings":[["x"],[1]]}"#, "not a list of numbers"),
            (r#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}"#, "came for"),
            ("{}", "no embeddings"),
            ("[", "not valid JSON"),
            (r#"{"error":{"message":"no such model"}}"#, "no such model"),
        ] {
            let error = read("p", body.as_bytes(), 2).unwrap_err();
            assert!(error.message.contains(says), "{body}: {error}");
        }
    }
}
