//! What must not be possible from inside the sandbox. Each attack is first shown to work
//! outside it, by the same program, so that a test cannot pass for the wrong reason.

use std::io::Write as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use lapce_ai_tools::sandbox::layer;
use serde_json::json;

use crate::support::{Bench, alive};

/// Runs a command the way the tool would, without a sandbox.
fn outside(b: &Bench, command: &str) -> (bool, String) {
    let out = Command::new("/bin/bash")
        .args(["-c", command])
        .current_dir(b.workspace.root())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    (out.status.success(), text)
}

/// The command works outside and fails inside.
async fn fails_only_inside(b: &Bench, command: &str) -> String {
    let (worked, text) = outside(b, command);
    assert!(worked, "outside, this must work: {command}\n{text}");
    let out = b.sh(command).await;
    assert!(!out.ok, "inside, this must fail: {command}\n{}", out.envelope);
    assert!(out.envelope.contains("Exit code:"), "it must have run: {}", out.envelope);
    out.envelope
}

fn python(script: &str) -> String {
    format!("python3 -c '{}'", script.replace('\'', "'\\''"))
}

/// Every layer stands on this system, or the run names the one that does not.
#[tokio::test]
async fn every_layer_is_active() {
    let b = Bench::new();
    let out = b.sh("true").await;
    assert!(out.ok, "{}", out.envelope);
    let waived = std::env::var("LAPCE_AI_TEST_ABSENT_LAYERS").unwrap_or_default();
    let waived: Vec<&str> = waived.split(',').collect();
    for layer in lapce_ai_tools::sandbox::layer::ALL {
        let active = out.layers.iter().any(|l| l == layer || l.starts_with(&format!("{layer}-v")));
        assert!(active || waived.contains(layer), "{layer} is not active: {:?}", out.absent);
    }
}

#[tokio::test]
async fn no_sockets() {
    let b = Bench::new();
    for (family, kind) in [
        ("AF_INET", "SOCK_STREAM"),
        ("AF_INET", "SOCK_DGRAM"),
        ("AF_INET6", "SOCK_STREAM"),
        ("AF_UNIX", "SOCK_STREAM"),
        ("AF_UNIX", "SOCK_DGRAM"),
        ("AF_NETLINK", "SOCK_RAW"),
        ("AF_PACKET", "SOCK_RAW"),
        ("AF_VSOCK", "SOCK_STREAM"),
    ] {
        let script = format!("import socket; socket.socket(socket.{family}, socket.{kind})");
        let text = fails_only_inside(&b, &python(&script)).await;
        assert!(text.contains("not permitted"), "{text}");
    }
    // Raw IP needs privilege outside too, which this test may not have.
    let script = "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)";
    assert!(!b.sh(&python(script)).await.ok);
}

#[tokio::test]
async fn no_datagrams_to_a_host_listener() {
    let b = Bench::new();
    let path = b.path("listener.sock");
    let listener = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    listener.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    for send in
        ["s.sendto(b\"x\", \"listener.sock\")", "s.sendmsg([b\"x\"], [], 0, \"listener.sock\")"]
    {
        for make in [
            "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)",
            "s, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
        ] {
            // A connected pair may send elsewhere: the way around a filter on socket().
            let script = format!("import socket; {make}; {send}");
            let (worked, _) = outside(&b, &python(&script));
            let mut buffer = [0; 8];
            assert!(worked && listener.recv(&mut buffer).is_ok(), "outside: {script}");
            assert!(!b.sh(&python(&script)).await.ok, "inside: {script}");
            assert!(listener.recv(&mut buffer).is_err(), "something arrived: {script}");
        }
    }
    // Stream pairs are what programs need between their own processes.
    let ok =
        b.sh(&python("import socket; a, c = socket.socketpair(); a.send(b\"x\"); c.recv(1)")).await;
    assert!(ok.ok, "{}", ok.envelope);
    let raw = "import socket; socket.socketpair(socket.AF_UNIX, socket.SOCK_RAW)";
    fails_only_inside(&b, &python(raw)).await;
}

