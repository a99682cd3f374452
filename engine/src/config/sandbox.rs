//! What the user changes about the fence around tools.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What the user changes about the fence around tools.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sandbox {
    /// Secrets that git ignores and commands may see, as lines of a `.gitignore`.
    pub show: Vec<String>,
    /// The browser to start, when it is not on PATH under a usual name.
    pub browser: Option<PathBuf>,
    /// Files and folders that commands may read beside the workspace; absolute, or `~/…`.
    pub read: Vec<String>,
    /// Variables of the engine's environment that commands get.
    pub env: Vec<String>,
}

impl Sandbox {
    /// What `read` means for a user with this home folder. An entry that is neither absolute
    /// nor below the home folder is an error that names it.
    pub fn readable(&self, home: Option<&Path>) -> Result<Vec<PathBuf>, String> {
        let path = |entry: &String| match (entry.strip_prefix("~/"), home) {
            (Some(rest), Some(home)) => Ok(home.join(rest)),
            _ if Path::new(entry).is_absolute() => Ok(PathBuf::from(entry)),
            _ => Err(format!("sandbox.read: {entry:?} is not absolute and does not begin with ~/")),
        };
        self.read.iter().map(path).collect()
    }
}
