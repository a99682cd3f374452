//! The user's MCP servers: programs and addresses of `config.toml` that offer more tools,
//! resources and prompts.
//!
//! [`Mcp`] is the only entry for handlers and the agent loop. Below it: `config` (what the
//! user wrote), `oauth` (logins), `server` (one server's life and limits), `calls` (what it
//! is asked for), `session` (one connection), `definitions` (what a server offers, kept on
//! disk), `meter` and `text` (what it sends, bounded and made harmless), `mention` (prompts
//! and resources that the user types). Nothing is started before a call or a run needs it.
//! MCP's own types stay in here.

mod calls;
pub mod config;
pub mod definitions;
pub mod limits;
pub mod mention;
pub mod meter;
pub mod oauth;
pub mod prompt;
pub mod server;
pub mod session;
pub mod text;
pub mod value;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::join_all;
use lapce_ai_ipc::wire::ErrorKind;
use lapce_ai_tools::call::ToolCall;

use self::config::{ServerConfig, Transport};
use self::definitions::{Cache, Definitions};
pub use self::server::{Answer, Failure, Known, Server};
use self::session::Needs;
use crate::config::Config;
use crate::state::Engine;
use crate::workspace::Root;

/// All servers that were needed so far. A program runs once for each workspace.
pub struct Mcp {
    cache: Cache,
    servers: Mutex<HashMap<(String, String), Arc<Server>>>,
}

impl Mcp {
    /// Definitions are kept in `cache`.
    pub fn new(cache: PathBuf) -> Self {
        Self { cache: Cache(cache), servers: Mutex::default() }
    }

    fn key(name: &str, config: &ServerConfig, root: &Root) -> (String, String) {
        let root = match &config.transport {
            Transport::Stdio(_) => root.as_str(),
            Transport::Http(_) => "",
        };
        (name.to_owned(), root.to_owned())
    }

