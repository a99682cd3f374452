//! The Linux backend: sealed memory files.
//!
//! The owner maps its file for writing and then seals it: it can neither shrink nor grow,
//! nobody can map it for writing again, and the seals stay. The peer checks just that and
//! maps it for reading; it could not write if it wanted to.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

use crate::ring::region::Region;

const SEALS: i32 =
    libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_FUTURE_WRITE | libc::F_SEAL_SEAL;

struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: owns a mapping, which any thread may unmap.
unsafe impl Send for Mapping {}
// SAFETY: has no methods but drop.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that mmap returned; nothing refers to it any more,
        // because the region that did owned this value.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Creates a region of `len` bytes that only this process can write.
pub fn create(len: usize) -> io::Result<(Region, OwnedFd)> {
    // SAFETY: a C string and flags; the result is checked.
    let fd = unsafe {
        libc::memfd_create(c"lapce-ai-ring".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: plain system call on our descriptor.
    if unsafe { libc::ftruncate(fd.as_raw_fd(), len as libc::off_t) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let region = map(&fd, len, libc::PROT_READ | libc::PROT_WRITE)?;
    // SAFETY: plain system call on our descriptor.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, SEALS) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((region, fd))
}

/// Maps what a peer sent, for reading, after checking that it is as [`create`] makes it.
pub fn open(fd: &OwnedFd, len: usize) -> io::Result<Region> {
    let bad = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
    // SAFETY: plain system call; fails on anything that is not a memory file.
    let seals = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
    if seals < 0 {
        return Err(bad("not a memory file".into()));
    }
    if seals & SEALS != SEALS {
        return Err(bad(format!("seals {seals:#x} where {SEALS:#x} are needed")));
    }
    // SAFETY: all-zero is a valid `stat`.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is writable memory of the right type.
    if unsafe { libc::fstat(fd.as_raw_fd(), &raw mut stat) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if stat.st_size != len as libc::off_t {
        return Err(bad(format!("{} bytes of memory where {len} were announced", stat.st_size)));
    }
    map(fd, len, libc::PROT_READ)
}

fn map(fd: &OwnedFd, len: usize, protection: i32) -> io::Result<Region> {
    // SAFETY: a new mapping at an address the kernel picks; the result is checked.
    let base = unsafe {
        libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0)
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let base = NonNull::new(base.cast::<u8>()).ok_or_else(|| io::Error::other("mapped at null"))?;
    // SAFETY: mapped until `Mapping` drops, and mmap aligns to pages.
    Ok(unsafe { Region::new(base, len, Box::new(Mapping { base, len })) })
}
