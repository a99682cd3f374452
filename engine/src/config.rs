//! The user's `config.toml`: models, providers, limits. Read on first use, re-read when
//! the file changes; never read from a workspace.
//!
//! Used by `provider/` (which model, where, with which key), the agent loop (limits) and
//! `status`. The file holds no secrets: a key is named (`{ env = … }`, `{ keyring = … }`)
//! and fetched by `provider::keys` when a request needs it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, fs, io};

use lapce_ai_ipc::wire::{ErrorKind, WireError};
use serde::Deserialize;
use serde::de::{self, MapAccess, Visitor};

use crate::mcp::config::{RawMcp, ServerConfig};
use crate::mcp::limits as mcp_limits;

/// Largest `config.toml` that is read.
const FILE_BYTES: u64 = 256 * 1024;

/// What `config.toml` says, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `provider/model` for `ask` and `run`, or empty.
    pub chat: String,
    /// `provider/model` for ghost text, or empty.
    pub complete: String,
    /// `provider/model` for `generate_image`, or empty.
    pub image: String,
    /// Look for a model server on this machine when `chat` is empty.
    pub detect_local: bool,
    pub providers: BTreeMap<String, ProviderConfig>,
    pub network: Network,
    pub limits: Limits,
    pub sandbox: Sandbox,
    pub index: Index,
    /// MCP servers by name.
    pub mcp: BTreeMap<String, ServerConfig>,
    /// The user's own modes, by slug.
    pub modes: BTreeMap<String, ModeConfig>,
}

/// A class of tools that a mode may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolClass {
    Read,
    Write,
    Execute,
    Mcp,
}

/// A role of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModeConfig {
    /// One line: what it is for.
    pub summary: String,
    /// Added to the system prompt.
    pub prompt: String,
    pub allow: Vec<ToolClass>,
    /// Glob of the files that writing tools may change; empty for all.
    #[serde(default)]
    pub files: String,
}

/// Longest prompt of a mode, and most modes.
const MODE_PROMPT_BYTES: usize = 16 * 1024;
const MODES: usize = 40;

impl Default for Config {
    fn default() -> Self {
        Self {
            chat: String::new(),
            complete: String::new(),
            image: String::new(),
            detect_local: true,
            providers: BTreeMap::new(),
            network: Network::default(),
            limits: Limits::default(),
            sandbox: Sandbox::default(),
            index: Index::default(),
            mcp: BTreeMap::new(),
            modes: BTreeMap::new(),
        }
    }
}

/// The wire format a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `OpenAI` chat: `OpenAI`, Groq, `DeepSeek`, `OpenRouter`, Azure, LM Studio, vLLM, …
    OpenAi,
    /// `OpenAI` Responses: `OpenAI`, xAI.
    Responses,
    Anthropic,
    Gemini,
    /// Ollama's own API.
    Ollama,
    /// llama.cpp's server: OpenAI chat and its own `/infill`.
    LlamaCpp,
    /// Mistral: OpenAI chat and its own fill-in-the-middle.
    Mistral,
}

impl Kind {
    pub fn default_base_url(self) -> &'static str {
        match self {
            Self::OpenAi | Self::Responses => "https://api.openai.com/v1",
            Self::Anthropic => "https://api.anthropic.com/v1",
            Self::Gemini => "https://generativelanguage.googleapis.com/v1beta",
            Self::Ollama => "http://127.0.0.1:11434",
            Self::LlamaCpp => "http://127.0.0.1:8080/v1",
            Self::Mistral => "https://api.mistral.ai/v1",
        }
    }
}

/// Where a key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// An environment variable of the engine.
    Env(String),
    /// An entry of the desktop's keyring.
    Keyring(String),
}

impl KeySource {
    /// The place `env` or `keyring` of this name; `None` when that cannot be one.
    pub(crate) fn named(kind: &str, name: String) -> Option<Self> {
        let plain = !name.is_empty()
            && name.len() <= 128
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-. /@".contains(&b));
        match kind {
            "env" if plain => Some(Self::Env(name)),
            "keyring" if plain => Some(Self::Keyring(name)),
            _ => None,
        }
    }
}

