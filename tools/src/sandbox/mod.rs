//! The fence around one call. Runs in `lapce-ai-tool`; the host reads the reports.
//!
//! Layers, outermost first: namespaces (user, mount, pid, net, ipc, uts, cgroup),
//! resource limits, dropped capabilities, Landlock, seccomp. Each is put up on its own;
//! one that the system does not offer is named in the result with the reason. A call is
//! refused when neither a mount namespace nor Landlock fences the files, or when there is
//! no seccomp filter, unless the user switched the layer off in their own settings.

pub(crate) mod inlet;
pub(crate) mod landlock;
pub(crate) mod namespaces;
pub mod network;
pub(crate) mod seccomp;
pub(crate) mod sys;
pub(crate) mod view;

use std::io;
use std::path::{Path, PathBuf};

pub(crate) use lapce_ai_fence::{Fence, Layers};
pub(crate) use seccomp::Profile;

use crate::limits::Limits;
use crate::protocol::Request;

/// Names of the layers, as reported and as switched off.
pub mod layer {
    pub const USER: &str = "user-namespace";
    pub const MOUNT: &str = "mount-namespace";
    pub const PID: &str = "pid-namespace";
    pub const NET: &str = "net-namespace";
    pub const IPC: &str = "ipc-namespace";
    pub const UTS: &str = "uts-namespace";
    pub const CGROUP_NS: &str = "cgroup-namespace";
    /// Process numbers of the pid namespace are bounded: the process limit for root too.
    pub const PID_LIMIT: &str = "pid-limit";
    pub const RLIMITS: &str = "rlimits";
    pub const CAPS: &str = "no-capabilities";
    pub const LANDLOCK: &str = "landlock";
    pub const SECCOMP: &str = "seccomp";
    /// Limits of a command's whole tree, where the system delegates groups to the user;
    /// not in [`ALL`], since without them the watcher in the helper keeps the same limits.
    pub const CGROUP: &str = "cgroup";
    /// What a user can do to get a layer.
    pub(crate) fn remedy(name: &str) -> &'static str {
        match name {
            USER | MOUNT | PID | NET | IPC | UTS | CGROUP_NS => {
                "allow unprivileged user namespaces: `sysctl user.max_user_namespaces` must not be \
                 0; on Ubuntu give lapce-ai-tool an AppArmor profile with `userns,`, or set \
                 kernel.apparmor_restrict_unprivileged_userns=0; in a container, let its seccomp \
                 profile allow unshare"
            }
            CGROUP => {
                "needs cgroup v2 with memory and pids passed on to the user: start the engine in \
                 a systemd user session (`systemd-run --user --scope lapce-ai status` starts it); \
                 until then the helper's watcher keeps these limits"
            }
            PID_LIMIT => "needs Linux 6.14; until then the process limit does not bind root",
            LANDLOCK => "needs Linux 5.13 with `landlock` in the boot parameter lsm=",
            SECCOMP => "needs a kernel with CONFIG_SECCOMP_FILTER",
            _ => "",
        }
    }

    /// All of them.
    pub const ALL: &[&str] =
        &[USER, MOUNT, PID, NET, IPC, UTS, CGROUP_NS, PID_LIMIT, RLIMITS, CAPS, LANDLOCK, SECCOMP];
}

/// A layer, for `doctor`; see [`crate::host::ToolHost::probe`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LayerStatus {
    /// `landlock`, `seccomp`, `user-namespace`, …
    pub name: String,
    pub active: bool,
    /// The version that works, or why it does not.
    pub detail: String,
    /// What the user can do about a layer that is not active, or empty.
    pub next: String,
}

impl LayerStatus {
    /// From the lists of a report.
    pub fn list(active: &[String], absent: &[(String, String)]) -> Vec<Self> {
        let active = active.iter().map(|name| {
            let (base, version) = name.rsplit_once("-v").unwrap_or((name, ""));
            let detail =
                if version.is_empty() { "active".into() } else { format!("ABI {version}") };
            Self { name: base.into(), active: true, detail, next: String::new() }
        });
        let absent = absent.iter().map(|(name, why)| Self {
            name: name.clone(),
            active: false,
            detail: why.clone(),
            next: layer::remedy(name).into(),
        });
        active.chain(absent).collect()
    }
}

