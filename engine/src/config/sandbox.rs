//! What the user changes about the fence around tools.

use std::path::{Path, PathBuf};

use lapce_ai_tools::sandbox::layer;
use lapce_ai_tools::workspace::PROTECTED;
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
    /// What of the files that git ignores commands see.
    pub ignored: Ignored,
    /// Protected paths of a workspace that tools may write all the same.
    pub unprotect: Vec<String>,
    /// Layers that are switched off.
    pub off: Vec<String>,
}

/// What commands see of files that git ignores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ignored {
    /// All but those whose names say that they hold secrets: builds need them.
    #[default]
    Build,
    /// None of them, but for `show`.
    Hidden,
}

impl Sandbox {
    /// What stands in it and means nothing, or must not be.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(name) = self.off.iter().find(|name| !layer::ALL.contains(&name.as_str())) {
            let all = layer::ALL.join(", ");
            return Err(format!("sandbox.off: there is no layer {name:?}; there are {all}"));
        }
        // What git itself runs is nobody's to open.
        let may_open =
            |path: &String| PROTECTED.contains(&path.as_str()) && !path.starts_with(".git/");
        match self.unprotect.iter().find(|path| !may_open(path)) {
            Some(path) => Err(format!(
                "sandbox.unprotect: {path:?} is no protected path that can be opened, such as \
                 \".github/workflows\""
            )),
            None => Ok(()),
        }
    }

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
