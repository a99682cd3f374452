//! A granted network: what is granted works, and nothing else does. Each way out is first
//! shown to work outside the sandbox.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lapce_ai_tools::host::{Outcome, ToolHost};
use lapce_ai_tools::proxy::{Dialer, SystemDialer};
use lapce_ai_tools::sandbox::layer;
use serde_json::json;

use crate::support::{Bench, helper};

/// A web server on this machine that says which host it was asked for.
fn web_server() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
                    head.push(byte[0]);
                }
                let text = String::from_utf8_lossy(&head).into_owned();
                let host = text.lines().find_map(|l| l.strip_prefix("Host: ")).unwrap_or("?");
                let body = format!("served {host}\n");
                let length = body.len();
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
            });
        }
    });
    (port, served)
}

/// A small internet: public names lead to public addresses, all of which are one server of
/// this machine; some names lead to where they must not.
#[derive(Debug)]
struct Internet {
    server: u16,
    /// What was really connected to.
    connected: Arc<std::sync::Mutex<Vec<SocketAddr>>>,
    /// Answers of the resolver for `rebinding.test`, one after the other.
    asked: AtomicUsize,
}

impl Dialer for Internet {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> std::pin::Pin<Box<dyn Future<Output = std::io::Result<Vec<SocketAddr>>> + Send + 'a>> {
        let address = match host {
            "metadata.test" => "169.254.169.254",
            "intranet.test" => "10.0.0.7",
            "mapped.test" => "::ffff:127.0.0.1",
            "rebinding.test" if self.asked.fetch_add(1, Ordering::SeqCst) > 0 => "127.0.0.1",
            _ => "93.184.216.34",
        };
        let address = SocketAddr::new(address.parse().unwrap(), port);
        Box::pin(async move { Ok(vec![address]) })
    }

    fn connect(
        &self,
        to: SocketAddr,
    ) -> std::pin::Pin<Box<dyn Future<Output = std::io::Result<tokio::net::TcpStream>> + Send + '_>>
    {
        self.connected.lock().unwrap().push(to);
        Box::pin(async move { SystemDialer.connect(([127, 0, 0, 1], self.server).into()).await })
    }
}

struct Net {
    b: Bench,
    server: u16,
    connected: Arc<std::sync::Mutex<Vec<SocketAddr>>>,
}

impl Net {
    fn new() -> Self {
        let (server, _) = web_server();
        let connected = Arc::default();
        let internet =
            Internet { server, connected: Arc::clone(&connected), asked: AtomicUsize::new(0) };
        let mut b = Bench::new();
        b.host = ToolHost::new(helper()).with_dialer(Arc::new(internet));
        Self { b, server, connected }
    }

    async fn sh(&self, network: &str, command: &str) -> Outcome {
        let params = json!({"command": command, "network": network, "timeout": 20});
        self.b.call("execute_command", params).await
    }
}

fn outside(command: &str) -> (bool, String) {
    // Without the proxies that this machine may have.
    let out = Command::new("/bin/bash")
        .args(["-c", command])
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap())
        .output()
        .unwrap();
    (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned())
}

#[tokio::test]
async fn a_granted_host_is_reached_by_name_through_the_proxy() {
    let net = Net::new();
    let out = net.sh("granted.test", "curl -sS http://granted.test/x").await;
    assert!(out.ok && out.envelope.contains("served granted.test"), "{}", out.envelope);
    // Through CONNECT too; the tunnel is not looked into.
    let out = net.sh("granted.test", "curl -sS -p http://granted.test:80/x").await;
    assert!(out.ok && out.envelope.contains("served granted.test"), "{}", out.envelope);
    let out = net.sh("*.test:8080", "curl -sS http://a.test:8080/ http://b.test:8080/").await;
    assert!(out.ok && out.envelope.contains("served b.test:8080"), "{}", out.envelope);
    assert!(net.connected.lock().unwrap().iter().all(|a| a.ip().to_string() == "93.184.216.34"));
}

