//! The conversation of a run as entries of its event log, and back. Pure.
//!
//! | event | what the model … |
//! |---|---|
//! | `said` | said: `parts`, and `wanted`, the heads of the results that its calls are to get |
//! | `given` | was given as the result of the next of these calls |
//! | `told` | was told besides: the task, a reminder, what the user says |
//!
//! Written for the run itself, not for its subtasks, whose conversations are their own.

use serde_json::{Value, json};

use crate::agent::limits;
use crate::provider::types::parse_arguments;
use crate::provider::{Message, Part, Role};

/// An answer. `heads` are those of its calls' results, in order.
pub fn said(parts: &[Part], heads: &[String]) -> Value {
    let parts: Vec<Value> = parts.iter().filter_map(part).collect();
    json!({"parts": parts, "wanted": heads})
}

fn part(part: &Part) -> Option<Value> {
    let most = limits::JOURNAL_TEXT_BYTES;
    Some(match part {
        Part::Text(text) => json!({"text": text}),
        Part::Call { id, name, arguments } if arguments.len() > most => {
            json!({"call": name, "id": id, "long": arguments.len()})
        }
        Part::Call { id, name, arguments } => json!({"call": name, "id": id, "args": arguments}),
        // A cut one would be refused.
        Part::Opaque { value, .. } if value.to_string().len() > most => return None,
        Part::Opaque { format, value } => json!({"opaque": format, "value": value}),
        Part::CallResult { .. } | Part::Image(_) => return None,
    })
}

/// The result of one call as the model is given it; `pictures` came with it.
pub fn given(result: &Part, pictures: usize) -> Value {
    let mut value = match result {
        Part::CallResult { id, name, text, ok } => {
            json!({"id": id, "name": name, "ok": ok, "text": text})
        }
        Part::Text(text) => json!({"text": text}),
        _ => json!({"text": ""}),
    };
    if pictures > 0 {
        value["pictures"] = json!(pictures);
    }
    value
}

pub fn told(text: &str) -> Value {
    json!({"text": text})
}

/// A conversation as the entries that it is rebuilt from.
pub fn entries(messages: &[Message]) -> Vec<(&'static str, Value)> {
    let mut entries = Vec::new();
    for message in messages {
        if message.role == Role::Assistant {
            let heads: Vec<String> = message
                .parts
                .iter()
                .filter_map(|p| match p {
                    Part::Call { name, .. } => Some(head(name)),
                    _ => None,
                })
                .collect();
            entries.push(("said", said(&message.parts, &heads)));
            continue;
        }
        for part in &message.parts {
            match part {
                Part::CallResult { .. } => entries.push(("given", given(part, 0))),
                Part::Text(text) => entries.push(("told", told(text))),
                Part::Image(_) => entries.push(("told", told(NO_PICTURE))),
                _ => {}
            }
        }
    }
    entries
}

pub const NO_PICTURE: &str = "(a picture was left out)";

/// The head of a result whose call is not known in full.
pub fn head(name: &str) -> String {
    format!("[{name}] Result:")
}

/// The parts of a `said`. The flag says that something of them is missing.
pub fn parts(entry: &Value) -> (Vec<Part>, bool) {
    let mut missing = false;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let listed = entry["parts"].as_array().into_iter().flatten();
    let mut parts: Vec<Part> = listed
        .filter_map(|value| {
            if let Some(name) = value["call"].as_str() {
                let raw = value["args"].as_str().filter(|raw| parse_arguments(raw).is_ok());
                missing |= raw.is_none();
                let arguments = raw.unwrap_or("{}").to_owned();
                return Some(Part::Call { id: text(&value["id"]), name: name.into(), arguments });
            }
            if let Some(format) = value["opaque"].as_str() {
                let known = ["anthropic", "gemini", "responses"].into_iter();
                let format = known.into_iter().find(|known| *known == format)?;
                return Some(Part::Opaque { format, value: value["value"].clone() });
            }
            value["text"].as_str().filter(|t| !t.is_empty()).map(|t| Part::Text(t.to_owned()))
        })
        .collect();
    if parts.is_empty() {
        parts.push(Part::Text("(no answer)".to_owned()));
    }
    (parts, missing)
}

/// The result in a `given`, with a sentence for pictures that were left out.
pub fn result(entry: &Value) -> Part {
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let mut body = text("text");
    if entry["pictures"].as_u64().unwrap_or(0) > 0 {
        body.push_str("\n(the pictures of this result were left out)");
    }
    match entry["id"].as_str() {
        Some(id) => Part::CallResult {
            id: id.to_owned(),
            name: text("name"),
            text: body,
            ok: entry["ok"].as_bool().unwrap_or(false),
        },
        None => Part::Text(body),
    }
}
