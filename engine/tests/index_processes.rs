//! How the engine holds its index processes: joined, cancelled, replaced, ended.
//!
//! The engine is the real program. The index program is played by this test binary itself
//! (see [`the_index_program`]), so that each misbehaviour can be had at will; the real one is
//! tested in `tests/`.

use std::os::fd::FromRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use lapce_ai_ipc::wire::engine::{
    Ask, Event, IndexBuild, IndexInfo, ProcessRole, Search, ToolCall, Watch, WatchState,
};
use lapce_ai_ipc::wire::index::{self, BuildReport, Found, Hit, Phase, Progress};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{
    CallError, Cx, EngineCall, EngineClient, Handler, Ident, IndexProtocol, launch, serve,
};
use lapce_ai_tests::{TestHome, alive, kill, wait, wait_for};

const FD: &str = "LAPCE_AI_TEST_INDEX_FD";

/// Not a test: the index program, when the script below runs this binary as one.
#[test]
fn the_index_program() {
    let Some(fd) = std::env::var_os(FD) else { return };
    let fd: i32 = fd.to_str().unwrap().parse().unwrap();
    // SAFETY: the engine opened this descriptor for us, and nobody else here knows it.
    let socket = unsafe { std::os::unix::net::UnixStream::from_raw_fd(fd) };
    socket.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = tokio::net::UnixStream::from_std(socket).unwrap();
        let ident = Ident::new("lapce-ai-index", "0.1.0");
        let _ = serve::<IndexProtocol, _>(socket, ident, Arc::new(Played)).await;
    });
    std::process::exit(0);
}

/// Acts out what the last part of the workspace's path, or the query, says.
struct Played;

impl Handler<IndexProtocol> for Played {
    async fn handle(
        &self,
        request: index::Request,
        cx: Cx<IndexProtocol>,
    ) -> Result<index::Reply, WireError> {
        match request {
            index::Request::Build(build) => built(build, cx).await.map(index::Reply::Built),
            index::Request::Search(search) => match search.query.as_str() {
                "hang" => std::future::pending().await,
                "exit" => {
                    eprintln!("index: out of luck");
                    std::process::exit(9);
                }
                query => Ok(index::Reply::Found(found(query))),
            },
            _ => Ok(index::Reply::Done),
        }
    }
}

