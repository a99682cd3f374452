//! Images of an OpenAI-compatible provider: `/images/generations`, and `/images/edits` when
//! there is an image to start from. One request, no retry: each costs money.

use serde_json::{Value, json};

use super::error::{Fault, ProviderError};
use super::http::Outgoing;
use super::model::Model;
use super::{format, wire};
use crate::config::Kind;
use crate::secret::Secret;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct ImageRequest {
    pub prompt: String,
    /// `png`, `jpeg`, `webp`.
    pub format: &'static str,
    /// An image to start from: its format and bytes.
    pub from: Option<(&'static str, Vec<u8>)>,
}

/// The request; an error when the provider has no such endpoint.
pub fn outgoing(
    model: &Model,
    key: Option<&Secret>,
    boundary: &str,
    request: &ImageRequest,
) -> Result<Outgoing, ProviderError> {
    if !matches!(model.kind, Kind::OpenAi | Kind::Responses | Kind::LlamaCpp | Kind::Mistral) {
        let error = ProviderError::new(Fault::Config, &model.provider, "makes no images here");
        return Err(error.hint(
            "name a provider with an OpenAI-compatible `/images/generations` in `image` of [models]",
        ));
    }
    let mut fields = vec![("model", model.name.clone()), ("prompt", request.prompt.clone())];
    // The GPT image models always answer with the image itself and take its format; the
    // older ones give an address unless told otherwise.
    if model.name.starts_with("gpt-image") {
        fields.push(("output_format", request.format.to_owned()));
    } else {
        fields.push(("response_format", "b64_json".to_owned()));
    }
    let Some((from, bytes)) = &request.from else {
        let mut body = json!({"n": 1});
        for (name, value) in fields {
            body[name] = value.into();
        }
        return Ok(format::post(model, key, "/images/generations", &body));
    };
    let mut out = format::post(model, key, "/images/edits", &Value::Null);
    let mut body = Vec::new();
    for (name, value) in fields {
        let head =
            format!("--{boundary}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(value.as_bytes());
        body.extend_from_slice(b"\r\n");
    }
    let head = format!(
        "--{boundary}\r\ncontent-disposition: form-data; name=\"image\"; filename=\"image.{from}\"\r\n\
         content-type: image/{from}\r\n\r\n"
    );
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(bytes);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    out.body = Some(body);
    let kind = format!("multipart/form-data; boundary={boundary}");
    out.headers.push(("content-type", Secret::new(kind)));
    Ok(out)
}

/// The bytes of the image in an answer.
pub fn read(provider: &str, body: &[u8]) -> Result<Vec<u8>, ProviderError> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|e| wire::protocol(provider, format!("the answer is not valid JSON: {e}")))?;
    if let Some(error) = wire::payload_error(provider, None, &value) {
        return Err(error);
    }
    let image = &value["data"][0];
    match image["b64_json"].as_str() {
        Some(text) => {
            base64(text).ok_or_else(|| wire::protocol(provider, "the image is not valid base64"))
        }
        None if image["url"].is_string() => Err(wire::protocol(
            provider,
            "gave an address instead of the image; addresses that a provider names are not fetched",
        )),
        None => Err(wire::protocol(provider, "the answer holds no image")),
    }
}

/// Decodes base64, strictly: the usual alphabet, padded, nothing else.
pub fn base64(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| {
        Some(u32::from(match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        }))
    };
    let (groups, rest) = text.as_bytes().as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for (n, group) in groups.iter().enumerate() {
        let padding = group.iter().rev().take_while(|c| **c == b'=').count();
        if padding > 2 || (padding > 0 && n + 1 != groups.len()) {
            return None;
        }
        let mut bits = 0;
        for c in &group[..4 - padding] {
            bits = bits << 6 | digit(*c)?;
        }
        bits <<= 6 * padding;
        // Bits that the padding cuts off must be none.
        if bits & ((1 << (8 * padding)) - 1) != 0 {
            return None;
        }
        out.extend_from_slice(&bits.to_be_bytes()[1..4 - padding]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn model(kind: &str, name: &str) -> Model {
        let config = Config::parse(&format!(
            "[providers.p]\nkind = \"{kind}\"\nbase_url = \"http://127.0.0.1:1/v1\"\n"
        ));
        Model::from_config(&config.unwrap(), &format!("p/{name}")).unwrap()
    }

    #[test]
    fn what_is_sent() {
        let request = ImageRequest { prompt: "a square".into(), format: "png", from: None };
        let out = outgoing(&model("openai", "gpt-image-1"), None, "b", &request).unwrap();
        assert_eq!(out.url, "http://127.0.0.1:1/v1/images/generations");
        let body: Value = serde_json::from_slice(&out.body.unwrap()).unwrap();
        assert_eq!(
            body,
            json!({"model": "gpt-image-1", "prompt": "a square", "n": 1, "output_format": "png"})
        );
        let out = outgoing(&model("openai", "sdxl"), None, "b", &request).unwrap();
        let body: Value = serde_json::from_slice(&out.body.unwrap()).unwrap();
        assert_eq!(body["response_format"], "b64_json");
        let from = Some(("png", b"\x89PNG".to_vec()));
        let request = ImageRequest { from, ..request };
        let out = outgoing(&model("openai", "sdxl"), None, "b", &request).unwrap();
        assert_eq!(out.url, "http://127.0.0.1:1/v1/images/edits");
        let body = out.body.unwrap();
        let text = String::from_utf8_lossy(&body);
        assert!(text.contains("name=\"prompt\"\r\n\r\na square\r\n--b\r\n"), "{text}");
        assert!(text.ends_with("\r\n--b--\r\n"), "{text}");
        let error = outgoing(&model("anthropic", "x"), None, "b", &request).unwrap_err();
        assert_eq!(error.fault, Fault::Config);
    }

    #[test]
    fn what_comes_back() {
        assert_eq!(read("p", br#"{"data":[{"b64_json":"aGk="}]}"#).unwrap(), b"hi");
        for (body, words) in [
            (&br#"{"data":[{"url":"http://169.254.169.254/x"}]}"#[..], "not fetched"),
            (br#"{"data":[]}"#, "no image"),
            (br#"{"data":[{"b64_json":"a"}]}"#, "base64"),
            (br#"{"error":{"message":"no credit"}}"#, "no credit"),
            (b"<html>", "JSON"),
        ] {
            assert!(read("p", body).unwrap_err().message.contains(words), "{words}");
        }
    }

    #[test]
    fn base64_is_strict() {
        for (text, bytes) in [("", &b""[..]), ("TQ==", b"M"), ("TWE=", b"Ma"), ("TWFu", b"Man")] {
            assert_eq!(base64(text).as_deref(), Some(bytes), "{text}");
        }
        for bad in ["T", "TQ", "TQ=", "T===", "TR==", "TQ==TQ==", "TW\nu", "TW-u", "===="] {
            assert_eq!(base64(bad), None, "{bad}");
        }
    }
}
