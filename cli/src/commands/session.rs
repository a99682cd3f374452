//! A command's hold on the engine: the connection, the workspace, and Ctrl-C.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use lapce_ai_ipc::paths::Paths;
use lapce_ai_ipc::{Engine, EngineClient, Ident, Transport, launch};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::{Code, Failure, Outcome};

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Who we say we are.
pub fn ident() -> Ident {
    Ident::new("lapce-ai", VERSION)
}

/// What `--transport` says; set once, before anything connects.
static TRANSPORT: OnceLock<Transport> = OnceLock::new();

/// Takes a name that the command line has checked.
pub fn choose_transport(name: &str) {
    let _ = TRANSPORT.set(Transport::from_name(name).unwrap_or_default());
}

fn transport() -> Transport {
    TRANSPORT.get().copied().unwrap_or_default()
}

/// The engine, started when it is not there.
pub async fn engine() -> Outcome<EngineClient> {
    let paths = Paths::from_env();
    Ok(launch::connect_or_start_over(&paths, ident(), transport()).await?.into())
}

/// The engine, whichever process it is: for a command that may ask twice.
pub fn lasting_engine() -> Engine {
    Engine::new(Paths::from_env(), ident(), transport())
}

/// The engine that runs; `None` when there is none.
pub async fn running_engine() -> Outcome<Option<EngineClient>> {
    match launch::connect_over(&Paths::from_env(), ident(), transport()).await {
        Ok(client) => Ok(Some(EngineClient(client))),
        Err(launch::LaunchError::NotRunning) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The workspace of a command: the given folder, or the one around the current folder that
/// has a `.git` or `.lapce`, or the current folder itself.
pub fn workspace(given: Option<&Path>) -> Outcome<String> {
    let path = match given {
        Some(path) => std::path::absolute(path),
        None => std::env::current_dir().map(|here| enclosing(&here)),
    };
    let path = path.map_err(|error| {
        Failure::new(Code::NotFound, format!("cannot tell the workspace: {error}"), "use --root")
    })?;
    path.into_os_string().into_string().map_err(|raw| {
        let message = format!("the path {} is not valid UTF-8", raw.to_string_lossy());
        Failure::new(Code::Usage, message, "rename the folder")
    })
}

fn enclosing(here: &Path) -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    here.ancestors()
        // A home folder that is itself a repository or has editor settings is no workspace
        // of the projects below it.
        .take_while(|dir| home.as_deref() != Some(*dir) || *dir == here)
        .find(|dir| dir.join(".git").exists() || dir.join(".lapce").is_dir())
        .unwrap_or(here)
        .to_path_buf()
}

/// Ctrl-C and its like, as events: the process no longer dies of them.
pub struct Interrupts {
    int: Signal,
    term: Signal,
}

impl Interrupts {
    pub fn new() -> Outcome<Self> {
        Ok(Self { int: signal(SignalKind::interrupt())?, term: signal(SignalKind::terminate())? })
    }

    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }

    /// Waits for `work`, or for Ctrl-C, which drops it: that cancels the call in the engine.
    pub async fn or<T>(&mut self, work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
        tokio::select! {
            result = work => result,
            () = self.next() => {
                Err(Failure::new(Code::Interrupted, "cancelled", ""))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_the_folder_with_a_repository() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("repo/src/deep");
        std::fs::create_dir_all(&inner).unwrap();
        assert_eq!(enclosing(&inner), inner);
        std::fs::create_dir(dir.path().join("repo/.git")).unwrap();
        assert_eq!(enclosing(&inner), dir.path().join("repo"));
        // A worktree or submodule has a file of that name.
        std::fs::write(dir.path().join("repo/src/.git"), "gitdir: x").unwrap();
        assert_eq!(enclosing(&inner), dir.path().join("repo/src"));
    }
}
