//! Support for tests over the real programs: an isolated home with its own engine.
//!
//! A [`TestHome`] is a folder that `LAPCE_AI_HOME` names: socket, logs, indexes and
//! configuration of everything started through it lie there. Dropping it kills whatever is
//! left; [`TestHome::assert_nothing_left`] says what that would be. Used by the tests of
//! `engine/`, `cli/` and this folder, and by the benches.

pub mod deadline;
mod processes;
pub mod programs;
pub mod terminal;

use std::ffi::{CString, OsStr};
use std::fmt;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use lapce_ai_ipc::env;
use lapce_ai_ipc::paths::Paths;
pub use processes::{Process, alive, kill, memory_kib};

/// Nothing here takes this long: it ends a test that hangs, and never decides about time.
pub const HANG: Duration = Duration::from_mins(3);

/// An isolated home for our programs.
#[derive(Debug)]
pub struct TestHome {
    dir: tempfile::TempDir,
    bin: PathBuf,
    _deadline: deadline::Deadline,
}

impl Default for TestHome {
    fn default() -> Self {
        Self::new()
    }
}

impl TestHome {
    /// A home whose programs are those of `LAPCE_AI_BIN_DIR`, else those beside the test.
    pub fn new() -> Self {
        Self::with_programs(&bin_dir())
    }

    /// A home with the programs of `bin`.
    pub fn with_programs(bin: &Path) -> Self {
        // Short: a socket's path has at most 107 bytes.
        let dir = tempfile::Builder::new().prefix("lai-").tempdir().expect("a temporary folder");
        let home = Self { dir, bin: bin.to_path_buf(), _deadline: deadline::Deadline::new() };
        std::fs::create_dir(home.path().join("h")).expect("a home folder");
        home
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn bin_dir(&self) -> &Path {
        &self.bin
    }

    pub fn paths(&self) -> Paths {
        let home = self.path().as_os_str().to_owned();
        Paths::resolve(|name| (name == env::HOME).then(|| home.clone()), 0)
    }

    /// A fresh folder for files of the test, outside the folders of the product.
    pub fn folder(&self, name: &str) -> PathBuf {
        let dir = self.path().join("h").join(name);
        std::fs::create_dir_all(&dir).expect("a folder");
        dir
    }

    /// A folder with these files: `(path, text)`.
    pub fn workspace(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let dir = self.folder(name);
        for (path, text) in files {
            let file = dir.join(path);
            std::fs::create_dir_all(file.parent().expect("a parent")).expect("a folder");
            std::fs::write(file, text).expect("a file");
        }
        dir
    }

    /// Writes the user's `config.toml`.
    pub fn config(&self, text: &str) {
        let file = self.paths().config_file();
        std::fs::create_dir_all(file.parent().expect("a parent")).expect("a folder");
        std::fs::write(file, text).expect("config.toml");
    }

    /// One of our programs, with the environment of this home and nothing else.
    pub fn command(&self, program: &str) -> Command {
        let path = self.bin.join(program);
        assert!(
            path.is_file(),
            "{} is not built: cargo build -p the package that has it, or `cargo xtask test`",
            path.display()
        );
        let mut command = Command::new(path);
        command.env_clear().current_dir(self.path().join("h"));
        for name in ["PATH", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "RUST_BACKTRACE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("HOME", self.path().join("h"))
            .env(env::HOME, self.path())
            .env(env::BIN_DIR, &self.bin)
            .env(env::LOG, "debug")
            // Should a test be killed, its engine does not stay for long.
            .env(env::IDLE_EXIT_S, "60");
        command
    }

    /// Runs `lapce-ai` to its end, in the home folder of the user.
    pub fn cli<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        self.cli_in(&self.path().join("h"), args)
    }

    /// Runs `lapce-ai` to its end, in `dir`.
    pub fn cli_in<S: AsRef<OsStr>>(&self, dir: &Path, args: impl IntoIterator<Item = S>) -> Ran {
        let mut command = self.command("lapce-ai");
        command.args(args).current_dir(dir);
        run(command, b"")
    }

    /// Process id in the engine's lock file, if there is one and it lives.
    pub fn engine_pid(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.paths().engine_lock()).ok()?;
        text.trim().parse().ok().filter(|pid| alive(*pid))
    }

    /// Everything that runs for this home, children without its environment included.
    pub fn processes(&self) -> Vec<Process> {
        processes::of_home(self.path())
    }

