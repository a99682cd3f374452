//! Landlock: which paths may be read and written, no TCP, no signals or abstract
//! sockets to the outside. Best effort by ABI; what the kernel does not know is left out
//! and shows in the version reported.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::sys;

const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;
const RULE_NET_PORT: u32 = 2;
const BIND_TCP: u64 = 1 << 0;
const CONNECT_TCP: u64 = 1 << 1;

const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_FIFO: u64 = 1 << 10;
const MAKE_SYM: u64 = 1 << 12;
/// V2: link and rename across folders.
const REFER: u64 = 1 << 13;
/// V3.
const TRUNCATE: u64 = 1 << 14;

const READ: u64 = EXECUTE | READ_FILE | READ_DIR;
const WRITE: u64 = READ
    | WRITE_FILE
    | REMOVE_DIR
    | REMOVE_FILE
    | MAKE_DIR
    | MAKE_REG
    | MAKE_FIFO
    | MAKE_SYM
    | REFER
    | TRUNCATE;
/// What a rule on a file, not a folder, may hold.
const ON_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE;

/// Every file-system right of each ABI version.
fn handled_fs(abi: i32) -> u64 {
    match abi {
        ..=1 => (1 << 13) - 1,
        2 => (1 << 14) - 1,
        3 | 4 => (1 << 15) - 1,
        // V5 adds ioctl on devices.
        _ => (1 << 16) - 1,
    }
}

#[repr(C)]
struct RulesetAttr {
    fs: u64,
    net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

/// The kernel's ABI version.
pub(crate) fn abi() -> io::Result<i32> {
    // SAFETY: the documented way to ask for the version: no attribute, size 0.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<RulesetAttr>(),
            0usize,
            CREATE_RULESET_VERSION,
        )
    };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc as i32) }
}

/// What the fence lets through.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) list: Vec<PathBuf>,
    pub(crate) read: Vec<PathBuf>,
    pub(crate) write: Vec<PathBuf>,
    /// TCP ports that may be connected to.
    pub(crate) connect: Vec<u16>,
    /// TCP ports that may be listened on, and connected to.
    pub(crate) listen: Vec<u16>,
}

/// Fences this process in, for good. Paths that do not exist are left out. Returns the
/// ABI version. Needs `no_new_privs`.
pub(crate) fn restrict(rules: &Rules, network: bool) -> io::Result<i32> {
    let abi = abi()?;
    let handled = handled_fs(abi);
    let attr = RulesetAttr {
        fs: handled,
        // V4: TCP to and on named ports only, unless the whole network is granted.
        net: if abi >= 4 && !network { 0b11 } else { 0 },
        // V6: abstract sockets and signals stay inside.
        scoped: if abi >= 6 { 0b11 } else { 0 },
    };
    let size = match abi {
        ..=3 => 8,
        4 | 5 => 16,
        _ => 24,
    };
    // SAFETY: `attr` is at least `size` bytes and outlives the call.
    let rc = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attr, size as usize, 0u32)
    };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us.
    let ruleset = unsafe { OwnedFd::from_raw_fd(rc as i32) };
    for path in &rules.list {
        add(&ruleset, path, READ_DIR)?;
    }
    for path in &rules.read {
        add(&ruleset, path, READ & handled)?;
    }
    for path in &rules.write {
        add(&ruleset, path, WRITE & handled)?;
    }
    for port in rules.connect.iter().filter(|_| abi >= 4) {
        add_port(&ruleset, *port, CONNECT_TCP)?;
    }
    for port in rules.listen.iter().filter(|_| abi >= 4) {
        add_port(&ruleset, *port, BIND_TCP | CONNECT_TCP)?;
    }
    // SAFETY: a valid ruleset descriptor and no flags.
    let rc = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0u32) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(abi) }
}

fn add(ruleset: &OwnedFd, path: &Path, rights: u64) -> io::Result<()> {
    let file = match std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_CLOEXEC)
        .open(path)
    {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    let allow = |rights: u64| {
        let rule = PathBeneath { allowed: rights, parent: file.as_raw_fd() };
        // SAFETY: `rule` has the kernel's packed layout and outlives the call.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                ruleset.as_raw_fd(),
                RULE_PATH_BENEATH,
                &raw const rule,
                0u32,
            )
        };
        if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    match allow(rights) {
        // Rights that only folders have, on a file.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => allow(rights & ON_FILES),
        added => added,
    }
}

fn add_port(ruleset: &OwnedFd, port: u16, allowed: u64) -> io::Result<()> {
    #[repr(C)]
    struct NetPort {
        allowed: u64,
        port: u64,
    }
    let rule = NetPort { allowed, port: u64::from(port) };
    // SAFETY: `rule` has the kernel's layout and outlives the call.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            RULE_NET_PORT,
            &raw const rule,
            0u32,
        )
    };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `no_new_privs`, which both Landlock and seccomp need.
pub(crate) fn no_new_privs() -> io::Result<()> {
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}
