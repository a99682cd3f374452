//! `Mcp`: what the user's MCP servers are and offer, tried on request; and the two tools
//! that call them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lapce_ai_ipc::wire::engine::{
    Attached, Event, Mcp, McpItem, McpOrder, McpReply, McpServer, McpTool, ToolReply,
};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{Cx, EngineProtocol};
use lapce_ai_tools::closed::Closed;
use lapce_ai_tools::{call, envelope};

use super::check_text;
use crate::config::Config;
use crate::limits;
use crate::mcp::config::{ServerConfig, Transport};
use crate::mcp::oauth::config::OAuth;
use crate::mcp::oauth::login::{self, Login};
use crate::mcp::session::Needs;
use crate::mcp::{Failure, Known, limits as mcp_limits, mention};
use crate::provider::Picture;
use crate::state::Engine;
use crate::workspace::Root;

pub async fn handle(
    engine: &Arc<Engine>,
    request: Mcp,
    cx: &Cx<EngineProtocol>,
) -> Result<McpReply, WireError> {
    let root = Root::open(&request.root)?;
    let config = engine.config.get()?;
    let work = async {
        match request.order {
            McpOrder::List => {
                Ok(McpReply { servers: list(engine, &config, Some(&root)), ..McpReply::default() })
            }
            McpOrder::Test { name } => test(engine, &config, &root, &name).await,
            McpOrder::Prompt { server, prompt, json } => {
                check_text("prompt's name", &prompt, limits::QUERY_BYTES)?;
                get_prompt(engine, &config, &root, &server, &prompt, &json).await
            }
            McpOrder::Expand { typed } => {
                check_text("text", &typed, limits::PROMPT_BYTES)?;
                expand(engine, &config, &root, &typed).await
            }
            McpOrder::Login { name } => log_in(engine, &config, &name, cx).await,
            McpOrder::Logout { name } => log_out(engine, &config, &name).await,
        }
    };
    tokio::select! {
        reply = work => reply,
        () = cx.cancelled().cancelled() => Err(gone()),
        () = engine.shutdown.cancelled() => Err(gone()),
    }
}

fn gone() -> WireError {
    WireError::new(ErrorKind::Cancelled, "the call was cancelled")
}

fn wire(failure: Failure) -> WireError {
    let hint = match failure.kind {
        ErrorKind::NotFound => "`lapce-ai mcp list` names the servers and their tools",
        ErrorKind::Unavailable => "`lapce-ai mcp test NAME` starts it and says what is wrong",
        ErrorKind::Limit => {
            "raise the limit in its section of config.toml if that is what you want"
        }
        ErrorKind::Denied => "see its section in config.toml",
        _ => "",
    };
    WireError::new(failure.kind, failure.message).hint(hint)
}

/// Every server of the configuration, as far as it is known without starting it.
pub fn list(engine: &Engine, config: &Config, root: Option<&Root>) -> Vec<McpServer> {
    let each = config.mcp.iter();
    each.map(|(name, server)| describe(name, server, &engine.mcp.known(name, server, root)))
        .collect()
}

fn describe(name: &str, config: &ServerConfig, known: &Known) -> McpServer {
    let state = match (config.enabled, known.running, known.problem.is_empty()) {
        (false, ..) => "off",
        (true, true, _) => "running",
        (true, false, false) => "failed",
        (true, false, true) => "not started",
    };
    let definitions = known.definitions.as_deref().cloned().unwrap_or_default();
    let tools = definitions.tools.into_iter().map(|tool| McpTool {
        allowed: config.allows(&tool.name),
        schema: tool.schema.to_string(),
        name: tool.name,
        description: tool.description,
    });
    let resources = definitions.resources.into_iter().map(|r| McpItem {
        name: r.uri,
        description: [r.name, r.description].join(" ").trim().to_owned(),
        arguments: Vec::new(),
    });
    let prompts = definitions.prompts.into_iter().map(|p| McpItem {
        name: p.name,
        description: p.description,
        arguments: p.arguments,
    });
    McpServer {
        name: name.to_owned(),
        kind: match config.transport {
            Transport::Stdio(_) => "stdio".to_owned(),
            Transport::Http(_) => "http".to_owned(),
        },
        starts: config.shown(),
        network: config.network(),
        state: state.to_owned(),
        problem: known.problem.clone(),
        pid: known.pid,
        says: definitions.server,
        tools: tools.collect(),
        resources: resources.collect(),
        prompts: prompts.collect(),
        notes: definitions.left_out,
        layers: known.layers.clone(),
        absent: known.absent.iter().map(|(name, why)| format!("{name}: {why}")).collect(),
    }
}

