//! The file system a call sees: an empty one, with the workspace, the toolchains and a
//! private `/tmp`, `/dev`, `/proc` and home put in. Needs a mount namespace of our own.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use super::sys;
use crate::exec::guard::begun;
use crate::limits::{SERVER_MAX_ENTRIES, TMP_BYTES};

/// Folders with programs and their libraries.
pub(crate) const SYSTEM: &[&str] =
    &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store"];

/// What programs need of `/etc`; nothing there that is secret.
pub(crate) const ETC: &[&str] = &[
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "debian_version",
    "environment",
    "fonts",
    "gitattributes",
    "group",
    "host.conf",
    "hosts",
    "inputrc",
    "java",
    "java-17-openjdk",
    "java-21-openjdk",
    "java-25-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ld-musl-x86_64.path",
    "locale.alias",
    "locale.conf",
    "localtime",
    "magic",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "pki/tls/certs",
    "pki/ca-trust/extracted",
    "profile",
    "protocols",
    "python3",
    "services",
    "shells",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
];

/// What programs with a network need besides: how names are looked up. The last ones are
/// what the first usually points to.
pub(crate) const NETWORK: &[&str] = &[
    "/etc/resolv.conf",
    "/etc/gai.conf",
    "/run/systemd/resolve/stub-resolv.conf",
    "/run/systemd/resolve/resolv.conf",
    "/run/resolvconf/resolv.conf",
    "/run/NetworkManager/resolv.conf",
];

/// Device nodes that hold no state.
pub(crate) const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom"];

/// The first Linux whose `kernel.pid_max` is a pid namespace's own. Written before that, it
/// would be the whole machine's, and as root it can be written.
const PID_MAX_OF_NAMESPACE: (u32, u32) = (6, 14);

/// What to build.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) root: &'a Path,
    pub(crate) writable: bool,
    /// Only what is there now may be written: nobody looks afterwards what has come to be
    /// at protected paths.
    pub(crate) lasting: bool,
    /// Whether programs will run: then the system and the toolchains are put in.
    pub(crate) programs: bool,
    pub(crate) read: &'a [PathBuf],
    pub(crate) write: &'a [PathBuf],
    pub(crate) protected: &'a [String],
    /// Paths below the root to hide, each by an empty file or folder.
    pub(crate) hidden: &'a [PathBuf],
    /// Paths below the root that cannot be opened, nor written.
    pub(crate) covered: &'a [PathBuf],
    /// Paths below the root that cannot be written.
    pub(crate) fixed: &'a [PathBuf],
    /// Files below the root that stay as they are.
    pub(crate) rules: &'a [PathBuf],
    pub(crate) home: Option<&'a Path>,
    pub(crate) network: bool,
    /// How many processes there may be, if that is bounded here.
    pub(crate) processes: Option<u32>,
}

/// One mount to put in: where, and the detached tree.
struct Planned {
    target: PathBuf,
    tree: OwnedFd,
    folder: bool,
}

