//! One connection to a server: the program or the address behind it, from the handshake to
//! the end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lapce_ai_tools::closed::Closed;
use lapce_ai_tools::host::ToolHost;
use lapce_ai_tools::limits::Limits;
use lapce_ai_tools::server::{Access, Process, Serve, Served, serve};
use lapce_ai_tools::workspace::Workspace;
#[expect(
    deprecated,
    reason = "roots leave the protocol one day; servers of today ask for them"
)]
use rmcp::model::{
    ClientCapabilities, ClientConfig, CreateMessageRequestParams, CreateMessageResult, ErrorCode,
    ErrorData, Implementation, ListRootsResult, Root as McpRoot, RootsCapabilities,
};
use rmcp::service::{NotificationContext, RequestContext, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientHandler, Peer, RoleClient, ServiceExt as _};
use tokio::sync::Notify;

use super::config::{Http, Net, ServerConfig, Stdio, Transport, Value};
use super::limits;
use super::meter::{Metered, Reason};
use super::oauth::client::Authorised;
use super::oauth::guard::Guard;
use super::oauth::tokens::Tokens;
use crate::config::Network;
use crate::provider::Providers;
use crate::provider::keys::redact;
use crate::secret::Secret;
use crate::workspace::Root;

/// What a connection is made with.
#[derive(Clone, Copy)]
pub struct Needs<'a> {
    pub tools: &'a ToolHost,
    pub providers: &'a Providers,
    pub network: &'a Network,
    pub root: &'a Root,
    /// What the user's rules close, whatever the mode: a server outlives it.
    pub closed: &'a Closed,
}

/// A server that answers.
pub struct Session {
    service: RunningService<RoleClient, Ours>,
    process: tokio::sync::Mutex<Option<Process>>,
    pid: u32,
    reason: Reason,
    /// Told when the server says that a list changed.
    pub changed: Arc<Notify>,
    /// Values that must not come back in an answer.
    secrets: Vec<Secret>,
    tokens: Option<Arc<Tokens>>,
    pub layers: Vec<String>,
    pub absent: Vec<(String, String)>,
    /// What was closed when it began.
    pub closed: Closed,
}

/// Our side of the protocol: says who we are and where the workspace is, hears of changes,
/// grants nothing.
#[derive(Debug)]
pub struct Ours {
    changed: Arc<Notify>,
    /// The workspace, for a program that was let see it.
    root: Option<String>,
}

#[expect(deprecated, reason = "roots leave the protocol one day; servers of today ask for them")]
impl ClientHandler for Ours {
    fn get_info(&self) -> ClientConfig {
        let name = Implementation::new("lapce-ai", env!("CARGO_PKG_VERSION"));
        let mut offered = ClientCapabilities::default();
        offered.roots = self.root.is_some().then(RootsCapabilities::default);
        ClientConfig::new(offered, name)
    }

    async fn list_roots(
        &self,
        _: RequestContext<RoleClient>,
    ) -> Result<ListRootsResult, ErrorData> {
        let uri = self.root.as_deref().and_then(|root| reqwest::Url::from_file_path(root).ok());
        Ok(ListRootsResult::new(uri.into_iter().map(McpRoot::new).collect()))
    }

    async fn create_message(
        &self,
        _: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let why = "sampling is not offered: a server may not use the user's models";
        Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, why, None))
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }

    async fn on_resource_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }

    async fn on_prompt_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }
}

impl Session {
    /// Starts or reaches the server and shakes hands. The error is a sentence without
    /// secrets.
    pub async fn open(name: &str, config: &ServerConfig, needs: Needs<'_>) -> Result<Self, String> {
        match &config.transport {
            Transport::Stdio(stdio) => Self::start(name, stdio, config.start_timeout, needs).await,
            Transport::Http(http) => Self::reach(name, http, config.start_timeout, needs).await,
        }
    }

