//! Floors: two cache lines that go there and back, 64 bytes that do, and plain copies into
//! shared memory and out of it, with a flag. No ring, no headers, no checks.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, bail};

const PAGE: usize = 4096;

/// Two words, each on a line of its own.
pub struct Line(NonNull<u8>);

impl Line {
    pub fn map(fd: &OwnedFd) -> Result<Self> {
        map(fd, PAGE).map(Self)
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: inside the page, aligned, mapped until the process ends.
        unsafe { AtomicU64::from_ptr(self.0.as_ptr().add(at * 128).cast()) }
    }

    pub fn ping(&self, value: u64) -> u64 {
        self.word(0).store(value, Ordering::Release);
        while self.word(1).load(Ordering::Acquire) != value {
            std::hint::spin_loop();
        }
        value
    }

    pub fn pong(&self) -> ! {
        let mut last = 0;
        loop {
            let value = self.word(0).load(Ordering::Acquire);
            if value == last {
                std::hint::spin_loop();
            } else {
                last = value;
                self.word(1).store(value, Ordering::Release);
            }
        }
    }
}

/// Bytes of the payload of [`Lines`].
pub const SHORT: usize = 64;

/// A word each way with a payload right behind it: what 64 bytes cost that are written by one
/// process and read by another, when nothing says how many they are or what they mean. They
/// and the word take two lines, wherever they lie.
pub struct Lines(Line);

impl Lines {
    pub fn map(fd: &OwnedFd) -> Result<Self> {
        Line::map(fd).map(Self)
    }

    fn payload(&self, way: usize) -> *mut [u8; SHORT] {
        // SAFETY: inside the page, behind the word of that way.
        unsafe { self.0.0.as_ptr().add(way * 128 + 8).cast() }
    }

    pub fn send(&self, way: usize, value: u64, payload: &[u8; SHORT]) {
        // SAFETY: mapped until the process ends, of this length; the other side reads it after
        // the word alone, and has answered the one before.
        unsafe { self.payload(way).write_unaligned(*payload) };
        self.0.word(way).store(value, Ordering::Release);
    }

    /// Waits for a word other than `last`, which it returns.
    pub fn receive(&self, way: usize, last: u64, into: &mut [u8; SHORT]) -> u64 {
        loop {
            let value = self.0.word(way).load(Ordering::Acquire);
            if value != last {
                // SAFETY: as above.
                *into = unsafe { self.payload(way).read_unaligned() };
                return value;
            }
            std::hint::spin_loop();
        }
    }
}

/// Bytes of a message that are copied in while the piece before is copied out, and
/// pieces that a buffer holds: what was fastest of 2 to 64 KiB in 64 KiB to 4 MiB.
const PIECE: usize = 16 << 10;
const PIECES: usize = 64;

/// A buffer each way, and lines that say how much has gone in and come out. No ring, no
/// headers, no checks: what the copies of a message cost when two processes make them.
pub struct Copies {
    line: Line,
    piece: usize,
    size: usize,
    sent: usize,
    received: usize,
    server: bool,
    stream: bool,
}

impl Copies {
    /// Bytes of memory for messages of `size`.
    pub fn memory(size: usize) -> usize {
        PAGE + 2 * PIECES * size.min(PIECE)
    }

    /// With `stream` pieces go in past the writer's cache.
    pub fn map(fd: &OwnedFd, size: usize, server: bool, stream: bool) -> Result<Self> {
        let piece = size.min(PIECE);
        if !size.is_multiple_of(piece) {
            bail!("{size} bytes are no whole pieces");
        }
        let line = Line(map(fd, Self::memory(size))?);
        Ok(Self { line, piece, size, sent: 0, received: 0, server, stream })
    }

    fn buffer(&self, of_server: bool, at: usize) -> *mut u8 {
        let span = PIECES * self.piece;
        // SAFETY: inside the mapping, which is `memory(size)` long.
        unsafe { self.line.0.as_ptr().add(PAGE + usize::from(of_server) * span + at % span) }
    }

    /// What has gone in (0) or come out (2) on the way from the client or the server.
    fn count(&self, what: usize, of_server: bool) -> &AtomicU64 {
        self.line.word(what + usize::from(of_server))
    }

    pub fn send(&mut self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.size);
        for piece in bytes.chunks_exact(self.piece) {
            let end = self.sent + self.piece;
            while end - self.count(2, self.server).load(Ordering::Acquire) as usize
                > PIECES * self.piece
            {
                std::hint::spin_loop();
            }
            // SAFETY: a whole piece inside the buffer; the other side does not touch it
            // before it has seen the count below, and has said that it is done with it.
            unsafe {
                let to = self.buffer(self.server, self.sent);
                if self.stream {
                    stream(piece.as_ptr(), to, self.piece);
                } else {
                    to.copy_from_nonoverlapping(piece.as_ptr(), self.piece);
                }
            }
            self.sent = end;
            self.count(0, self.server).store(end as u64, Ordering::Release);
        }
    }

    pub fn receive(&mut self, into: &mut [u8]) {
        assert_eq!(into.len(), self.size);
        for piece in into.chunks_exact_mut(self.piece) {
            let end = self.received + self.piece;
            while (self.count(0, !self.server).load(Ordering::Acquire) as usize) < end {
                std::hint::spin_loop();
            }
            // SAFETY: as in `send`; `piece` is ours and as long.
            unsafe {
                self.buffer(!self.server, self.received)
                    .copy_to_nonoverlapping(piece.as_mut_ptr(), self.piece);
            }
            self.received = end;
            self.count(2, !self.server).store(end as u64, Ordering::Release);
        }
    }
}

/// Copies past this CPU's cache.
///
/// # Safety
/// As [`std::ptr::copy_nonoverlapping`]; `to` and `len` are multiples of 16.
unsafe fn stream(from: *const u8, to: *mut u8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_mm_loadu_si128, _mm_sfence, _mm_stream_si128};
        // SAFETY: within both by the loop's bounds, and `to` is aligned. The fence comes
        // before the count that says that the bytes are there.
        unsafe {
            for at in (0..len).step_by(16) {
                let bytes = _mm_loadu_si128(from.add(at).cast());
                _mm_stream_si128(to.add(at).cast(), bytes);
            }
            _mm_sfence();
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the caller's promise.
    unsafe {
        to.copy_from_nonoverlapping(from, len);
    }
}

fn map(fd: &OwnedFd, len: usize) -> Result<NonNull<u8>> {
    let both = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping of the whole file; result checked.
    let base =
        unsafe { libc::mmap(std::ptr::null_mut(), len, both, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
    if base == libc::MAP_FAILED {
        bail!("failed to map memory: {}", std::io::Error::last_os_error());
    }
    NonNull::new(base.cast()).context("mapped at null")
}

pub fn memfd(len: usize) -> Result<OwnedFd> {
    // SAFETY: plain system calls, results checked; the descriptor is inherited on purpose.
    unsafe {
        let fd = libc::memfd_create(c"bench".as_ptr(), 0);
        if fd < 0 || libc::ftruncate(fd, len as libc::off_t) != 0 {
            bail!("failed to make shared memory: {}", std::io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}
