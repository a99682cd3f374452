//! `lapce-ai mcp login`: from a server's challenge to tokens in the keyring.

use std::sync::Arc;

use reqwest::Url;
use serde::Deserialize;
use serde_json::json;

use super::super::limits;
use super::callback::Listener;
use super::config::OAuth;
use super::discovery::{self, Issuer, Resource};
use super::guard::{Answer, Guard};
use super::pkce::Pkce;
use super::tokens::{self, Client, Kept, Method};
use crate::config::Network;
use crate::provider::Providers;

/// The scope of a token that can be renewed.
const OFFLINE: &str = "offline_access";

/// What a login is made with.
pub struct Login<'a> {
    pub server: &'a str,
    pub url: &'a str,
    pub oauth: &'a OAuth,
    pub providers: &'a Providers,
    pub network: &'a Network,
}

/// Logs in. `show` gets the address that the user is to open. Dropping the future gives up.
/// The answer names the authorization server; an error is a sentence without secrets.
pub async fn login(login: &Login<'_>, show: impl AsyncFnOnce(&str)) -> Result<String, String> {
    let url = Url::parse(login.url).map_err(|e| e.to_string())?;
    let guard = Guard::new(login.server, &url, login.oauth, login.network);
    let (resource, scope) = protection(&guard, &url).await?;
    let issuer = authorization_server(&guard, login.oauth, &resource).await?;
    for endpoint in [Some(&issuer.authorization), Some(&issuer.token), issuer.registration.as_ref()]
    {
        endpoint.map_or(Ok(()), |endpoint| guard.check(endpoint))?;
    }
    let listener = Listener::open(login.oauth.callback_port).await?;
    let redirect = listener.address();
    let client = client(&guard, login, &issuer, &redirect).await?;
    let pkce = Pkce::fresh();
    let scope = scopes(login.oauth, scope.as_deref(), &resource, &issuer);
    let mut address = issuer.authorization.clone();
    {
        let mut query = address.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &client.id)
            .append_pair("redirect_uri", &redirect)
            .append_pair("state", &pkce.state)
            .append_pair("code_challenge", &pkce.challenge)
            .append_pair("code_challenge_method", "S256")
            .append_pair("resource", &resource.resource);
        if !scope.is_empty() {
            query.append_pair("scope", &scope);
        }
    }
    show(address.as_str()).await;
    let code = listener.code(&pkce.state, &issuer.issuer, issuer.names_itself);
    let code = tokio::time::timeout(limits::LOGIN, code).await.map_err(|_| {
        format!("nobody logged in within {} minutes", limits::LOGIN.as_secs() / 60)
    })??;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", redirect.as_str()),
        ("code_verifier", pkce.verifier.as_str()),
        ("resource", resource.resource.as_str()),
    ];
    let granted =
        tokens::ask(&guard, issuer.token.as_str(), &client, &form).await.map_err(|no| no.why)?;
    let mut kept = Kept {
        url: login.url.to_owned(),
        resource: resource.resource,
        token_endpoint: issuer.token.into(),
        revocation_endpoint: issuer
            .revocation
            .filter(|place| guard.check(place).is_ok())
            .map(String::from),
        client,
        access: String::new(),
        refresh: None,
        ends: None,
    };
    kept.take(granted);
    tokens::keep(&login.providers.keyring(), login.server, &kept).await?;
    Ok(lapce_ai_tools::call::one_line(&issuer.issuer, 200))
}

/// Asks the server without a token, and follows what it says.
async fn protection(guard: &Guard, url: &Url) -> Result<(Resource, Option<String>), String> {
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": {"name": "lapce-ai", "version": env!("CARGO_PKG_VERSION")},
    }});
    let answer = guard.post_json(url, &hello).await?;
    if (200..300).contains(&answer.status) {
        return Err("it answers without a login; remove `oauth` from its section".to_owned());
    }
    if answer.status != 401 {
        return Err(format!(
            "it answered with status {} instead of asking for a login",
            answer.status
        ));
    }
    let challenge = discovery::challenge(&answer.challenge);
    for place in discovery::resource_places(url, &challenge)? {
        let answer = guard.get(&place).await?;
        if found(&answer) {
            return Ok((discovery::resource(&answer.body, url)?, challenge.scope));
        }
    }
    // As servers did before there was such metadata: they are their own authorization server.
    let origin = url.origin().ascii_serialization();
    let resource =
        Resource { resource: url.to_string(), issuers: vec![origin], scopes: Vec::new() };
    Ok((resource, challenge.scope))
}

