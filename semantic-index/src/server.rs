//! The index process as the engine sees it: a server of `IndexProtocol` on an inherited
//! socket.
//!
//! A worker answers `Search` and `Stats` over any number of indexes and keeps the last few
//! open. A build process answers one `Build`. Both end when the engine's end closes.

use std::collections::HashMap;
use std::os::fd::{FromRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lancedb::Session;
use lapce_ai_ipc::wire::index::{self, Event, Reply, Request};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{Cx, Handler, Ident, IndexProtocol, serve};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::embed::{Ask, Embedder, Given, Remote, default_embedder};
use crate::error::Error;
use crate::limits::{
    BATCH_ROWS, FOLDERS_PER_EVENT, WORKER_INDEX_CACHE, WORKER_METADATA_CACHE, WORKER_OPEN_TABLES,
};
use crate::rank::Weights;
use crate::rest::Rest;
use crate::search::{Arm, Index};
use crate::shared::{self, Location};
use crate::walk::Only;
use crate::{builder, store};

/// What this process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Worker,
    Build,
}

/// Answers the engine.
pub struct Server {
    role: Role,
    session: Arc<Session>,
    embedder: Option<Arc<dyn Embedder>>,
    weights: Weights,
    /// Most recently used last.
    open: Mutex<Vec<(PathBuf, Index)>>,
    rest: Arc<Rest>,
    /// Batches that the engine embeds for a build.
    batches: Mutex<HashMap<u64, oneshot::Sender<Embedded>>>,
}

type Embedded = Result<Vec<Vec<i8>>, WireError>;

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({:?})", self.role)
    }
}

impl Server {
    pub fn new(role: Role) -> Self {
        Self {
            role,
            session: store::session(WORKER_INDEX_CACHE, WORKER_METADATA_CACHE),
            embedder: default_embedder(),
            weights: Weights::default(),
            open: Mutex::new(Vec::new()),
            rest: Arc::default(),
            batches: Mutex::default(),
        }
    }

    /// The index, fresh; opened when it is not among the last few.
    async fn index(&self, dir: &str, root: &str) -> Result<Index, Error> {
        let dir = PathBuf::from(dir);
        let mut open = self.open.lock().await;
        let mut entry = match open.iter().position(|(d, _)| *d == dir) {
            Some(at) => open.remove(at).1,
            None => Index::open(&dir, root, &self.session).await?,
        };
        entry.refresh(root, &self.session).await?;
        if open.len() >= WORKER_OPEN_TABLES {
            open.remove(0);
        }
        open.push((dir, entry.clone()));
        Ok(entry)
    }

    async fn search(&self, request: index::Search) -> Result<Reply, WireError> {
        if request.query.trim().is_empty() {
            return Err(WireError::new(ErrorKind::Invalid, "the query is empty")
                .hint("say what to look for"));
        }
        match self.ask(&request).await {
            // Tidied away under our hands: the next look sees the new version.
            Err(Error::Store(error)) => {
                tracing::info!(%error, "asked again");
                self.open.lock().await.retain(|(dir, _)| dir != Path::new(&request.dir));
                Ok(Reply::Found(self.ask(&request).await?))
            }
            found => Ok(Reply::Found(found?)),
        }
    }

    async fn ask(&self, request: &index::Search) -> Result<index::Found, Error> {
        let index = self.index(&request.dir, &request.root).await?;
        let given = request
            .given
            .as_ref()
            .map(|g| Given { name: g.embedder.clone(), vector: g.vector.clone() });
        let embedder = match &given {
            Some(given) => Some(given as &dyn Embedder),
            None => self.embedder.as_deref(),
        };
        index
            .search(
                &request.query,
                request.limit,
                request.explain,
                embedder,
                &self.weights,
                Arm::Hybrid,
            )
            .await
    }

    async fn build(
        &self,
        request: index::Build,
        cx: &Cx<IndexProtocol>,
    ) -> Result<Reply, WireError> {
        let dir = PathBuf::from(request.dir);
        let layer = if request.location.is_empty() {
            None
        } else {
            let location = Location::parse(&request.location)?;
            let changed_here = !request.only.is_empty();
            let known = changed_here.then(|| shared::read_fetched(&location, &dir)).flatten();
            Some(Arc::new(match known {
                Some(layer) => layer,
                None => shared::read(&location, &dir).await?,
            }))
        };
        let options = builder::Options {
            root: PathBuf::from(request.root),
            dir,
            force: request.force,
            threads: builder_threads(),
            batch_rows: BATCH_ROWS,
            only: (!request.only.is_empty()).then(|| Only::new(request.only)),
            cache: (!request.cache.is_empty()).then(|| PathBuf::from(request.cache)),
            max_bytes: request.max_bytes,
            location: None,
            layer,
        };
        let cancel = Arc::new(AtomicBool::new(false));
        let (sender, mut receiver) = mpsc::channel(16);
        let progress: builder::OnProgress = Arc::new(move |progress| {
            // A reader that is behind misses a step; the last one always comes.
            let _ = sender.try_send(progress);
        });
        let (ask, mut asked) = mpsc::channel(1);
        let embedder =
            match request.embedder {
                Some(r) => Some(Arc::new(Remote::new(r.name, r.dims as usize, r.price, ask))
                    as Arc<dyn Embedder>),
                None => self.embedder.clone(),
            };
        let mut batch = 0;
        let build = builder::run(
            options,
            Arc::clone(&self.session),
            embedder,
            progress,
            Arc::clone(&cancel),
        );
        let mut build = std::pin::pin!(build);
        loop {
            tokio::select! {
                built = &mut build => {
                    let built = built?;
                    if request.folders {
                        for some in built.folders.chunks(FOLDERS_PER_EVENT) {
                            let _ = cx.emit(Event::Folders(some.to_vec())).await;
                        }
                    }
                    for some in built.ignored.chunks(FOLDERS_PER_EVENT) {
                        let _ = cx.emit(Event::Ignored(some.to_vec())).await;
                    }
                    return Ok(Reply::Built(built.report));
                }
                Some(progress) = receiver.recv() => {
                    if cx.emit(Event::Progress(progress)).await.is_err() {
                        cancel.store(true, Ordering::Relaxed);
                    }
                }
                Some(ask) = asked.recv() => {
                    let event = match ask {
                        Ask::Notice(text) => Event::Notice(text),
                        Ask::Embed { texts, answer } => {
                            batch += 1;
                            self.batches.lock().await.insert(batch, answer);
                            Event::Embed(index::Embed { batch, texts })
                        }
                    };
                    if cx.emit(event).await.is_err() {
                        cancel.store(true, Ordering::Relaxed);
                        self.batches.lock().await.clear();
                    }
                }
                () = cx.cancelled().cancelled(), if !cancel.load(Ordering::Relaxed) => {
                    cancel.store(true, Ordering::Relaxed);
                    // Whoever waits for vectors waits no longer.
                    self.batches.lock().await.clear();
                }
            }
        }
    }
}

