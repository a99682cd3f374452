//! What a call may do, where a system has no richer form of its own.

use std::path::PathBuf;

/// All paths are absolute and free of symlinks: systems judge where a path leads.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Files and folders to read and to run programs from.
    pub read: Vec<PathBuf>,
    /// Folders to write in as well.
    pub write: Vec<PathBuf>,
    /// Paths in those that stay as they are, whether they exist or not.
    pub protected: Vec<PathBuf>,
    /// Paths that are neither read nor written.
    pub hidden: Vec<PathBuf>,
    pub network: Network,
    pub limits: Limits,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Network {
    #[default]
    Off,
    /// Ports of this machine: of the proxy that judges host names, and those granted by name.
    Local { connect: Vec<u16>, listen: Vec<u16> },
    /// Everything, as the user's settings allow an MCP server.
    Host,
}

/// What the system itself can bound; the rest is looked after by whoever started the call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    pub cpu_s: u64,
    pub memory_bytes: u64,
    pub processes: u32,
    pub file_bytes: u64,
    pub open_files: u64,
}
