//! A hello and its descriptors, over the socket.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};

use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::error::ConnectError;
use crate::hello::{Hello, PRELUDE};
use crate::limits::HELLO_MAX;
use crate::sys::socket::{FDS_MAX, recv_with_fds, send_with_fds};

pub(super) async fn send(socket: &UnixStream, hello: &Hello, fds: &[RawFd]) -> io::Result<()> {
    let bytes = hello.encode();
    let mut sent = 0;
    while sent < bytes.len() {
        socket.writable().await?;
        let attached = if sent == 0 { fds } else { &[] };
        match socket.try_io(Interest::WRITABLE, || {
            send_with_fds(socket.as_fd().as_raw_fd(), &bytes[sent..], attached)
        }) {
            Ok(n) => sent += n,
            Err(e)
                if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

pub(super) async fn receive(socket: &UnixStream) -> Result<(Hello, Vec<OwnedFd>), ConnectError> {
    let mut fds = Vec::new();
    let mut prelude = [0; PRELUDE];
    fill(socket, &mut prelude, &mut fds).await?;
    let len = Hello::body_len(&prelude).map_err(ConnectError::Handshake)?;
    let mut body = [0; HELLO_MAX];
    fill(socket, &mut body[..len], &mut fds).await?;
    let hello = Hello::decode(&body[..len]).map_err(ConnectError::Handshake)?;
    Ok((hello, fds))
}

async fn fill(
    socket: &UnixStream,
    bytes: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> Result<(), ConnectError> {
    let mut got = 0;
    while got < bytes.len() {
        socket.readable().await?;
        match socket.try_io(Interest::READABLE, || {
            recv_with_fds(socket.as_fd().as_raw_fd(), &mut bytes[got..], fds)
        }) {
            Ok(0) => {
                return Err(ConnectError::Handshake(
                    "the other side hung up during the hello".into(),
                ));
            }
            Ok(n) => got += n,
            Err(e)
                if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(e) => return Err(e.into()),
        }
        if fds.len() > FDS_MAX {
            return Err(ConnectError::Handshake("too many descriptors".into()));
        }
    }
    Ok(())
}
