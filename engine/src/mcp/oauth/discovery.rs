//! What a server and its authorization server say about themselves (RFC 9728 and 8414,
//! discovery of `OpenID`), read and checked. Pure. Which addresses may be asked at all is for `guard`.

use reqwest::Url;
use serde::Deserialize;

/// The parts of a `WWW-Authenticate: Bearer …` header that lead on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    pub resource_metadata: Option<String>,
    pub scope: Option<String>,
}

pub fn challenge(header: &str) -> Challenge {
    let mut found = Challenge::default();
    let lower = header.to_ascii_lowercase();
    // Other schemes may stand before it.
    let Some(at) = lower.find("bearer") else { return found };
    let mut rest = &header[at + "bearer".len()..];
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches(|c: char| c == ',' || c.is_whitespace());
        let after = after.trim_start();
        let value;
        if let Some(quoted) = after.strip_prefix('"') {
            let mut text = String::new();
            let mut chars = quoted.char_indices();
            let end = loop {
                match chars.next() {
                    None => break quoted.len(),
                    Some((at, '"')) => break at + 1,
                    Some((_, '\\')) => text.extend(chars.next().map(|(_, c)| c)),
                    Some((_, c)) => text.push(c),
                }
            };
            (value, rest) = (text, &quoted[end..]);
        } else {
            let end = after.find([',', ' ']).unwrap_or(after.len());
            (value, rest) = (after[..end].to_owned(), &after[end..]);
        }
        match name.to_ascii_lowercase().as_str() {
            "resource_metadata" => found.resource_metadata = Some(value),
            "scope" => found.scope = Some(value),
            _ => {}
        }
    }
    found
}

/// Where the server's own metadata can be: where its challenge says, or at the usual places.
/// Another host has no say in what belongs to this one.
pub fn resource_places(server: &Url, challenge: &Challenge) -> Result<Vec<Url>, String> {
    if let Some(named) = &challenge.resource_metadata {
        let place = Url::parse(named).map_err(|_| "it names metadata at no address".to_owned())?;
        if place.origin() != server.origin() {
            return Err(format!(
                "it names metadata on another host ({})",
                place.host_str().unwrap_or("?")
            ));
        }
        return Ok(vec![place]);
    }
    let at = |path: &str| {
        let mut place = server.clone();
        place.set_path(&format!("/.well-known/oauth-protected-resource{path}"));
        place.set_query(None);
        place
    };
    let path = server.path().trim_end_matches('/');
    Ok(if path.is_empty() { vec![at("")] } else { vec![at(path), at("")] })
}

/// What protects a server.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// What a token is asked for.
    pub resource: String,
    pub issuers: Vec<String>,
    pub scopes: Vec<String>,
}

pub fn resource(json: &[u8], server: &Url) -> Result<Resource, String> {
    #[derive(Deserialize)]
    struct Raw {
        resource: String,
        #[serde(default)]
        authorization_servers: Vec<String>,
        #[serde(default)]
        scopes_supported: Vec<String>,
    }
    let raw: Raw = serde_json::from_slice(json).map_err(|e| format!("its metadata: {e}"))?;
    // Metadata of one resource must not be taken for another's: a token for that would be
    // sent here.
    let ours = Url::parse(&raw.resource).is_ok_and(|named| {
        let base = named.path().trim_end_matches('/');
        let below = server
            .path()
            .strip_prefix(base)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        named.origin() == server.origin() && below
    });
    if !ours {
        return Err(format!("its metadata is that of another resource ({:?})", raw.resource));
    }
    Ok(Resource {
        resource: raw.resource,
        issuers: raw.authorization_servers,
        scopes: raw.scopes_supported,
    })
}

/// Where an authorization server's metadata can be.
pub fn issuer_places(issuer: &Url) -> Vec<Url> {
    let at = |path: String| {
        let mut place = issuer.clone();
        place.set_path(&path);
        place.set_query(None);
        place
    };
    let path = issuer.path().trim_end_matches('/');
    let mut places = vec![
        at(format!("/.well-known/oauth-authorization-server{path}")),
        at(format!("/.well-known/openid-configuration{path}")),
    ];
    if !path.is_empty() {
        places.push(at(format!("{path}/.well-known/openid-configuration")));
    }
    places
}

/// An authorization server.
#[derive(Debug, Clone)]
pub struct Issuer {
    pub issuer: String,
    pub authorization: Url,
    pub token: Url,
    pub registration: Option<Url>,
    pub revocation: Option<Url>,
    /// It names itself in the redirect.
    pub names_itself: bool,
    pub scopes: Vec<String>,
}

