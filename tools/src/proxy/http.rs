//! The head of a request to the proxy. Strict: what is not understood is refused, so that
//! the server cannot read it in another way than we did.

use crate::sandbox::network::split;

/// Headers that speak to the proxy or about this connection.
const NOT_FORWARDED: &[&str] =
    &["host", "connection", "keep-alive", "te", "trailer", "upgrade", "expect"];

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) connect: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// The head for the server; empty with `connect`.
    pub(super) forward: String,
    /// Bytes of body that follow.
    pub(super) body: u64,
}

impl Request {
    pub(super) fn parse(head: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(head).map_err(|_| "the request is not text")?;
        let text = text.strip_suffix("\r\n\r\n").ok_or("the request has no end")?;
        let mut lines = text.split("\r\n");
        let bad = |line: &str| line.bytes().any(|b| (b < b' ' && b != b'\t') || b == 0x7f);
        let first = lines.next().unwrap_or_default();
        let mut words = first.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err("the request line is not understood");
        };
        let is_method = !method.is_empty() && method.bytes().all(|b| b.is_ascii_uppercase());
        if bad(first) || !is_method || !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
            return Err("the request line is not understood");
        }
        if method == "CONNECT" {
            let (host, port) = split(target).ok_or("CONNECT needs host:port")?;
            let port = port.ok_or("CONNECT needs host:port")?;
            return Ok(Self {
                connect: true,
                host: host.into(),
                port,
                forward: String::new(),
                body: 0,
            });
        }
        let rest = target
            .strip_prefix("http://")
            .ok_or("this is a proxy: https goes through CONNECT, http with a whole address")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = split(authority).ok_or("the address names no host")?;
        let path = path.split('#').next().unwrap_or_default();
        let slash = if path.starts_with('/') { "" } else { "/" };
        let mut forward = format!(
            "{method} {slash}{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n"
        );
        let mut body = None;
        for line in lines {
            let (name, value) = line.split_once(':').ok_or("a header is not understood")?;
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if bad(line) || name.is_empty() || !name.bytes().all(token) {
                return Err("a header is not understood");
            }
            let lower = name.to_ascii_lowercase();
            if lower == "transfer-encoding" {
                return Err("a body needs a Content-Length here");
            }
            if lower == "content-length" {
                // Digits alone: `+5` is a number here and none elsewhere.
                let value = value.trim_matches([' ', '\t']);
                let length = value.parse::<u64>().ok().filter(|_| !value.starts_with('+'));
                let length = length.ok_or("Content-Length is no number")?;
                if body.replace(length).is_some() {
                    return Err("Content-Length is given twice");
                }
            }
            if NOT_FORWARDED.contains(&lower.as_str()) || lower.starts_with("proxy-") {
                continue;
            }
            forward.push_str(line);
            forward.push_str("\r\n");
        }
        forward.push_str("\r\n");
        Ok(Self {
            connect: false,
            host: host.into(),
            port: port.unwrap_or(80),
            forward,
            body: body.unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_and_rewritten() {
        let got = Request::parse(b"CONNECT crates.io:443 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!((got.connect, got.host.as_str(), got.port), (true, "crates.io", 443));
        let got = Request::parse(
            b"POST http://a.com/p?q HTTP/1.1\r\nHost: evil.com\r\nProxy-Authorization: x\r\n\
              Content-Length: 3\r\nX-A: b\r\n\r\n",
        )
        .unwrap();
        assert_eq!((got.host.as_str(), got.port, got.body), ("a.com", 80, 3));
        assert_eq!(
            got.forward,
            "POST /p?q HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\nContent-Length: 3\r\nX-A: b\r\n\r\n"
        );
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for bad in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET https://a.com/ HTTP/1.1\r\n\r\n",
            "GET http:///x HTTP/1.1\r\n\r\n",
            "GET http://a.com/ HTTP/1.1\r\nX: a\nHost: b\r\n\r\n",
            "GET http://a.com/ HTTP/1.1\r\nContent-Length : 1\r\n\r\n",
            "GET http://a.com/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "GET http://a.com/ HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
            "GET http://a.com/ HTTP/1.1\r\nContent-Length: 1\u{a0}\r\n\r\n",
            "GET http://a.com/ HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n",
            "GET http://a.com/ HTTP/1.1\r\nX: a\r\n Host: b\r\n\r\n",
            "POST http://a.com/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET http://a.com/ HTTP/2\r\n\r\n",
            "GET  http://a.com/ HTTP/1.1\r\n\r\n",
            "CONNECT a.com HTTP/1.1\r\n\r\n",
            "CONNECT [a.com]:443 HTTP/1.1\r\n\r\n",
            "CONNECT a.com:99999 HTTP/1.1\r\n\r\n",
        ] {
            assert!(Request::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
