//! Programs of other versions, other builds, other users, and no program of ours at all:
//! each side says what is wrong, and nothing else happens.
//!
//! The hello is written here by hand: its layout is frozen, and this is the proof.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::Duration;

use lapce_ai_ipc::wire::WireError;
use lapce_ai_ipc::wire::engine::{Reply, Request};
use lapce_ai_ipc::{
    Client, ConnectError, Cx, EngineProtocol, Handler, Ident, IndexProtocol, Protocol as _,
    ServeError, error::Refusal, serve,
};
use tokio::net::UnixStream;

struct Pong;

impl Handler<EngineProtocol> for Pong {
    async fn handle(&self, _: Request, _: Cx<EngineProtocol>) -> Result<Reply, WireError> {
        Ok(Reply::Pong)
    }
}

const CONTROL: u32 = 256 << 10;
const BULK: u32 = 1 << 20;

struct RawHello {
    versions: (u16, u16),
    role: u8,
    schema: u64,
    rings: (u32, u32),
    protocol: &'static str,
}

impl Default for RawHello {
    fn default() -> Self {
        Self {
            versions: (3, 3),
            role: 1,
            schema: EngineProtocol::SCHEMA,
            rings: (CONTROL, BULK),
            protocol: "engine",
        }
    }
}

impl RawHello {
    fn bytes(&self) -> Vec<u8> {
        let mut body = vec![];
        body.extend(self.versions.0.to_le_bytes());
        body.extend(self.versions.1.to_le_bytes());
        body.extend([self.role, 0, 0, 0]);
        body.extend(self.schema.to_le_bytes());
        body.extend(0u64.to_le_bytes());
        body.extend(self.rings.0.to_le_bytes());
        body.extend(self.rings.1.to_le_bytes());
        body.extend([7; 16]);
        for text in [self.protocol, "lapce-ai-old", "0.0.7", "", ""] {
            body.extend((text.len() as u16).to_le_bytes());
            body.extend(text.as_bytes());
        }
        let mut all = b"LAPCERNG".to_vec();
        all.extend((body.len() as u32).to_le_bytes());
        all.extend(body);
        all
    }
}

fn memfd(len: usize, seals: i32) -> OwnedFd {
    // SAFETY: plain system calls with checked results.
    unsafe {
        let fd = libc::memfd_create(c"stranger".as_ptr(), libc::MFD_ALLOW_SEALING);
        assert!(fd >= 0);
        assert_eq!(libc::ftruncate(fd, len as i64), 0);
        assert_eq!(libc::fcntl(fd, libc::F_ADD_SEALS, seals), 0);
        OwnedFd::from_raw_fd(fd)
    }
}

fn eventfd(flags: i32) -> OwnedFd {
    // SAFETY: plain system call with a checked result.
    unsafe {
        let fd = libc::eventfd(0, flags);
        assert!(fd >= 0);
        OwnedFd::from_raw_fd(fd)
    }
}

const SEALS: i32 =
    libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_FUTURE_WRITE | libc::F_SEAL_SEAL;
/// Of the words, which their reader may map for writing.
const RESIZE: i32 = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
const WORDS: usize = 4096;
const RINGS: usize = CONTROL as usize + BULK as usize;

fn send(socket: &StdStream, bytes: &[u8], fds: &[OwnedFd]) {
    let raw: Vec<i32> = fds.iter().map(std::os::fd::AsRawFd::as_raw_fd).collect();
    let mut control = [0u64; 16];
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all pointers refer to live buffers of the stated sizes.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if !raw.is_empty() {
            let payload = (raw.len() * 4) as u32;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(payload) as usize;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(payload) as usize;
            std::ptr::copy_nonoverlapping(
                raw.as_ptr().cast::<u8>(),
                libc::CMSG_DATA(header),
                payload as usize,
            );
        }
        assert_eq!(libc::sendmsg(socket.as_raw_fd(), &raw const message, 0), bytes.len() as isize);
    }
}

fn blocking_pair() -> (StdStream, UnixStream) {
    let (ours, theirs) = StdStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (ours, UnixStream::from_std(theirs).unwrap())
}

fn server(stream: UnixStream) -> tokio::task::JoinHandle<Result<(), ServeError>> {
    tokio::spawn(serve::<EngineProtocol, _>(stream, Ident::new("engine", "9.9"), Arc::new(Pong)))
}

