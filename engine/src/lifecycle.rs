//! The program: one engine per user, from the socket to the last file removed.
//!
//! Order matters. The lock decides who is the engine; then the socket listens; then whoever
//! started us is told; only then is anything else set up, so that a client's first request
//! waits in the socket's queue instead of for us. The way out is the reverse: no new
//! connections, children ended, socket and lock removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::os::unix::fs::{
    FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use lapce_ai_ipc::paths::{self, Paths};
use lapce_ai_ipc::{Connections, EngineProtocol, Ident, Options as RingOptions, ServeError};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dispatch::Dispatcher;
use crate::state::{Engine, Options};
use crate::{limits, logging};

/// Version that the handshake, `--version` and the log say.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
const NAME: &str = "lapce-ai-engine";

const USAGE: &str = "\
The Lapce AI engine: one background process per user, started by its clients when needed.

Usage: lapce-ai-engine [--idle-exit SECONDS] [--worker-idle SECONDS] [--ready-fd N]

  --idle-exit SECONDS    end after this long without a connection, a run or a build (default 600)
  --worker-idle SECONDS  end the index worker after this long without a search (default 60)
  --ready-fd N           write one line to descriptor N when connections are taken, or why not
  --config-reference     print the reference of config.toml in Markdown
  --check-config FILE    say whether FILE is a good config.toml
  --version, --help

Exit status: 0 ended as asked or idle, 1 failed, 2 wrong usage, 3 another engine runs already.
Status, logs and a way to stop it: lapce-ai status, lapce-ai stop, lapce-ai doctor.";

/// Why the engine did not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}; see --help")]
    Usage(String),
    #[error("{0}")]
    Config(String),
    #[error("another engine (process {pid}) runs already")]
    AlreadyRuns { pid: String },
    #[error("cannot {what}: {source}")]
    Io { what: String, source: io::Error },
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Io { .. } | Self::Config(_) => 1,
            Self::Usage(_) => 2,
            Self::AlreadyRuns { .. } => 3,
        }
    }
}

fn io_failure(what: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
    let what = what.into();
    move |source| Failure::Io { what, source }
}

/// The whole program.
pub fn main() -> ExitCode {
    let mut ready = ReadyPipe(None);
    match start(&mut ready) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            ready.tell(&format!("error: {failure}"));
            let _ = writeln!(io::stderr(), "lapce-ai-engine: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn start(ready: &mut ReadyPipe) -> Result<(), Failure> {
    let Some((options, ready_fd)) =
        parse(std::env::args().skip(1), |name| std::env::var(name).ok())?
    else {
        return Ok(());
    };
    ready.0 = ready_fd;
    let paths = Paths::from_env();
    // A signal that comes before there is a runtime to hear it waits until then.
    mask_signals(libc::SIG_BLOCK);
    let place = Place::take(&paths)?;
    ready.tell("ready");

    let log_file = logging::file_in(&paths.log_dir());
    logging::init(log_file.clone());
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(limits::BLOCKING_THREADS)
        .build()
        .map_err(io_failure("start the runtime"))?
        .block_on(run(place, Engine::new(paths, &options, log_file), options.idle_exit))
}

/// Reads the command line; `None` means that everything is said already.
fn parse(
    mut args: impl Iterator<Item = String>,
    var: impl Fn(&str) -> Option<String>,
) -> Result<Option<(Options, Option<i32>)>, Failure> {
    let mut options = Options::default();
    if let Some(value) = var(lapce_ai_ipc::env::IDLE_EXIT_S) {
        options.idle_exit = seconds(lapce_ai_ipc::env::IDLE_EXIT_S, Some(value))?;
    }
    let mut ready_fd = None;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--version" | "-V" => {
                say(&format!("{NAME} {VERSION}"));
                return Ok(None);
            }
            "--help" | "-h" => {
                say(USAGE);
                return Ok(None);
            }
            "--check-config" => {
                let file = args.next().map(std::path::PathBuf::from);
                let file =
                    file.ok_or_else(|| Failure::Usage("--check-config takes a file".into()))?;
                crate::config::ConfigStore::new(file)
                    .get()
                    .map_err(|e| Failure::Config(e.message))?;
                return Ok(None);
            }
            "--config-reference" => {
                say(crate::config::reference_markdown().trim_end());
                return Ok(None);
            }
            "--idle-exit" => options.idle_exit = seconds("--idle-exit", args.next())?,
            "--worker-idle" => options.worker_idle = seconds("--worker-idle", args.next())?,
            "--ready-fd" => {
                let fd = args.next().and_then(|n| n.parse().ok()).filter(|fd| *fd > 2);
                let wrong = || Failure::Usage("--ready-fd takes a descriptor above 2".into());
                ready_fd = Some(fd.ok_or_else(wrong)?);
            }
            other => return Err(Failure::Usage(format!("unknown argument {other:?}"))),
        }
    }
    Ok(Some((options, ready_fd)))
}

