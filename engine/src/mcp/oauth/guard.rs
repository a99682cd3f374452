//! Which addresses a login may lead to, and asking them.
//!
//! Metadata comes from outside: it must not make the engine ask this machine, the private
//! network or a cloud's metadata service. The host that the user configured, and an issuer
//! that he named, may be anywhere; every other one must be on the public internet, by https.

use std::net::SocketAddr;
use std::sync::Arc;

use lapce_ai_tools::sandbox::network::private;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, RequestBuilder, Url};
use url::Host;

use super::super::limits;
use super::config::OAuth;
use crate::config::{Network, is_loopback};
use crate::provider::http;

/// The addresses of one server's login.
#[derive(Debug, Clone)]
pub struct Guard {
    server: String,
    network: Network,
    /// Hosts that the user named.
    named: Arc<[String]>,
    /// The server itself is on this machine, so its authorization server may be too.
    here: bool,
}

/// An answer, as far as it is read.
pub struct Answer {
    pub status: u16,
    pub challenge: String,
    pub body: Vec<u8>,
}

/// Whether an address is this machine's.
pub fn is_here(url: &Url) -> bool {
    is_loopback(url.as_str())
}

impl Guard {
    /// For the server of this name at `url`.
    pub fn new(server: &str, url: &Url, oauth: &OAuth, network: &Network) -> Self {
        let issuer = oauth.issuer.as_deref().and_then(|i| Url::parse(i).ok());
        let hosts = [Some(url), issuer.as_ref()].into_iter().flatten().filter_map(Url::host_str);
        Self {
            server: server.to_owned(),
            network: network.clone(),
            named: hosts.map(str::to_ascii_lowercase).collect(),
            here: is_here(url),
        }
    }

    /// Whether an address may be asked, or shown to the user's browser, as far as it says
    /// itself; what its name leads to is looked at when it is asked.
    pub fn check(&self, url: &Url) -> Result<(), String> {
        let here = is_here(url);
        if url.scheme() != "https" && !(url.scheme() == "http" && here && self.here) {
            return Err(format!("{} is not https", shown(url)));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("{} holds a user name or password", shown(url)));
        }
        let address = match url.host() {
            Some(Host::Ipv4(v4)) => Some(v4.into()),
            Some(Host::Ipv6(v6)) => Some(v6.into()),
            Some(Host::Domain(_)) => None,
            None => return Err(format!("{} names no host", shown(url))),
        };
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        let refused = (here || address.is_some_and(private)) && !(here && self.here);
        if refused && !self.named.contains(&host) {
            return Err(format!("{} is not on the public internet", shown(url)));
        }
        Ok(())
    }

    pub async fn get(&self, url: &Url) -> Result<Answer, String> {
        self.ask(url, |client| client.get(url.clone()).header("accept", "application/json")).await
    }

    pub async fn post_json(&self, url: &Url, body: &serde_json::Value) -> Result<Answer, String> {
        let text = body.to_string();
        self.ask(url, |client| {
            client
                .post(url.clone())
                .header("content-type", "application/json")
                .header("accept", "application/json, text/event-stream")
                .body(text)
        })
        .await
    }

    /// Sends a form; `basic` is the value of an `Authorization` header.
    pub async fn post_form(
        &self,
        url: &Url,
        form: &[(&str, &str)],
        basic: Option<&str>,
    ) -> Result<Answer, String> {
        let body: String =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.ask(url, |client| {
            let mut request = client
                .post(url.clone())
                .header("content-type", "application/x-www-form-urlencoded")
                .header("accept", "application/json")
                .body(body);
            if let Some(basic) = basic
                && let Ok(mut value) = reqwest::header::HeaderValue::from_str(basic)
            {
                value.set_sensitive(true);
                request = request.header("authorization", value);
            }
            request
        })
        .await
    }

    async fn ask(
        &self,
        url: &Url,
        request: impl FnOnce(Client) -> RequestBuilder,
    ) -> Result<Answer, String> {
        self.check(url)?;
        let names: Arc<dyn Resolve> = Arc::new(Public { guard: self.clone() });
        let https = url.scheme() == "https";
        let client = http::guarded(&self.server, &self.network, https, names)
            .map_err(|e| e.message.clone())?;
        let failed =
            |e: &reqwest::Error| format!("{} cannot be reached: {}", shown(url), http::cause(e));
        let asked = async {
            let mut response =
                request(client).send().await.map_err(|e| failed(&e.without_url()))?;
            let challenge = response.headers().get("www-authenticate");
            let challenge = challenge.and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
            let status = response.status();
            if status.is_redirection() {
                return Err(format!(
                    "{} answers with a redirect, which is not followed",
                    shown(url)
                ));
            }
            let body =
                http::read_body(&mut response, limits::OAUTH_BODY_BYTES, limits::OAUTH_ANSWER)
                    .await?;
            Ok(Answer { status: status.as_u16(), challenge, body })
        };
        tokio::time::timeout(limits::OAUTH_ANSWER, asked)
            .await
            .unwrap_or_else(|_| Err(format!("{} does not answer", shown(url))))
    }
}

