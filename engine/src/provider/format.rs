//! From a model and a request to bytes, and the decoder that fits: the one place that
//! matches on the wire format.

use serde_json::Value;

use super::http::Outgoing;
use super::lines::Framing;
use super::model::Model;
use super::openai;
use super::types::ChatRequest;
use super::wire::Decode;
use crate::config::{Auth, Kind};
use crate::secret::Secret;

/// The request for one answer.
pub fn outgoing(model: &Model, key: Option<&Secret>, request: &ChatRequest) -> Outgoing {
    let (path, body) = match model.kind {
        Kind::OpenAi | Kind::LlamaCpp | Kind::Mistral => (
            "/chat/completions".to_owned(),
            openai::body(&model.name, request, tokens_field(model)),
        ),
        _ => (String::new(), Value::Null),
    };
    post(model, key, &path, &body)
}

pub fn framing(model: &Model) -> Framing {
    match model.kind {
        Kind::Ollama => Framing::Ndjson,
        _ => Framing::Sse,
    }
}

pub fn decoder(model: &Model) -> Box<dyn Decode> {
    Box::new(openai::Decoder::new(&model.provider))
}

/// A JSON request to a path below the model's base address.
pub fn post(model: &Model, key: Option<&Secret>, path: &str, body: &Value) -> Outgoing {
    Outgoing {
        provider: model.provider.clone(),
        url: format!("{}{path}", model.base_url),
        headers: headers(model, key),
        body: Some(body.to_string().into_bytes()),
        key: key.cloned(),
    }
}

fn headers(model: &Model, key: Option<&Secret>) -> Vec<(&'static str, Secret)> {
    let mut headers = Vec::new();
    if model.kind == Kind::Anthropic {
        headers.push(("anthropic-version", Secret::new("2023-06-01")));
    }
    if let Some(key) = key {
        headers.push(match (model.auth, model.kind) {
            (Auth::ApiKey, _) => ("api-key", key.clone()),
            (Auth::Auto, Kind::Anthropic) => ("x-api-key", key.clone()),
            (Auth::Auto, Kind::Gemini) => ("x-goog-api-key", key.clone()),
            _ => ("authorization", Secret::new(format!("Bearer {}", key.expose()))),
        });
    }
    headers
}

/// OpenAI's newer models take only the new name; everybody else knows only the old one.
fn tokens_field(model: &Model) -> &'static str {
    let host = reqwest::Url::parse(&model.base_url)
        .ok()
        .and_then(|u| u.host_str().map(str::to_owned))
        .unwrap_or_default();
    if host == "api.openai.com" || host.ends_with(".openai.azure.com") {
        "max_completion_tokens"
    } else {
        "max_tokens"
    }
}
