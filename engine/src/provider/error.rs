//! What goes wrong with a provider, and what the user can do about it.
//!
//! Messages never hold a key: every text that comes from a provider passes [`clean`].

use std::time::Duration;

use lapce_ai_ipc::wire::{ErrorKind, WireError};

use super::limits;
use crate::secret::Secret;

/// What kind of failure, as the callers must act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The key is missing, wrong, or may not use this model.
    Auth,
    /// Money or quota is used up; trying again does not help.
    Quota,
    /// Too many requests; trying again later helps.
    RateLimited,
    /// The provider is overloaded or broken.
    Server,
    /// The prompt does not fit the model's context.
    ContextLength,
    /// The model or the address does not exist.
    NotFound,
    /// The model (or server) cannot be given tools.
    NoTools,
    /// The request was refused for another reason.
    BadRequest,
    /// The server cannot be reached.
    Network,
    /// The server took too long.
    Timeout,
    /// What came is not what the format says.
    Protocol,
    /// The configuration does not allow the call.
    Config,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{provider}: {message}")]
pub struct ProviderError {
    pub fault: Fault,
    /// The provider's name in the configuration.
    pub provider: String,
    pub message: String,
    pub status: Option<u16>,
    /// The delay the provider asks for.
    pub retry_after: Option<Duration>,
    /// The provider's own word on retrying (`x-should-retry`).
    pub should_retry: Option<bool>,
    pub hint: String,
}

impl ProviderError {
    pub fn new(fault: Fault, provider: &str, message: impl Into<String>) -> Self {
        Self {
            fault,
            provider: provider.to_owned(),
            message: message.into(),
            status: None,
            retry_after: None,
            should_retry: None,
            hint: String::new(),
        }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// As it crosses the ring.
    pub fn wire(&self) -> WireError {
        let kind = match self.fault {
            Fault::Network | Fault::Timeout => ErrorKind::Unavailable,
            Fault::Quota | Fault::ContextLength => ErrorKind::Limit,
            Fault::Config => ErrorKind::Invalid,
            _ => ErrorKind::Provider,
        };
        let hint = if self.hint.is_empty() { self.default_hint() } else { self.hint.clone() };
        WireError::new(kind, self.to_string()).hint(hint)
    }

    fn default_hint(&self) -> String {
        let name = &self.provider;
        match self.fault {
            Fault::Auth => format!(
                "check `key` of [providers.{name}] in config.toml and that the key may use this model"
            ),
            Fault::Quota => format!(
                "the account of {name} has no credit or quota left; top it up or configure another provider"
            ),
            Fault::RateLimited => {
                "wait a little and ask again, or configure another provider".to_owned()
            }
            Fault::Server => {
                "the provider has a problem; ask again later, or configure another provider"
                    .to_owned()
            }
            Fault::ContextLength => format!(
                "ask something narrower, or set `context` of the model under [providers.{name}.models] in config.toml"
            ),
            Fault::NotFound => format!(
                "check the model's name and `base_url` of [providers.{name}] in config.toml"
            ),
            Fault::NoTools => format!(
                "set `tools = \"xml\"` for the model under [providers.{name}.models] in config.toml"
            ),
            Fault::Network => format!(
                "check the network and `base_url` of [providers.{name}]; is the server running?"
            ),
            Fault::Timeout => format!(
                "the server of {name} is slow or stuck; ask again, or raise the timeouts in [network] of config.toml"
            ),
            Fault::BadRequest | Fault::Protocol | Fault::Config => String::new(),
        }
    }
}

impl From<ProviderError> for WireError {
    fn from(error: ProviderError) -> Self {
        error.wire()
    }
}

/// Makes a provider's text fit to be shown: no key, no control characters, not too long.
pub fn clean(text: &str, key: Option<&Secret>) -> String {
    let text = match key {
        Some(key) if key.expose().len() >= 4 => text.replace(key.expose(), "[key]"),
        _ => text.to_owned(),
    };
    let mut out = String::new();
    let mut count = 0;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty())
    {
        if !out.is_empty() {
            out.push(' ');
            count += 1;
        }
        for c in word.chars() {
            if count >= limits::ERROR_MESSAGE_CHARS {
                out.push('…');
                return out;
            }
            out.push(c);
            count += 1;
        }
    }
    out
}