/// How a key is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// What the kind usually takes.
    #[default]
    Auto,
    Bearer,
    /// Azure's header.
    ApiKey,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ProviderConfig {
    pub kind: Kind,
    /// Without a slash at the end.
    pub base_url: String,
    pub key: Option<KeySource>,
    pub auth: Auth,
    pub models: BTreeMap<String, ModelConfig>,
}

/// How a model is given tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolForm {
    /// Function calls of the provider.
    Native,
    /// XML in the text, for models without function calls.
    Xml,
}

/// How ghost text is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fim {
    /// llama.cpp `/infill`.
    Infill,
    /// `/v1/completions` with `suffix`.
    Suffix,
    /// Mistral `/v1/fim/completions`.
    Mistral,
    /// Ollama `/api/generate` with `suffix`.
    Ollama,
    /// `/v1/completions`, prompt written with the family's own marks.
    Qwen,
    Starcoder,
    Codellama,
    Deepseek,
    Codestral,
    Codegemma,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Size of the context window in tokens.
    pub context: Option<u32>,
    /// Longest answer in tokens.
    pub max_output: Option<u32>,
    pub tools: Option<ToolForm>,
    pub fim: Option<Fim>,
    pub temperature: Option<f32>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// More certificates to trust, PEM.
    pub ca_file: Option<PathBuf>,
    /// `http://host:port` for all providers, or `none`; absent: the usual environment variables.
    pub proxy: Option<String>,
    pub connect_timeout_s: Option<u64>,
    pub first_byte_timeout_s: Option<u64>,
    pub idle_timeout_s: Option<u64>,
}

impl Network {
    pub fn seconds(value: Option<u64>, default: Duration) -> Duration {
        value.map_or(default, |s| Duration::from_secs(s.clamp(1, 3600)))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most tokens, in and out, that one run may use.
    pub run_tokens: u64,
    /// Most model turns of a run, when the request does not say.
    pub run_turns: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { run_tokens: 500_000, run_turns: 25 }
    }
}

/// What the user changes about the fence around tools.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sandbox {
    /// Secrets that git ignores and commands may see, as lines of a `.gitignore`.
    pub show: Vec<String>,
    /// The browser to start, when it is not on PATH under a usual name.
    pub browser: Option<PathBuf>,
    /// Files and folders that commands may read beside the workspace; absolute, or `~/…`.
    pub read: Vec<String>,
    /// Variables of the engine's environment that commands get.
    pub env: Vec<String>,
}

impl Sandbox {
    /// What `read` means for a user with this home folder. An entry that is neither absolute
    /// nor below the home folder is an error that names it.
    pub fn readable(&self, home: Option<&Path>) -> Result<Vec<PathBuf>, String> {
        let path = |entry: &String| match (entry.strip_prefix("~/"), home) {
            (Some(rest), Some(home)) => Ok(home.join(rest)),
            _ if Path::new(entry).is_absolute() => Ok(PathBuf::from(entry)),
            _ => Err(format!("sandbox.read: {entry:?} is not absolute and does not begin with ~/")),
        };
        self.read.iter().map(path).collect()
    }
}

/// How indexes are made, and their bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Index {
    /// Most that all indexes together take on disk, MB.
    pub disk_mb: u64,
    /// The shared index that a workspace's own lies on: its folder, and `s3://…` or `file://…`.
    pub shared: BTreeMap<PathBuf, String>,
    /// `provider/model` that makes the vectors, or empty: the built-in table, offline.
    pub embedder: String,
    /// 0: as fast as the provider answers.
    pub requests_per_minute: u32,
    pub price_per_million_tokens: Option<f64>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            disk_mb: crate::limits::INDEX_DISK_MB,
            shared: BTreeMap::new(),
            embedder: String::new(),
            requests_per_minute: 0,
            price_per_million_tokens: None,
        }
    }
}

