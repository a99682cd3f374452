//! The real program over a real socket, and killed at any moment.
#![cfg(feature = "lance")]

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use lapce_ai_ipc::wire::ErrorKind;
use lapce_ai_ipc::wire::index::{Build, Event, Reply, Request, Search};
use lapce_ai_ipc::{CallError, Client, Ident, IndexProtocol};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lapce-ai-index");

struct Process {
    child: Child,
    client: Client<IndexProtocol>,
}

impl Process {
    /// Starts the program as the engine does: one end of a socket pair as descriptor 3.
    async fn start(role: &str) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let fd = theirs.as_raw_fd();
        let mut command = Command::new(PROGRAM);
        command.args([role, "--fd", "3"]).stdin(Stdio::null());
        // SAFETY: dup2 is async-signal-safe; it also clears the close-on-exec flag.
        unsafe {
            command.pre_exec(move || {
                if libc::dup2(fd, 3) < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
            });
        }
        let child = command.spawn().unwrap();
        drop(theirs);
        ours.set_nonblocking(true).unwrap();
        let stream = tokio::net::UnixStream::from_std(ours).unwrap();
        let client = Client::over(stream, Ident::new("test", "0")).await.unwrap();
        Self { child, client }
    }

    async fn ends_by_itself(mut self) {
        drop(self.client);
        for _ in 0..200 {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let _ = self.child.kill();
        panic!("the process outlives its socket");
    }
}

fn write(root: &Path, path: &str, text: &str) {
    let file = root.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}

fn workspace(files: usize) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let (root, dir) = (home.path().join("repo"), home.path().join("index"));
    for n in 0..files {
        let body = "    let value = compute(1, 2, 3);\n".repeat(n % 40);
        write(
            &root,
            &format!("src/d{}/f{n}.rs", n % 17),
            &format!("/// Number {n}.\nfn function_{n}() {{\n{body}    finish_{n}()\n}}\n"),
        );
    }
    (home, root, dir)
}

fn search(root: &Path, dir: &Path, query: &str) -> Request {
    Request::Search(Search {
        root: root.to_string_lossy().into(),
        dir: dir.to_string_lossy().into(),
        query: query.into(),
        limit: 5,
        explain: false,
        given: None,
    })
}

#[tokio::test(flavor = "current_thread")]
async fn worker_and_build_over_the_ring() {
    let (_home, root, dir) = workspace(300);
    let worker = Process::start("worker").await;
    assert_eq!(worker.client.call(Request::Ping).await.unwrap(), Reply::Pong);
    match worker.client.call(search(&root, &dir, "anything")).await {
        Err(CallError::Remote(error)) => {
            assert_eq!(error.kind, ErrorKind::NotFound);
            assert!(error.hint.contains("lapce-ai index"), "{error:?}");
        }
        other => panic!("{other:?}"),
    }

    let builder = Process::start("build").await;
    let mut call = builder.client.start(Request::Build(Build {
        root: root.to_string_lossy().into(),
        dir: dir.to_string_lossy().into(),
        ..Build::default()
    }));
    let mut events = 0;
    while let Some(Event::Progress(_) | Event::Notice(_)) = call.next().await {
        events += 1;
    }
    let Reply::Built(report) = call.finish().await.unwrap() else { panic!("no report") };
    assert_eq!((report.files, report.files_added), (300, 300));
    assert!(events > 0 && report.peak_rss_kib > 0);
    builder.ends_by_itself().await;

    let Reply::Found(found) =
        worker.client.call(search(&root, &dir, "function_123")).await.unwrap()
    else {
        panic!()
    };
    assert_eq!(found.hits[0].symbol, "function_123");
    assert_eq!(found.indexed_files, 300);

    // The worker notices the next build by itself.
    write(&root, "src/late.rs", "fn latecomer() {\n    arrive();\n    sit();\n}\n");
    let builder = Process::start("build").await;
    builder
        .client
        .call(Request::Build(Build {
            root: root.to_string_lossy().into(),
            dir: dir.to_string_lossy().into(),
            ..Build::default()
        }))
        .await
        .unwrap();
    let Reply::Found(found) = worker.client.call(search(&root, &dir, "latecomer")).await.unwrap()
    else {
        panic!()
    };
    assert_eq!(found.hits[0].path, "src/late.rs");
    match worker.client.call(search(&root, &dir, "  ")).await {
        Err(CallError::Remote(error)) => assert_eq!(error.kind, ErrorKind::Invalid),
        other => panic!("{other:?}"),
    }
    worker.ends_by_itself().await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_dropped_call_cancels_the_build() {
    let (_home, root, dir) = workspace(3000);
    let builder = Process::start("build").await;
    let request = Build {
        root: root.to_string_lossy().into(),
        dir: dir.to_string_lossy().into(),
        ..Build::default()
    };
    let mut call = builder.client.start(Request::Build(request.clone()));
    call.next().await;
    drop(call);
    builder.ends_by_itself().await;
    let builder = Process::start("build").await;
    let Reply::Built(report) = builder.client.call(Request::Build(request)).await.unwrap() else {
        panic!()
    };
    assert_eq!(report.files, 3000);
}

fn run(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).output().unwrap()
}

