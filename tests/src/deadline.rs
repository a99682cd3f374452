//! A bound on a whole test. One that waits for something that never comes would hold up all of
//! CI without a word; this ends its program and says which test it was.

use std::io::Write as _;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// Longer than any test takes on a slow and busy machine, shorter than a step of CI may take.
const LONGEST: Duration = Duration::from_mins(10);

/// Kept for as long as the test goes on.
#[derive(Debug)]
pub struct Deadline {
    _over: mpsc::Sender<()>,
}

impl Deadline {
    /// For the test that calls this, which its thread is named after.
    pub fn new() -> Self {
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        let (over, end) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if end.recv_timeout(LONGEST) == Err(RecvTimeoutError::Timeout) {
                // Past the harness, which would keep it until the test has ended.
                let seconds = LONGEST.as_secs();
                let _ =
                    writeln!(std::io::stderr(), "\ntest {name} hangs: no end after {seconds} s");
                std::process::abort();
            }
        });
        Self { _over: over }
    }
}

impl Default for Deadline {
    fn default() -> Self {
        Self::new()
    }
}
