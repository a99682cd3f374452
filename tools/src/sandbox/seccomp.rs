//! The system-call filter: everything is allowed but what reaches the network, other
//! processes, the kernel's configuration, or new namespaces.

use std::io;

use libc::sock_filter;

/// How much a process needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// A tool that runs inside the helper: no new processes or programs either.
    Files,
    Command,
    /// A command that was granted a network: TCP sockets too, and no others.
    Online,
    /// A server that was given the host's network: datagrams too, for names.
    Host,
}

impl Profile {
    /// Whether programs are started: then they need the system around them.
    pub(crate) fn runs_programs(self) -> bool {
        self != Self::Files
    }
}

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

const LD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JEQ: u16 = 0x15;
const JGE: u16 = 0x35;
const JSET: u16 = 0x45;
const AND: u16 = 0x54;
const RET: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;
const EPERM: u32 = ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = ERRNO | libc::ENOSYS as u32;

/// Offsets in `struct seccomp_data`.
const NR: u32 = 0;
const ARCH_AT: u32 = 4;
const fn arg(n: u32) -> u32 {
    16 + 8 * n
}

const NEW_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// Denied with EPERM in every profile.
const DENIED: &[libc::c_long] = &[
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // The kernel's own attack surface and configuration.
    libc::SYS_bpf,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_fanotify_init,
    libc::SYS_open_by_handle_at,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    // Newer than libc's table: statmount, listmount, open_tree_attr.
    457,
    458,
    467,
];

/// Also denied unless a network was granted. Without `socket` the rest has nothing to work
/// on; they are here for descriptors that came from elsewhere.
const DENIED_OFFLINE: &[libc::c_long] = &[
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
];

/// Also denied to tools that run inside the helper.
const DENIED_TO_FILES: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    libc::SYS_socketpair,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_mknodat,
    libc::SYS_shmget,
    libc::SYS_msgget,
    libc::SYS_semget,
];

struct Builder(Vec<sock_filter>);

impl Builder {
    fn op(&mut self, code: u16, k: u32) {
        self.0.push(sock_filter { code, jt: 0, jf: 0, k });
    }

    fn jump(&mut self, code: u16, k: u32, jt: u8, jf: u8) {
        self.0.push(sock_filter { code, jt, jf, k });
    }

    /// With the call's number loaded: `verdict` for this call.
    fn deny(&mut self, nr: libc::c_long, verdict: u32) {
        self.jump(JEQ, nr as u32, 0, 1);
        self.op(RET, verdict);
    }
}

/// The filter program.
fn program(profile: Profile) -> Vec<sock_filter> {
    let mut b = Builder(Vec::with_capacity(256));
    // A call made through another architecture's table has other numbers: end it.
    b.op(LD, ARCH_AT);
    b.jump(JEQ, ARCH, 1, 0);
    b.op(RET, KILL_PROCESS);
    b.op(LD, NR);
    if cfg!(target_arch = "x86_64") {
        // The x32 table.
        b.jump(JGE, 0x4000_0000, 0, 1);
        b.op(RET, KILL_PROCESS);
    }
    for nr in DENIED {
        b.deny(*nr, EPERM);
    }
    if !matches!(profile, Profile::Online | Profile::Host) {
        for nr in DENIED_OFFLINE {
            b.deny(*nr, EPERM);
        }
    }
    if profile == Profile::Files {
        for nr in DENIED_TO_FILES {
            b.deny(*nr, EPERM);
        }
    }
    // clone3's flags lie in memory, out of a filter's reach; libc falls back to clone.
    b.deny(libc::SYS_clone3, ENOSYS);

    // clone: no new namespaces; inside the helper, threads only.
    b.jump(JEQ, libc::SYS_clone as u32, 0, if profile == Profile::Files { 5 } else { 4 });
    b.op(LD, arg(0));
    if profile == Profile::Files {
        b.jump(JSET, NEW_NAMESPACES, 2, 0);
        b.jump(JSET, libc::CLONE_THREAD as u32, 0, 1);
        b.op(RET, ALLOW);
        b.op(RET, EPERM);
    } else {
        b.jump(JSET, NEW_NAMESPACES, 1, 0);
        b.op(RET, ALLOW);
        b.op(RET, EPERM);
    }

    // socket: TCP only. No datagrams (DNS is one), no Unix sockets (a socket in the workspace
    // may belong to a program outside), nothing raw.
    if profile == Profile::Online {
        b.op(LD, NR);
        b.jump(JEQ, libc::SYS_socket as u32, 0, 11);
        b.op(LD, arg(0));
        b.jump(JEQ, libc::AF_INET as u32, 1, 0);
        b.jump(JEQ, libc::AF_INET6 as u32, 0, 7);
        b.op(LD, arg(1));
        b.op(AND, 0xf);
        b.jump(JEQ, libc::SOCK_STREAM as u32, 0, 4);
        b.op(LD, arg(2));
        b.jump(JEQ, 0, 1, 0);
        b.jump(JEQ, libc::IPPROTO_TCP as u32, 0, 1);
        b.op(RET, ALLOW);
        b.op(RET, EPERM);
    }

    // socket: the internet families, streams and datagrams.
    if profile == Profile::Host {
        b.op(LD, NR);
        b.jump(JEQ, libc::SYS_socket as u32, 0, 9);
        b.op(LD, arg(0));
        b.jump(JEQ, libc::AF_INET as u32, 1, 0);
        b.jump(JEQ, libc::AF_INET6 as u32, 0, 4);
        b.op(LD, arg(1));
        b.op(AND, 0xf);
        b.jump(JEQ, libc::SOCK_STREAM as u32, 2, 0);
        b.jump(JEQ, libc::SOCK_DGRAM as u32, 1, 0);
        b.op(RET, EPERM);
        b.op(RET, ALLOW);
    }

    // socketpair: stream and seqpacket only. A datagram pair can send anywhere.
    b.op(LD, NR);
    b.jump(JEQ, libc::SYS_socketpair as u32, 0, 6);
    b.op(LD, arg(1));
    b.op(AND, 0xf);
    b.jump(JEQ, libc::SOCK_STREAM as u32, 1, 0);
    b.jump(JEQ, libc::SOCK_SEQPACKET as u32, 0, 1);
    b.op(RET, ALLOW);
    b.op(RET, EPERM);

    // ioctl: no typing into a terminal.
    b.op(LD, NR);
    b.jump(JEQ, libc::SYS_ioctl as u32, 0, 6);
    b.op(LD, arg(1));
    b.jump(JEQ, libc::TIOCSTI as u32, 2, 0);
    b.jump(JEQ, 0x541C, 1, 0); // TIOCLINUX
    b.jump(JEQ, 0x5423, 0, 1); // TIOCSETD
    b.op(RET, EPERM);
    b.op(RET, ALLOW);
    b.op(RET, ALLOW);
    b.0
}

/// Installs the filter for this process and what it starts. Needs `no_new_privs`.
pub(crate) fn install(profile: Profile) -> io::Result<()> {
    let program = program(profile);
    let filter =
        libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: `filter` points at `len` instructions that outlive the call; the kernel
    // copies and verifies them.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            // Threads of the helper, should there be any, get the filter too.
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw const filter,
        )
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