/// What one call needs of its fence.
#[derive(Debug)]
pub(crate) struct Needs<'a> {
    pub(crate) request: &'a Request,
    pub(crate) profile: Profile,
    pub(crate) writable: bool,
    /// It runs while the user works: what it makes at protected paths cannot be told from
    /// what the user makes there, so it must not be able to make anything there.
    pub(crate) lasting: bool,
    pub(crate) hidden: &'a [PathBuf],
    /// What the user's rules close to reading, and to writing.
    pub(crate) covered: &'a [PathBuf],
    pub(crate) fixed: &'a [PathBuf],
    /// Files with ignore rules that stay as they are.
    pub(crate) rules: &'a [PathBuf],
}

/// The fence of this system.
pub(crate) struct Linux;

impl Fence for Linux {
    type Policy<'p> = Needs<'p>;

    fn enter(&self, needs: &Needs<'_>, layers: &mut Layers) -> Result<(), String> {
        enter(needs, layers)
    }
}

/// Puts up every layer but the namespaces, which the parent made. Called in the process
/// that will run the call.
fn enter(fence: &Needs<'_>, layers: &mut Layers) -> Result<(), String> {
    let request = fence.request;
    let spec = &request.sandbox;
    let off = |name: &str| spec.off.iter().any(|o| o == name);
    let programs = fence.profile.runs_programs();

    if off(layer::MOUNT) {
        layers.off(layer::MOUNT);
    } else if layers.has(layer::MOUNT) && layers.has(layer::PID) {
        let view = view::View {
            root: &request.root,
            writable: fence.writable,
            lasting: fence.lasting,
            programs,
            read: &spec.read,
            write: &spec.write,
            protected: &spec.protected,
            hidden: fence.hidden,
            covered: fence.covered,
            fixed: fence.fixed,
            rules: fence.rules,
            home: spec.home.as_deref(),
            network: spec.host_network,
            processes: (!off(layer::PID_LIMIT)).then_some(request.limits.processes),
        };
        match view::enter(&view) {
            Ok(_) if off(layer::PID_LIMIT) => layers.off(layer::PID_LIMIT),
            Ok(pid_limit) => layers.note(layer::PID_LIMIT, pid_limit),
            Err(e) => {
                layers.active.retain(|l| l != layer::MOUNT);
                layers.absent.push((layer::MOUNT.into(), format!("building the view failed: {e}")));
            }
        }
    } else {
        layers.active.retain(|l| l != layer::MOUNT);
    }
    let viewed = layers.has(layer::MOUNT);

    if off(layer::CAPS) {
        layers.off(layer::CAPS);
    } else {
        layers.note(layer::CAPS, landlock::no_new_privs().and_then(|()| sys::drop_capabilities()));
    }
    if off(layer::RLIMITS) {
        layers.off(layer::RLIMITS);
    } else {
        layers.note(
            layer::RLIMITS,
            rlimits(&request.limits, fence.writable || programs || !spec.write.is_empty()),
        );
    }
    if off(layer::LANDLOCK) {
        layers.off(layer::LANDLOCK);
    } else {
        match landlock::no_new_privs()
            .and_then(|()| landlock::restrict(&rules(fence, viewed), spec.host_network))
        {
            Ok(abi) => layers.active.push(format!("{}-v{abi}", layer::LANDLOCK)),
            Err(e) => layers.absent.push((layer::LANDLOCK.into(), e.to_string())),
        }
    }
    if off(layer::SECCOMP) {
        layers.off(layer::SECCOMP);
    } else {
        let filter = landlock::no_new_privs().and_then(|()| seccomp::install(fence.profile));
        layers.note(layer::SECCOMP, filter);
    }

    let files_fenced = viewed || layers.has(layer::LANDLOCK);
    let files_waived = off(layer::MOUNT) && off(layer::LANDLOCK);
    if !(files_fenced || files_waived) {
        return Err(refusal("neither Landlock nor a mount namespace is available", layers));
    }
    if !(layers.has(layer::SECCOMP) || off(layer::SECCOMP)) {
        return Err(refusal("no seccomp filter is available", layers));
    }
    Ok(())
}

