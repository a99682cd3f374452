//! JSON schemas in the shape that function-calling APIs take.

use serde_json::{Map, Value, json};

use crate::spec::{Kind, ToolSpec};

/// `{"type": "function", "function": {name, description, parameters}}`.
pub fn function(spec: &ToolSpec) -> Value {
    json!({"type": "function", "function": {
        "name": spec.name,
        "description": description(spec),
        "parameters": parameters(spec),
    }})
}

/// The description a model reads.
pub fn description(spec: &ToolSpec) -> String {
    if spec.doc.is_empty() { spec.summary.into() } else { format!("{} {}", spec.summary, spec.doc) }
}

/// The JSON schema of the parameters alone.
pub fn parameters(spec: &ToolSpec) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for param in spec.params {
        let mut schema = kind(param.kind);
        schema["description"] = param.doc.into();
        properties.insert(param.name.into(), schema);
        if param.required {
            required.push(param.name);
        }
    }
    json!({"type": "object", "properties": properties, "required": required,
        "additionalProperties": false})
}

fn kind(kind: Kind) -> Value {
    match kind {
        Kind::Text | Kind::Code => json!({"type": "string"}),
        Kind::Integer => json!({"type": "integer"}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Choice(words) => json!({"type": "string", "enum": words}),
        Kind::Json => json!({"type": "object"}),
        Kind::Files => json!({"type": "array", "minItems": 1, "items": {
            "type": "object",
            "properties": {
                "path": {"type": "string"},
                "line_range": {"type": "array", "items": {"type": "string"},
                    "description": "Ranges such as \"10-40\", counted from 1."},
            },
            "required": ["path"],
        }}),
        Kind::Suggestions => json!({"type": "array", "minItems": 2, "maxItems": 4, "items": {
            "type": "object",
            "properties": {"text": {"type": "string"}, "mode": {"type": "string"}},
            "required": ["text"],
        }}),
    }
}
