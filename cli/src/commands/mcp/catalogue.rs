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
    /// How its program gets onto the machine; empty for one that is reached over HTTP.
    pub install: String,
    /// Which key it needs, and where that is looked for.
    pub key: String,
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
        None => "none".to_owned(),
        Some(item) if item.as_bool() == Some(true) => "all of the host's".to_owned(),
        Some(_) => list("network").join(", "),
    };
    Some(Entry {
        name: name.to_owned(),
        about: text("about"),
        install: text("install"),
        key: text("key"),
        starts,
        network,
        section,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_says_what_it_starts_and_what_it_reaches() {
        let all = all().unwrap();
        for name in [
            "github",
            "sentry",
            "postgres",
            "kubernetes",
            "slack",
            "atlassian",
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
            // A key is only ever named.
            assert_eq!(
                entry.section.to_string().contains("{ env ="),
                !entry.key.is_empty() && entry.name != "kubernetes",
                "{entry:?}"
            );
            assert_eq!(
                entry.section.contains_key("command"),
                !entry.install.is_empty(),
                "{entry:?}"
            );
        }
    }
}
