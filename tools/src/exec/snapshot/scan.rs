//! A look at the workspace's files: every regular file and symlink that no rule ignores, with its stamp;
//! contents are not read.
//!
//! The last look is what makes this quick. A folder whose stamp is as it was has the same
//! entries, and as long as the files with ignore rules are as they were, the same of them
//! count: then nothing is listed and no rule is applied, only each file is asked for its stamp.
//! A folder that changed is listed anew. When more than that changed, all of it is walked.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use super::index::{Folder, Index, Known, Rule, Stamp, boot};
use crate::exec::list::walker;
use crate::exec::safe_fs::Tree;
use crate::limits::{SNAPSHOT_LISTED_ANEW, SNAPSHOT_MAX_FILES};
use crate::sandbox::sys;

/// Names of files with rules, in any folder.
const RULE_FILES: [&str; 2] = [".gitignore", ".aiignore"];
/// Others, in the workspace's own.
const TOP_RULE_FILE: &str = ".git/info/exclude";

/// File systems that change a folder's stamp with its entries, by the kernel's own clock.
const LOCAL: [i64; 8] = [
    0xef53,      // ext
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0x0102_1994, // tmpfs
    0xf2f5_2010, // F2FS
    0x794c_7630, // overlay
    0x2fc1_2fc1, // ZFS
    0xca45_1a4e, // bcachefs
];

pub(crate) fn scan(tree: &Tree<'_>, last: &Index) -> Index {
    let device = tree.file_system().ok().filter(|(kind, _)| LOCAL.contains(kind)).map(|f| f.1);
    let scan = Scan { tree, start_ns: sys::coarse_now_ns(), device };
    let mut index = scan.again(last).unwrap_or_else(|| scan.whole());
    index.folders.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    for folder in &mut index.folders {
        folder.files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    }
    index.boot = boot();
    index.start_ns = scan.start_ns;
    index
}

/// A known folder now.
enum Look {
    /// The same entries; its files have their stamps.
    Same(Folder),
    /// To be listed anew.
    Changed(Folder, OwnedFd),
    Gone,
}

/// Where about half of the files are on either side.
fn middle(folders: &[Folder]) -> usize {
    let half = folders.iter().map(|f| f.files.len()).sum::<usize>() / 2;
    let mut before = 0;
    let reached = |folder: &Folder| {
        before += folder.files.len();
        before >= half
    };
    folders.iter().position(reached).map_or(0, |at| at + 1)
}

struct Scan<'a> {
    tree: &'a Tree<'a>,
    /// Unix time.
    start_ns: i64,
    /// The device of the workspace's file system when folders there can be trusted.
    device: Option<u64>,
}

