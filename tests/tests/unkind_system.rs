//! A full disk, folders without permission, another release's engine: each a clear error
//! that names the next step, and nothing lost.

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use lapce_ai_ipc::wire::WireError;
use lapce_ai_ipc::wire::engine::{Event, Reply, Request};
use lapce_ai_ipc::{Cx, EngineProtocol, Handler, Ident, Protocol, serve};
use lapce_ai_tests::{Ran, TestHome, alive, bound_by_permissions, run, small_disk, wait_for};
use support::{best, index, repository, search};

fn cli(home: &TestHome, args: &[&str]) -> Command {
    let mut command = home.command("lapce-ai");
    command.args(args);
    command
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_full_disk_fails_the_build_and_the_engine_goes_on() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    let root = root.to_str().unwrap();
    // The engine this starts, and its builds, see a data folder of a few pages.
    let mut command = cli(&home, &["index", root]);
    small_disk(&mut command, &home.paths().data, 64 << 10);
    let ran = run(command, b"");
    assert!(matches!(ran.code, Some(1 | 5 | 7)), "{ran}");
    let words = ran.stderr.to_lowercase();
    assert!(words.contains("no space left") || words.contains("disk is full"), "{ran}");
    assert!(!words.contains("panicked"), "{ran}");
    let engine = home.engine_pid().unwrap();
    // Nothing searchable came of it, and that is said.
    let ran = run(cli(&home, &["search", "retry", "--root", root]), b"");
    assert!(matches!(ran.code, Some(0 | 3 | 5)), "{ran}");
    assert_eq!(home.engine_pid(), Some(engine), "{ran}");
    home.assert_nothing_left();
}

#[test]
fn a_full_disk_under_the_log_costs_lines_only() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    let mut command = cli(&home, &["index", root.to_str().unwrap(), "--json"]);
    small_disk(&mut command, &home.paths().state, 4096);
    let first = run(command, b"").ok();
    assert_eq!(first.json_lines().last().unwrap()["reply"]["files"], 7, "{first}");
    for _ in 0..20 {
        home.cli(["search", "frobnicate", "--root", "/no/such/folder"]).exited(3);
    }
    assert!(!search(&home, &root, "exponential backoff").is_empty());
    home.assert_nothing_left();
}

#[test]
fn folders_without_permission_are_named() {
    let home = TestHome::new();
    let closed = home.workspace("closed", &[("a.rs", "fn a() {}\n")]);
    let partly =
        home.workspace("partly", &[("a.rs", "fn open_door() {}\n"), ("b/b.rs", "fn b() {}\n")]);
    mode(&closed, 0o000);
    mode(&partly.join("b"), 0o000);
    let bound = |args: &[&str]| -> Ran {
        let mut command = cli(&home, args);
        bound_by_permissions(&mut command);
        run(command, b"")
    };
    let closed_path = closed.to_str().unwrap();
    for args in [&["index", closed_path][..], &["search", "x", "--root", closed_path]] {
        let ran = bound(args).exited(4);
        assert!(ran.stderr.contains(&format!("{closed_path} cannot be read")), "{ran}");
        assert!(ran.stderr.contains("next: check its permissions"), "{ran}");
    }
    // What can be read is indexed.
    bound(&["index", partly.to_str().unwrap()]).ok();
    assert_eq!(best(&home, &partly, "open door"), "a.rs");
    home.assert_nothing_left();

    // A data folder that cannot be written.
    std::fs::remove_dir_all(home.paths().data).unwrap();
    mode(home.path(), 0o500);
    let ran = bound(&["index", partly.to_str().unwrap()]);
    mode(home.path(), 0o700);
    assert_eq!(ran.code, Some(5), "{ran}");
    assert!(ran.stderr.to_lowercase().contains("permission denied"), "{ran}");
    mode(&closed, 0o700);
    mode(&partly.join("b"), 0o700);
    home.assert_nothing_left();
}

#[test]
fn a_broken_config_is_named_and_stops_nothing_else() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    index(&home, &root);
    home.config("[models]\nchat = 7\n");
    let ran = home.cli_in(&root, ["ask", "what retries?"]).exited(2);
    assert!(ran.stderr.contains("config.toml"), "{ran}");
    assert!(ran.stderr.contains("line 2"), "{ran}");
    let status = home.cli(["status"]).ok();
    assert!(status.stdout.contains("config.toml"), "{status}");
    assert!(!search(&home, &root, "exponential backoff").is_empty());
    home.assert_nothing_left();
}

/// The engine of a release with other messages.
struct OtherRelease;

impl Protocol for OtherRelease {
    type Request = Request;
    type Event = Event;
    type Reply = Reply;
    const NAME: &'static str = EngineProtocol::NAME;
    const SCHEMA: u64 = EngineProtocol::SCHEMA ^ 1;
}

impl Handler<OtherRelease> for OtherRelease {
    async fn handle(&self, _: Request, _: Cx<OtherRelease>) -> Result<Reply, WireError> {
        Ok(Reply::Pong)
    }
}

const PLAY: &str = "LAPCE_AI_TEST_OTHER_RELEASE";

/// Not a test: that engine, when the test below runs this binary as one.
#[test]
fn the_other_engine() {
    let Some(socket) = std::env::var_os(PLAY) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let ident = Ident::new("lapce-ai-engine", "9.9.9");
            tokio::spawn(serve::<OtherRelease, _>(stream, ident, Arc::new(OtherRelease)));
        }
    });
}

#[test]
fn an_engine_of_another_release_is_named_and_can_be_stopped() {
    let home = TestHome::new();
    lapce_ai_ipc::paths::private_dir(&home.paths().runtime).unwrap();
    let socket = home.paths().engine_socket();
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_other_engine", "--nocapture"])
        .env(PLAY, &socket)
        .env(lapce_ai_ipc::env::HOME, home.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the other engine", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    for args in [
        &["search", "x"][..],
        &["status"],
        &["tool", "run", "list_files", "--json", "{\"path\":\".\"}"],
    ] {
        let ran = home.cli(args).exited(5);
        for words in
            ["lapce-ai-engine 9.9.9", "lapce-ai 0.1.0", "differ", "next: run `lapce-ai stop`"]
        {
            assert!(ran.stderr.contains(words), "{words:?} is not in {ran}");
        }
    }
    let stop = home.cli(["stop"]).ok();
    assert_eq!(stop.stdout, "stopped by SIGTERM\n");
    assert!(!alive(other.id()));
    other.wait().unwrap();
    // Its socket is stale now; the next command has an engine of its own.
    home.cli(["start"]).ok();
    home.assert_nothing_left();
}
