//! `browser_action` with a real Chromium, against pages of this machine.
//!
//! `cargo xtask test browser` fetches the browser and names it in `LAPCE_AI_TEST_CHROMIUM`
//! (and its libraries in `LAPCE_AI_TEST_CHROMIUM_LIB`).

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use lapce_ai_tools::call::ToolCall;
use lapce_ai_tools::host::{Invocation, Ledger, Outcome};
use lapce_ai_tools::sandbox::network::Network;
use serde_json::{Value, json};

use crate::support::Bench;

const PAGE: &str = r#"<!doctype html><title>A shop</title>
<style>body { margin: 0; height: 3000px } button, input { position: absolute; left: 20px; width: 160px; height: 30px }</style>
<button style="top: 20px" onclick="console.log('bought', 2); document.title = 'Sold'">Buy</button>
<button style="top: 70px" onmouseover="console.warn('hovered')">Hover</button>
<form onsubmit="console.log('sent ' + document.querySelector('input').value); return false">
<input style="top: 120px" placeholder="Your name"></form>
<button style="top: 170px" onclick="alert('really?'); console.log('asked')">Ask</button>
<button style="top: 220px" onclick="fetch('http://evil.test/').then(r => console.log('evil ' + r.status), e => console.log('evil: ' + e.message))">Leak</button>
<button style="top: 270px" onclick="fetch('http://localhost:OTHER/').then(() => console.log('other reached'), e => console.log('other: ' + e.message))">Port</button>
<p style="position: absolute; top: 320px">Welcome</p>
<script>console.log('ready')</script>"#;

/// A server of one page; says which paths it was asked for.
fn serve(page: String) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let list = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 2048];
            let n = stream.read(&mut head).unwrap_or(0);
            let line = String::from_utf8_lossy(&head[..n]).lines().next().unwrap_or("").to_owned();
            list.lock().unwrap().push(line);
            let length = page.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nAccess-Control-Allow-Origin: *\r\n\
                 Content-Length: {length}\r\nConnection: close\r\n\r\n{page}"
            );
        }
    });
    (port, asked)
}

struct Run {
    b: Bench,
    ledger: Ledger,
}

impl Run {
    fn new() -> Self {
        let program = std::env::var_os("LAPCE_AI_TEST_CHROMIUM").map(PathBuf::from);
        let program = program.expect("LAPCE_AI_TEST_CHROMIUM names the browser");
        let mut b = Bench::new();
        b.host = b.host.with_state(b.dir.path().join("state"));
        b.workspace = b.workspace.browser(program);
        if let Ok(libraries) = std::env::var("LAPCE_AI_TEST_CHROMIUM_LIB") {
            b.workspace =
                b.workspace.env("LD_LIBRARY_PATH", &libraries).readable([PathBuf::from(libraries)]);
        }
        Self { b, ledger: Ledger::for_run("run") }
    }

    async fn act(&self, params: Value) -> Outcome {
        let Value::Object(params) = params else { panic!("parameters are an object") };
        let call = ToolCall { id: "t".into(), name: "browser_action".into(), params };
        let mut invocation = Invocation::new(call, self.b.workspace.clone());
        invocation.ledger = self.ledger.clone();
        invocation.network = Network::parse(["granted.test"]).unwrap();
        self.b.host.run(invocation).await
    }

    async fn ok(&self, params: Value) -> String {
        let out = self.act(params).await;
        assert!(out.ok, "{}", out.envelope);
        out.envelope
    }
}

