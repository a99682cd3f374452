//! A terminal of its own for a program, and a user who types when a cue is shown.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Instant;

use crate::{HANG, wait};

/// Instead of something typed: the terminal is closed.
pub const HANG_UP: &str = "hang up";

/// Runs `command` on a terminal of 40 rows and 100 columns, and types each reply of `script`
/// after its cue has been shown. Its exit status, and all that was shown.
///
/// # Panics
///
/// When the program is still there after [`HANG`]; it is killed then, and what it had shown
/// is said.
#[track_caller]
pub fn on_a_terminal(mut command: Command, script: &[(&str, &str)]) -> (Option<i32>, String) {
    let (mut main, side) = open();
    command.stdin(side.try_clone().expect("a descriptor"));
    command.stdout(side.try_clone().expect("a descriptor"));
    command.stderr(side);
    // SAFETY: both calls are async-signal-safe and touch no memory.
    unsafe {
        command.pre_exec(|| {
            if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let mut child = command.spawn().expect("the program starts");
    // It holds our copies of the other side.
    drop(command);
    let deadline = Instant::now() + HANG;
    let mut shown = String::new();
    let mut buffer = [0; 4096];
    let mut script = script.iter();
    let mut next = script.next();
    let mut from = 0;
    loop {
        if !readable(&main, deadline) {
            let _ = child.kill();
            panic!("{child:?} hangs; waited for {:?} after {shown:?}", next.map(|(cue, _)| cue));
        }
        // The terminal reports an error, not an end, once nobody has its other side.
        let Ok(n @ 1..) = main.read(&mut buffer) else { break };
        shown += &String::from_utf8_lossy(&buffer[..n]);
        while let Some((cue, reply)) = next
            && let Some(at) = shown[from..].find(cue)
        {
            if *reply == HANG_UP {
                drop(main);
                return (wait(&mut child), shown);
            }
            main.write_all(reply.as_bytes()).expect("the terminal takes what is typed");
            from += at + cue.len();
            next = script.next();
        }
    }
    assert!(next.is_none(), "it ended before {next:?}: {shown}");
    (wait(&mut child), shown)
}

/// The two sides of a new terminal. No program that another test starts meanwhile may
/// inherit one, so both close on exec from the first moment.
fn open() -> (File, OwnedFd) {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    let opened = |fd| {
        assert!(fd >= 0, "no terminal: {}", std::io::Error::last_os_error());
        fd
    };
    // SAFETY: opens a descriptor, which nobody else owns.
    let main = unsafe { File::from_raw_fd(opened(libc::posix_openpt(flags))) };
    // SAFETY: it is a terminal's; as above for the other side.
    let side = unsafe {
        opened(libc::unlockpt(main.as_raw_fd()));
        OwnedFd::from_raw_fd(opened(libc::ioctl(main.as_raw_fd(), libc::TIOCGPTPEER, flags)))
    };
    let size = libc::winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: reads the structure.
    opened(unsafe { libc::ioctl(main.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) });
    (main, side)
}

/// Waits until something can be read, an end or error too; `false` when the time is over.
fn readable(file: &File, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut poll = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let wait = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one valid structure, and its count.
        match unsafe { libc::poll(&raw mut poll, 1, wait) } {
            1.. => return true,
            0 => return false,
            _ => {
                let error = std::io::Error::last_os_error();
                assert_eq!(error.kind(), std::io::ErrorKind::Interrupted, "{error}");
            }
        }
    }
}
