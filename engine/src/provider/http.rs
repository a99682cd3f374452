//! The HTTP clients, built on first use, and one request with its time limits.
//!
//! Two clients: one for `https`, and one for plain `http` that reads no certificates, so
//! that a local model costs nothing of the kind. Neither follows redirects (a key must not
//! travel to another host), and neither sends loopback traffic to a proxy.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::dns::Resolve;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, NoProxy, Proxy, Response};

use super::error::{Fault, ProviderError, clean};
use super::{limits, retry, wire};
use crate::config::{self, Network};
use crate::secret::Secret;

/// A request, ready to be sent any number of times.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The provider's name in the configuration, for messages.
    pub provider: String,
    pub url: String,
    pub headers: Vec<(&'static str, Secret)>,
    /// JSON; `None` makes it a GET.
    pub body: Option<Vec<u8>>,
    /// Taken out of every message that comes back.
    pub key: Option<Secret>,
}

/// The clients, each built when first needed and again when `[network]` changes.
#[derive(Debug, Default)]
pub struct Http {
    plain: Mutex<Option<(Network, Client)>>,
    tls: Mutex<Option<(Network, Client)>>,
}

impl Http {
    pub(super) fn client(
        &self,
        provider: &str,
        url: &str,
        network: &Network,
    ) -> Result<Client, ProviderError> {
        let https = url.starts_with("https:");
        let mut slot = if https { &self.tls } else { &self.plain }
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((known, client)) = &*slot
            && known == network
        {
            return Ok(client.clone());
        }
        let client = build(provider, network, https, |name| std::env::var(name).ok())?;
        *slot = Some((network.clone(), client.clone()));
        Ok(client)
    }

    /// Sends, and waits for the head of a successful response.
    pub async fn send(
        &self,
        outgoing: &Outgoing,
        network: &Network,
        first_byte: Duration,
    ) -> Result<Response, ProviderError> {
        let provider = &outgoing.provider;
        if outgoing.body.as_ref().is_some_and(|b| b.len() > limits::REQUEST_BYTES) {
            return Err(ProviderError::new(
                Fault::ContextLength,
                provider,
                format!("the request is longer than {} bytes", limits::REQUEST_BYTES),
            ));
        }
        let client = self.client(provider, &outgoing.url, network)?;
        let mut request = match &outgoing.body {
            Some(body) => client
                .post(&outgoing.url)
                .header("content-type", "application/json")
                .body(body.clone()),
            None => client.get(&outgoing.url),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &outgoing.headers {
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_| {
                ProviderError::new(
                    Fault::Auth,
                    provider,
                    "the key holds characters that no HTTP header may hold",
                )
                .hint("check for a line break or a blank in the key")
            })?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(name), value);
        }
        request = request.headers(headers);
        let response = tokio::time::timeout(first_byte, request.send())
            .await
            .map_err(|_| {
                ProviderError::new(
                    Fault::Timeout,
                    provider,
                    format!("no answer within {} s", first_byte.as_secs_f32().ceil()),
                )
            })?
            .map_err(|e| transport(provider, &outgoing.url, e, outgoing.key.as_ref()))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.failed(outgoing, response).await)
    }

    async fn failed(&self, outgoing: &Outgoing, mut response: Response) -> ProviderError {
        let provider = &outgoing.provider;
        let status = response.status();
        if status.is_redirection() {
            return ProviderError::new(
                Fault::NotFound,
                provider,
                format!("answered with a redirect ({status}), which is not followed"),
            )
            .hint(format!("put the final address into `base_url` of [providers.{provider}]"));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let hints = {
            let headers = response.headers();
            retry::head_hints(|name| headers.get(name)?.to_str().ok(), now)
        };
        let body = read_body(&mut response, limits::ERROR_BODY_BYTES, Duration::from_secs(10))
            .await
            .unwrap_or_default();
        let mut error = wire::body_error(provider, status.as_u16(), &body);
        error.message = clean(&error.message, outgoing.key.as_ref());
        error.should_retry = hints.should_retry;
        error.retry_after = hints.after.or(error.retry_after);
        error
    }
}

/// At most `limit` bytes of a body; what is longer is cut.
pub async fn read_body(
    response: &mut Response,
    limit: usize,
    idle: Duration,
) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        match tokio::time::timeout(idle, response.chunk()).await {
            Err(_) => return Err(format!("silence for {} s", idle.as_secs())),
            Ok(Err(error)) => return Err(cause(&error)),
            Ok(Ok(None)) => return Ok(body),
            Ok(Ok(Some(bytes))) => {
                body.extend_from_slice(&bytes[..bytes.len().min(limit - body.len())]);
                if body.len() == limit {
                    return Ok(body);
                }
            }
        }
    }
}

/// What went wrong below HTTP.
fn transport(
    provider: &str,
    url: &str,
    error: reqwest::Error,
    key: Option<&Secret>,
) -> ProviderError {
    let error = error.without_url();
    let why = clean(&cause(&error), key);
    let host = reqwest::Url::parse(url).ok();
    let host = host.as_ref().map_or("the server".to_owned(), |u| {
        format!("{}:{}", u.host_str().unwrap_or("?"), u.port_or_known_default().unwrap_or(0))
    });
    if error.is_timeout() {
        return ProviderError::new(
            Fault::Network,
            provider,
            format!("{host} cannot be reached: timed out"),
        );
    }
    let mut out =
        ProviderError::new(Fault::Network, provider, format!("{host} cannot be reached: {why}"));
    if why.contains("certificate") {
        out.should_retry = Some(false);
        return out.hint("if a proxy of your organisation signs connections, name its certificate in `ca_file` of [network] in config.toml");
    } else if config::is_loopback(url) {
        // It will not come up within our pauses.
        out.should_retry = Some(false);
        out.hint = format!(
            "start the model server, or correct `base_url` of [providers.{provider}] in config.toml"
        );
    } else if !error.is_connect() {
        // The request was on its way: it may have been accepted and be billed.
        out.should_retry = Some(false);
    }
    out
}