/// What kind of failure a status and an error body mean. `code` is whatever the body
/// calls its code, type or status.
pub fn classify(status: Option<u16>, code: &str, message: &str) -> Fault {
    let code = code.to_ascii_lowercase();
    let text = message.to_ascii_lowercase();
    let code_has = |words: &[&str]| words.iter().any(|w| code.contains(w));
    let text_has = |words: &[&str]| words.iter().any(|w| text.contains(w));

    if status == Some(402)
        || code_has(&[
            "insufficient_quota",
            "billing",
            "insufficient_balance",
            "insufficient_credits",
            "payment_required",
            "credit_exhausted",
        ])
        || text_has(&[
            "insufficient balance",
            "insufficient credits",
            "exceeded your current quota",
            "credit balance is too low",
            "billing hard limit",
            "check your plan and billing",
        ])
    {
        return Fault::Quota;
    }
    if code_has(&[
        "context_length_exceeded",
        "exceed_context_size",
        "model_context_window_exceeded",
    ]) || text_has(&[
        "maximum context length",
        "context length",
        "context window",
        "exceeds the available context size",
        "prompt is too long",
        "input token count",
        "too many tokens",
    ]) {
        return Fault::ContextLength;
    }
    if status.is_none_or(|s| (400..500).contains(&s) || s == 500)
        && text_has(&[
            "does not support tools",
            "tools param requires",
            "does not support function",
            "tool use is not supported",
            "no endpoints found that support tool use",
            "tool choice requires",
            "tools are not supported",
        ])
    {
        return Fault::NoTools;
    }
    match status {
        Some(401 | 403) => return Fault::Auth,
        Some(404) => return Fault::NotFound,
        Some(429) => return Fault::RateLimited,
        Some(408) => return Fault::Timeout,
        Some(status) if status >= 500 => return Fault::Server,
        _ => {}
    }
    if code_has(&[
        "invalid_api_key",
        "authentication",
        "permission",
        "unauthenticated",
        "unauthorized",
    ]) || code == "401"
        || code == "403"
    {
        Fault::Auth
    } else if code_has(&["rate_limit", "ratelimit", "resource_exhausted", "too_many_requests"])
        || code == "429"
    {
        Fault::RateLimited
    } else if code_has(&[
        "overloaded",
        "server_error",
        "api_error",
        "internal",
        "unavailable",
        "engine_overloaded",
    ]) || matches!(code.as_str(), "500" | "502" | "503" | "504" | "529")
    {
        Fault::Server
    } else if code_has(&["model_not_found", "not_found"]) || code == "404" {
        Fault::NotFound
    } else {
        Fault::BadRequest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_control_characters_do_not_get_through() {
        let key = Secret::new("sk-secret-1");
        assert_eq!(
            clean("bad key sk-secret-1\n\u{1b}[31m twice sk-secret-1", Some(&key)),
            "bad key [key] [31m twice [key]"
        );
        assert_eq!(clean(&"x".repeat(1000), None).chars().count(), limits::ERROR_MESSAGE_CHARS + 1);
    }

    #[test]
    fn quota_is_not_a_rate_limit() {
        assert_eq!(
            classify(Some(429), "insufficient_quota", "You exceeded your current quota"),
            Fault::Quota
        );
        assert_eq!(classify(Some(402), "", "Insufficient Balance"), Fault::Quota);
        assert_eq!(
            classify(Some(429), "rate_limit_exceeded", "Rate limit reached"),
            Fault::RateLimited
        );
    }

    #[test]
    fn kinds_from_bodies_of_several_providers() {
        assert_eq!(classify(Some(401), "invalid_api_key", ""), Fault::Auth);
        assert_eq!(classify(Some(400), "context_length_exceeded", ""), Fault::ContextLength);
        assert_eq!(
            classify(
                Some(400),
                "exceed_context_size_error",
                "the request exceeds the available context size"
            ),
            Fault::ContextLength
        );
        assert_eq!(
            classify(Some(400), "", "registry.ollama.ai/library/gemma does not support tools"),
            Fault::NoTools
        );
        assert_eq!(
            classify(Some(500), "server_error", "tools param requires --jinja flag"),
            Fault::NoTools
        );
        assert_eq!(classify(Some(529), "overloaded_error", ""), Fault::Server);
        assert_eq!(classify(None, "overloaded_error", ""), Fault::Server);
        assert_eq!(classify(None, "429", "slow down"), Fault::RateLimited);
        assert_eq!(classify(Some(404), "model_not_found", ""), Fault::NotFound);
    }
}