#[tokio::test]
async fn a_host_that_is_not_granted_is_refused_by_name() {
    let net = Net::new();
    for command in [
        "curl -sS --fail http://evil.test/",
        "curl -sS --fail -p http://evil.test:80/",
        "curl -sS --fail http://granted.test:22/",
        "curl -sS --fail http://granted.test.evil.test/",
        // The name in the Host header is not what decides, and is replaced.
        "curl -sS --fail -H 'Host: granted.test' http://evil.test/",
    ] {
        let out = net.sh("granted.test", command).await;
        assert!(!out.ok && !out.envelope.contains("\nserved"), "{command}: {}", out.envelope);
        assert!(out.envelope.contains("refused: "), "{command}: {}", out.envelope);
    }
    assert!(net.connected.lock().unwrap().is_empty());
    let out = net.sh("granted.test", "curl -sS -H 'Host: other.test' http://granted.test/").await;
    assert!(out.envelope.contains("served granted.test"), "{}", out.envelope);
    // The proxy's own answer says what to do.
    let out = net.sh("granted.test", "curl -sS http://evil.test/").await;
    assert!(out.envelope.contains("evil.test:80 is not granted to this call"), "{}", out.envelope);
}

#[tokio::test]
async fn a_granted_name_cannot_lead_to_a_private_address() {
    let net = Net::new();
    let names = "metadata.test intranet.test mapped.test";
    for host in names.split(' ') {
        let out = net.sh(names, &format!("curl -sS --fail http://{host}/latest/meta-data/")).await;
        assert!(!out.ok && out.envelope.contains("refused: "), "{host}: {}", out.envelope);
    }
    assert!(net.connected.lock().unwrap().is_empty());
    // Rebinding: the second answer leads home. Judged again, and refused.
    let twice = "curl -sS http://rebinding.test/; curl -sS --fail http://rebinding.test/";
    let out = net.sh("rebinding.test", twice).await;
    assert!(!out.ok && out.envelope.contains("served rebinding.test"), "{}", out.envelope);
    assert_eq!(net.connected.lock().unwrap().len(), 1);
    // Written out, these addresses cannot even be granted.
    for host in ["169.254.169.254", "127.0.0.1", "localhost", "[fe80::1]:80"] {
        let out = net.sh(host, "true").await;
        assert!(!out.ok && out.envelope.contains("cannot be granted"), "{}", out.envelope);
    }
}

