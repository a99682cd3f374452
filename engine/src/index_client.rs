//! The engine's hold on `lapce-ai-index`: one worker for searches, one short process per build.
//!
//! Handlers call [`IndexClient::search`], [`IndexClient::stats`] and [`IndexClient::build`];
//! nobody else starts or talks to these processes. A worker that dies fails the calls it had
//! with a clear error and is started again by the next one; one that is idle is stopped.
//! [`worker`] holds the worker, [`build`] the builds, [`watch`] keeps indexes up to date
//! while someone wants that, [`disk`] keeps them within their bound.

mod build;
mod disk;
mod embedding;
mod meta;
mod onnx;
mod watch;
mod worker;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lapce_ai_ipc::wire::engine::{BuildReport, Event, IndexInfo, WatchState};
use lapce_ai_ipc::wire::index::{self, Found, Stats};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{CallError, Client, Ident, IndexProtocol, paths};
use tokio::sync::{Notify, mpsc};
pub use watch::Watch;

pub use self::embedding::{Embedding, Source};

use crate::config;
use crate::process::SocketChild;
use crate::workspace::Root;
use crate::{limits, state};

/// The program that holds LanceDB.
const INDEX_PROGRAM: &str = "lapce-ai-index";

/// Searches, builds, and the processes behind them.
pub struct IndexClient {
    index_root: PathBuf,
    worker: worker::WorkerSlot,
    builds: Arc<build::Builds>,
    embedder: Source,
    watchers: watch::Watchers,
}

/// How fresh an answer is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Freshness {
    /// Files known to be missing from the index, or older there.
    pub behind: u64,
    /// The first build has not ended.
    pub partial: bool,
    pub built_at: u64,
    pub watch: WatchState,
}

/// One of our index processes, for `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexProcess {
    pub pid: u32,
    /// The workspace a build process works on; `None` is the worker.
    pub root: Option<Root>,
}

impl IndexClient {
    /// `activity` is told whenever a build or the worker ends.
    /// `embedder` says who makes the vectors, whenever one is needed.
    pub fn new(
        index_root: PathBuf,
        worker_idle: Duration,
        activity: Arc<Notify>,
        embedder: Source,
    ) -> Self {
        Self {
            index_root,
            worker: worker::WorkerSlot::new(worker_idle),
            builds: Arc::new(build::Builds::new(activity, embedder.clone())),
            embedder,
            watchers: watch::Watchers::default(),
        }
    }

    /// The best `limit` passages for `query`. `NotFound` when there is no index yet.
    pub async fn search(
        &self,
        root: &Root,
        query: &str,
        limit: u32,
        explain: bool,
    ) -> Result<Found, WireError> {
        let dir = self.finished_dir(root)?;
        let meta = meta::read(&root.index_dir(&self.index_root));
        // A mistake in the configuration must not stop a search by words.
        let given = match meta.zip((self.embedder)().ok().flatten()) {
            Some((meta, embedding)) => embedding.question(&meta, query).await,
            None => None,
        };
        let request = index::Request::Search(index::Search {
            root: root.to_string(),
            dir,
            query: query.to_owned(),
            limit,
            explain,
            given,
        });
        match self.worker.call(request, root).await? {
            index::Reply::Found(found) => Ok(found),
            other => Err(unexpected(&other)),
        }
    }

    /// What the worker knows about the index of `root`.
    pub async fn stats(&self, root: &Root) -> Result<Stats, WireError> {
        let dir = self.finished_dir(root)?;
        match self.worker.call(index::Request::Stats { dir }, root).await? {
            index::Reply::Stats(stats) => Ok(stats),
            other => Err(unexpected(&other)),
        }
    }

