//! Fill-in-the-middle: the text between what stands before and after the caret.
//!
//! Used by `handlers/complete.rs`. One request, one short answer, no stream, no retry:
//! ghost text that comes late is of no use.

use serde_json::{Value, json};

use super::error::{Fault, ProviderError};
use super::http::Outgoing;
use super::model::Model;
use super::{format, limits, wire};
use crate::config::Fim;
use crate::secret::Secret;

#[derive(Debug, Clone)]
pub struct FimRequest {
    pub prefix: String,
    pub suffix: String,
    pub max_tokens: u32,
    pub stop: Vec<String>,
}

/// The request in the form `fim` wants.
pub fn outgoing(model: &Model, key: Option<&Secret>, fim: Fim, request: &FimRequest) -> Outgoing {
    let stop: Vec<&String> = request.stop.iter().take(limits::STOPS).collect();
    let (prefix, suffix) = (&request.prefix, &request.suffix);
    let temperature = model.temperature.unwrap_or(0.1);
    let bare = format::unversioned(&model.base_url);
    let mut rooted = model.clone();
    let (path, body) = match fim {
        Fim::Infill => {
            bare.clone_into(&mut rooted.base_url);
            let body = json!({
                "input_prefix": prefix, "input_suffix": suffix, "input_extra": [], "prompt": "",
                "n_predict": request.max_tokens, "temperature": temperature, "stop": stop,
                "stream": false, "cache_prompt": true,
            });
            ("/infill", body)
        }
        Fim::Ollama => {
            bare.clone_into(&mut rooted.base_url);
            let body = json!({
                "model": model.name, "prompt": prefix, "suffix": suffix, "stream": false,
                "options": {"num_predict": request.max_tokens, "temperature": temperature, "stop": stop},
            });
            ("/api/generate", body)
        }
        Fim::Mistral => {
            let body = json!({
                "model": model.name, "prompt": prefix, "suffix": suffix,
                "max_tokens": request.max_tokens, "temperature": temperature, "stop": stop, "stream": false,
            });
            ("/fim/completions", body)
        }
        Fim::Suffix => {
            let body = json!({
                "model": model.name, "prompt": prefix, "suffix": suffix,
                "max_tokens": request.max_tokens, "temperature": temperature, "stop": stop, "stream": false,
            });
            ("/completions", body)
        }
        family => {
            let (prompt, end) = marks(family, prefix, suffix);
            let stop: Vec<&str> = std::iter::once(end)
                .chain(stop.iter().map(|s| s.as_str()))
                .take(limits::STOPS)
                .collect();
            let body = json!({
                "model": model.name, "prompt": prompt,
                "max_tokens": request.max_tokens, "temperature": temperature, "stop": stop, "stream": false,
            });
            ("/completions", body)
        }
    };
    format::post(&rooted, key, path, &body)
}

/// The prompt in the marks a family of models was trained with, and its end mark.
fn marks(family: Fim, prefix: &str, suffix: &str) -> (String, &'static str) {
    match family {
        Fim::Starcoder => {
            (format!("<fim_prefix>{prefix}<fim_suffix>{suffix}<fim_middle>"), "<|endoftext|>")
        }
        Fim::Codellama => (format!("<PRE> {prefix} <SUF>{suffix} <MID>"), "<EOT>"),
        Fim::Deepseek => (
            format!("<｜fim▁begin｜>{prefix}<｜fim▁hole｜>{suffix}<｜fim▁end｜>"),
            "<｜end▁of▁sentence｜>",
        ),
        // The suffix comes first here.
        Fim::Codestral => (format!("[SUFFIX]{suffix}[PREFIX]{prefix}"), "</s>"),
        Fim::Codegemma => (
            format!("<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>"),
            "<|file_separator|>",
        ),
        _ => {
            (format!("<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>"), "<|endoftext|>")
        }
    }
}

/// The text of an answer, wherever the format keeps it.
pub fn read(provider: &str, body: &[u8]) -> Result<String, ProviderError> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|e| wire::protocol(provider, format!("the completion is not valid JSON: {e}")))?;
    if let Some(error) = wire::payload_error(provider, None, &value) {
        return Err(error);
    }
    let choice = &value["choices"][0];
    [&choice["text"], &choice["message"]["content"], &value["content"], &value["response"]]
        .iter()
        .find_map(|text| text.as_str())
        .map(str::to_owned)
        .ok_or_else(|| {
            ProviderError::new(Fault::Protocol, provider, "the completion holds no text")
                .hint("check `fim` of the model in config.toml")
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn sent(kind: &str, fim: Fim) -> (String, Value) {
        let config = Config::parse(&format!(
            "[providers.p]\nkind = \"{kind}\"\nbase_url = \"http://127.0.0.1:1/v1\"\n"
        ))
        .unwrap();
        let model = Model::from_config(&config, "p/m").unwrap();
        let request = FimRequest {
            prefix: "fn a(".into(),
            suffix: ")".into(),
            max_tokens: 9,
            stop: vec!["x".into(); 6],
        };
        let out = outgoing(&model, None, fim, &request);
        (out.url, serde_json::from_slice(&out.body.unwrap()).unwrap())
    }

    #[test]
    fn where_and_what_each_form_sends() {
        let (url, body) = sent("llamacpp", Fim::Infill);
        assert_eq!(url, "http://127.0.0.1:1/infill");
        assert_eq!(
            (
                body["input_prefix"].as_str(),
                body["input_suffix"].as_str(),
                body["n_predict"].as_u64()
            ),
            (Some("fn a("), Some(")"), Some(9))
        );
        let (url, body) = sent("ollama", Fim::Ollama);
        assert_eq!(url, "http://127.0.0.1:1/api/generate");
        assert_eq!(
            (
                body["prompt"].as_str(),
                body["suffix"].as_str(),
                body["options"]["num_predict"].as_u64()
            ),
            (Some("fn a("), Some(")"), Some(9))
        );
        assert_eq!(sent("mistral", Fim::Mistral).0, "http://127.0.0.1:1/v1/fim/completions");
        let (url, body) = sent("openai", Fim::Suffix);
        assert_eq!(
            (url.as_str(), body["suffix"].as_str()),
            ("http://127.0.0.1:1/v1/completions", Some(")"))
        );
        let (_, body) = sent("openai", Fim::Qwen);
        assert_eq!(body["prompt"], "<|fim_prefix|>fn a(<|fim_suffix|>)<|fim_middle|>");
        assert_eq!(body["stop"].as_array().unwrap().len(), limits::STOPS);
        assert_eq!(sent("openai", Fim::Codestral).1["prompt"], "[SUFFIX])[PREFIX]fn a(");
    }

    #[test]
    fn where_each_form_answers() {
        for body in [
            r#"{"choices":[{"text":"x"}]}"#,
            r#"{"choices":[{"message":{"content":"x"}}]}"#,
            r#"{"content":"x","stop":true}"#,
            r#"{"response":"x","done":true}"#,
        ] {
            assert_eq!(read("p", body.as_bytes()).unwrap(), "x");
        }
        assert_eq!(read("p", br#"{"error":"no insert"}"#).unwrap_err().message, "no insert");
        assert_eq!(read("p", b"{}").unwrap_err().fault, Fault::Protocol);
    }
}