    /// The server of this name for a workspace; one whose configuration changed is
    /// replaced, and what ran of it ended.
    pub fn server(&self, config: &Config, root: &Root, name: &str) -> Result<Arc<Server>, Failure> {
        let Some(wanted) = config.mcp.get(name) else {
            let known: Vec<&str> = config.mcp.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Failure::new(
                ErrorKind::NotFound,
                format!("there is no MCP server {name:?} (known: {known})"),
            ));
        };
        if !wanted.enabled {
            return Err(Failure::new(
                ErrorKind::Denied,
                format!("the MCP server {name} is switched off in config.toml"),
            ));
        }
        let key = Self::key(name, wanted, root);
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = servers.get(&key)
            && server.config == *wanted
        {
            return Ok(server.clone());
        }
        let running = servers.values().filter(|s| s.known().running).count();
        if running >= limits::RUNNING {
            return Err(Failure::new(
                ErrorKind::Limit,
                format!("{running} MCP servers run already"),
            ));
        }
        // Those that do not run hold nothing but what is on disk as well.
        servers.retain(|_, server| server.known().running || Arc::strong_count(server) > 1);
        let server = Arc::new(Server::new(name, wanted.clone(), self.cache.clone()));
        if let Some(old) = servers.insert(key, server.clone()) {
            tokio::spawn(async move { old.stop().await });
        }
        Ok(server)
    }

    /// What is known of a server, without starting it.
    pub fn known(&self, name: &str, config: &ServerConfig, root: Option<&Root>) -> Known {
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut of_name = servers.iter().filter(|((n, _), s)| n == name && s.config == *config);
        let found = match root {
            Some(root) => {
                let key = Self::key(name, config, root);
                of_name.find(|(k, _)| **k == key)
            }
            None => of_name.max_by_key(|(_, s)| s.known().running),
        };
        match found {
            Some((_, server)) => server.known(),
            None => Known {
                definitions: self.cache.load(name, &config.fingerprint()).map(Arc::new),
                ..Known::default()
            },
        }
    }

    /// Process ids of the helpers in front of running servers, with the servers' names.
    pub fn processes(&self) -> Vec<(String, u32)> {
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers
            .values()
            .map(|s| (s.name.clone(), s.known().pid))
            .filter(|(_, pid)| *pid > 0)
            .collect()
    }

    /// Carries out `use_mcp_tool` or `access_mcp_resource`. The call must have been
    /// approved. Dropping the future tells the server that nobody waits any more.
    pub async fn carry_out(
        &self,
        engine: &Engine,
        root: &Root,
        call: &ToolCall,
    ) -> Result<Answer, Failure> {
        let wrong = |e: lapce_ai_ipc::wire::WireError| Failure::new(e.kind, e.message);
        let config = engine.config.get().map_err(wrong)?;
        let server = self.server(&config, root, call.text("server_name").trim())?;
        let closed = engine.closed(root).map_err(wrong)?;
        let needs = Needs {
            tools: engine.tools().map_err(wrong)?,
            providers: &engine.providers,
            network: &config.network,
            root,
            closed: &closed,
        };
        if call.has("uri") {
            return server.read_resource(needs, call.text("uri").trim()).await;
        }
        let arguments = match call.params.get("arguments") {
            None | Some(serde_json::Value::Null) => None,
            Some(serde_json::Value::Object(map)) => Some(map.clone()),
            Some(_) => {
                return Err(Failure::new(ErrorKind::Invalid, "arguments must be a JSON object"));
            }
        };
        server.call_tool(needs, call.text("tool_name").trim(), arguments).await
    }

    /// What every server of the configuration offers a run in `root`. Servers whose
    /// definitions are kept are not started; the others are, all at once and not for long.
    /// The second list says what is missing.
    pub async fn offered(
        &self,
        engine: &Engine,
        config: &Config,
        root: &Root,
    ) -> (Vec<(String, Definitions)>, Vec<String>) {
        let Ok(tools) = engine.tools() else { return (Vec::new(), Vec::new()) };
        let closed = match engine.closed(root) {
            Ok(closed) => closed,
            Err(error) => return (Vec::new(), vec![error.message]),
        };
        let (providers, network) = (&*engine.providers, &config.network);
        let needs = Needs { tools, providers, network, root, closed: &closed };
        let names = config.mcp.iter().filter(|(_, server)| server.enabled).map(|(name, _)| name);
        let each = names.map(async |name| {
            let found = async {
                let server = self.server(config, root, name)?;
                let all = server.definitions(needs).await?;
                let mut offered = Definitions::clone(&all);
                offered.tools.retain(|tool| server.config.allows(&tool.name));
                Ok::<_, Failure>(offered)
            };
            let found =
                tokio::time::timeout(limits::FIRST_LOOK, found).await.unwrap_or_else(|_| {
                    let seconds = limits::FIRST_LOOK.as_secs();
                    let late = format!("the MCP server {name} did not start within {seconds} s");
                    Err(Failure::new(ErrorKind::Unavailable, late))
                });
            (name.clone(), found)
        });
        let (mut offered, mut missing) = (Vec::new(), Vec::new());
        for (name, found) in join_all(each).await {
            match found {
                Ok(definitions) => offered.push((name, definitions)),
                Err(failure) => missing.push(failure.message),
            }
        }
        (offered, missing)
    }

    /// Ends what runs of one server: it is reached anew with the next call.
    pub async fn restart(&self, name: &str) {
        let servers: Vec<Arc<Server>> = {
            let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            servers.values().filter(|server| server.name == name).cloned().collect()
        };
        join_all(servers.iter().map(|server| server.stop())).await;
    }

    /// Ends every server.
    pub async fn stop(&self) {
        let servers: Vec<Arc<Server>> = {
            let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            servers.drain().map(|(_, server)| server).collect()
        };
        join_all(servers.iter().map(|server| server.stop())).await;
    }
}
