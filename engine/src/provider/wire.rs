//! What all wire formats share: the decoder's shape, and how an error is read from a body.

use serde_json::Value;

use super::error::{Fault, ProviderError, classify, clean};
use super::retry;
use super::types::{Delta, Finish};

/// Turns the frames of one answer into deltas. One per format; pure.
pub trait Decode: Send {
    /// Takes one frame. An error ends the answer: an error payload is terminal.
    fn frame(&mut self, event: &str, data: &str, out: &mut Vec<Delta>)
    -> Result<(), ProviderError>;

    /// The stream's own terminal was seen: nothing more is to be read.
    fn ended(&self) -> bool;

    /// The end was announced, but something (the usage) may still follow.
    fn announced(&self) -> bool;

    /// The stream is over. Without a terminal of the format the stop is `Truncated`.
    fn finish(self: Box<Self>) -> Result<Finish, ProviderError>;
}

/// The error in a body or an event, in every shape the providers use; `None` when there
/// is none. With an error status every body is an error.
pub fn payload_error(provider: &str, status: Option<u16>, value: &Value) -> Option<ProviderError> {
    // Gemini wraps the whole in a list.
    let value = match value {
        Value::Array(items) if items.len() == 1 => &items[0],
        other => other,
    };
    let error = &value["error"];
    let (message, code, details) = match error {
        Value::Object(_) => (text(&error["message"]), codes(error), error),
        Value::String(message) => (message.clone(), codes(value), value),
        _ if value["object"] == "error" || value["type"] == "error" => {
            (text(&value["message"]), codes(value), value)
        }
        _ if value["detail"].is_string() || value["detail"].is_array() => {
            (detail(&value["detail"]), codes(value), value)
        }
        _ if status.is_some() => (text(&value["message"]), codes(value), value),
        _ => return None,
    };
    // OpenRouter passes the words of the provider behind it along in the metadata.
    let raw = details["metadata"]["raw"].as_str().unwrap_or_default();
    let message = if raw.is_empty() { message } else { format!("{message}: {raw}") };
    let delay = details["details"]
        .as_array()
        .and_then(|all| all.iter().find_map(|d| d["retryDelay"].as_str()));
    let after = retry::body_hint(delay, &message);
    let message = clean(&message, None);
    let message = match (message.is_empty(), status) {
        (false, _) => message,
        (true, Some(status)) => format!("answered with status {status}"),
        (true, None) => "answered with an error that has no message".to_owned(),
    };
    let mut out = ProviderError::new(classify(status, &code, &message), provider, message);
    out.status = status;
    out.retry_after = after;
    Some(out)
}

/// The error of a response with an error status whose body may be anything.
pub fn body_error(provider: &str, status: u16, body: &[u8]) -> ProviderError {
    let text = String::from_utf8_lossy(body);
    if let Some(error) = serde_json::from_str::<Value>(&text)
        .ok()
        .and_then(|v| payload_error(provider, Some(status), &v))
    {
        return error;
    }
    // A page of a proxy is of no use to anyone.
    let shown = if text.trim_start().starts_with('<') { String::new() } else { clean(&text, None) };
    let message = if shown.is_empty() {
        format!("answered with status {status}")
    } else {
        format!("answered with status {status}: {shown}")
    };
    ProviderError {
        status: Some(status),
        ..ProviderError::new(classify(Some(status), "", &shown), provider, message)
    }
}

/// An error for a stream that does not keep to its format.
pub fn protocol(provider: &str, message: impl Into<String>) -> ProviderError {
    ProviderError::new(Fault::Protocol, provider, message)
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        // Mistral's 422 puts its `detail` list into the message.
        Value::Object(map) if map.contains_key("detail") => detail(&map["detail"]),
        other => other.to_string(),
    }
}

/// Everything a body calls its code, type or status, in one text to search.
fn codes(value: &Value) -> String {
    ["code", "type", "status", "error_type"]
        .iter()
        .filter_map(|key| match &value[*key] {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// `FastAPI`'s `detail`: a text, or a list of `{loc, msg}`.
fn detail(value: &Value) -> String {
    match value {
        Value::Array(items) => items
            .iter()
            .map(|item| {
                let place: Vec<String> = item["loc"]
                    .as_array()
                    .map(|loc| {
                        loc.iter()
                            .map(|p| p.as_str().map_or_else(|| p.to_string(), str::to_owned))
                            .collect()
                    })
                    .unwrap_or_default();
                let message = item["msg"].as_str().unwrap_or_default();
                if place.is_empty() {
                    message.to_owned()
                } else {
                    format!("{}: {message}", place.join("."))
                }
            })
            .collect::<Vec<_>>()
            .join("; "),
        other => text(other),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn error(status: Option<u16>, value: &Value) -> Option<(Fault, String)> {
        payload_error("p", status, value).map(|e| (e.fault, e.message))
    }

    #[test]
    fn shapes_of_errors() {
        let cases = [
            (
                Some(401),
                json!({"error": {"message": "Incorrect key", "type": "invalid_request_error", "code": "invalid_api_key"}}),
                Fault::Auth,
                "Incorrect key",
            ),
            (
                Some(401),
                json!({"message": "Unauthorized", "request_id": "r"}),
                Fault::Auth,
                "Unauthorized",
            ),
            (
                Some(400),
                json!({"object": "error", "message": "bad model", "type": "invalid_model", "code": 1500}),
                Fault::BadRequest,
                "bad model",
            ),
            (
                Some(422),
                json!({"detail": [{"loc": ["body", "messages", 0], "msg": "field required", "type": "missing"}]}),
                Fault::BadRequest,
                "body.messages.0: field required",
            ),
            (Some(404), json!({"detail": "Not Found"}), Fault::NotFound, "Not Found"),
            (
                None,
                json!({"error": {"code": 502, "message": "Provider returned error", "metadata": {"raw": "upstream died"}}}),
                Fault::Server,
                "Provider returned error: upstream died",
            ),
            (
                None,
                json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
                Fault::Server,
                "Overloaded",
            ),
            (
                None,
                json!({"error": "model runner has unexpectedly stopped"}),
                Fault::BadRequest,
                "model runner has unexpectedly stopped",
            ),
            (
                Some(429),
                json!([{"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED"}}]),
                Fault::RateLimited,
                "quota",
            ),
        ];
        for (status, value, fault, message) in cases {
            assert_eq!(error(status, &value), Some((fault, message.to_owned())), "{value}");
        }
        assert_eq!(error(None, &json!({"choices": []})), None);
        assert_eq!(error(None, &json!({"error": null, "choices": []})), None);
    }

    #[test]
    fn delays_in_bodies() {
        let value = json!({"error": {"code": 429, "message": "slow", "details": [{"@type": "x"}, {"retryDelay": "12s"}]}});
        assert_eq!(
            payload_error("p", Some(429), &value).unwrap().retry_after,
            Some(Duration::from_secs(12))
        );
    }

    #[test]
    fn bodies_that_are_no_json() {
        assert_eq!(
            body_error("p", 502, b"<html>Bad gateway</html>").message,
            "answered with status 502"
        );
        assert_eq!(body_error("p", 503, b"busy\n").message, "answered with status 503: busy");
        assert_eq!(body_error("p", 500, b"{}").message, "answered with status 500");
    }
}
