//! One model, with everything that is needed to ask it.

use std::time::Duration;

use super::error::{Fault, ProviderError};
use super::limits;
use crate::config::{
    self, Auth, Config, Fim, KeySource, Kind, ModelConfig, Network, ProviderConfig, ToolForm,
};

#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The provider's name in the configuration (or of the server that was found).
    pub provider: String,
    /// The model's name as the provider knows it.
    pub name: String,
    pub kind: Kind,
    pub base_url: String,
    pub key: Option<KeySource>,
    pub auth: Auth,
    pub context: u32,
    pub max_output: u32,
    pub tools: ToolForm,
    pub fim: Option<Fim>,
    pub temperature: Option<f32>,
    /// It takes pictures.
    pub images: bool,
    pub network: Network,
    /// On this machine.
    pub local: bool,
}

impl Model {
    /// `provider/model`, as users write it.
    pub fn id(&self) -> String {
        format!("{}/{}", self.provider, self.name)
    }

    pub fn from_config(config: &Config, id: &str) -> Result<Self, ProviderError> {
        let (provider, name) = id
            .split_once('/')
            .filter(|(provider, model)| !provider.is_empty() && !model.is_empty())
            .ok_or_else(|| {
                ProviderError::new(Fault::Config, id, "is not of the form provider/model")
                    .hint("for example: local/smollm2")
            })?;
        let Some(found) = config.providers.get(provider) else {
            let known: Vec<_> = config.providers.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(ProviderError::new(
                Fault::Config,
                provider,
                format!("is not configured (known: {known})"),
            )
            .hint(format!("add [providers.{provider}] to config.toml")));
        };
        Ok(Self::new(provider, name, found, &config.network))
    }

    pub fn new(provider: &str, name: &str, config: &ProviderConfig, network: &Network) -> Self {
        let local = config::is_loopback(&config.base_url);
        let ModelConfig { context, max_output, tools, fim, temperature, images } =
            config.models.get(name).cloned().unwrap_or_default();
        let context = context.unwrap_or_else(|| context_by_name(name, local)).max(1024);
        Self {
            provider: provider.to_owned(),
            name: name.to_owned(),
            kind: config.kind,
            base_url: config.base_url.clone(),
            key: config.key.clone(),
            auth: config.auth,
            context,
            max_output: max_output.unwrap_or(limits::MAX_OUTPUT).clamp(16, context / 2),
            // A local model behind a chat template often has no function calls, or none
            // that it was trained for; XML works with every model.
            tools: tools.unwrap_or(if local { ToolForm::Xml } else { ToolForm::Native }),
            fim: fim.or(match config.kind {
                Kind::LlamaCpp => Some(Fim::Infill),
                Kind::Mistral => Some(Fim::Mistral),
                Kind::Ollama => Some(Fim::Ollama),
                Kind::OpenAi => Some(Fim::Suffix),
                Kind::Responses | Kind::Anthropic | Kind::Gemini => None,
            }),
            temperature,
            images: images.unwrap_or_else(|| !local && sees_by_name(name)),
            network: network.clone(),
            local,
        }
    }

    pub fn first_byte(&self) -> Duration {
        let default =
            if self.local { limits::FIRST_BYTE_TIMEOUT_LOCAL } else { limits::FIRST_BYTE_TIMEOUT };
        Network::seconds(self.network.first_byte_timeout_s, default)
    }

    pub fn idle(&self) -> Duration {
        let default = if self.local { limits::IDLE_TIMEOUT_LOCAL } else { limits::IDLE_TIMEOUT };
        Network::seconds(self.network.idle_timeout_s, default)
    }
}

/// Beginnings of model names, with context windows on the safe side.
const FAMILIES: [(&str, u32); 12] = [
    ("gpt-5", 200_000),
    ("gpt-4", 128_000),
    ("o3", 200_000),
    ("o4", 200_000),
    ("claude", 200_000),
    ("gemini", 1_000_000),
    ("grok", 128_000),
    ("deepseek", 64_000),
    ("mistral", 128_000),
    ("devstral", 128_000),
    ("codestral", 32_000),
    ("qwen", 32_000),
];

/// Beginnings of names of models that take pictures. One of them that does not says so, and
/// the run goes on without.
const SEEING: [&str; 9] =
    ["gpt-4o", "gpt-4.1", "gpt-5", "o3", "o4", "claude", "gemini", "grok-4", "pixtral"];

fn sees_by_name(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or(name);
    SEEING.iter().any(|family| name.starts_with(family))
}

/// The context window of a model nobody configured.
fn context_by_name(name: &str, local: bool) -> u32 {
    // What a local server was started with decides, not what the model could do.
    if local {
        return limits::CONTEXT_LOCAL;
    }
    let name = name.rsplit('/').next().unwrap_or(name);
    FAMILIES
        .iter()
        .find(|(family, _)| name.starts_with(family))
        .map_or(limits::CONTEXT_REMOTE, |(_, context)| *context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
[providers.router]
kind = "openai"
base_url = "https://openrouter.ai/api/v1"
[providers.local]
kind = "llamacpp"
[providers.local.models.tiny]
context = 2048
max_output = 4000
"#;

    #[test]
    fn models_of_a_configuration() {
        let config = Config::parse(CONFIG).unwrap();
        let claude = Model::from_config(&config, "router/anthropic/claude-x").unwrap();
        assert_eq!(
            (claude.provider.as_str(), claude.name.as_str()),
            ("router", "anthropic/claude-x")
        );
        assert_eq!(
            (claude.context, claude.tools, claude.local),
            (200_000, ToolForm::Native, false)
        );
        assert_eq!(claude.id(), "router/anthropic/claude-x");
        assert!(claude.images && !Model::from_config(&config, "local/gemini").unwrap().images);
        let tiny = Model::from_config(&config, "local/tiny").unwrap();
        assert_eq!((tiny.context, tiny.max_output), (2048, 1024));
        assert_eq!((tiny.tools, tiny.fim, tiny.local), (ToolForm::Xml, Some(Fim::Infill), true));
        assert!(tiny.idle() > claude.idle());
        let error = Model::from_config(&config, "nobody/x").unwrap_err();
        assert_eq!(error.to_string(), "nobody: is not configured (known: local, router)");
        assert!(Model::from_config(&config, "nobody").is_err());
    }
}