/// An address without what may be secret in it.
fn shown(url: &Url) -> String {
    let mut plain = url.clone();
    plain.set_query(None);
    plain.set_fragment(None);
    let _ = plain.set_username("");
    let _ = plain.set_password(None);
    lapce_ai_tools::call::one_line(plain.as_str(), 200)
}

/// The system's resolver, without answers that a name from outside must not have.
struct Public {
    guard: Guard,
}

impl Resolve for Public {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().trim_end_matches('.').to_ascii_lowercase();
        let free = self.guard.named.contains(&host)
            || (self.guard.here && (host == "localhost" || host.ends_with(".localhost")));
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.filter(|at| free || !private(at.ip())).collect();
            if found.is_empty() {
                return Err(format!("{host} is not on the public internet").into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(url: &str, issuer: Option<&str>) -> Guard {
        let oauth = OAuth { issuer: issuer.map(str::to_owned), ..OAuth::default() };
        Guard::new("s", &Url::parse(url).unwrap(), &oauth, &Network::default())
    }

    fn allows(guard: &Guard, url: &str) -> bool {
        guard.check(&Url::parse(url).unwrap()).is_ok()
    }

    #[test]
    fn a_server_outside_leads_to_the_public_internet_alone() {
        let outside = guard("https://mcp.example.com/mcp", None);
        for good in [
            "https://auth.example.com/token",
            "https://93.184.216.34/t",
            "https://mcp.example.com/t",
        ] {
            assert!(allows(&outside, good), "{good}");
        }
        for bad in [
            "http://auth.example.com/token",
            "https://127.0.0.1/t",
            "http://localhost:6379/",
            "https://localhost/",
            "https://a.localhost/",
            "https://[::1]/",
            "https://10.0.0.1/t",
            "https://192.168.1.1/",
            "https://169.254.169.254/latest/meta-data/",
            "https://[::ffff:169.254.169.254]/",
            "https://[fd00::1]/",
            "https://100.64.0.1/",
            "https://0.0.0.0/",
            "https://user:pass@auth.example.com/",
            "file:///etc/passwd",
            "javascript:alert(1)",
        ] {
            assert!(!allows(&outside, bad), "{bad}");
        }
    }

    #[test]
    fn what_the_user_named_may_be_anywhere() {
        let corporate = guard("https://10.0.0.4/mcp", Some("https://10.0.0.9/sso"));
        assert!(
            allows(&corporate, "https://10.0.0.4/x") && allows(&corporate, "https://10.0.0.9/t")
        );
        assert!(
            !allows(&corporate, "https://10.0.0.5/") && !allows(&corporate, "https://127.0.0.1/")
        );
        let here = guard("http://127.0.0.1:3845/mcp", None);
        assert!(allows(&here, "http://127.0.0.1:9/t") && allows(&here, "http://localhost/t"));
        assert!(!allows(&here, "http://10.0.0.1/") && !allows(&here, "https://10.0.0.1/"));
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_asked() {
        // The system's own name for this machine, as any name could be.
        let outside = Public { guard: guard("https://mcp.example.com/mcp", None) };
        let refused = outside.resolve("localhost".parse().unwrap()).await;
        assert!(refused.err().unwrap().to_string().contains("not on the public internet"));
        let here = Public { guard: guard("http://localhost:1/mcp", None) };
        assert!(here.resolve("localhost".parse().unwrap()).await.is_ok());
    }
}
