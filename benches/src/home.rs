//! An engine of our own: a temporary home, connected to, and stopped afterwards.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lapce_ai_ipc::client::Client;
use lapce_ai_ipc::launch::connect_or_start;
use lapce_ai_ipc::paths::Paths;
use lapce_ai_ipc::wire::engine::{IndexBuild, Reply, Request, Status};
use lapce_ai_ipc::{EngineProtocol, Ident};

/// A home folder that no other engine uses.
pub struct Home {
    /// Removed on drop.
    _dir: tempfile::TempDir,
    pub paths: Paths,
}

impl Home {
    /// Points this process, and so every engine it starts, at a fresh home.
    pub fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("lapce-ai-bench-").tempdir()?;
        // SAFETY: called before the bench starts a thread.
        unsafe { std::env::set_var(lapce_ai_ipc::env::HOME, dir.path()) };
        Ok(Self { _dir: dir, paths: Paths::from_env() })
    }

    pub async fn connect(&self) -> Result<Client<EngineProtocol>> {
        let ident = Ident::new("lapce-ai-bench", env!("CARGO_PKG_VERSION"));
        Ok(connect_or_start(&self.paths, ident).await?)
    }

    /// Ends the engine and waits until its socket is gone.
    pub async fn stop(&self, client: Client<EngineProtocol>) -> Result<()> {
        // The engine may close before its answer to `Stop` is read.
        let _ = client.call(Request::Stop).await;
        drop(client);
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.paths.engine_socket().exists() {
            if Instant::now() > deadline {
                bail!("the engine did not stop within 10 s");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

/// Indexes `root`, and says how many files and chunks there are.
pub async fn index(client: &Client<EngineProtocol>, root: &Path) -> Result<(u64, u64)> {
    let root = root.to_str().context("the path is not UTF-8")?.to_owned();
    match client.call(Request::IndexBuild(IndexBuild { root, force: false })).await? {
        Reply::IndexReport(report) => Ok((report.files, report.chunks)),
        other => bail!("the engine answered {other:?} to an index request"),
    }
}

pub async fn status(client: &Client<EngineProtocol>) -> Result<Status> {
    match client.call(Request::Status).await? {
        Reply::Status(status) => Ok(status),
        other => bail!("the engine answered {other:?} to a status request"),
    }
}

/// The folder a bench works on: the given one, or the current one, which xtask makes this
/// repository.
pub fn corpus(given: Option<&PathBuf>) -> Result<PathBuf> {
    let root = given.map_or(Path::new("."), PathBuf::as_path);
    std::fs::canonicalize(root).with_context(|| format!("failed to find {}", root.display()))
}

/// A runtime like the one our programs use.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
