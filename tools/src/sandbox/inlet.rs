//! The helper's side of a granted network: inside the empty network namespace the loopback
//! is brought up, listeners are made on it, and the *listeners* are handed to the host. The
//! host accepts on them from outside; nothing else leads out of the namespace.
//!
//! The other way round, for a port that a command may listen on: the host asks over the same
//! socket, and [`Doorman`] connects inside and hands the connection out.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

use super::network::Network;
use super::sys;
use crate::limits::INLET_CONNECT_MS;

/// The descriptor over which the listeners go to the host.
pub(crate) const HANDOVER: i32 = 3;

const INLET_CONNECT: Duration = Duration::from_millis(INLET_CONNECT_MS);

/// Needs a network namespace of our own, and its privileges still. The socket to the host
/// is closed again, unless connections into the namespace will be asked for over it.
pub(crate) fn open(network: &Network) -> io::Result<Option<Doorman>> {
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
    // nothing else here uses the number; from here on it is owned.
    let host = unsafe { OwnedFd::from_raw_fd(HANDOVER) };
    sys::send_fds(host.as_fd(), &fds)?;
    // From here on nobody inside holds a way out.
    drop(listeners);
    Ok((!network.listen().is_empty()).then_some(Doorman(host)))
}

/// Connects to ports inside for the host.
#[derive(Debug)]
pub(crate) struct Doorman(OwnedFd);

impl Doorman {
    pub(crate) fn fd(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Answers one question: two bytes of port come in, a connection goes out, or none when
    /// nobody listens there. `false` when the host is gone.
    pub(crate) fn answer(&self, network: &Network) -> bool {
        let mut port = [0; 2];
        if !matches!(sys::receive(self.0.as_fd(), &mut port), Ok(2)) {
            return false;
        }
        let port = u16::from_le_bytes(port);
        let here: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let stream = here
            .iter()
            .filter(|_| network.listen().contains(&port))
            // The command is not watched meanwhile, and one that accepts nothing could make
            // this wait for minutes.
            .find_map(|address| {
                TcpStream::connect_timeout(&(*address, port).into(), INLET_CONNECT).ok()
            });
        let fds: Vec<i32> = stream.iter().map(std::os::fd::AsRawFd::as_raw_fd).collect();
        sys::send_fds(self.0.as_fd(), &fds).is_ok()
    }
}

/// `ip link set lo up`.
fn loopback_up() -> io::Result<()> {
    let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC)?;
    sys::interface_up(&socket, c"lo")
}
