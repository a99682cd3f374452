//! What a call may reach over the network: nothing, unless the user's own rules or an
//! approval name hosts or ports of this machine. Pure: who enforces it is [`crate::proxy`]
//! on the host's side and an empty network namespace on the other.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::limits::NETWORK_MAX_ENTRIES;

/// Ports of a host that is named without one.
const WEB_PORTS: [u16; 2] = [80, 443];

/// Hosts and ports of this machine. The default reaches nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    hosts: Vec<Host>,
    ports: Vec<u16>,
    /// Ports that a command may listen on, reachable at this machine's loopback.
    #[serde(default)]
    listen: Vec<u16>,
}

/// A host by name, everything below a name, or an address written out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Host {
    /// Lower case, no dot at its end. Empty, with `below`: every host.
    name: String,
    /// `*.name`: names below it, not itself.
    below: bool,
    /// `None`: the ports of the web.
    port: Option<u16>,
}

impl Network {
    /// Reads entries such as `api.github.com`, `*.crates.io`, `git.example.com:8443`,
    /// `localhost:5432`, `listen:3000`. The error names the entry.
    pub fn parse<S: AsRef<str>>(entries: impl IntoIterator<Item = S>) -> Result<Self, String> {
        let mut network = Self::default();
        for entry in entries {
            network.add(entry.as_ref().trim())?;
        }
        Ok(network)
    }

    /// The same from one text, entries separated by commas or white space.
    pub fn parse_list(text: &str) -> Result<Self, String> {
        Self::parse(text.split([',', ' ', '\t', '\n']).filter(|entry| !entry.is_empty()))
    }

    fn add(&mut self, entry: &str) -> Result<(), String> {
        let bad = |why: &str| Err(format!("'{entry}' cannot be granted: {why}"));
        if self.hosts.len() + self.ports.len() + self.listen.len() >= NETWORK_MAX_ENTRIES {
            return bad(&format!("at most {NETWORK_MAX_ENTRIES} entries"));
        }
        if let Some(port) = entry.strip_prefix("listen:") {
            let Some(port) = port.parse::<u16>().ok().filter(|p| *p >= 1024) else {
                return bad("a port to listen on lies between 1024 and 65535");
            };
            if !self.listen.contains(&port) {
                self.listen.push(port);
            }
            return Ok(());
        }
        let Some((name, port)) = split(entry) else {
            return bad("write a host as in 'example.com', '*.example.com' or 'localhost:8080'");
        };
        let name = normal(name);
        if is_here(&name) {
            let Some(port) = port else { return bad("this machine needs a port, localhost:8080") };
            if !self.ports.contains(&port) {
                self.ports.push(port);
            }
            return Ok(());
        }
        let (name, below) = match name.strip_prefix("*.") {
            Some(rest) => (rest.to_owned(), true),
            None if name == "*" => (String::new(), true),
            None => (name, false),
        };
        let any = below && name.is_empty();
        if let Ok(address) = name.parse::<IpAddr>() {
            if below || never(address) {
                return bad("this address is never reachable");
            }
        } else if !any && !is_name(&name) {
            return bad("it is not the name of a host");
        }
        let host = Host { name, below, port };
        if !self.hosts.contains(&host) {
            self.hosts.push(host);
        }
        Ok(())
    }

    pub fn is_off(&self) -> bool {
        self.hosts.is_empty() && self.ports.is_empty() && self.listen.is_empty()
    }

    /// Whether any host is granted: then there is a proxy.
    pub(crate) fn has_hosts(&self) -> bool {
        !self.hosts.is_empty()
    }

    /// Ports of this machine.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Ports that a command may listen on.
    pub fn listen(&self) -> &[u16] {
        &self.listen
    }

    /// Where the proxy listens inside: no granted port.
    pub(crate) fn proxy_port(&self) -> u16 {
        (3128..=u16::MAX)
            .find(|port| !self.ports.contains(port) && !self.listen.contains(port))
            .unwrap_or(3128)
    }

    /// Whether `host` (a name or an address, as a client wrote it) may be reached at `port`.
    pub fn allows(&self, host: &str, port: u16) -> bool {
        let name = normal(host);
        let literal = name.parse::<IpAddr>();
        if literal.as_ref().is_err() && !is_name(&name) {
            return false;
        }
        self.hosts.iter().any(|granted| {
            let named = if granted.below {
                // An address is only ever granted by itself.
                literal.is_err()
                    && (granted.name.is_empty()
                        || name.strip_suffix(&granted.name).is_some_and(|r| r.ends_with('.')))
            } else {
                match (&literal, granted.name.parse::<IpAddr>()) {
                    (Ok(a), Ok(b)) => *a == b,
                    _ => granted.name == name,
                }
            };
            named && granted.port.map_or(WEB_PORTS.contains(&port), |p| p == port)
        })
    }

