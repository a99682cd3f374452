//! Every file access of the file tools: beneath the workspace, through no symlink that
//! leaves it, to regular files only, past `.gitignore` and `.aiignore`.
//!
//! The sandbox around the process would stop most escapes too; this is what gives them
//! names, and what holds when a rename races with an access.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use super::ignored::Ignored;
use crate::closed::Paths;
use crate::protocol::{BeforeHead, Request, Seen};
use crate::sandbox::sys;

const BENEATH: u64 = sys::RESOLVE_BENEATH | sys::RESOLVE_NO_MAGICLINKS;
const STRICT: u64 = BENEATH | sys::RESOLVE_NO_SYMLINKS;

/// The workspace, as the file tools reach it.
pub(crate) struct Tree<'a> {
    pub(crate) request: &'a Request,
    pub(crate) root: PathBuf,
    /// What the user's rules close to reading, and to writing.
    pub(crate) closed: Paths,
    fixed: Paths,
    dir: OwnedFd,
}

/// What is at a path.
pub(crate) struct Found {
    pub(crate) file: File,
    pub(crate) meta: Metadata,
    /// Workspace-relative, with symlinks resolved.
    pub(crate) path: PathBuf,
}

impl<'a> Tree<'a> {
    pub(crate) fn open(request: &'a Request) -> Result<Self, String> {
        let root = request.root.clone();
        let dir = File::open(&root)
            .map_err(|e| format!("the workspace {} cannot be opened: {e}", root.display()))?;
        let spec = &request.sandbox;
        let sealed = super::hidden::still_sealed(&root, &spec.show, &spec.sealed)?;
        let closed = spec.closed.clone().sealing(&sealed).to_readers();
        let fixed = spec.closed.to_writers();
        Ok(Self { request, root, closed, fixed, dir: dir.into() })
    }

    /// `path` as the model wrote it, relative to the workspace and free of `..`.
    pub(crate) fn relative(&self, path: &str) -> Result<PathBuf, String> {
        relative(&self.root, path)
    }

    /// Opens what is at `path` for reading: a regular file or a folder.
    pub(crate) fn find(&self, path: &str) -> Result<Found, String> {
        let relative = self.relative(path)?;
        let at = if relative.as_os_str().is_empty() { Path::new(".") } else { &relative };
        self.check_ignored(&relative)?;
        let shown = show(&relative);
        // First a handle that does not open: a FIFO would block, a device would act.
        let handle = self.handle(at, STRICT);
        let (handle, relative) = match handle {
            Ok(handle) => (handle, relative),
            // A symlink on the way. Where it leads counts, for the ignore rules too.
            Err(e) if e.raw_os_error() == Some(libc::ELOOP) => {
                let handle = self.handle(at, BENEATH).map_err(|e| explain(&shown, &e))?;
                let real = self.real_path(&handle, &shown)?;
                self.check_ignored(&real)?;
                let handle = self.handle(&real, STRICT).map_err(|e| explain(&shown, &e))?;
                (handle, real)
            }
            Err(e) => return Err(explain(&shown, &e)),
        };
        let before = File::from(handle).metadata().map_err(|e| explain(&shown, &e))?;
        kind(&before).map_err(|kind| format!("'{shown}' is a {kind}, not a file or folder"))?;
        let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
        let at = if relative.as_os_str().is_empty() { Path::new(".") } else { &relative };
        let file = sys::openat2(self.dir.as_fd(), at, flags, 0, STRICT)
            .map(File::from)
            .map_err(|e| explain(&shown, &e))?;
        let meta = file.metadata().map_err(|e| explain(&shown, &e))?;
        if (meta.dev(), meta.ino()) != (before.dev(), before.ino()) {
            return Err(format!("'{shown}' was replaced while it was being opened; try again"));
        }
        Ok(Found { file, meta, path: relative })
    }

    /// Whether anything is at `relative`; a symlink that leads nowhere counts.
    pub(crate) fn exists(&self, relative: &Path) -> Result<bool, String> {
        match sys::openat2(self.dir.as_fd(), relative, libc::O_PATH | libc::O_NOFOLLOW, 0, BENEATH)
        {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(explain(&show(relative), &e)),
        }
    }

