//! The program: one engine per user, from the socket to the last file removed.

pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