fn needs<'a>(
    engine: &'a Engine,
    config: &'a Config,
    root: &'a Root,
    closed: &'a Closed,
) -> Result<Needs<'a>, WireError> {
    Ok(Needs {
        tools: engine.tools()?,
        providers: &engine.providers,
        network: &config.network,
        root,
        closed,
    })
}

async fn test(
    engine: &Engine,
    config: &Config,
    root: &Root,
    name: &str,
) -> Result<McpReply, WireError> {
    let server = engine.mcp.server(config, root, name).map_err(wire)?;
    let closed = engine.closed(root)?;
    server.session(needs(engine, config, root, &closed)?, true).await.map_err(|failure| {
        let hint = format!(
            "docs/mcp.md says what a server can see and reach; correct [mcp.servers.{name}]"
        );
        WireError::new(failure.kind, failure.message).hint(hint)
    })?;
    let described = describe(name, &server.config, &server.known());
    Ok(McpReply { servers: vec![described], ..McpReply::default() })
}

async fn get_prompt(
    engine: &Engine,
    config: &Config,
    root: &Root,
    server: &str,
    prompt: &str,
    json: &str,
) -> Result<McpReply, WireError> {
    check_text("arguments", json, limits::TOOL_JSON_BYTES)?;
    let arguments = serde_json::from_str(json).map_err(|e| {
        WireError::new(ErrorKind::Invalid, format!("arguments: {e}"))
            .hint("a JSON object is wanted")
    })?;
    let server = engine.mcp.server(config, root, server).map_err(wire)?;
    let closed = engine.closed(root)?;
    let answer = server
        .get_prompt(needs(engine, config, root, &closed)?, prompt, Some(arguments))
        .await
        .map_err(wire)?;
    Ok(McpReply { text: answer.text, ..McpReply::default() })
}

/// The prompt and the resources that a text names. What a server answers is not looked
/// through for more of them.
async fn expand(
    engine: &Engine,
    config: &Config,
    root: &Root,
    typed: &str,
) -> Result<McpReply, WireError> {
    let closed = engine.closed(root)?;
    let needs = needs(engine, config, root, &closed)?;
    let mentions = mention::find(typed, |name| config.mcp.contains_key(name));
    let mut reply = McpReply { text: typed.to_owned(), ..McpReply::default() };
    if let Some(wanted) = mentions.prompt {
        let server = engine.mcp.server(config, root, wanted.server).map_err(wire)?;
        let known = server.definitions(needs).await.map_err(wire)?;
        let prompt = known.prompts.iter().find(|p| p.name == wanted.name).ok_or_else(|| {
            let names: Vec<&str> = known.prompts.iter().map(|p| p.name.as_str()).collect();
            let message = format!("{} has no prompt {:?}", wanted.server, wanted.name);
            WireError::new(ErrorKind::NotFound, message)
                .hint(format!("its prompts: {}", names.join(", ")))
        })?;
        let arguments = mention::arguments(wanted.rest, &prompt.arguments).map_err(|why| {
            let message = format!("/mcp:{}:{}: {why}", wanted.server, wanted.name);
            let form = prompt.arguments.join(" ");
            WireError::new(ErrorKind::Invalid, message).hint(format!("its arguments: {form}"))
        })?;
        let answer = server.get_prompt(needs, wanted.name, Some(arguments)).await.map_err(wire)?;
        reply.text = answer.text;
    }
    for (name, uri) in mentions.resources {
        let server = engine.mcp.server(config, root, name).map_err(wire)?;
        let answer = server.read_resource(needs, uri).await.map_err(wire)?;
        let text = envelope::head_and_tail(&answer.text, mcp_limits::ATTACHED_BYTES);
        reply.attached.push(Attached { name: format!("{name}:{uri}"), text });
    }
    Ok(reply)
}

