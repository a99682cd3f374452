//! How a sleeping peer is woken: an eventfd where there is one, else a byte on the socket.

#[cfg(feature = "portable")]
use std::os::fd::{AsRawFd, OwnedFd};

use super::eventfd::EventFd;
use crate::client::Transport;

/// The byte that means "look at the rings" on a socket that carries wakes.
pub const WAKE_BYTE: u8 = b'W';

pub enum Wake {
    Event(EventFd),
    /// A second descriptor of the control socket.
    #[cfg(feature = "portable")]
    Socket(OwnedFd),
    /// Nobody to wake: the peer is a test.
    #[cfg(any(test, feature = "fuzzing"))]
    Nobody,
}

impl Wake {
    /// The backend it belongs to.
    pub fn transport(&self) -> Transport {
        match self {
            #[cfg(feature = "portable")]
            Self::Socket(_) => Transport::Portable,
            _ => Transport::Memfd,
        }
    }

    pub fn wake(&self) {
        match self {
            Self::Event(event) => event.wake(),
            #[cfg(feature = "portable")]
            Self::Socket(socket) => {
                // A full socket is fine: what is in it wakes the peer.
                // SAFETY: one readable byte; never blocks, never raises SIGPIPE.
                unsafe {
                    libc::send(
                        socket.as_raw_fd(),
                        [WAKE_BYTE].as_ptr().cast(),
                        1,
                        libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                    )
                };
            }
            #[cfg(any(test, feature = "fuzzing"))]
            Self::Nobody => {}
        }
    }
}