#[tokio::test]
async fn no_tcp_no_dns_no_abstract_sockets() {
    let b = Bench::new();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let connect = format!("import socket; socket.create_connection((\"127.0.0.1\", {port}), 2)");
    fails_only_inside(&b, &python(&connect)).await;
    fails_only_inside(&b, &format!("exec 3<>/dev/tcp/127.0.0.1/{port}")).await;
    let udp = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b\"x\", (\"127.0.0.1\", 53))";
    fails_only_inside(&b, &python(udp)).await;

    let name = format!("lapce-ai-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let script =
        format!("import socket; s = socket.socket(socket.AF_UNIX); s.connect(\"\\0{name}\")");
    fails_only_inside(&b, &python(&script)).await;
    // Without seccomp the other layers hold still.
    let degraded = b.without(&["seccomp"]);
    assert!(!degraded.sh(&python(&script)).await.ok, "abstract socket without seccomp");
    assert!(!degraded.sh(&python(&connect)).await.ok, "TCP without seccomp");
}

#[tokio::test]
async fn secrets_cannot_be_read() {
    let b = Bench::new();
    fails_only_inside(&b, "cat /etc/shadow").await;
    fails_only_inside(&b, "ls /run | grep .").await;
    let home = tempfile::tempdir_in(std::env::var("HOME").unwrap()).unwrap();
    let secret = home.path().join("id_ed25519");
    std::fs::write(&secret, "PRIVATE").unwrap();
    let command = format!("cat {}", secret.display());
    fails_only_inside(&b, &command).await;
    // Each file layer holds it alone.
    for off in ["landlock", "mount-namespace"] {
        let out = b.without(&[off]).sh(&command).await;
        assert!(!out.ok && !out.envelope.contains("PRIVATE"), "{off}: {}", out.envelope);
        let out = b.without(&[off]).sh("cat /etc/shadow").await;
        assert!(!out.ok, "{off}: {}", out.envelope);
    }
    for way in ["/proc/self/root", "/proc/1/root", "/proc/self/cwd/../../.."] {
        let out = b.sh(&format!("cat {way}{}", secret.display())).await;
        assert!(!out.ok && !out.envelope.contains("PRIVATE"), "{}", out.envelope);
    }
    // /tmp of the host is not the command's.
    let shared = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(shared.path(), "host").unwrap();
    fails_only_inside(&b, &format!("cat {}", shared.path().display())).await;
    let _ = b.sh(&format!("echo x > {}", shared.path().display())).await;
    assert_eq!(std::fs::read_to_string(shared.path()).unwrap(), "host", "/tmp is not shared");
}

#[tokio::test]
async fn other_processes_are_out_of_reach() {
    let b = Bench::new();
    let mut victim = Command::new("sleep").arg("60").env("SECRET", "s3cr3t").spawn().unwrap();
    let pid = victim.id();
    fails_only_inside(&b, &format!("grep -q s3cr3t /proc/{pid}/environ")).await;
    fails_only_inside(&b, &format!("kill -0 {pid}")).await;
    fails_only_inside(&b, &format!("kill -STOP {pid}; kill -CONT {pid}")).await;
    let ptrace = format!(
        "import ctypes, sys; sys.exit(0 if ctypes.CDLL(None).ptrace(16, {pid}, 0, 0) == 0 else 1)"
    );
    fails_only_inside(&b, &python(&ptrace)).await;
    // Without a pid namespace, Landlock keeps processes apart.
    let degraded = b.without(&["pid-namespace"]);
    let out = degraded.sh(&format!("grep -q s3cr3t /proc/{pid}/environ")).await;
    assert!(!out.ok, "{}", out.envelope);
    let out = degraded.sh(&format!("kill -0 {pid}")).await;
    assert!(!out.ok, "{}", out.envelope);
    victim.kill().unwrap();
    victim.wait().unwrap();
}

#[tokio::test]
async fn no_new_namespaces_no_kernel_surface() {
    let b = Bench::new();
    fails_only_inside(&b, "unshare -U true").await;
    fails_only_inside(&b, "unshare -Ur -m true").await;
    #[cfg(target_arch = "x86_64")]
    for (name, call) in [
        ("bpf", "321, 0, 0, 0"),
        ("keyctl", "250, 0, 0, 0"),
        ("perf_event_open", "298, 0, 0, 0, 0, 0"),
        ("userfaultfd", "323, 1"),
        ("io_uring_setup", "425, 1, ctypes.create_string_buffer(120)"),
        ("process_vm_readv", "310, 1, 0, 0, 0, 0, 0"),
        ("mount", "165, 0, 0, 0, 0, 0"),
        ("setns", "308, -1, 0"),
        ("kexec_load", "246, 0, 0, 0, 0xffff"),
        ("init_module", "175, 0, 0, 0"),
        ("open_by_handle_at", "304, -1, 0, 0"),
        ("clone with CLONE_NEWUSER", "56, 0x10000000, 0, 0, 0, 0"),
    ] {
        // EPERM from the filter; anything else means that the kernel looked at it.
        let script = format!(
            "import ctypes, sys; l = ctypes.CDLL(None, use_errno=True); r = l.syscall({call}); e = ctypes.get_errno(); print(r, e); sys.exit(7 if r == -1 and e == 1 else 0)"
        );
        let (_, text) = outside(&b, &python(&script));
        assert!(!text.trim().ends_with("-1 1"), "outside, {name} is not EPERM: {text}");
        let out = b.sh(&python(&script)).await;
        assert!(out.envelope.contains("Exit code: 7"), "{name}: {}", out.envelope);
    }
    let clone3 = "import ctypes, sys; l = ctypes.CDLL(None, use_errno=True); r = l.syscall(435, 0, 0); sys.exit(7 if ctypes.get_errno() == 38 else 0)";
    let out = b.sh(&python(clone3)).await;
    assert!(out.envelope.contains("Exit code: 7"), "clone3: {}", out.envelope);
}

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn calls_of_another_architecture_end_the_process() {
    let b = Bench::new();
    // getpid of 32-bit Linux, from a 64-bit program; and of the x32 table.
    b.write(
        "old.c",
        "int main(void) { long r; __asm__ volatile(\"int $0x80\" : \"=a\"(r) : \"a\"(20)); return r <= 0; }\n",
    );
    assert!(outside(&b, "cc -o old old.c && ./old").0, "outside, the kernel answers it");
    let x32 = python("import ctypes; ctypes.CDLL(None).syscall(0x40000000 | 39)");
    assert!(outside(&b, &x32).0, "outside, the process lives on");
    for command in ["./old", &x32] {
        let out = b.sh(&format!("{command}; echo code $?")).await;
        assert!(out.envelope.contains("code 159"), "SIGSYS: {}", out.envelope);
    }
}

#[tokio::test]
async fn no_privilege_is_left() {
    let b = Bench::new();
    let out = b.sh("grep -E '^(Cap(Prm|Eff|Bnd|Amb)):\\s+0+$' /proc/self/status | wc -l; grep NoNewPrivs /proc/self/status").await;
    assert!(
        out.envelope.contains("\n4\n") && out.envelope.contains("NoNewPrivs:\t1"),
        "{}",
        out.envelope
    );
    // A set-uid program of somebody else's does not become them.
    if lapce_ai_tools_is_root() {
        let path = b.path("suid");
        // Not by this process: what another test starts meanwhile would hold it open for writing.
        let copy = Command::new("cp").arg("/usr/bin/id").arg(&path).status().unwrap();
        assert!(copy.success());
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o4755)).unwrap();
        let (_, text) = outside(&b, "./suid -u");
        assert_eq!(text.trim(), "12345");
        let out = b.sh("./suid -u").await;
        assert!(!out.envelope.contains("12345"), "{}", out.envelope);
    }
    let out = b.sh("echo 1 > /proc/sys/kernel/pid_max; echo x > /proc/sys/kernel/core_pattern; echo x > /proc/sys/kernel/hostname").await;
    assert!(!out.ok, "{}", out.envelope);
}