#[test]
fn killed_at_any_moment_the_index_stays_readable() {
    let (_home, root, dir) = workspace(2500);
    let (root_arg, dir_arg) = (root.to_str().unwrap(), dir.to_str().unwrap());
    let full = std::time::Instant::now();
    assert!(run(&["build", "--root", root_arg, "--dir", dir_arg]).status.success());
    let full = full.elapsed();
    for round in 0..12_u32 {
        for n in 0..400 {
            write(
                &root,
                &format!("src/d{}/f{n}.rs", n % 17),
                &format!("fn function_{n}() {{\n    round_{round}();\n    finish_{n}()\n}}\n"),
            );
        }
        write(
            &root,
            "src/marker.rs",
            &format!("fn marker_{round}() {{\n    one();\n    two();\n}}\n"),
        );
        let force = if round % 4 == 3 { &["--force"][..] } else { &[] };
        let mut child = Command::new(PROGRAM)
            .args(["build", "--root", root_arg, "--dir", dir_arg])
            .args(force)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(full * (round + 1) / 14);
        let _ = child.kill();
        child.wait().unwrap();
        let found = run(&["search", "--dir", dir_arg, "function_2222", "--json"]);
        assert!(
            found.status.success(),
            "round {round}: {}",
            String::from_utf8_lossy(&found.stderr)
        );
        assert!(
            String::from_utf8_lossy(&found.stdout).contains("function_2222"),
            "round {round}: an untouched file was lost"
        );
    }
    assert!(run(&["build", "--root", root_arg, "--dir", dir_arg]).status.success());
    let verified = run(&["verify", "--dir", dir_arg]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let found = run(&["search", "--dir", dir_arg, "marker_11", "-k", "1"]);
    assert!(String::from_utf8_lossy(&found.stdout).contains("src/marker.rs"));
}

/// What is on disk is whole, whatever was being done to it.
fn assert_readable(dir: &str, point: &str) {
    let found = run(&["search", "--dir", dir, "function_77", "--json"]);
    assert!(found.status.success(), "{point}: {}", String::from_utf8_lossy(&found.stderr));
    let text = String::from_utf8_lossy(&found.stdout);
    assert!(text.contains("function_77"), "{point}: an untouched file was lost: {text}");
}

#[test]
fn killed_at_every_point_of_an_update_or_a_compaction_nothing_is_lost() {
    let (home, root, dir) = workspace(120);
    let cache = home.path().join("cache");
    let [root_arg, dir_arg, cache_arg] = [&root, &dir, &cache].map(|p| p.to_str().unwrap());
    let build = ["build", "--root", root_arg, "--dir", dir_arg, "--cache", cache_arg];
    assert!(run(&build).status.success());
    for (round, point) in lapce_ai_index::fault::POINTS.iter().enumerate() {
        let tidying = matches!(*point, "list-merged" | "compacted" | "tidy-copies" | "tidy-saved");
        // Small segments of the cache are joined when there are enough of them.
        let rounds = if *point == "cache-joined" { 12 } else { 1 };
        let mut killed = false;
        for n in 0..rounds {
            let body = format!("    round_{round}_{n}();\n    finish();\n");
            write(&root, "src/marker.rs", &format!("fn marker_{round}() {{\n{body}}}\n"));
            write(&root, "src/d1/f1.rs", &format!("fn function_1() {{\n{body}}}\n"));
            let _ = fs::remove_file(root.join(format!("src/d{0}/f{0}.rs", round + 2)));
            if tidying {
                assert!(run(&build).status.success());
            }
            let mut command = Command::new(PROGRAM);
            if tidying {
                command.args(["gc", "--dir", dir_arg]);
            } else {
                command.args(build);
            }
            command.env(lapce_ai_ipc::env::INDEX_FAULT, point);
            killed |= command.output().unwrap().status.code().is_none();
            assert_readable(dir_arg, point);
        }
        assert!(killed, "no process reached {point}");
        let again = run(&build);
        assert!(again.status.success(), "{point}: {}", String::from_utf8_lossy(&again.stderr));
        let verified = run(&["verify", "--dir", dir_arg]);
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success(), "{point}: {said}");
        assert_readable(dir_arg, point);
        let found = run(&["search", "--dir", dir_arg, &format!("marker_{round}"), "-k", "1"]);
        let text = String::from_utf8_lossy(&found.stdout);
        assert!(text.contains("src/marker.rs"), "{point}: the update is not there: {text}");
        let gone = format!("src/d{0}/f{0}.rs", round + 2);
        let found = run(&["search", "--dir", dir_arg, &format!("function_{}", round + 2)]);
        assert!(!String::from_utf8_lossy(&found.stdout).contains(&gone), "{point}: {gone} is back");
    }
    let left = fs::read_dir(&cache).unwrap().flatten().map(|e| e.file_name());
    let left: Vec<_> = left.filter(|n| n.to_string_lossy().ends_with(".tmp")).collect();
    assert!(left.is_empty(), "left by killed builds: {left:?}");
}

#[test]
fn a_build_killed_before_its_first_commit_leaves_nothing_wrong() {
    let (_home, root, dir) = workspace(400);
    let (root_arg, dir_arg) = (root.to_str().unwrap(), dir.to_str().unwrap());
    let mut child = Command::new(PROGRAM)
        .args(["build", "--root", root_arg, "--dir", dir_arg])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(30));
    let _ = child.kill();
    child.wait().unwrap();
    assert!(run(&["build", "--root", root_arg, "--dir", dir_arg]).status.success());
    assert!(run(&["verify", "--dir", dir_arg]).status.success());
    assert!(run(&["rm", "--dir", dir_arg]).status.success());
    assert!(!dir.exists());
}

#[test]
fn usage_errors_say_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let absent = home.path().join("absent");
    let output = run(&[
        "build",
        "--root",
        absent.to_str().unwrap(),
        "--dir",
        home.path().join("i").to_str().unwrap(),
    ]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not exist"));
    let output = run(&["worker", "--fd", "77"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("not a socket"));
    let output = run(&["rm", "--dir", home.path().to_str().unwrap()]);
    assert!(!output.status.success(), "rm must refuse a folder that is no index");
    let output = run(&["--version"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        concat!("lapce-ai-index ", env!("CARGO_PKG_VERSION"))
    );
}
