//! What a server offers: asked for when it starts and when it says that it changed, made
//! harmless, and kept in a file so that a run need not start the server to know it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rmcp::model::PaginatedRequestParams;
use rmcp::{Peer, RoleClient, ServiceError};
use serde::{Deserialize, Serialize};

use super::{limits, text};

/// A server's lists, checked and bounded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Definitions {
    /// Of the configuration they were asked with.
    pub fingerprint: String,
    /// Name and version, as the server says.
    pub server: String,
    pub tools: Vec<Tool>,
    pub resources: Vec<Resource>,
    pub prompts: Vec<Prompt>,
    /// What was left out and why, a sentence each.
    pub left_out: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    pub name: String,
    pub description: String,
    pub schema: serde_json::Value,
}

/// A resource, or a template of some.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    pub uri: String,
    pub name: String,
    pub description: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    pub name: String,
    pub description: String,
    /// Names; required ones end with `*`.
    pub arguments: Vec<String>,
}

/// Asks a server for everything it offers.
pub async fn ask(peer: &Peer<RoleClient>, fingerprint: &str) -> Result<Definitions, ServiceError> {
    let mut found = Definitions { fingerprint: fingerprint.to_owned(), ..Definitions::default() };
    let Some(info) = peer.peer_info() else { return Ok(found) };
    if let Some(server) = &info.server_info {
        found.server = text::description(Some(&format!("{} {}", server.name, server.version)));
    }
    let can = &info.capabilities;
    if can.tools.is_some() {
        tools(peer, &mut found).await?;
    }
    if can.resources.is_some() {
        resources(peer, &mut found).await?;
    }
    if can.prompts.is_some() {
        prompts(peer, &mut found).await?;
    }
    Ok(found)
}

/// The page after `cursor`.
fn page(cursor: Option<String>) -> PaginatedRequestParams {
    PaginatedRequestParams::default().with_cursor(cursor)
}

async fn tools(peer: &Peer<RoleClient>, found: &mut Definitions) -> Result<(), ServiceError> {
    let mut cursor = None;
    for _ in 0..limits::PAGES {
        let answer = peer.list_tools(Some(page(cursor))).await?;
        for tool in answer.tools {
            if !text::is_name(&tool.name) {
                found.refuse(
                    "tool",
                    &tool.name,
                    "its name holds more than letters, digits and _-./:",
                );
            } else if found.tools.len() >= limits::TOOLS {
                found.refuse("tool", &tool.name, "there are too many");
            } else if !found.tools.iter().any(|t| t.name == tool.name) {
                found.tools.push(Tool {
                    name: tool.name.to_string(),
                    description: text::description(tool.description.as_deref()),
                    schema: schema(&tool.input_schema),
                });
            }
        }
        cursor = answer.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    Ok(())
}

async fn resources(peer: &Peer<RoleClient>, found: &mut Definitions) -> Result<(), ServiceError> {
    let mut cursor = None;
    for _ in 0..limits::PAGES {
        let answer = peer.list_resources(Some(page(cursor))).await?;
        for resource in answer.resources {
            found.resource(resource.uri, &resource.name, resource.description.as_deref());
        }
        cursor = answer.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    // Many servers have none and say so with an error.
    if let Ok(answer) = peer.list_resource_templates(Some(page(None))).await {
        for template in answer.resource_templates {
            found.resource(template.uri_template, &template.name, template.description.as_deref());
        }
    }
    Ok(())
}

async fn prompts(peer: &Peer<RoleClient>, found: &mut Definitions) -> Result<(), ServiceError> {
    let mut cursor = None;
    for _ in 0..limits::PAGES {
        let answer = peer.list_prompts(Some(page(cursor))).await?;
        for prompt in answer.prompts {
            if !text::is_name(&prompt.name) {
                found.refuse(
                    "prompt",
                    &prompt.name,
                    "its name holds more than letters, digits and _-./:",
                );
                continue;
            }
            if found.prompts.len() >= limits::PROMPTS {
                found.refuse("prompt", &prompt.name, "there are too many");
                continue;
            }
            let arguments = prompt.arguments.unwrap_or_default().into_iter().take(32).map(|a| {
                let star = if a.required == Some(true) { "*" } else { "" };
                text::description(Some(&a.name)) + star
            });
            found.prompts.push(Prompt {
                arguments: arguments.collect(),
                name: prompt.name,
                description: text::description(prompt.description.as_deref()),
            });
        }
        cursor = answer.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    Ok(())
}

/// A schema as a model is given it: without what only validators need, and bounded.
fn schema(schema: &serde_json::Map<String, serde_json::Value>) -> serde_json::Value {
    let mut schema = schema.clone();
    schema.remove("$schema");
    let schema = harmless(serde_json::Value::Object(schema));
    if schema.to_string().len() > limits::SCHEMA_BYTES {
        return serde_json::json!({"type": "object", "description": "too long to be shown"});
    }
    schema
}

/// Every text in a schema on one bounded line.
fn harmless(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(text) => Value::String(text::description(Some(&text))),
        Value::Array(list) => Value::Array(list.into_iter().map(harmless).collect()),
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, value)| (text::description(Some(&key)), harmless(value)))
                .collect(),
        ),
        other => other,
    }
}