    async fn start(
        name: &str,
        stdio: &Stdio,
        patience: Duration,
        needs: Needs<'_>,
    ) -> Result<Self, String> {
        let mut secrets = Vec::new();
        let mut env = Vec::new();
        for (variable, value) in &stdio.env {
            let value = resolve(name, value, needs, &mut secrets).await?;
            env.push((variable.clone(), expand(&value, needs.root, stdio.workspace)));
        }
        let args: Vec<String> =
            stdio.args.iter().map(|arg| expand(arg, needs.root, stdio.workspace)).collect();
        let limits = Limits {
            memory_bytes: stdio.memory_mb << 20,
            processes: stdio.processes,
            ..Limits::SERVER
        };
        let wanted = Serve {
            command: &stdio.command,
            args: &args,
            env: &env,
            read: &stdio.read,
            write: &stdio.write,
            access: stdio.workspace,
            host_network: stdio.network == Net::Host,
            network: match &stdio.network {
                Net::Named(network) => network.clone(),
                Net::Off | Net::Host => lapce_ai_tools::sandbox::network::Network::default(),
            },
            limits,
        };
        let workspace = Workspace::new(needs.root.path()).map_err(|e| e.to_string())?;
        let workspace = workspace.closed(needs.closed.clone());
        let Served { stdin, stdout, mut process, layers, absent } =
            serve(needs.tools, &workspace, &wanted).await?;
        let reason = Reason::default();
        let changed = Arc::new(Notify::new());
        let transport = AsyncRwTransport::new_client(Metered::new(stdout, reason.clone()), stdin)
            .with_max_line_length(limits::MESSAGE_BYTES + 1);
        let root = (stdio.workspace != Access::None).then(|| needs.root.as_str().to_owned());
        let greeting = Ours { changed: changed.clone(), root }.serve(transport);
        let pid = process.pid();
        match tokio::time::timeout(patience, greeting).await {
            Ok(Ok(service)) => Ok(Self {
                service,
                process: tokio::sync::Mutex::new(Some(process)),
                pid,
                reason,
                changed,
                secrets,
                tokens: None,
                layers,
                absent,
                closed: needs.closed.clone(),
            }),
            // The pipes are closed with the transport, so it ends.
            Ok(Err(error)) => {
                let how = process.end().await;
                let why = match reason.get() {
                    why if !why.is_empty() => why,
                    _ => format!("{} ({how})", initialise_error(&error)),
                };
                Err(hide(&why, &secrets))
            }
            Err(_) => {
                let how = process.end().await;
                let said =
                    format!("it did not say what it is within {} s ({how})", patience.as_secs());
                Err(hide(&said, &secrets))
            }
        }
    }

    async fn reach(
        name: &str,
        http: &Http,
        patience: Duration,
        needs: Needs<'_>,
    ) -> Result<Self, String> {
        let mut secrets = Vec::new();
        let mut headers = HashMap::new();
        for (header, value) in &http.headers {
            let value = resolve(name, value, needs, &mut secrets).await?;
            let header = http::HeaderName::from_bytes(header.as_bytes())
                .map_err(|_| format!("{header:?} is no name of a header"))?;
            let mut value = http::HeaderValue::from_str(&value)
                .map_err(|_| format!("the value of the header {header} cannot be sent"))?;
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        let client = needs
            .providers
            .http_client(name, &http.url, needs.network)
            .map_err(|e| e.message.clone())?;
        let config = StreamableHttpClientTransportConfig::with_uri(http.url.as_str())
            .custom_headers(headers)
            .max_sse_event_size(limits::MESSAGE_BYTES)
            .max_json_response_size(limits::MESSAGE_BYTES)
            .max_error_response_size(1024)
            .max_concurrent_requests(limits::CALLS);
        let changed = Arc::new(Notify::new());
        // Where files lie on this machine is nobody's business elsewhere.
        let ours = Ours { changed: changed.clone(), root: None };
        let tokens = match &http.oauth {
            None => None,
            Some(oauth) => {
                let url = reqwest::Url::parse(&http.url).map_err(|e| e.to_string())?;
                let guard = Guard::new(name, &url, oauth, needs.network);
                let keys = needs.providers.keyring();
                Some(Arc::new(Tokens::load(name, &http.url, guard, keys).await?))
            }
        };
        let greeting = async {
            match tokens.clone() {
                None => {
                    let transport = StreamableHttpClientTransport::with_client(client, config);
                    ours.serve(transport).await
                }
                Some(tokens) => {
                    let client = Authorised { client, tokens };
                    let transport = StreamableHttpClientTransport::with_client(client, config);
                    ours.serve(transport).await
                }
            }
        };
        let service = match tokio::time::timeout(patience, greeting).await {
            Ok(Ok(service)) => service,
            Ok(Err(error)) => {
                secrets.extend(tokens.iter().flat_map(|tokens| tokens.seen()));
                let mut why = initialise_error(&error);
                if error.is_authorization_required() {
                    why = wants_login(name, tokens.is_some());
                }
                return Err(hide(&why, &secrets));
            }
            Err(_) => return Err(format!("it did not answer within {} s", patience.as_secs())),
        };
        Ok(Self {
            service,
            process: tokio::sync::Mutex::new(None),
            pid: 0,
            reason: Reason::default(),
            changed,
            secrets,
            tokens,
            layers: Vec::new(),
            absent: Vec::new(),
            closed: needs.closed.clone(),
        })
    }

    /// `text` without what is secret in this connection.
    pub fn redact(&self, text: String) -> String {
        let text = redact(text, &self.secrets);
        match &self.tokens {
            Some(tokens) => redact(text, &tokens.seen()),
            None => text,
        }
    }

    pub fn peer(&self) -> &Peer<RoleClient> {
        self.service.peer()
    }

    /// Of the process that stands before the server; 0 for one that is reached over HTTP.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn is_closed(&self) -> bool {
        self.service.is_closed() || self.peer().is_transport_closed()
    }

