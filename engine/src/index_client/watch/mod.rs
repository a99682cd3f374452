//! Keeps the indexes of open workspaces up to date.
//!
//! A workspace is watched for as long as a client holds a [`Watch`] of it. One task each: it
//! builds, watches the folders that the build names ([`folders`]), gathers changes
//! ([`pending`]) and updates what changed, when it has been quiet for a moment. Where the
//! kernel has no more watches it looks through the workspace now and then. Nothing that
//! happens in a workspace makes it do anything else than to start an index build, which runs
//! at low priority within limits of its own.

mod folders;
mod git;
mod pending;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapce_ai_ipc::wire::engine::{BuildReport, Event, WatchState};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::build::{Builds, Spec, Told};
use super::{Place, disk, meta};
use crate::limits;
use crate::workspace::Root;
use folders::{Change, Folders, TooMany};
use pending::{Pending, Work};

/// Every watched workspace.
#[derive(Default)]
pub(super) struct Watchers {
    active: Arc<Mutex<BTreeMap<Root, Arc<Watched>>>>,
    end: CancellationToken,
}

/// What is known of a watched workspace.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) state: WatchState,
    /// Changes that wait, and those that an update is at work on.
    pub(super) waiting: u64,
    pub(super) at_work: u64,
    pub(super) head: String,
}

struct Watched {
    seen: Mutex<Seen>,
    events: broadcast::Sender<Event>,
    /// Holders of a `Watch`.
    holders: Mutex<usize>,
    end: CancellationToken,
}

/// Keeps an index up to date until it is dropped.
pub struct Watch {
    root: Root,
    watched: Arc<Watched>,
    active: Arc<Mutex<BTreeMap<Root, Arc<Watched>>>>,
    events: broadcast::Receiver<Event>,
}

