//! The tokens of one server: kept in the keyring, renewed before they end and when the
//! server takes one no more.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::super::limits;
use super::guard::Guard;
use super::{entry, pkce};
use crate::provider::keys::Keys;
use crate::secret::Secret;

/// How a client proves itself at the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    None,
    Post,
    Basic,
}

/// The client that the authorization server knows.
#[derive(Clone, Serialize, Deserialize)]
pub struct Client {
    pub id: String,
    pub secret: Option<String>,
    pub method: Method,
}

/// What the keyring holds of a server. No `Debug`: it is all secret.
#[derive(Clone, Serialize, Deserialize)]
pub struct Kept {
    /// The server's address when the user logged in. A changed one gets no token.
    pub url: String,
    pub resource: String,
    pub token_endpoint: String,
    pub revocation_endpoint: Option<String>,
    pub client: Client,
    pub access: String,
    pub refresh: Option<String>,
    /// Unix seconds.
    pub ends: Option<u64>,
}

/// An answer of a token endpoint.
pub struct Granted {
    access: String,
    refresh: Option<String>,
    ends: Option<u64>,
}

/// Why no token came.
#[derive(Debug)]
pub struct NoToken {
    /// What there was is of no use any more.
    pub over: bool,
    pub why: String,
}

impl From<String> for NoToken {
    fn from(why: String) -> Self {
        Self { over: false, why }
    }
}

impl Kept {
    pub fn take(&mut self, granted: Granted) {
        self.access = granted.access;
        self.ends = granted.ends;
        // One that is not sent anew stays good.
        self.refresh = granted.refresh.or(self.refresh.take());
    }

    fn about_to_end(&self, now: u64) -> bool {
        self.ends.is_some_and(|ends| ends <= now + limits::TOKEN_MARGIN.as_secs())
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Asks a token endpoint, as the client that it knows.
pub async fn ask(
    guard: &Guard,
    endpoint: &str,
    client: &Client,
    form: &[(&str, &str)],
) -> Result<Granted, NoToken> {
    let endpoint =
        Url::parse(endpoint).map_err(|_| "the token endpoint is at no address".to_owned())?;
    let mut form = form.to_vec();
    let mut basic = None;
    match (&client.secret, client.method) {
        (Some(secret), Method::Basic) => {
            let coded = |text: &str| -> String {
                url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
            };
            let pair = format!("{}:{}", coded(&client.id), coded(secret));
            basic = Some(format!("Basic {}", pkce::base64(pair.as_bytes())));
        }
        (Some(secret), Method::Post) => {
            form.extend([("client_id", client.id.as_str()), ("client_secret", secret.as_str())]);
        }
        _ => form.push(("client_id", client.id.as_str())),
    }
    let answer = guard.post_form(&endpoint, &form, basic.as_deref()).await?;
    granted(answer.status, &answer.body, now())
}

fn granted(status: u16, body: &[u8], now: u64) -> Result<Granted, NoToken> {
    #[derive(Deserialize)]
    struct Raw {
        access_token: Option<String>,
        #[serde(default)]
        token_type: String,
        refresh_token: Option<String>,
        expires_in: Option<u64>,
        error: Option<String>,
        error_description: Option<String>,
    }
    let no = |why: String| NoToken { over: false, why };
    // The text of a parse error could quote a token.
    let raw: Raw = serde_json::from_slice(body).map_err(|_| {
        no(format!("the token endpoint answered with status {status} and no JSON object"))
    })?;
    if let Some(error) = raw.error {
        let said = format!("{error} {}", raw.error_description.unwrap_or_default());
        let said = super::super::text::description(Some(said.trim()));
        return Err(NoToken {
            over: error == "invalid_grant" || error == "invalid_client",
            why: format!("the token endpoint refused: {said}"),
        });
    }
    if !(200..300).contains(&status) {
        return Err(no(format!("the token endpoint answered with status {status}")));
    }
    if !raw.token_type.eq_ignore_ascii_case("bearer") {
        return Err(
            no("the token endpoint gave a token that is not of the kind Bearer".to_owned()),
        );
    }
    let usable = |token: &String| {
        !token.is_empty()
            && token.len() <= limits::TOKEN_BYTES
            && token.bytes().all(|b| b.is_ascii_graphic())
    };
    let access = raw.access_token.filter(usable);
    let access = access.ok_or_else(|| no("the token endpoint gave no usable token".to_owned()))?;
    let ends = raw.expires_in.map(|seconds| now.saturating_add(seconds));
    Ok(Granted { access, refresh: raw.refresh_token.filter(usable), ends })
}

/// The tokens that a connection uses.
pub struct Tokens {
    server: String,
    guard: Guard,
    keys: Arc<Keys>,
    kept: tokio::sync::Mutex<Kept>,
    /// Every one that was at hand, to be taken out of texts.
    seen: Mutex<Vec<Secret>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Those of the last login. The error says that there was none, or why it does not count.
    pub async fn load(
        server: &str,
        url: &str,
        guard: Guard,
        keys: Arc<Keys>,
    ) -> Result<Self, String> {
        let log_in = format!("log in: lapce-ai mcp login {server}");
        let kept = keys.lookup(&entry(server)).await.map_err(|e| e.message)?;
        let kept = kept.ok_or_else(|| format!("it wants a login; {log_in}"))?;
        let kept: Kept = serde_json::from_str(kept.expose())
            .map_err(|_| format!("what the keyring holds of its login cannot be read; {log_in}"))?;
        if kept.url != url {
            return Err(format!("its address has changed since the login; {log_in}"));
        }
        let tokens = Self {
            server: server.to_owned(),
            guard,
            keys,
            kept: tokio::sync::Mutex::new(kept.clone()),
            seen: Mutex::default(),
        };
        tokens.see(&kept);
        Ok(tokens)
    }

    /// The access token, renewed when it is about to end.
    pub async fn current(&self) -> Result<String, String> {
        let mut kept = self.kept.lock().await;
        if kept.about_to_end(now()) && kept.refresh.is_some() {
            self.renew(&mut kept).await?;
        }
        Ok(kept.access.clone())
    }

    /// Another token, since the server did not take `rejected`; `None` when there is none.
    pub async fn other_than(&self, rejected: &str) -> Result<Option<String>, String> {
        let mut kept = self.kept.lock().await;
        // Several calls find out at the same time: one renews.
        if kept.access == rejected {
            if kept.refresh.is_none() {
                return Ok(None);
            }
            self.renew(&mut kept).await?;
        }
        Ok(Some(kept.access.clone()))
    }

    async fn renew(&self, kept: &mut Kept) -> Result<(), String> {
        let refresh = kept.refresh.clone().unwrap_or_default();
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh.as_str()),
            ("resource", kept.resource.as_str()),
        ];
        let asked = ask(&self.guard, &kept.token_endpoint, &kept.client, &form).await;
        let granted = asked.map_err(|no| {
            let why = crate::provider::keys::redact(no.why, &self.seen());
            if no.over {
                format!(
                    "the login has ended ({why}); log in again: lapce-ai mcp login {}",
                    self.server
                )
            } else {
                format!("its login could not be renewed: {why}")
            }
        })?;
        kept.take(granted);
        self.see(kept);
        tracing::info!(server = self.server, "the login of an MCP server was renewed");
        if let Err(why) = keep(&self.keys, &self.server, kept).await {
            // It works until the engine ends; after that the old one may be of no use.
            tracing::warn!(server = self.server, why, "a renewed login could not be kept");
        }
        Ok(())
    }