fn found(answer: &Answer) -> bool {
    answer.status == 200
}

async fn authorization_server(
    guard: &Guard,
    oauth: &OAuth,
    resource: &Resource,
) -> Result<Issuer, String> {
    let same = |a: &str, b: &str| a.trim_end_matches('/') == b.trim_end_matches('/');
    let chosen = match &oauth.issuer {
        Some(wanted) => resource.issuers.iter().find(|i| same(i, wanted)).ok_or_else(|| {
            format!("it does not name {wanted} (oauth.issuer) as its authorization server")
        })?,
        None => resource.issuers.first().ok_or("it names no authorization server")?,
    };
    let issuer = Url::parse(chosen)
        .map_err(|_| "it names an authorization server at no address".to_owned())?;
    guard.check(&issuer)?;
    for place in discovery::issuer_places(&issuer) {
        let answer = guard.get(&place).await?;
        if found(&answer) {
            return discovery::issuer(&answer.body, &issuer);
        }
    }
    Err(format!("{issuer} has no metadata of an authorization server"))
}

/// The client of the configuration, or one that is registered now.
async fn client(
    guard: &Guard,
    login: &Login<'_>,
    issuer: &Issuer,
    redirect: &str,
) -> Result<Client, String> {
    #[derive(Deserialize)]
    struct Registered {
        client_id: String,
        client_secret: Option<String>,
        token_endpoint_auth_method: Option<String>,
    }
    if let Some(id) = &login.oauth.client_id {
        let secret = match &login.oauth.client_secret {
            None => None,
            Some(source) => {
                let found = login.providers.key(login.server, source).await;
                Some(found.map_err(|e| format!("{}; {}", e.message, e.hint))?.expose().to_owned())
            }
        };
        let method = if secret.is_some() { Method::Post } else { Method::None };
        return Ok(Client { id: id.clone(), secret, method });
    }
    let place = issuer.registration.as_ref().ok_or_else(|| {
        format!(
            "{} registers no clients by itself: register one there, with the redirect http://127.0.0.1:PORT/callback, \
             and name it: oauth = {{ client_id = \"…\", callback_port = PORT }}",
            issuer.issuer
        )
    })?;
    let answer = guard
        .post_json(
            place,
            &json!({
                "client_name": "Lapce AI",
                "application_type": "native",
                "redirect_uris": [redirect],
                "grant_types": ["authorization_code", "refresh_token"],
                "response_types": ["code"],
                "token_endpoint_auth_method": "none",
            }),
        )
        .await?;
    if !matches!(answer.status, 200 | 201) {
        return Err(format!(
            "{} does not register this client (status {}); some services admit only clients that they know",
            issuer.issuer, answer.status
        ));
    }
    let registered: Registered = serde_json::from_slice(&answer.body)
        .map_err(|_| format!("{} registered a client without a name", issuer.issuer))?;
    let method = match (&registered.client_secret, registered.token_endpoint_auth_method.as_deref())
    {
        (None, _) | (_, Some("none")) => Method::None,
        (_, Some("client_secret_basic")) => Method::Basic,
        _ => Method::Post,
    };
    Ok(Client { id: registered.client_id, secret: registered.client_secret, method })
}

/// The user's scopes, else those of the challenge, else those of the server's metadata; and
/// one for a token that can be renewed, where there is such a one.
fn scopes(oauth: &OAuth, asked: Option<&str>, resource: &Resource, issuer: &Issuer) -> String {
    let asked: Vec<&str> = asked.unwrap_or_default().split_whitespace().collect();
    let mut all: Vec<&str> = match (oauth.scopes.as_slice(), asked.as_slice()) {
        ([], []) => resource.scopes.iter().map(String::as_str).collect(),
        ([], asked) => asked.to_vec(),
        (named, _) => named.iter().map(String::as_str).collect(),
    };
    if !all.is_empty() && issuer.scopes.iter().any(|s| s == OFFLINE) && !all.contains(&OFFLINE) {
        all.push(OFFLINE);
    }
    all.truncate(limits::SCOPES);
    all.join(" ")
}

/// Ends a login, here and there.
pub async fn logout(login: &Login<'_>) -> Result<bool, String> {
    let url = Url::parse(login.url).map_err(|e| e.to_string())?;
    let guard = Guard::new(login.server, &url, login.oauth, login.network);
    let keys: Arc<_> = login.providers.keyring();
    tokens::forget(&keys, login.server, &guard).await
}
