//! The Linux backend: sealed memory files.
//!
//! A side has two. Neither can shrink or grow, and the seals stay. That of the rings nobody can
//! map for writing again: the peer maps it for reading and could not write if it wanted
//! to. That of the words can be: a core takes a line over from another one half as fast
//! again where it may write to it, and those words are all that a short message costs
//! (`docs/ring.md`). Their owner never reads them, and no type of ours writes to a peer's.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

use crate::ring::HEADER;
use crate::ring::region::Region;

const WORDS: i32 = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
const RINGS: i32 = WORDS | libc::F_SEAL_FUTURE_WRITE;

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

/// Creates a region of `len` bytes whose first page is the words, and the two files.
pub fn create(len: usize) -> io::Result<(Region, [OwnedFd; 2])> {
    let words = file(c"lapce-ai-words", HEADER)?;
    let rings = file(c"lapce-ai-ring", len - HEADER)?;
    let write = libc::PROT_READ | libc::PROT_WRITE;
    let region = map(&words, &rings, len, write)?;
    for (fd, seals) in [(&words, WORDS), (&rings, RINGS)] {
        // SAFETY: plain system call on our descriptor.
        if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok((region, [words, rings]))
}

fn file(name: &CStr, len: usize) -> io::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: a C string and flags; the result is checked.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: plain system call on our descriptor.
    if unsafe { libc::ftruncate(fd.as_raw_fd(), len as libc::off_t) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(fd)
}

/// Maps what a peer sent, its rings for reading, after checking that both files are as
/// [`create`] makes them.
pub fn open([words, rings]: &[OwnedFd; 2], len: usize) -> io::Result<Region> {
    check(words, HEADER, WORDS)?;
    check(rings, len - HEADER, RINGS)?;
    map(words, rings, len, libc::PROT_READ)
}

fn check(fd: &OwnedFd, len: usize, needed: i32) -> io::Result<()> {
    let bad = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
    // SAFETY: plain system call; fails on anything that is not a memory file.
    let seals = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
    if seals < 0 {
        return Err(bad("not a memory file".into()));
    }
    if seals & needed != needed {
        return Err(bad(format!("seals {seals:#x} where {needed:#x} are needed")));
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
    Ok(())
}

/// Both files one behind the other: the words for writing, the rings as `protection` says.
fn map(words: &OwnedFd, rings: &OwnedFd, len: usize, protection: i32) -> io::Result<Region> {
    // SAFETY: reserves an address range that the kernel picks; the result is checked.
    let base = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        libc::mmap(std::ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0)
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let base = NonNull::new(base.cast::<u8>()).ok_or_else(|| io::Error::other("mapped at null"))?;
    // From here on whatever fails unmaps it.
    let mapping = Mapping { base, len };
    let write = libc::PROT_READ | libc::PROT_WRITE;
    for (fd, at, len, protection) in
        [(words, 0, HEADER, write), (rings, HEADER, len - HEADER, protection)]
    {
        // SAFETY: replaces a part of the range reserved above, to which nothing refers yet.
        let part = unsafe {
            let to = base.as_ptr().add(at).cast();
            libc::mmap(to, len, protection, libc::MAP_SHARED | libc::MAP_FIXED, fd.as_raw_fd(), 0)
        };
        if part == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: mapped until `Mapping` drops, and mmap aligns to pages.
    Ok(unsafe { Region::new(base, len, Box::new(mapping)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_shrinks_our_memory_or_writes_to_our_rings() {
        let len = 3 * HEADER;
        let (_region, files) = create(len).unwrap();
        open(&files, len).unwrap();
        let refused = || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM);
        for (i, fd) in files.iter().enumerate() {
            let fd = fd.as_raw_fd();
            for size in [0, HEADER as i64 / 2, 1 << 20] {
                // SAFETY: plain system call on our descriptor.
                assert!(unsafe { libc::ftruncate(fd, size) } == -1 && refused(), "{i}: {size}");
            }
            // SAFETY: plain system call on our descriptor.
            let more = unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, libc::F_SEAL_WRITE) };
            assert!(more == -1 && refused(), "{i}: the seals are not sealed");
        }
        assert!(map(&files[0], &files[1], len, libc::PROT_READ | libc::PROT_WRITE).is_err());
        // SAFETY: one readable byte.
        let written = unsafe { libc::pwrite(files[1].as_raw_fd(), [1].as_ptr().cast(), 1, 0) };
        assert!(written == -1 && refused(), "the rings can be written to");
    }
}