fn seconds(name: &str, value: Option<String>) -> Result<Duration, Failure> {
    value
        .and_then(|text| text.parse::<f64>().ok())
        .and_then(|secs| Duration::try_from_secs_f64(secs).ok())
        .ok_or_else(|| Failure::Usage(format!("{name} takes a number of seconds")))
}

fn say(text: &str) {
    // A closed standard output is the reader's wish.
    let _ = writeln!(io::stdout(), "{text}");
}

/// The pipe on which the process that started us waits for one line.
struct ReadyPipe(Option<i32>);

impl ReadyPipe {
    fn tell(&mut self, line: &str) {
        let Some(fd) = self.0.take() else { return };
        // SAFETY: fcntl with F_GETFD touches no memory; it fails for a descriptor that is not open.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            return;
        }
        // SAFETY: the descriptor is open, was given to us for this, and is closed once, here.
        let mut pipe = unsafe { File::from_raw_fd(fd) };
        let _ = pipe.write_all(format!("{line}\n").as_bytes());
    }
}

/// What makes this process the engine of its user: the lock, and the socket that listens.
struct Place {
    paths: Paths,
    #[expect(dead_code, reason = "held until the very end, for its lock")]
    lock: File,
    listener: UnixListener,
}

impl Place {
    fn take(paths: &Paths) -> Result<Self, Failure> {
        let dir = &paths.runtime;
        paths::private_dir(dir).map_err(io_failure(format!("use the folder {}", dir.display())))?;
        let lock = take_lock(&paths.engine_lock())?;
        let listener = listen(&paths.engine_socket())?;
        Ok(Self { paths: paths.clone(), lock, listener })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The lock goes last, and its name before the lock itself: whoever opens the old
        // name sees that it is gone and starts over (`take_lock`).
        let _ = fs::remove_file(self.paths.engine_socket());
        let _ = fs::remove_file(self.paths.engine_lock());
    }
}

/// Locks `path` for as long as the returned file is open.
fn take_lock(path: &Path) -> Result<File, Failure> {
    let failed = |what: &str| io_failure(format!("{what} {}", path.display()));
    loop {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(failed("open"))?;
        // SAFETY: flock takes an open descriptor and touches no memory.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::WouldBlock {
                let pid = fs::read_to_string(path).unwrap_or_default().trim().to_owned();
                let pid = if pid.is_empty() { "unknown".to_owned() } else { pid };
                return Err(Failure::AlreadyRuns { pid });
            }
            return Err(failed("lock")(error));
        }
        // The engine before us may have removed the file between our open and our lock.
        let here = file.metadata().map_err(failed("read"))?;
        if fs::metadata(path).is_ok_and(|there| there.ino() == here.ino()) {
            // For people who look; nothing reads it but the message above. A full disk is no
            // reason not to start.
            let _ = file.set_len(0);
            let _ = writeln!(file, "{}", std::process::id());
            return Ok(file);
        }
    }
}

/// Binds the socket, taking the place of one that a killed engine left behind.
fn listen(path: &Path) -> Result<UnixListener, Failure> {
    let failed = || io_failure(format!("listen on {}", path.display()));
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => fs::remove_file(path).map_err(failed())?,
        Ok(_) => {
            let error = io::Error::other("something that is no socket is in its place; remove it");
            return Err(failed()(error));
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(|error| {
        let hint = format!("{error}; a shorter {} helps", lapce_ai_ipc::env::HOME);
        let long = error.kind() == io::ErrorKind::InvalidInput;
        failed()(if long { io::Error::other(hint) } else { error })
    })?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed())?;
    listener.set_nonblocking(true).map_err(failed())?;
    Ok(listener)
}

/// Serves until it is asked to stop, or nobody has needed it for `idle_exit`.
async fn run(place: Place, engine: Engine, idle_exit: Duration) -> Result<(), Failure> {
    let listener = place.listener.try_clone().map_err(io_failure("share the socket"))?;
    let listener =
        tokio::net::UnixListener::from_std(listener).map_err(io_failure("watch the socket"))?;
    let engine = Arc::new(engine);
    let shutdown = engine.shutdown.clone();
    watch_signals(&shutdown)?;
    tracing::info!(version = VERSION, pid = std::process::id(), "engine started");

    let connections = &engine.connections;
    let dispatcher = Arc::new(Dispatcher { engine: engine.clone() });
    let tracker = TaskTracker::new();
    let why = loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break "asked to stop",
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    tracker.spawn(connection(connections.clone(), stream, dispatcher.clone()));
                }
                Err(error) => {
                    // Out of descriptors, most likely: let some connections end first.
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(limits::ACCEPT_PAUSE).await;
                }
            },
            () = idle(&engine, &tracker, idle_exit) => break "idle",
        }
    };
    tracing::info!(why, "engine ends");
    drop(listener);
    let _ = fs::remove_file(place.paths.engine_socket());
    shutdown.cancel();
    tracker.close();
    futures::join!(engine.index.end(), engine.mcp.stop());
    // Calls see the token and answer; whoever asked to stop reads that answer and leaves.
    let _ = tokio::time::timeout(limits::DRAIN, tracker.wait()).await;
    drop(place);
    Ok(())
}

