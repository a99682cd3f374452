//! Waits on this machine's loopback address for the browser to come back with a code.
//!
//! Anything may connect to the port: only a request that carries this login's `state` counts,
//! everything else is answered with an error and waited past.

use reqwest::Url;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::super::limits;
use super::super::text;

const PATH: &str = "/callback";

/// The listening socket of one login.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    port: u16,
}

/// What a redirect brought.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Code(String),
    /// The authorization server says no.
    Refused(String),
    /// Not of this login.
    Stray(&'static str),
}

impl Listener {
    pub async fn open(port: Option<u16>) -> Result<Self, String> {
        let wanted = port.unwrap_or(0);
        let failed = |e| format!("port {wanted} of 127.0.0.1 cannot be listened on: {e}");
        let socket = TcpListener::bind(("127.0.0.1", wanted)).await.map_err(failed)?;
        let port = socket.local_addr().map_err(failed)?.port();
        Ok(Self { socket, port })
    }

    /// Where the browser is to be sent.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}{PATH}", self.port)
    }

    /// The code of the login with this `state`. `issuer` must be named by a redirect that
    /// names one; with `named`, every one must.
    pub async fn code(&self, state: &str, issuer: &str, named: bool) -> Result<String, String> {
        loop {
            let Ok((mut stream, _)) = self.socket.accept().await else {
                tokio::time::sleep(limits::CALLBACK_READ).await;
                continue;
            };
            let head = tokio::time::timeout(limits::CALLBACK_READ, head(&mut stream)).await;
            let Ok(Some(head)) = head else { continue };
            let came = came(&head, state, issuer, named);
            let (status, says) = match &came {
                Came::Code(_) => ("200 OK", "You are logged in. This page can be closed."),
                Came::Refused(_) => ("200 OK", "The login was refused. This page can be closed."),
                Came::Stray(why) => ("400 Bad Request", *why),
            };
            let page = format!(
                "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
                 cache-control: no-store\r\nreferrer-policy: no-referrer\r\nconnection: close\r\n\r\n{says}",
                says.len()
            );
            let send = async {
                let _ = stream.write_all(page.as_bytes()).await;
                let _ = stream.shutdown().await;
            };
            let _ = tokio::time::timeout(limits::CALLBACK_READ, send).await;
            match came {
                Came::Code(code) => return Ok(code),
                Came::Refused(why) => return Err(why),
                Came::Stray(_) => {}
            }
        }
    }
}

/// The head of a request, if it is one of a bearable length.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        let n = stream.read(&mut piece).await.ok()?;
        head.extend_from_slice(&piece[..n]);
        if n == 0 || head.len() > limits::CALLBACK_BYTES {
            return None;
        }
    }
    String::from_utf8(head).ok()
}

fn came(head: &str, state: &str, issuer: &str, named: bool) -> Came {
    let line = head.lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    let (Some("GET"), Some(target)) = (words.next(), words.next()) else {
        return Came::Stray("This is not a login.");
    };
    let here = Url::parse("http://127.0.0.1").ok();
    let url = here.as_ref().and_then(|here| here.join(target).ok());
    let Some(url) = url.filter(|url| here.is_some_and(|here| here.origin() == url.origin())) else {
        return Came::Stray("This is not a login.");
    };
    if url.path() != PATH || !target.starts_with('/') {
        return Came::Stray("There is nothing here.");
    }
    let one = |name: &str| {
        let mut values = url.query_pairs().filter(|(n, _)| n == name).map(|(_, v)| v.into_owned());
        values.next().filter(|_| values.next().is_none())
    };
    if one("state").as_deref() != Some(state) {
        return Came::Stray("This belongs to another login.");
    }
    // A mix-up: the code of one authorization server, meant to be given to another.
    let came_from = one("iss");
    if came_from
        .as_deref()
        .map_or(named, |iss| iss.trim_end_matches('/') != issuer.trim_end_matches('/'))
    {
        return Came::Stray("This comes from another authorization server.");
    }
    if let Some(error) = one("error") {
        let more = one("error_description").unwrap_or_default();
        let said = text::description(Some(format!("{error} {more}").trim()));
        return Came::Refused(format!("the authorization server refused: {said}"));
    }
    match one("code") {
        Some(code) if !code.is_empty() => Came::Code(code),
        _ => Came::Stray("There is no code."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(target: &str, named: bool) -> Came {
        came(&format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n"), "s1", "https://b.org", named)
    }

    #[test]
    fn only_the_redirect_of_this_login_counts() {
        assert_eq!(of("/callback?code=c&state=s1", false), Came::Code("c".into()));
        assert_eq!(
            of("/callback?code=c&state=s1&iss=https%3A%2F%2Fb.org%2F", true),
            Came::Code("c".into())
        );
        for stray in [
            "/callback?code=c",
            "/callback?code=c&state=s2",
            "/callback?code=c&state=",
            "/callback?code=c&state=s1&state=s2",
            "/callback?code=c&code=d&state=s1",
            "/callback?state=s1",
            "/other?code=c&state=s1",
            "http://evil.org/callback?code=c&state=s1",
            "//evil.org/callback?code=c&state=s1",
            "/callback?code=c&state=s1&iss=https://evil.org",
            "/callback?error=access_denied&state=s2",
        ] {
            assert!(matches!(of(stray, false), Came::Stray(_)), "{stray}");
        }
        assert!(
            matches!(of("/callback?code=c&state=s1", true), Came::Stray(_)),
            "must name itself"
        );
        assert!(matches!(
            came("POST /callback?code=c&state=s1 HTTP/1.1", "s1", "", false),
            Came::Stray(_)
        ));
        let Came::Refused(why) =
            of("/callback?error=access_denied&error_description=no%1b%5b2J&state=s1", false)
        else {
            panic!()
        };
        assert!(why.contains("access_denied no") && !why.contains('\u{1b}'), "{why}");
    }

    #[tokio::test]
    async fn strays_and_silent_peers_do_not_end_the_wait() {
        let listener = Listener::open(None).await.unwrap();
        let address = listener.address();
        assert!(address.starts_with("http://127.0.0.1:") && address.ends_with("/callback"));
        let port = listener.port;
        let ask = async |text: Vec<u8>| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            // It may have been closed already.
            let _ = stream.write_all(&text).await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        };
        let others = async {
            drop(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
            assert_eq!(ask(vec![b'x'; limits::CALLBACK_BYTES * 2]).await, "");
            assert!(
                ask(b"GET /callback?code=a&state=s2 HTTP/1.1\r\n\r\n".to_vec())
                    .await
                    .contains("400")
            );
            let page = ask(b"GET /callback?code=a%26b&state=s1 HTTP/1.1\r\n\r\n".to_vec()).await;
            assert!(page.contains("200 OK") && page.ends_with("can be closed."), "{page}");
        };
        let (code, ()) = tokio::join!(listener.code("s1", "https://b.org", false), others);
        assert_eq!(code.unwrap(), "a&b");
        assert!(Listener::open(Some(port)).await.unwrap_err().contains("cannot be listened on"));
    }
}
