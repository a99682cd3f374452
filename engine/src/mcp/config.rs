//! `[mcp.servers.NAME]` of the user's `config.toml`. Nothing else can define a server.
//!
//! Read by `config.rs`. Values of variables and headers are literal or name a place, as
//! keys of providers do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use globset::{Glob, GlobSet, GlobSetBuilder};
use lapce_ai_tools::sandbox::network::Network;
use lapce_ai_tools::server::Access;
use serde::Deserialize;

use super::limits;
use super::oauth::config::{OAuth, RawOAuth};
pub use super::value::Value;
use crate::config::{KeySource, is_loopback};

/// One server, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerConfig {
    pub transport: Transport,
    pub enabled: bool,
    /// Globs on the names of tools; an empty `allow` means all.
    pub allow: Vec<String>,
    pub deny: Vec<String>,
    pub calls_per_minute: u32,
    pub timeout: Duration,
    pub start_timeout: Duration,
    pub output_bytes: usize,
    pub tools: BTreeMap<String, ToolConfig>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Transport {
    Stdio(Stdio),
    Http(Http),
}

/// A program of this machine, started in the sandbox.
#[derive(Debug, Clone, PartialEq)]
pub struct Stdio {
    pub command: String,
    /// `${workspace}` stands for the workspace's folder.
    pub args: Vec<String>,
    pub env: BTreeMap<String, Value>,
    pub read: Vec<PathBuf>,
    pub write: Vec<PathBuf>,
    pub workspace: Access,
    pub network: Net,
    pub memory_mb: u64,
    pub processes: u32,
}

/// What a program may reach.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Net {
    #[default]
    Off,
    /// Hosts and ports of this machine, through a proxy of ours.
    Named(Network),
    /// The host's network as it is.
    Host,
}

/// A server that is reached over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    pub url: String,
    pub headers: BTreeMap<String, Value>,
    /// How to log in, where the server wants that.
    pub oauth: Option<OAuth>,
}

/// What is set for one tool alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ToolConfig {
    pub calls_per_minute: Option<u32>,
    pub timeout_s: Option<u64>,
}

impl ServerConfig {
    /// Whether the lists let a tool through.
    pub fn allows(&self, tool: &str) -> bool {
        let hit = |list: &[String]| globs(list).is_ok_and(|set| set.is_match(tool));
        (self.allow.is_empty() || hit(&self.allow)) && !hit(&self.deny)
    }

    pub fn tool_timeout(&self, tool: &str) -> Duration {
        match self.tools.get(tool).and_then(|t| t.timeout_s) {
            Some(seconds) => timeout(seconds),
            None => self.timeout,
        }
    }

    /// What it starts or asks, without any value of a secret.
    pub fn shown(&self) -> String {
        match &self.transport {
            Transport::Stdio(stdio) => {
                let words = std::iter::once(&stdio.command).chain(&stdio.args);
                words.map(String::as_str).collect::<Vec<_>>().join(" ")
            }
            Transport::Http(http) => http.url.clone(),
        }
    }

    /// What may leave the machine, in a sentence.
    pub fn network(&self) -> String {
        match &self.transport {
            Transport::Http(http) if is_loopback(&http.url) => {
                "asked over http on this machine".to_owned()
            }
            Transport::Http(_) => "asked over the network".to_owned(),
            Transport::Stdio(stdio) => match &stdio.network {
                Net::Off => "no network".to_owned(),
                Net::Named(network) => format!("reaches {network}"),
                Net::Host => {
                    "shares the host's network: it can reach every address, this machine's included"
                        .to_owned()
                }
            },
        }
    }

    /// The places of secrets, for taking their values out of texts.
    pub fn secrets(&self) -> impl Iterator<Item = &KeySource> {
        let values = match &self.transport {
            Transport::Stdio(stdio) => &stdio.env,
            Transport::Http(http) => &http.headers,
        };
        values.values().filter_map(|value| match value {
            Value::Plain(_) => None,
            Value::Secret { source, .. } => Some(source),
        })
    }

    /// Tells whether kept definitions are those of this configuration.
    pub fn fingerprint(&self) -> String {
        blake3::hash(format!("{:?}", self.transport).as_bytes()).to_hex()[..32].to_owned()
    }
}

fn timeout(seconds: u64) -> Duration {
    Duration::from_secs(seconds.max(1)).min(limits::CALL_TIMEOUT_MAX)
}

fn globs(list: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in list {
        set.add(Glob::new(pattern)?);
    }
    set.build()
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "network is true, false, or a list of hosts")]
enum RawNet {
    Flag(bool),
    Named(Vec<String>),
}

impl Default for RawNet {
    fn default() -> Self {
        Self::Flag(false)
    }
}

