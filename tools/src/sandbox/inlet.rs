//! The helper's side of a granted network: inside the empty network namespace the loopback
//! is brought up, listeners are made on it, and the *listeners* are handed to the host. The
//! host accepts on them from outside; nothing else leads out of the namespace.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{BorrowedFd, OwnedFd};

use super::network::Network;
use super::sys;

/// The descriptor over which the listeners go to the host.
pub(crate) const HANDOVER: i32 = 3;

/// Needs a network namespace of our own, and its privileges still.
pub(crate) fn open(network: &Network) -> io::Result<()> {
    loopback_up()?;
    let mut ports = Vec::new();
    if network.has_hosts() {
        ports.push(network.proxy_port());
    }
    ports.extend(network.ports());
    let listeners: Vec<OwnedFd> = ports
        .iter()
        .map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).map(OwnedFd::from))
        .collect::<io::Result<_>>()?;
    let fds: Vec<i32> = listeners.iter().map(std::os::fd::AsRawFd::as_raw_fd).collect();
    // SAFETY: the host put the socket there before it started this program (`--net`), and
    // nothing else here uses the number.
    let host = unsafe { BorrowedFd::borrow_raw(HANDOVER) };
    sys::send_fds(host, &fds)?;
    // From here on nobody inside holds a way out.
    drop(listeners);
    sys::close_from(HANDOVER as u32)
}

/// `ip link set lo up`.
fn loopback_up() -> io::Result<()> {
    let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC)?;
    sys::interface_up(&socket, c"lo")
}