/// Every key, for the generated reference; a test keeps it complete.
pub const REFERENCE: &[(&str, &str, &str)] = &[
    ("models.chat", "\"\"", "`provider/model` for `ask` and `run`"),
    ("models.complete", "\"\"", "`provider/model` for ghost text"),
    (
        "models.image",
        "\"\"",
        "`provider/model` for `generate_image`: a provider with an OpenAI-compatible `/images/generations`",
    ),
    (
        "models.detect_local",
        "true",
        "when `chat` is empty, look for llama-server (8080), Ollama (11434) and LM Studio (1234) on this machine",
    ),
    (
        "providers.NAME.kind",
        "required",
        "wire format: `openai`, `responses`, `anthropic`, `gemini`, `ollama`, `llamacpp`, `mistral`",
    ),
    (
        "providers.NAME.base_url",
        "the kind's own",
        "address up to and with the version, as in `https://api.openai.com/v1`",
    ),
    (
        "providers.NAME.key",
        "no key",
        "`{ env = \"NAME\" }` (a variable of the engine's environment) or `{ keyring = \"NAME\" }` (the desktop's keyring, through `secret-tool`)",
    ),
    ("providers.NAME.auth", "\"auto\"", "how the key is sent: `auto`, `bearer`, `api-key` (Azure)"),
    ("providers.NAME.plain_http", "false", "send the key over http to another machine"),
    ("providers.NAME.models.MODEL.context", "by name", "context window in tokens"),
    ("providers.NAME.models.MODEL.max_output", "4096", "longest answer in tokens"),
    ("providers.NAME.models.MODEL.tools", "by kind", "`native` (function calls) or `xml`"),
    (
        "providers.NAME.models.MODEL.fim",
        "by kind",
        "ghost text: `infill`, `suffix`, `mistral`, `ollama`, or marks of a family: `qwen`, `starcoder`, `codellama`, `deepseek`, `codestral`, `codegemma`",
    ),
    ("providers.NAME.models.MODEL.temperature", "the provider's", "sampling temperature"),
    ("network.ca_file", "none", "PEM file with more certificates to trust"),
    ("network.proxy", "environment", "`http://host:port` for all providers, or `none`"),
    ("network.connect_timeout_s", "10", "seconds for TCP and TLS"),
    ("network.first_byte_timeout_s", "120 (local 600)", "seconds until an answer begins"),
    ("network.idle_timeout_s", "60 (local 300)", "seconds of silence within an answer"),
    ("limits.run_tokens", "500000", "most tokens, in and out, of one agent run"),
    ("limits.run_turns", "25", "most model turns of one agent run"),
    (
        "sandbox.show",
        "[]",
        "files that git ignores and that look like secrets (`.env`, `*.pem`, …) which commands may see all the same; lines as in a `.gitignore`",
    ),
    (
        "sandbox.read",
        "[]",
        "files and folders that commands may read beside the workspace, such as `~/.aws`; what a command reads, a model may see",
    ),
    (
        "sandbox.env",
        "[]",
        "names of variables of the engine's environment that commands get, such as `AWS_PROFILE`; never a key that you would not show a model",
    ),
    ("sandbox.browser", "by name on PATH", "the Chromium that `browser_action` starts"),
    ("index.disk_mb", "20000", "most that all indexes together take on disk, in MB"),
    (
        "index.shared.FOLDER",
        "none",
        "the team's index of the workspace FOLDER: `s3://bucket/prefix` or `file:///folder`; see docs/team-index.md",
    ),
    (
        "mcp.servers.NAME.command",
        "this or `url`",
        "an MCP server to start in the sandbox: a program's name or absolute path",
    ),
    (
        "mcp.servers.NAME.args",
        "none",
        "its arguments; `${workspace}` stands for the workspace's folder",
    ),
    (
        "mcp.servers.NAME.env",
        "none",
        "its variables: `\"text\"`, `{ env = \"NAME\" }` or `{ keyring = \"NAME\" }`, the last two with `prefix = \"text\"` if need be",
    ),
    ("mcp.servers.NAME.read", "none", "more folders it may read, and run programs from"),
    ("mcp.servers.NAME.write", "none", "more folders it may write"),
    (
        "mcp.servers.NAME.workspace",
        "\"read\"",
        "the workspace for it: `none`, `read`, or `write` (below what is there when it starts; protected paths never)",
    ),
    (
        "mcp.servers.NAME.network",
        "false",
        "hosts it may reach, as in `[\"api.github.com\", \"localhost:5432\"]`, through a proxy that its program must use; `true` gives it the host's network, every address and port",
    ),
    ("mcp.servers.NAME.memory_mb", "2048", "memory of the server and all it starts"),
    ("mcp.servers.NAME.processes", "128", "processes of the server"),
    (
        "mcp.servers.NAME.url",
        "this or `command`",
        "address of a server that speaks streamable HTTP",
    ),
    ("mcp.servers.NAME.headers", "none", "headers of each request, values as for `env`"),
    ("mcp.servers.NAME.plain_http", "false", "ask another machine over http"),
    ("mcp.servers.NAME.enabled", "true", "`false` switches the server off"),
    ("mcp.servers.NAME.allow", "all", "patterns of tools that may be called, as in `[\"git_*\"]`"),
    ("mcp.servers.NAME.deny", "none", "patterns of tools that may not; stronger than `allow`"),
    ("mcp.servers.NAME.calls_per_minute", "120", "calls of all its tools in a minute"),
    ("mcp.servers.NAME.timeout_s", "60", "seconds one call may take"),
    (
        "mcp.servers.NAME.start_timeout_s",
        "30",
        "seconds until the server must have said what it is",
    ),
    ("mcp.servers.NAME.output_bytes", "102400", "text of one result that a model is given"),
    (
        "mcp.servers.NAME.tools.TOOL.calls_per_minute",
        "the server's",
        "calls of one tool in a minute",
    ),
    (
        "mcp.servers.NAME.tools.TOOL.timeout_s",
        "the server's",
        "seconds one call of this tool may take",
    ),
    (
        "index.embedder",
        "\"\"",
        "`provider/model` that makes the index's vectors, through `/embeddings` or Ollama's `/api/embed`; all indexed text is sent to it. Empty: the built-in table, offline",
    ),
    (
        "index.requests_per_minute",
        "0",
        "most requests to the embedder; 0: no limit but the provider's",
    ),
    ("index.price_per_million_tokens", "none", "shown as an estimate before a first index"),
    (
        "modes.NAME.summary",
        "required",
        "a mode of your own: one line on what it is for. `code`, `architect`, `ask` and `debug` are built in; the same name replaces one",
    ),
    ("modes.NAME.prompt", "required", "what the mode adds to the system prompt"),
    ("modes.NAME.allow", "required", "classes of tools: any of `read`, `write`, `execute`, `mcp`"),
    ("modes.NAME.files", "all", "glob of the files that writing tools may change in this mode"),
];

