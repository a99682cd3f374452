//! One file a feature. A handler is a free function: the engine, the request, the call's
//! context; it returns the reply or an error that a user can act on.

pub mod ask;
pub mod complete;
pub mod edit;
pub mod follow;
pub mod index;
pub mod mcp;
pub mod own;
pub mod run;
pub mod runs;
pub mod search;
pub mod status;
pub mod tool;
pub mod undo;
pub mod watch;

use lapce_ai_ipc::wire::engine::Attached;
use lapce_ai_ipc::wire::{ErrorKind, WireError};

use crate::mcp::limits as mcp_limits;

/// Refuses more attached texts than a question may have.
pub(crate) fn check_attached(attached: &[Attached]) -> Result<(), WireError> {
    let within = attached.len() <= mcp_limits::ATTACHED
        // The mark of a cut comes on top.
        && attached.iter().all(|a| a.text.len() <= mcp_limits::ATTACHED_BYTES + 1024 && a.name.len() <= 4096);
    if within {
        return Ok(());
    }
    let most = format!("{} texts of {} KB", mcp_limits::ATTACHED, mcp_limits::ATTACHED_BYTES >> 10);
    Err(WireError::new(ErrorKind::Limit, format!("at most {most} can be attached")))
}

/// Whether a file's name says that it holds secrets: an editor's text of it goes to no model.
pub(crate) fn holds_secrets(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    lapce_ai_tools::exec::secrets::is_file(&name.to_lowercase())
}

/// The error for a text of such a file.
pub(crate) fn secret_file(path: &str) -> WireError {
    let message = format!("{path} goes to no model: its name says that it holds secrets");
    WireError::new(ErrorKind::Denied, message)
}

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