impl Watch {
    /// What its updates say; `None` when it has ended. A slow listener misses some.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Ok(event) => return Some(event),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                () = self.watched.end.cancelled() => return None,
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut active = lock(&self.active);
        let mut holders = lock(&self.watched.holders);
        *holders -= 1;
        if *holders == 0 {
            self.watched.end.cancel();
            active.remove(&self.root);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watchers {
    pub(super) fn watch(
        &self,
        root: &Root,
        place: Place,
        builds: Arc<Builds>,
    ) -> Result<Watch, WireError> {
        let mut active = lock(&self.active);
        let watched = match active.get(root) {
            Some(watched) => watched.clone(),
            None if active.len() >= limits::WATCHED_ROOTS => {
                let what = format!("{} workspaces are watched already", active.len());
                return Err(WireError::new(ErrorKind::Limit, what)
                    .hint("close one; `lapce-ai index` brings an index up to date by hand"));
            }
            None => {
                let watched = Arc::new(Watched {
                    seen: Mutex::default(),
                    events: broadcast::Sender::new(limits::WATCH_LISTENER),
                    holders: Mutex::default(),
                    end: self.end.child_token(),
                });
                active.insert(root.clone(), watched.clone());
                let index_dir = root.index_dir(&place.index_root);
                let keeper = Keeper {
                    root: root.clone(),
                    place,
                    index_dir,
                    builds,
                    watched: watched.clone(),
                    pending: Pending::default(),
                    folders: None,
                    git: None,
                    said: String::new(),
                };
                tokio::spawn(keeper.keep());
                watched
            }
        };
        *lock(&watched.holders) += 1;
        let events = watched.events.subscribe();
        Ok(Watch { root: root.clone(), watched, active: self.active.clone(), events })
    }

    pub(super) fn seen(&self, root: &Root) -> Seen {
        lock(&self.active).get(root).map(|w| lock(&w.seen).clone()).unwrap_or_default()
    }

    pub(super) fn by_name(&self, name: &str) -> Option<(Root, Seen)> {
        let active = lock(&self.active);
        let (root, watched) = active.iter().find(|(root, _)| root.as_str() == name)?;
        Some((root.clone(), lock(&watched.seen).clone()))
    }

    pub(super) fn end(&self) {
        self.end.cancel();
    }
}

/// The task of one workspace.
struct Keeper {
    root: Root,
    place: Place,
    index_dir: PathBuf,
    builds: Arc<Builds>,
    watched: Arc<Watched>,
    pending: Pending,
    /// `None`: the kernel does not tell; the workspace is looked through now and then.
    folders: Option<Folders>,
    git: Option<PathBuf>,
    /// The last failure, said once.
    said: String,
}

impl Keeper {
    async fn keep(mut self) {
        let end = self.watched.end.clone();
        // However this task ends, the holders hear of it.
        let _ended: DropGuard = end.clone().drop_guard();
        tokio::select! {
            biased;
            () = end.cancelled() => {}
            () = self.run() => {}
        }
        tracing::debug!(root = %self.root, "watch ended");
    }

    async fn run(&mut self) {
        self.git = git::folder(self.root.path());
        self.folders = Folders::open(self.root.path())
            .inspect_err(|error| tracing::warn!(root = %self.root, %error, "cannot watch"))
            .ok();
        if let (Some(folders), Some(git)) = (&mut self.folders, &self.git) {
            folders.add_git(git);
        }
        let mut scanning = self.folders.is_none();
        self.set_state(scanning);
        let mut scan_every = limits::SCAN_EVERY;
        let mut not_before = Instant::now();
        let mut failures = 0_u32;
        let mut built = false;
        self.pending.everything(Instant::now());
        loop {
            if !self.wait(not_before, scanning.then_some(scan_every)).await {
                return;
            }
            self.let_git_finish().await;
            if built && meta::read(&self.index_dir).is_none() {
                self.say(Event::Notice(format!(
                    "the index of {} was removed; it is no longer watched",
                    self.root
                )));
                return;
            }
            let work = self.pending.take();
            let began = Instant::now();
            let told = Arc::new(Mutex::new(Told::default()));
            let outcome = self.update(&work, told.clone()).await;
            let now = Instant::now();
            let took = now - began;
            not_before = now + pending::rest(took);
            match outcome {
                Ok(report) => {
                    built = true;
                    failures = 0;
                    self.said.clear();
                    self.say(Event::Indexed(report));
                    let told = std::mem::take(&mut *lock(&told));
                    self.pending.ignore(told.ignored);
                    if self.follow(&work, &told.folders, told.too_many).await.is_err() {
                        tracing::info!(root = %self.root, "too many folders to watch");
                        if let Some(folders) = &mut self.folders {
                            folders.clear();
                        }
                        scanning = true;
                        self.set_state(true);
                    }
                    if scanning {
                        let most = limits::WATCH_RETRY_MOST.max(limits::SCAN_EVERY);
                        scan_every = (took * limits::SCAN_REST).clamp(limits::SCAN_EVERY, most);
                    }
                }
                Err(error) => {
                    self.pending.put_back(&work, now);
                    let pause = limits::WATCH_RETRY * 2_u32.saturating_pow(failures.min(16));
                    not_before = now + pause.min(limits::WATCH_RETRY_MOST);
                    failures += 1;
                    // Someone else's build by hand is no failure.
                    if error.kind != ErrorKind::Conflict && error.message != self.said {
                        tracing::warn!(root = %self.root, %error, "update failed");
                        self.said.clone_from(&error.message);
                        let hint = if error.hint.is_empty() {
                            String::new()
                        } else {
                            format!("; {}", error.hint)
                        };
                        self.say(Event::Notice(format!("{}{hint}", error.message)));
                    }
                }
            }
            self.count(&Work::Some(Vec::new()));
        }
    }

    /// Gathers changes until an update is due; false when the workspace is gone.
    async fn wait(&mut self, not_before: Instant, scan_every: Option<Duration>) -> bool {
        let scan_at = scan_every.map(|every| Instant::now() + every);
        loop {
            let due = self.pending.due().map(|due| due.max(not_before));
            let wake = match (due, scan_at) {
                (Some(due), _) => Some(due),
                (None, scan_at) => scan_at,
            };
            let sleep = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                changes = changes(&mut self.folders) => {
                    if !self.note(changes) {
                        return false;
                    }
                }
                () = sleep => {
                    if due.is_none() {
                        self.pending.everything(Instant::now());
                    }
                    return true;
                }
            }
        }
    }

    /// A checkout in progress changes more in a moment.
    async fn let_git_finish(&mut self) {
        let Some(git) = self.git.clone() else { return };
        let deadline = Instant::now() + limits::WATCH_GIT;
        while git::busy(&git) && Instant::now() < deadline {
            tokio::time::sleep(limits::WATCH_GIT_POLL).await;
        }
    }

    async fn update(
        &mut self,
        work: &Work,
        told: Arc<Mutex<Told>>,
    ) -> Result<BuildReport, WireError> {
        let only = match work {
            Work::All => Vec::new(),
            Work::Some(paths) => paths.clone(),
        };
        self.count(work);
        let spec = Spec { only, alone: true, told: Some(told), ..self.place.spec(&self.root)? };
        let (sender, mut progress) = mpsc::channel(limits::BUILD_EVENTS);
        let builds = self.builds.clone();
        let root = self.root.clone();
        let build = async move { builds.build(&root, spec, sender).await };
        tokio::pin!(build);
        loop {
            tokio::select! {
                biased;
                outcome = &mut build => {
                    let root = self.place.index_root.clone();
                    return outcome.map_err(|error| disk::offer(&root, &self.root, error));
                }
                Some(event) = progress.recv() => self.say(event),
                changes = changes(&mut self.folders) => {
                    // That the workspace is gone the build will say.
                    self.note(changes);
                    self.count(work);
                }
            }
        }
    }

    /// False when the workspace is gone.
    fn note(&mut self, changes: std::io::Result<Vec<Change>>) -> bool {
        let now = Instant::now();
        let changes = match changes {
            Ok(changes) => changes,
            Err(error) => {
                tracing::warn!(root = %self.root, %error, "the kernel no longer tells of changes");
                self.folders = None;
                self.set_state(true);
                vec![Change::Everything]
            }
        };
        for change in changes {
            match change {
                Change::Path(path) => self.pending.changed(&path, now),
                Change::Everything => self.pending.everything(now),
                Change::Head => {
                    let head = self.git.as_deref().map(git::head).unwrap_or_default();
                    let mut seen = lock(&self.watched.seen);
                    let switched = std::mem::replace(&mut seen.head, head) != seen.head;
                    let scanning = seen.state == WatchState::Scanning;
                    drop(seen);
                    // What is watched tells of its files itself.
                    if switched && scanning {
                        self.pending.everything(now);
                    }
                }
                Change::Gone => return false,
            }
        }
        self.count(&Work::Some(Vec::new()));
        true
    }

    /// Watches the folders that an update looked into. What changed in a new one before it
    /// was watched is looked at once more.
    async fn follow(
        &mut self,
        work: &Work,
        named: &[String],
        too_many: bool,
    ) -> Result<(), TooMany> {
        let Some(folders) = &mut self.folders else { return Ok(()) };
        if lock(&self.watched.seen).state == WatchState::Scanning {
            return Ok(());
        }
        if too_many {
            return Err(TooMany);
        }
        let now = Instant::now();
        if *work == Work::All {
            folders.keep(named);
        }
        let mut added = Vec::new();
        for some in named.chunks(limits::WATCH_ADD) {
            for folder in some {
                if folders.add(folder)? {
                    added.push(folder);
                }
            }
            // Others are served in between.
            tokio::task::yield_now().await;
        }
        tracing::debug!(root = %self.root, watched = folders.len(), new = added.len(), "folders");
        if added.iter().any(|folder| folder.is_empty()) {
            self.pending.everything(now);
        } else {
            for folder in added {
                self.pending.changed(folder, now);
            }
        }
        Ok(())
    }

    /// Tells `status` how much waits, and how much `work` is.
    fn count(&self, work: &Work) {
        let mut seen = lock(&self.watched.seen);
        seen.waiting = self.pending.len();
        seen.at_work = match work {
            Work::All => 0,
            Work::Some(paths) => paths.len() as u64,
        };
    }

    fn set_state(&self, scanning: bool) {
        let mut seen = lock(&self.watched.seen);
        seen.state = if scanning { WatchState::Scanning } else { WatchState::Watching };
        seen.head = self.git.as_deref().map(git::head).unwrap_or_default();
    }

    fn say(&self, event: Event) {
        // Nobody listening is no error.
        let _ = self.watched.events.send(event);
    }
}

/// Changes that the kernel tells of; never, when it does not.
async fn changes(folders: &mut Option<Folders>) -> std::io::Result<Vec<Change>> {
    match folders {
        Some(folders) => folders.changes().await,
        None => std::future::pending().await,
    }
}