    /// Ends the connection and what was started for it, and says how it ended.
    pub async fn end(&self) -> String {
        self.service.cancellation_token().cancel();
        let process = self.process.lock().await.take();
        let how = match process {
            Some(mut process) => process.end().await,
            None => "the connection was closed".to_owned(),
        };
        let why = self.reason.get();
        self.redact(super::text::clean(if why.is_empty() { &how } else { &why }))
    }
}

/// The value itself. One that comes from a secret place is remembered among `secrets`.
async fn resolve(
    name: &str,
    value: &Value,
    needs: Needs<'_>,
    secrets: &mut Vec<Secret>,
) -> Result<String, String> {
    match value {
        Value::Plain(text) => Ok(text.clone()),
        Value::Secret { source, prefix } => {
            let found = needs.providers.key(name, source).await;
            let secret = found.map_err(|e| format!("{}; {}", e.message, e.hint))?;
            let text = format!("{prefix}{}", secret.expose());
            secrets.push(secret);
            Ok(text)
        }
    }
}

fn expand(text: &str, root: &Root, access: Access) -> String {
    if access == Access::None {
        text.to_owned()
    } else {
        text.replace("${workspace}", root.as_str())
    }
}

fn hide(text: &str, secrets: &[Secret]) -> String {
    redact(super::text::clean(text), secrets)
}

/// The server wants a key or a token, or did not take the one it got.
fn wants_login(name: &str, oauth: bool) -> String {
    if oauth {
        format!("it does not take the token of the last login; log in: lapce-ai mcp login {name}")
    } else {
        format!(
            "it wants a key or a login: name a key under `headers`, or set `oauth = true` and run lapce-ai mcp login {name}"
        )
    }
}

/// What went wrong with the handshake, without the debug form of whole messages.
fn initialise_error(error: &rmcp::service::ClientInitializeError) -> String {
    use rmcp::service::ClientInitializeError as E;
    let text = match error {
        E::ConnectionClosed(_) => "it closed the connection before it said what it is".to_owned(),
        E::ExpectedInitResponse(_) | E::ExpectedInitResult(_) => {
            "what it answered is no MCP".to_owned()
        }
        E::JsonRpcError(error) => format!("it refused the connection: {}", error.message),
        E::TransportError { error, .. } => transport_error(error.error.as_ref()),
        other => other.to_string(),
    };
    lapce_ai_tools::call::one_line(&text, 300)
}

/// The innermost cause: the outer ones only say that a request was sent, and name the whole
/// address.
pub(super) fn transport_error(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    format!("it cannot be reached: {inner}")
}
