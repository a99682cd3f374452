//! What can go wrong in the index, and what it becomes on the ring.

use std::path::PathBuf;

use lapce_ai_ipc::wire::{ErrorKind, WireError};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} does not exist", .0.display())]
    NoRoot(PathBuf),
    #[error("{} is not a folder", .0.display())]
    NotAFolder(PathBuf),
    #[error("the index folder {} lies inside the workspace", .0.display())]
    DirInside(PathBuf),
    #[error("there is no index of {0}")]
    NoIndex(String),
    #[error("another build of this index is running")]
    Busy,
    #[error("the index would grow past {} MB", .0 / 1_000_000)]
    DiskCap(u64),
    #[error("cancelled")]
    Cancelled,
    #[error("{what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    /// Something about a shared index.
    #[error("the shared index {uri}: {why}")]
    Location { uri: String, why: String },
    #[error("another writer is at work on the shared index {0}, or has just published")]
    OtherWriter(String),
    #[cfg(feature = "lance")]
    #[error("the index store: {0}")]
    Store(#[from] lancedb::Error),
    /// What the engine's embedder says, with its own advice.
    #[error("{}", .0.message)]
    Embedder(WireError),
    #[error("internal: {0}")]
    Internal(String),
}

impl Error {
    pub fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }

    fn is_full_disk(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            #[cfg(feature = "lance")]
            Self::Store(error) => {
                let text = error.to_string();
                text.contains("No space left")
                    || text.contains("os error 28")
                    || text.contains("StorageFull")
            }
            _ => false,
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<Error> for WireError {
    fn from(error: Error) -> Self {
        if let Error::Embedder(error) = error {
            let kept = "what is done is kept; the next `lapce-ai index` goes on from there";
            let hint =
                if error.hint.is_empty() { kept.into() } else { format!("{}; {kept}", error.hint) };
            return Self { hint, ..error };
        }
        let (kind, hint) = match &error {
            _ if error.is_full_disk() => (
                ErrorKind::Limit,
                "free some space or move the data folder (XDG_DATA_HOME); what was indexed before stays searchable".into(),
            ),
            Error::DiskCap(_) => (
                ErrorKind::Limit,
                "remove an index that is not needed (`lapce-ai index rm FOLDER`) or raise `index.disk_mb` in config.toml; what was indexed before stays searchable".into(),
            ),
            Error::NoRoot(_) | Error::NotAFolder(_) => (ErrorKind::Invalid, "give the path of an existing folder".into()),
            Error::DirInside(_) => (ErrorKind::Invalid, "keep indexes outside the workspace".into()),
            Error::NoIndex(root) => (ErrorKind::NotFound, format!("run `lapce-ai index {root}`")),
            Error::Busy => (ErrorKind::Conflict, "wait for it to finish; `lapce-ai status` shows its progress".into()),
            Error::Location { .. } => (
                ErrorKind::Unavailable,
                "check the location, the network and the credentials (docs/team-index.md)".into(),
            ),
            Error::OtherWriter(_) => (ErrorKind::Conflict, "run it again when the other writer has ended".into()),
            Error::Cancelled => (ErrorKind::Cancelled, String::new()),
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                (ErrorKind::Denied, "check the permissions of that path".into())
            }
            #[cfg(feature = "lance")]
            Error::Store(_) => (ErrorKind::Internal, "if it happens again, rebuild with `lapce-ai index --force`".into()),
            Error::Io { .. } | Error::Embedder(_) | Error::Internal(_) => (ErrorKind::Internal, String::new()),
        };
        Self::new(kind, error.to_string()).hint(hint)
    }
}
