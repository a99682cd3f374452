//! The processes of the fault suite, and how to start and stop them.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lapce_ai_ipc::wire::engine::{Ask, Event, Reply, Request, RunOutcome, RunReply, Status, Usage};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{CallError, Client, Connections, Cx, EngineProtocol, Handler, Ident, Options};
use tokio::net::{UnixListener, UnixStream};

/// Of a process's random numbers.
pub(crate) const SEED: &str = "LAPCE_AI_TEST_SEED";
pub(crate) const ROLE: &str = "LAPCE_AI_TEST_ROLE";
const SOCKET: &str = "LAPCE_AI_TEST_SOCKET";

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs a test; none may wait for ever.
pub(crate) fn bounded(test: impl Future<Output = ()>) {
    let limit = Duration::from_mins(5);
    runtime().block_on(async { tokio::time::timeout(limit, test).await.expect("an end in time") });
}

/// A socket in a fresh folder.
pub(crate) fn listen() -> (PathBuf, tempfile::TempDir, UnixListener) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let listener = UnixListener::bind(&path).unwrap();
    (path, dir, listener)
}

pub(crate) async fn connect(path: &Path) -> Client<EngineProtocol> {
    connect_with(path, Options::default()).await
}

pub(crate) async fn connect_with(path: &Path, options: Options) -> Client<EngineProtocol> {
    for _ in 0..12_000 {
        if let Ok(stream) = UnixStream::connect(path).await {
            return Client::over_with(stream, Ident::new("test", "1"), options).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no server on {}", path.display());
}

pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..12_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never happened: {what}");
}

pub(crate) fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

pub(crate) fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A process of the suite; killed when dropped.
pub(crate) struct Child(std::process::Child);

impl Child {
    pub(crate) fn start(role: &str, socket: &Path, env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(ROLE, role).env(SOCKET, socket).stdin(Stdio::null());
        command.envs(env.iter().copied());
        Self(command.spawn().unwrap())
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: a child of ours that has not been waited for, so the id is its own.
        assert_eq!(unsafe { libc::kill(self.0.id() as i32, signal) }, 0);
    }

    pub(crate) fn expect_killed(&mut self) {
        use std::os::unix::process::ExitStatusExt as _;
        let status = self.0.wait().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGKILL), "it ended by itself: {status}");
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Default)]
pub(crate) struct Echo {
    pub(crate) requests: AtomicU64,
    pub(crate) torn: AtomicU64,
}

impl Handler<EngineProtocol> for Echo {
    async fn handle(&self, request: Request, cx: Cx<EngineProtocol>) -> Result<Reply, WireError> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        match request {
            Request::Ping => Ok(Reply::Pong),
            Request::Status => Ok(Reply::Status(status())),
            Request::Follow { .. } => {
                let _ = cx.emit(Event::Notice(std::process::id().to_string())).await;
                cx.cancelled().cancelled().await;
                Err(WireError::new(ErrorKind::Cancelled, "cancelled"))
            }
            Request::CancelRun { run_id } => {
                let first = run_id.chars().next();
                if first.is_some_and(char::is_alphabetic)
                    && run_id.chars().any(|c| Some(c) != first)
                {
                    self.torn.fetch_add(1, Ordering::SeqCst);
                }
                Ok(Reply::Run(RunReply {
                    run_id,
                    outcome: RunOutcome::Completed,
                    result: String::new(),
                    transcript: String::new(),
                    turns: 0,
                    tool_calls: 0,
                    usage: Usage::default(),
                }))
            }
            Request::Ask(_) => {
                let text = "y".repeat(8000);
                loop {
                    if cx.emit(Event::Notice(text.clone())).await.is_err() {
                        return Err(WireError::new(ErrorKind::Cancelled, "cancelled"));
                    }
                }
            }
            _ => Err(WireError::new(ErrorKind::Unsupported, "no")),
        }
    }
}

fn status() -> Status {
    Status {
        version: String::new(),
        pid: std::process::id(),
        uptime_ms: 0,
        started_at_ms: 0,
        connections: Vec::new(),
        processes: Vec::new(),
        indexes: Vec::new(),
        active_runs: Vec::new(),
        log_file: String::new(),
        chat_model: String::new(),
        completion_model: String::new(),
        model_hint: String::new(),
        embedder: String::new(),
        requests: 0,
        mcp: Vec::new(),
        tools: Vec::new(),
    }
}

