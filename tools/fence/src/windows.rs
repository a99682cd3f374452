//! Windows: a job object around this process, and its token restricted in place. Compiled, never
//! run.
//!
//! The job holds limits and ends everything with this process. The token loses its privileges
//! for good and sinks to low integrity: what it starts writes only where a folder is labelled
//! low, as the host must label the workspace, without its protected paths. Reads and the network
//! are not fenced by either, so a policy that asks for that is refused; for now that is every
//! policy of ours.

use std::ffi::c_void;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::ptr::null;

use windows_sys::Win32::Foundation::{ERROR_NOT_ALL_ASSIGNED, GetLastError, HANDLE, LUID};
use windows_sys::Win32::Security::{
    AdjustTokenPrivileges, GetTokenInformation, LookupPrivilegeValueW, SE_CHANGE_NOTIFY_NAME,
    SE_PRIVILEGE_REMOVED, SID, SID_AND_ATTRIBUTES, SID_IDENTIFIER_AUTHORITY, SetTokenInformation,
    TOKEN_ADJUST_DEFAULT, TOKEN_ADJUST_PRIVILEGES, TOKEN_MANDATORY_LABEL, TOKEN_PRIVILEGES,
    TOKEN_QUERY, TokenIntegrityLevel, TokenPrivileges,
};
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_ACTIVE_PROCESS,
    JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION, JOB_OBJECT_LIMIT_JOB_MEMORY,
    JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE, JOB_OBJECT_LIMIT_PROCESS_TIME, JOB_OBJECT_UILIMIT_DESKTOP,
    JOB_OBJECT_UILIMIT_EXITWINDOWS, JOB_OBJECT_UILIMIT_GLOBALATOMS, JOB_OBJECT_UILIMIT_HANDLES,
    JOB_OBJECT_UILIMIT_READCLIPBOARD, JOB_OBJECT_UILIMIT_SYSTEMPARAMETERS,
    JOB_OBJECT_UILIMIT_WRITECLIPBOARD, JOBOBJECT_BASIC_UI_RESTRICTIONS,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectBasicUIRestrictions,
    JobObjectExtendedLimitInformation, SetInformationJobObject,
};
use windows_sys::Win32::System::SystemServices::SE_GROUP_INTEGRITY;
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

use crate::policy::{Limits, Network, Policy};
use crate::{Fence, Layers};

/// Names of the layers.
pub const JOB: &str = "job-object";
pub const TOKEN: &str = "restricted-token";
pub const READS: &str = "fenced-reads";
pub const NETWORK: &str = "fenced-network";

/// The integrity level that may write nothing of the user's but what is labelled for it.
const LOW: u32 = 0x1000;

#[derive(Debug, Clone, Copy)]
pub struct JobAndToken;

impl Fence for JobAndToken {
    type Policy<'p> = Policy;

    fn enter(&self, policy: &Policy, layers: &mut Layers) -> Result<(), String> {
        layers.note(JOB, job(&policy.limits));
        layers.note(TOKEN, restrict_token());
        layers.note(READS, Err(io::Error::other("files of the user's can be read")));
        if policy.network != Network::Host {
            layers.note(NETWORK, Err(io::Error::other("the network is open")));
        }
        let why: Vec<_> =
            layers.absent.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        Err(format!(
            "the call was not run, because this system offers no whole sandbox for it ({})",
            why.join("; ")
        ))
    }
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Puts this process into a job of its own. The job lives as long as the process.
fn job(limits: &Limits) -> io::Result<()> {
    // SAFETY: no attributes and no name; the handle that comes back is ours.
    let job = unsafe {
        let job = CreateJobObjectW(null(), null());
        if job.is_null() {
            return Err(io::Error::last_os_error());
        }
        OwnedHandle::from_raw_handle(job)
    };
    // SAFETY: plain data for which all zeroes is a value.
    let mut bounds: JOBOBJECT_EXTENDED_LIMIT_INFORMATION = unsafe { zeroed() };
    let basic = &mut bounds.BasicLimitInformation;
    basic.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
        | JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION
        | JOB_OBJECT_LIMIT_ACTIVE_PROCESS
        | JOB_OBJECT_LIMIT_JOB_MEMORY
        | JOB_OBJECT_LIMIT_PROCESS_TIME;
    basic.ActiveProcessLimit = limits.processes;
    // In units of 100 ns.
    basic.PerProcessUserTimeLimit =
        i64::try_from(limits.cpu_s).unwrap_or(i64::MAX).saturating_mul(10_000_000);
    bounds.JobMemoryLimit = usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX);
    set(&job, JobObjectExtendedLimitInformation, &bounds)?;
    let windows = JOBOBJECT_BASIC_UI_RESTRICTIONS {
        UIRestrictionsClass: JOB_OBJECT_UILIMIT_DESKTOP
            | JOB_OBJECT_UILIMIT_EXITWINDOWS
            | JOB_OBJECT_UILIMIT_GLOBALATOMS
            | JOB_OBJECT_UILIMIT_HANDLES
            | JOB_OBJECT_UILIMIT_READCLIPBOARD
            | JOB_OBJECT_UILIMIT_SYSTEMPARAMETERS
            | JOB_OBJECT_UILIMIT_WRITECLIPBOARD,
    };
    set(&job, JobObjectBasicUIRestrictions, &windows)?;
    // SAFETY: both handles are open.
    check(unsafe { AssignProcessToJobObject(job.as_raw_handle(), GetCurrentProcess()) })?;
    // Its last handle closes with the process, and that ends all that is left in it.
    std::mem::forget(job);
    Ok(())
}

