//! The mechanisms: how a payload goes there and back, on both sides.

use std::io::{BufReader, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use lapce_ai_ipc::raw::{Buf, Raw, Wait};

use super::floors::{Copies, Line, Lines, SHORT, memfd};
use super::machine::{Peer, Place};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Mechanism {
    /// Two words on two cache lines, both sides spinning: the floor for spinning.
    CacheLine,
    /// As that, with 64 bytes beside each word that are written and read: the floor for a
    /// short message.
    ShortCopy,
    /// Two eventfds, no data: the floor for sleeping.
    EventFd,
    /// No other process: the copies that a message needs, in one thread.
    Memcpy,
    /// The same copies between two processes, piece by piece through a buffer each way,
    /// both sides spinning on a word: the floor for large messages.
    SharedCopy,
    /// As that, the pieces stored past the writer's cache: the faster of the two where the
    /// cores share no cache.
    SharedStream,
    RingSpin,
    RingPark,
    RingAdaptive,
    UnixSocket,
    /// Content-Length framed JSON over pipes, the payload as a string.
    JsonRpc,
    #[cfg(feature = "iceoryx2")]
    Iceoryx2,
}

impl Mechanism {
    pub fn name(self) -> String {
        self.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
    }

    pub fn takes(self, size: usize) -> bool {
        match self {
            Self::CacheLine | Self::ShortCopy | Self::EventFd => size == 64,
            Self::Memcpy | Self::SharedCopy | Self::SharedStream => size > 64,
            _ => true,
        }
    }

    /// Of `n` samples at 64 bytes, how many this mechanism gets at `size`.
    pub fn share(self, n: usize, size: usize) -> usize {
        let slow = match self {
            Self::EventFd | Self::RingPark | Self::UnixSocket | Self::JsonRpc => 10,
            _ => 1,
        };
        let large = 1 + size / (4 << 10);
        let json = if self == Self::JsonRpc { 1 + size / (64 << 10) } else { 1 };
        (n / slow / large / json).max(5)
    }

    /// Whether its message rate is measured.
    pub fn streams(self) -> bool {
        !matches!(
            self,
            Self::CacheLine
                | Self::ShortCopy
                | Self::EventFd
                | Self::Memcpy
                | Self::SharedCopy
                | Self::SharedStream
                | Self::RingPark
        )
    }

    fn wait(self) -> Wait {
        match self {
            Self::RingSpin => Wait::Spin,
            Self::RingPark => Wait::Park,
            _ => Wait::Adaptive,
        }
    }
}

/// Every byte is written …
pub fn fill(bytes: &mut [u8], seed: usize) {
    // A letter, so that the JSON baseline has nothing to escape.
    bytes.fill(b'a' + (seed % 26) as u8);
}

/// … and every byte is read.
pub fn sum(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<128>();
    let (words, rest) = rest.as_chunks::<8>();
    let words = words.iter().fold(0, |sum, word| sum ^ u64::from_le_bytes(*word));
    let rest = rest.iter().fold(words, |s, &b| s.wrapping_add(b.into()));
    if blocks.is_empty() { rest } else { rest.wrapping_add(sum_blocks(blocks)) }
}

fn sum_blocks(blocks: &[[u8; 128]]) -> u64 {
    let mut total = [0u64; 16];
    for block in blocks {
        for (t, word) in total.iter_mut().zip(block.as_chunks::<8>().0) {
            *t ^= u64::from_le_bytes(*word);
        }
    }
    total.iter().fold(0, |a, &b| a.wrapping_add(b))
}

/// Our end of a mechanism.
pub struct Link {
    ends: Ends,
    payload: Vec<u8>,
    back: Buf,
    size: usize,
    _peer: Option<Peer>,
}

enum Ends {
    Line(Line),
    Lines(Lines, u64, [u8; SHORT]),
    Events(OwnedFd, OwnedFd),
    Copy(Vec<u8>),
    Shared(Copies),
    Ring(Box<Raw>, Wait),
    Socket(UnixStream),
    Json {
        to: std::process::ChildStdin,
        from: BufReader<std::process::ChildStdout>,
    },
    #[cfg(feature = "iceoryx2")]
    Iceoryx(Box<super::iceoryx::Client>),
}

impl Link {
    pub fn start(mechanism: Mechanism, place: Place, size: usize, messages: usize) -> Result<Self> {
        let counts = (size, messages);
        let name = mechanism.name();
        let (ends, peer) = match mechanism {
            Mechanism::CacheLine => {
                let memory = memfd(4096)?;
                let peer = Peer::start(&name, place, counts, &[memory.as_raw_fd()], false)?;
                (Ends::Line(Line::map(&memory)?), Some(peer))
            }
            Mechanism::ShortCopy => {
                let memory = memfd(4096)?;
                let peer = Peer::start(&name, place, counts, &[memory.as_raw_fd()], false)?;
                (Ends::Lines(Lines::map(&memory)?, 0, [0; SHORT]), Some(peer))
            }
            Mechanism::EventFd => {
                let (a, b) = (eventfd()?, eventfd()?);
                let fds = [a.as_raw_fd(), b.as_raw_fd()];
                let peer = Peer::start(&name, place, counts, &fds, false)?;
                (Ends::Events(a, b), Some(peer))
            }
            Mechanism::Memcpy => (Ends::Copy(vec![0; size]), None),
            Mechanism::SharedCopy | Mechanism::SharedStream => {
                let stream = mechanism == Mechanism::SharedStream;
                let memory = memfd(Copies::memory(size))?;
                let peer = Peer::start(&name, place, counts, &[memory.as_raw_fd()], false)?;
                (Ends::Shared(Copies::map(&memory, size, false, stream)?), Some(peer))
            }
            Mechanism::RingSpin | Mechanism::RingPark | Mechanism::RingAdaptive => {
                let (ours, theirs) = pair()?;
                let peer = Peer::start(&name, place, counts, &[theirs.as_raw_fd()], false)?;
                drop(theirs);
                (Ends::Ring(Box::new(ring(ours, true)?), mechanism.wait()), Some(peer))
            }
            Mechanism::UnixSocket => {
                let (ours, theirs) = pair()?;
                let peer = Peer::start(&name, place, counts, &[theirs.as_raw_fd()], false)?;
                (Ends::Socket(ours), Some(peer))
            }
            Mechanism::JsonRpc => {
                let mut peer = Peer::start(&name, place, counts, &[], true)?;
                let to = peer.0.stdin.take().context("no pipe")?;
                let from = BufReader::new(peer.0.stdout.take().context("no pipe")?);
                (Ends::Json { to, from }, Some(peer))
            }
            #[cfg(feature = "iceoryx2")]
            Mechanism::Iceoryx2 => {
                let (client, peer) = super::iceoryx::Client::start(place, counts)?;
                (Ends::Iceoryx(Box::new(client)), Some(peer))
            }
        };
        Ok(Self { ends, payload: vec![0; size], back: Buf::new(), size, _peer: peer })
    }

    /// There and back; the sum of what came back.
    pub fn round_trip(&mut self, seed: usize) -> Result<u64> {
        let Self { ends, payload, back, size, .. } = self;
        if !matches!(ends, Ends::Line(_) | Ends::Events(..)) {
            fill(payload, seed);
        }
        Ok(match ends {
            Ends::Line(line) => line.ping(seed as u64 + 1),
            Ends::Lines(lines, turn, back) => {
                let payload = payload.first_chunk().context("64 bytes")?;
                lines.send(0, *turn + 1, payload);
                *turn = lines.receive(1, *turn, back);
                // As long as any, as elsewhere.
                sum(std::hint::black_box(&back[..]))
            }
            Ends::Events(a, b) => {
                signal(a)?;
                await_signal(b)?;
                0
            }
            Ends::Copy(middle) => {
                // In and out of the "ring", there and back, summed at each end.
                let mut total = 0;
                back.resize(*size, 0);
                for _ in 0..2 {
                    middle.copy_from_slice(std::hint::black_box(payload));
                    back.copy_from_slice(std::hint::black_box(middle));
                    total += sum(std::hint::black_box(back));
                }
                // The peer fills its answer too.
                fill(payload, seed + 1);
                total
            }
            Ends::Shared(copies) => {
                copies.send(payload);
                back.resize(*size, 0);
                copies.receive(back);
                sum(back)
            }
            Ends::Ring(ring, wait) => {
                ring.send(payload, *wait);
                ring.receive(back, *wait);
                sum(back)
            }
            Ends::Socket(socket) => {
                socket.write_all(payload)?;
                back.resize(*size, 0);
                socket.read_exact(back)?;
                sum(back)
            }
            Ends::Json { to, from } => {
                to.write_all(&frame(seed, std::str::from_utf8(payload)?))?;
                sum(read_frame(from)?.context("the peer ended")?.params.as_bytes())
            }
            #[cfg(feature = "iceoryx2")]
            Ends::Iceoryx(client) => client.round_trip(payload)?,
        })
    }
}

/// Messages per microsecond (millions per second), one way, acknowledged at the end.
pub fn rate(mechanism: Mechanism, place: Place, n: usize) -> Result<f64> {
    let mut link = Link::start(mechanism, place, 64, n)?;
    let mut message = [0; 64];
    let started = Instant::now();
    match &mut link.ends {
        Ends::Ring(ring, wait) => {
            for i in 0..n {
                fill(&mut message, i);
                ring.send(&message, *wait);
            }
            ring.receive(&mut link.back, *wait);
        }
        Ends::Socket(socket) => {
            for i in 0..n {
                fill(&mut message, i);
                socket.write_all(&message)?;
            }
            socket.read_exact(&mut message)?;
        }
        Ends::Json { to, from } => {
            for i in 0..n {
                fill(&mut message, i);
                to.write_all(&frame(i, std::str::from_utf8(&message)?))?;
            }
            read_frame(from)?;
        }
        #[cfg(feature = "iceoryx2")]
        Ends::Iceoryx(client) => {
            for i in 0..n {
                fill(&mut message, i);
                client.push(&message)?;
            }
            client.answer()?;
        }
        _ => bail!("no rate of this mechanism"),
    }
    Ok(n as f64 / started.elapsed().as_secs_f64() / 1e6)
}

/// The peer: sums what comes, fills and sends as much back; only for number `messages`,
/// if that is given.
pub fn serve(mechanism: Mechanism, fds: &[RawFd], size: usize, messages: usize) -> Result<()> {
    // SAFETY: the parent passed these on for us alone.
    let fd = |i: usize| unsafe { OwnedFd::from_raw_fd(fds[i]) };
    let mut total = 0u64;
    match mechanism {
        Mechanism::CacheLine => Line::map(&fd(0))?.pong(),
        Mechanism::ShortCopy => {
            let lines = Lines::map(&fd(0))?;
            let (mut turn, mut buf) = (0, [0; SHORT]);
            loop {
                turn = lines.receive(0, turn, &mut buf);
                let bytes = std::hint::black_box(&mut buf[..]);
                total = std::hint::black_box(total.wrapping_add(sum(bytes)));
                fill(bytes, turn as usize);
                lines.send(1, turn, &buf);
            }
        }
        Mechanism::EventFd => {
            let (a, b) = (fd(0), fd(1));
            loop {
                await_signal(&a)?;
                signal(&b)?;
            }
        }
        Mechanism::Memcpy => bail!("has no peer"),
        Mechanism::SharedCopy | Mechanism::SharedStream => {
            let stream = mechanism == Mechanism::SharedStream;
            let mut copies = Copies::map(&fd(0), size, true, stream)?;
            let mut buf = vec![0; size];
            loop {
                copies.receive(&mut buf);
                total = std::hint::black_box(total.wrapping_add(sum(&buf)));
                fill(&mut buf, total as usize);
                copies.send(&buf);
            }
        }
        Mechanism::RingSpin | Mechanism::RingPark | Mechanism::RingAdaptive => {
            let wait = mechanism.wait();
            let mut ring = ring(UnixStream::from(fd(0)), false)?;
            let (mut buf, mut seen) = (Buf::new(), 0);
            loop {
                ring.receive(&mut buf, wait);
                total = std::hint::black_box(total.wrapping_add(sum(&buf)));
                seen += 1;
                if answers(messages, seen) {
                    fill(&mut buf, seen);
                    ring.send(&buf, wait);
                }
            }
        }
        Mechanism::UnixSocket => {
            let mut socket = UnixStream::from(fd(0));
            let mut buf = vec![0; size];
            let mut seen = 0;
            while socket.read_exact(&mut buf).is_ok() {
                total = std::hint::black_box(total.wrapping_add(sum(&buf)));
                seen += 1;
                if answers(messages, seen) {
                    fill(&mut buf, seen);
                    socket.write_all(&buf)?;
                }
            }
            Ok(())
        }
        Mechanism::JsonRpc => {
            let mut from = BufReader::new(std::io::stdin().lock());
            let mut to = std::io::stdout().lock();
            let mut seen = 0;
            while let Some(message) = read_frame(&mut from)? {
                let mut text = message.params.into_bytes();
                total = std::hint::black_box(total.wrapping_add(sum(&text)));
                seen += 1;
                if answers(messages, seen) {
                    fill(&mut text, seen);
                    to.write_all(&frame(seen, std::str::from_utf8(&text)?))?;
                    to.flush()?;
                }
            }
            Ok(())
        }
        #[cfg(feature = "iceoryx2")]
        Mechanism::Iceoryx2 => super::iceoryx::serve(messages),
    }
}

pub fn answers(messages: usize, seen: usize) -> bool {
    messages == 0 || seen == messages
}

fn ring(socket: UnixStream, client: bool) -> Result<Raw> {
    socket.set_nonblocking(true)?;
    let runtime = crate::home::runtime()?;
    let raw = runtime.block_on(async {
        Raw::open(tokio::net::UnixStream::from_std(socket)?, client).await.context("handshake")
    })?;
    // The socket in `raw` belongs to the runtime; nothing of it is used any more.
    std::mem::forget(runtime);
    Ok(raw)
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Message {
    jsonrpc: String,
    id: usize,
    method: String,
    params: String,
}

fn frame(id: usize, params: &str) -> Vec<u8> {
    let message =
        Message { jsonrpc: "2.0".into(), id, method: "echo".into(), params: params.to_owned() };
    let body = serde_json::to_vec(&message).expect("plain data");
    let mut frame = format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    frame.extend_from_slice(&body);
    frame
}

fn read_frame(from: &mut impl std::io::BufRead) -> Result<Option<Message>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let len: usize = line.trim().rsplit(' ').next().unwrap_or_default().parse()?;
    from.read_line(&mut line)?;
    let mut body = vec![0; len];
    from.read_exact(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}

fn eventfd() -> Result<OwnedFd> {
    // SAFETY: plain system call, result checked; inherited on purpose.
    let fd = unsafe { libc::eventfd(0, 0) };
    if fd < 0 {
        bail!("failed to make an eventfd: {}", std::io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A socket pair whose second end a child inherits.
pub fn pair() -> Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    // SAFETY: plain system call on a descriptor of ours.
    let fd = unsafe { libc::dup(theirs.into_raw_fd()) };
    if fd < 0 {
        bail!("failed to copy a descriptor: {}", std::io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok((ours, unsafe { OwnedFd::from_raw_fd(fd) }))
}

fn signal(fd: &OwnedFd) -> Result<()> {
    let one = 1u64.to_ne_bytes();
    // SAFETY: eight readable bytes.
    let done = unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), 8) };
    if done == 8 { Ok(()) } else { bail!("eventfd: {}", std::io::Error::last_os_error()) }
}

fn await_signal(fd: &OwnedFd) -> Result<()> {
    let mut count = [0u8; 8];
    // SAFETY: eight writable bytes.
    let done = unsafe { libc::read(fd.as_raw_fd(), count.as_mut_ptr().cast(), 8) };
    if done == 8 { Ok(()) } else { bail!("eventfd: {}", std::io::Error::last_os_error()) }
}