/// The login that a server's configuration describes.
fn login_of<'a>(
    engine: &'a Engine,
    config: &'a Config,
    name: &'a str,
) -> Result<Login<'a>, WireError> {
    let server = config.mcp.get(name).ok_or_else(|| {
        wire(Failure::new(ErrorKind::NotFound, format!("there is no MCP server {name:?}")))
    })?;
    let found = match &server.transport {
        Transport::Http(http) => http.oauth.as_ref().map(|oauth| (&http.url, oauth)),
        Transport::Stdio(_) => None,
    };
    let (url, oauth): (&String, &OAuth) = found.ok_or_else(|| {
        let message = format!("the configuration of {name} has no login");
        WireError::new(ErrorKind::Invalid, message).hint(format!(
            "a server with a url has one with `oauth = true` in [mcp.servers.{name}]"
        ))
    })?;
    let (providers, network) = (&*engine.providers, &config.network);
    Ok(Login { server: name, url, oauth, providers, network })
}

async fn log_in(
    engine: &Engine,
    config: &Config,
    name: &str,
    cx: &Cx<EngineProtocol>,
) -> Result<McpReply, WireError> {
    let wanted = login_of(engine, config, name)?;
    // The address is for the user alone: it is in no log.
    let show = async |address: &str| {
        let _ = cx.emit(Event::Text(address.to_owned())).await;
    };
    let text = login::login(&wanted, show).await.map_err(|why| {
        WireError::new(ErrorKind::Unavailable, format!("the login to {name} failed: {why}"))
            .hint("docs/mcp.md says how logins work and what they refuse")
    })?;
    engine.mcp.restart(name).await;
    Ok(McpReply { text, ..McpReply::default() })
}

async fn log_out(engine: &Engine, config: &Config, name: &str) -> Result<McpReply, WireError> {
    let there_was = login::logout(&login_of(engine, config, name)?).await.map_err(|why| {
        WireError::new(ErrorKind::Unavailable, format!("the logout from {name} failed: {why}"))
    })?;
    engine.mcp.restart(name).await;
    let text = if there_was { "logged out" } else { "" };
    Ok(McpReply { text: text.to_owned(), ..McpReply::default() })
}

/// `use_mcp_tool` and `access_mcp_resource`, with the images that came. Also called by the agent
/// loop.
pub async fn carry_out(
    engine: &Engine,
    root: &Root,
    call: &call::ToolCall,
) -> (ToolReply, Vec<Picture>) {
    let started = Instant::now();
    let given = engine.mcp.carry_out(engine, root, call).await;
    let wall_ms = millis(started.elapsed());
    let mut pictures = Vec::new();
    let reply = match given {
        Ok(answer) => {
            pictures = answer.pictures;
            ToolReply {
                text: if answer.ok {
                    envelope::result(call, &answer.text)
                } else {
                    envelope::error(call, &answer.text)
                },
                ok: answer.ok,
                wall_ms,
                layers: answer.layers,
                limit_hit: String::new(),
                rule: String::new(),
            }
        }
        Err(failure) => ToolReply {
            text: envelope::error(call, &failure.message),
            ok: false,
            wall_ms,
            layers: Vec::new(),
            limit_hit: match failure.kind {
                ErrorKind::Limit => failure.message,
                _ => String::new(),
            },
            rule: String::new(),
        },
    };
    (reply, pictures)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