    /// Opens a file that a walk came upon; the walk has applied the ignore rules.
    pub(crate) fn open_walked(&self, relative: &Path) -> io::Result<File> {
        let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = File::from(sys::openat2(self.dir.as_fd(), relative, flags, 0, STRICT)?);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::other("replaced by something that is no file"))
        }
    }

    /// What is at `relative`; a symlink is itself, and none is followed on the way.
    pub(crate) fn stat(&self, relative: &Path) -> io::Result<libc::stat> {
        let Some(name) = relative.file_name() else { return sys::stat_at(self.dir.as_fd(), c".") };
        let parent = self.path_handle(relative.parent().unwrap_or(Path::new("")))?;
        sys::stat_at(parent.as_fd(), &sys::cstr(Path::new(name))?)
    }

    /// Where the symlink at `relative` leads.
    pub(crate) fn read_link(&self, relative: &Path) -> io::Result<Vec<u8>> {
        let name = Path::new(relative.file_name().ok_or(io::ErrorKind::InvalidInput)?);
        let parent = self.path_handle(relative.parent().unwrap_or(Path::new("")))?;
        sys::readlinkat(parent.as_fd(), name)
    }

    /// A handle for `*at` calls on a folder that a walk came upon, through no symlink.
    pub(crate) fn path_handle(&self, relative: &Path) -> io::Result<OwnedFd> {
        let at = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        sys::openat2(self.dir.as_fd(), at, libc::O_PATH | libc::O_DIRECTORY, 0, STRICT)
    }

    /// The kind of the workspace's file system, as the kernel numbers them, and its device.
    pub(crate) fn file_system(&self) -> io::Result<(i64, u64)> {
        Ok((sys::file_system(self.dir.as_fd())?, sys::stat_at(self.dir.as_fd(), c"")?.st_dev))
    }

    fn handle(&self, path: &Path, resolve: u64) -> io::Result<OwnedFd> {
        sys::openat2(self.dir.as_fd(), path, libc::O_PATH, 0, resolve)
    }

    /// Opens the folder `path` for use with `*at` calls, making it (and those above) if
    /// `create` says so. No symlink on the way.
    pub(crate) fn folder(&self, path: &Path, create: bool) -> Result<OwnedFd, String> {
        let at = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        match sys::openat2(self.dir.as_fd(), at, flags, 0, STRICT) {
            Ok(dir) => Ok(dir),
            Err(e) if create && e.kind() == io::ErrorKind::NotFound => {
                let parent = self.folder(path.parent().unwrap_or(Path::new("")), true)?;
                let name = path.file_name().ok_or("the path has no name")?;
                sys::mkdirat(parent.as_fd(), Path::new(name))
                    .or_else(
                        |e| if e.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(e) },
                    )
                    .map_err(|e| explain(&show(path), &e))?;
                self.folder(path, false)
            }
            Err(e) => Err(explain(&show(path), &e)),
        }
    }

    /// Refuses paths that a rule of the user's closes to reading.
    pub(crate) fn check_closed(&self, relative: &Path) -> Result<(), String> {
        self.closed.rule_for(relative).map_or(Ok(()), |rule| {
            Err(format!("'{}' is closed by {}", show(relative), crate::closed::named(rule)))
        })
    }

    /// Refuses paths that `.gitignore` or `.aiignore` name, or a rule of the user's.
    pub(crate) fn check_ignored(&self, relative: &Path) -> Result<(), String> {
        self.check_closed(relative)?;
        match Ignored::check(&self.root, relative)? {
            None => Ok(()),
            Some(by) => Err(format!(
                "'{}' is ignored by {by}, so it is off limits; ask the user if you need it",
                show(relative)
            )),
        }
    }

    /// Refuses paths that no tool may write.
    pub(crate) fn check_protected(&self, relative: &Path) -> Result<(), String> {
        if let Some(rule) = self.fixed.rule_for(relative) {
            return Err(format!(
                "'{}' is closed to writing by the user's rule '{rule}'",
                show(relative)
            ));
        }
        // Git runs what the configuration of any repository says, also of one made just for that.
        if relative.components().any(|part| part.as_os_str().eq_ignore_ascii_case(".git")) {
            return Err(format!(
                "'{}' is protected (.git): what is git's own only git changes",
                show(relative)
            ));
        }
        // One in a folder below counts as much as the workspace's own.
        if relative.components().any(|part| part.as_os_str().eq_ignore_ascii_case(".aiignore")) {
            return Err(format!(
                "'{}' is protected (.aiignore): it says what tools must not see; the user can \
                 change it",
                show(relative)
            ));
        }
        match protected_by(&self.request.sandbox.protected, relative) {
            None => Ok(()),
            Some(by) => Err(format!(
                "'{}' is protected ({by}): tools may not change it; the user can",
                show(relative)
            )),
        }
    }

    fn real_path(&self, handle: &OwnedFd, shown: &str) -> Result<PathBuf, String> {
        let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
        let real = std::fs::read_link(link)
            .map_err(|_| format!("'{shown}' is a symlink, and where it leads cannot be told"))?;
        real.strip_prefix(&self.root)
            .map(Path::to_owned)
            .map_err(|_| format!("'{shown}' leads out of the workspace"))
    }
}

