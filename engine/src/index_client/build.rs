//! Builds: one `lapce-ai-index build` per workspace at a time.
//!
//! Whoever asks for a build that is under way joins it and sees the same progress. When the
//! last one that waits goes away the build is cancelled. When an index has grown ragged it is
//! tidied some quiet time later; whoever wants to build meanwhile goes first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lapce_ai_ipc::wire::engine::{BuildReport, Event};
use lapce_ai_ipc::wire::index::{self, Progress};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{Call, CallError, Client, IndexProtocol};
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Embedding, IndexProcess, Source, call_failed, start, unexpected};
use crate::limits;
use crate::workspace::Root;

type Outcome = Result<BuildReport, WireError>;

/// Every build in progress.
pub(super) struct Builds {
    active: Mutex<BTreeMap<Root, Arc<Build>>>,
    slots: Semaphore,
    /// Workspaces whose index waits to be tidied.
    tidying: Mutex<BTreeSet<Root>>,
    end: CancellationToken,
    activity: Arc<Notify>,
    embedder: Source,
}

/// What a build is to do.
#[derive(Debug, Clone, Default)]
pub(super) struct Spec {
    /// Index folder, and that of the cache of chunks.
    pub(super) dir: String,
    pub(super) cache: String,
    pub(super) max_bytes: u64,
    /// The shared index below, as the user configured it.
    pub(super) location: Option<String>,
    pub(super) force: bool,
    /// Files and folders to look at; empty for all.
    pub(super) only: Vec<String>,
    /// Joins no build: what changed just now may have been passed by it.
    pub(super) alone: bool,
    /// Where to put what a watcher wants to know.
    pub(super) told: Option<Arc<Mutex<Told>>>,
    /// Only join what updates have left in pieces.
    pub(super) tidy: bool,
}

/// What a build tells a watcher.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) folders: Vec<String>,
    /// There are more folders than are watched.
    pub(super) too_many: bool,
    pub(super) ignored: Vec<String>,
}

impl Spec {
    /// Whether a build by `self` does what `wanted` is asked to do.
    fn covers(&self, wanted: &Self) -> bool {
        !wanted.alone && !self.tidy && self.only.is_empty() && (self.force || !wanted.force)
    }
}

struct Build {
    root: Root,
    spec: Spec,
    events: broadcast::Sender<Event>,
    outcome: watch::Sender<Option<Outcome>>,
    cancel: CancellationToken,
    shared: Mutex<Shared>,
    /// 0 while there is no process.
    pid: AtomicU32,
}

#[derive(Default)]
struct Shared {
    waiting: usize,
    progress: Option<Progress>,
}

