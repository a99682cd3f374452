//! Programs that a test makes and then starts.
//!
//! A file that any process holds open for writing cannot be started ("Text file busy"), and a
//! program that another test starts at that moment inherits what this process holds open. So
//! they are written by processes of their own.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes an executable script.
#[track_caller]
pub fn script(path: &Path, text: &str) {
    let mut shell = Command::new("sh")
        .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell");
    shell.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads all");
    assert!(shell.wait().expect("a child of ours").success(), "{} is not written", path.display());
}

/// Copies a program, with its mode.
#[track_caller]
pub fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-p").args([from, to]).status().expect("cp");
    assert!(done.success(), "{} is not copied", from.display());
}
