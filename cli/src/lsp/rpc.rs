//! JSON-RPC: what comes in, and the bytes of what goes out.
//!
//! No I/O. Everything that goes out through here has `params`: Lapce's reader thread dies
//! of a message without.

use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{CallError, NoEngine};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

pub(super) const PARSE_ERROR: i32 = -32700;
pub(super) const INVALID_REQUEST: i32 = -32600;
pub(super) const METHOD_NOT_FOUND: i32 = -32601;
pub(super) const INVALID_PARAMS: i32 = -32602;
pub(super) const INTERNAL_ERROR: i32 = -32603;
pub(super) const NOT_INITIALIZED: i32 = -32002;
pub(super) const REQUEST_CANCELLED: i32 = -32800;
pub(super) const CONTENT_MODIFIED: i32 = -32801;
pub(super) const SERVER_CANCELLED: i32 = -32802;
pub(super) const REQUEST_FAILED: i32 = -32803;

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Id {
    Number(i64),
    Text(String),
}

#[derive(Debug)]
pub(super) enum Incoming {
    Request {
        id: Id,
        method: String,
        params: Option<Box<RawValue>>,
    },
    Notification {
        method: String,
        params: Option<Box<RawValue>>,
    },
    /// The editor's answer to a request of ours.
    Response {
        id: Id,
        ok: bool,
    },
    /// Not JSON-RPC. `id` is the request's, when it had one.
    Invalid {
        id: Option<Id>,
        code: i32,
        message: String,
    },
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    id: Option<Value>,
    #[serde(default)]
    method: Option<Value>,
    #[serde(default)]
    params: Option<Box<RawValue>>,
    #[serde(default)]
    error: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    result: Option<Box<RawValue>>,
}

/// The answer to `workspace/applyEdit`.
#[derive(Deserialize)]
struct Applied {
    applied: bool,
}

pub(super) fn parse(body: &[u8]) -> Incoming {
    let invalid = |id, code, message: String| Incoming::Invalid { id, code, message };
    let raw: Raw = match serde_json::from_slice(body) {
        Ok(raw) => raw,
        Err(error) if error.is_data() => {
            return invalid(None, INVALID_REQUEST, "not a JSON-RPC message".into());
        }
        Err(error) => return invalid(None, PARSE_ERROR, format!("invalid JSON: {error}")),
    };
    let id = match raw.id {
        None | Some(Value::Null) => None,
        Some(id) => match serde_json::from_value::<Id>(id) {
            Ok(id) => Some(id),
            Err(_) => {
                return invalid(None, INVALID_REQUEST, "`id` is neither number nor text".into());
            }
        },
    };
    match (raw.method, id) {
        (Some(Value::String(method)), Some(id)) => {
            Incoming::Request { id, method, params: raw.params }
        }
        (Some(Value::String(method)), None) => {
            Incoming::Notification { method, params: raw.params }
        }
        (Some(_), id) => invalid(id, INVALID_REQUEST, "`method` is not text".into()),
        (None, Some(id)) => {
            let applied = |result: &RawValue| serde_json::from_str::<Applied>(result.get());
            let refused = raw.result.is_some_and(|r| applied(&r).is_ok_and(|a| !a.applied));
            Incoming::Response { id, ok: raw.error.is_none() && !refused }
        }
        (None, None) => invalid(None, INVALID_REQUEST, "neither `method` nor `id`".into()),
    }
}

/// Reads `params`; the message names what is wrong with them.
pub(super) fn params<T: for<'de> Deserialize<'de>>(raw: Option<&RawValue>) -> Result<T, Failure> {
    serde_json::from_str(raw.map_or("null", RawValue::get))
        .map_err(|error| Failure::new(INVALID_PARAMS, format!("params: {error}")))
}

