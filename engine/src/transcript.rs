//! The Markdown file of a run, `.lapce/ai/runs/<id>.md` in the workspace: what the user
//! reads in the editor while it grows.
//!
//! Used by `ask` and the agent loop. The workspace may be hostile: every folder on the way
//! is opened by itself, relative to the one before and never through a symlink, so nothing
//! in a repository can lead a write elsewhere. Writes only append, at most two a second,
//! and the file has a largest size.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

/// Pause between two writes.
pub const PAUSE: Duration = Duration::from_millis(500);
/// Largest transcript; what comes later is left out, and the file says so.
pub const BYTES: usize = 4 * 1024 * 1024;
const FOLDERS: [&str; 3] = [".lapce", "ai", "runs"];

#[derive(Debug)]
pub struct Transcript {
    file: File,
    path: PathBuf,
    pending: String,
    written: usize,
    full: bool,
    last: Option<Instant>,
    /// The first write that failed; later ones are not tried.
    failed: Option<io::Error>,
}

impl Transcript {
    /// Makes the file. `root` is the canonical workspace; `id` names the run.
    pub fn create(root: &Path, id: &str) -> io::Result<Self> {
        let name = format!("{id}.md");
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(io::Error::other("the run's name does not fit a file name"));
        }
        let mut dir = openat(CWD, root, folder_flags() & !OFlags::NOFOLLOW, Mode::empty())?;
        let mut path = root.to_path_buf();
        for folder in FOLDERS {
            path.push(folder);
            dir = enter(&dir, folder).map_err(|e| {
                io::Error::new(e.kind(), format!("{}: {}", path.display(), reason(&e)))
            })?;
            if folder == "ai" {
                keep_out_of_git(&dir);
            }
        }
        path.push(&name);
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::APPEND
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC;
        let file = openat(&dir, &name, flags, Mode::from_raw_mode(0o644)).map_err(|e| {
            io::Error::new(
                io::Error::from(e).kind(),
                format!("{}: {}", path.display(), io::Error::from(e)),
            )
        })?;
        Ok(Self {
            file: File::from(file),
            path,
            pending: String::new(),
            written: 0,
            full: false,
            last: None,
            failed: None,
        })
    }

    /// Absolute path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds text; it reaches the file when the pause since the last write is over.
    pub fn push(&mut self, text: &str) {
        if self.full || self.failed.is_some() {
            return;
        }
        if self.written + self.pending.len() + text.len() > BYTES {
            self.full = true;
            self.pending.push_str(
                "\n\n*(This transcript has reached its largest size; the rest is left out.)*\n",
            );
        } else {
            self.pending.push_str(text);
        }
        if self.due().is_none_or(|at| at <= Instant::now()) {
            self.flush();
        }
    }

    /// When text that waits may be written; `None` when nothing was written yet.
    fn due(&self) -> Option<Instant> {
        self.last.map(|last| last + PAUSE)
    }

    /// When [`Transcript::flush`] should be called next, if text waits.
    pub fn next_write(&self) -> Option<Instant> {
        if self.pending.is_empty() { None } else { Some(self.due().unwrap_or_else(Instant::now)) }
    }

    /// Writes what waits, now.
    pub fn flush(&mut self) {
        if self.pending.is_empty() || self.failed.is_some() {
            return;
        }
        let text = std::mem::take(&mut self.pending);
        match self.file.write_all(text.as_bytes()) {
            Ok(()) => self.written += text.len(),
            Err(error) => self.failed = Some(error),
        }
        self.last = Some(Instant::now());
    }

    /// Why writing stopped (a full disk), told once.
    pub fn take_failure(&mut self) -> Option<String> {
        let error = self.failed.as_mut()?;
        if error.kind() == io::ErrorKind::Other {
            return None;
        }
        let text =
            format!("the transcript {} can no longer be written: {error}", self.path.display());
        *error = io::Error::other("told");
        Some(text)
    }
}

impl Drop for Transcript {
    fn drop(&mut self) {
        self.flush();
    }
}

fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// Opens one folder below another, making it when it is not there.
fn enter(dir: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    match mkdirat(dir, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(openat(dir, name, folder_flags(), Mode::empty())?)
}

/// Writes `.gitignore` beside the runs, unless one is there: transcripts are no source code.
fn keep_out_of_git(dir: &impl AsFd) {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if let Ok(file) = openat(dir, ".gitignore", flags, Mode::from_raw_mode(0o644)) {
        // Without it the runs only show up in `git status`.
        let _ = File::from(file).write_all(b"/runs/\n/.gitignore\n");
    }
}

fn reason(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::LOOP | Errno::NOTDIR) => {
            "it is not a plain folder (a symlink or file stands there)".to_owned()
        }
        _ => error.to_string(),
    }
}

/// `text` as a fenced block that its own back-ticks cannot end.
pub fn fenced(language: &str, text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat((longest + 1).max(3));
    let newline = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
    format!("{fence}{language}\n{text}{newline}{fence}\n")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_file_grows_and_stays_out_of_git() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let mut transcript = Transcript::create(&root, "20261125-093812-3fa1c2").unwrap();
        assert_eq!(transcript.path(), root.join(".lapce/ai/runs/20261125-093812-3fa1c2.md"));
        transcript.push("# one\n");
        assert_eq!(
            fs::read_to_string(transcript.path()).unwrap(),
            "# one\n",
            "the first words are there at once"
        );
        transcript.push("two\n");
        assert!(transcript.next_write().is_some());
        assert_eq!(
            fs::read_to_string(transcript.path()).unwrap(),
            "# one\n",
            "the next write waits"
        );
        let path = transcript.path().to_owned();
        drop(transcript);
        assert_eq!(fs::read_to_string(path).unwrap(), "# one\ntwo\n");
        assert_eq!(
            fs::read_to_string(root.join(".lapce/ai/.gitignore")).unwrap(),
            "/runs/\n/.gitignore\n"
        );
        // A second run beside it.
        assert!(Transcript::create(&root, "20261125-093812-3fa1c3").is_ok());
        assert!(
            Transcript::create(&root, "20261125-093812-3fa1c3").is_err(),
            "never over another file"
        );
    }

    #[test]
    fn symlinks_lead_nowhere() {
        let outside = tempfile::tempdir().unwrap();
        for depth in 0..FOLDERS.len() {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().canonicalize().unwrap();
            let parent = FOLDERS[..depth].iter().fold(root.clone(), |p, f| p.join(f));
            fs::create_dir_all(&parent).unwrap();
            symlink(outside.path(), parent.join(FOLDERS[depth])).unwrap();
            let error = Transcript::create(&root, "a").unwrap_err();
            assert!(error.to_string().contains("symlink"), "{error}");
        }
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join(".lapce/ai/runs")).unwrap();
        symlink(outside.path().join("target"), root.join(".lapce/ai/runs/a.md")).unwrap();
        symlink(outside.path().join("ignore"), root.join(".lapce/ai/.gitignore")).unwrap();
        assert!(Transcript::create(&root, "a").is_err());
        assert!(Transcript::create(&root, "b").is_ok());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "nothing was written outside");
        assert!(Transcript::create(&root, "../a").is_err());
    }

    #[test]
    fn the_size_has_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut transcript = Transcript::create(dir.path(), "a").unwrap();
        let chunk = "x".repeat(1024 * 1024);
        for _ in 0..6 {
            transcript.push(&chunk);
        }
        let path = transcript.path().to_owned();
        drop(transcript);
        let text = fs::read_to_string(path).unwrap();
        assert!(text.len() < BYTES + 200);
        assert!(text.ends_with("the rest is left out.)*\n"));
    }

    #[test]
    fn fences_hold() {
        assert_eq!(fenced("rust", "a"), "```rust\na\n```\n");
        assert_eq!(fenced("", "```\nx\n````\n"), "`````\n```\nx\n````\n`````\n");
    }
}