/// The innermost cause: the outer ones only say "error sending request".
pub fn cause(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// A client of its own whose names are looked up by `names`; through a proxy, by the proxy.
pub fn guarded(
    provider: &str,
    network: &Network,
    https: bool,
    names: Arc<dyn Resolve>,
) -> Result<Client, ProviderError> {
    build_with(provider, network, https, |name| std::env::var(name).ok(), Some(names))
}

fn build(
    provider: &str,
    network: &Network,
    https: bool,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Client, ProviderError> {
    build_with(provider, network, https, env, None)
}

fn build_with(
    provider: &str,
    network: &Network,
    https: bool,
    env: impl Fn(&str) -> Option<String>,
    names: Option<Arc<dyn Resolve>>,
) -> Result<Client, ProviderError> {
    let wrong = |message: String| {
        ProviderError::new(Fault::Config, provider, message)
            .hint("correct [network] in config.toml")
    };
    // Fails only when it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("lapce-ai/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Network::seconds(network.connect_timeout_s, limits::CONNECT_TIMEOUT))
        .pool_max_idle_per_host(limits::POOL_PER_HOST)
        .pool_idle_timeout(limits::POOL_IDLE)
        .no_proxy();
    let proxies = proxies(network, https, env).map_err(wrong)?;
    if let Some(names) = names.filter(|_| proxies.is_empty()) {
        builder = builder.dns_resolver(names);
    }
    for proxy in proxies {
        builder = builder.proxy(proxy);
    }
    if https {
        if let Some(file) = &network.ca_file {
            let pem = std::fs::read(file)
                .map_err(|e| wrong(format!("ca_file {} cannot be read: {e}", file.display())))?;
            let certificates = Certificate::from_pem_bundle(&pem)
                .ok()
                .filter(|all| !all.is_empty())
                .ok_or_else(|| {
                    wrong(format!("ca_file {} holds no certificate in PEM form", file.display()))
                })?;
            builder = builder.tls_certs_merge(certificates);
        }
    } else {
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|e| wrong(format!("the HTTP client cannot be set up: {}", cause(&e))))
}

/// The proxies to use, from the configuration or the usual variables. Loopback is
/// always reached directly.
fn proxies(
    network: &Network,
    https: bool,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Vec<Proxy>, String> {
    let var = |name: &str| {
        env(name).or_else(|| env(&name.to_ascii_uppercase())).filter(|v| !v.trim().is_empty())
    };
    let url = match network.proxy.as_deref() {
        Some("none" | "") => None,
        Some(url) => Some(url.to_owned()),
        // `HTTP_PROXY` in capitals is left out: a web server sets it from a request's header.
        None if https => var("https_proxy").or_else(|| var("all_proxy")),
        None => env("http_proxy").filter(|v| !v.trim().is_empty()).or_else(|| var("all_proxy")),
    };
    let Some(url) = url else { return Ok(Vec::new()) };
    let direct =
        format!("localhost,.localhost,127.0.0.0/8,::1,{}", var("no_proxy").unwrap_or_default());
    let proxy = Proxy::all(url.as_str())
        .map_err(|_| "the proxy's address is not of the form http://host:port".to_owned())?
        .no_proxy(NoProxy::from_string(&direct));
    Ok(vec![proxy])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(
        network: &Network,
        https: bool,
        vars: &[(&str, &str)],
    ) -> Result<Client, ProviderError> {
        build("p", network, https, |name| {
            vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
        })
    }

    #[test]
    fn mistakes_in_the_network_section_are_named() {
        let network = Network { ca_file: Some("/does/not/exist.pem".into()), ..Network::default() };
        let error = built(&network, true, &[]).unwrap_err();
        assert_eq!(error.fault, Fault::Config);
        assert!(error.message.contains("/does/not/exist.pem"), "{error}");
        // Plain http does not need it.
        assert!(built(&network, false, &[]).is_ok());

        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, "nothing").unwrap();
        let network = Network { ca_file: Some(file), ..Network::default() };
        assert!(built(&network, true, &[]).unwrap_err().message.contains("no certificate"));

        let network = Network { proxy: Some("::".into()), ..Network::default() };
        assert!(built(&network, false, &[]).unwrap_err().message.contains("proxy"));
    }

    #[test]
    fn proxies_come_from_the_configuration_before_the_environment() {
        let count = |proxy: Option<&str>, https: bool, vars: &[(&str, &str)]| {
            let network = Network { proxy: proxy.map(str::to_owned), ..Network::default() };
            let env =
                |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
            proxies(&network, https, env).unwrap().len()
        };
        assert_eq!(count(None, true, &[]), 0);
        assert_eq!(count(None, true, &[("HTTPS_PROXY", "http://p:1")]), 1);
        assert_eq!(count(None, true, &[("http_proxy", "http://p:1")]), 0);
        assert_eq!(count(None, false, &[("http_proxy", "http://p:1")]), 1);
        assert_eq!(count(None, false, &[("HTTP_PROXY", "http://p:1")]), 0);
        assert_eq!(count(None, false, &[("ALL_PROXY", "socks5://p:1")]), 1);
        assert_eq!(count(Some("none"), true, &[("HTTPS_PROXY", "http://p:1")]), 0);
        assert_eq!(count(Some("http://q:1"), false, &[]), 1);
    }
}
