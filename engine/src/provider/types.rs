//! What every wire format is translated from and to: messages in, deltas out.
//!
//! Used by the agent loop, `ask` and the adapters; holds no I/O and no provider's names.

use std::sync::Arc;

use lapce_ai_ipc::wire::engine::Usage;
use serde_json::{Map, Value};

use super::error::ProviderError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    User,
    Assistant,
}

/// One piece of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    Text(String),
    /// A native tool call of the model. `arguments` is the text as it came, so that it
    /// can be sent back as it was.
    Call {
        id: String,
        name: String,
        arguments: String,
    },
    /// What a native tool call gave.
    CallResult {
        id: String,
        name: String,
        text: String,
        ok: bool,
    },
    /// A picture for the model, in a message of the user's.
    Image(Picture),
    /// Reasoning that a provider wants back verbatim, opaque to everyone else. `format`
    /// names the wire format that wrote it; the others leave it out.
    Opaque {
        format: &'static str,
        value: Value,
    },
}

/// A picture: its media type (`image/png`) and its bytes in base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    pub media: &'static str,
    pub base64: Arc<str>,
}

impl Picture {
    /// `None` for what is no whole image of a format that models take.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let media = match lapce_ai_tools::image::check(bytes).ok()?.format {
            "png" => "image/png",
            "jpeg" => "image/jpeg",
            "webp" => "image/webp",
            _ => "image/gif",
        };
        Some(Self { media, base64: encode(bytes).into() })
    }

    pub fn data_url(&self) -> String {
        format!("data:{};base64,{}", self.media, self.base64)
    }
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({}, {} bytes)", self.media, self.base64.len())
    }
}

fn encode(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |n: usize| u32::from(three.get(n).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for n in 0..4 {
            let six = (bits >> (18 - 6 * n)) & 63;
            text.push(if n > three.len() { '=' } else { char::from(ALPHABET[six as usize]) });
        }
    }
    text
}

#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub role: Role,
    pub parts: Vec<Part>,
}

impl Message {
    pub fn user(text: impl Into<String>) -> Self {
        Self { role: Role::User, parts: vec![Part::Text(text.into())] }
    }

    pub fn assistant(text: impl Into<String>) -> Self {
        Self { role: Role::Assistant, parts: vec![Part::Text(text.into())] }
    }
}

/// A tool as a model is told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolDef {
    pub name: String,
    pub description: String,
    /// JSON Schema of the parameters, an object.
    pub parameters: Value,
}

#[derive(Debug, Clone, Default)]
pub struct ChatRequest {
    pub system: String,
    pub messages: Vec<Message>,
    /// Empty: no native tools.
    pub tools: Vec<ToolDef>,
    pub max_output: u32,
    pub temperature: Option<f32>,
    pub stop: Vec<String>,
}

/// A finished tool call of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct NativeCall {
    pub id: String,
    pub name: String,
    pub raw: String,
    /// The arguments, or why they cannot be read; that goes back to the model.
    pub arguments: Result<Map<String, Value>, String>,
}

/// What a stream brings, in order. `End` is last and always comes.
#[derive(Debug)]
pub enum Delta {
    /// Something the user should know now.
    Notice(String),
    Text(String),
    Reasoning(String),
    /// A call has begun; its arguments still arrive.
    CallStarted {
        name: String,
    },
    End(Result<Finish, ProviderError>),
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The model was done.
    Done,
    ToolCalls,
    /// The output limit.
    Length,
    /// The provider or model refused.
    Refused,
    /// The stream ended without saying so: nothing of it may be acted upon.
    Truncated,
    Other(String),
}

impl Stop {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Done => "stop",
            Self::ToolCalls => "tool_calls",
            Self::Length => "length",
            Self::Refused => "refused",
            Self::Truncated => "truncated",
            Self::Other(other) => other,
        }
    }
}

/// How an answer ended, and what it held besides text.
#[derive(Debug, Clone, PartialEq)]
pub struct Finish {
    pub stop: Stop,
    pub usage: Usage,
    /// In the model's order; empty when the answer was cut.
    pub calls: Vec<NativeCall>,
    /// Parts to be sent back verbatim, before text and calls.
    pub opaque: Vec<Part>,
}

/// Reads the arguments of a call as providers send them: nothing, an object as text, or
/// (some servers) the text encoded twice.
pub fn parse_arguments(raw: &str) -> Result<Map<String, Value>, String> {
    let text = raw.trim();
    if text.is_empty() || text == "null" {
        return Ok(Map::new());
    }
    let value = match serde_json::from_str::<Value>(text) {
        Ok(Value::String(inner)) if inner.trim().is_empty() => return Ok(Map::new()),
        Ok(Value::String(inner)) => serde_json::from_str(&inner),
        other => other,
    };
    match value {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err("the arguments must be a JSON object".to_owned()),
        Err(error) => Err(format!("the arguments are not valid JSON: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_length() {
        let pairs =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (bytes, text) in pairs {
            assert_eq!(encode(bytes.as_bytes()), text);
        }
        assert_eq!(encode(&[0xfb, 0xff]), "+/8=");
        assert!(Picture::new(b"no image").is_none());
    }

    #[test]
    fn arguments_in_every_shape_seen() {
        assert_eq!(parse_arguments(""), Ok(Map::new()));
        assert_eq!(parse_arguments(" null"), Ok(Map::new()));
        assert_eq!(parse_arguments("\"\""), Ok(Map::new()));
        let one = parse_arguments(r#"{"path":"a"}"#).unwrap();
        assert_eq!(one["path"], "a");
        assert_eq!(parse_arguments(r#""{\"path\":\"a\"}""#).unwrap(), one);
        assert!(parse_arguments("[1]").is_err());
        assert!(parse_arguments(r#"{"path":"a"#).unwrap_err().contains("not valid JSON"));
    }
}