impl RawNet {
    fn check(self) -> Result<Net, String> {
        match self {
            Self::Flag(false) => Ok(Net::Off),
            Self::Flag(true) => Ok(Net::Host),
            Self::Named(list) => Network::parse(list).map(Net::Named),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawMcp {
    pub servers: BTreeMap<String, RawServer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawServer {
    command: Option<toml::Spanned<String>>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, Value>,
    #[serde(default)]
    read: Vec<PathBuf>,
    #[serde(default)]
    write: Vec<PathBuf>,
    #[serde(default)]
    workspace: Access,
    #[serde(default)]
    network: RawNet,
    memory_mb: Option<u64>,
    processes: Option<u32>,
    url: Option<toml::Spanned<String>>,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    #[serde(default)]
    oauth: RawOAuth,
    #[serde(default)]
    plain_http: bool,
    #[serde(default = "yes")]
    enabled: bool,
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    deny: Vec<String>,
    calls_per_minute: Option<u32>,
    timeout_s: Option<u64>,
    start_timeout_s: Option<u64>,
    output_bytes: Option<usize>,
    #[serde(default)]
    tools: BTreeMap<String, ToolConfig>,
}

fn yes() -> bool {
    true
}

/// Whether `name` can be a server's: short, and harmless in a path, a prompt and a rule.
pub fn is_name(name: &str) -> bool {
    (1..=limits::SERVER_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

impl RawServer {
    /// Where an error about the server is shown.
    fn at(&self) -> usize {
        let spans = [self.command.as_ref(), self.url.as_ref()];
        spans.into_iter().flatten().map(|s| s.span().start).next().unwrap_or(0)
    }

    /// Checks the section; an error is an offset in the file and a sentence.
    pub fn check(self, name: &str, home: Option<&Path>) -> Result<ServerConfig, (usize, String)> {
        let at = self.at();
        self.build(name, home).map_err(|problem| (at, format!("mcp.servers.{name}: {problem}")))
    }

    fn build(self, name: &str, home: Option<&Path>) -> Result<ServerConfig, String> {
        if !is_name(name) {
            return Err(format!(
                "a server's name is 1 to {} letters, digits, '-' and '_'",
                limits::SERVER_NAME
            ));
        }
        for pattern in self.allow.iter().chain(&self.deny) {
            Glob::new(pattern).map_err(|e| format!("{pattern:?} is no pattern: {}", e.kind()))?;
        }
        let per_minute = self.tools.values().map(|t| t.calls_per_minute);
        if per_minute.chain([self.calls_per_minute]).any(|n| n == Some(0)) {
            return Err("calls_per_minute is at least 1; enabled = false switches off".to_owned());
        }
        let transport = match (self.command, self.url) {
            (Some(command), None) => {
                if !self.headers.is_empty()
                    || self.plain_http
                    || !matches!(self.oauth, RawOAuth::Flag(false))
                {
                    let these = "headers, oauth and plain_http";
                    return Err(format!("{these} belong to a server with a url"));
                }
                let folders = |list: Vec<PathBuf>| -> Result<Vec<PathBuf>, String> {
                    list.into_iter().map(|path| folder(path, home)).collect()
                };
                if let Some(bad) = self.env.keys().find(|n| !is_variable(n)) {
                    return Err(format!("{bad:?} is no name of a variable"));
                }
                let command = command.into_inner();
                let command = match command.strip_prefix("~/") {
                    Some(rest) => folder(Path::new("~").join(rest), home)?.display().to_string(),
                    None => command,
                };
                if command.trim().is_empty() || (command.contains('/') && !command.starts_with('/'))
                {
                    return Err("command is a program's name or its absolute path".to_owned());
                }
                Transport::Stdio(Stdio {
                    command,
                    args: self.args,
                    env: self.env,
                    read: folders(self.read)?,
                    write: folders(self.write)?,
                    workspace: self.workspace,
                    network: self.network.check()?,
                    memory_mb: self.memory_mb.unwrap_or(limits::MEMORY_MB).clamp(64, 65_536),
                    processes: self.processes.unwrap_or(limits::PROCESSES).clamp(1, 4_096),
                })
            }
            (None, Some(url)) => {
                let stdio_only = !self.args.is_empty()
                    || !self.env.is_empty()
                    || !self.read.is_empty()
                    || !self.write.is_empty()
                    || !matches!(self.network, RawNet::Flag(false));
                if stdio_only {
                    return Err(
                        "args, env, read, write and network belong to a server with a command"
                            .to_owned(),
                    );
                }
                Transport::Http(http(url.into_inner(), self.headers, self.oauth, self.plain_http)?)
            }
            _ => return Err("name either a command or a url".to_owned()),
        };
        Ok(ServerConfig {
            transport,
            enabled: self.enabled,
            allow: self.allow,
            deny: self.deny,
            calls_per_minute: self.calls_per_minute.unwrap_or(limits::CALLS_PER_MINUTE),
            timeout: self.timeout_s.map_or(limits::CALL_TIMEOUT, timeout),
            start_timeout: self.start_timeout_s.map_or(limits::START_TIMEOUT, timeout),
            output_bytes: self
                .output_bytes
                .unwrap_or(limits::OUTPUT_BYTES)
                .clamp(1024, limits::OUTPUT_BYTES_MAX),
            tools: self.tools,
        })
    }
}

fn http(
    url: String,
    headers: BTreeMap<String, Value>,
    oauth: RawOAuth,
    plain: bool,
) -> Result<Http, String> {
    let parsed = reqwest::Url::parse(&url).map_err(|e| format!("url is not an address: {e}"))?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err("url must begin with http:// or https:// and name a host".to_owned());
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err("url must not hold a user name or password; use headers".to_owned());
    }
    if parsed.scheme() == "http" && !plain && !is_loopback(&url) {
        return Err("it would be asked unencrypted; use https, or set plain_http = true".to_owned());
    }
    for name in headers.keys() {
        http::HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("{name:?} is no name of a header"))?;
    }
    let oauth = oauth.check(&parsed)?;
    if oauth.is_some() && headers.keys().any(|name| name.eq_ignore_ascii_case("authorization")) {
        return Err("oauth fills in Authorization; take it out of headers".to_owned());
    }
    Ok(Http { url, headers, oauth })
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        // These decide which code runs in any program.
        && !name.starts_with("LD_")
        && name != "PATH"
        && name != "HOME"
}

fn folder(path: PathBuf, home: Option<&Path>) -> Result<PathBuf, String> {
    let path = match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    };
    let whole = path.parent().is_none() || home.is_some_and(|home| home.starts_with(&path));
    if !path.is_absolute() || whole {
        return Err(format!(
            "{} is not an absolute folder below, or beside, the home folder",
            path.display()
        ));
    }
    Ok(path)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