fn lapce_ai_tools_is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}

#[tokio::test]
async fn the_terminal_cannot_be_typed_into() {
    let b = Bench::new();
    // The filter answers before the kernel looks at the descriptor.
    let script = "import ctypes, sys; l = ctypes.CDLL(None, use_errno=True); r = l.ioctl(1, 0x5412, ctypes.c_char_p(b\"x\")); e = ctypes.get_errno(); print(e); sys.exit(7 if e == 1 else 0)";
    let (_, text) = outside(&b, &python(script));
    assert_eq!(text.trim(), "25", "outside: not a terminal, but the kernel looked");
    let out = b.sh(&python(script)).await;
    assert!(out.envelope.contains("Exit code: 7"), "{}", out.envelope);
    assert!(!b.sh("cat /dev/tty").await.ok);
}

#[tokio::test]
async fn protected_paths_cannot_be_written() {
    let b = Bench::new();
    assert!(outside(&b, "git init -q . && mkdir -p .github/workflows .lapce && echo x > .github/workflows/ci.yml").0);
    for command in [
        "echo evil > .git/hooks/pre-commit",
        "echo evil >> .git/config",
        "rm .git/config",
        "mv .git/hooks .git/h2",
        "mv .git .g2",
        "ln -f /bin/true .git/hooks/post-checkout",
        "cp /bin/true .git/hooks/post-checkout",
        "echo evil > .github/workflows/ci.yml",
        "mv .github .g3",
        "echo evil > .lapce/settings.toml",
    ] {
        let out = b.sh(command).await;
        assert!(!out.ok, "{command}: {}", out.envelope);
    }
    assert!(
        !b.path(".git/hooks/pre-commit").exists() && !b.path(".git/hooks/post-checkout").exists()
    );
    assert!(!b.read(".git/config").contains("evil"));
    assert_eq!(b.read(".github/workflows/ci.yml"), "x\n");
    // Ordinary git work goes on.
    let out = b.sh("echo a > a && git add a && git -c user.name=t -c user.email=t@t commit -qm x && git log --oneline").await;
    assert!(out.ok, "{}", out.envelope);
    for path in [
        ".git/hooks/pre-commit",
        ".git/config",
        ".github/workflows/x.yml",
        ".lapce/settings.toml",
        ".GIT/hooks/x",
    ] {
        let out = b.call("write_to_file", json!({"path": path, "content": "evil"})).await;
        assert!(!out.ok && out.envelope.contains("protected"), "{}", out.envelope);
    }
}

