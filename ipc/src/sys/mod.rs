//! Thin wrappers over what the operating system offers: memory to share, descriptors to
//! send, a way to wake the peer. Used by `handshake` and `conn` only.

pub mod eventfd;
pub mod memfd;
#[cfg(feature = "portable")]
pub mod shm;
pub mod socket;
pub mod wake;

/// The CPU this thread runs on.
pub fn cpu() -> u32 {
    // SAFETY: no preconditions; -1 on failure.
    let cpu = unsafe { libc::sched_getcpu() };
    u32::try_from(cpu).unwrap_or(u32::MAX)
}

/// Lets whoever is ready to run on this CPU run now.
pub fn offer_cpu() {
    // SAFETY: no preconditions, always succeeds.
    unsafe { libc::sched_yield() };
}

/// Random bytes from the kernel.
pub fn random(into: &mut [u8]) -> std::io::Result<()> {
    let mut done = 0;
    while done < into.len() {
        // SAFETY: pointer and length describe the unfilled part of `into`.
        let n = unsafe { libc::getrandom(into[done..].as_mut_ptr().cast(), into.len() - done, 0) };
        if n < 0 {
            let error = std::io::Error::last_os_error();
            if error.kind() != std::io::ErrorKind::Interrupted {
                return Err(error);
            }
        } else {
            done += n as usize;
        }
    }
    Ok(())
}