impl Handler<IndexProtocol> for Server {
    async fn handle(&self, request: Request, cx: Cx<IndexProtocol>) -> Result<Reply, WireError> {
        match (request, self.role) {
            (Request::Ping, _) => Ok(Reply::Pong),
            (Request::Search(request), Role::Worker) => {
                let reply = self.search(request).await;
                self.rest.answered();
                reply
            }
            (Request::Stats { dir }, Role::Worker) => {
                Ok(Reply::Stats(self.index(&dir, "this workspace").await?.stats()))
            }
            (Request::Build(request), Role::Build) => self.build(request, &cx).await,
            (Request::Tidy(request), Role::Build) => {
                let dir = PathBuf::from(request.dir);
                Ok(Reply::Tidied(builder::tidy(&dir, Arc::clone(&self.session)).await?))
            }
            (Request::Vectors(vectors), Role::Build) => {
                if let Some(answer) = self.batches.lock().await.remove(&vectors.batch) {
                    let _ = answer.send(match vectors.error {
                        Some(error) => Err(error),
                        None => Ok(vectors.vectors),
                    });
                }
                Ok(Reply::Done)
            }
            (Request::Shutdown, _) => {
                // The reply leaves first; the engine closes its end, which ends `run`.
                Ok(Reply::Done)
            }
            (_, role) => Err(WireError::new(
                ErrorKind::Unsupported,
                format!("not a request for a {role:?} process"),
            )),
        }
    }
}

/// Threads that cut files: what the machine has, the writer's share left out.
pub fn builder_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8)
}

/// For a process that only answers.
pub fn one_thread() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()
}

/// For a build: LanceDB makes its full-text index in tasks, which one thread would do one
/// after the other.
pub fn many_threads() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(builder_threads())
        .enable_all()
        .max_blocking_threads(4)
        .build()
}

/// Serves the connection on descriptor `fd` until its other end closes.
pub fn run(role: Role, fd: RawFd) -> anyhow::Result<()> {
    die_with_parent();
    anyhow::ensure!(
        is_socket(fd),
        "descriptor {fd} is not a socket; the engine starts this program"
    );
    // SAFETY: the engine gave us this descriptor to own; it is open (checked above) and
    // nothing else in this process knows its number.
    let stream = unsafe { std::os::unix::net::UnixStream::from_raw_fd(fd) };
    stream.set_nonblocking(true)?;
    let runtime = match role {
        Role::Worker => one_thread()?,
        Role::Build => many_threads()?,
    };
    runtime.block_on(async {
        let stream = tokio::net::UnixStream::from_std(stream)?;
        let ident =
            Ident { name: "lapce-ai-index".into(), version: env!("CARGO_PKG_VERSION").into() };
        let server = Arc::new(Server::new(role));
        let rest = Arc::clone(&server.rest).watch(async || {
            for (_, index) in server.open.lock().await.iter() {
                index.let_go();
            }
        });
        tokio::select! {
            served = serve::<IndexProtocol, Server>(stream, ident, Arc::clone(&server)) => served?,
            () = rest => {}
        }
        anyhow::Ok(())
    })?;
    // Threads of a cancelled build must not hold the process.
    runtime.shutdown_background();
    Ok(())
}

/// The kernel ends this process with the one that started it.
fn die_with_parent() {
    // SAFETY: PR_SET_PDEATHSIG takes a signal number and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

fn is_socket(fd: RawFd) -> bool {
    // SAFETY: an all-zero stat is a valid value to be overwritten; fstat writes only into it.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        libc::fstat(fd, &raw mut stat) == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFSOCK
    }
}

/// For the command line: an open index without a server.
pub async fn open(dir: &Path, root: &str) -> Result<Index, Error> {
    Index::open(dir, root, &store::session(WORKER_INDEX_CACHE, WORKER_METADATA_CACHE)).await
}