/// Plays a role until it is killed or its peer is gone.
pub(crate) fn play(role: &str) -> ExitCode {
    let path = PathBuf::from(std::env::var_os(SOCKET).expect("a socket"));
    // No orphan of a test run: die with the suite.
    // SAFETY: plain system call.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    runtime().block_on(async {
        match role {
            "serve" => serve_all(&path).await,
            "traffic" => traffic(&path).await,
            "greedy" => greedy(&path).await,
            "scribble" => scribble(&path).await,
            "babble" => crate::babble::client(&path).await,
            "babble-serve" => crate::babble::server(&path).await,
            other => panic!("no role {other:?}"),
        }
    });
    ExitCode::SUCCESS
}

pub(crate) fn seed() -> u64 {
    std::env::var(SEED).expect("a seed").parse().unwrap()
}

pub(crate) async fn serve_all(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    let connections = Connections::new(64);
    let echo = Arc::new(Echo::default());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (connections, echo) = (connections.clone(), Arc::clone(&echo));
        tokio::spawn(async move {
            let _ = connections
                .serve::<EngineProtocol, _>(
                    stream,
                    Ident::new("server", "1"),
                    Options::default(),
                    echo,
                )
                .await;
        });
    }
}

/// One call after another, of sizes that never fit the ring evenly.
async fn traffic(path: &Path) {
    let client = connect(path).await;
    for i in 0..100_000usize {
        let letter = char::from(b'a' + (i % 26) as u8);
        let text = letter.to_string().repeat(1 + i * 37 % 3000);
        if client.call(Request::CancelRun { run_id: text }).await.is_err() {
            return;
        }
    }
}

/// Asks for endless streams and reads them all.
async fn greedy(path: &Path) {
    let client = connect(path).await;
    let calls = (0..60).map(|i| {
        let client = client.clone();
        async move {
            let mut call = client.start(Request::Ask(Ask {
                root: String::new(),
                question: i.to_string(),
                editor: None,
                model: String::new(),
                transcript: false,
                ..Ask::default()
            }));
            while call.next().await.is_some() {}
        }
    });
    futures::future::join_all(calls).await;
}

/// Calls, while a thread writes random words into the memory shared with the server: its
/// own, and with an odd seed whatever is mapped for writing.
async fn scribble(path: &Path) {
    let client = connect(path).await;
    let seed = seed();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let ours = |name: &str| {
        let shared = maps.lines().filter(|l| l.contains(name) && l.contains(" rw-s "));
        let range = |line: &str| {
            let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
            [from, to].map(|address| usize::from_str_radix(address, 16).unwrap())
        };
        shared.map(range).collect::<Vec<_>>()
    };
    let [rings] = ours("memfd:lapce-ai-ring")[..] else { panic!("not one ring of ours: {maps}") };
    let mut ranges = ours("memfd:lapce-ai-words");
    assert_eq!(ranges.len(), 2, "our words and the server's: {maps}");
    // Ours lie right before our rings.
    ranges.retain(|words| seed % 2 == 1 || words[1] == rings[0]);
    ranges.push(rings);
    std::thread::spawn(move || {
        let mut state = seed;
        let mut random = move |n: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        std::thread::sleep(Duration::from_millis(20));
        loop {
            let [from, to] = ranges[random(ranges.len())];
            // Where something is going on: the words, and the start of the rings.
            let at = from + random((to - from).min(4096) / 8) * 8;
            let word = random(1 << 31) as u64 >> random(32);
            // SAFETY: inside a mapping of this process that is shared with another one,
            // which everybody accesses atomically or volatile; damage is the point.
            unsafe { (at as *mut u64).write_volatile(word) };
            if random(64) == 0 {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
    });
    for i in 0.. {
        let text = "z".repeat(1 + i * 37 % 3000);
        let request = Request::CancelRun { run_id: text };
        match client.call_within(Duration::from_millis(20), request).await {
            Ok(_) | Err(CallError::Deadline) => {}
            // Whoever found the damage; the process stays, as a buggy one would.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
