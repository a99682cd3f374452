//! Namespaces of the call: made by the supervisor before it forks the process that
//! runs the call.

use std::fs;
use std::io;

use super::{Layers, layer, sys};
use crate::protocol::SandboxSpec;

const EACH: &[(&str, i32)] = &[
    (layer::MOUNT, libc::CLONE_NEWNS),
    (layer::PID, libc::CLONE_NEWPID),
    (layer::NET, libc::CLONE_NEWNET),
    (layer::IPC, libc::CLONE_NEWIPC),
    (layer::UTS, libc::CLONE_NEWUTS),
    (layer::CGROUP_NS, libc::CLONE_NEWCGROUP),
];

/// Leaves the host's namespaces, as far as allowed. The pid namespace begins with the
/// next fork.
pub(crate) fn enter(spec: &SandboxSpec, layers: &mut Layers) {
    let is_off = |name: &str| spec.off.iter().any(|o| o == name);
    let granted = |name: &str| spec.host_network && name == layer::NET;
    if spec.host_network {
        layers.absent.push((layer::NET.into(), "the user's settings give it the network".into()));
    }
    let wanted: Vec<_> = EACH.iter().filter(|(name, _)| !is_off(name) && !granted(name)).collect();
    for name in EACH.iter().map(|(name, _)| *name).chain([layer::USER]) {
        // `enter` of the sandbox reports the mount namespace.
        if is_off(name) && !granted(name) && name != layer::MOUNT {
            layers.off(name);
        }
    }
    let flags = wanted.iter().fold(0, |all, (_, flag)| all | flag);
    let ids = sys::ids();
    if !is_off(layer::USER) {
        // One call is quicker than seven, and the common case.
        match sys::unshare(libc::CLONE_NEWUSER | flags) {
            Ok(()) => {
                layers.note(layer::USER, map_ids(ids));
                layers.active.extend(wanted.iter().map(|(name, _)| (*name).to_owned()));
                return;
            }
            Err(_) => match sys::unshare(libc::CLONE_NEWUSER) {
                Ok(()) => layers.note(layer::USER, map_ids(ids)),
                Err(e) => layers.absent.push((layer::USER.into(), e.to_string())),
            },
        }
    }
    for (name, flag) in wanted {
        layers.note(name, sys::unshare(*flag));
    }
}

/// The user stays who they are, with nobody else beside them.
fn map_ids((uid, gid): (u32, u32)) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}