impl Build {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, event: Event) {
        if let Event::Progress(progress) = &event {
            self.shared().progress = Some(progress.clone());
        }
        // Nobody listening is no error.
        let _ = self.events.send(event);
    }

    fn tell(&self, to: impl FnOnce(&mut Told)) {
        if let Some(told) = &self.spec.told {
            to(&mut told.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn cancelled(&self) -> WireError {
        WireError::new(ErrorKind::Cancelled, format!("indexing of {} was cancelled", self.root))
    }
}

/// One caller's interest in a build.
struct Interest(Arc<Build>);

impl Interest {
    /// `None` when the build has been given up already.
    fn join(build: &Arc<Build>) -> Option<Self> {
        let mut shared = build.shared();
        if build.cancel.is_cancelled() {
            return None;
        }
        shared.waiting += 1;
        drop(shared);
        Some(Self(build.clone()))
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let mut shared = self.0.shared();
        shared.waiting -= 1;
        if shared.waiting == 0 {
            self.0.cancel.cancel();
        }
    }
}

impl Builds {
    pub(super) fn new(activity: Arc<Notify>, embedder: Source) -> Self {
        Self {
            active: Mutex::default(),
            slots: Semaphore::new(limits::BUILDS),
            tidying: Mutex::default(),
            end: CancellationToken::new(),
            activity,
            embedder,
        }
    }

    fn active(&self) -> MutexGuard<'_, BTreeMap<Root, Arc<Build>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.active().len()
    }

    /// Workspaces whose index is being built.
    pub(super) fn roots(&self) -> Vec<Root> {
        let active = self.active();
        active.values().filter(|b| !b.spec.tidy).map(|b| b.root.clone()).collect()
    }

    pub(super) fn processes(&self) -> Vec<IndexProcess> {
        self.active()
            .values()
            .map(|build| (build.pid.load(Ordering::Relaxed), build.root.clone()))
            .filter(|(pid, _)| *pid != 0)
            .map(|(pid, root)| IndexProcess { pid, root: Some(root) })
            .collect()
    }

    pub(super) fn behind(&self, root: &Root) -> u64 {
        let build = self.active().get(root).cloned();
        let progress = build.and_then(|build| build.shared().progress.clone());
        progress.map_or(0, |p| p.files_total.saturating_sub(p.files_done))
    }

    /// See `IndexClient::build`.
    pub(super) async fn build(
        self: &Arc<Self>,
        root: &Root,
        spec: Spec,
        events: mpsc::Sender<Event>,
    ) -> Outcome {
        loop {
            let (build, interest, mut heard) = self.open(root, &spec)?;
            let mut outcome = build.outcome.subscribe();
            let Some(_interest) = interest else {
                // Given up, or not what we want: wait for its end, then start our own.
                finished(&mut outcome).await;
                continue;
            };
            loop {
                tokio::select! {
                    biased;
                    event = heard.recv() => match event {
                        Ok(event @ Event::Progress(_)) => {
                            let _ = events.try_send(event);
                        }
                        Ok(event) => {
                            let _ = events.send(event).await;
                        }
                        Err(broadcast::error::RecvError::Lagged(_)) => {}
                        // Every `Build` keeps a sender.
                        Err(broadcast::error::RecvError::Closed) => return Err(build.cancelled()),
                    },
                    done = finished(&mut outcome) => {
                        return done.unwrap_or_else(|| Err(build.cancelled()));
                    }
                }
            }
        }
    }

    /// The build of `root`: the one in progress or a new one, and our interest in it.
    #[expect(clippy::type_complexity, reason = "one caller, and a name would say less")]
    fn open(
        self: &Arc<Self>,
        root: &Root,
        spec: &Spec,
    ) -> Result<(Arc<Build>, Option<Interest>, broadcast::Receiver<Event>), WireError> {
        let mut active = self.active();
        if self.end.is_cancelled() {
            return Err(WireError::new(ErrorKind::Cancelled, "the engine is ending"));
        }
        if let Some(build) = active.get(root) {
            let events = build.events.subscribe();
            if build.spec.tidy {
                build.cancel.cancel();
            }
            let fits = build.spec.covers(spec);
            let interest = if fits { Interest::join(build) } else { None };
            return Ok((build.clone(), interest, events));
        }
        let (sender, events) = broadcast::channel(limits::BUILD_EVENTS);
        let build = Arc::new(Build {
            root: root.clone(),
            spec: spec.clone(),
            events: sender,
            outcome: watch::Sender::new(None),
            cancel: self.end.child_token(),
            shared: Mutex::default(),
            pid: AtomicU32::new(0),
        });
        let interest = Interest::join(&build);
        active.insert(root.clone(), build.clone());
        tokio::spawn(self.clone().drive(build.clone()));
        Ok((build, interest, events))
    }

    /// Runs one build to its end, whatever that is.
    async fn drive(self: Arc<Self>, build: Arc<Build>) {
        let outcome = self.run(&build).await;
        match &outcome {
            Ok(_) if build.spec.tidy => tracing::info!(root = %build.root, "index tidied"),
            Ok(report) => tracing::info!(
                root = %build.root, files = report.files, chunks = report.chunks,
                took_ms = report.took_ms, "index built"
            ),
            Err(error) => tracing::warn!(root = %build.root, %error, "index not built"),
        }
        let tidy = outcome.as_ref().is_ok_and(|report| report.tidy);
        self.active().remove(&build.root);
        build.outcome.send_replace(Some(outcome));
        self.activity.notify_one();
        if tidy {
            tokio::spawn(self.clone().tidy_later(build.root.clone(), build.spec.dir.clone()));
        }
    }

    /// Tidies the index of `root` after some quiet. One task at a time waits for it; a build
    /// in the meantime that leaves it ragged starts the next one.
    async fn tidy_later(self: Arc<Self>, root: Root, dir: String) {
        {
            let mut waiting = self.tidying.lock().unwrap_or_else(PoisonError::into_inner);
            if !waiting.insert(root.clone()) {
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(limits::TIDY_QUIET) => {}
            () = self.end.cancelled() => {}
        }
        self.tidying.lock().unwrap_or_else(PoisonError::into_inner).remove(&root);
        let busy = self.active().contains_key(&root);
        if !busy && !self.end.is_cancelled() {
            let spec = Spec { dir, tidy: true, ..Spec::default() };
            let (events, _) = mpsc::channel(1);
            let _ = self.build(&root, spec, events).await;
        }
    }

    async fn run(&self, build: &Build) -> Outcome {
        let _slot = if let Ok(slot) = self.slots.try_acquire() {
            slot
        } else {
            build.say(Event::Notice("waiting for another index build to end".to_owned()));
            tokio::select! {
                slot = self.slots.acquire() => slot.map_err(|_| build.cancelled())?,
                () = build.cancel.cancelled() => return Err(build.cancelled()),
            }
        };
        let embedding = if build.spec.tidy { None } else { (self.embedder)()? };
        let embedder = match &embedding {
            Some(embedding) => tokio::select! {
                remote = embedding.remote() => Some(remote?),
                () = build.cancel.cancelled() => return Err(build.cancelled()),
            },
            None => None,
        };
        let credentials = match &build.spec.location {
            Some(_) => super::store_credentials(),
            None => Vec::new(),
        };
        let (mut child, client) = start("build", credentials).await?;
        build.pid.store(child.pid(), Ordering::Relaxed);
        let Spec { dir, cache, max_bytes, force, only, told, tidy, location, .. } =
            build.spec.clone();
        let (pid, some) = (child.pid(), only.len());
        tracing::info!(root = %build.root, pid, force, some, tidy, "index build started");
        let request = if tidy {
            index::Request::Tidy(index::Tidy { dir })
        } else {
            let (root, folders) = (build.root.to_string(), told.is_some());
            let location = location.unwrap_or_default();
            let build = index::Build {
                root,
                dir,
                force,
                only,
                folders,
                cache,
                max_bytes,
                location,
                embedder,
            };
            index::Request::Build(build)
        };
        let call = client.start(request);
        let outcome = tokio::select! {
            outcome = relay(build, &client, embedding.as_deref(), call) => outcome,
            () = build.cancel.cancelled() => Ok(Err(build.cancelled())),
        };
        // EOF: it has nothing more to do.
        drop(client);
        let how = child.end(limits::CHILD_GRACE).await;
        build.pid.store(0, Ordering::Relaxed);
        outcome.unwrap_or_else(|Lost| {
            let what = format!("the index build of {} {how}", build.root);
            Err(WireError::new(ErrorKind::Unavailable, what)
                .hint("the index is as it was before; run the same command again"))
        })
    }
}

/// The outcome of a build, once it is there.
async fn finished(outcome: &mut watch::Receiver<Option<Outcome>>) -> Option<Outcome> {
    outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone())
}

/// The connection to the build process ended before its reply.
struct Lost;

/// Passes the events of `call` on until its reply.
async fn relay(
    build: &Build,
    client: &Client<IndexProtocol>,
    embedding: Option<&Embedding>,
    mut call: Call<IndexProtocol>,
) -> Result<Outcome, Lost> {
    while let Some(event) = call.next().await {
        match event {
            index::Event::Progress(progress) => build.say(Event::Progress(progress)),
            index::Event::Notice(text) => build.say(Event::Notice(text)),
            index::Event::Embed(embed) => {
                let Some(embedding) = embedding else { continue };
                let vectors = embedding.answer(embed).await;
                // Without a connection the call itself ends, too.
                let _ = client.call(index::Request::Vectors(vectors)).await;
            }
            index::Event::Folders(some) => build.tell(|told| {
                if told.folders.len() + some.len() > limits::WATCHED_FOLDERS {
                    told.too_many = true;
                    told.folders.clear();
                } else if !told.too_many {
                    told.folders.extend(some);
                }
            }),
            index::Event::Ignored(some) => build.tell(|told| {
                let room = limits::WATCH_IGNORED.saturating_sub(told.ignored.len());
                told.ignored.extend(some.into_iter().take(room));
            }),
        }
    }
    match call.finish().await {
        Ok(index::Reply::Built(report)) => Ok(Ok(report)),
        Ok(index::Reply::Tidied(_)) => Ok(Ok(BuildReport::default())),
        Ok(other) => Ok(Err(unexpected(&other))),
        Err(CallError::Disconnected(_)) => Err(Lost),
        Err(error) => Ok(Err(call_failed(error))),
    }
}

impl Builds {
    /// Cancels every build and waits for their ends; refuses new ones.
    pub(super) async fn end(&self) {
        self.end.cancel();
        let builds: Vec<_> = self.active().values().cloned().collect();
        for build in builds {
            finished(&mut build.outcome.subscribe()).await;
        }
    }
}