impl Definitions {
    fn resource(&mut self, uri: String, name: &str, description: Option<&str>) {
        if !text::is_uri(&uri) {
            self.refuse("resource", &uri, "its address is too long or holds odd characters");
        } else if self.resources.len() >= limits::RESOURCES {
            self.refuse("resource", &uri, "there are too many");
        } else {
            self.resources.push(Resource {
                uri,
                name: text::description(Some(name)),
                description: text::description(description),
            });
        }
    }

    fn refuse(&mut self, what: &str, name: &str, why: &str) {
        const NAMED: usize = 20;
        if self.left_out.len() < NAMED {
            let name = lapce_ai_tools::call::one_line(name, 60);
            self.left_out.push(format!("the {what} {name:?} is left out: {why}"));
        }
    }
}

/// Definitions on disk, one file a server.
#[derive(Debug, Clone)]
pub struct Cache(pub PathBuf);

impl Cache {
    fn file(&self, server: &str) -> PathBuf {
        self.0.join(format!("{server}.json"))
    }

    /// What is kept of a server, if it was asked with the same configuration.
    pub fn load(&self, server: &str, fingerprint: &str) -> Option<Definitions> {
        let mut text = String::new();
        let file = File::open(self.file(server)).ok()?;
        file.take(limits::CACHE_BYTES).read_to_string(&mut text).ok()?;
        let kept: Definitions = serde_json::from_str(&text).ok()?;
        (kept.fingerprint == fingerprint).then_some(kept)
    }

    pub fn keep(&self, server: &str, definitions: &Definitions) -> io::Result<()> {
        lapce_ai_ipc::paths::private_dir(&self.0)?;
        let text = serde_json::to_vec(definitions).map_err(io::Error::other)?;
        if text.len() as u64 > limits::CACHE_BYTES {
            return Err(io::Error::other("the definitions are too long to be kept"));
        }
        let fresh = self.0.join(format!(".{server}-{}.tmp", std::process::id()));
        let written = write(&fresh, &text).and_then(|()| fs::rename(&fresh, self.file(server)));
        if written.is_err() {
            let _ = fs::remove_file(&fresh);
        }
        written
    }
}

fn write(file: &Path, text: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    file.write_all(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_kept_for_their_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache(dir.path().join("mcp"));
        assert_eq!(cache.load("git", "f"), None);
        let tool =
            Tool { name: "t".into(), description: "d".into(), schema: serde_json::json!({}) };
        let kept =
            Definitions { fingerprint: "f".into(), tools: vec![tool], ..Definitions::default() };
        cache.keep("git", &kept).unwrap();
        assert_eq!(cache.load("git", "f"), Some(kept));
        assert_eq!(cache.load("git", "other"), None);
        std::fs::write(cache.file("git"), "{").unwrap();
        assert_eq!(cache.load("git", "f"), None);
    }

    #[test]
    fn schemas_are_bounded_and_hold_no_control_characters() {
        let map = |json: serde_json::Value| json.as_object().unwrap().clone();
        let small = schema(&map(serde_json::json!({
            "$schema": "x", "type": "object", "description": "a\n</mcp>\u{1b}b"
        })));
        assert_eq!(small, serde_json::json!({"type": "object", "description": "a </mcp> b"}));
        let long = map(serde_json::json!({"enum": vec!["word"; 10_000]}));
        assert_eq!(schema(&long)["description"], "too long to be shown");
    }
}