    /// Whether everything that `other` reaches is reached by this one too.
    pub fn covers(&self, other: &Self) -> bool {
        other.ports.iter().all(|p| self.ports.contains(p))
            && other.listen.iter().all(|p| self.listen.contains(p))
            && other.hosts.iter().all(|wanted| self.hosts.iter().any(|own| own.covers(wanted)))
    }

    /// What both reach.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        let ports = self.ports.iter().filter(|p| other.ports.contains(p)).copied().collect();
        let mine = self.hosts.iter().filter(|h| other.hosts.iter().any(|o| o.covers(h)));
        let theirs = other.hosts.iter().filter(|h| self.hosts.iter().any(|o| o.covers(h)));
        let mut hosts: Vec<Host> = mine.chain(theirs).cloned().collect();
        hosts.sort();
        hosts.dedup();
        let listen = self.listen.iter().filter(|p| other.listen.contains(p)).copied().collect();
        Self { hosts, ports, listen }
    }

    /// Adds what `other` reaches.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        let hosts = other.hosts.iter().filter(|h| !self.hosts.contains(h)).cloned();
        let hosts: Vec<Host> = hosts.collect();
        let ports: Vec<u16> =
            other.ports.iter().filter(|p| !self.ports.contains(p)).copied().collect();
        let listen: Vec<u16> =
            other.listen.iter().filter(|p| !self.listen.contains(p)).copied().collect();
        self.hosts.extend(hosts);
        self.ports.extend(ports);
        self.listen.extend(listen);
        self
    }
}

impl Host {
    fn covers(&self, other: &Self) -> bool {
        let port = self.port == other.port
            || (self.port.is_none() && other.port.is_some_and(|p| WEB_PORTS.contains(&p)));
        let is_address = other.name.parse::<IpAddr>().is_ok();
        let name = match (self.below, other.below) {
            (false, false) => self.name == other.name,
            (false, true) => false,
            (true, _) if self.name.is_empty() => !is_address,
            (true, true) if self.name == other.name => true,
            (true, _) => {
                !is_address && other.name.strip_suffix(&self.name).is_some_and(|r| r.ends_with('.'))
            }
        };
        port && name
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_off() {
            return f.write_str("no network");
        }
        let hosts = self.hosts.iter().map(|host| {
            let star = match (host.below, host.name.is_empty()) {
                (true, true) => "*",
                (true, false) => "*.",
                _ => "",
            };
            let name = if host.name.contains(':') {
                format!("[{}]", host.name)
            } else {
                host.name.clone()
            };
            let port = host.port.map(|p| format!(":{p}")).unwrap_or_default();
            format!("{star}{name}{port}")
        });
        let ports = self.ports.iter().map(|port| format!("localhost:{port}"));
        let listen = self.listen.iter().map(|port| format!("listen:{port}"));
        f.write_str(&hosts.chain(ports).chain(listen).collect::<Vec<_>>().join(", "))
    }
}