/// Builds the view and makes it the root of this process. Needs mount, user and pid
/// namespaces of our own (or privilege), and to be the pid namespace's first process.
/// Returns whether the number of processes could be bounded.
pub(crate) fn enter(view: &View<'_>) -> io::Result<io::Result<()>> {
    // Everything is picked up from the old root first, by tree handles; the new root is
    // then assembled and entered in one step.
    let mut plan = Vec::new();
    let mut links = Vec::new();
    let readonly = sys::MOUNT_RDONLY | sys::MOUNT_NOSUID | sys::MOUNT_NODEV;
    if view.programs {
        let etc = ETC.iter().map(|name| Path::new("/etc").join(name));
        for path in SYSTEM.iter().map(PathBuf::from).chain(etc) {
            pick(&path, readonly, &mut plan, &mut links)?;
        }
        for path in NETWORK.iter().filter(|_| view.network) {
            pick(Path::new(path), readonly, &mut plan, &mut links)?;
        }
        for path in view.read {
            pick(path, readonly, &mut plan, &mut links)?;
        }
        for name in DEVICES {
            let attributes = sys::MOUNT_NOSUID | sys::MOUNT_NOEXEC;
            pick(&Path::new("/dev").join(name), attributes, &mut plan, &mut links)?;
        }
    }
    for path in view.write {
        let attributes = sys::MOUNT_NOSUID | sys::MOUNT_NODEV | sys::MOUNT_NOEXEC;
        let fixed = view.fixed.iter().any(|fixed| path.starts_with(fixed));
        let attributes = attributes | if fixed { readonly } else { 0 };
        pick(path, attributes, &mut plan, &mut links)?;
    }
    let changeable = sys::MOUNT_NOSUID | sys::MOUNT_NODEV;
    let whole = view.writable && !view.lasting;
    pick(view.root, if whole { changeable } else { readonly }, &mut plan, &mut links)?;
    if whole {
        let open = [view.root.to_owned()];
        guard(view, begun(view.root, view.protected), &open, readonly, &mut plan)?;
    } else if view.writable {
        let open = unprotected(view.root, view.protected);
        for entry in &open {
            pick(entry, changeable, &mut plan, &mut links)?;
        }
        guard(view, Vec::new(), &open, readonly, &mut plan)?;
    }
    if view.lasting {
        // A folder granted by name may hold protected paths.
        let held = view.protected.iter().map(|p| view.root.join(p));
        let held = held.chain(view.fixed.iter().cloned());
        for path in held.filter(|p| view.write.iter().any(|w| p.starts_with(w))) {
            pick(&path, readonly, &mut plan, &mut links)?;
        }
    }
    // A parent's mount must be in place before its child's.
    plan.sort_by_key(|p| p.target.components().count());

    let base = Path::new("/tmp");
    sys::mount(c"none", c"/", c"", libc::MS_REC | libc::MS_PRIVATE, c"")?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    let size = std::ffi::CString::new(format!("mode=755,size={TMP_BYTES},nr_inodes=262144"))
        .map_err(io::Error::other)?;
    sys::mount(c"tmpfs", &sys::cstr(base)?, c"tmpfs", flags, &size)?;

    let put = |path: &Path| base.join(path.strip_prefix("/").unwrap_or(path));
    for folder in ["/proc", "/dev", "/tmp", "/var/tmp", "/run"] {
        make_folder(&put(Path::new(folder)))?;
    }
    for folder in ["/tmp", "/var/tmp"] {
        fs::set_permissions(put(Path::new(folder)), fs::Permissions::from_mode(0o1777))?;
    }
    if view.programs {
        let shm = put(Path::new("/dev/shm"));
        make_folder(&shm)?;
        fs::set_permissions(&shm, fs::Permissions::from_mode(0o1777))?;
        for (name, target) in
            [("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")]
        {
            symlink(Path::new("/proc/self").join(target), put(&Path::new("/dev").join(name)))?;
        }
    }
    if let Some(home) = view.home {
        make_folder(&put(home))?;
    }
    for (at, target) in links {
        let at = put(&at);
        let _ = with_parents(&at, || symlink(&target, &at));
    }
    for planned in &plan {
        let target = put(&planned.target);
        make_target(&target, planned.folder)?;
        sys::attach_tree(&planned.tree, &target)?;
    }
    for hidden in view.hidden {
        hide(&put(hidden), true)?;
    }
    for covered in view.covered {
        hide(&put(covered), false)?;
    }
    // Shows the processes of this namespace only.
    let at = put(Path::new("/proc"));
    let proc = sys::cstr(&at)?;
    let proc_flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    sys::mount(c"proc", &proc, c"proc", proc_flags, c"")?;
    // RLIMIT_NPROC does not bind root; this does. Numbers below 300 are not given out twice,
    // hence the offset.
    let pid_limit = view.processes.map_or(Ok(()), |processes| {
        if !sys::kernel_is_at_least(PID_MAX_OF_NAMESPACE) {
            return Err(io::Error::other("before Linux 6.14 it is the whole machine's"));
        }
        fs::write(at.join("sys/kernel/pid_max"), (300 + processes).to_string())
    });
    // Read-only from here: nothing under /proc/sys can be changed, whoever we are outside.
    let remount = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
    sys::mount(c"none", &proc, c"", proc_flags | remount, c"")?;

    std::env::set_current_dir(base)?;
    sys::pivot_here()?;
    Ok(pid_limit)
}

/// Plans `path`: as a mount, or as the symlink it is.
fn pick(
    path: &Path,
    attributes: u64,
    plan: &mut Vec<Planned>,
    links: &mut Vec<(PathBuf, PathBuf)>,
) -> io::Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(e) => return Err(e),
    };
    if meta.is_symlink() {
        let target = fs::read_link(path)?;
        links.push((path.to_owned(), target));
        return Ok(());
    }
    let tree = sys::clone_tree(path)?;
    sys::restrict_tree(&tree, attributes)?;
    plan.push(Planned { target: path.to_owned(), tree, folder: meta.is_dir() });
    Ok(())
}

/// The entries of a workspace that hold no protected path and are no symlinks.
pub(crate) fn unprotected(root: &Path, protected: &[String]) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let free = entries.map(|e| e.path()).filter(|path| {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        !protected.iter().any(|p| p.split('/').next() == Some(name.as_str()))
            && fs::symlink_metadata(path).is_ok_and(|m| m.is_dir() || m.is_file())
    });
    free.take(SERVER_MAX_ENTRIES).collect()
}