    /// The engine's log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.paths().log_dir().join("engine.log")).unwrap_or_default()
    }

    /// Stops the engine, then fails if a process or a file in the runtime folder is left.
    pub fn assert_nothing_left(&self) {
        let stop = self.cli(["stop"]);
        assert_eq!(stop.code, Some(0), "{stop}");
        wait_for("every process to end", || self.processes().is_empty());
        let left: Vec<_> = std::fs::read_dir(self.paths().runtime)
            .map(|dir| dir.flatten().map(|entry| entry.file_name()).collect())
            .unwrap_or_default();
        assert!(left.is_empty(), "left in the runtime folder: {left:?}");
    }
}

impl Drop for TestHome {
    fn drop(&mut self) {
        // Twice: a process may have started another while it was looked at.
        for _ in 0..2 {
            for process in self.processes() {
                kill(process.pid, libc::SIGKILL);
            }
        }
        if std::thread::panicking() {
            eprintln!("--- the engine's log:\n{}", self.log());
        }
    }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ran {
    /// `None`: ended by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Fails unless the program exited with 0.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "an assertion")]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self}");
        self
    }

    /// Fails unless the program exited with `code`.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "an assertion")]
    pub fn exited(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self}"))
    }

    /// Standard output as JSON, one document a line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        let parse = |line| {
            serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{error} in {line:?} of {self}"))
        };
        self.stdout.lines().map(parse).collect()
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit {:?}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

/// Runs `command` to its end with `input` on its standard input; kills it when it hangs.
#[track_caller]
pub fn run(mut command: Command, input: &[u8]) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // A program that does not read its input is no error, and may not hold us up.
        std::thread::spawn(move || stdin.write_all(&input));
    }
    let stdout = reader(child.stdout.take().expect("piped"));
    let stderr = reader(child.stderr.take().expect("piped"));
    let code = wait(&mut child);
    let text = |pipe: mpsc::Receiver<String>| {
        pipe.recv_timeout(HANG).expect("nothing that it left behind holds its output open")
    };
    Ran { code, stdout: text(stdout), stderr: text(stderr) }
}

fn reader(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (send, text) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = send.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    text
}

/// Waits for `child` to end; kills it when it hangs.
#[track_caller]
pub fn wait(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + HANG;
    loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            return status.code();
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("{child:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until `done`; fails when it never is.
#[track_caller]
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + HANG;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Where our programs are: `LAPCE_AI_BIN_DIR`, else the folder that cargo puts them in.
pub fn bin_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os(env::BIN_DIR) {
        return PathBuf::from(dir);
    }
    let exe = std::env::current_exe().expect("the path of this test");
    // target/PROFILE/deps/TEST, or target/PROFILE/PROGRAM.
    let dir = exe.parent().expect("a folder");
    if dir.ends_with("deps") { dir.parent().expect("a folder").to_path_buf() } else { dir.into() }
}

/// Gives `command` and what it starts a file system of its own at `dir`, of `bytes` at most.
/// Needs root or user namespaces; the command does not start without them.
pub fn small_disk(command: &mut Command, dir: &Path, bytes: u64) {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::process::CommandExt as _;

    std::fs::create_dir_all(dir).expect("a folder to mount on");
    let at = CString::new(dir.as_os_str().as_bytes()).expect("no NUL");
    let options = CString::new(format!("size={bytes},mode=0700")).expect("no NUL");
    // SAFETY: runs between fork and exec: system calls only, on strings made before.
    unsafe {
        command.pre_exec(move || {
            let check =
                |got: i32| if got == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) };
            let user = if libc::getuid() == 0 { 0 } else { libc::CLONE_NEWUSER };
            check(libc::unshare(libc::CLONE_NEWNS | user))?;
            let (none, private) = (std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE);
            check(libc::mount(none, c"/".as_ptr(), none, private, none.cast()))?;
            let tmpfs = c"tmpfs".as_ptr();
            check(libc::mount(tmpfs, at.as_ptr(), tmpfs, 0, options.as_ptr().cast()))
        });
    }
}

/// Takes root's right to pass over permissions from `command` and what it starts.
pub fn bound_by_permissions(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;

    const CAP_DAC_OVERRIDE: libc::c_ulong = 1;
    const CAP_DAC_READ_SEARCH: libc::c_ulong = 2;
    // SAFETY: runs between fork and exec: two system calls with integers.
    unsafe {
        command.pre_exec(|| {
            if libc::getuid() == 0 {
                for capability in [CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH] {
                    if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
            }
            Ok(())
        });
    }
}
