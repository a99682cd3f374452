//! How a command ends: exit codes, and errors as people and scripts see them.

use std::io;

use lapce_ai_ipc::launch::LaunchError;
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{CallError, NoEngine};

/// Exit codes; `lapce-ai --help` documents them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    Ok = 0,
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Denied = 4,
    Unavailable = 5,
    Provider = 6,
    Limit = 7,
    Bug = 70,
    Interrupted = 130,
}

/// Why a command did not end well.
#[derive(Debug)]
pub enum Failure {
    /// What to say, what to do, and how to exit.
    Said { code: Code, kind: ErrorKind, message: String, hint: String },
    /// Everything is said; only the code is left.
    Silent(Code),
    /// Nobody reads our output any more: no error, but no reason to go on.
    PipeClosed,
}

pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub fn new(code: Code, message: impl Into<String>, hint: impl Into<String>) -> Self {
        let kind = match code {
            Code::NotFound => ErrorKind::NotFound,
            Code::Usage => ErrorKind::Invalid,
            Code::Interrupted => ErrorKind::Cancelled,
            _ => ErrorKind::Unavailable,
        };
        Self::Said { code, kind, message: message.into(), hint: hint.into() }
    }

    pub fn code(&self) -> Code {
        match self {
            Self::Said { code, .. } | Self::Silent(code) => *code,
            Self::PipeClosed => Code::Ok,
        }
    }
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        let code = match error.kind {
            ErrorKind::Invalid => Code::Usage,
            ErrorKind::NotFound => Code::NotFound,
            ErrorKind::Denied => Code::Denied,
            ErrorKind::Cancelled | ErrorKind::Superseded => Code::Interrupted,
            ErrorKind::Limit => Code::Limit,
            ErrorKind::Unavailable => Code::Unavailable,
            ErrorKind::Provider => Code::Provider,
            ErrorKind::Conflict | ErrorKind::Unsupported => Code::Failed,
            ErrorKind::Internal => Code::Bug,
        };
        Self::Said { code, kind: error.kind, message: error.message, hint: error.hint }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Remote(error) => error.into(),
            CallError::Disconnected(how) => Self::new(
                Code::Unavailable,
                format!("the engine is gone: {how}"),
                "run the command again: it starts a new engine; `lapce-ai doctor` names the log",
            ),
            CallError::EngineLost(how) => Self::new(
                Code::Unavailable,
                format!("the engine ended before this was done: {how}"),
                "run it again: that starts a new engine; `lapce-ai doctor` names the log",
            ),
            CallError::NoEngine(none) => none.into(),
            other => Self::new(Code::Unavailable, other.to_string(), "run `lapce-ai doctor`"),
        }
    }
}

impl From<NoEngine> for Failure {
    fn from(NoEngine { message, hint, .. }: NoEngine) -> Self {
        Self::new(Code::Unavailable, message, hint)
    }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        Self::new(Code::Unavailable, error.to_string(), error.hint())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::PipeClosed;
        }
        Self::new(Code::Failed, format!("cannot write the output: {error}"), "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_codes() {
        let code = |kind| Failure::from(WireError::new(kind, "x")).code();
        assert_eq!(code(ErrorKind::NotFound), Code::NotFound);
        assert_eq!(code(ErrorKind::Denied), Code::Denied);
        assert_eq!(code(ErrorKind::Internal), Code::Bug);
        assert_eq!(Failure::from(CallError::Deadline).code(), Code::Unavailable);
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).code(), Code::Ok);
    }
}
