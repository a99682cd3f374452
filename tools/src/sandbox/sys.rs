//! Thin, checked wrappers over the system calls the sandbox needs. No policy here.

use std::ffi::{CStr, CString, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub(crate) type Result<T> = io::Result<T>;

pub(crate) fn cstr(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

fn check(rc: c_int) -> Result<c_int> {
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc) }
}

fn check_long(rc: libc::c_long) -> Result<libc::c_long> {
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc) }
}

fn owned(rc: libc::c_long) -> Result<OwnedFd> {
    let fd = check_long(rc)?;
    // SAFETY: the kernel just returned this descriptor to us and nobody else holds it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: u32) -> Result<()> {
    // SAFETY: takes integers only; callers do not use descriptors above `first` later.
    check_long(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0u32) }).map(drop)
}

pub(crate) fn prctl(option: c_int, a: libc::c_ulong, b: libc::c_ulong) -> Result<c_int> {
    // SAFETY: the options used here take integers only.
    check(unsafe { libc::prctl(option, a, b, 0 as libc::c_ulong, 0 as libc::c_ulong) })
}

pub(crate) fn unshare(flags: c_int) -> Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

pub(crate) enum Fork {
    Child,
    Parent(libc::pid_t),
}

/// Forks. The caller must have one thread only.
pub(crate) fn fork() -> Result<Fork> {
    // SAFETY: the helper is single-threaded when it forks, so the child may run any code.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// Stack of a process between [`fork_to_exec`] and its program.
const EXEC_STACK: usize = 64 << 10;

/// Starts a process that becomes another program at once. It borrows this one's memory until
/// then, and this one sleeps: nothing is copied. What `child` returns is its exit code. The caller
/// must have one thread only.
pub(crate) fn fork_to_exec(child: &dyn Fn() -> c_int) -> Result<libc::pid_t> {
    extern "C" fn begin(child: *mut c_void) -> c_int {
        // SAFETY: the argument of `clone` below, alive since the parent sleeps.
        let child = unsafe { &*child.cast::<&dyn Fn() -> c_int>() };
        child()
    }
    let mut stack = vec![0u128; EXEC_STACK / size_of::<u128>()];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack is aligned and larger than what `child` needs. The memory is shared with
    // a parent that sleeps until the child executes a program or ends, and has no other thread.
    let pid = unsafe {
        let top = stack.as_mut_ptr_range().end;
        libc::clone(begin, top.cast(), flags, (&raw const child).cast_mut().cast())
    };
    check(pid)
}

pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process without running destructors or atexit handlers.
    unsafe { libc::_exit(code) }
}

pub(crate) fn kill(pid: libc::pid_t, signal: c_int) -> Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

pub(crate) fn setsid() {
    // SAFETY: no arguments; failure (already a leader) changes nothing.
    unsafe { libc::setsid() };
}

pub(crate) fn getpid() -> libc::pid_t {
    // SAFETY: cannot fail.
    unsafe { libc::getpid() }
}

pub(crate) fn ids() -> (u32, u32) {
    // SAFETY: cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

pub(crate) fn pidfd_open(pid: libc::pid_t) -> Result<OwnedFd> {
    // SAFETY: integers only; the result is a new descriptor.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0u32) })
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Exit(i32),
    Signal(i32),
}

/// Reaps one child: `pid`, or any for -1. `None` when none has ended (with `block`
/// false) or none is left.
pub(crate) fn reap(pid: libc::pid_t, block: bool) -> Option<(libc::pid_t, Ended)> {
    let mut status = 0;
    loop {
        // SAFETY: `status` outlives the call.
        let got = unsafe {
            libc::waitpid(
                pid,
                &raw mut status,
                if block { libc::__WALL } else { libc::WNOHANG | libc::__WALL },
            )
        };
        if got < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
            continue;
        }
        if got <= 0 {
            return None;
        }
        let ended = if libc::WIFSIGNALED(status) {
            Ended::Signal(libc::WTERMSIG(status))
        } else if libc::WIFEXITED(status) {
            Ended::Exit(libc::WEXITSTATUS(status))
        } else {
            continue;
        };
        return Some((got, ended));
    }
}

/// Whether this process has a child, running or ended.
pub(crate) fn has_children() -> bool {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: a zeroed siginfo is a valid value to be overwritten, and outlives the call.
    let rc = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_ALL, 0, &raw mut info, flags)
    };
    rc == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ECHILD)
}

