//! Servers that are ready to be added: `catalogue.toml`, read.

use serde::Serialize;
use toml_edit::{DocumentMut, Item, Table};

use crate::commands::exit::{Code, Failure, Outcome};

const TEXT: &str = include_str!("catalogue.toml");

/// What `lapce-ai mcp catalogue` says of one.
#[derive(Debug, Serialize)]
pub struct Entry {
    pub name: String,
    pub about: String,
    /// Where that was read, and of which version.
    pub source: String,
    /// How its program gets onto the machine; empty for one that is reached over HTTP.
    pub install: String,
    /// Which key it needs, and the keyring's entry that it is looked for in.
    pub key: String,
    pub keyring: String,
    /// It wants a login.
    pub oauth: bool,
    pub starts: String,
    pub network: String,
    #[serde(skip)]
    pub section: Table,
}

/// All of them, by name.
pub fn all() -> Outcome<Vec<Entry>> {
    let broken = |e: toml_edit::TomlError| Failure::new(Code::Bug, e.to_string(), "");
    let document: DocumentMut = TEXT.parse().map_err(broken)?;
    Ok(document.iter().filter_map(|(name, item)| entry(name, item.as_table()?)).collect())
}

pub fn find(name: &str) -> Outcome<Option<Entry>> {
    Ok(all()?.into_iter().find(|entry| entry.name == name))
}

fn entry(name: &str, table: &Table) -> Option<Entry> {
    let text = |key: &str| table.get(key).and_then(Item::as_str).unwrap_or_default().to_owned();
    let section = table.get("server")?.as_table()?.clone();
    let list = |key: &str| -> Vec<String> {
        let list = section.get(key).and_then(Item::as_array);
        list.into_iter().flatten().filter_map(|v| Some(v.as_str()?.to_owned())).collect()
    };
    let starts = if let Some(url) = section.get("url").and_then(Item::as_str) {
        url.to_owned()
    } else {
        let command = section.get("command").and_then(Item::as_str).unwrap_or_default();
        [vec![command.to_owned()], list("args")].concat().join(" ")
    };
    let network = match section.get("network") {
        _ if section.contains_key("url") => "the address it is asked at".to_owned(),
        Some(item) if item.as_bool() == Some(true) => {
            format!("all of the host's: {}", text("why_network"))
        }
        Some(item) if item.is_array() => list("network").join(", "),
        _ => "none".to_owned(),
    };
    let values =
        ["env", "headers"].into_iter().filter_map(|key| section.get(key)?.as_inline_table());
    let keyring = values
        .flat_map(toml_edit::InlineTable::iter)
        .find_map(|(_, value)| value.as_inline_table()?.get("keyring")?.as_str())
        .unwrap_or_default()
        .to_owned();
    Some(Entry {
        name: name.to_owned(),
        about: text("about"),
        source: text("source"),
        install: text("install"),
        key: text("key"),
        keyring,
        oauth: section.contains_key("oauth"),
        starts,
        network,
        section,
    })
}

#[cfg(test)]
mod tests {
    use toml_edit::{InlineTable, Value};

    use super::*;

    fn values(entry: &Entry) -> Vec<(String, Value)> {
        let tables = ["env", "headers"].into_iter().filter_map(|k| entry.section.get(k));
        let tables = tables.map(|t| t.as_inline_table().expect("written in one line"));
        tables.flat_map(InlineTable::iter).map(|(k, v)| (k.to_owned(), v.clone())).collect()
    }

    fn list(entry: &Entry, key: &str) -> Vec<String> {
        let list = entry.section.get(key).and_then(Item::as_array);
        list.into_iter().flatten().map(|v| v.as_str().expect("text").to_owned()).collect()
    }

    #[test]
    fn the_catalogue_has_what_it_should_and_each_entry_names_its_source() {
        let all = all().unwrap();
        for name in [
            "github",
            "sentry",
            "postgres",
            "kubernetes",
            "slack",
            "jira",
            "atlassian",
            "linear",
            "notion",
            "figma",
            "filesystem",
            "git",
            "fetch",
        ] {
            assert!(all.iter().any(|e| e.name == name), "{name}");
        }
        for entry in &all {
            assert!(!entry.about.is_empty() && !entry.starts.is_empty(), "{entry:?}");
            assert!(entry.source.starts_with("https://"), "{entry:?}");
            assert!(entry.source.contains("read 20"), "when it was read: {entry:?}");
        }
    }

    #[test]
    fn every_entry_declares_what_it_reaches() {
        for entry in &all().unwrap() {
            let section = &entry.section;
            if let Some(url) = section.get("url") {
                let url = url.as_str().unwrap();
                assert!(
                    url.starts_with("https://") || url.starts_with("http://127.0.0.1:"),
                    "{url}"
                );
                assert!(entry.install.is_empty() && !section.contains_key("network"), "{entry:?}");
                continue;
            }
            assert!(!entry.install.is_empty(), "{entry:?}");
            assert!(
                section.contains_key("workspace") && section.contains_key("network"),
                "{entry:?}"
            );
            // All of the network only with a reason that the user is shown.
            let all = section["network"].as_bool() == Some(true);
            assert_eq!(all, entry.network.contains("all of the host's: "), "{entry:?}");
            assert!(!all || entry.network.len() > 30, "{entry:?}");
            for folder in ["read", "write"].into_iter().flat_map(|key| list(entry, key)) {
                let depth = folder.matches('/').count();
                assert!(
                    folder.starts_with('/') && depth >= 2 || folder == "/etc/kubernetes",
                    "{folder}"
                );
                assert!(!folder.contains("/."), "no hidden folder of a home: {folder}");
            }
            // Nothing is fetched and run at a start.
            for runner in ["npx", "uvx", "sh", "bash", "docker", "podman"] {
                assert_ne!(section["command"].as_str(), Some(runner), "{entry:?}");
            }
        }
    }

    #[test]
    fn secrets_are_named_only_and_lie_in_the_keyring() {
        let secret = |name: &str| {
            let name = name.to_ascii_lowercase();
            ["token", "key", "secret", "password", "authorization", "database_uri"]
                .iter()
                .any(|word| name.contains(word))
        };
        for entry in &all().unwrap() {
            for (name, value) in values(entry) {
                let place = value.as_inline_table();
                assert_eq!(place.is_some(), secret(&name), "{}: {name}", entry.name);
                let Some(place) = place else { continue };
                assert!(place.get("keyring").and_then(Value::as_str).is_some(), "{}", entry.name);
                assert!(
                    place.iter().all(|(k, _)| k == "keyring" || k == "prefix"),
                    "{}",
                    entry.name
                );
            }
            // No secret on a command line.
            assert!(list(entry, "args").iter().all(|arg| !secret(arg)), "{entry:?}");
            assert_eq!(entry.keyring.is_empty(), entry.key.is_empty(), "{entry:?}");
            assert!(!entry.oauth || entry.key.is_empty(), "{entry:?}");
        }
    }
}
