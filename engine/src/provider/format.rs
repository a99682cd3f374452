//! From a model and a request to bytes, and the decoder that fits: the one place that
//! matches on the wire format.

use serde_json::Value;

use super::http::Outgoing;
use super::lines::Framing;
use super::model::Model;
use super::types::ChatRequest;
use super::wire::Decode;
use super::{anthropic, gemini, ollama, openai, responses};
use crate::config::{Auth, Kind};
use crate::secret::Secret;

/// The request for one answer.
pub fn outgoing(model: &Model, key: Option<&Secret>, request: &ChatRequest) -> Outgoing {
    match model.kind {
        Kind::OpenAi | Kind::LlamaCpp | Kind::Mistral => {
            let body = openai::body(&model.name, request, tokens_field(model));
            post(model, key, "/chat/completions", &body)
        }
        Kind::Responses => post(model, key, "/responses", &responses::body(&model.name, request)),
        Kind::Anthropic => {
            let path = if model.base_url.ends_with("/v1") { "/messages" } else { "/v1/messages" };
            post(model, key, path, &anthropic::body(&model.name, request))
        }
        Kind::Gemini => {
            let path = format!("/models/{}:streamGenerateContent?alt=sse", model.name);
            post(model, key, &path, &gemini::body(request))
        }
        Kind::Ollama => {
            let mut rooted = model.clone();
            unversioned(&model.base_url).clone_into(&mut rooted.base_url);
            post(&rooted, key, "/api/chat", &ollama::body(&model.name, model.context, request))
        }
    }
}

/// An address without its version: llama.cpp's and Ollama's own interfaces have none.
pub fn unversioned(base_url: &str) -> &str {
    base_url.strip_suffix("/v1").unwrap_or(base_url)
}

pub fn framing(model: &Model) -> Framing {
    match model.kind {
        Kind::Ollama => Framing::Ndjson,
        _ => Framing::Sse,
    }
}

pub fn decoder(model: &Model) -> Box<dyn Decode> {
    let provider = &model.provider;
    match model.kind {
        Kind::OpenAi | Kind::LlamaCpp | Kind::Mistral => Box::new(openai::Decoder::new(provider)),
        Kind::Responses => Box::new(responses::Decoder::new(provider)),
        Kind::Anthropic => Box::new(anthropic::Decoder::new(provider)),
        Kind::Gemini => Box::new(gemini::Decoder::new(provider)),
        Kind::Ollama => Box::new(ollama::Decoder::new(provider)),
    }
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

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