fn set<T>(job: &OwnedHandle, class: i32, value: &T) -> io::Result<()> {
    // SAFETY: the handle is open; callers pair each class with its structure.
    check(unsafe {
        let value: *const c_void = (&raw const *value).cast();
        SetInformationJobObject(job.as_raw_handle(), class, value, size_of::<T>() as u32)
    })
}

/// Takes every privilege but that of passing through folders from this process's token, and
/// lowers its integrity.
fn restrict_token() -> io::Result<()> {
    let mut token: HANDLE = std::ptr::null_mut();
    let access = TOKEN_QUERY | TOKEN_ADJUST_PRIVILEGES | TOKEN_ADJUST_DEFAULT;
    // SAFETY: `token` outlives the call; the handle that comes back is ours.
    let token = unsafe {
        check(OpenProcessToken(GetCurrentProcess(), access, &raw mut token))?;
        OwnedHandle::from_raw_handle(token)
    };
    remove_privileges(&token)?;
    let sid = SID {
        Revision: 1,
        SubAuthorityCount: 1,
        IdentifierAuthority: SID_IDENTIFIER_AUTHORITY { Value: [0, 0, 0, 0, 0, 16] },
        SubAuthority: [LOW],
    };
    let label = TOKEN_MANDATORY_LABEL {
        Label: SID_AND_ATTRIBUTES {
            Sid: (&raw const sid).cast_mut().cast(),
            Attributes: SE_GROUP_INTEGRITY as u32,
        },
    };
    // SAFETY: the label and the SID it points to outlive the call, which only reads them.
    check(unsafe {
        let (value, length) = ((&raw const label).cast(), size_of::<TOKEN_MANDATORY_LABEL>());
        SetTokenInformation(token.as_raw_handle(), TokenIntegrityLevel, value, length as u32)
    })
}

fn remove_privileges(token: &OwnedHandle) -> io::Result<()> {
    let token = token.as_raw_handle();
    let mut length = 0;
    // SAFETY: asks for the length only; then the buffer has that length and the alignment of the
    // structure, whose array is as long as its count says.
    unsafe {
        GetTokenInformation(token, TokenPrivileges, std::ptr::null_mut(), 0, &raw mut length);
        let mut buffer = vec![0u64; (length as usize).div_ceil(8).max(1)];
        let list: *mut TOKEN_PRIVILEGES = buffer.as_mut_ptr().cast();
        check(GetTokenInformation(token, TokenPrivileges, list.cast(), length, &raw mut length))?;
        let mut kept: LUID = zeroed();
        check(LookupPrivilegeValueW(null(), SE_CHANGE_NOTIFY_NAME, &raw mut kept))?;
        let first = (&raw mut (*list).Privileges).cast();
        let each: &mut [windows_sys::Win32::Security::LUID_AND_ATTRIBUTES] =
            std::slice::from_raw_parts_mut(first, (*list).PrivilegeCount as usize);
        for privilege in each {
            if (privilege.Luid.LowPart, privilege.Luid.HighPart) != (kept.LowPart, kept.HighPart) {
                privilege.Attributes = SE_PRIVILEGE_REMOVED;
            }
        }
        let (none, no_length) = (std::ptr::null_mut(), std::ptr::null_mut());
        check(AdjustTokenPrivileges(token, 0, list, 0, none, no_length))?;
        // It succeeds even when it did not do all.
        if GetLastError() == ERROR_NOT_ALL_ASSIGNED {
            return Err(io::Error::other("some privileges could not be removed"));
        }
    }
    Ok(())
}
