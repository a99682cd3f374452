//! `lapce-ai mcp`: the user's MCP servers, and ourselves as one.

mod catalogue;
mod edit;
mod login;
mod serve;

use lapce_ai_ipc::wire::engine::{McpItem, McpOrder, McpServer};

use super::args::{self, McpAdd, McpCommand, McpPrompts};
use super::exit::{Code, Failure, Outcome};
use super::output::{Output, Style, printable};
use super::session;

pub async fn run(args: McpCommand, out: Output) -> Outcome {
    match args {
        McpCommand::List(args) => {
            let servers = ask(&args.root, McpOrder::List).await?.servers;
            if args.json.json {
                return out.json(&servers);
            }
            for server in &servers {
                line(server, out)?;
            }
            if servers.is_empty() {
                out.note("no MCP server is set up; `lapce-ai mcp catalogue` shows some that are ready to be added");
            }
            Ok(())
        }
        McpCommand::Test(args) => {
            let order = McpOrder::Test { name: args.name };
            let server = ask(&args.root, order).await?.servers.pop().ok_or_else(nothing)?;
            if args.json.json { out.json(&server) } else { described(&server, out) }
        }
        McpCommand::Prompts(args) => prompts(args, out).await,
        McpCommand::Catalogue(json) => {
            let all = catalogue::all()?;
            if json.json {
                return out.json(&all);
            }
            for entry in all {
                out.line(&format!("{}  {}", out.paint(Style::Strong, &entry.name), entry.about))?;
                let login = if entry.oauth { "with OAuth: lapce-ai mcp login" } else { "" };
                let rows = [
                    ("starts", &entry.starts),
                    ("network", &entry.network),
                    ("install", &entry.install),
                    ("key", &entry.key),
                    ("login", &login.to_owned()),
                    ("source", &entry.source),
                ];
                for (what, text) in rows.iter().filter(|(_, text)| !text.is_empty()) {
                    out.line(&format!("    {what:<8} {text}"))?;
                }
            }
            Ok(())
        }
        McpCommand::Add(args) => add(&args, out),
        McpCommand::Rm { name } => {
            edit::remove(&name)?;
            out.line(&format!("removed: {name}"))
        }
        McpCommand::Login(args) => login::login(args, out).await,
        McpCommand::Logout { name } => login::logout(name, out).await,
        McpCommand::Serve(args) => serve::run(args).await,
    }
}

fn nothing() -> Failure {
    Failure::new(Code::Bug, "the engine answered without a server", "")
}

async fn ask(root: &args::Root, order: McpOrder) -> Outcome<lapce_ai_ipc::wire::engine::McpReply> {
    let root = session::workspace(root.root.as_deref())?;
    let client = session::engine().await?;
    Ok(client.mcp(root, order).await?)
}

fn add(args: &McpAdd, out: Output) -> Outcome {
    let from_catalogue = args.url.is_none() && args.command.is_empty();
    let entry = if from_catalogue {
        let name = args.from.as_deref().unwrap_or(&args.name);
        Some(catalogue::find(name)?.ok_or_else(|| {
            let message = format!("the catalogue has no server {name:?}");
            let hint = "see `lapce-ai mcp catalogue`, or give it a --url or, after `--`, a command";
            Failure::new(Code::NotFound, message, hint)
        })?)
    } else {
        None
    };
    let section = match &entry {
        Some(entry) => entry.section.clone(),
        None => edit::section(args)?,
    };
    let oauth = section.contains_key("oauth");
    edit::add(&args.name, section)?;
    out.line(&format!("added: {}", args.name))?;
    if let Some(entry) = entry {
        if !entry.install.is_empty() {
            out.note(&format!("its program: {}", entry.install));
        }
        if !entry.key.is_empty() {
            let place = &entry.keyring;
            out.note(&format!("its key: {}", entry.key));
            out.note(&format!(
                "store it: secret-tool store --label='Lapce AI {place}' service lapce-ai account {place}"
            ));
        }
    }
    let next = if oauth { "login" } else { "test" };
    out.note(&format!("next: lapce-ai mcp {next} {}", args.name));
    Ok(())
}

fn line(server: &McpServer, out: Output) -> Outcome {
    let style = match server.state.as_str() {
        "running" => Style::Good,
        "failed" => Style::Bad,
        _ => Style::Dim,
    };
    let name = out.paint(Style::Strong, &format!("{:<16}", server.name));
    let state = out.paint(style, &format!("{:<12}", server.state));
    let starts = printable(&server.starts);
    let network = &server.network;
    out.line(&format!("{name} {state} {:>3} tools  {starts}; {network}", server.tools.len()))?;
    if !server.problem.is_empty() {
        out.line(&format!("{:17}{}", "", printable(&server.problem)))?;
    }
    Ok(())
}

fn described(server: &McpServer, out: Output) -> Outcome {
    line(server, out)?;
    out.line(&format!("it says it is {}", printable(&server.says)))?;
    let heading = |text: &str| out.line(&out.paint(Style::Strong, text));
    if !server.tools.is_empty() {
        heading("tools")?;
    }
    for tool in &server.tools {
        let not = if tool.allowed { "" } else { " (not allowed by its lists)" };
        out.line(&format!("  {}{not}  {}", tool.name, short(&tool.description)))?;
    }
    for (title, items) in [("resources", &server.resources), ("prompts", &server.prompts)] {
        if !items.is_empty() {
            heading(title)?;
        }
        for item in items {
            out.line(&item_line(item))?;
        }
    }
    for note in &server.notes {
        out.note(&printable(note));
    }
    if !server.layers.is_empty() {
        out.note(&out.paint_err(Style::Dim, &format!("sandbox: {}", server.layers.join(", "))));
    }
    for absent in &server.absent {
        out.note(&out.paint_err(Style::Warn, &format!("without {absent}")));
    }
    Ok(())
}

fn item_line(item: &McpItem) -> String {
    let arguments = item.arguments.join(" ");
    format!("  {} {arguments}  {}", printable(&item.name), short(&item.description))
}

fn short(text: &str) -> String {
    lapce_ai_tools::call::one_line(&printable(text), 100)
}

async fn prompts(args: McpPrompts, out: Output) -> Outcome {
    match args.prompt {
        None => {
            let order = McpOrder::Test { name: args.server };
            let server = ask(&args.root, order).await?.servers.pop().ok_or_else(nothing)?;
            for prompt in &server.prompts {
                out.line(item_line(prompt).trim_start())?;
            }
            Ok(())
        }
        Some(prompt) => {
            let order = McpOrder::Prompt { server: args.server, prompt, json: args.arguments };
            let text = ask(&args.root, order).await?.text;
            out.line(&printable(&text))
        }
    }
}
