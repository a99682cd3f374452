//! The kernel's word on changes: one inotify descriptor over the folders of a workspace.
//!
//! Which folders count is the index build's knowledge (it has the ignore rules); this
//! module watches the ones it is told, and names what changed in them.

use std::collections::{HashMap, HashSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use crate::limits;

/// Files whose change is a change of the rules.
const RULES: [&str; 3] = [".gitignore", ".aiignore", ".ignore"];
/// Never part of an index; the build leaves out more.
const NEVER: [&str; 2] = [".git", ".lapce"];

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// To this file or folder.
    Path(String),
    /// An ignore file, or anything else that takes a look at everything.
    Everything,
    /// Another branch, or git's list of files.
    Head,
    /// The workspace itself is gone.
    Gone,
}

/// The system has no more watches to give, or more are wanted than we take.
#[derive(Debug)]
pub(super) struct TooMany;

pub(super) struct Folders {
    fd: AsyncFd<OwnedFd>,
    root: PathBuf,
    /// By watch; the root is "".
    watched: HashMap<i32, Box<str>>,
    known: HashSet<Box<str>>,
    git: Option<i32>,
}

impl Folders {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives.
        let fd = unsafe { AsyncFd::register(fd)? };
        Ok(Self {
            fd,
            root: root.to_path_buf(),
            watched: HashMap::new(),
            known: HashSet::new(),
            git: None,
        })
    }

    /// Watches git's folder for another branch.
    pub(super) fn add_git(&mut self, git: &Path) {
        let flags = WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE | WatchFlags::ONLYDIR;
        self.git = inotify::add_watch(self.fd.get_ref(), git, flags).ok();
    }

    /// Watches one more folder; false when it is watched already or gone again.
    pub(super) fn add(&mut self, folder: &str) -> Result<bool, TooMany> {
        if self.known.contains(folder) {
            return Ok(false);
        }
        if self.watched.len() >= limits::WATCHED_FOLDERS {
            return Err(TooMany);
        }
        let flags = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR
            | WatchFlags::DONT_FOLLOW
            | WatchFlags::EXCL_UNLINK;
        match inotify::add_watch(self.fd.get_ref(), self.root.join(folder), flags) {
            Ok(watch) => {
                // The same folder under its former name.
                if let Some(old) = self.watched.insert(watch, folder.into()) {
                    self.known.remove(&old);
                }
                self.known.insert(folder.into());
                Ok(true)
            }
            Err(Errno::NOSPC | Errno::NOMEM) => Err(TooMany),
            Err(_) => Ok(false),
        }
    }

    /// Lets go of folders that are not in `keep`.
    pub(super) fn keep(&mut self, keep: &[String]) {
        let keep: HashSet<&str> = keep.iter().map(String::as_str).collect();
        self.forget(|folder| !keep.contains(folder));
    }

    /// Lets go of all folders, not of git's.
    pub(super) fn clear(&mut self) {
        self.forget(|_| true);
    }

    fn forget(&mut self, gone: impl Fn(&str) -> bool) {
        let fd = self.fd.get_ref();
        let known = &mut self.known;
        self.watched.retain(|watch, folder| {
            let gone = gone(folder);
            if gone {
                known.remove(folder);
                let _ = inotify::remove_watch(fd, *watch);
            }
            !gone
        });
    }

    pub(super) fn len(&self) -> usize {
        self.watched.len()
    }

    /// Waits for changes and reads the ones that are there, a bounded number at a time.
    pub(super) async fn changes(&mut self) -> io::Result<Vec<Change>> {
        let mut found = Vec::new();
        let mut gone = Vec::new();
        {
            let mut ready = self.fd.readable().await?;
            let mut buffer = [MaybeUninit::uninit(); 8192];
            let mut reader = Reader::new(self.fd.get_ref(), &mut buffer);
            while found.len() < limits::WATCH_EVENTS {
                match reader.next() {
                    Ok(event) => {
                        let name = event.file_name().map(|n| n.to_str());
                        let (watch, flags) = (event.wd(), event.events());
                        if let Some(change) = self.meaning(watch, flags, name, &mut gone) {
                            found.push(change);
                        }
                    }
                    Err(Errno::AGAIN) => {
                        ready.clear_ready();
                        break;
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        for folder in gone {
            let below = format!("{folder}/");
            self.forget(|name| name == folder || name.starts_with(&below));
        }
        Ok(found)
    }

    fn meaning(
        &self,
        watch: i32,
        flags: ReadFlags,
        name: Option<Result<&str, std::str::Utf8Error>>,
        gone: &mut Vec<String>,
    ) -> Option<Change> {
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            return Some(Change::Everything);
        }
        if Some(watch) == self.git {
            let head = matches!(name, Some(Ok("HEAD" | "index")));
            return head.then_some(Change::Head);
        }
        let folder = self.watched.get(&watch)?;
        let Some(name) = name else {
            let itself = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED;
            if !flags.intersects(itself) {
                return None;
            }
            if folder.is_empty() {
                return Some(Change::Gone);
            }
            gone.push(folder.to_string());
            return None;
        };
        // The index holds no names that are not UTF-8.
        let name = name.ok()?;
        if NEVER.contains(&name) {
            return None;
        }
        if RULES.contains(&name) {
            return Some(Change::Everything);
        }
        let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        if flags.contains(ReadFlags::ISDIR) && flags.contains(ReadFlags::MOVED_FROM) {
            gone.push(path.clone());
        }
        Some(Change::Path(path))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    async fn until(folders: &mut Folders, wanted: &Change) -> Vec<Change> {
        let mut all = Vec::new();
        while !all.contains(wanted) {
            all.extend(folders.changes().await.unwrap());
        }
        all
    }

    fn path(text: &str) -> Change {
        Change::Path(text.into())
    }

    #[tokio::test]
    async fn what_happens_in_watched_folders_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("src/deep")).unwrap();
        fs::create_dir(dir.path().join("out")).unwrap();
        let git = dir.path().join(".git");
        fs::create_dir(&git).unwrap();
        let mut folders = Folders::open(dir.path()).unwrap();
        for folder in ["", "src", "src/deep"] {
            assert!(folders.add(folder).unwrap());
        }
        assert!(!folders.add("src").unwrap() && !folders.add("absent").unwrap());
        folders.add_git(&git);

        fs::write(dir.path().join("out/not-watched"), "x").unwrap();
        fs::write(git.join("config"), "x").unwrap();
        fs::write(dir.path().join("src/a.rs"), "x").unwrap();
        let all = until(&mut folders, &path("src/a.rs")).await;
        assert!(all.iter().all(|change| *change == path("src/a.rs")), "{all:?}");
        // A hard link is made and never written.
        fs::hard_link(dir.path().join("src/a.rs"), dir.path().join("src/linked.rs")).unwrap();
        until(&mut folders, &path("src/linked.rs")).await;
        fs::rename(dir.path().join("src/a.rs"), dir.path().join("src/deep/b.rs")).unwrap();
        until(&mut folders, &path("src/deep/b.rs")).await;
        fs::remove_file(dir.path().join("src/deep/b.rs")).unwrap();
        until(&mut folders, &path("src/deep/b.rs")).await;
        fs::write(dir.path().join(".gitignore"), "x").unwrap();
        until(&mut folders, &Change::Everything).await;
        fs::write(git.join("HEAD"), "ref: refs/heads/other").unwrap();
        until(&mut folders, &Change::Head).await;

        // A folder that moves takes its watches along, under its new name.
        fs::rename(dir.path().join("src"), dir.path().join("lib")).unwrap();
        until(&mut folders, &path("lib")).await;
        assert_eq!(folders.len(), 1);
        assert!(folders.add("lib").unwrap() && folders.add("lib/deep").unwrap());
        fs::write(dir.path().join("lib/deep/c.rs"), "x").unwrap();
        until(&mut folders, &path("lib/deep/c.rs")).await;
        // When the kernel's queue ran over nobody knows what changed.
        let lost = folders.meaning(-1, ReadFlags::QUEUE_OVERFLOW, None, &mut Vec::new());
        assert_eq!(lost, Some(Change::Everything));
        folders.keep(&[String::new(), "lib".into()]);
        assert_eq!(folders.len(), 2);
        fs::remove_dir_all(dir.path()).unwrap();
        until(&mut folders, &Change::Gone).await;
    }
}