/// Waits for one of `fds` to be readable or hung up; returns each one's events.
pub(crate) fn poll(fds: &[(RawFd, i16)], timeout_ms: i32) -> Result<Vec<i16>> {
    let mut list: Vec<libc::pollfd> = fds
        .iter()
        .map(|(fd, events)| libc::pollfd { fd: *fd, events: *events, revents: 0 })
        .collect();
    loop {
        // SAFETY: `list` is a valid array of its own length for the whole call.
        let rc = unsafe { libc::poll(list.as_mut_ptr(), list.len() as libc::nfds_t, timeout_ms) };
        match check(rc) {
            Ok(_) => return Ok(list.iter().map(|p| p.revents).collect()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: `fds` has room for the two descriptors.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: both were just made for us.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

pub(crate) fn socket(family: c_int, kind: c_int) -> Result<OwnedFd> {
    // SAFETY: integers only; the result is a new descriptor.
    owned(libc::c_long::from(unsafe { libc::socket(family, kind, 0) }))
}

/// Brings a network interface of this namespace up.
pub(crate) fn interface_up(socket: &OwnedFd, name: &CStr) -> Result<()> {
    // SAFETY: a zeroed ifreq is valid; its name is copied below, with room for the NUL.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.to_bytes().iter().take(15)) {
        *to = *from as libc::c_char;
    }
    // SAFETY: `request` outlives both calls, and the union's flags are what they use.
    unsafe {
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request))?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request))
    }
    .map(drop)
}

/// Room for the descriptors of one message; the kernel takes 253 at most.
const FDS_ROOM: usize = 4 * 256 + 64;

/// Receives bytes from a socket.
pub(crate) fn receive(from: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: `buffer` is valid for its own length during the call.
    let got = unsafe {
        libc::recv(from.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_WAITALL)
    };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

/// Sends descriptors over a Unix socket, in one message; it may have none.
pub(crate) fn send_fds(to: BorrowedFd<'_>, fds: &[RawFd]) -> Result<()> {
    let mut byte = [0u8];
    let mut room = [0u64; FDS_ROOM / 8];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let size = size_of_val(fds);
    // SAFETY: integers only.
    let (space, length) =
        unsafe { (libc::CMSG_SPACE(size as u32) as usize, libc::CMSG_LEN(size as u32) as usize) };
    if space > FDS_ROOM {
        return Err(io::Error::other("too many descriptors"));
    }
    // SAFETY: a zeroed msghdr is valid, and every pointer put into it outlives the call;
    // the control buffer has `space` bytes, aligned, and holds one header and `fds`.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if size > 0 {
            message.msg_control = room.as_mut_ptr().cast();
            message.msg_controllen = space as _;
            let head = libc::CMSG_FIRSTHDR(&raw const message);
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            (*head).cmsg_len = length as _;
            std::ptr::copy_nonoverlapping(fds.as_ptr().cast::<u8>(), libc::CMSG_DATA(head), size);
        }
        check_long(libc::sendmsg(to.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) as _)
    }
    .map(drop)
}

/// Receives the descriptors of one message; at most `most` are kept.
pub(crate) fn receive_fds(from: BorrowedFd<'_>, most: usize) -> Result<Vec<OwnedFd>> {
    let mut byte = [0u8];
    let mut room = [0u64; FDS_ROOM / 8];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut all = Vec::new();
    // SAFETY: a zeroed msghdr is valid, and every pointer put into it outlives the call.
    // The kernel wrote the control messages; each descriptor in them is new and ours.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = room.as_mut_ptr().cast();
        message.msg_controllen = FDS_ROOM as _;
        let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
        check_long(libc::recvmsg(from.as_raw_fd(), &raw mut message, flags) as _)?;
        let mut head = libc::CMSG_FIRSTHDR(&raw const message);
        while !head.is_null() {
            if (*head).cmsg_level == libc::SOL_SOCKET && (*head).cmsg_type == libc::SCM_RIGHTS {
                let size = (*head).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(head);
                for n in 0..size / size_of::<RawFd>() {
                    let fd = data.add(n * size_of::<RawFd>()).cast::<RawFd>().read_unaligned();
                    all.push(OwnedFd::from_raw_fd(fd));
                }
            }
            head = libc::CMSG_NXTHDR(&raw const message, head);
        }
    }
    all.truncate(most);
    Ok(all)
}