/// A host and its port, when one is written: `a`, `a:1`, `[::1]:1`, `::1`.
pub(crate) fn split(text: &str) -> Option<(&str, Option<u16>)> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|p| *p > 0);
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        return match rest.strip_prefix(':') {
            Some(given) => Some((host, Some(port(given)?))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    match text.rsplit_once(':') {
        Some((host, _)) if host.contains(':') => {
            text.parse::<std::net::Ipv6Addr>().ok()?;
            Some((text, None))
        }
        Some((host, given)) => Some((host, Some(port(given)?))).filter(|_| !host.is_empty()),
        None => (!text.is_empty()).then_some((text, None)),
    }
}

fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Whether a name means this machine.
fn is_here(name: &str) -> bool {
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_name(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    // `2130706433`, `127.1`, `0x7f.1`: resolvers read these as addresses.
    let is_number = last.starts_with("0x") || last.bytes().all(|b| b.is_ascii_digit());
    !is_number
        && name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

/// Addresses that no grant can name: this machine in other words, and link-local ones,
/// where clouds answer with credentials.
pub(crate) fn never(address: IpAddr) -> bool {
    match plain(address) {
        IpAddr::V4(v4) => {
            v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.octets()[0] == 0
                || v4.octets()[0] >= 240
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || (v6.segments()[0] & 0xffc0) == 0xfe80
                // The metadata service of one cloud over IPv6.
                || v6.segments()[..4] == [0xfd00, 0xec2, 0, 0]
        }
    }
}

/// Addresses that a *name* must not lead to: those above, and everything that is not the
/// public internet. A name that pointed elsewhere a moment ago may point there now.
pub fn private(address: IpAddr) -> bool {
    if never(address) {
        return true;
    }
    match plain(address) {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            v4.is_private()
                || v4.is_documentation()
                || matches!((a, b, c), (100, 64..128, _) | (192, 0, 0) | (198, 18..20, _))
        }
        // Only 2000::/3 is the public internet; in it, some blocks have other uses (tunnels
        // that hold an IPv4 address, documentation).
        IpAddr::V6(v6) => match v6.segments() {
            [0x2001, second, ..] => second < 0x200 || second == 0xdb8,
            [0x3fff, second, ..] => second < 0x1000,
            [first, ..] => first & 0xe000 != 0x2000,
        },
    }
}

/// The address within the address: IPv4 in IPv6 by mapping, 6to4 or NAT64.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let four = |high: u16, low: u16| {
        IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => four(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => four(high, low),
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(entries: &[&str]) -> Network {
        Network::parse(entries).unwrap()
    }

    #[test]
    fn names_match_whole_labels() {
        let n = network(&["crates.io", "*.github.com", "git.example.com:8443"]);
        for (host, port) in [
            ("crates.io", 443),
            ("CRATES.IO.", 80),
            ("api.github.com", 443),
            ("a.b.github.com", 443),
            ("git.example.com", 8443),
        ] {
            assert!(n.allows(host, port), "{host}:{port}");
        }
        for (host, port) in [
            ("evilcrates.io", 443),
            ("crates.io.evil.com", 443),
            ("crates.io", 22),
            ("github.com", 443),
            ("evilgithub.com", 443),
            ("git.example.com", 443),
            ("crates.io@evil.com", 443),
            ("crates.io\0.evil.com", 443),
            ("", 443),
            ("93.184.216.34", 443),
            ("crates.io..", 443),
            ("crates.io%2eevil.com", 443),
            ("cr\u{430}tes.io", 443),
        ] {
            assert!(!n.allows(host, port), "{host}:{port}");
        }
        assert!(!Network::default().allows("crates.io", 443));
        assert!(network(&["*"]).allows("any.example", 443));
        assert!(!network(&["*"]).allows("1.2.3.4", 443), "an address is granted by itself only");
        for address in ["134744072", "0x08080808", "8.8.2056", "8.0x8.8.8", "8.8.8.8."] {
            assert!(!network(&["*"]).allows(address, 443), "{address}, an address all the same");
        }
        assert!(network(&["*"]).allows("8.8.8.8.example", 443));
        assert!(network(&["10.0.0.5:5000"]).allows("10.0.0.5", 5000));
    }

    #[test]
    fn this_machine_is_granted_by_port() {
        let n = network(&["localhost:5432", "127.0.0.1:3128", "[::1]:9"]);
        assert_eq!(n.ports(), [5432, 3128, 9]);
        assert_eq!(n.proxy_port(), 3129);
        assert!(!n.allows("localhost", 5432), "not by the proxy");
        assert_eq!(n.to_string(), "localhost:5432, localhost:3128, localhost:9");
        for bad in [
            "localhost",
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0:80",
            "a b",
            "a:0",
            "a:x",
            "",
            "*.*",
            "[::ffff:169.254.169.254]:80",
            "http://a.com",
            "fe80::1",
            "[fe80::1%eth0]:80",
            "2130706433:80",
            "0x7f000001:80",
            "127.1:80",
            "*.1",
            "a.com@b.com",
        ] {
            assert!(Network::parse([bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn sets_are_compared() {
        let server = network(&["listen:3000", "localhost:3000"]);
        assert_eq!(server.to_string(), "localhost:3000, listen:3000");
        assert!(!network(&["localhost:3000"]).covers(&server) && server.covers(&server));
        assert!(server.common(&network(&["listen:3001"])).is_off());
        assert!(Network::parse(["listen:80"]).is_err() && Network::parse(["listen:x"]).is_err());
        let rules = network(&["*.crates.io", "crates.io", "localhost:1"]);
        assert!(rules.covers(&network(&["static.crates.io", "crates.io:443"])));
        assert!(!rules.covers(&network(&["crates.io:22"])));
        assert!(!rules.covers(&network(&["*.io"])));
        assert!(rules.covers(&Network::default()));
        let both = rules.common(&network(&["static.crates.io", "github.com", "localhost:2"]));
        assert_eq!(both.to_string(), "static.crates.io");
        assert_eq!(
            both.with(&network(&["localhost:2"])).to_string(),
            "static.crates.io, localhost:2"
        );
        assert_eq!(
            Network::parse_list("a.com, b.com\nc.com").unwrap().to_string(),
            "a.com, b.com, c.com"
        );
    }

    #[test]
    fn private_addresses_in_every_disguise() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.0.8",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "::7f00:1",
            "2001:db8::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "3fff::1",
        ] {
            assert!(private(address.parse().unwrap()), "{address}");
        }
        for address in ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert!(!private(address.parse().unwrap()), "{address}");
        }
    }
}
