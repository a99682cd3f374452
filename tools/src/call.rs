//! One tool call, whichever form the model wrote it in.

use serde_json::{Map, Value};

use crate::spec::{Kind, ToolSpec};

/// A call as the rest of the product sees it. Values have the types that
/// [`ToolSpec`] declares: text, numbers, booleans, lists of files.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    pub params: Map<String, Value>,
}

/// Why a call cannot run as written. The text is for the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("missing value for required parameter '{0}'")]
    Missing(String),
    #[error("parameter '{name}': {problem}")]
    Wrong { name: String, problem: String },
    #[error("unknown parameter '{0}'")]
    Unknown(String),
}

impl ToolCall {
    pub fn new(id: impl Into<String>, name: impl Into<String>) -> Self {
        Self { id: id.into(), name: name.into(), params: Map::new() }
    }

    /// Adds a parameter; for tests and callers that build calls themselves.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.params.insert(name.into(), value.into());
        self
    }

    /// A text parameter, or `""`.
    pub fn text(&self, name: &str) -> &str {
        self.params.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    pub fn has(&self, name: &str) -> bool {
        self.params.get(name).is_some_and(|v| !v.is_null())
    }

    pub fn number(&self, name: &str) -> Option<i64> {
        self.params.get(name).and_then(Value::as_i64)
    }

    pub fn flag(&self, name: &str) -> bool {
        self.params.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// The paths this call names, as written. Commands name none here.
    pub fn paths(&self) -> Vec<&str> {
        let mut paths = Vec::new();
        for key in ["path", "file_path"] {
            if let Some(path) = self.params.get(key).and_then(Value::as_str) {
                paths.push(path);
            }
        }
        if let Some(files) = self.params.get("args").and_then(Value::as_array) {
            paths.extend(files.iter().filter_map(|f| f.get("path")?.as_str()));
        }
        paths
    }

    /// What the call is about, on one short line: `read_file for 'src/main.rs'`.
    pub fn summary(&self) -> String {
        match self.argument() {
            arg if arg.is_empty() => self.name.clone(),
            arg => format!("{} for '{arg}'", self.name),
        }
    }

    /// The argument that identifies the call to a reader, cut to one line.
    pub fn argument(&self) -> String {
        if self.has("server_name") {
            return one_line(&crate::policy::mcp::subject(self), 120);
        }
        let paths = if self.has("regex") { Vec::new() } else { self.paths() };
        let raw = match paths.as_slice() {
            [] => [
                "command",
                "regex",
                "query",
                "artifact_id",
                "mode_slug",
                "mode",
                "question",
                "task",
                "skill",
                "action",
            ]
            .iter()
            .map(|key| self.text(key))
            .find(|v| !v.is_empty())
            .unwrap_or_default()
            .to_owned(),
            [one] => (*one).to_owned(),
            [first, rest @ ..] => format!("{first} and {} more", rest.len()),
        };
        one_line(&raw, 120)
    }

    /// Brings every value to its declared type, and checks that none is missing.
    pub fn normalise(mut self, spec: &ToolSpec) -> Result<Self, Invalid> {
        let mut params = Map::new();
        for (name, value) in std::mem::take(&mut self.params) {
            let Some(param) = spec.params.iter().find(|p| p.name == name) else {
                // `line_count` and friends: models invent harmless extras; an unknown
                // name is refused so that a misspelt parameter is not silently lost.
                return Err(Invalid::Unknown(name));
            };
            if value.is_null() {
                continue;
            }
            let value = convert(param.kind, value)
                .map_err(|problem| Invalid::Wrong { name: name.clone(), problem })?;
            params.insert(name, value);
        }
        self.params = params;
        for param in spec.params.iter().filter(|p| p.required) {
            let empty_is_missing = param.kind != Kind::Code;
            let missing = match self.params.get(param.name) {
                None => true,
                Some(Value::String(s)) => empty_is_missing && s.is_empty(),
                Some(_) => false,
            };
            if missing {
                return Err(Invalid::Missing(param.name.into()));
            }
        }
        if let Some(group) = spec.one_of
            && !group.iter().any(|name| self.has(name))
        {
            return Err(Invalid::Missing(group[0].into()));
        }
        Ok(self)
    }
}

/// `value` as the declared kind, or what is wrong with it.
fn convert(kind: Kind, value: Value) -> Result<Value, String> {
    match (kind, value) {
        (Kind::Text | Kind::Code, Value::String(s)) => {
            if kind == Kind::Text && s.contains('\0') {
                return Err("must not contain a NUL character".into());
            }
            Ok(Value::String(s))
        }
        (Kind::Text, Value::Number(n)) => Ok(Value::String(n.to_string())),
        (Kind::Integer, Value::Number(n)) => match n.as_i64() {
            Some(n) => Ok(n.into()),
            // JSON numbers such as 12.0 come from models without integers.
            None => match n.as_f64() {
                Some(f) if f.fract() == 0.0 && f.abs() < 9e15 => Ok((f as i64).into()),
                _ => Err(format!("'{n}' is not a whole number")),
            },
        },
        (Kind::Integer, Value::String(s)) => s
            .trim()
            .parse::<i64>()
            .map(Value::from)
            .map_err(|_| format!("'{}' is not a whole number", one_line(&s, 40))),
        (Kind::Flag, Value::Bool(b)) => Ok(b.into()),
        (Kind::Flag, Value::String(s)) => match s.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "1" => Ok(true.into()),
            "false" | "no" | "0" | "" => Ok(false.into()),
            _ => Err(format!("'{}' is neither true nor false", one_line(&s, 40))),
        },
        (Kind::Choice(allowed), Value::String(s)) => {
            let s = s.trim();
            if allowed.contains(&s) {
                Ok(s.into())
            } else {
                Err(format!("'{}' is not one of {}", one_line(s, 40), allowed.join(", ")))
            }
        }
        (Kind::Files, value) => crate::native::files(value),
        (Kind::Suggestions, value) => crate::native::suggestions(value),
        (Kind::Json, Value::String(s)) => {
            serde_json::from_str(&s).map_err(|e| format!("is not valid JSON: {e}"))
        }
        (Kind::Json, value) => Ok(value),
        (kind, other) => Err(format!("expected {}, found {}", kind.word(), type_word(&other))),
    }
}

fn type_word(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true/false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// `text` on one line of at most `max` characters, control characters shown as spaces.
pub fn one_line(text: &str, max: usize) -> String {
    let mut line: String =
        text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(max + 1).collect();
    if line.chars().count() > max {
        line.pop();
        line.push('…');
    }
    line
}