#[tokio::test]
async fn protected_paths_cannot_be_made_either() {
    let b = Bench::new();
    let make = "mkdir -p .lapce .github/workflows && echo evil > .lapce/settings.toml && echo evil > .github/workflows/x.yml";
    let out = b.sh(make).await;
    assert!(out.envelope.contains("'.lapce' is protected"), "{}", out.envelope);
    assert!(!b.path(".lapce").exists() && !b.path(".github/workflows").exists());
    let out = b
        .sh("git init -q . && git -c user.name=t -c user.email=t@t commit -q --allow-empty -m x")
        .await;
    assert!(out.ok && b.path(".git/HEAD").exists(), "{}", out.envelope);
    let b = Bench::new();
    let out = b.sh("git init -q . && git config core.fsmonitor ./evil").await;
    assert!(out.envelope.contains("'.git' is protected"), "{}", out.envelope);
    assert!(!b.path(".git").exists());
}

#[tokio::test]
async fn nothing_outside_can_be_written() {
    let b = Bench::new();
    let target = b.dir.path().join("outside.txt");
    std::fs::write(&target, "before").unwrap();
    std::os::unix::fs::symlink(&target, b.path("link")).unwrap();
    let dir = b.dir.path().join("outdir");
    std::fs::create_dir(&dir).unwrap();
    std::os::unix::fs::symlink(&dir, b.path("dirlink")).unwrap();
    for command in [
        format!("echo after > {}", target.display()),
        "echo after > link".into(),
        "echo after > dirlink/x".into(),
        format!("ln {} hard && echo after > hard", target.display()),
        format!("rm {}", target.display()),
        format!("chmod 777 {}", target.display()),
    ] {
        std::fs::write(&target, "before").unwrap();
        let _ = std::fs::remove_file(dir.join("x"));
        let _ = std::fs::remove_file(b.path("hard"));
        changes_nothing_inside(&b, &command, &target, &dir).await;
    }
    for path in ["link", "dirlink/x", "../outside.txt", target.to_str().unwrap()] {
        let out = b.call("write_to_file", json!({"path": path, "content": "after"})).await;
        assert!(!out.ok, "{path}: {}", out.envelope);
    }
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "before");
    for path in ["link", "../outside.txt", target.to_str().unwrap(), "dirlink/../outside.txt"] {
        let out = b.call("read_file", json!({"path": path})).await;
        assert!(!out.ok && !out.envelope.contains("before"), "{path}: {}", out.envelope);
    }
}

/// The command changes something outside the workspace when run outside the sandbox, and
/// nothing when run inside.
async fn changes_nothing_inside(
    b: &Bench,
    command: &str,
    target: &std::path::Path,
    dir: &std::path::Path,
) {
    let state = || {
        let meta = std::fs::metadata(target).ok();
        let mode = meta.map(|m| m.permissions().mode() & 0o777);
        (std::fs::read_to_string(target).ok(), mode, dir.join("x").exists())
    };
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(target, mode).unwrap();
    let clean = state();
    let (worked, text) = outside(b, command);
    assert!(worked && state() != clean, "outside, this must work: {command}\n{text}");
    std::fs::write(target, "before").unwrap();
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(target, mode).unwrap();
    let _ = std::fs::remove_file(dir.join("x"));
    let _ = std::fs::remove_file(b.path("hard"));
    let out = b.sh(command).await;
    // It may well succeed, in the command's own /tmp. What counts is the real file.
    assert!(out.envelope.contains("Exit code:"), "it must have run: {}", out.envelope);
    assert_eq!(state(), clean, "{command}\n{}", out.envelope);
}