/// An error of the system in words that help.
pub(crate) fn explain(shown: &str, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) => format!("'{shown}' does not exist"),
        Some(libc::EXDEV) => format!("'{shown}' leads out of the workspace"),
        Some(libc::ELOOP) => {
            format!("'{shown}' goes through a symlink, which is not followed here")
        }
        Some(libc::ENOTDIR) => format!("a part of '{shown}' is not a folder"),
        Some(libc::EISDIR) => format!("'{shown}' is a folder"),
        Some(libc::EACCES | libc::EPERM) => format!("no permission for '{shown}'"),
        Some(libc::ENOSPC | libc::EDQUOT) => {
            format!("the disk is full; '{shown}' was not written")
        }
        Some(libc::EROFS) => format!("'{shown}' is on a read-only file system"),
        Some(libc::ENAMETOOLONG) => format!("'{shown}' is too long a name"),
        _ => format!("'{shown}': {error}"),
    }
}

/// Hands the host what is about to be replaced, for the undo journal, and waits until
/// it is kept. Nothing is written before that.
pub(crate) fn before_image(shown: &str, old: Option<&super::write::Old>) -> Result<(), String> {
    keep(shown, old.map(|o| o.meta.mode()), old.map_or(&[], |o| &o.bytes))
}

/// The same for what may be no regular file; its mode tells what it is.
pub(crate) fn keep(shown: &str, mode: Option<u32>, content: &[u8]) -> Result<(), String> {
    let path = shown.to_owned();
    let head = BeforeHead { path, existed: mode.is_some(), mode: mode.unwrap_or(0) };
    super::output::before(&head, content)
        .and_then(|()| super::output::kept())
        .map_err(|e| format!("nothing was written, since the state before could not be kept: {e}"))
}

/// See [`Tree::relative`].
pub(crate) fn relative(root: &Path, path: &str) -> Result<PathBuf, String> {
    let path = path.trim();
    if path.is_empty() {
        return Err("the path is empty; '.' names the workspace folder".into());
    }
    if path.contains('\0') {
        return Err("the path has a NUL character".into());
    }
    let outside = || format!("'{path}' is outside the workspace {}", root.display());
    let given = Path::new(path);
    let inner =
        if given.is_absolute() { given.strip_prefix(root).map_err(|_| outside())? } else { given };
    let mut clean = PathBuf::new();
    for part in inner.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !clean.pop() {
                    return Err(outside());
                }
            }
            Component::RootDir | Component::Prefix(_) => return Err(outside()),
        }
    }
    Ok(clean)
}

/// The protected path that `relative` is, or lies in, or holds.
pub(crate) fn protected_by<'p>(protected: &'p [String], relative: &Path) -> Option<&'p str> {
    // Case is ignored: the same file on a file system that ignores it.
    let lower = |p: &Path| PathBuf::from(p.to_string_lossy().to_lowercase());
    let relative = lower(relative);
    protected
        .iter()
        .find(|p| {
            let p = lower(Path::new(p));
            relative.starts_with(&p) || p.starts_with(&relative)
        })
        .map(String::as_str)
}

/// A relative path for a reader.
pub(crate) fn show(relative: &Path) -> String {
    if relative.as_os_str().is_empty() { ".".into() } else { relative.display().to_string() }
}

/// `Err` with a word for anything that is neither a file nor a folder.
fn kind(meta: &Metadata) -> Result<(), &'static str> {
    let kind = meta.file_type();
    if kind.is_file() || kind.is_dir() {
        Ok(())
    } else if kind.is_fifo() {
        Err("named pipe")
    } else if kind.is_socket() {
        Err("socket")
    } else if kind.is_symlink() {
        Err("symlink")
    } else {
        Err("device")
    }
}

/// The state of a file whose content is `bytes`.
pub(crate) fn seen(meta: &Metadata, bytes: &[u8]) -> Seen {
    Seen {
        mtime_ns: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
        size: bytes.len() as u64,
        hash: blake3::hash(bytes).to_hex().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        let root = Path::new("/w/s");
        for (given, want) in [
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("a/../b", "b"),
            ("/w/s/a", "a"),
            (".", ""),
            ("/w/s", ""),
        ] {
            assert_eq!(relative(root, given).unwrap(), Path::new(want), "{given}");
        }
        for bad in ["", "..", "a/../../b", "/etc/passwd", "/w/sx", "/w/s/../x", "a\0b"] {
            assert!(relative(root, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn protected_paths_are_held_from_both_sides() {
        let list = vec![".git/hooks".to_owned(), ".lapce".to_owned()];
        for held in [".git/hooks", ".git/hooks/pre-commit", ".git", ".lapce/x", ".GIT/Hooks/x"] {
            assert!(protected_by(&list, Path::new(held)).is_some(), "{held}");
        }
        for free in ["src", ".git/index", ".lapcex", ".git/hooksx"] {
            assert!(protected_by(&list, Path::new(free)).is_none(), "{free}");
        }
    }
}
