//! The command line.

pub mod args;

use std::process::ExitCode;

pub fn main() -> ExitCode {
    ExitCode::FAILURE
}