#[tokio::test]
#[ignore = "needs a Chromium; `cargo xtask test browser` runs it"]
async fn a_page_is_opened_looked_at_and_used() {
    let run = Run::new();
    let (other, other_asked) = serve(String::new());
    let (port, asked) = serve(PAGE.replace("OTHER", &other.to_string()));
    let out =
        run.act(json!({"action": "launch", "url": format!("http://localhost:{port}/shop")})).await;
    assert!(out.ok, "{}", out.envelope);
    assert!(asked.lock().unwrap()[0].starts_with("GET /shop "));
    for text in
        ["title=\"A shop\"", "log: ready", "100,35 button 'Buy'", "Welcome", "window=\"900,600\""]
    {
        assert!(out.envelope.contains(text), "{text}: {}", out.envelope);
    }
    // A JPEG, kept where the user can look at it.
    let picture = std::fs::read(out.screenshot.unwrap()).unwrap();
    assert!(picture.starts_with(&[0xff, 0xd8, 0xff]) && picture.len() > 2_000, "{}", picture.len());
    for layer in ["seccomp", "net-namespace", "mount-namespace", "pid-namespace"] {
        assert!(out.layers.iter().any(|l| l == layer), "{layer}: {:?}", out.absent);
    }

    let text = run.ok(json!({"action": "click", "coordinate": "100,35"})).await;
    assert!(text.contains("log: bought 2") && text.contains("title=\"Sold\""), "{text}");
    let text = run.ok(json!({"action": "hover", "coordinate": "100,85"})).await;
    assert!(text.contains("warning: hovered"), "{text}");
    run.ok(json!({"action": "click", "coordinate": "100,135"})).await;
    let text = run.ok(json!({"action": "type", "text": "Ada & <b>\n"})).await;
    assert!(text.contains("log: sent Ada & <b>"), "{text}");
    let text = run.ok(json!({"action": "click", "coordinate": "100,185"})).await;
    assert!(text.contains("dialog, dismissed: really?") && text.contains("log: asked"), "{text}");
    let text = run.ok(json!({"action": "scroll_down"})).await;
    assert!(text.contains("scrolled=\"600 of 3000\""), "{text}");
    let text = run.ok(json!({"action": "scroll_up"})).await;
    assert!(text.contains("scrolled=\"0 of 3000\""), "{text}");
    let text = run.ok(json!({"action": "resize", "size": "500,400"})).await;
    assert!(text.contains("window=\"500,400\""), "{text}");
    let out = run.act(json!({"action": "click", "coordinate": "600,10"})).await;
    assert!(!out.ok && out.envelope.contains("outside the window"), "{}", out.envelope);

    // What was not granted is not reached from a page either: a host, a port of this machine.
    run.ok(json!({"action": "click", "coordinate": "100,235"})).await;
    let out = run.act(json!({"action": "click", "coordinate": "100,285"})).await;
    assert!(out.envelope.contains("other: Failed to fetch"), "{}", out.envelope);
    assert!(other_asked.lock().unwrap().is_empty(), "the other port was reached");

    assert_eq!(run.b.host.pids().len(), 1);
    assert!(run.ok(json!({"action": "close"})).await.contains("The browser is closed."));
    assert!(run.b.host.pids().is_empty());
    let out = run.act(json!({"action": "click", "coordinate": "1,1"})).await;
    assert!(!out.ok && out.envelope.contains("no browser is open"), "{}", out.envelope);
}

#[tokio::test]
#[ignore = "needs a Chromium; `cargo xtask test browser` runs it"]
async fn a_page_cannot_reach_what_was_not_granted() {
    let run = Run::new();
    let (port, _) = serve(PAGE.into());
    run.ok(json!({"action": "launch", "url": format!("http://localhost:{port}/")})).await;
    let out = run.act(json!({"action": "click", "coordinate": "100,235"})).await;
    // The proxy's refusal, an answer without the page's permission to read it.
    assert!(out.envelope.contains("evil: Failed to fetch"), "{}", out.envelope);
    assert!(out.envelope.contains("refused: evil.test:80"), "{}", out.envelope);
    for (url, why) in [
        ("file:///etc/passwd", "no file of the workspace"),
        ("http://169.254.169.254/", "never reachable"),
        ("chrome://version", "must begin with"),
    ] {
        let out = run.act(json!({"action": "launch", "url": url})).await;
        assert!(!out.ok && out.envelope.contains(why), "{url}: {}", out.envelope);
    }
    // A file of the workspace; what git ignores and holds secrets is empty here too.
    run.b.write(".gitignore", ".env\n");
    run.b.write(".env", "hunter2");
    run.b.write("page.html", "<iframe src='.env'></iframe><p>from disk</p>");
    let root = run.b.workspace.root().display().to_string();
    let text = run.ok(json!({"action": "launch", "url": format!("file://{root}/page.html")})).await;
    assert!(text.contains("from disk"), "{text}");
    drop(run.act(json!({"action": "close"})).await);
    let text = run.ok(json!({"action": "launch", "url": format!("file://{root}/.env")})).await;
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
#[ignore = "needs a Chromium; `cargo xtask test browser` runs it"]
async fn the_browser_ends_with_its_run() {
    let mut run = Run::new();
    let (port, _) = serve(PAGE.into());
    run.ok(json!({"action": "launch", "url": format!("http://localhost:{port}/")})).await;
    let helper = run.b.host.pids()[0];
    assert!(crate::support::alive(helper));
    run.ledger = Ledger::default();
    for _ in 0..200 {
        if run.b.host.pids().is_empty() && !crate::support::alive(helper) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the browser outlived its run");
}