async fn built(build: index::Build, cx: Cx<IndexProtocol>) -> Result<BuildReport, WireError> {
    let step = |n| {
        index::Event::Progress(Progress {
            phase: Phase::Chunk,
            files_done: n,
            files_total: 100,
            chunks: 0,
            current: String::new(),
        })
    };
    let dir = Path::new(&build.dir);
    std::fs::create_dir_all(dir).unwrap();
    let _ = cx.emit(index::Event::Notice("hello from the build".into())).await;
    if build.root.ends_with("partial") {
        let meta = format!(r#"{{"root":{:?},"files":1,"chunks":2,"built_at":0}}"#, build.root);
        std::fs::write(dir.join("meta.json"), meta).unwrap();
    }
    if build.root.ends_with("slow") || build.root.ends_with("partial") {
        // Until cancelled, or until the test says that it is enough.
        for n in 0.. {
            if cx.emit(step(n % 100)).await.is_err() || dir.join("enough").exists() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    if build.root.ends_with("watched") && build.folders {
        let _ = cx.emit(index::Event::Folders(vec![String::new()])).await;
    }
    if build.root.ends_with("wide") && build.folders {
        for n in 0..41 {
            let some = (0..500).map(|m| format!("d{n}/d{m}")).collect();
            let _ = cx.emit(index::Event::Folders(some)).await;
        }
    }
    if build.root.ends_with("dies") {
        eprintln!("thread panicked: no space left on device");
        std::process::exit(101);
    }
    let meta = format!(r#"{{"root":{:?},"files":3,"chunks":7,"built_at":1}}"#, build.root);
    std::fs::write(dir.join("meta.json"), meta).unwrap();
    Ok(BuildReport {
        files: if build.force { 1000 } else { 3 },
        chunks: 7,
        files_added: 3,
        bytes: 30,
        took_ms: 1,
        ..BuildReport::default()
    })
}

fn found(query: &str) -> Found {
    let hit = Hit {
        path: "a.rs".into(),
        start_line: 1,
        end_line: 2,
        symbol: query.into(),
        kind: "function".into(),
        score: 1.0,
        code: "fn a() {}".into(),
        why: String::new(),
    };
    Found { hits: vec![hit], hybrid: false, indexed_files: 3, took_us: 10 }
}

/// A home with the real engine and the played index program.
struct Stage {
    home: TestHome,
    engine: Child,
    _bin: tempfile::TempDir,
}

impl Stage {
    fn new(args: &[&str]) -> Self {
        let bin = tempfile::tempdir().unwrap();
        let engine = env!("CARGO_BIN_EXE_lapce-ai-engine");
        // No symlink: the engine looks for programs beside its real file, and there may be the
        // real index program. Copied by a process, because a descriptor that is open for
        // writing while another thread forks would make the file busy.
        let copied = std::process::Command::new("cp")
            .args(["--link", engine])
            .arg(bin.path())
            .status()
            .is_ok_and(|status| status.success())
            || std::process::Command::new("cp")
                .arg(engine)
                .arg(bin.path())
                .status()
                .is_ok_and(|status| status.success());
        assert!(copied, "failed to copy {engine}");
        let me = std::env::current_exe().unwrap();
        // $1 is the mode, $3 the descriptor. Written by a shell: see `launch.rs`.
        let script = format!(
            "#!/bin/sh\n{FD}=$3 exec {} --exact the_index_program --nocapture\n",
            me.display()
        );
        let program = bin.path().join("lapce-ai-index");
        let made = std::process::Command::new("sh")
            .args(["-c", "printf %s \"$1\" >$0 && chmod 755 $0"])
            .arg(&program)
            .arg(script)
            .status();
        assert!(made.unwrap().success());
        let home = TestHome::with_programs(bin.path());
        let engine = home
            .command("lapce-ai-engine")
            .args(args)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let paths = home.paths();
        wait_for("the engine", || launch::listener_pid(&paths).is_some());
        Self { home, engine, _bin: bin }
    }

    async fn client(&self) -> EngineClient {
        launch::connect(&self.home.paths(), Ident::new("test", "0.1.0")).await.unwrap().into()
    }

    fn root(&self, name: &str) -> String {
        self.home.folder(name).canonicalize().unwrap().to_str().unwrap().to_owned()
    }

    /// The only index folder there is.
    fn index_dir(&self) -> PathBuf {
        let mut dirs = std::fs::read_dir(self.home.paths().index_root()).unwrap();
        dirs.next().unwrap().unwrap().path()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.engine.kill();
        let _ = self.engine.wait();
    }
}

fn build(root: &str, force: bool) -> IndexBuild {
    IndexBuild { root: root.into(), force }
}

fn words(root: &str, query: &str) -> Search {
    Search { root: root.into(), query: query.into(), limit: 5, explain: false }
}

/// Process ids of a role, from `status`.
async fn pids(client: &EngineClient, role: ProcessRole) -> Vec<u32> {
    let status = client.status().await.unwrap();
    status.processes.iter().filter(|p| p.role == role).map(|p| p.pid).collect()
}

async fn until_gone(pid: u32) {
    while alive(pid) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn remote<T: std::fmt::Debug>(result: Result<T, CallError>) -> WireError {
    match result {
        Err(CallError::Remote(error)) => error,
        other => panic!("not the engine's error: {other:?}"),
    }
}

#[tokio::test]
async fn a_build_is_relayed_and_then_searched() {
    let stage = Stage::new(&[]);
    let client = stage.client().await;
    let root = stage.root("small");
    let mut call = client.index(build(&root, false));
    let mut notices = Vec::new();
    while let Some(event) = call.next().await {
        if let Event::Notice(text) = event {
            notices.push(text);
        }
    }
    assert_eq!(notices, ["hello from the build"]);
    assert_eq!(call.finish().await.unwrap().files, 3);
    assert_eq!(pids(&client, ProcessRole::IndexBuild).await, [0_u32; 0], "it ended");

    let reply = client.search(words(&root, "alpha")).await.unwrap();
    assert_eq!(reply.hits[0].symbol, "alpha");
    assert_eq!(reply.indexed_files, 3);
    let status = client.status().await.unwrap();
    assert_eq!(status.indexes.len(), 1);
    assert_eq!((status.indexes[0].root.as_str(), status.indexes[0].chunks), (&*root, 7));
    assert_eq!(pids(&client, ProcessRole::IndexWorker).await.len(), 1);
}

/// The index holds what a rule denies; a model is not given it.
#[tokio::test]
async fn passages_that_a_rule_denies_are_left_out_of_what_a_model_is_given() {
    let stage = Stage::new(&[]);
    let client = stage.client().await;
    let root = stage.root("small");
    client.index(build(&root, false)).finish().await.unwrap();
    let tool = || ToolCall {
        root: root.clone(),
        name: "codebase_search".into(),
        json: "{\"query\": \"alpha\"}".into(),
        approved: true,
    };
    let ask = || Ask { root: root.clone(), question: "alpha?".into(), ..Ask::default() };
    let reply = client.tool(tool()).finish().await.unwrap();
    assert!(reply.text.contains("fn a()"), "{}", reply.text);
    assert_eq!(client.ask(ask()).finish().await.unwrap().citations.len(), 1);
    let rules = "[[rules]]\neffect = \"deny\"\ntool = \"read\"\npattern = \"*.rs\"\n";
    std::fs::create_dir_all(stage.home.paths().config).unwrap();
    std::fs::write(stage.home.paths().rules_file(), rules).unwrap();
    let reply = client.tool(tool()).finish().await.unwrap();
    assert!(!reply.text.contains("fn a()"), "{}", reply.text);
    assert!(reply.text.contains("deny read '*.rs'"), "{}", reply.text);
    assert!(client.ask(ask()).finish().await.unwrap().citations.is_empty());
}

/// Of the workspace `root`, from `status`.
async fn info(client: &EngineClient, root: &str) -> IndexInfo {
    let status = client.status().await.unwrap();
    status.indexes.into_iter().find(|info| info.root == root).unwrap()
}

async fn indexed(call: &mut EngineCall<()>) {
    while !matches!(call.next().await.expect("a watch goes on"), Event::Indexed(_)) {}
}

#[tokio::test]
async fn a_workspace_with_more_folders_than_are_watched_is_looked_through() {
    let stage = Stage::new(&[]);
    let client = stage.client().await;
    let (wide, small) = (stage.root("wide"), stage.root("small"));
    let mut call = client.watch(Watch { root: wide.clone() });
    indexed(&mut call).await;
    let mut other = client.watch(Watch { root: small.clone() });
    indexed(&mut other).await;
    while info(&client, &wide).await.watch != WatchState::Scanning {}
    assert_eq!(info(&client, &small).await.watch, WatchState::Watching);
    let reply = client.search(words(&wide, "alpha")).await.unwrap();
    assert_eq!((reply.watch, reply.partial), (WatchState::Scanning, false));
    drop(call);
    while info(&client, &wide).await.watch != WatchState::Off {}
}

#[tokio::test]
async fn the_watch_of_an_index_that_is_removed_ends_and_says_so() {
    let stage = Stage::new(&[]);
    let client = stage.client().await;
    let root = stage.root("watched");
    std::fs::create_dir_all(Path::new(&root).join(".git")).unwrap();
    std::fs::write(Path::new(&root).join(".git/HEAD"), "ref: refs/heads/one\n").unwrap();
    let mut call = client.watch(Watch { root: root.clone() });
    // The second look follows when the folders are watched.
    indexed(&mut call).await;
    indexed(&mut call).await;
    let seen = info(&client, &root).await;
    assert_eq!((seen.head.as_str(), seen.watch), ("one", WatchState::Watching));
    std::fs::write(Path::new(&root).join(".git/HEAD"), "ref: refs/heads/two\n").unwrap();
    while info(&client, &root).await.head != "two" {}
    std::fs::remove_dir_all(stage.index_dir()).unwrap();
    std::fs::write(Path::new(&root).join("a.rs"), "x").unwrap();
    let mut said = Vec::new();
    while let Some(event) = call.next().await {
        if let Event::Notice(text) = event {
            said.push(text);
        }
    }
    assert!(said.iter().any(|text| text.contains("was removed")), "{said:?}");
    assert_eq!(remote(call.finish().await).kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn answers_during_a_first_build_are_said_to_be_partial() {
    let stage = Stage::new(&[]);
    let client = stage.client().await;
    let root = stage.root("partial");
    let mut call = client.index(build(&root, false));
    while !matches!(call.next().await, Some(Event::Progress(_))) {}
    let reply = client.search(words(&root, "alpha")).await.unwrap();
    assert!(reply.partial && reply.behind > 0 && reply.built_at == 0, "{reply:?}");
    std::fs::write(stage.index_dir().join("enough"), "").unwrap();
    call.finish().await.unwrap();
    let reply = client.search(words(&root, "alpha")).await.unwrap();
    assert_eq!((reply.partial, reply.behind, reply.built_at), (false, 0, 1));
}

#[tokio::test]
async fn two_callers_share_one_build_and_see_its_progress() {
    let stage = Stage::new(&[]);
    let (one, two) = (stage.client().await, stage.client().await);
    let root = stage.root("slow");
    let mut first = one.index(build(&root, false));
    while !matches!(first.next().await, Some(Event::Progress(_))) {}
    let mut second = two.index(build(&root, false));
    while !matches!(second.next().await, Some(Event::Progress(_))) {}
    assert_eq!(pids(&one, ProcessRole::IndexBuild).await.len(), 1);
    let status = one.status().await.unwrap();
    assert!(status.indexes[0].building);
    // The first caller leaves; the build goes on for the second.
    drop(first);
    for _ in 0..20 {
        assert!(matches!(second.next().await, Some(Event::Progress(_))));
    }
    std::fs::write(stage.index_dir().join("enough"), "").unwrap();
    assert_eq!(second.finish().await.unwrap().chunks, 7);
}

#[tokio::test]
async fn a_forced_build_does_not_pass_off_a_plain_one_as_its_own() {
    let stage = Stage::new(&[]);
    let client = stage.client().await;
    let root = stage.root("slow");
    let mut plain = client.index(build(&root, false));
    while !matches!(plain.next().await, Some(Event::Progress(_))) {}
    let forced = client.index(build(&root, true));
    std::fs::write(stage.index_dir().join("enough"), "").unwrap();
    assert_eq!(plain.finish().await.unwrap().files, 3);
    assert_eq!(forced.finish().await.unwrap().files, 1000);
}

#[tokio::test]
async fn a_build_nobody_waits_for_is_ended() {
    let stage = Stage::new(&[]);
    let client = stage.client().await;
    let root = stage.root("slow");
    let mut call = client.index(build(&root, false));
    while !matches!(call.next().await, Some(Event::Progress(_))) {}
    let pid = pids(&client, ProcessRole::IndexBuild).await[0];
    drop(call);
    until_gone(pid).await;
    // The same when the client is killed instead: its connection ends.
    let other = stage.client().await;
    let mut call = other.index(build(&root, false));
    while !matches!(call.next().await, Some(Event::Progress(_))) {}
    let pid = pids(&client, ProcessRole::IndexBuild).await[0];
    drop((call, other));
    until_gone(pid).await;
    assert!(!client.status().await.unwrap().indexes.iter().any(|index| index.building));
}

#[tokio::test]
async fn the_death_of_a_build_is_told_with_its_last_words() {
    let stage = Stage::new(&[]);
    let client = stage.client().await;
    let root = stage.root("dies");
    let error = remote(client.index(build(&root, false)).finish().await);
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("no space left on device"), "{error:?}");
    assert!(error.message.contains("status 101"), "{error:?}");
    assert!(!error.hint.is_empty());

    let root = stage.root("slow");
    let mut call = client.index(build(&root, false));
    while !matches!(call.next().await, Some(Event::Progress(_))) {}
    kill(pids(&client, ProcessRole::IndexBuild).await[0], libc::SIGKILL);
    let error = remote(call.finish().await);
    assert!(error.message.contains("signal 9"), "{error:?}");
    client.ping().await.unwrap();
}

#[tokio::test]
async fn a_dead_worker_fails_its_searches_and_the_next_one_answers() {
    let stage = Stage::new(&[]);
    let client = stage.client().await;
    let root = stage.root("small");
    client.index(build(&root, false)).finish().await.unwrap();

    let hanging = client.0.start(lapce_ai_ipc::wire::engine::Request::Search(words(&root, "hang")));
    let worker = loop {
        if let [pid] = pids(&client, ProcessRole::IndexWorker).await[..] {
            break pid;
        }
    };
    kill(worker, libc::SIGKILL);
    let error = remote(hanging.finish().await);
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("signal 9"), "{error:?}");

    let error = remote(client.search(words(&root, "exit")).await);
    assert!(error.message.contains("status 9: index: out of luck"), "{error:?}");
    assert!(error.hint.contains("try again"), "{error:?}");

    let reply = client.search(words(&root, "beta")).await.unwrap();
    assert_eq!(reply.hits[0].symbol, "beta");
    let next = pids(&client, ProcessRole::IndexWorker).await;
    assert!(next.len() == 1 && next[0] != worker);
    assert!(stage.home.log().contains("index worker died"), "{}", stage.home.log());
}

#[tokio::test]
async fn an_idle_worker_is_ended_and_comes_back() {
    let stage = Stage::new(&["--worker-idle", "0.2"]);
    let client = stage.client().await;
    let root = stage.root("small");
    client.index(build(&root, false)).finish().await.unwrap();
    client.search(words(&root, "one")).await.unwrap();
    let pid = pids(&client, ProcessRole::IndexWorker).await[0];
    until_gone(pid).await;
    while !pids(&client, ProcessRole::IndexWorker).await.is_empty() {}
    assert_eq!(client.search(words(&root, "two")).await.unwrap().hits[0].symbol, "two");
}

#[tokio::test]
async fn children_end_with_the_engine_however_it_ends() {
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let mut stage = Stage::new(&[]);
        let client = stage.client().await;
        let small = stage.root("small");
        client.index(build(&small, false)).finish().await.unwrap();
        client.search(words(&small, "x")).await.unwrap();
        let slow = stage.root("slow");
        let mut call = client.index(build(&slow, false));
        while !matches!(call.next().await, Some(Event::Progress(_))) {}
        let worker = pids(&client, ProcessRole::IndexWorker).await[0];
        let builder = pids(&client, ProcessRole::IndexBuild).await[0];
        kill(stage.engine.id(), signal);
        let mut engine = std::mem::replace(
            &mut stage.engine,
            std::process::Command::new("true").spawn().unwrap(),
        );
        let code = tokio::task::spawn_blocking(move || wait(&mut engine)).await.unwrap();
        assert_eq!(code, (signal == libc::SIGTERM).then_some(0));
        until_gone(worker).await;
        until_gone(builder).await;
        assert!(call.finish().await.is_err());
        assert_eq!(stage.home.processes(), []);
    }
}

#[tokio::test]
async fn without_the_program_the_error_names_it() {
    let stage = Stage::new(&[]);
    std::fs::remove_file(stage.home.bin_dir().join("lapce-ai-index")).unwrap();
    let client = stage.client().await;
    let root = stage.root("small");
    let error = remote(client.index(build(&root, false)).finish().await);
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("lapce-ai-index was not found"), "{error:?}");
}

#[tokio::test]
async fn a_program_that_is_not_ours_is_reported() {
    let stage = Stage::new(&[]);
    let program = stage.home.bin_dir().join("lapce-ai-index");
    std::fs::remove_file(&program).unwrap();
    std::os::unix::fs::symlink("/bin/false", &program).unwrap();
    let client = stage.client().await;
    let root = stage.root("small");
    let error = remote(client.index(build(&root, false)).finish().await);
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("did not start"), "{error:?}");
    assert!(error.message.contains("status 1"), "{error:?}");
}
