//! macOS: a Seatbelt profile and resource limits. Compiled, never run.

use std::ffi::{CStr, CString, c_char, c_int};
use std::io;

use crate::policy::{Limits, Policy};
use crate::{Fence, Layers, seatbelt};

/// Names of the layers.
pub const SEATBELT: &str = "seatbelt";
pub const RLIMITS: &str = "rlimits";

#[derive(Debug, Clone, Copy)]
pub struct Seatbelt;

impl Fence for Seatbelt {
    type Policy<'p> = Policy;

    fn enter(&self, policy: &Policy, layers: &mut Layers) -> Result<(), String> {
        layers.note(RLIMITS, rlimits(&policy.limits));
        layers.note(SEATBELT, apply(&seatbelt::profile(policy)?));
        for layer in [SEATBELT, RLIMITS] {
            if let Some((_, why)) = layers.absent.iter().find(|(name, _)| name == layer) {
                return Err(format!(
                    "the call was not run, because {layer} is not available: {why}"
                ));
            }
        }
        Ok(())
    }
}

// Of libSystem; declared obsolete, and what browsers use.
unsafe extern "C" {
    fn sandbox_init(profile: *const c_char, flags: u64, error: *mut *mut c_char) -> c_int;
    fn sandbox_free_error(error: *mut c_char);
}

fn apply(profile: &str) -> io::Result<()> {
    let profile = CString::new(profile)?;
    let mut error = std::ptr::null_mut();
    // SAFETY: the profile is NUL-terminated and `error` outlives the call.
    if unsafe { sandbox_init(profile.as_ptr(), 0, &raw mut error) } == 0 {
        return Ok(());
    }
    if error.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a failed call leaves a NUL-terminated text, ours until it is given back.
    let text = unsafe {
        let text = CStr::from_ptr(error).to_string_lossy().into_owned();
        sandbox_free_error(error);
        text
    };
    Err(io::Error::other(text))
}

/// Processes are not among them: the system counts all of the user's.
fn rlimits(limits: &Limits) -> io::Result<()> {
    for (resource, value) in [
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_CPU, limits.cpu_s),
        (libc::RLIMIT_DATA, limits.memory_bytes),
        (libc::RLIMIT_FSIZE, limits.file_bytes),
        (libc::RLIMIT_NOFILE, limits.open_files),
    ] {
        let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
        // SAFETY: `limit` outlives the call.
        if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
