//! Floors: two cache lines that go there and back, and plain copies into shared memory and
//! out of it, with a flag. No ring, no headers, no checks.

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

/// A buffer each way, and a line each way that says how many messages are in it.
pub struct Copies {
    line: Line,
    size: usize,
    seq: u64,
    server: bool,
}

impl Copies {
    /// Bytes of memory for messages of `size`.
    pub fn memory(size: usize) -> usize {
        PAGE + 2 * size.next_multiple_of(PAGE)
    }

    pub fn map(fd: &OwnedFd, size: usize, server: bool) -> Result<Self> {
        let line = Line(map(fd, Self::memory(size))?);
        Ok(Self { line, size, seq: 0, server })
    }

    fn buffer(&self, of_server: bool) -> *mut u8 {
        let at = PAGE + usize::from(of_server) * self.size.next_multiple_of(PAGE);
        // SAFETY: inside the mapping, which is `memory(size)` long.
        unsafe { self.line.0.as_ptr().add(at) }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.size);
        self.seq += u64::from(!self.server);
        // SAFETY: the buffer is `size` long; the other side does not touch it before it
        // has seen the word below, nor after it has answered.
        unsafe { self.buffer(self.server).copy_from_nonoverlapping(bytes.as_ptr(), self.size) };
        self.line.word(usize::from(self.server)).store(self.seq, Ordering::Release);
    }

    pub fn receive(&mut self, into: &mut [u8]) {
        assert_eq!(into.len(), self.size);
        self.seq += u64::from(self.server);
        while self.line.word(usize::from(!self.server)).load(Ordering::Acquire) != self.seq {
            std::hint::spin_loop();
        }
        // SAFETY: as in `send`; `into` is ours and as long.
        unsafe { self.buffer(!self.server).copy_to_nonoverlapping(into.as_mut_ptr(), self.size) };
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