/// The reference as Markdown.
pub fn reference_markdown() -> String {
    let mut out = String::from(
        "# config.toml\n\nThe user's own file (`$XDG_CONFIG_HOME/lapce-ai/config.toml`); a repository cannot set any of this.\n\n\
         ```toml\n[models]\nchat = \"local/smollm2\"\n\n[providers.local]\nkind = \"llamacpp\"\nbase_url = \"http://127.0.0.1:8080/v1\"\n```\n\n\
         | key | default | meaning |\n|---|---|---|\n",
    );
    for (key, default, meaning) in REFERENCE {
        let _ = writeln!(out, "| `{key}` | {default} | {meaning} |");
    }
    out
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    models: RawModels,
    #[serde(default)]
    providers: BTreeMap<String, RawProvider>,
    #[serde(default)]
    network: Network,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    sandbox: Sandbox,
    #[serde(default)]
    mcp: RawMcp,
    #[serde(default)]
    index: RawIndex,
    #[serde(default)]
    modes: BTreeMap<toml::Spanned<String>, ModeConfig>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawIndex {
    disk_mb: Option<u64>,
    shared: BTreeMap<PathBuf, String>,
    embedder: Option<toml::Spanned<String>>,
    requests_per_minute: u32,
    price_per_million_tokens: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawModels {
    chat: Option<toml::Spanned<String>>,
    complete: Option<toml::Spanned<String>>,
    image: Option<toml::Spanned<String>>,
    detect_local: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProvider {
    kind: Kind,
    base_url: Option<toml::Spanned<String>>,
    key: Option<toml::Spanned<KeySource>>,
    #[serde(default)]
    auth: Auth,
    #[serde(default)]
    plain_http: bool,
    #[serde(default)]
    models: BTreeMap<String, ModelConfig>,
}

/// Written by hand: the derived one would print what stands there, and that may be a key.
impl<'de> Deserialize<'de> for KeySource {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const FORM: &str = "a key is never written into this file; name its place: { env = \"VARIABLE\" } or { keyring = \"NAME\" }";
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = KeySource;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("{ env = \"VARIABLE\" } or { keyring = \"NAME\" }")
            }
            fn visit_str<E: de::Error>(self, _: &str) -> Result<KeySource, E> {
                Err(E::custom(FORM))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<KeySource, A::Error> {
                let mut source = None;
                while let Some(name) = map.next_key::<String>()? {
                    let value: String = map.next_value()?;
                    let found = KeySource::named(&name, value);
                    if source.is_some() || found.is_none() {
                        return Err(de::Error::custom(FORM));
                    }
                    source = found;
                }
                source.ok_or_else(|| de::Error::custom(FORM))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

/// What is wrong with the file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct Problem {
    pub line: usize,
    pub column: usize,
    pub message: String,
}

impl Config {
    /// Reads the text of a `config.toml`. Unknown keys are errors: a misspelt limit must
    /// not be silently without effect.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let at = |offset: usize, message: String| {
            let before = &text[..text.floor_char_boundary(offset)];
            let line_start = before.rfind('\n').map_or(0, |n| n + 1);
            Problem {
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
                message,
            }
        };
        let raw: Raw = toml::from_str(text)
            .map_err(|e| at(e.span().map_or(0, |s| s.start), e.message().trim().to_owned()))?;
        let mut providers = BTreeMap::new();
        for (name, p) in raw.providers {
            let url_at = p.base_url.as_ref().map_or(0, |u| u.span().start);
            let given = p
                .base_url
                .map_or_else(|| p.kind.default_base_url().to_owned(), toml::Spanned::into_inner);
            let key_at = p.key.as_ref().map(|k| k.span().start);
            let base_url = base_url(&given).map_err(|m| at(url_at, m))?;
            if let Some(key_at) = key_at
                && !p.plain_http
                && base_url.starts_with("http://")
                && !is_loopback(&base_url)
            {
                return Err(at(
                    key_at,
                    format!(
                        "the key of {name} would travel unencrypted; use https, or set plain_http = true"
                    ),
                ));
            }
            let config = ProviderConfig {
                kind: p.kind,
                base_url,
                key: p.key.map(toml::Spanned::into_inner),
                auth: p.auth,
                models: p.models,
            };
            if name.is_empty() || name.contains('/') {
                return Err(at(
                    url_at,
                    format!("the provider name {name:?} must not be empty or hold a slash"),
                ));
            }
            providers.insert(name, config);
        }
        let model = |given: Option<toml::Spanned<String>>| -> Result<String, Problem> {
            let Some(given) = given else { return Ok(String::new()) };
            let start = given.span().start;
            let given = given.into_inner();
            if given.is_empty() {
                return Ok(given);
            }
            match given.split_once('/') {
                Some((provider, model))
                    if !model.is_empty() && providers.contains_key(provider) =>
                {
                    Ok(given)
                }
                Some((provider, model)) if !model.is_empty() => {
                    let known: Vec<_> = providers.keys().map(String::as_str).collect();
                    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                    Err(at(start, format!("there is no [providers.{provider}] (known: {known})")))
                }
                _ => Err(at(start, format!("{given:?} is not of the form provider/model"))),
            }
        };
        let home = std::env::var_os("HOME").map(PathBuf::from).filter(|h| h.is_absolute());
        let mut mcp = BTreeMap::new();
        for (name, server) in raw.mcp.servers {
            if mcp.len() >= mcp_limits::SERVERS {
                return Err(at(
                    0,
                    format!("there are more than {} MCP servers", mcp_limits::SERVERS),
                ));
            }
            let server = server.check(&name, home.as_deref()).map_err(|(n, m)| at(n, m))?;
            mcp.insert(name, server);
        }
        let (chat, complete) = (model(raw.models.chat)?, model(raw.models.complete)?);
        let image = model(raw.models.image)?;
        let embedder_at = raw.index.embedder.as_ref().map_or(0, |e| e.span().start);
        let embedder = model(raw.index.embedder)?;
        if let Some((provider, _)) = embedder.split_once('/')
            && matches!(providers[provider].kind, Kind::Anthropic | Kind::Gemini)
        {
            return Err(at(
                embedder_at,
                format!(
                    "{provider} speaks a format without embeddings; name a provider of kind openai, mistral, llamacpp or ollama"
                ),
            ));
        }
        let mut modes = BTreeMap::new();
        for (slug, mode) in raw.modes {
            let start = slug.span().start;
            let slug = slug.into_inner();
            check_mode(&slug, &mode).map_err(|problem| at(start, problem))?;
            modes.insert(slug, mode);
        }
        if modes.len() > MODES {
            return Err(at(
                0,
                format!("there are {} modes; at most {MODES} are taken", modes.len()),
            ));
        }
        Ok(Self {
            chat,
            complete,
            image,
            detect_local: raw.models.detect_local.unwrap_or(true),
            providers,
            network: raw.network,
            limits: raw.limits,
            sandbox: raw.sandbox,
            mcp,
            index: Index {
                disk_mb: raw.index.disk_mb.unwrap_or(crate::limits::INDEX_DISK_MB),
                shared: raw.index.shared,
                embedder,
                requests_per_minute: raw.index.requests_per_minute,
                price_per_million_tokens: raw.index.price_per_million_tokens,
            },
            modes,
        })
    }
}

fn check_mode(slug: &str, mode: &ModeConfig) -> Result<(), String> {
    let plain = slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if slug.is_empty() || slug.len() > 40 || !plain {
        return Err(format!(
            "the mode's name {slug:?} must be lower-case letters, digits and -, at most 40"
        ));
    }
    if mode.summary.trim().is_empty() {
        return Err(format!("the mode {slug} needs a summary"));
    }
    if mode.prompt.len() > MODE_PROMPT_BYTES {
        return Err(format!(
            "the prompt of the mode {slug} is longer than {MODE_PROMPT_BYTES} bytes"
        ));
    }
    globset::Glob::new(&mode.files).map(drop).map_err(|e| format!("files of the mode {slug}: {e}"))
}

/// Checks an address and takes the slash off its end.
fn base_url(given: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(given).map_err(|e| format!("base_url is not an address: {e}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("base_url must begin with http:// or https:// and name a host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "base_url must not hold a user name or password; use key = { env = … }".to_owned()
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("base_url must not hold a query or fragment".to_owned());
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Whether an address stays on this machine.
pub fn is_loopback(url: &str) -> bool {
    reqwest::Url::parse(url).ok().is_some_and(|url| match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    })
}

/// The file, loaded lazily.
#[derive(Debug)]
pub struct ConfigStore {
    file: PathBuf,
    loaded: Mutex<Option<Loaded>>,
}

#[derive(Debug)]
struct Loaded {
    stamp: Stamp,
    result: Result<Arc<Config>, WireError>,
}

/// Tells one state of the file from another.
type Stamp = Option<(u64, u64, i64, i64)>;

impl ConfigStore {
    pub fn new(file: PathBuf) -> Self {
        Self { file, loaded: Mutex::new(None) }
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The configuration as the file says now; defaults when there is no file.
    pub fn get(&self) -> Result<Arc<Config>, WireError> {
        let stamp =
            fs::metadata(&self.file).ok().map(|m| (m.ino(), m.len(), m.mtime(), m.mtime_nsec()));
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        match &*loaded {
            Some(known) if known.stamp == stamp => known.result.clone(),
            _ => {
                let result = self.read();
                *loaded = Some(Loaded { stamp, result: result.clone() });
                result
            }
        }
    }

    fn read(&self) -> Result<Arc<Config>, WireError> {
        let name = self.file.display();
        let text = match read_bounded(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Arc::default()),
            Err(error) => {
                return Err(WireError::new(
                    ErrorKind::Invalid,
                    format!("{name} cannot be read: {error}"),
                )
                .hint("make it a readable text file, or remove it"));
            }
        };
        Config::parse(&text).map(Arc::new).map_err(|problem| {
            WireError::new(ErrorKind::Invalid, format!("{name}, {problem}")).hint(format!(
                "correct line {} of {name}; docs/reference/config.md lists every key",
                problem.line
            ))
        })
    }
}

fn read_bounded(file: &Path) -> io::Result<String> {
    // A FIFO or device of that name would block or never end.
    let meta = fs::metadata(file)?;
    if !meta.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    fs::File::open(file)?.take(FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES {
        return Err(io::Error::other(format!("it is longer than {FILE_BYTES} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
