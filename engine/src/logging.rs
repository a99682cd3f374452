//! The engine's log: JSON lines in a few files of bounded size.
//!
//! `engine.log` is the current file; `engine.log.1` is the one before it, and so on. Nothing
//! is opened before the first line. A disk that is full or a folder that cannot be written
//! costs log lines, never a request. Secrets cannot get in: their type does not print.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use lapce_ai_ipc::{env, paths};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::limits;

/// The current log file in `dir`.
pub fn file_in(dir: &Path) -> PathBuf {
    dir.join("engine.log")
}

/// Sends every `tracing` event of this process, and every panic, to `file`.
///
/// Returns what was wrong with `LAPCE_AI_LOG`, if anything was.
pub fn init(file: PathBuf) {
    let given = std::env::var(env::LOG).unwrap_or_default();
    let parsed = if given.is_empty() { Ok(default_filter()) } else { given.parse::<Targets>() };
    let bad = parsed.is_err();
    let layer = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(true)
        .log_internal_errors(false)
        .with_writer(Mutex::new(RotatingFile::new(
            file,
            limits::LOG_FILE_BYTES,
            limits::LOG_FILES,
        )));
    let registry = tracing_subscriber::registry().with(parsed.unwrap_or_else(|_| default_filter()));
    if registry.with(layer).try_init().is_err() {
        return;
    }
    if bad {
        tracing::warn!(given, "{} is not a valid log filter; the default is used", env::LOG);
    }
    std::panic::set_hook(Box::new(|info| {
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = std::backtrace::Backtrace::capture().to_string();
        tracing::error!(location, backtrace, "panic: {info}");
    }));
}

fn default_filter() -> Targets {
    Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("lapce_ai_engine", LevelFilter::INFO)
        .with_target("lapce_ai_ipc", LevelFilter::INFO)
        .with_target("lapce_ai_tools", LevelFilter::INFO)
}

/// A file that starts anew when it is full, keeping a few of its predecessors.
struct RotatingFile {
    path: PathBuf,
    open: Option<(File, u64)>,
    max_bytes: u64,
    keep: usize,
}

impl RotatingFile {
    fn new(path: PathBuf, max_bytes: u64, keep: usize) -> Self {
        Self { path, open: None, max_bytes, keep }
    }

    fn numbered(&self, n: usize) -> PathBuf {
        if n == 0 {
            return self.path.clone();
        }
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{n}"));
        name.into()
    }

    fn current(&mut self, room: usize) -> io::Result<&mut (File, u64)> {
        let full = |len: u64| len > 0 && len + room as u64 > self.max_bytes;
        if self.open.as_ref().is_some_and(|(_, len)| full(*len)) {
            self.open = None;
        }
        if self.open.is_none() {
            if let Some(dir) = self.path.parent() {
                paths::private_dir(dir)?;
            }
            if fs::metadata(&self.path).is_ok_and(|meta| full(meta.len())) {
                for n in (0..self.keep.saturating_sub(1)).rev() {
                    // Missing predecessors are no error.
                    let _ = fs::rename(self.numbered(n), self.numbered(n + 1));
                }
            }
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&self.path)?;
            let len = file.metadata()?.len();
            self.open = Some((file, len));
        }
        self.open.as_mut().ok_or_else(|| io::Error::other("no log file"))
    }
}

impl Write for RotatingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let (file, len) = self.current(line.len())?;
        match file.write_all(line) {
            Ok(()) => *len += line.len() as u64,
            Err(error) => {
                self.open = None;
                return Err(error);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_few_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = file_in(&dir.path().join("logs"));
        let mut log = RotatingFile::new(path.clone(), 100, 3);
        assert!(!path.exists(), "nothing is opened before the first line");
        for n in 0..40 {
            writeln!(log, "line {n:02} ............").unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(path.parent().unwrap())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["engine.log", "engine.log.1", "engine.log.2"]);
        for name in &names {
            let text = fs::read_to_string(path.with_file_name(name)).unwrap();
            assert!(text.len() <= 100, "{name}: {}", text.len());
        }
        assert!(fs::read_to_string(&path).unwrap().contains("line 39"));
        // A new process goes on with the same files.
        let mut log = RotatingFile::new(path.clone(), 100, 3);
        writeln!(log, "later").unwrap();
        assert!(fs::read_to_string(&path).unwrap().ends_with("later\n"));
    }

    #[test]
    fn a_line_longer_than_a_file_is_kept_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = file_in(dir.path());
        let mut log = RotatingFile::new(path.clone(), 10, 2);
        log.write_all(b"a\n").unwrap();
        log.write_all(format!("{}\n", "x".repeat(50)).as_bytes()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().len(), 51);
    }

    #[test]
    fn a_symlink_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = file_in(dir.path());
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        assert!(RotatingFile::new(path, 10, 2).write_all(b"x").is_err());
    }

    #[test]
    fn the_default_filter_drops_chatter_of_libraries() {
        let filter = default_filter();
        assert!(filter.would_enable("lapce_ai_engine::dispatch", &tracing::Level::INFO));
        assert!(!filter.would_enable("hyper", &tracing::Level::INFO));
        assert!(filter.would_enable("hyper", &tracing::Level::WARN));
    }
}
