//! `oauth` of a server in the user's `config.toml`.

use serde::Deserialize;

use super::guard;
use crate::config::KeySource;

/// How to log in; `oauth = true` leaves all of it to discovery.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OAuth {
    /// Of a client that was registered by hand, where a service registers none itself.
    pub client_id: Option<String>,
    pub client_secret: Option<KeySource>,
    /// Instead of those that the server asks for.
    pub scopes: Vec<String>,
    /// The one authorization server to be used. It may be on a private network.
    pub issuer: Option<String>,
    /// Port of the redirect, where a client registered by hand names one.
    pub callback_port: Option<u16>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "oauth is true, false, or a table")]
pub enum RawOAuth {
    Flag(bool),
    Named(OAuth),
}

impl Default for RawOAuth {
    fn default() -> Self {
        Self::Flag(false)
    }
}

impl RawOAuth {
    pub fn check(self, url: &reqwest::Url) -> Result<Option<OAuth>, String> {
        let oauth = match self {
            Self::Flag(false) => return Ok(None),
            Self::Flag(true) => OAuth::default(),
            Self::Named(oauth) => oauth,
        };
        let one_word = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
        if oauth.client_secret.is_some() && oauth.client_id.is_none() {
            return Err("oauth.client_secret belongs to an oauth.client_id".to_owned());
        }
        if !oauth.scopes.iter().chain(&oauth.client_id).all(|text| one_word(text)) {
            return Err("oauth.scopes and oauth.client_id hold no white space".to_owned());
        }
        if let Some(issuer) = &oauth.issuer {
            let address = reqwest::Url::parse(issuer)
                .map_err(|e| format!("oauth.issuer is not an address: {e}"))?;
            let here = guard::is_here(url) && guard::is_here(&address);
            if address.scheme() != "https" && !here {
                return Err("oauth.issuer must begin with https://".to_owned());
            }
        }
        if url.scheme() != "https" && !guard::is_here(url) {
            return Err("a token would travel unencrypted; oauth needs https".to_owned());
        }
        Ok(Some(oauth))
    }
}