/// Why a request is answered with an error. To Lapce an error also means "not mine": it
/// waits for the other servers' answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: i32,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The request is not for us.
    pub(super) fn declined(why: impl Into<String>) -> Self {
        Self::new(REQUEST_FAILED, why)
    }
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        let code = match error.kind {
            ErrorKind::Superseded => SERVER_CANCELLED,
            ErrorKind::Cancelled => REQUEST_CANCELLED,
            ErrorKind::Conflict => CONTENT_MODIFIED,
            ErrorKind::Internal => INTERNAL_ERROR,
            _ => REQUEST_FAILED,
        };
        let message = match error.hint.as_str() {
            "" => error.message,
            hint => format!("{} – {hint}", error.message),
        };
        Self { code, message }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Remote(error) => error.into(),
            lost @ CallError::EngineLost(_) => {
                Self::new(REQUEST_FAILED, format!("Lapce AI: {lost}"))
            }
            CallError::NoEngine(none) => none.into(),
            other => Self::new(REQUEST_FAILED, format!("engine: {other}")),
        }
    }
}

impl From<NoEngine> for Failure {
    fn from(NoEngine { message, hint, .. }: NoEngine) -> Self {
        Self::new(REQUEST_FAILED, format!("Lapce AI has no engine: {message} – {hint}"))
    }
}

pub(super) type Answer = Result<Value, Failure>;

pub(super) fn response(id: Option<&Id>, answer: &Answer) -> Vec<u8> {
    let message = match answer {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(Failure { code, message }) => {
            json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
        }
    };
    message.to_string().into_bytes()
}

pub(super) fn notification(method: &str, params: &Value) -> Vec<u8> {
    json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string().into_bytes()
}

pub(super) fn request(id: &Id, method: &str, params: &Value) -> Vec<u8> {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
        .to_string()
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(body: &str) -> String {
        match parse(body.as_bytes()) {
            Incoming::Request { id, method, params } => {
                format!("request {id:?} {method} {:?}", params.map(|p| p.get().to_owned()))
            }
            Incoming::Notification { method, .. } => format!("notification {method}"),
            Incoming::Response { id, ok } => format!("response {id:?} {ok}"),
            Incoming::Invalid { id, code, .. } => format!("invalid {id:?} {code}"),
        }
    }

    #[test]
    fn messages_are_told_apart() {
        assert_eq!(
            kind(r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":[1]}}"#),
            r#"request Number(1) a Some("{\"x\":[1]}")"#
        );
        assert_eq!(kind(r#"{"id":"s","method":"a"}"#), r#"request Text("s") a None"#);
        assert_eq!(kind(r#"{"method":"a"}"#), "notification a");
        assert_eq!(kind(r#"{"id":null,"method":"a"}"#), "notification a");
        assert_eq!(kind(r#"{"id":4,"result":null}"#), "response Number(4) true");
        assert_eq!(kind(r#"{"id":4,"result":{"applied":true}}"#), "response Number(4) true");
        assert_eq!(kind(r#"{"id":4,"result":{"applied":false}}"#), "response Number(4) false");
        assert_eq!(
            kind(r#"{"id":4,"error":{"code":1,"message":"x"}}"#),
            "response Number(4) false"
        );
    }

    #[test]
    fn the_rest_is_invalid_with_the_right_code() {
        for (body, expected) in [
            ("{", "invalid None -32700"),
            ("", "invalid None -32700"),
            ("nonsense", "invalid None -32700"),
            ("[]", "invalid None -32600"),
            ("[{\"id\":1,\"method\":\"a\"}]", "invalid None -32600"),
            ("7", "invalid None -32600"),
            ("{}", "invalid None -32600"),
            (r#"{"id":1.5,"method":"a"}"#, "invalid None -32600"),
            (r#"{"id":{},"method":"a"}"#, "invalid None -32600"),
            (r#"{"id":3,"method":9}"#, "invalid Some(Number(3)) -32600"),
        ] {
            assert_eq!(kind(body), expected, "{body}");
        }
        assert!(matches!(parse(b"\xff\xfe"), Incoming::Invalid { code: PARSE_ERROR, .. }));
        let deep = "[".repeat(1_000_000);
        assert!(matches!(parse(deep.as_bytes()), Incoming::Invalid { .. }));
    }

    #[test]
    fn errors_keep_the_next_step() {
        let error = WireError::new(ErrorKind::Superseded, "newer request").hint("type on");
        let failure = Failure::from(error);
        assert_eq!(failure.code, SERVER_CANCELLED);
        assert_eq!(failure.message, "newer request – type on");
    }
}