    fn see(&self, kept: &Kept) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let all = [Some(&kept.access), kept.refresh.as_ref(), kept.client.secret.as_ref()];
        for token in all.into_iter().flatten() {
            if !seen.iter().any(|s| s.expose() == token) {
                seen.push(Secret::new(token.as_str()));
            }
        }
        let excess = seen.len().saturating_sub(limits::TOKENS_SEEN);
        seen.drain(..excess);
    }

    /// What must not appear in a text.
    pub fn seen(&self) -> Vec<Secret> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Puts a login into the keyring.
pub async fn keep(keys: &Keys, server: &str, kept: &Kept) -> Result<(), String> {
    let text = serde_json::to_string(kept).map_err(|e| e.to_string())?;
    keys.store(&entry(server), &Secret::new(text)).await.map_err(|e| e.to_string())
}

/// Takes a login out of the keyring, and tells the authorization server where it wants to
/// know. Whether there was one.
pub async fn forget(keys: &Keys, server: &str, guard: &Guard) -> Result<bool, String> {
    let found = keys.lookup(&entry(server)).await.map_err(|e| e.message)?;
    let Some(found) = found else { return Ok(false) };
    keys.clear(&entry(server)).await.map_err(|e| e.to_string())?;
    let kept: Option<Kept> = serde_json::from_str(found.expose()).ok();
    if let Some(kept) = kept
        && let Some(place) = kept.revocation_endpoint.as_deref().and_then(|p| Url::parse(p).ok())
    {
        let token = kept.refresh.as_deref().unwrap_or(&kept.access);
        let form = [("token", token), ("client_id", kept.client.id.as_str())];
        if let Err(why) = guard.post_form(&place, &form, None).await {
            tracing::info!(server, why, "a token could not be revoked");
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_token_that_fits_a_header_is_taken() {
        let of = |json: serde_json::Value| granted(200, json.to_string().as_bytes(), 1_000);
        let whole = of(serde_json::json!({
            "access_token": "a", "token_type": "bearer", "expires_in": 60, "refresh_token": "r"
        }))
        .map_err(|no| no.why)
        .unwrap();
        assert_eq!(
            (whole.access.as_str(), whole.refresh.as_deref(), whole.ends),
            ("a", Some("r"), Some(1_060))
        );
        for bad in [
            serde_json::json!({"access_token": "a", "token_type": "mac"}),
            serde_json::json!({"access_token": "a\r\nx: y", "token_type": "Bearer"}),
            serde_json::json!({"access_token": "", "token_type": "Bearer"}),
            serde_json::json!({"token_type": "Bearer"}),
            serde_json::json!(["a"]),
        ] {
            assert!(of(bad.clone()).is_err(), "{bad}");
        }
        let over = |status, body: &[u8]| granted(status, body, 0).err().unwrap();
        assert!(over(400, br#"{"error":"invalid_grant"}"#).over);
        assert!(!over(503, b"busy sk-secret").over);
        assert!(!over(503, b"busy sk-secret").why.contains("secret"));
        assert!(!over(500, br#"{"access_token":"a","token_type":"Bearer"}"#).over);
    }

    #[test]
    fn a_token_is_renewed_before_it_ends_and_keeps_its_refresh_token() {
        let client = Client { id: "c".into(), secret: None, method: Method::None };
        let mut kept = Kept {
            url: String::new(),
            resource: String::new(),
            token_endpoint: String::new(),
            revocation_endpoint: None,
            client,
            access: "a".into(),
            refresh: Some("r".into()),
            ends: Some(1_000),
        };
        let margin = limits::TOKEN_MARGIN.as_secs();
        assert!(!kept.about_to_end(1_000 - margin - 1) && kept.about_to_end(1_000 - margin));
        kept.take(Granted { access: "b".into(), refresh: None, ends: None });
        assert_eq!((kept.access.as_str(), kept.refresh.as_deref()), ("b", Some("r")));
        assert!(!kept.about_to_end(u64::MAX - margin));
    }
}
