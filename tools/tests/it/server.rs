//! MCP servers in the fence: what they cannot reach, what ends them, and that the same
//! attempt succeeds outside or where the user's configuration grants it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lapce_ai_tools::limits::Limits;
use lapce_ai_tools::sandbox::network::Network;
use lapce_ai_tools::server::{Access, Serve, Served, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Bench, alive};

/// A server that is a shell script.
struct Script<'a> {
    args: Vec<String>,
    env: Vec<(String, String)>,
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    access: Access,
    host_network: bool,
    network: Network,
    limits: Limits,
    bench: &'a Bench,
}

impl<'a> Script<'a> {
    fn new(bench: &'a Bench, script: &str) -> Self {
        Self {
            args: vec!["-c".into(), script.into()],
            env: Vec::new(),
            read: Vec::new(),
            write: Vec::new(),
            access: Access::Read,
            host_network: false,
            network: Network::default(),
            limits: Limits::SERVER,
            bench,
        }
    }

    async fn start(&self) -> Result<Served, String> {
        let wanted = Serve {
            command: "bash",
            args: &self.args,
            env: &self.env,
            read: &self.read,
            write: &self.write,
            access: self.access,
            host_network: self.host_network,
            network: self.network.clone(),
            limits: self.limits.clone(),
        };
        serve(&self.bench.host, &self.bench.workspace, &wanted).await
    }

    /// What it prints until it ends by itself.
    async fn output(&self) -> String {
        let mut served = self.start().await.unwrap();
        let mut text = String::new();
        served.stdout.read_to_string(&mut text).await.unwrap();
        let how = served.process.end().await;
        if text.is_empty() { how } else { text }
    }
}

/// The same script outside.
fn outside(script: &str) -> String {
    let ran = std::process::Command::new("bash").args(["-c", script]).output().unwrap();
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[tokio::test]
async fn a_server_speaks_over_its_own_pipes() {
    let bench = Bench::new();
    // What it prints before it is asked anything comes after the report.
    let mut served = Script::new(&bench, "echo banner; cat").start().await.unwrap();
    served.stdin.write_all(b"to and fro\n").await.unwrap();
    let mut text = [0; 18];
    served.stdout.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"banner\nto and fro\n");
    assert!(served.layers.iter().any(|l| l == "seccomp"), "{:?}", served.layers);
    // The end of its input ends it.
    drop(served.stdin);
    assert_eq!(served.process.end().await, "ended with status 0");
}

#[tokio::test]
async fn it_starts_in_an_empty_folder_with_only_its_own_variables() {
    let bench = Bench::new();
    bench.write("package.json", "{}");
    let mut script = Script::new(&bench, "pwd; ls -A | grep -v hidden; ls -A ~; env; echo end");
    script.env = vec![("TOKEN".into(), "t-123".into())];
    let text = script.output().await;
    assert!(text.starts_with("/tmp\n"), "{text}");
    assert!(!text.contains("package.json"), "{text}");
    assert!(text.contains("TOKEN=t-123\n"));
    for name in ["CARGO_MANIFEST_DIR", "SSH_AUTH_SOCK", "LAPCE_AI_"] {
        assert!(!text.contains(name), "{text}");
    }
}

#[tokio::test]
async fn it_cannot_read_outside_its_folders() {
    let bench = Bench::new();
    let secret = bench.dir.path().join("secret");
    std::fs::write(&secret, "key-material").unwrap();
    bench.write("inside", "workspace-text\n");
    let look = format!(
        "cat {} /etc/shadow /proc/1/environ ~/.ssh/* 2>/dev/null; cat {}; ls -d /root/* /home/* 2>/dev/null; echo end",
        secret.display(),
        bench.path("inside").display()
    );
    assert!(outside(&look).contains("key-material"));
    let text = Script::new(&bench, &look).output().await;
    assert_eq!(text.replace('\n', " ").trim(), "workspace-text end", "{text}");
    let mut granted = Script::new(&bench, &look);
    granted.read = vec![bench.dir.path().to_owned()];
    assert!(granted.output().await.contains("key-material"));
    let mut blind = Script::new(&bench, &look);
    blind.access = Access::None;
    assert!(!blind.output().await.contains("workspace-text"));
}

#[tokio::test]
async fn it_cannot_write_unless_granted_and_never_what_is_protected() {
    let bench = Bench::new();
    bench.write("src/a.rs", "x");
    bench.write(".git/config", "[core]\n");
    bench.write(".github/keep", "");
    let root = bench.workspace.root().display().to_string();
    let beside = bench.dir.path().join("beside");
    // The folder beside the workspace lies in /tmp: the server has one of its own.
    let attempt = format!(
        "mkdir -p {0}; echo x >{1}; cd {root}; for f in src/new .git/hooks/pre-commit \
         .github/workflows/x.yml .vscode/tasks.json .envrc top; do mkdir -p $(dirname $f) 2>/dev/null; \
         echo x 2>/dev/null >$f && echo $f; done; echo end",
        bench.dir.path().display(),
        beside.display()
    );
    let text = Script::new(&bench, &attempt).output().await;
    assert_eq!(text, "end\n");
    let mut granted = Script::new(&bench, &attempt);
    granted.access = Access::Write;
    assert_eq!(granted.output().await, "src/new\nend\n");
    assert!(!bench.path(".vscode").exists() && !bench.path(".git/hooks").exists());
    assert!(!beside.exists());
    let mut folder = Script::new(&bench, &format!("echo x > {} && echo done", beside.display()));
    folder.write = vec![bench.dir.path().to_owned()];
    assert_eq!(folder.output().await, "done\n");
    assert!(beside.exists());
}