#[tokio::test]
async fn odd_files_are_refused() {
    let b = Bench::new();
    assert!(outside(&b, "mkfifo pipe; ln -s pipe plink; ln -s loop2 loop1; ln -s loop1 loop2; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'").0);
    if lapce_ai_tools_is_root() {
        assert!(outside(&b, "mknod dev c 1 5").0);
        let out = b.call("read_file", json!({"path": "dev"})).await;
        assert!(!out.ok && out.envelope.contains("device"), "{}", out.envelope);
    }
    for (path, word) in [
        ("pipe", "named pipe"),
        ("plink", "named pipe"),
        ("sock", "socket"),
        ("loop1", "symlink"),
        ("/proc/self/environ", "outside"),
        ("none", "does not exist"),
    ] {
        let out = b.call("read_file", json!({"path": path})).await;
        assert!(!out.ok && out.envelope.contains(word), "{path}: {}", out.envelope);
        let out = b.call("write_to_file", json!({"path": path, "content": "x"})).await;
        assert!(!out.ok || path == "none", "{path}: {}", out.envelope);
    }
}

#[tokio::test]
async fn no_descriptor_or_variable_is_inherited() {
    // What a careless host has open and set.
    let file = std::fs::File::open("/etc/hostname").unwrap();
    // SAFETY: clears close-on-exec on our own descriptor.
    unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&file), libc::F_SETFD, 0) };
    let b = Bench::new();
    let (_, text) = outside(&b, "ls -l /proc/self/fd");
    assert!(text.contains("hostname"), "outside, it is inherited: {text}");
    let out = b.sh("ls -l /proc/self/fd; ls /proc/self/fd | wc -l").await;
    assert!(!out.envelope.contains("hostname"), "{}", out.envelope);
    let out = b.sh("env | cut -d= -f1 | sort | tr '\\n' ' '").await;
    for name in [
        "LD_PRELOAD",
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "GITHUB_TOKEN",
        "CARGO_MANIFEST_DIR",
        "SSH_AUTH_SOCK",
    ] {
        assert!(!out.envelope.contains(name), "{}", out.envelope);
    }
    // This process has variables that a test runner set; none of them passes.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
}

#[tokio::test]
async fn a_library_from_the_workspace_is_not_preloaded() {
    let b = Bench::new();
    b.write("evil.c", "#include <unistd.h>\n__attribute__((constructor)) void f(void) { write(1, \"EVIL\", 4); }\n");
    assert!(outside(&b, "cc -shared -fPIC -o evil.so evil.c").0);
    let mut child = Command::new("/bin/true")
        .env("LD_PRELOAD", b.path("evil.so"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut text).unwrap();
    child.wait().unwrap();
    assert_eq!(text, "EVIL", "outside, it is preloaded");
    // The engine's own environment may hold it; a helper's never does. This process
    // cannot set its environment safely, so a child of it asks.
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "escape::inner_preload", "--ignored", "--nocapture"])
        .env("LD_PRELOAD", b.path("evil.so"))
        .env("INNER_WORKSPACE", b.workspace.root())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains("INNER:") && out.status.success(), "{text}");
    let inner = &text[text.find("INNER:").unwrap()..];
    assert!(!inner.contains("EVIL"), "{inner}");
}

#[tokio::test]
#[ignore = "run by a_library_from_the_workspace_is_not_preloaded"]
async fn inner_preload() {
    let Ok(root) = std::env::var("INNER_WORKSPACE") else { return };
    let b = Bench::at(std::path::Path::new(&root));
    let out = b.sh("/bin/true; env").await;
    print!("INNER:{}", out.envelope.replace("evil.so", ""));
    std::io::stdout().flush().unwrap();
    assert!(out.ok);
}

