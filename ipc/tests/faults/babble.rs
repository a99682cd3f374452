//! A process that writes what it likes into its control socket: before the hello, instead
//! of it, after it, during calls; with descriptors, as a flood, as a farewell that plays
//! with the reader's terminal. It loses its own connection, and nobody else notices.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lapce_ai_ipc::wire::engine::{Reply, Request};
use lapce_ai_ipc::{CallError, Client, Connections, EngineProtocol, Ident, Options, serve};
use tokio::net::UnixStream;

use crate::peers::{
    Child, Echo, SEED, bounded, connect, listen, open_fds, rss_kib, seed, serve_all, until,
};

/// What the process does, by its seed.
const WAYS: [&str; 6] = ["no-hello", "after", "calls", "farewell", "descriptors", "flood"];
const ROUNDS: usize = 30;

struct Random(u64);

impl Random {
    fn next(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) as usize % n
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next(256) as u8).collect()
    }
}

/// A second descriptor of `socket`.
fn second(socket: &UnixStream) -> OwnedFd {
    // SAFETY: duplicates a descriptor of ours; the new one is nobody else's.
    unsafe {
        let fd = libc::dup(socket.as_raw_fd());
        assert!(fd >= 0);
        OwnedFd::from_raw_fd(fd)
    }
}

/// Writes as much as the other side takes; whether it is still there.
fn say(socket: &OwnedFd, bytes: &[u8], fd: Option<&OwnedFd>) -> bool {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = [0u64; 4];
    // SAFETY: every pointer refers to live memory of the stated length; the control buffer
    // is aligned for its header and has room for one descriptor.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if let Some(fd) = fd {
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(4) as usize;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
            libc::CMSG_DATA(header).cast::<i32>().write_unaligned(fd.as_raw_fd());
        }
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        libc::sendmsg(socket.as_raw_fd(), &raw const message, flags)
    };
    sent >= 0 || std::io::Error::last_os_error().kind() == std::io::ErrorKind::WouldBlock
}

/// The role, as a client.
pub(crate) async fn client(path: &Path) {
    let seed = seed();
    let stream = UnixStream::connect(path).await.unwrap();
    let socket = second(&stream);
    if WAYS[seed as usize % WAYS.len()] == "no-hello" {
        let mut random = Random(seed);
        let n = 1 + random.next(4000);
        let mut bytes = random.bytes(n);
        if seed % 4 < 2 {
            // As far as the magic it is a hello.
            bytes.splice(0..8.min(bytes.len()), *b"LAPCERNG");
        }
        say(&socket, &bytes, None);
        drop(stream);
        // The process stays, as a buggy one would.
        return std::future::pending().await;
    }
    let client =
        Client::<EngineProtocol>::over(stream, Ident::new("babbler", "1")).await.expect("a hello");
    let calling = client.clone();
    let calls = async {
        while calling.call(Request::CancelRun { run_id: "z".repeat(500) }).await.is_ok() {}
    };
    tokio::join!(calls, babble(seed, &socket));
    std::future::pending::<()>().await;
}

/// The role, as a server: whoever connects hears it babble.
pub(crate) async fn server(path: &Path) {
    let listener = tokio::net::UnixListener::bind(path).unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let socket = second(&stream);
    let (ident, echo) = (Ident::new("babbler", "1"), Arc::new(Echo::default()));
    let served = serve::<EngineProtocol, _>(stream, ident, Arc::clone(&echo));
    let babbling = async {
        // Not into the hello, however late that comes: its client would not get as far as a call.
        until("a call", || echo.requests.load(Ordering::SeqCst) > 0).await;
        babble(seed(), &socket).await;
    };
    let (_, ()) = tokio::join!(served, babbling);
    std::future::pending::<()>().await;
}

async fn babble(seed: u64, socket: &OwnedFd) {
    let mut random = Random(seed);
    let way = WAYS[seed as usize % WAYS.len()];
    if way != "after" {
        tokio::time::sleep(Duration::from_millis(random.next(20) as u64)).await;
    }
    let n = 1 + random.next(2000);
    match way {
        "farewell" => {
            say(socket, b"BYE \x1b[2J\x07 so long\n\xff", None);
        }
        "descriptors" => {
            let file = second_of_null();
            for _ in 0..50 {
                say(socket, &random.bytes(3), Some(&file));
            }
        }
        "flood" => {
            for _ in 0..12_000 {
                if !say(socket, &random.bytes(4096), None) {
                    break;
                }
            }
        }
        _ => {
            say(socket, &random.bytes(n), None);
        }
    }
}

