//! The life of the engine's process, over the real program: one per user, found and left in
//! order, and unmoved by what comes over its socket.

use std::io::{Read as _, Write as _};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use lapce_ai_ipc::launch::{self, LaunchError};
use lapce_ai_ipc::wire::engine::{Event, ProcessRole, Reply, Request};
use lapce_ai_ipc::wire::{ErrorKind, engine};
use lapce_ai_ipc::{
    CallError, Client, ConnectError, Engine, EngineClient, EngineProtocol, Ident, IndexProtocol,
    Protocol,
};
use lapce_ai_tests::{Ran, TestHome, kill, memory_kib, run, wait, wait_for};

fn home() -> TestHome {
    let engine = Path::new(env!("CARGO_BIN_EXE_lapce-ai-engine"));
    TestHome::with_programs(engine.parent().unwrap())
}

fn command(home: &TestHome, args: &[&str]) -> Command {
    let mut command = home.command("lapce-ai-engine");
    command.args(args);
    command
}

/// A child that does not outlive the test.
struct Running(Child);

impl Deref for Running {
    type Target = Child;
    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An engine that listens.
fn start(home: &TestHome, args: &[&str]) -> Running {
    let mut command = command(home, args);
    let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let socket = home.paths().engine_socket();
    wait_for("the socket", || UnixStream::connect(&socket).is_ok());
    Running(child)
}

async fn connect(home: &TestHome) -> EngineClient {
    launch::connect(&home.paths(), Ident::new("test", "0.1.0")).await.unwrap().into()
}

fn runtime_files(home: &TestHome) -> Vec<String> {
    let dir = std::fs::read_dir(home.paths().runtime).unwrap();
    let mut names: Vec<_> =
        dir.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn it_answers_says_who_it_is_and_leaves_nothing() {
    let home = home();
    let mut child = start(&home, &[]);
    let client = connect(&home).await;
    client.ping().await.unwrap();
    let status = client.status().await.unwrap();
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(status.pid, child.id());
    assert!(status.requests >= 2);
    assert_eq!(status.connections.len(), 1);
    assert_eq!(status.connections[0].pid, std::process::id());
    let own = &status.processes[0];
    assert_eq!((own.role.clone(), own.pid), (ProcessRole::Engine, child.id()));
    let rss = memory_kib(child.id(), "Rss").unwrap();
    assert!(own.memory.rss_kib.abs_diff(rss) < rss / 2, "{} and {rss}", own.memory.rss_kib);
    assert!(own.memory.private_dirty_kib > 0 && own.memory.pss_kib <= own.memory.rss_kib);
    let roles: Vec<_> = status.processes.iter().map(|process| process.role.clone()).collect();
    assert_eq!(roles, [ProcessRole::Engine, ProcessRole::Client]);
    assert_eq!(runtime_files(&home), ["engine.lock", "engine.sock"]);

    client.stop().await.unwrap();
    assert_eq!(wait(&mut child), Some(0));
    assert_eq!(runtime_files(&home), [""; 0]);
    assert_eq!(home.processes(), []);
    // The other side sees the end.
    client.0.closed().await;
}

#[test]
fn folders_and_files_are_private() {
    let home = home();
    let _child = start(&home, &[]);
    wait_for("the log", || home.log().contains("engine started"));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let paths = home.paths();
    assert_eq!(mode(&paths.runtime), 0o700);
    assert_eq!(mode(&paths.engine_socket()), 0o600);
    assert_eq!(mode(&paths.engine_lock()), 0o600);
    assert_eq!(mode(&paths.log_dir()), 0o700);
    assert_eq!(mode(&paths.log_dir().join("engine.log")), 0o600);
}

#[test]
fn a_second_engine_leaves_at_once_and_the_first_goes_on() {
    let home = home();
    let child = start(&home, &[]);
    let second = run(command(&home, &[]), b"").exited(3);
    let expected = format!("another engine (process {}) runs already", child.id());
    assert!(second.stderr.contains(&expected), "{second}");
    assert!(UnixStream::connect(home.paths().engine_socket()).is_ok());
}

#[test]
fn of_many_engines_started_at_once_one_stays() {
    let home = home();
    let mut children: Vec<_> =
        (0..8).map(|_| command(&home, &[]).stderr(Stdio::null()).spawn().unwrap()).collect();
    let mut codes = Vec::new();
    wait_for("seven to leave", || {
        children.retain_mut(|child| match child.try_wait().unwrap() {
            Some(status) => {
                codes.push(status.code());
                false
            }
            None => true,
        });
        children.len() == 1
    });
    assert_eq!(codes, [Some(3); 7]);
    assert!(UnixStream::connect(home.paths().engine_socket()).is_ok());
}

#[test]
fn signals_end_it_in_order_and_a_kill_is_survived_by_the_next() {
    let home = home();
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let mut child = start(&home, &[]);
        wait_for("its start", || home.log().contains(&format!("\"pid\":{}", child.id())));
        kill(child.id(), signal);
        assert_eq!(wait(&mut child), Some(0), "signal {signal}");
        assert_eq!(runtime_files(&home), [""; 0], "signal {signal}");
    }
    let mut child = start(&home, &[]);
    kill(child.id(), libc::SIGKILL);
    wait(&mut child);
    assert_eq!(runtime_files(&home), ["engine.lock", "engine.sock"], "nobody could tidy up");
    let mut next = start(&home, &[]);
    kill(next.id(), libc::SIGTERM);
    assert_eq!(wait(&mut next), Some(0));
    assert_eq!(runtime_files(&home), [""; 0]);
}

#[tokio::test]
async fn a_client_notices_the_death_of_the_engine() {
    let home = home();
    let mut child = start(&home, &[]);
    let client = connect(&home).await;
    client.ping().await.unwrap();
    kill(child.id(), libc::SIGKILL);
    wait(&mut child);
    client.0.closed().await;
    assert!(matches!(client.ping().await, Err(CallError::Disconnected(_))));
}

/// Eight front ends with traffic while the engine is killed and another one started, three
/// times over: each goes on by itself.
#[tokio::test]
async fn front_ends_go_on_by_themselves_when_the_engine_is_killed() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    let home = home();
    let mut child = start(&home, &[]);
    let paths = home.paths();
    let mut tasks = Vec::new();
    let mut seen = Vec::new();
    for _ in 0..8 {
        let paths = paths.clone();
        let engine = Engine::with(move |_| {
            let paths = paths.clone();
            // Who starts it is this test; a front end would do so itself.
            Box::pin(async move {
                for _ in 0..1000 {
                    if let Ok(client) = launch::connect(&paths, Ident::new("test", "0")).await {
                        return Ok(client);
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                Err(LaunchError::NotRunning)
            })
        });
        let pid = Arc::new(AtomicU32::new(0));
        seen.push(Arc::clone(&pid));
        tasks.push(tokio::spawn(async move {
            loop {
                match engine.status().await {
                    Ok(status) => pid.store(status.pid, Ordering::SeqCst),
                    // Two deaths in a row.
                    Err(CallError::EngineLost(_)) => {}
                    Err(error) => panic!("{error}"),
                }
                match engine.cancel_run("none").await {
                    // No such run.
                    Err(CallError::Remote(_) | CallError::EngineLost(_)) => {}
                    other => panic!("{other:?}"),
                }
            }
        }));
    }
    for round in 0..4 {
        let pid = child.id();
        for _ in 0..3000 {
            if seen.iter().all(|s| s.load(Ordering::SeqCst) == pid) {
                break;
            }
            assert!(!tasks.iter().any(tokio::task::JoinHandle::is_finished), "one has given up");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let pids: Vec<_> = seen.iter().map(|s| s.load(Ordering::SeqCst)).collect();
        assert_eq!(pids, [pid; 8], "round {round}");
        if round < 3 {
            kill(child.id(), libc::SIGKILL);
            wait(&mut child);
            child = start(&home, &[]);
        }
    }
    for task in tasks {
        task.abort();
    }
}

#[tokio::test]
async fn idle_it_ends_but_not_under_a_client() {
    let home = home();
    // Time enough to connect, on a machine that is busy.
    let mut child = start(&home, &["--idle-exit", "3"]);
    let client = connect(&home).await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    client.ping().await.unwrap();
    drop(client);
    // The connection's end is the driver's work.
    tokio::task::yield_now().await;
    let ended = tokio::task::spawn_blocking(move || wait(&mut child));
    assert_eq!(ended.await.unwrap(), Some(0));
    assert_eq!(runtime_files(&home), [""; 0]);
    assert!(home.log().contains("\"why\":\"idle\""), "{}", home.log());
}

#[test]
fn what_is_wrong_is_said() {
    let home = home();
    let help = run(command(&home, &["--help"]), b"").ok();
    assert!(help.stdout.contains("Exit status:"), "{help}");
    let version = run(command(&home, &["--version"]), b"").ok();
    assert_eq!(version.stdout, format!("lapce-ai-engine {}\n", env!("CARGO_PKG_VERSION")));
    let usage = run(command(&home, &["--frob"]), b"").exited(2);
    assert!(usage.stderr.contains("unknown argument \"--frob\""), "{usage}");
    // A file where the runtime folder should be.
    std::fs::write(home.paths().runtime, "").unwrap();
    let failed = run(command(&home, &[]), b"").exited(1);
    let place = home.paths().runtime;
    assert!(failed.stderr.contains(place.to_str().unwrap()), "{failed}");
}

#[test]
fn whoever_starts_it_is_told_that_it_is_ready_or_why_not() {
    let home = home();
    let started = |home: &TestHome| -> Ran {
        // The shell passes its standard output on as descriptor 3.
        let engine = env!("CARGO_BIN_EXE_lapce-ai-engine");
        let mut shell = command(home, &[]);
        let program = shell.get_program().to_owned();
        assert_eq!(program, engine);
        let mut sh = Command::new("sh");
        sh.args(["-c", "exec \"$0\" --ready-fd 3 --idle-exit 0.2 3>&1 >/dev/null", engine]);
        sh.envs(shell.get_envs().filter_map(|(k, v)| Some((k, v?))));
        shell.env_clear();
        run(sh, b"")
    };
    assert_eq!(started(&home).ok().stdout, "ready\n");
    std::fs::remove_dir(home.paths().runtime).unwrap();
    std::fs::write(home.paths().runtime, "").unwrap();
    let failed = started(&home).exited(1);
    assert!(failed.stdout.starts_with("error: cannot use the folder "), "{failed}");
}

#[tokio::test]
async fn garbage_on_the_socket_harms_nobody() {
    let home = home();
    let _child = start(&home, &[]);
    let client = connect(&home).await;
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |len: usize| -> Vec<u8> {
        let mut step = || {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            noise.to_le_bytes()[0]
        };
        (0..len).map(|_| step()).collect()
    };
    let mut inputs = vec![
        vec![],
        vec![0],
        vec![0xff; 100_000],
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\"}\n".to_vec(),
    ];
    inputs.extend((0..32).map(|n| random(n * n)));
    for input in inputs {
        let mut socket = UnixStream::connect(home.paths().engine_socket()).unwrap();
        // It may be cut off before it has said everything.
        let _ = socket.write_all(&input);
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        client.ping().await.unwrap();
    }
    let status = client.status().await.unwrap();
    assert_eq!(status.connections.len(), 1, "{:?}", status.connections);
    assert!(home.log().contains("a connection ended"), "{}", home.log());
}

/// The engine's protocol as another build might have it.
struct OtherBuild;

impl Protocol for OtherBuild {
    type Request = Request;
    type Event = Event;
    type Reply = Reply;
    const NAME: &'static str = EngineProtocol::NAME;
    const SCHEMA: u64 = EngineProtocol::SCHEMA ^ 1;
}

#[tokio::test]
async fn a_client_of_another_build_or_protocol_is_told_so() {
    let home = home();
    let _child = start(&home, &[]);
    let ident = || Ident::new("lapce-ai-old", "0.0.9");
    let socket = || tokio::net::UnixStream::connect(home.paths().engine_socket());
    let error = Client::<OtherBuild>::over(socket().await.unwrap(), ident()).await.err().unwrap();
    let ConnectError::Refused { peer, .. } = &error else { panic!("{error}") };
    assert!(peer.contains("lapce-ai-engine"), "{error}");
    let error = Client::<IndexProtocol>::over(socket().await.unwrap(), ident()).await.err();
    assert!(matches!(error, Some(ConnectError::Refused { .. })), "{error:?}");
    connect(&home).await.ping().await.unwrap();
}

#[tokio::test]
async fn one_connection_too_many_is_refused() {
    let home = home();
    let _child = start(&home, &[]);
    let mut clients = Vec::new();
    let refused = loop {
        match launch::connect(&home.paths(), Ident::new("test", "0")).await {
            Ok(client) => clients.push(client),
            Err(error) => break error,
        }
        assert!(clients.len() <= 64);
    };
    assert_eq!(clients.len(), 64);
    assert!(matches!(refused, LaunchError::Connect { .. }), "{refused}");
    for client in &clients {
        client.call(Request::Ping).await.unwrap();
    }
    clients.pop();
    let client = loop {
        if let Ok(client) = launch::connect(&home.paths(), Ident::new("test", "0")).await {
            break client;
        }
    };
    client.call(Request::Ping).await.unwrap();
}

#[tokio::test]
async fn wrong_input_is_named() {
    let home = home();
    let root = home.workspace("w", &[("a.rs", "fn a() {}\n")]);
    let _child = start(&home, &[]);
    let client = connect(&home).await;
    let search = |root: &str, query: &str, limit| engine::Search {
        root: root.into(),
        query: query.into(),
        limit,
        explain: false,
    };
    let root = root.to_str().unwrap();
    let long = "x".repeat(5000);
    for (request, kind, words) in [
        (search("relative", "x", 1), ErrorKind::Invalid, "not absolute"),
        (search("/no/such/folder", "x", 1), ErrorKind::NotFound, "/no/such/folder"),
        (search("/etc/passwd", "x", 1), ErrorKind::Invalid, "not a folder"),
        (search(root, "  ", 1), ErrorKind::Invalid, "query is empty"),
        (search(root, &long, 1), ErrorKind::Limit, "5000 bytes"),
        (search(root, "x", 0), ErrorKind::Invalid, "out of range"),
        (search(root, "x", 101), ErrorKind::Invalid, "out of range"),
        (search(root, "x", 1), ErrorKind::NotFound, "no index yet"),
    ] {
        let Err(CallError::Remote(error)) = client.search(request.clone()).await else {
            panic!("{request:?} was answered")
        };
        assert_eq!(error.kind, kind, "{error:?}");
        assert!(error.message.contains(words), "{error:?}");
    }
    for (request, kind) in [
        (Request::CancelRun { run_id: "x".into() }, ErrorKind::NotFound),
        (
            Request::Answer(engine::Answer {
                approval_id: "x".into(),
                decision: engine::Decision::Allow,
                feedback: String::new(),
            }),
            ErrorKind::NotFound,
        ),
    ] {
        let Err(CallError::Remote(error)) = client.0.call(request).await else { panic!() };
        assert_eq!(error.kind, kind);
    }
}

#[tokio::test]
async fn the_log_tells_calls_apart_and_goes_on_without_a_place_to_write() {
    let home = home();
    let child = start(&home, &[]);
    let client = connect(&home).await;
    let _ = client.0.call(Request::CancelRun { run_id: "nothing".into() }).await;
    let log = home.log();
    let line = log.lines().find(|line| line.contains("no run nothing")).expect(&log);
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    let span = &line["spans"][0];
    assert_eq!(span["request"], "cancel-run");
    assert_eq!(span["client"], "test");
    assert_eq!(span["session"], client.0.peer().session);
    assert!(span["call"].as_u64().is_some());

    // A log folder that cannot be used costs lines, not answers.
    client.stop().await.unwrap();
    let mut child = child;
    wait(&mut child);
    std::fs::remove_dir_all(home.paths().log_dir()).unwrap();
    std::fs::write(home.paths().log_dir(), "in the way").unwrap();
    let _child = start(&home, &[]);
    connect(&home).await.ping().await.unwrap();
}

/// Times the process was put to sleep so far.
fn sleeps(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn idle_it_does_nothing_at_all() {
    let home = home();
    let child = start(&home, &[]);
    let client = connect(&home).await;
    client.status().await.unwrap();
    // A connection settles for a second after its last message, later on a busy machine.
    let mut woken = 0;
    for _ in 0..20 {
        let before = sleeps(child.id());
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        woken = sleeps(child.id()) - before;
        if woken <= 1 {
            break;
        }
    }
    assert!(woken <= 1, "woken {woken} times in three idle seconds");
    client.ping().await.unwrap();
}