#[tokio::test]
async fn grandchildren_are_gone() {
    let b = Bench::new();
    for off in [&[][..], &["pid-namespace", "mount-namespace", "user-namespace"][..]] {
        let b = b.without(off);
        let marker = format!("{}.{}", std::process::id(), off.len());
        let command = format!(
            "setsid bash -c 'exec -a daemon-{marker} sleep 300' </dev/null >/dev/null 2>&1 & disown; sleep 0.2; echo started"
        );
        assert!(find_process(&format!("daemon-{marker}")).is_none());
        let out = b.sh(&command).await;
        assert!(out.envelope.contains("started"), "{}", out.envelope);
        assert_eq!(find_process(&format!("daemon-{marker}")), None, "{off:?}");
    }
    // Outside, it stays.
    let (_, _) = outside(
        &b,
        "setsid bash -c 'exec -a daemon-outside sleep 300' </dev/null >/dev/null 2>&1 & disown; sleep 0.2",
    );
    let pid = tokio::time::timeout(Duration::from_mins(1), async {
        loop {
            if let Some(pid) = find_process("daemon-outside") {
                break pid;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let pid = pid.await.expect("outside, it lives on");
    // SAFETY: a process this test started.
    unsafe { libc::kill(pid as i32, libc::SIGKILL) };
}

fn find_process(name: &str) -> Option<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok()).find(|pid| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.starts_with(name.as_bytes()))
    })
}

#[tokio::test]
async fn cancel_ends_everything_even_what_ignores_signals() {
    for off in [&[][..], &["pid-namespace", "mount-namespace", "user-namespace"][..]] {
        let b = Bench::new();
        let b = b.without(off);
        let marker = format!("stubborn-{}-{}", std::process::id(), off.len());
        let command = format!(
            "trap '' TERM INT HUP; bash -c 'trap \"\" TERM INT HUP; exec -a {marker} sleep 300' & exec -a {marker} sleep 300"
        );
        let invocation = b.invocation("execute_command", json!({"command": command}));
        let cancel = invocation.cancel.clone();
        let waiting = async {
            while find_process(&marker).is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(b.host.pids().len(), 1);
            cancel.cancel();
        };
        let (out, ()) = tokio::join!(b.host.run(invocation), waiting);
        assert!(out.envelope.contains("Cancelled"), "{}", out.envelope);
        assert_eq!(find_process(&marker), None, "{off:?}");
        assert!(b.host.pids().is_empty());
    }
}