    /// Brings the index of `root` up to date. A build of the same root in progress is joined;
    /// it is cancelled when nobody waits for it any more (drop the future). `Progress` and
    /// `Notice` events go to `events` while it runs; a slow reader loses progress only.
    pub async fn build(
        &self,
        root: &Root,
        force: bool,
        settings: config::Index,
        events: mpsc::Sender<Event>,
    ) -> Result<BuildReport, WireError> {
        let place = Place { index_root: self.index_root.clone(), settings };
        let spec = build::Spec { force, ..place.spec(root)? };
        let built = self.builds.build(root, spec, events).await;
        built.map_err(|error| disk::offer(&self.index_root, root, error))
    }

    /// Keeps the index of `root` up to date until the last [`Watch`] of it is dropped.
    pub fn watch(&self, root: &Root, settings: config::Index) -> Result<Watch, WireError> {
        let place = Place { index_root: self.index_root.clone(), settings };
        self.watchers.watch(root, place, self.builds.clone())
    }

    /// How fresh an answer about `root` is now.
    pub fn freshness(&self, root: &Root) -> Freshness {
        let meta = meta::read(&root.index_dir(&self.index_root));
        let built_at = meta.map_or(0, |meta| meta.built_at);
        let seen = self.watchers.seen(root);
        Freshness {
            behind: self.builds.behind(root).max(seen.at_work) + seen.waiting,
            partial: built_at == 0,
            built_at,
            watch: seen.state,
        }
    }

    /// Whether `root` has a finished index. Reads the disk, starts nothing.
    pub fn exists(&self, root: &Root) -> bool {
        meta::read(&root.index_dir(&self.index_root)).is_some()
    }

    /// Builds in progress.
    pub fn building(&self) -> usize {
        self.builds.len()
    }

    /// Every index of this user, and every build in progress. Reads the disk, starts nothing.
    pub fn list(&self) -> Vec<IndexInfo> {
        let mut found = meta::list(&self.index_root);
        for root in self.builds.roots() {
            if !found.iter().any(|info| info.root == root.as_str()) {
                found.push(IndexInfo {
                    root: root.to_string(),
                    files: 0,
                    chunks: 0,
                    behind: 0,
                    building: true,
                    built_at: 0,
                    changed_at: 0,
                    disk_bytes: 0,
                    watch: WatchState::Off,
                    head: String::new(),
                });
            }
            for info in found.iter_mut().filter(|info| info.root == root.as_str()) {
                info.building = true;
                info.behind = self.builds.behind(&root);
            }
        }
        for info in &mut found {
            if let Some((root, seen)) = self.watchers.by_name(&info.root) {
                info.watch = seen.state;
                info.head = seen.head;
                info.behind = self.builds.behind(&root).max(seen.at_work) + seen.waiting;
            }
        }
        found
    }

    /// Live index processes.
    pub fn processes(&self) -> Vec<IndexProcess> {
        let worker = self.worker.pid().map(|pid| IndexProcess { pid, root: None });
        worker.into_iter().chain(self.builds.processes()).collect()
    }

    /// The process of a local embedder, while there is one.
    pub fn embedder_pid(&self) -> Option<u32> {
        (self.embedder)().ok().flatten()?.pid()
    }

    /// Ends every index process; later calls fail.
    pub async fn end(&self) {
        self.watchers.end();
        tokio::join!(self.worker.end(), self.builds.end());
    }

    fn finished_dir(&self, root: &Root) -> Result<String, WireError> {
        let dir = root.index_dir(&self.index_root);
        if meta::read(&dir).is_none() {
            let building = self.builds.roots().contains(root);
            let error = WireError::new(ErrorKind::NotFound, format!("{root} has no index yet"));
            return Err(if building {
                error.hint("its first index is being built; try again when it is done")
            } else {
                error.hint(format!("run `lapce-ai index {}`", shell_word(root.as_str())))
            });
        }
        Ok(dir.to_string_lossy().into_owned())
    }
}

/// Where indexes lie, and how much they may take.
#[derive(Debug, Clone)]
struct Place {
    index_root: PathBuf,
    settings: config::Index,
}

