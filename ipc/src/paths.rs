//! Where things lie on disk, and where our programs are.
//!
//! | what | place |
//! |---|---|
//! | socket, lock | `$XDG_RUNTIME_DIR/lapce-ai` or `/tmp/lapce-ai-UID`, mode 0700 |
//! | logs, run journals | `$XDG_STATE_HOME/lapce-ai` |
//! | indexes | `$XDG_DATA_HOME/lapce-ai` |
//! | `config.toml` | `$XDG_CONFIG_HOME/lapce-ai` |

use std::ffi::OsString;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::env;

/// The product's folders for this user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    pub runtime: PathBuf,
    pub state: PathBuf,
    pub data: PathBuf,
    pub config: PathBuf,
}

impl Paths {
    /// Reads the environment of this process.
    pub fn from_env() -> Self {
        Self::resolve(|name| std::env::var_os(name), current_uid())
    }

    /// The rule behind [`Paths::from_env`], free of global state.
    pub fn resolve(var: impl Fn(&str) -> Option<OsString>, uid: u32) -> Self {
        // The XDG specification: a relative path is to be ignored.
        let absolute = |name: &str| var(name).map(PathBuf::from).filter(|p| p.is_absolute());
        if let Some(home) = absolute(env::HOME) {
            return Self {
                runtime: home.join("run"),
                state: home.join("state"),
                data: home.join("data"),
                config: home.join("config"),
            };
        }
        let home = absolute("HOME").unwrap_or_else(|| PathBuf::from("/"));
        let xdg = |name: &str, fallback: &str| {
            absolute(name).unwrap_or_else(|| home.join(fallback)).join("lapce-ai")
        };
        Self {
            runtime: absolute("XDG_RUNTIME_DIR").map_or_else(
                || PathBuf::from(format!("/tmp/lapce-ai-{uid}")),
                |dir| dir.join("lapce-ai"),
            ),
            state: xdg("XDG_STATE_HOME", ".local/state"),
            data: xdg("XDG_DATA_HOME", ".local/share"),
            config: xdg("XDG_CONFIG_HOME", ".config"),
        }
    }

    pub fn engine_socket(&self) -> PathBuf {
        self.runtime.join("engine.sock")
    }

    pub fn engine_lock(&self) -> PathBuf {
        self.runtime.join("engine.lock")
    }

    pub fn log_dir(&self) -> PathBuf {
        self.state.join("logs")
    }

    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// What tools may do: allow, ask, deny.
    pub fn rules_file(&self) -> PathBuf {
        self.config.join("rules.toml")
    }

    /// Answers of the user that are remembered.
    pub fn remembered_file(&self) -> PathBuf {
        self.data.join("remembered.toml")
    }

    /// Folder that holds one index per workspace.
    pub fn index_root(&self) -> PathBuf {
        self.data.join("index")
    }
}

/// The real user id of this process.
pub fn current_uid() -> u32 {
    // SAFETY: getuid has no preconditions and cannot fail.
    unsafe { libc::getuid() }
}

/// Creates `dir` for this user alone, and refuses one that others can enter or own.
pub fn private_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let meta = fs::symlink_metadata(dir)?;
    if !meta.is_dir() || meta.uid() != current_uid() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{} is not a folder of this user; remove it or set {}",
                dir.display(),
                env::HOME
            ),
        ));
    }
    if meta.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Finds one of our programs: `LAPCE_AI_BIN_DIR`, then beside the running program,
/// then `PATH`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let given = std::env::var_os(env::BIN_DIR).map(PathBuf::from);
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_path_buf()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    given
        .into_iter()
        .chain(beside)
        .chain(std::env::split_paths(&path).filter(|dir| dir.is_absolute()))
        .map(|dir| dir.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(vars: &[(&str, &str)]) -> Paths {
        Paths::resolve(
            |name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v)),
            7,
        )
    }

    #[test]
    fn one_home_holds_everything() {
        let paths = resolve(&[(env::HOME, "/x"), ("XDG_RUNTIME_DIR", "/run/user/7")]);
        assert_eq!(paths.engine_socket(), Path::new("/x/run/engine.sock"));
        assert_eq!(paths.config_file(), Path::new("/x/config/config.toml"));
    }

    #[test]
    fn xdg_folders_and_their_fallbacks() {
        let paths = resolve(&[("HOME", "/home/u"), ("XDG_DATA_HOME", "relative")]);
        assert_eq!(paths.runtime, Path::new("/tmp/lapce-ai-7"));
        assert_eq!(paths.data, Path::new("/home/u/.local/share/lapce-ai"));
        let paths = resolve(&[("HOME", "/home/u"), ("XDG_RUNTIME_DIR", "/run/user/7")]);
        assert_eq!(paths.runtime, Path::new("/run/user/7/lapce-ai"));
    }

    #[test]
    fn a_private_folder_is_made_private_again() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        private_dir(&inner).unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
        private_dir(&inner).unwrap();
        assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_symlink_is_no_private_folder() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(private_dir(&link).is_err());
    }
}