impl Scan<'_> {
    fn known(&self, name: Arc<str>, stamp: Stamp) -> Known {
        Known { name, stamp, settled: stamp.settled(self.start_ns), hash: None }
    }

    fn folder(&self, path: &str, stamp: Stamp, device: u64) -> Folder {
        let settled = self.device == Some(device) && stamp.settled(self.start_ns);
        Folder { path: path.into(), stamp, settled, files: Vec::new() }
    }

    fn rule(&self, path: String) -> Rule {
        let stamp = self.tree.stat(Path::new(&path)).ok().map(|s| Stamp::of_stat(&s));
        Rule { path, stamp, settled: stamp.is_none_or(|s| s.settled(self.start_ns)) }
    }

    /// Every folder and file.
    fn whole(&self) -> Index {
        let mut index = Index { whole: true, ..Index::default() };
        index.rules.push(self.rule(TOP_RULE_FILE.into()));
        self.walk("", &mut index, 0);
        index
    }

    /// Adds what is in `top` and below, next to `already` files.
    fn walk(&self, top: &str, index: &mut Index, already: usize) {
        let mut at: HashMap<String, usize> = HashMap::new();
        let mut files = already;
        for entry in walker(self.tree, &self.tree.root.join(top)).build().flatten() {
            let Ok(relative) = entry.path().strip_prefix(&self.tree.root) else { continue };
            let Some(path) = relative.to_str() else { continue };
            let kind = entry.file_type();
            if kind.is_some_and(|k| k.is_dir()) {
                let Ok(stat) = self.tree.stat(relative) else { continue };
                at.insert(path.to_owned(), index.folders.len());
                let folder = self.folder(path, Stamp::of_stat(&stat), stat.st_dev);
                for name in RULE_FILES {
                    let rule = self.rule(folder.path_of(name));
                    index.rules.extend(rule.stamp.is_some().then_some(rule));
                }
                index.folders.push(folder);
            } else if kind.is_some_and(|k| k.is_file() || k.is_symlink()) {
                let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
                let (Some(at), Ok(meta)) = (at.get(parent), entry.metadata()) else { continue };
                index.folders[*at].files.push(self.known(name.into(), Stamp::of(&meta)));
                files += 1;
            }
            if files.max(index.folders.len()) >= SNAPSHOT_MAX_FILES {
                index.whole = false;
                return;
            }
        }
    }

    /// The same, by what the last look found; `None` when that does not help.
    fn again(&self, last: &Index) -> Option<Index> {
        self.device?;
        if !last.whole || last.folders.is_empty() {
            return None;
        }
        let mut index = Index { whole: true, ..Index::default() };
        for old in &last.rules {
            let rule = self.rule(old.path.clone());
            // One that was written a moment before that look may have been written again.
            if rule.stamp != old.stamp || !old.settled {
                return None;
            }
            index.rules.push(rule);
        }
        // Asking for ten thousand stamps takes as long as all the rest: two do it side by side.
        let (left, right) = last.folders.split_at(middle(&last.folders));
        let (left, right) = std::thread::scope(|scope| {
            let right = scope.spawn(|| self.look(right));
            (self.look(left), right.join())
        });
        let (mut changed, mut gone) = (Vec::new(), Vec::new());
        for (old, look) in last.folders.iter().zip(left.into_iter().chain(right.ok()?)) {
            match look {
                Look::Same(folder) => index.folders.push(folder),
                Look::Changed(folder, dir) => changed.push((folder, dir)),
                Look::Gone => gone.push(old.path.as_str()),
            }
        }
        let mut files: usize = index.folders.iter().map(|f| f.files.len()).sum();
        let known: HashSet<&str> = last.folders.iter().map(|f| f.path.as_str()).collect();
        if changed.len() > SNAPSHOT_LISTED_ANEW + last.folders.len() / 8 {
            return None;
        }
        let mut lost: HashSet<String> = HashSet::new();
        for (mut folder, dir) in changed {
            if RULE_FILES.iter().any(|name| {
                let path = folder.path_of(name);
                self.tree.stat(Path::new(&path)).is_ok()
                    && !last.rules.iter().any(|r| r.path == path)
            }) {
                return None;
            }
            let mut below = self.list(&mut folder, &dir)?;
            files += folder.files.len();
            // What was a folder here and is none any more, or is ignored.
            let children = known.iter().filter(|path| {
                let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                !path.is_empty() && parent == folder.path
            });
            lost.extend(children.filter(|c| !below.contains(**c)).map(|c| (*c).to_owned()));
            below.retain(|path| !known.contains(path.as_str()));
            index.folders.push(folder);
            for path in below {
                self.walk(&path, &mut index, files);
                if !index.whole {
                    return None;
                }
            }
        }
        let is_lost = |path: &str| {
            lost.contains(path)
                || path.match_indices('/').any(|(end, _)| lost.contains(&path[..end]))
        };
        if gone.iter().any(|path| !is_lost(path)) {
            // It went after the folder above it was looked at.
            return None;
        }
        index.folders.retain(|folder| !is_lost(&folder.path));
        index.rules.retain(|rule| !is_lost(&rule.path));
        let files: usize = index.folders.iter().map(|f| f.files.len()).sum();
        (files.max(index.folders.len()) < SNAPSHOT_MAX_FILES).then_some(index)
    }

    /// What has become of these folders.
    fn look(&self, folders: &[Folder]) -> Vec<Look> {
        let look = |old: &Folder| {
            let dir = self.tree.path_handle(Path::new(&old.path)).ok()?;
            let stat = sys::stat_at(dir.as_fd(), c"").ok()?;
            let mut folder = self.folder(&old.path, Stamp::of_stat(&stat), stat.st_dev);
            let same = old.settled && self.device == Some(stat.st_dev) && folder.stamp == old.stamp;
            if same && let Some(found) = self.stamps(&dir, old) {
                folder.files = found;
                return Some(Look::Same(folder));
            }
            Some(Look::Changed(folder, dir))
        };
        folders.iter().map(|old| look(old).unwrap_or(Look::Gone)).collect()
    }

    /// The stamps of the files of a folder whose entries are as they were.
    fn stamps(&self, dir: &OwnedFd, old: &Folder) -> Option<Vec<Known>> {
        let mut name = Vec::with_capacity(256);
        let mut files = Vec::with_capacity(old.files.len());
        for file in &old.files {
            name.clear();
            name.extend_from_slice(file.name.as_bytes());
            name.push(0);
            let stat = sys::stat_at(dir.as_fd(), std::ffi::CStr::from_bytes_with_nul(&name).ok()?);
            let stamp = Stamp::of_stat(&stat.ok()?);
            if !stamp.is_covered() {
                return None;
            }
            files.push(self.known(Arc::clone(&file.name), stamp));
        }
        Some(files)
    }

    /// Lists one folder anew; gives the folders in it.
    fn list(&self, folder: &mut Folder, dir: &OwnedFd) -> Option<HashSet<String>> {
        let mut below = HashSet::new();
        let mut walk = walker(self.tree, &self.tree.root.join(&folder.path));
        for entry in walk.max_depth(Some(1)).build().flatten() {
            if entry.depth() == 0 {
                continue;
            }
            let Some(name) = entry.file_name().to_str() else { continue };
            let kind = entry.file_type();
            if kind.is_some_and(|k| k.is_dir()) {
                below.insert(folder.path_of(name));
            } else if kind.is_some_and(|k| k.is_file() || k.is_symlink()) {
                let c_name = std::ffi::CString::new(name).ok()?;
                let Ok(stat) = sys::stat_at(dir.as_fd(), &c_name) else { continue };
                let stamp = Stamp::of_stat(&stat);
                if stamp.is_covered() {
                    folder.files.push(self.known(name.into(), stamp));
                }
            }
        }
        Some(below)
    }
}