/// A terminal: its controlling side and the side for a program, `lines` by `columns`.
pub(crate) fn open_pty((lines, columns): (u16, u16)) -> Result<(OwnedFd, OwnedFd)> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: integers only; the result is a new descriptor.
    let control = owned(libc::c_long::from(unsafe { libc::posix_openpt(flags) }))?;
    let unlock: c_int = 0;
    let size = libc::winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let fd = control.as_raw_fd();
    // SAFETY: each pointer is to a value of the kind that its request takes, and outlives
    // the call; the last one returns a new descriptor.
    let program = unsafe {
        check(libc::ioctl(fd, libc::TIOCSPTLCK as _, &raw const unlock))?;
        check(libc::ioctl(fd, libc::TIOCSWINSZ as _, &raw const size))?;
        owned(libc::c_long::from(libc::ioctl(fd, libc::TIOCGPTPEER as _, flags)))?
    };
    Ok((control, program))
}

/// Makes a terminal this session's own.
pub(crate) fn take_terminal(terminal: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: integers only, on an open descriptor.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY as _, 0) }).map(drop)
}

pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: integers only, on an open descriptor.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(drop)
}

/// A copy with a number of at least `min`.
pub(crate) fn dup_above(fd: BorrowedFd<'_>, min: RawFd) -> Result<OwnedFd> {
    // SAFETY: integers only, on an open descriptor; the result is a new one.
    owned(libc::c_long::from(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, min) }))
}

pub(crate) fn dup2(from: RawFd, to: RawFd) -> Result<()> {
    // SAFETY: integers only; replaces `to`, which the caller gives up.
    check(unsafe { libc::dup2(from, to) }).map(drop)
}

pub(crate) fn set_rlimit(resource: libc::__rlimit_resource_t, value: u64) -> Result<()> {
    // At the hard limit of processor time the kernel kills; the soft one has a signal of
    // its own, which can be named.
    let hard = if resource == libc::RLIMIT_CPU { value + 2 } else { value };
    let limit = libc::rlimit { rlim_cur: value, rlim_max: hard };
    // SAFETY: `limit` is a valid struct for the call.
    match check(unsafe { libc::setrlimit(resource, &raw const limit) }) {
        Ok(_) => Ok(()),
        Err(_) => {
            // A hard limit below the wish cannot be raised; the lower one holds.
            let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: `now` is a valid struct for the call.
            check(unsafe { libc::getrlimit(resource, &raw mut now) })?;
            now.rlim_cur = now.rlim_max.min(value);
            // SAFETY: as above.
            check(unsafe { libc::setrlimit(resource, &raw const now) }).map(drop)
        }
    }
}

#[repr(C)]
struct Header {
    version: u32,
    pid: c_int,
}

/// The version of `capset` with two sets of three words.
const VERSION_3: u32 = 0x2008_0522;

/// Drops every capability, now and across exec.
pub(crate) fn drop_capabilities() -> Result<()> {
    for cap in 0..64 {
        // SAFETY: integers only.
        let rc = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, cap, 0, 0, 0) };
        if rc < 0 {
            // EINVAL: past the last capability. EPERM: we have none to drop.
            break;
        }
    }
    let _ = prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0);
    let header = Header { version: VERSION_3, pid: 0 };
    let none = [[0u32; 3]; 2];
    // SAFETY: header and data have the layout of version 3 (two sets of three words).
    check_long(unsafe {
        libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr().cast::<c_void>())
    })
    .map(drop)
}

pub(crate) fn mount(
    source: &CStr,
    target: &CStr,
    kind: &CStr,
    flags: libc::c_ulong,
    data: &CStr,
) -> Result<()> {
    // SAFETY: all pointers are NUL-terminated strings that outlive the call.
    check(unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast())
    })
    .map(drop)
}

/// A detached copy of the mounts at `path`, and everything below.
pub(crate) fn clone_tree(path: &Path) -> Result<OwnedFd> {
    const OPEN_TREE_CLONE: u32 = 1;
    const AT_RECURSIVE: u32 = 0x8000;
    let path = cstr(path)?;
    // SAFETY: `path` is a NUL-terminated string; the result is a new descriptor.
    owned(unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            libc::AT_FDCWD,
            path.as_ptr(),
            OPEN_TREE_CLONE
                | AT_RECURSIVE
                | libc::O_CLOEXEC as u32
                | libc::AT_SYMLINK_NOFOLLOW as u32,
        )
    })
}