pub fn issuer(json: &[u8], asked: &Url) -> Result<Issuer, String> {
    #[derive(Deserialize)]
    struct Raw {
        issuer: String,
        authorization_endpoint: String,
        token_endpoint: String,
        registration_endpoint: Option<String>,
        revocation_endpoint: Option<String>,
        #[serde(default)]
        code_challenge_methods_supported: Vec<String>,
        #[serde(default)]
        authorization_response_iss_parameter_supported: bool,
        #[serde(default)]
        scopes_supported: Vec<String>,
    }
    let raw: Raw =
        serde_json::from_slice(json).map_err(|e| format!("the metadata of {asked}: {e}"))?;
    if raw.issuer.trim_end_matches('/') != asked.as_str().trim_end_matches('/') {
        return Err(format!("{asked} says that it is {:?}", raw.issuer));
    }
    if !raw.code_challenge_methods_supported.iter().any(|m| m == "S256") {
        return Err(format!(
            "{asked} does not support PKCE (S256), without which a login can be stolen"
        ));
    }
    let place = |text: &String| {
        Url::parse(text).map_err(|_| format!("{asked} names an endpoint at no address"))
    };
    Ok(Issuer {
        issuer: raw.issuer,
        authorization: place(&raw.authorization_endpoint)?,
        token: place(&raw.token_endpoint)?,
        registration: raw.registration_endpoint.as_ref().map(place).transpose()?,
        revocation: raw.revocation_endpoint.as_ref().map(place).transpose()?,
        names_itself: raw.authorization_response_iss_parameter_supported,
        scopes: raw.scopes_supported,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn challenges_are_read_as_they_come() {
        let found = challenge(
            r#"Basic realm="x", Bearer realm="a, b=\"c\"", resource_metadata="https://a.org/m", scope="r w", error=invalid_token"#,
        );
        assert_eq!(found.resource_metadata.as_deref(), Some("https://a.org/m"));
        assert_eq!(found.scope.as_deref(), Some("r w"));
        assert_eq!(challenge("bearer scope=one").scope.as_deref(), Some("one"));
        for odd in ["", "Bearer", "Bearer =", "Bearer a=\"", "Bearer \u{fc}=\u{fc}", "Digest x=y"] {
            assert_eq!(challenge(odd), Challenge::default(), "{odd:?}");
        }
    }

    #[test]
    fn metadata_of_another_host_or_resource_is_refused() {
        let server = url("https://a.org/v1/mcp?x=y");
        let named = |place: &str| Challenge { resource_metadata: Some(place.into()), scope: None };
        assert!(
            resource_places(&server, &named("https://evil.org/m"))
                .unwrap_err()
                .contains("another host")
        );
        assert!(resource_places(&server, &named("http://a.org/m")).is_err());
        assert!(resource_places(&server, &named("nonsense")).is_err());
        let places = resource_places(&server, &Challenge::default()).unwrap();
        let places: Vec<&str> = places.iter().map(Url::as_str).collect();
        assert_eq!(
            places,
            [
                "https://a.org/.well-known/oauth-protected-resource/v1/mcp",
                "https://a.org/.well-known/oauth-protected-resource"
            ]
        );
        let of = |text: &str| {
            let json =
                serde_json::json!({"resource": text, "authorization_servers": ["https://b.org"]});
            resource(json.to_string().as_bytes(), &server)
        };
        for good in ["https://a.org/v1/mcp", "https://a.org", "https://a.org/v1/"] {
            assert_eq!(of(good).unwrap().resource, good);
        }
        for bad in [
            "https://evil.org/v1/mcp",
            "https://a.org/v1/mc",
            "https://a.org/other",
            "a.org",
            "http://a.org",
        ] {
            assert!(of(bad).unwrap_err().contains("another resource"), "{bad}");
        }
        assert!(resource(b"{}", &server).is_err() && resource(b"<html>", &server).is_err());
    }

    #[test]
    fn an_authorization_server_is_whom_it_was_asked_for_and_has_pkce() {
        let asked = url("https://b.org/tenant");
        let places: Vec<String> = issuer_places(&asked).iter().map(Url::to_string).collect();
        assert_eq!(
            places,
            [
                "https://b.org/.well-known/oauth-authorization-server/tenant",
                "https://b.org/.well-known/openid-configuration/tenant",
                "https://b.org/tenant/.well-known/openid-configuration"
            ]
        );
        assert_eq!(issuer_places(&url("https://b.org")).len(), 2);
        let mut json = serde_json::json!({
            "issuer": "https://b.org/tenant/", "authorization_endpoint": "https://b.org/a",
            "token_endpoint": "https://b.org/t", "code_challenge_methods_supported": ["plain", "S256"],
        });
        assert!(issuer(json.to_string().as_bytes(), &asked).is_ok());
        json["code_challenge_methods_supported"] = serde_json::json!(["plain"]);
        assert!(issuer(json.to_string().as_bytes(), &asked).unwrap_err().contains("PKCE"));
        json["issuer"] = "https://evil.org".into();
        assert!(
            issuer(json.to_string().as_bytes(), &asked).unwrap_err().contains("says that it is")
        );
    }
}
