//! `lapce-ai mcp login` against a scripted server that is an MCP server and its own
//! authorization server, honest or not; the keyring is a scripted `secret-tool`.

mod oauth_support;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use lapce_ai_tests::{Ran, TestHome, wait};
use oauth_support::{Scripted, get, location};

struct Place {
    home: TestHome,
    root: PathBuf,
    server: Scripted,
}

impl Place {
    fn new(lie: &'static str) -> Self {
        Self::with(lie, "oauth = true")
    }

    fn with(lie: &'static str, oauth: &str) -> Self {
        let home =
            TestHome::with_programs(Path::new(env!("CARGO_BIN_EXE_lapce-ai")).parent().unwrap());
        let server = Scripted::start(lie);
        home.config(&format!("[mcp.servers.s]\nurl = \"{}/mcp\"\n{oauth}\n", server.address));
        oauth_support::keyring(&home.folder("keyring"));
        let root = home.workspace("w", &[("a", "")]);
        Self { home, root, server }
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.home.command("lapce-ai");
        let path =
            format!("{}:/usr/local/bin:/usr/bin:/bin", self.home.folder("keyring").display());
        command.env("PATH", path).args(args).current_dir(&self.root);
        command
    }

    fn cli(&self, args: &[&str]) -> Ran {
        lapce_ai_tests::run(self.command(args), b"")
    }

    /// Begins a login; gives the address for the browser.
    fn begin(&self) -> (Child, String) {
        let mut command = self.command(&["mcp", "login", "s", "--no-browser"]);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("lapce-ai starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (child, line.trim().to_owned())
    }

    /// Logs in as a browser would.
    fn log_in(&self) {
        let (mut child, address) = self.begin();
        let page = get(&location(&get(&address)));
        assert!(page.contains("200 OK") && page.contains("You are logged in"), "{page}");
        assert_eq!(wait(&mut child), Some(0));
    }

    fn kept(&self) -> Option<String> {
        std::fs::read_to_string(self.home.folder("keyring").join("mcp-oauth-s")).ok()
    }

    fn refused(lie: &'static str, words: &str) {
        let place = Self::new(lie);
        let ran = place.cli(&["mcp", "login", "s", "--no-browser"]).exited(5);
        assert!(ran.stderr.contains(words), "{lie}: {ran}");
        assert_eq!(place.kept(), None, "{lie}");
        assert!(!place.server.saw("POST /token"), "{lie}");
        place.home.assert_nothing_left();
    }
}

#[test]
fn a_login_gives_a_token_that_is_renewed_and_forgotten() {
    let place = Place::new("");
    let before = place.cli(&["mcp", "test", "s"]).exited(5);
    assert!(before.stderr.contains("lapce-ai mcp login s"), "{before}");
    place.log_in();
    let kept = place.kept().unwrap();
    assert!(kept.contains("access-1") && kept.contains("refresh-1"), "{kept}");
    let tested = place.cli(&["mcp", "test", "s"]).ok();
    assert!(tested.stdout.contains("hello"), "{tested}");

    // The server takes that token no more, in the middle of a connection: one renewal.
    place.server.expire();
    let json = r#"{"server_name":"s","tool_name":"hello","arguments":{}}"#;
    let call = ["tool", "run", "use_mcp_tool", "--json", json];
    let called = place.cli(&call).ok();
    assert!(called.stdout.contains("token was [key]"), "{called}");
    assert!(place.kept().unwrap().contains("access-2"));
    assert_eq!(place.server.count("POST /token"), 2);

    // The login itself ends: the user is told what to do.
    place.server.end_login();
    let over = place.cli(&call);
    assert!(over.to_string().contains("lapce-ai mcp login s"), "{over}");
    place.log_in();
    place.cli(&["mcp", "test", "s"]).ok();

    let out = place.cli(&["mcp", "logout", "s"]).ok();
    assert!(out.stdout.contains("logged out of s"), "{out}");
    assert_eq!(place.kept(), None);
    assert!(place.server.saw("POST /revoke"));
    let after = place.cli(&["mcp", "test", "s"]).exited(5);
    assert!(after.stderr.contains("it wants a login"), "{after}");

    // No token, code or verifier in a log, a file of ours, or a command line.
    let log = place.home.log();
    let lines =
        std::fs::read_to_string(place.home.folder("keyring").join("command-lines")).unwrap();
    assert!(lines.contains("store") && log.contains("was renewed"), "{lines}");
    for secret in ["access-", "refresh-", "code-", "code_challenge", "state="] {
        assert!(!log.contains(secret) && !lines.contains(secret), "{secret} in {lines} {log}");
        assert!(!files(&place.home.paths().data).contains(secret), "{secret}");
        assert!(!files(&place.home.paths().state).contains(secret), "{secret}");
    }
    place.home.assert_nothing_left();
}

/// All text below a folder.
fn files(dir: &Path) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.push_str(&files(&path));
        } else {
            all.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()));
        }
    }
    all
}

