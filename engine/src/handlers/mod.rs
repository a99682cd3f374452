//! One file a feature. A handler is a free function: the engine, the request, the call's
//! context; it returns the reply or an error that a user can act on.

pub mod ask;
pub mod complete;
pub mod follow;
pub mod index;
pub mod mcp;
pub mod own;
pub mod run;
pub mod search;
pub mod status;
pub mod tool;
pub mod undo;
pub mod watch;

use lapce_ai_ipc::wire::{ErrorKind, WireError};

/// Refuses a text that is empty or longer than its limit.
pub(crate) fn check_text(what: &str, text: &str, limit: usize) -> Result<(), WireError> {
    if text.trim().is_empty() {
        return Err(WireError::new(ErrorKind::Invalid, format!("the {what} is empty")));
    }
    if text.len() > limit {
        return Err(WireError::new(
            ErrorKind::Limit,
            format!("the {what} has {} bytes; at most {limit} are taken", text.len()),
        ));
    }
    Ok(())
}