fn second_of_null() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

pub(crate) fn babbling_client() {
    bounded(async {
        let (path, _dir, listener) = listen();
        let connections = Connections::default();
        let echo = Arc::new(Echo::default());
        let (a, b) = UnixStream::pair().unwrap();
        tokio::spawn(serve::<EngineProtocol, _>(b, Ident::new("s", "1"), Arc::clone(&echo)));
        let neighbour = Client::<EngineProtocol>::over(a, Ident::new("c", "1")).await.unwrap();
        let (mut fds, mut rss) = (0, 0);
        for seed in 0..ROUNDS {
            let way = WAYS[seed % WAYS.len()];
            let child = Child::start("babble", &path, &[(SEED, &seed.to_string())]);
            let (stream, _) = tokio::time::timeout(Duration::from_mins(1), listener.accept())
                .await
                .expect("it connects")
                .unwrap();
            let serving = connections.serve::<EngineProtocol, _>(
                stream,
                Ident::new("s", "1"),
                Options::default(),
                Arc::clone(&echo),
            );
            // The process stays, so it is this side that ends the connection.
            let outcome = tokio::time::timeout(Duration::from_mins(1), serving)
                .await
                .unwrap_or_else(|_| panic!("{way}, seed {seed}: the connection stays"));
            match (way, outcome) {
                ("no-hello", Err(error)) => {
                    assert!(error.to_string().starts_with("handshake: "), "{error}");
                }
                // Said orderly, however oddly; nothing of it reaches a terminal as it is.
                ("farewell", Ok(())) => {}
                ("after" | "calls" | "descriptors" | "flood", Err(error)) => {
                    let text = error.to_string();
                    assert!(text.contains("of garbage on the control socket"), "{way}: {text}");
                    assert!(text.chars().all(|c| !c.is_control()), "{way}: {text:?}");
                }
                (way, other) => panic!("{way}, seed {seed}: {other:?}"),
            }
            assert_eq!(neighbour.call(Request::Ping).await.unwrap(), Reply::Pong);
            drop(child);
            if seed == WAYS.len() - 1 {
                (fds, rss) = (open_fds(), rss_kib());
            }
        }
        assert!(connections.is_empty());
        // None of the descriptors that came along is kept.
        until("descriptors are back", || open_fds() <= fds).await;
        let grown = rss_kib().saturating_sub(rss);
        assert!(grown < 4096, "RSS grew by {grown} KiB");
    });
}

/// The same from the other side: a server that babbles loses its client.
pub(crate) fn babbling_server() {
    bounded(async {
        let (path, _dir, listener) = listen();
        drop(listener);
        for (seed, way) in WAYS.iter().enumerate().skip(1) {
            std::fs::remove_file(&path).unwrap();
            let _child = Child::start("babble-serve", &path, &[(SEED, &seed.to_string())]);
            let client = connect(&path).await;
            let calls = async {
                loop {
                    if let Err(error) = client.call(Request::Ping).await {
                        return error;
                    }
                }
            };
            let error = tokio::time::timeout(Duration::from_mins(1), calls)
                .await
                .unwrap_or_else(|_| panic!("{way}: the connection stays"));
            let CallError::Disconnected(how) = error else { panic!("{way}: {error}") };
            let expected = match *way {
                "farewell" => "closed by the other side: ",
                _ => "of garbage on the control socket",
            };
            assert!(how.contains(expected), "{way}: {how}");
            assert!(how.chars().all(|c| !c.is_control()), "{way}: {how:?}");
            assert!(client.is_closed());
        }
        // An honest server afterwards is as good as ever.
        std::fs::remove_file(&path).unwrap();
        let serving = tokio::spawn({
            let path = path.clone();
            async move { serve_all(&path).await }
        });
        let client = connect(&path).await;
        assert_eq!(client.call(Request::Ping).await.unwrap(), Reply::Pong);
        serving.abort();
    });
}
