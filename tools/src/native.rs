//! Native (JSON) function calls, and the structured parameters both forms share.

use serde_json::{Map, Value, json};

use crate::call::{Invalid, ToolCall, one_line};
use crate::spec::ToolSpec;

/// A call from a model's native function-call arguments.
pub fn call(id: &str, spec: &ToolSpec, arguments: &str) -> Result<ToolCall, Invalid> {
    let wrong = |problem: String| Invalid::Wrong { name: "arguments".into(), problem };
    let text = if arguments.trim().is_empty() { "{}" } else { arguments };
    let params: Map<String, Value> = match serde_json::from_str(text) {
        Ok(Value::Object(map)) => map,
        Ok(_) => return Err(wrong("must be a JSON object".into())),
        Err(e) => return Err(wrong(format!("is not valid JSON: {e}"))),
    };
    ToolCall { id: id.into(), name: spec.name.into(), params }.normalise(spec)
}

/// Brings a list of files to `[{"path": …, "line_range": ["a-b", …]}]`.
///
/// Accepts the XML text `<file>…</file>`, a list of objects, one object, or plain paths.
pub(crate) fn files(value: Value) -> Result<Value, String> {
    let items = match value {
        Value::String(text) if text.trim_start().starts_with('[') => {
            match serde_json::from_str(&text) {
                Ok(Value::Array(items)) => items,
                _ => return Err("is not a list of <file> elements".into()),
            }
        }
        Value::String(text) => elements(&text, "file")?
            .into_iter()
            .map(|(_, body)| {
                let path = elements(&body, "path")?;
                let ranges: Vec<Value> = elements(&body, "line_range")?
                    .into_iter()
                    .map(|(_, r)| Value::String(r.trim().to_owned()))
                    .collect();
                let [(_, path)] = path.as_slice() else {
                    return Err("each <file> needs exactly one <path>".to_owned());
                };
                Ok(json!({"path": path.trim(), "line_range": ranges}))
            })
            .collect::<Result<_, _>>()?,
        Value::Array(items) => items,
        // Some models keep the XML nesting in JSON: {"file": […]}.
        Value::Object(mut map) => match map.remove("file") {
            Some(Value::Array(items)) => items,
            Some(one) => vec![one],
            None => vec![Value::Object(map)],
        },
        _ => return Err("expected a list of files".into()),
    };
    if items.is_empty() {
        return Err("names no file".into());
    }
    items.into_iter().map(file).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

fn file(item: Value) -> Result<Value, String> {
    let (path, ranges) = match item {
        Value::String(path) => (path, Vec::new()),
        Value::Object(mut map) => {
            let Some(Value::String(path)) = map.remove("path") else {
                return Err("each file needs a path".into());
            };
            let ranges = match map.remove("line_range").or_else(|| map.remove("line_ranges")) {
                None | Some(Value::Null) => Vec::new(),
                Some(Value::Array(ranges)) => ranges,
                Some(one) => vec![one],
            };
            (path, ranges)
        }
        _ => return Err("each file is an object with a path".into()),
    };
    if path.trim().is_empty() || path.contains('\0') {
        return Err("a file's path is empty or has a NUL character".into());
    }
    let ranges = ranges
        .into_iter()
        .map(|r| {
            let text = r.as_str().unwrap_or_default().trim().to_owned();
            match range(&text) {
                Some((from, to)) => Ok(Value::String(format!("{from}-{to}"))),
                None => Err(format!(
                    "line range '{}' is not of the form first-last, counted from 1",
                    one_line(&r.to_string(), 40)
                )),
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(json!({"path": path.trim(), "line_range": ranges}))
}

/// Reads `a-b` with `1 ≤ a ≤ b`.
pub fn range(text: &str) -> Option<(u64, u64)> {
    let (from, to) = text.split_once('-')?;
    let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    (from >= 1 && from <= to).then_some((from, to))
}

/// Brings suggestions to `[{"text": …, "mode": …}]`.
pub(crate) fn suggestions(value: Value) -> Result<Value, String> {
    let items: Vec<Value> = match value {
        Value::String(text) => elements(&text, "suggest")?
            .into_iter()
            .map(|(attributes, body)| {
                let mode = attribute(&attributes, "mode");
                json!({"text": body.trim(), "mode": mode})
            })
            .collect(),
        Value::Array(items) => items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(json!({"text": text.trim(), "mode": Value::Null})),
                Value::Object(map) => {
                    let text = map.get("text").and_then(Value::as_str).unwrap_or_default().trim();
                    let mode = map.get("mode").and_then(Value::as_str).filter(|m| !m.is_empty());
                    Ok(json!({"text": text, "mode": mode}))
                }
                _ => Err("each suggestion is text".to_owned()),
            })
            .collect::<Result<_, _>>()?,
        _ => return Err("expected a list of suggestions".into()),
    };
    if items.iter().any(|item| item["text"].as_str().unwrap_or_default().is_empty()) {
        return Err("a suggestion is empty".into());
    }
    Ok(Value::Array(items))
}

/// The elements `<tag attributes>body</tag>` in `text`; anything else between them but
/// white space is an error.
fn elements(text: &str, tag: &str) -> Result<Vec<(String, String)>, String> {
    let (open, close) = (format!("<{tag}"), format!("</{tag}>"));
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(&open) {
        let after = &rest[at + open.len()..];
        let boundary = after.starts_with('>') || after.starts_with(char::is_whitespace);
        let Some(end) = after.find('>').filter(|_| boundary) else {
            rest = after;
            continue;
        };
        let attributes = after[..end].trim().to_owned();
        let body = &after[end + 1..];
        let Some(stop) = body.find(&close) else {
            return Err(format!("<{tag}> is not closed"));
        };
        found.push((attributes, body[..stop].to_owned()));
        rest = &body[stop + close.len()..];
    }
    if found.is_empty() && tag != "line_range" && !text.trim().is_empty() {
        return Err(format!("has no <{tag}> element"));
    }
    Ok(found)
}

fn attribute(attributes: &str, name: &str) -> Option<String> {
    let after = attributes.split_once(&format!("{name}="))?.1;
    let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let value = after[1..].split_once(quote)?.0.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec;

    #[test]
    fn every_way_to_name_files_is_one_value() {
        let xml = "<file><path> a.rs </path><line_range>1-5</line_range></file>\n<file><path>b</path></file>";
        let want =
            json!([{"path": "a.rs", "line_range": ["1-5"]}, {"path": "b", "line_range": []}]);
        assert_eq!(files(xml.into()).unwrap(), want);
        assert_eq!(files(json!([{"path": "a.rs", "line_ranges": "1 - 5"}, "b"])).unwrap(), want);
        assert_eq!(
            files(json!({"file": [{"path": "a.rs", "line_range": "1-5"}, {"path": "b"}]})).unwrap(),
            want
        );
    }

    #[test]
    fn bad_files_are_named() {
        for bad in [
            json!("nothing"),
            json!([]),
            json!([{"path": "a", "line_range": "5-1"}]),
            json!([{"path": "a", "line_range": "0-1"}]),
            json!([{}]),
            json!("<file><path>x</path>"),
            json!(3),
        ] {
            assert!(files(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn suggestions_keep_their_mode() {
        let xml = "<suggest>one</suggest><suggest mode=\"code\">two</suggest>";
        let want = json!([{"text": "one", "mode": null}, {"text": "two", "mode": "code"}]);
        assert_eq!(suggestions(xml.into()).unwrap(), want);
        assert_eq!(suggestions(json!(["one", {"text": "two", "mode": "code"}])).unwrap(), want);
    }

    #[test]
    fn native_arguments_are_checked() {
        let spec = spec::find("write_to_file").unwrap();
        assert_eq!(
            call("1", spec, r#"{"path":"a"}"#).unwrap_err(),
            Invalid::Missing("content".into())
        );
        assert!(call("1", spec, r#"{"path":"a","content":""}"#).is_ok());
        assert!(matches!(call("1", spec, "[1]"), Err(Invalid::Wrong { .. })));
        assert!(matches!(
            call("1", spec, r#"{"path":"a","content":"","x":1}"#),
            Err(Invalid::Unknown(_))
        ));
    }
}