/// Plans the protected paths of a writable workspace: each is read-only, and every folder above
/// it a mount of its own, so that it cannot be moved out of the way; those above hidden paths
/// as well. `open` is what can be written at all.
fn guard(
    view: &View<'_>,
    protected: Vec<&String>,
    open: &[PathBuf],
    readonly: u64,
    plan: &mut Vec<Planned>,
) -> io::Result<()> {
    let mut held: Vec<PathBuf> = Vec::new();
    let protected = protected.into_iter().map(|p| (Path::new(p), true));
    // A mount of its own in what is read-only would make it writable.
    let is_open = |path: &Path| {
        open.iter().any(|o| path.starts_with(o))
            && !view.protected.iter().any(|p| path.starts_with(view.root.join(p)))
            && !view.fixed.iter().any(|p| path != p && path.starts_with(p))
    };
    let below = |path: &'_ PathBuf| {
        let inner = path.strip_prefix(view.root).ok().filter(|_| is_open(path))?;
        Some(inner.to_owned())
    };
    let rules: Vec<PathBuf> = view.rules.iter().chain(view.fixed).filter_map(below).collect();
    // What covers these is put in later; moved with the folder that holds it, a path would be
    // where no rule names it once the command has ended.
    let hidden: Vec<PathBuf> = view.hidden.iter().chain(view.covered).filter_map(below).collect();
    let more = rules.iter().map(|p| (p.as_path(), true));
    let more = more.chain(hidden.iter().map(|p| (p.as_path(), false)));
    for (relative, itself) in protected.chain(more) {
        let mut path = view.root.to_owned();
        let parts: Vec<_> = relative.components().collect();
        for (i, part) in parts.iter().enumerate() {
            let Component::Normal(name) = part else { break };
            path.push(name);
            let last = i + 1 == parts.len();
            if last && !itself {
                break;
            }
            let Ok(meta) = fs::symlink_metadata(&path) else { break };
            if meta.is_symlink() || !(meta.is_dir() || last) {
                break;
            }
            if !last && held.contains(&path) {
                continue;
            }
            let tree = sys::clone_tree(&path)?;
            let attributes = if last { readonly } else { sys::MOUNT_NOSUID | sys::MOUNT_NODEV };
            sys::restrict_tree(&tree, attributes)?;
            plan.push(Planned { target: path.clone(), tree, folder: meta.is_dir() });
            held.push(path.clone());
        }
    }
    Ok(())
}

/// Makes what a tree is attached to, unless it is there: a part of another tree, then.
fn make_target(target: &Path, folder: bool) -> io::Result<()> {
    let made = if folder {
        make_folder(target)
    } else {
        let mut new = fs::OpenOptions::new();
        new.write(true).create_new(true);
        with_parents(target, || new.open(target).map(drop))
    };
    match made {
        Err(_) if fs::symlink_metadata(target).is_ok() => Ok(()),
        made => made,
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    match with_parents(folder, || fs::create_dir(folder)) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Makes something, and the folders above it only when they are missing: most often they are
/// not, and each look costs a call.
fn with_parents(path: &Path, make: impl Fn() -> io::Result<()>) -> io::Result<()> {
    match (make(), path.parent()) {
        (Err(e), Some(parent)) if e.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(parent)?;
            make()
        }
        (made, _) => made,
    }
}

/// Covers a file with an empty one, a folder with an empty folder; both read-only. They can be
/// opened, or not: programs take what is empty for what is there, git for what is to be kept.
fn hide(path: &Path, open: bool) -> io::Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    if meta.is_dir() {
        let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        let data = if open { c"mode=555,size=4k" } else { c"mode=000,size=4k" };
        return sys::mount(c"tmpfs", &sys::cstr(path)?, c"tmpfs", flags, data);
    }
    if meta.is_symlink() {
        return Ok(());
    }
    // Anything that can be opened, a named pipe as well.
    let (empty, mode) = if open { ("/tmp/.hidden", 0o444) } else { ("/tmp/.closed", 0o000) };
    let empty = Path::new(empty);
    if !empty.exists() {
        fs::File::create(empty)?;
        fs::set_permissions(empty, fs::Permissions::from_mode(mode))?;
    }
    let tree = sys::clone_tree(empty)?;
    sys::restrict_tree(&tree, sys::MOUNT_RDONLY | sys::MOUNT_NOSUID | sys::MOUNT_NODEV)?;
    sys::attach_tree(&tree, path)
}