#[test]
fn the_request_is_the_one_of_the_specification() {
    let place = Place::with("", "oauth = { scopes = [\"read\"] }");
    let (mut child, address) = place.begin();
    let url = |name: &str| oauth_support::parameter(&address, name).unwrap_or_default();
    assert_eq!(
        (url("response_type").as_str(), url("code_challenge_method").as_str()),
        ("code", "S256")
    );
    assert_eq!(
        (url("client_id").as_str(), url("scope").as_str()),
        ("client-1", "read offline_access")
    );
    assert_eq!(url("resource"), format!("{}/mcp", place.server.address));
    assert!(url("redirect_uri").starts_with("http://127.0.0.1:"), "{address}");
    assert!(url("state").len() >= 43 && url("code_challenge").len() == 43, "{address}");
    get(&location(&get(&address)));
    assert_eq!(wait(&mut child), Some(0));
    // The scripted server checks the verifier against the challenge, and the resource.
    let token = place.server.last("POST /token");
    assert!(
        token.contains("grant_type=authorization_code") && token.contains("code_verifier="),
        "{token}"
    );
    assert!(
        place.server.last("POST /register").contains("\"token_endpoint_auth_method\":\"none\"")
    );
    place.home.assert_nothing_left();
}

#[test]
fn a_redirect_that_is_not_of_this_login_changes_nothing() {
    let place = Place::new("");
    let (mut child, address) = place.begin();
    let right = location(&get(&address));
    for wrong in [
        right.replace("state=", "state=x"),
        right.replace("code=", "kode="),
        right.replace("iss=", "iss=https://evil.example/"),
        right.split('&').next().unwrap().to_owned(),
    ] {
        let page = get(&wrong);
        assert!(page.contains("400 Bad Request"), "{wrong}: {page}");
    }
    assert!(child.try_wait().unwrap().is_none() && !place.server.saw("POST /token"));
    assert!(get(&right).contains("200 OK"));
    assert_eq!(wait(&mut child), Some(0));
    assert!(place.kept().is_some());
    place.home.assert_nothing_left();
}

#[test]
fn a_refusal_is_told_and_giving_up_closes_the_door() {
    let place = Place::new("denies");
    let (mut child, address) = place.begin();
    assert!(get(&location(&get(&address))).contains("was refused"));
    assert_eq!(wait(&mut child), Some(5));
    let (mut child, address) = place.begin();
    let redirect = oauth_support::parameter(&address, "redirect_uri").unwrap();
    lapce_ai_tests::kill(child.id(), libc::SIGTERM);
    assert_ne!(wait(&mut child), Some(0));
    let port = redirect.rsplit(':').next().unwrap().split('/').next().unwrap().to_owned();
    lapce_ai_tests::wait_for("the port to close", || {
        std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_err()
    });
    assert_eq!(place.kept(), None);
    place.home.assert_nothing_left();
}

#[test]
fn metadata_that_leads_elsewhere_is_refused() {
    Place::refused("metadata elsewhere", "another host");
    Place::refused("another resource", "another resource");
    Place::refused("issuer inside", "not on the public internet");
    Place::refused("issuer in the clear", "is not https");
    Place::refused("another issuer", "says that it is");
    Place::refused("token elsewhere", "not on the public internet");
    Place::refused("browser elsewhere", "is not https");
    Place::refused("redirects", "redirect, which is not followed");
    Place::refused("no pkce", "PKCE");
    Place::refused("no registration", "registers no clients");
    Place::refused("knows whom it wants", "does not register this client");
    Place::refused("endless", "its metadata");
    Place::refused("open", "answers without a login");
}

#[test]
fn a_changed_address_gets_no_token() {
    let place = Place::new("");
    place.log_in();
    let other = Scripted::start("");
    place.home.config(&format!("[mcp.servers.s]\nurl = \"{}/mcp\"\noauth = true\n", other.address));
    let refused = place.cli(&["mcp", "test", "s"]).exited(5);
    assert!(refused.stderr.contains("its address has changed since the login"), "{refused}");
    assert!(!other.saw("access-1"));
    place.home.assert_nothing_left();
}

#[test]
fn a_token_does_not_follow_a_redirect() {
    let other = Scripted::start("");
    let lie: &'static str = Box::leak(format!("moves to {}", other.address).into_boxed_str());
    let place = Place::new(lie);
    place.log_in();
    place.cli(&["mcp", "test", "s"]).exited(5);
    assert!(place.server.saw("access-1") && !other.saw("/mcp"), "nobody asked the other one");
    place.home.assert_nothing_left();
}

#[test]
fn a_server_without_oauth_is_not_logged_in_to() {
    let place = Place::with("", "");
    let none = place.cli(&["mcp", "login", "s"]).exited(2);
    assert!(none.stderr.contains("has no login") && none.stderr.contains("oauth = true"), "{none}");
    let wants = place.cli(&["mcp", "test", "s"]).exited(5);
    assert!(wants.stderr.contains("it wants a key or a login"), "{wants}");
    place.cli(&["mcp", "login", "nobody"]).exited(3);
    place.home.assert_nothing_left();
}