pub(crate) const MOUNT_RDONLY: u64 = 0x1;
pub(crate) const MOUNT_NOSUID: u64 = 0x2;
pub(crate) const MOUNT_NODEV: u64 = 0x4;
pub(crate) const MOUNT_NOEXEC: u64 = 0x8;

/// Adds attributes to a detached tree, recursively.
pub(crate) fn restrict_tree(tree: &OwnedFd, attributes: u64) -> Result<()> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    const AT_RECURSIVE: u32 = 0x8000;
    let attr = MountAttr { set: attributes, clear: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    // SAFETY: the struct has the layout and size given; the path is an empty string.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH as u32 | AT_RECURSIVE,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// Attaches a detached tree at `target`.
pub(crate) fn attach_tree(tree: &OwnedFd, target: &Path) -> Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;
    let target = cstr(target)?;
    // SAFETY: both paths are NUL-terminated strings.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// Makes the current folder the root and drops the old one.
pub(crate) fn pivot_here() -> Result<()> {
    // SAFETY: NUL-terminated strings.
    check_long(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    // SAFETY: as above.
    check(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) })?;
    std::env::set_current_dir("/")
}

pub(crate) const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
pub(crate) const RESOLVE_NO_SYMLINKS: u64 = 0x04;
pub(crate) const RESOLVE_BENEATH: u64 = 0x08;

/// `openat2`: opens `path` below `dir` under the given resolution rules.
pub(crate) fn openat2(
    dir: BorrowedFd<'_>,
    path: &Path,
    flags: c_int,
    mode: u32,
    resolve: u64,
) -> Result<OwnedFd> {
    #[repr(C)]
    struct How {
        flags: u64,
        mode: u64,
        resolve: u64,
    }
    let how = How { flags: (flags | libc::O_CLOEXEC) as u64, mode: u64::from(mode), resolve };
    let path = cstr(path)?;
    loop {
        // SAFETY: `path` is NUL-terminated and `how` has the size given.
        let got = owned(unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<How>(),
            )
        });
        match got {
            // A concurrent rename made the kernel give up on proving containment.
            Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Whether this is Linux `wanted` (major, minor) or a later one.
pub(crate) fn kernel_is_at_least(wanted: (u32, u32)) -> bool {
    // SAFETY: a zeroed utsname is a valid value to be overwritten, with a NUL at each field's end.
    let release = unsafe {
        let mut name: libc::utsname = std::mem::zeroed();
        if libc::uname(&raw mut name) != 0 {
            return false;
        }
        CStr::from_ptr(name.release.as_ptr()).to_string_lossy().into_owned()
    };
    version(&release).is_some_and(|version| version >= wanted)
}

/// `6.18` of `6.18.44-fc`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// What is at `name` in a folder, or the folder itself for an empty one; symlinks are themselves.
pub(crate) fn stat_at(dir: BorrowedFd<'_>, name: &CStr) -> Result<libc::stat> {
    let itself = if name.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    let flags = libc::AT_SYMLINK_NOFOLLOW | itself;
    // SAFETY: a zeroed stat is a valid value to be overwritten, and outlives the call; `name` is
    // NUL-terminated.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        check(libc::fstatat(dir.as_raw_fd(), name.as_ptr(), &raw mut stat, flags))?;
        Ok(stat)
    }
}

/// The clock that files are stamped with: no change from here on has an earlier stamp.
pub(crate) fn coarse_now_ns() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` outlives the call, which cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut now) };
    now.tv_sec.wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec)
}

/// The kind of file system of an open descriptor.
pub(crate) fn file_system(fd: BorrowedFd<'_>) -> Result<i64> {
    // SAFETY: a zeroed statfs is a valid value to be overwritten, and outlives the call.
    unsafe {
        let mut stat: libc::statfs = std::mem::zeroed();
        check(libc::fstatfs(fd.as_raw_fd(), &raw mut stat))?;
        Ok(stat.f_type)
    }
}

/// Locks an open file until it is closed: shared, or for one alone if nobody else holds it now.
pub(crate) fn lock(fd: BorrowedFd<'_>, alone: bool) -> Result<()> {
    let how = if alone { libc::LOCK_EX | libc::LOCK_NB } else { libc::LOCK_SH };
    loop {
        // SAFETY: integers only, on an open descriptor.
        match check(unsafe { libc::flock(fd.as_raw_fd(), how) }) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            done => return done.map(drop),
        }
    }
}

/// Free bytes on the file system of an open descriptor, for this user.
pub(crate) fn free_bytes(fd: BorrowedFd<'_>) -> Result<u64> {
    // SAFETY: a zeroed statvfs is a valid value to be overwritten.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` outlives the call.
    check(unsafe { libc::fstatvfs(fd.as_raw_fd(), &raw mut stat) })?;
    Ok(stat.f_bavail * stat.f_frsize)
}

