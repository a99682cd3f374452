//! The portable backend: named shared memory through the `shared_memory` crate, for
//! systems without memory files (macOS, Windows). Works on Linux too, which is how it is
//! tested.
//!
//! What it cannot do: seal. The peer maps our memory writable and could shrink the object
//! under us; `docs/ring.md` says what that means. The checks of the reading side are the
//! same. Waking goes over the control socket, a byte a wake.

use std::io;
use std::ptr::NonNull;

use shared_memory::{Shmem, ShmemConf};

use crate::ring::region::Region;

struct Mapping(#[expect(dead_code, reason = "unmaps when dropped")] Shmem);

// SAFETY: owns a mapping, which any thread may unmap.
unsafe impl Send for Mapping {}
// SAFETY: has no methods but drop.
unsafe impl Sync for Mapping {}

/// The name of a region that the peer has not opened yet. Removed on drop.
#[derive(Debug)]
pub struct Name(pub String);

impl Drop for Name {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Ok(name) = std::ffi::CString::new(self.0.as_str()) {
            // SAFETY: a C string; fails harmlessly when it is gone already.
            unsafe { libc::shm_unlink(name.as_ptr()) };
        }
    }
}

pub fn create(len: usize) -> io::Result<(Region, Name)> {
    let mut memory = ShmemConf::new().size(len).create().map_err(io::Error::other)?;
    // The name is ours to remove, sooner than the mapping goes.
    memory.set_owner(false);
    let name = Name(memory.get_os_id().to_owned());
    Ok((region(memory, len)?, name))
}

pub fn open(name: &str, len: usize) -> io::Result<Region> {
    let bad = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
    let plain = name.strip_prefix('/').unwrap_or(name);
    if plain.is_empty() || !plain.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(bad(format!("{name:?} is no name of shared memory")));
    }
    let memory = ShmemConf::new().os_id(name).open().map_err(io::Error::other)?;
    if memory.len() != len {
        return Err(bad(format!("{} bytes of memory where {len} were announced", memory.len())));
    }
    region(memory, len)
}

fn region(memory: Shmem, len: usize) -> io::Result<Region> {
    let base =
        NonNull::new(memory.as_ptr()).ok_or_else(|| io::Error::other("shared memory at null"))?;
    // SAFETY: mapped, page-aligned and at least `len` long until `Mapping` drops.
    Ok(unsafe { Region::new(base, len, Box::new(Mapping(memory))) })
}
