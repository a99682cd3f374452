//! Models, the providers that have them, and the way there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::keys::KeySource;

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
    /// Whether it takes pictures.
    pub images: Option<bool>,
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

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawModels {
    pub(super) chat: Option<toml::Spanned<String>>,
    pub(super) complete: Option<toml::Spanned<String>>,
    pub(super) image: Option<toml::Spanned<String>>,
    pub(super) detect_local: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawProvider {
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

/// The providers by name, each checked; an error has its offset in the file.
pub(super) fn providers(
    raw: BTreeMap<String, RawProvider>,
) -> Result<BTreeMap<String, ProviderConfig>, (usize, String)> {
    let mut providers = BTreeMap::new();
    for (name, p) in raw {
        let url_at = p.base_url.as_ref().map_or(0, |u| u.span().start);
        let given = p
            .base_url
            .map_or_else(|| p.kind.default_base_url().to_owned(), toml::Spanned::into_inner);
        let key_at = p.key.as_ref().map(|k| k.span().start);
        let base_url = base_url(&given).map_err(|m| (url_at, m))?;
        if let Some(key_at) = key_at
            && !p.plain_http
            && base_url.starts_with("http://")
            && !is_loopback(&base_url)
        {
            let message = format!(
                "the key of {name} would travel unencrypted; use https, or set plain_http = true"
            );
            return Err((key_at, message));
        }
        if name.is_empty() || name.contains('/') {
            let message = format!("the provider name {name:?} must not be empty or hold a slash");
            return Err((url_at, message));
        }
        let config = ProviderConfig {
            kind: p.kind,
            base_url,
            key: p.key.map(toml::Spanned::into_inner),
            auth: p.auth,
            models: p.models,
        };
        providers.insert(name, config);
    }
    Ok(providers)
}

/// A model named as `provider/model`, or empty when none is; the provider must be there.
pub(super) fn model(
    given: Option<toml::Spanned<String>>,
    providers: &BTreeMap<String, ProviderConfig>,
) -> Result<String, (usize, String)> {
    let Some(given) = given else { return Ok(String::new()) };
    let start = given.span().start;
    let given = given.into_inner();
    if given.is_empty() {
        return Ok(given);
    }
    match given.split_once('/') {
        Some((provider, model)) if !model.is_empty() && providers.contains_key(provider) => {
            Ok(given)
        }
        Some((provider, model)) if !model.is_empty() => {
            let known: Vec<_> = providers.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Err((start, format!("there is no [providers.{provider}] (known: {known})")))
        }
        _ => Err((start, format!("{given:?} is not of the form provider/model"))),
    }
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