fn refusal(what: &str, layers: &Layers) -> String {
    let why: Vec<String> =
        layers.absent.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
    format!(
        "the call was not run, because this system offers no sandbox for it: {what} ({}). See \
         `lapce-ai doctor sandbox`",
        why.join("; ")
    )
}

/// The paths Landlock lets through. With a view in place these are what was put in;
/// without one they are all that fences the files.
fn rules(fence: &Needs<'_>, viewed: bool) -> landlock::Rules {
    let spec = &fence.request.sandbox;
    let root = &fence.request.root;
    let mut rules = landlock::Rules::default();
    if fence.profile == Profile::Online {
        rules.connect.extend(spec.network.ports());
        rules.listen.extend(spec.network.listen());
        rules.connect.extend(spec.network.has_hosts().then(|| spec.network.proxy_port()));
    }
    if fence.profile.runs_programs() {
        rules.read.extend(view::SYSTEM.iter().map(PathBuf::from));
        rules.read.extend(spec.read.iter().cloned());
        if viewed {
            // All that is in it was put in.
            rules.read.push("/etc".into());
        } else {
            rules.read.extend(view::ETC.iter().map(|name| Path::new("/etc").join(name)));
        }
        if spec.host_network {
            rules.read.extend(view::NETWORK.iter().map(PathBuf::from));
        }
        // Devices: read and write, no ioctl.
        rules.write.extend(view::DEVICES.iter().map(|name| Path::new("/dev").join(name)));
    }
    rules.read.push("/proc".into());
    rules.write.extend(spec.write.iter().cloned());
    if viewed {
        // The view holds nothing that may not be listed.
        rules.list.push("/".into());
        rules.write.extend(["/tmp", "/var/tmp", "/dev/shm"].map(PathBuf::from));
        rules.write.extend(spec.home.clone().filter(|_| fence.profile.runs_programs()));
    } else {
        rules.write.extend(spec.scratch.clone());
    }
    if !fence.writable {
        rules.read.push(root.clone());
    } else if viewed || fence.profile == Profile::Files {
        // File tools check protected paths themselves; a view has them read-only.
        rules.write.push(root.clone());
    } else {
        // Without a view a command may write below every entry of the workspace that
        // holds no protected path, and nowhere else: rights only ever add up.
        rules.read.push(root.clone());
        let fixed = fence.fixed.iter().filter_map(|p| p.strip_prefix(root).ok()?.to_str());
        let mut protected = spec.protected.clone();
        protected.extend(fixed.map(str::to_owned));
        rules.write.extend(view::unprotected(root, &protected));
    }
    rules
}

fn rlimits(limits: &Limits, writable: bool) -> io::Result<()> {
    sys::set_rlimit(libc::RLIMIT_CORE, 0)?;
    sys::set_rlimit(libc::RLIMIT_CPU, limits.cpu_s)?;
    sys::set_rlimit(libc::RLIMIT_DATA, limits.memory_bytes)?;
    sys::set_rlimit(libc::RLIMIT_FSIZE, if writable { limits.file_bytes } else { 0 })?;
    sys::set_rlimit(libc::RLIMIT_NOFILE, u64::from(limits.open_files))?;
    sys::set_rlimit(libc::RLIMIT_MSGQUEUE, 0)?;
    // Counted per user in the user namespace; in the initial one it would count all of
    // the user's processes, so it is set only inside.
    if in_user_namespace() {
        sys::set_rlimit(libc::RLIMIT_NPROC, u64::from(limits.processes))?;
    }
    Ok(())
}

/// Whether this process is in a user namespace that maps one user only, as ours does.
fn in_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.lines().count() == 1 && map.split_whitespace().nth(2) == Some("1"))
}