#[tokio::test]
async fn nothing_but_the_proxy_leads_out() {
    let net = Net::new();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_nonblocking(true).unwrap();
    let udp_port = udp.local_addr().unwrap().port();
    let unix = net.b.path("host.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&unix).unwrap();
    let unix = unix.display();
    let port = net.server;
    let python = |script: &str| format!("python3 -c '{script}'");
    let commands = [
        // Raw TCP to an address, past the proxy.
        format!("curl -sS --noproxy '*' http://127.0.0.1:{port}/"),
        python(&format!(
            "import socket; socket.create_connection((\"127.0.0.1\", {port}), 3); print(\"served\")"
        )),
        // UDP, and with it DNS.
        python(&format!(
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b\"x\", (\"127.0.0.1\", {udp_port})); print(\"served\")"
        )),
        // A socket that a program outside listens on, in the workspace.
        python(&format!(
            "import socket; s = socket.socket(socket.AF_UNIX); s.connect(\"{unix}\"); print(\"served\")"
        )),
        python(
            "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW); print(\"served\")",
        ),
    ];
    for command in &commands {
        let (worked, text) = outside(command);
        assert!(worked && text.contains("served"), "outside, this must work: {command}\n{text}");
        let out = net.sh("granted.test", command).await;
        assert!(out.envelope.contains("Exit code:"), "it must have run: {}", out.envelope);
        assert!(!out.ok && !out.envelope.contains("\nserved"), "{command}: {}", out.envelope);
    }
    let mut buffer = [0; 8];
    assert_eq!(udp.recv(&mut buffer).unwrap(), 1, "the one from outside");
    assert!(udp.recv(&mut buffer).is_err(), "none from inside");
    // Names are resolved by the proxy alone: even one from the system's own file is none
    // inside when it is asked of the network.
    let (worked, _) = outside("getent hosts localhost");
    assert!(worked);
    let script = "import socket; socket.getaddrinfo(\"granted.test\", 80)";
    let out = net.sh("granted.test", &python(script)).await;
    assert!(!out.ok && out.envelope.contains("gaierror"), "{}", out.envelope);
    // The clouds' metadata address, past the proxy.
    let out = net.sh("granted.test", "curl -sS --noproxy '*' -m 3 http://169.254.169.254/").await;
    assert!(!out.ok, "{}", out.envelope);
}

#[tokio::test]
async fn a_port_of_this_machine_is_reached_when_it_is_granted_and_no_other() {
    let net = Net::new();
    let (other, served) = web_server();
    let port = net.server;
    let out =
        net.sh(&format!("localhost:{port}"), &format!("curl -sS http://localhost:{port}/")).await;
    assert!(out.ok && out.envelope.contains("served localhost"), "{}", out.envelope);
    let command = format!("curl -sS http://127.0.0.1:{other}/");
    assert!(outside(&command).1.contains("served"));
    let before = served.load(Ordering::SeqCst);
    let out = net.sh(&format!("localhost:{port}"), &command).await;
    assert!(!out.ok && !out.envelope.contains("served"), "{}", out.envelope);
    assert_eq!(served.load(Ordering::SeqCst), before);
    // Nor can it be reached through the proxy.
    let command =
        format!("curl -sS --fail --noproxy none -x http://127.0.0.1:3128 http://localhost:{port}/");
    let out = net.sh("granted.test", &command).await;
    assert!(!out.ok && out.envelope.contains("refused: "), "{}", out.envelope);
}

#[tokio::test]
async fn off_is_the_default() {
    let net = Net::new();
    let out = net.b.sh("env | grep -i proxy; curl -sS http://granted.test/").await;
    assert!(!out.ok && !out.envelope.contains("127.0.0.1"), "{}", out.envelope);
}

/// Without a network namespace nothing would keep a command to what was granted.
#[tokio::test]
async fn no_namespace_no_network() {
    let net = Net::new();
    let b = net.b.without(&[layer::NET]);
    let params = json!({"command": "echo ran", "network": "granted.test"});
    let out = b.call("execute_command", params).await;
    assert!(!out.ok && out.envelope.contains("was not run: it was granted"), "{}", out.envelope);
    assert!(b.call("execute_command", json!({"command": "echo ran"})).await.ok);
}

/// A server that a command starts is reached at the port that was granted to it, as long as
/// it runs, and at no other.
#[tokio::test]
async fn a_port_to_listen_on_is_reached_from_outside() {
    let mut net = Net::new();
    net.b.host = net.b.host.with_state(net.b.dir.path().join("state"));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    net.b.write("index.html", "from inside");
    let serve = format!("python3 -m http.server --bind 127.0.0.1 {port}");
    let get = format!(
        "for i in 1 2 3 4 5 6 7 8 9; do curl -sS http://127.0.0.1:{port}/ && break; sleep 0.5; done"
    );
    // Without the grant it does not come up.
    assert!(!net.sh("granted.test", &serve).await.ok);
    let ledger = lapce_ai_tools::host::Ledger::for_run("run");
    let params = json!({"command": serve, "network": format!("listen:{port}"), "background": true});
    let mut invocation = net.b.invocation("execute_command", params);
    invocation.ledger = ledger.clone();
    let out = net.b.host.run(invocation).await;
    assert!(out.ok && out.envelope.contains("running for"), "{}", out.envelope);
    let get_it = get.clone();
    let text = tokio::task::spawn_blocking(move || outside(&get_it).1).await.unwrap();
    assert!(text.contains("from inside"), "{text}");
    // Another call reaches it by a grant of its own, and the end of the run ends it.
    let out = net.sh(&format!("localhost:{port}"), &get).await;
    assert!(out.ok && out.envelope.contains("from inside"), "{}", out.envelope);
    drop(ledger);
    for _ in 0..200 {
        if net.b.host.pids().is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let command = format!("curl -sS http://127.0.0.1:{port}/");
    let reached = tokio::task::spawn_blocking(move || outside(&command).0).await.unwrap();
    assert!(!reached, "it was reached after its end");
}

/// Many connections are served side by side.
#[tokio::test]
async fn many_connections_at_once() {
    let net = Net::new();
    let command = "for i in $(seq 100); do curl -sS http://granted.test/$i & done; wait";
    let out = net.sh("granted.test", command).await;
    assert_eq!(out.envelope.matches("served granted.test").count(), 100, "{}", out.envelope);
}