/// What a server answers to `hello`, as text, and how it ended.
async fn answer(hello: RawHello, fds: Vec<OwnedFd>) -> (String, ServeError) {
    let (raw, stream) = blocking_pair();
    let serving = server(stream);
    let said = tokio::task::spawn_blocking(move || {
        send(&raw, &hello.bytes(), &fds);
        let mut said = vec![];
        (&raw).read_to_end(&mut said).unwrap();
        String::from_utf8_lossy(&said).into_owned()
    })
    .await
    .unwrap();
    (said, serving.await.unwrap().unwrap_err())
}

fn good_fds() -> Vec<OwnedFd> {
    vec![memfd(WORDS, RESIZE), memfd(RINGS, SEALS), eventfd(libc::EFD_NONBLOCK)]
}

#[tokio::test]
async fn the_hand_written_hello_is_right() {
    let (raw, stream) = blocking_pair();
    let serving = server(stream);
    let said = tokio::task::spawn_blocking(move || {
        send(&raw, &RawHello::default().bytes(), &good_fds());
        let mut said = [0; 64];
        let n = (&raw).read(&mut said).unwrap();
        said[..n].to_vec()
    })
    .await
    .unwrap();
    assert!(said.starts_with(b"LAPCERNG"));
    assert_eq!(said[16], 2, "not accepted");
    // We hung up: for the server that is a peer that left.
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn another_version_another_build_another_protocol_each_learn_why() {
    for (hello, words) in [
        (RawHello { versions: (7, 9), ..RawHello::default() }, "speaks ring protocol 7..=9"),
        (RawHello { versions: (0, 0), ..RawHello::default() }, "speaks ring protocol 0..=0"),
        (RawHello { schema: 5, ..RawHello::default() }, "are of different builds"),
        (RawHello { protocol: "index", ..RawHello::default() }, "wants to speak \"index\""),
    ] {
        let (said, error) = answer(hello, good_fds()).await;
        for expected in [words, "lapce-ai-old 0.0.7", "engine 9.9"] {
            assert!(said.contains(expected), "{expected:?} not in {said:?}");
        }
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn memory_that_is_not_as_agreed_is_refused() {
    let event = || eventfd(libc::EFD_NONBLOCK);
    // SAFETY: plain system call with a checked result.
    let blocking_pipe = || unsafe {
        let mut ends = [0; 2];
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
        drop(OwnedFd::from_raw_fd(ends[0]));
        OwnedFd::from_raw_fd(ends[1])
    };
    let (words, rings) = (|| memfd(WORDS, RESIZE), || memfd(RINGS, SEALS));
    let file = || OwnedFd::from(tempfile::tempfile().unwrap());
    for (fds, words) in [
        (vec![words(), memfd(RINGS, 0), event()], "seals 0x0"),
        (vec![words(), memfd(RINGS, RESIZE), event()], "seals 0x7"),
        (vec![memfd(WORDS, 0), rings(), event()], "seals 0x0"),
        (vec![memfd(WORDS, libc::F_SEAL_GROW), rings(), event()], "seals 0x4"),
        (vec![words(), memfd(RINGS - 4096, SEALS), event()], "bytes of memory where"),
        (vec![words(), memfd(0, SEALS), event()], "0 bytes of memory where"),
        (vec![memfd(0, RESIZE), rings(), event()], "0 bytes of memory where"),
        (vec![rings(), words(), event()], "bytes of memory where"),
        // Nobody could map these for writing.
        (vec![memfd(WORDS, SEALS), rings(), event()], "not permitted"),
        (vec![words(), file(), event()], "not a memory file"),
        (vec![file(), rings(), event()], "not a memory file"),
        (vec![words(), rings(), blocking_pipe()], "instead of an eventfd"),
        (vec![words(), rings(), eventfd(0)], "a blocking eventfd"),
        (vec![words(), rings()], "2 descriptors instead of 3"),
        (vec![], "0 descriptors instead of 3"),
        (vec![words(), rings(), event(), event()], "4 descriptors instead of 3"),
    ] {
        let (said, error) = answer(RawHello::default(), fds).await;
        assert!(said.contains(words), "{words:?} not in {said:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
    for rings in [(0, BULK), (CONTROL, 3 << 20), (1 << 31, BULK)] {
        let (said, _) = answer(RawHello { rings, ..RawHello::default() }, good_fds()).await;
        assert!(said.contains("ring sizes"), "{said:?}");
    }
}

#[tokio::test]
async fn garbage_on_the_socket_closes_it_with_a_reason() {
    for (garbage, words) in [
        (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], "not a lapce-ai program"),
        (&b"LAPCERNG\xff\xff\xff\xffxxxxxxxx"[..], "a hello of 4294967295 bytes"),
        (&b"LAPCERNG\x40\x00\x00\x00"[..], "hung up during the hello"),
        (&b""[..], "hung up during the hello"),
    ] {
        let (mut raw, stream) = blocking_pair();
        let serving = server(stream);
        raw.write_all(garbage).unwrap();
        raw.shutdown(std::net::Shutdown::Write).unwrap();
        let error = serving.await.unwrap().unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn garbage_after_the_hello_is_a_violation_and_the_peer_is_told() {
    let (raw, stream) = blocking_pair();
    let serving = server(stream);
    let said = tokio::task::spawn_blocking(move || {
        send(&raw, &RawHello::default().bytes(), &good_fds());
        (&raw).write_all(b"\x00\x01garbage").unwrap();
        let mut said = vec![];
        (&raw).read_to_end(&mut said).unwrap();
        String::from_utf8_lossy(&said).into_owned()
    })
    .await
    .unwrap();
    let error = serving.await.unwrap().unwrap_err();
    assert!(matches!(error, ServeError::Violation(_)));
    assert!(error.to_string().contains("9 bytes of garbage"), "{error}");
    assert!(said.contains("BYE 9 bytes of garbage"), "{said:?}");
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_given_up() {
    let (_raw, stream) = blocking_pair();
    let error = server(stream).await.unwrap().unwrap_err();
    assert!(matches!(error, ServeError::Handshake(ConnectError::Timeout(_))), "{error}");
}

#[tokio::test]
async fn a_server_of_another_version_is_named_by_the_client() {
    for (hello, reason, words) in [
        (RawHello { versions: (4, 5), role: 2, ..RawHello::default() }, Refusal::Version, "4..=5"),
        (RawHello { schema: 1, role: 2, ..RawHello::default() }, Refusal::Schema, "builds"),
    ] {
        let (raw, stream) = blocking_pair();
        let server = std::thread::spawn(move || {
            let mut hello_of_client = [0; 512];
            let _ = (&raw).read(&mut hello_of_client).unwrap();
            send(&raw, &hello.bytes(), &good_fds());
            raw
        });
        let result = Client::<EngineProtocol>::over(stream, Ident::new("cli", "1")).await;
        let Err(ConnectError::Refused { peer, message, reason: got }) = result else { panic!() };
        assert_eq!((peer.as_str(), got), ("lapce-ai-old 0.0.7", reason));
        assert!(message.contains(words) && message.contains("lapce-ai stop"), "{message}");
        drop(server.join().unwrap());
    }
}

#[tokio::test]
async fn a_client_of_the_wrong_protocol_is_refused_by_name() {
    let (a, b) = UnixStream::pair().unwrap();
    let _server = server(b);
    let error = Client::<IndexProtocol>::over(a, Ident::new("cli", "1")).await.unwrap_err();
    assert!(error.to_string().contains("wants to speak \"index\""), "{error}");
}

#[tokio::test]
#[ignore = "becoming another user takes root; `cargo xtask test users` runs it"]
async fn another_user_is_refused() {
    assert_eq!(lapce_ai_ipc::paths::current_uid(), 0, "becoming another user takes root");
    let dir = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let path = dir.path().join("sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let stranger = std::thread::spawn(move || {
        // SAFETY: the raw call changes this thread alone; it does nothing but connect.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
        let socket = StdStream::connect(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut said = vec![];
        (&socket).read_to_end(&mut said).unwrap();
        String::from_utf8_lossy(&said).into_owned()
    });
    let (stream, _) = listener.accept().await.unwrap();
    let error = server(stream).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("user 65534"), "{error}");
    let said = stranger.join().unwrap();
    assert!(said.contains("only the same user may connect"), "{said:?}");
}