#[tokio::test]
async fn dropping_the_call_ends_the_helper() {
    let b = Bench::new();
    let marker = format!("dropped-{}", std::process::id());
    let command = format!("exec -a {marker} sleep 300");
    {
        let run = b.sh(&command);
        tokio::pin!(run);
        let seen = async {
            while find_process(&marker).is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! { _ = &mut run => panic!("it ended"), () = seen => {} }
    }
    for _ in 0..200 {
        if find_process(&marker).is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the command outlived its call");
}

#[tokio::test]
async fn the_helper_dies_with_its_host() {
    let b = Bench::new();
    let marker = format!("orphan-{}", std::process::id());
    let mut host = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "escape::inner_host", "--ignored"])
        .env("INNER_WORKSPACE", b.workspace.root())
        .env("INNER_MARKER", &marker)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut pid = None;
    for _ in 0..500 {
        pid = find_process(&marker);
        if pid.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let pid = pid.expect("the command runs");
    host.kill().unwrap();
    host.wait().unwrap();
    for _ in 0..200 {
        if !alive(pid) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the command outlived its host");
}

#[tokio::test]
#[ignore = "run by the_helper_dies_with_its_host"]
async fn inner_host() {
    let (Ok(root), Ok(marker)) = (std::env::var("INNER_WORKSPACE"), std::env::var("INNER_MARKER"))
    else {
        return;
    };
    let b = Bench::at(std::path::Path::new(&root));
    b.sh(&format!("exec -a {marker} sleep 300")).await;
}

#[tokio::test]
async fn ignored_files_are_off_limits_to_every_tool() {
    let b = Bench::new();
    b.write(".aiignore", "*.pem\n/private/\n.env\n");
    b.write(".gitignore", ".env\nbuild/\n");
    for path in ["k.pem", "sub/k.pem", "private/p", ".env", "build/out"] {
        b.write(path, "HIDDEN");
    }
    b.write("open.txt", "HIDDEN is a word here\n");
    std::os::unix::fs::symlink("k.pem", b.path("alias")).unwrap();
    for path in ["k.pem", "sub/k.pem", "private/p", ".env", "build/out", "alias"] {
        let out = b.call("read_file", json!({"path": path})).await;
        assert!(!out.ok && !out.envelope.contains("HIDDEN"), "{path}: {}", out.envelope);
        let out = b.call("write_to_file", json!({"path": path, "content": "x"})).await;
        assert!(!out.ok, "{path}: {}", out.envelope);
    }
    let out = b.call("search_files", json!({"path": ".", "regex": "HIDDEN"})).await;
    assert!(out.envelope.contains("Found 1 result."), "{}", out.envelope);
    let out = b.call("list_files", json!({"path": ".", "recursive": true})).await;
    for name in ["pem", "private", ".env", "build"] {
        assert!(!out.envelope.contains(name), "{}", out.envelope);
    }
    // Commands: what .aiignore names is not there to be seen.
    assert!(outside(&b, "cat k.pem sub/k.pem private/p .env").0);
    for path in ["k.pem", "sub/k.pem", "private/p", ".env", "alias"] {
        let out = b
            .sh(&format!("cat {path}; cp {path} copy && cat copy; mv {path} moved && cat moved"))
            .await;
        assert!(!out.envelope.contains("HIDDEN"), "{path}: {}", out.envelope);
    }
    let out = b.without(&["mount-namespace"]).sh("cat k.pem").await;
    assert!(!out.ok && out.envelope.contains(".aiignore"), "{}", out.envelope);
    // A rule file that cannot be read closes everything.
    b.write("deep/.aiignore", "[z-a]\n");
    b.write("deep/x", "HIDDEN");
    for (tool, params) in [
        ("read_file", json!({"path": "deep/x"})),
        ("search_files", json!({"path": ".", "regex": "HIDDEN"})),
        ("list_files", json!({"path": "deep"})),
        ("execute_command", json!({"command": "cat deep/x"})),
    ] {
        let out = b.call(tool, params).await;
        assert!(!out.ok && out.envelope.contains("aiignore"), "{tool}: {}", out.envelope);
    }
}

#[tokio::test]
async fn without_any_layer_nothing_runs() {
    // The user's own settings may waive the layers; an absent layer alone may not.
    let b = Bench::new();
    let out = b.without(&["landlock"]).sh("echo ran").await;
    assert!(out.ok && out.absent.iter().any(|(name, _)| name == "landlock"), "{}", out.envelope);
    let out = b.without(&["landlock", "mount-namespace", "seccomp"]).sh("echo ran").await;
    assert!(out.ok, "waived by the user: {}", out.envelope);
}

/// What git ignores and by its name holds secrets is not there for commands; what builds
/// need is.
#[tokio::test]
async fn secrets_that_git_ignores_are_empty_for_commands() {
    let b = Bench::new();
    b.write(".gitignore", ".env\n/target\n*.o\nlocal/\nsecrets/\n");
    for file in [".env", "sub/.env", "local/server.pem", "secrets/a.txt"] {
        b.write(file, "KEY=hunter2");
    }
    b.write("target/x", "built");
    b.write("a.o", "object");
    for command in [
        "grep hunter2 .env",
        "grep hunter2 sub/.env",
        "grep hunter2 local/server.pem",
        "grep hunter2 secrets/a.txt",
        "grep -r hunter2 .",
        "ln -sf .env l && grep hunter2 l",
        "mv sub sub2 && mv sub2 sub3 && mv sub3 sub && grep hunter2 sub/.env",
        "cp sub/.env copy && grep hunter2 copy",
        "ln sub/.env hard && rm hard",
        "mv sub/.env s && mv s sub/.env",
        "echo KEY=hunter2 > sub/.env",
        "python3 -c 'import mmap; f = open(\"sub/.env\"); mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)'",
    ] {
        let text = fails_only_inside(&b, command).await;
        assert!(text.contains("see these as empty") && text.contains("sub/.env"), "{text}");
    }
    let out =
        b.sh("cat target/x a.o && echo new > target/new && echo new > a.o && rm target/x").await;
    assert!(out.ok && out.envelope.contains("builtobject"), "{}", out.envelope);
    // The user's own settings show one; the others stay.
    let mut shown = Bench::at(b.workspace.root());
    shown.workspace = shown.workspace.show(["sub/.env".into()]);
    assert!(shown.sh("grep hunter2 sub/.env").await.ok);
    assert!(!shown.sh("grep hunter2 .env").await.ok);
    // Without a way to hide them, nothing runs; rules that cannot be read close as well.
    let out = b.without(&[layer::MOUNT]).sh("true").await;
    assert!(out.envelope.contains("was not run: .gitignore names"), "{}", out.envelope);
    b.write("deep/.gitignore", "[z-a]\n");
    let out = b.sh("true").await;
    assert!(!out.ok && out.envelope.contains("off limits"), "{}", out.envelope);
}

/// `git status` needs no approval, and git runs what a repository's configuration names.
#[tokio::test]
async fn no_repository_made_for_it_lets_git_run_a_program() {
    let b = Bench::new();
    let config = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = .\n\tfsmonitor = \"touch pwned; false\"\n";
    // One that a tool would make.
    for path in ["sub/.git/config", "sub/.git", "sub/.GIT/hooks/x", ".git/HEAD"] {
        let out = b.call("write_to_file", json!({"path": path, "content": config})).await;
        assert!(!out.ok && out.envelope.contains("is protected"), "{path}: {}", out.envelope);
    }
    let patch = "*** Begin Patch\n*** Add File: sub/.git/config\n+[core]\n*** End Patch\n";
    let out = b.call("apply_patch", json!({"patch": patch})).await;
    assert!(!out.ok && !b.path("sub/.git").exists(), "{}", out.envelope);
    // One that the workspace brings along: a folder that looks like a repository.
    b.write("trap/HEAD", "ref: refs/heads/main\n");
    b.write("trap/config", config);
    for folder in ["trap/objects", "trap/refs/heads"] {
        std::fs::create_dir_all(b.path(folder)).unwrap();
    }
    let (worked, text) = outside(&b, "cd trap && git status; test -e pwned");
    assert!(worked, "git does not fall for it outside: {text}");
    std::fs::remove_file(b.path("trap/pwned")).unwrap();
    let out = b.sh("cd trap && git status; test -e pwned").await;
    assert!(!out.ok && !b.path("trap/pwned").exists(), "{}", out.envelope);
}

/// Moved with the folder that holds it, a covered file would be in no rule's place afterwards.
#[tokio::test]
async fn what_is_covered_cannot_be_moved_to_where_no_rule_names_it() {
    let b = Bench::new();
    b.write(".aiignore", "/deep/private/key.txt\n/vault/\n*.pem\n");
    b.write("deep/private/key.txt", "secret\n");
    b.write("deep/private/other.txt", "other\n");
    b.write("deep/vault/x", "x\n");
    b.write("vault/k", "secret\n");
    b.write("certs/a.pem", "secret\n");
    for (command, moved) in [
        ("mv deep/private deep/p2", "deep/p2/key.txt"),
        ("mv deep d2", "d2/private/key.txt"),
        ("mv vault v2", "v2/k"),
        ("mv deep/private/key.txt k", "k"),
        ("ln deep/private/key.txt k2", "k2"),
        ("mv certs c2", "c2/a.pem"),
    ] {
        let out = b.sh(command).await;
        let read = b.call("read_file", json!({"path": moved})).await;
        assert!(!read.envelope.contains("secret"), "{command}: {}{}", out.envelope, read.envelope);
    }
    // Nor can the rules be changed, wherever they lie.
    b.write("lib/.aiignore", "token\n");
    b.write("lib/token", "secret\n");
    for command in ["echo > lib/.aiignore", "rm lib/.aiignore", "mv lib l2", "echo > .aiignore"] {
        assert!(!b.sh(command).await.ok, "{command}");
    }
    for path in ["lib/.aiignore", ".aiignore", "new/.aiignore"] {
        let out = b.call("write_to_file", json!({"path": path, "content": "x\n"})).await;
        assert!(!out.ok && out.envelope.contains("is protected"), "{path}: {}", out.envelope);
    }
    assert!(!b.call("read_file", json!({"path": "lib/token"})).await.ok);
    // What lies beside it stays free.
    let out = b.sh("echo more >> deep/private/other.txt && mv deep/private/other.txt o").await;
    assert!(out.ok && b.read("o") == "other\nmore\n", "{}", out.envelope);
}

/// A covered file in a protected folder must not open that folder.
#[tokio::test]
async fn a_secret_in_a_protected_folder_leaves_it_protected() {
    let b = Bench::new();
    b.write(".gitignore", "*.pem\n");
    b.write(".vscode/deep/down/key.pem", "secret\n");
    b.write(".vscode/deep/tasks.json", "{}\n");
    b.write(".vscode/lib/.aiignore", "x\n");
    for command in [
        "echo evil > .vscode/deep/tasks.json",
        "echo evil > .vscode/deep/down/new",
        "echo evil > .vscode/lib/new",
        "mv .vscode/deep .vscode/d2",
        "grep secret .vscode/deep/down/key.pem",
    ] {
        assert!(!b.sh(command).await.ok, "{command}");
    }
    assert_eq!(b.read(".vscode/deep/tasks.json"), "{}\n");
}