#[tokio::test]
async fn it_has_no_network_unless_granted() {
    let bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let attempt =
        format!("(echo >/dev/tcp/127.0.0.1/{port}) 2>/dev/null && echo through; echo end");
    assert_eq!(outside(&attempt), "through\nend\n");
    assert_eq!(Script::new(&bench, &attempt).output().await, "end\n");
    let mut granted = Script::new(&bench, &attempt);
    granted.host_network = true;
    assert_eq!(granted.output().await, "through\nend\n");
    // By name: this port and no other.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = other.local_addr().unwrap().port();
    let both =
        format!("{attempt}; (echo >/dev/tcp/127.0.0.1/{far}) 2>/dev/null && echo far; echo end");
    let mut named = Script::new(&bench, &both);
    named.network = Network::parse([format!("localhost:{port}")]).unwrap();
    assert_eq!(named.output().await, "through\nend\nend\n");
}

/// With the network granted, sockets of other families stay shut.
#[tokio::test]
async fn a_granted_network_is_the_internet_families_only() {
    let bench = Bench::new();
    let socket = bench.dir.path().join("sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let attempt = "import socket,sys\n\
        for f, t in ((socket.AF_UNIX, socket.SOCK_STREAM), (socket.AF_NETLINK, socket.SOCK_RAW), (socket.AF_INET, socket.SOCK_RAW), (socket.AF_INET6, socket.SOCK_DGRAM)):\n\
        \x20   try:\n        socket.socket(f, t); print('open')\n\
        \x20   except OSError as e: print(e.errno)\n";
    let mut script = Script::new(&bench, "");
    script.args =
        vec!["-c".into(), format!("exec python3 -c \"$0\" || echo no python"), attempt.into()];
    script.host_network = true;
    script.read = vec![bench.dir.path().to_owned()];
    assert_eq!(script.output().await, "1\n1\n1\nopen\n");
}

#[tokio::test]
async fn nothing_of_it_is_left_when_it_is_stopped() {
    let bench = Bench::new();
    let script = "trap '' TERM HUP INT; (setsid sleep 1000 &) ; (trap '' TERM; sleep 1001) & echo up; while :; do sleep 1; done";
    let mut served = Script::new(&bench, script).start().await.unwrap();
    let mut text = [0; 3];
    served.stdout.read_exact(&mut text).await.unwrap();
    let pid = served.process.pid();
    let tree = below(pid);
    assert!(tree.len() >= 3, "{tree:?}");
    drop(served.stdin);
    served.process.end().await;
    assert!(!alive(pid));
    assert!(tree.iter().all(|p| !alive(*p)), "{tree:?}");
}

#[tokio::test]
async fn it_dies_with_its_host() {
    let bench = Bench::new();
    let mut served = Script::new(&bench, "sleep 1000 & echo up; wait").start().await.unwrap();
    let mut text = [0; 3];
    served.stdout.read_exact(&mut text).await.unwrap();
    let tree = below(served.process.pid());
    // Dropping the handle kills the helper alone; the rest follows.
    drop(served);
    for _ in 0..500 {
        if tree.iter().all(|p| !alive(*p)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("left: {tree:?}");
}

#[tokio::test]
async fn limits_end_it_and_are_named() {
    let bench = Bench::new();
    let mut hungry = Script::new(&bench, "head -c 300m /dev/zero | tail -c 300m | wc -c");
    hungry.limits = Limits { memory_bytes: 64 << 20, ..Limits::SERVER };
    let mut served = hungry.start().await.unwrap();
    let mut text = String::new();
    served.stdout.read_to_string(&mut text).await.unwrap();
    let how = served.process.end().await;
    // The kernel refuses the memory, or the helper ends what has it.
    assert!(how.contains("memory"), "{how}");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let bench = Bench::new();
    let wanted = |command| Serve {
        command,
        args: &[],
        env: &[],
        read: &[],
        write: &[],
        access: Access::Read,
        host_network: false,
        network: Network::default(),
        limits: Limits::SERVER,
    };
    let problem = |command: &'static str| {
        let bench = &bench;
        async move { serve(&bench.host, &bench.workspace, &wanted(command)).await.unwrap_err() }
    };
    assert!(problem("no-such-server").await.contains("the program no-such-server was not found"));
    let own = bench.dir.path().join("own");
    std::fs::write(&own, "#!/bin/sh\n").unwrap();
    let own: &'static str = Box::leak(own.display().to_string().into_boxed_str());
    assert!(problem(own).await.contains("name the folder it lies in under `read`"));
}

/// The layer of a command and that of a server are the same one: where the system has
/// groups, both stand in one, and where not, both say why.
#[tokio::test]
async fn a_server_stands_in_a_group_as_a_command_does() {
    let bench = Bench::new();
    let command = bench.sh("true").await;
    let mut served = Script::new(&bench, "cat").start().await.unwrap();
    let of = |layers: &[String], absent: &[(String, String)]| {
        let there = layers.iter().any(|l| l == "cgroup-v2");
        let why = absent.iter().find(|(name, _)| name == "cgroup").map(|(_, why)| why.clone());
        assert_ne!(there, why.is_some(), "named once: {layers:?} {absent:?}");
        why
    };
    let (server, command) =
        (of(&served.layers, &served.absent), of(&command.layers, &command.absent));
    assert_eq!(server, command);
    drop((served.stdin, served.stdout));
    served.process.end().await;
}

/// The processes below `pid`.
fn below(pid: u32) -> Vec<u32> {
    let mut all = Vec::new();
    let mut next = vec![pid];
    while let Some(pid) = next.pop() {
        let tasks = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task"));
        for task in tasks.into_iter().flatten().flatten() {
            let list = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children: Vec<u32> =
                list.split_whitespace().filter_map(|p| p.parse().ok()).collect();
            next.extend(&children);
            all.extend(children);
        }
    }
    all
}