/// One client, from hello to goodbye.
async fn connection(
    connections: Connections,
    stream: tokio::net::UnixStream,
    dispatcher: Arc<Dispatcher>,
) {
    let ident = Ident::new(NAME, VERSION);
    let options = RingOptions::default();
    let activity = dispatcher.engine.activity.clone();
    let served = connections.serve::<EngineProtocol, _>(stream, ident, options, dispatcher).await;
    match served {
        Ok(()) => tracing::debug!("a client left"),
        Err(ServeError::Violation(violation)) => {
            tracing::warn!(%violation, "a client broke the protocol and was cut off");
        }
        Err(error) => tracing::info!(%error, "a connection ended"),
    }
    activity.notify_one();
}

/// Returns when there has been no connection, run or build for `limit`.
async fn idle(engine: &Engine, tracker: &TaskTracker, limit: Duration) {
    loop {
        let busy = !tracker.is_empty() || !engine.runs.is_empty() || engine.index.building() > 0;
        let wait = async {
            if busy {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(limit).await;
        };
        tokio::select! {
            () = wait => return,
            () = engine.activity.notified() => {}
        }
    }
}

/// The signals that end the engine in order.
const ENDING: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// Holds the ending signals back (`SIG_BLOCK`) or lets them through (`SIG_UNBLOCK`).
fn mask_signals(how: i32) {
    // SAFETY: the set is initialised by sigemptyset before it is used, and each call takes
    // pointers to it only for its own duration. Children get an empty mask from `Command`.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in ENDING {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut());
    }
}

/// SIGTERM, SIGINT and SIGHUP end the engine in order.
fn watch_signals(shutdown: &CancellationToken) -> Result<(), Failure> {
    for number in ENDING {
        let kind = SignalKind::from_raw(number);
        let mut stream = signal(kind).map_err(io_failure("watch for signals"))?;
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            if stream.recv().await.is_some() {
                tracing::info!(signal = number, "signal");
                shutdown.cancel();
            }
        });
    }
    mask_signals(libc::SIG_UNBLOCK);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Option<(Options, Option<i32>)>, Failure> {
        parse(args.iter().map(ToString::to_string), |_| None)
    }

    #[test]
    fn arguments() {
        let (options, fd) = parsed(&["--idle-exit", "1.5", "--ready-fd", "7"]).unwrap().unwrap();
        assert_eq!(options.idle_exit, Duration::from_millis(1500));
        assert_eq!(fd, Some(7));
        assert_eq!(parsed(&[]).unwrap().unwrap().0.idle_exit, limits::IDLE_EXIT);
        for bad in [&["--idle-exit"][..], &["--idle-exit", "-1"], &["--ready-fd", "1"], &["x"]] {
            assert_eq!(parsed(bad).unwrap_err().exit_code(), 2, "{bad:?}");
        }
        let (options, _) = parse([].into_iter(), |_| Some("3".into())).unwrap().unwrap();
        assert_eq!(options.idle_exit, Duration::from_secs(3));
    }

    #[test]
    fn one_engine_at_a_time_and_the_next_takes_over() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().as_os_str().to_owned();
        let paths = Paths::resolve(|n| (n == lapce_ai_ipc::env::HOME).then(|| home.clone()), 0);
        let first = Place::take(&paths).unwrap();
        let second = Place::take(&paths).err().unwrap();
        assert_eq!(second.exit_code(), 3);
        assert!(second.to_string().contains(&std::process::id().to_string()), "{second}");
        drop(first);
        assert_eq!(fs::read_dir(&paths.runtime).unwrap().count(), 0, "no file is left");
        // A killed engine leaves its socket; its lock is free.
        drop(UnixListener::bind(paths.engine_socket()).unwrap());
        assert!(paths.engine_socket().exists());
        let third = Place::take(&paths).unwrap();
        let mode = fs::metadata(paths.engine_socket()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(third);
        // Something else in the way is not removed.
        fs::write(paths.engine_socket(), "mine").unwrap();
        let failure = Place::take(&paths).err().unwrap();
        assert!(failure.to_string().contains("no socket"), "{failure}");
        assert_eq!(fs::read_to_string(paths.engine_socket()).unwrap(), "mine");
    }

    #[test]
    fn a_path_too_long_for_a_socket_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("x".repeat(120)).into_os_string();
        let paths = Paths::resolve(|n| (n == lapce_ai_ipc::env::HOME).then(|| home.clone()), 0);
        let failure = Place::take(&paths).err().unwrap();
        assert!(failure.to_string().contains("shorter LAPCE_AI_HOME"), "{failure}");
    }
}