/// Lets the default action of every signal back in, and unblocks all.
pub(crate) fn reset_signals() {
    // SAFETY: SIG_DFL is a valid handler for every signal; failures (SIGKILL, SIGSTOP)
    // change nothing.
    unsafe {
        for signal in 1..32 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Replaces the program. Returns only on failure.
pub(crate) fn exec(program: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(args), pointers(env));
    // SAFETY: both arrays end with NULL and their strings outlive the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

pub(crate) fn mkdirat(dir: BorrowedFd<'_>, name: &Path) -> Result<()> {
    let name = cstr(name)?;
    // SAFETY: an open folder and a NUL-terminated name.
    check(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), 0o777) }).map(drop)
}

/// Renames `from` to `to` within one folder, replacing what is there unless `fresh`.
pub(crate) fn renameat(dir: BorrowedFd<'_>, from: &Path, to: &Path, fresh: bool) -> Result<()> {
    let (from, to) = (cstr(from)?, cstr(to)?);
    let flags = if fresh { libc::RENAME_NOREPLACE } else { 0 };
    // SAFETY: an open folder and NUL-terminated names.
    check(unsafe {
        libc::renameat2(dir.as_raw_fd(), from.as_ptr(), dir.as_raw_fd(), to.as_ptr(), flags)
    })
    .map(drop)
}

pub(crate) fn unlinkat(dir: BorrowedFd<'_>, name: &Path) -> Result<()> {
    let name = cstr(name)?;
    // SAFETY: an open folder and a NUL-terminated name.
    check(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
}

/// Removes an empty folder.
pub(crate) fn rmdirat(dir: BorrowedFd<'_>, name: &Path) -> Result<()> {
    let name = cstr(name)?;
    // SAFETY: an open folder and a NUL-terminated name.
    check(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), libc::AT_REMOVEDIR) }).map(drop)
}

/// The names of what is in an open folder, at most so many.
pub(crate) fn names_in(dir: BorrowedFd<'_>, most: usize) -> Result<Vec<std::ffi::OsString>> {
    std::fs::read_dir(format!("/proc/self/fd/{}", dir.as_raw_fd()))?
        .take(most)
        .map(|entry| Ok(entry?.file_name()))
        .collect()
}

/// Makes a symlink; fails where anything is.
pub(crate) fn symlinkat(target: &[u8], dir: BorrowedFd<'_>, name: &Path) -> Result<()> {
    let (target, name) = (CString::new(target)?, cstr(name)?);
    // SAFETY: an open folder and NUL-terminated strings.
    check(unsafe { libc::symlinkat(target.as_ptr(), dir.as_raw_fd(), name.as_ptr()) }).map(drop)
}

/// Where a symlink leads; it is not followed.
pub(crate) fn readlinkat(dir: BorrowedFd<'_>, name: &Path) -> Result<Vec<u8>> {
    let name = cstr(name)?;
    let mut target = vec![0u8; libc::PATH_MAX as usize];
    // SAFETY: an open folder, a NUL-terminated name and a buffer of the length given.
    let length = unsafe {
        let into = target.as_mut_ptr().cast();
        libc::readlinkat(dir.as_raw_fd(), name.as_ptr(), into, target.len())
    };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    target.truncate(length as usize);
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_the_kernel() {
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version("6.1.0-37-amd64"), Some((6, 1)));
        assert_eq!(version("10.2"), Some((10, 2)));
        assert_eq!(version("next"), None);
        assert!(kernel_is_at_least((2, 6)) && !kernel_is_at_least((1_000, 0)));
    }
}
