//! `[mcp.servers]` in the user's `config.toml`: a server is put in or taken out.

use toml_edit::{DocumentMut, InlineTable, Item, Table, Value};

use crate::commands::args::McpAdd;
use crate::commands::exit::{Code, Failure, Outcome};
use crate::commands::user_file;

/// Puts a server into the file. A name that is taken is an error.
pub fn add(name: &str, section: Table) -> Outcome {
    user_file::config(|document| {
        let servers = servers(document)?;
        if servers.contains_key(name) {
            let message = format!("there is an MCP server {name:?} already");
            let hint =
                format!("`lapce-ai mcp rm {name}` removes it, or add this one under another name");
            return Err(Failure::new(Code::Usage, message, hint));
        }
        servers.insert(name, Item::Table(section));
        Ok(())
    })
}

/// Takes a server out of the file.
pub fn remove(name: &str) -> Outcome {
    user_file::config(|document| {
        if servers(document)?.remove(name).is_none() {
            let message = format!("there is no MCP server {name:?} in the file");
            return Err(Failure::new(Code::NotFound, message, "`lapce-ai mcp list` names them"));
        }
        Ok(())
    })
}

/// The section that the options of `mcp add` describe.
pub fn section(args: &McpAdd) -> Outcome<Table> {
    let mut table = Table::new();
    let mut put = |key: &str, value: Value| {
        table.insert(key, toml_edit::value(value));
    };
    if let Some(url) = &args.url {
        put("url", url.as_str().into());
    }
    if args.oauth {
        put("oauth", true.into());
    }
    if let Some((command, rest)) = args.command.split_first() {
        put("command", command.as_str().into());
        if !rest.is_empty() {
            put("args", rest.iter().map(String::as_str).collect());
        }
    }
    for (key, given) in [("env", &args.env), ("headers", &args.header)] {
        if !given.is_empty() {
            put(key, values(given)?.into());
        }
    }
    if let Some(access) = &args.workspace {
        put("workspace", access.as_str().into());
    }
    match args.network.as_slice() {
        [] => {}
        [all] if all == "all" => put("network", true.into()),
        hosts => put("network", hosts.iter().map(String::as_str).collect()),
    }
    for (key, folders) in [("read", &args.read), ("write", &args.write)] {
        if !folders.is_empty() {
            put(key, folders.iter().map(|f| f.display().to_string()).collect());
        }
    }
    Ok(table)
}

/// `NAME=text`, `NAME=env:VARIABLE` or `NAME=keyring:ENTRY`.
fn values(given: &[String]) -> Outcome<InlineTable> {
    let mut table = InlineTable::new();
    for text in given {
        let Some((name, value)) = text.split_once('=') else {
            let hint = "write NAME=text, NAME=env:VARIABLE or NAME=keyring:ENTRY";
            return Err(Failure::new(Code::Usage, format!("{text:?} names no value"), hint));
        };
        let place = |kind: &str, of: &str| {
            let mut place = InlineTable::new();
            place.insert(kind, of.into());
            Value::from(place)
        };
        let value = match value.split_once(':') {
            Some(("env", of)) => place("env", of),
            Some(("keyring", of)) => place("keyring", of),
            _ => value.into(),
        };
        table.insert(name, value);
    }
    Ok(table)
}

fn servers(document: &mut DocumentMut) -> Outcome<&mut Table> {
    let odd = || {
        let message = "[mcp] in config.toml is written in a way that this cannot edit";
        Failure::new(Code::Failed, message, "edit the file by hand; docs/mcp.md shows how")
    };
    let implicit = || {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    };
    let mcp = document.entry("mcp").or_insert_with(implicit).as_table_mut().ok_or_else(odd)?;
    mcp.entry("servers").or_insert_with(implicit).as_table_mut().ok_or_else(odd)
}