impl Place {
    /// An update of the index of `root`.
    fn spec(&self, root: &Root) -> Result<build::Spec, WireError> {
        paths::private_dir(&self.index_root).map_err(|error| {
            let what = format!("cannot use the folder {}: {error}", self.index_root.display());
            WireError::new(ErrorKind::Unavailable, what)
                .hint("check its permissions and free space")
        })?;
        Ok(build::Spec {
            dir: root.index_dir(&self.index_root).to_string_lossy().into_owned(),
            cache: disk::cache(&self.index_root).to_string_lossy().into_owned(),
            max_bytes: disk::room(&self.index_root, root, self.settings.disk_mb)
                .map_err(|error| disk::offer(&self.index_root, root, error))?,
            location: self.settings.shared.get(Path::new(root.as_str())).cloned(),
            ..build::Spec::default()
        })
    }
}

/// Credentials of an object store, for a build on a shared index and for nothing else.
fn store_credentials() -> Vec<(OsString, OsString)> {
    let own = |name: &OsString| name.to_str().is_some_and(|name| name.starts_with("AWS_"));
    std::env::vars_os().filter(|(name, _)| own(name)).collect()
}

/// Starts `lapce-ai-index MODE` and greets it.
async fn start(
    mode: &str,
    env: Vec<(OsString, OsString)>,
) -> Result<(SocketChild, Client<IndexProtocol>), WireError> {
    let program =
        paths::find_program(INDEX_PROGRAM).ok_or_else(|| state::missing(INDEX_PROGRAM))?;
    let (mut child, socket) = SocketChild::spawn(&program, &[mode], env).map_err(|error| {
        let what = format!("{} cannot be started: {error}", program.display());
        WireError::new(ErrorKind::Unavailable, what).hint("run `lapce-ai doctor`")
    })?;
    let ident = Ident::new("lapce-ai-engine", crate::lifecycle::VERSION);
    let hello = Client::over(socket, ident);
    let failure = match tokio::time::timeout(limits::INDEX_HELLO, hello).await {
        Ok(Ok(client)) => return Ok((child, client)),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {:?}", limits::INDEX_HELLO),
    };
    let how = child.end(limits::CHILD_GRACE).await;
    tracing::warn!(program = %program.display(), %failure, %how, "index process did not start");
    let what = format!("{} did not start ({failure}); it {how}", program.display());
    Err(WireError::new(ErrorKind::Unavailable, what).hint("run `lapce-ai doctor`"))
}

/// The error of a call whose connection was not lost.
fn call_failed(error: CallError) -> WireError {
    match error {
        CallError::Remote(error) => error,
        other => WireError::new(ErrorKind::Internal, format!("index: {other}")),
    }
}

fn unexpected(reply: &index::Reply) -> WireError {
    tracing::error!(?reply, "reply of the wrong kind");
    WireError::new(ErrorKind::Internal, "the index process answered something else")
}

/// `text` as one word of a shell command.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Where the index of a workspace lies and whether it is whole: used by tests and `doctor`.
pub fn finished(dir: &Path) -> bool {
    meta::read(dir).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_hints_can_be_pasted() {
        assert_eq!(shell_word("/home/u/code"), "/home/u/code");
        assert_eq!(shell_word("/home/u/my code"), "'/home/u/my code'");
        assert_eq!(shell_word("it's $HOME"), r"'it'\''s $HOME'");
    }

    #[tokio::test]
    async fn a_workspace_without_an_index_says_how_to_get_one() {
        let dir = tempfile::tempdir().unwrap();
        let client = IndexClient::new(
            dir.path().join("i"),
            Duration::ZERO,
            Arc::default(),
            Arc::new(|| Ok(None)),
        );
        let root = Root::open(dir.path().to_str().unwrap()).unwrap();
        let error = client.search(&root, "x", 1, false).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert!(error.hint.contains("lapce-ai index /"), "{}", error.hint);
        assert!(client.processes().is_empty(), "nothing was started");
    }
}
