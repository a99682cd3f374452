//! The engine, whichever process it is just now: a client that outlives engines.
//!
//! For front ends that live longer than an engine may (the language server, the terminal
//! UI). Connects when it is first asked for something, and anew when that connection is
//! lost. What a caller may rely on when the engine ends under it:
//!
//! - a request without effects is asked once more, of the next engine;
//! - any other ends with [`CallError::EngineLost`]: whether it was carried out is not known,
//!   so repeating it is up to whoever asked;
//! - a stream ends with that error; what a [`Following`] follows, it follows again;
//! - an engine that cannot be had is tried for again after a pause that grows, in which
//!   requests are answered at once with the reason. A part of the pause is random: many
//!   windows lose one engine at the same moment.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::client::{Client, Transport};
use crate::engine_client::{EngineCall, EngineClient};
use crate::error::{CallError, NoEngine};
use crate::launch::{self, LaunchError};
use crate::limits::{RECONNECT_MAX, RECONNECT_MIN};
use crate::paths::Paths;
use crate::protocol::{EngineProtocol, Ident};
use crate::sys;
use crate::wire::engine::{
    Answer, Ask, AskReply, Complete, CompleteReply, Edit, EditReply, Event, McpOrder, McpReply,
    Run, RunReply, Search, SearchReply, Status, Undo, UndoReply, Watch,
};

/// A connection that is being made.
pub type Connecting =
    Pin<Box<dyn Future<Output = Result<Client<EngineProtocol>, LaunchError>> + Send>>;

/// Whether an engine may be started for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Allowed,
    Never,
}

/// The engine. Clones share the connection.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

struct Shared {
    connect: Box<dyn Fn(Start) -> Connecting + Send + Sync>,
    /// The connection, while it lasts.
    client: watch::Sender<Option<EngineClient>>,
    /// One attempt at a time; the others wait for its outcome.
    attempt: tokio::sync::Mutex<Backoff>,
}

#[derive(Default)]
struct Backoff {
    pause: Pause,
    /// No further attempt before this, and why the last one failed.
    failed: Option<(Instant, NoEngine)>,
}

impl Engine {
    /// The user's engine, started by the first request when it does not run.
    pub fn new(paths: Paths, ident: Ident, transport: Transport) -> Self {
        Self::with(move |start| {
            let (paths, ident) = (paths.clone(), ident.clone());
            Box::pin(async move {
                match start {
                    Start::Allowed => launch::connect_or_start_over(&paths, ident, transport).await,
                    Start::Never => launch::connect_over(&paths, ident, transport).await,
                }
            })
        })
    }

    /// An engine that is reached as `connect` says.
    pub fn with(connect: impl Fn(Start) -> Connecting + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            connect: Box::new(connect),
            client: watch::Sender::new(None),
            attempt: tokio::sync::Mutex::default(),
        }))
    }

    /// The connection, made if need be.
    pub async fn client(&self) -> Result<EngineClient, NoEngine> {
        if let Some(client) = self.alive() {
            return Ok(client);
        }
        let mut backoff = self.0.attempt.lock().await;
        if let Some(client) = self.alive() {
            return Ok(client);
        }
        let again = backoff.failed.is_some();
        if let Some((until, error)) = &backoff.failed
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        match (self.0.connect)(Start::Allowed).await {
            Ok(client) => {
                *backoff = Backoff::default();
                Ok(self.take_in(client))
            }
            Err(error) => {
                let (message, hint) = (error.to_string(), error.hint());
                let error = NoEngine { message, hint, again };
                let until = Instant::now() + backoff.pause.next();
                backoff.failed = Some((until, NoEngine { again: true, ..error.clone() }));
                Err(error)
            }
        }
    }

    /// The connection, if there is one.
    pub fn alive(&self) -> Option<EngineClient> {
        self.0.client.borrow().as_ref().filter(|client| !client.0.is_closed()).cloned()
    }

    /// Waits until somebody has connected; connects to none and starts none.
    pub async fn connected(&self) -> EngineClient {
        let mut changes = self.0.client.subscribe();
        loop {
            if let Some(client) = self.alive() {
                return client;
            }
            // The sender lives in `self`.
            let _ = changes.changed().await;
        }
    }

    /// Connects to an engine that somebody else has started.
    async fn join(&self) {
        let _attempt = self.0.attempt.lock().await;
        if self.alive().is_none()
            && let Ok(client) = (self.0.connect)(Start::Never).await
        {
            self.take_in(client);
        }
    }

    fn take_in(&self, client: Client<EngineProtocol>) -> EngineClient {
        let client = EngineClient(client);
        let (gone, shared) = (client.0.gone(), Arc::downgrade(&self.0));
        self.0.client.send_replace(Some(client.clone()));
        // Memory and descriptors of a lost connection are not kept until the next request.
        tokio::spawn(async move {
            gone.cancelled().await;
            if let Some(shared) = Weak::upgrade(&shared) {
                shared.client.send_if_modified(|client| {
                    if client.as_ref().is_some_and(|client| client.0.is_closed()) {
                        *client = None;
                    }
                    false
                });
            }
        });
        client
    }

    /// A request without effects.
    async fn twice<R, F>(&self, ask: impl Fn(EngineClient) -> F) -> Result<R, CallError>
    where
        F: Future<Output = Result<R, CallError>>,
    {
        match ask(self.client().await?).await {
            Err(CallError::Disconnected(_)) => {
                ask(self.client().await?).await.map_err(CallError::of_engine)
            }
            done => done,
        }
    }

    /// Any other request.
    async fn once<R, F>(&self, ask: impl FnOnce(EngineClient) -> F) -> Result<R, CallError>
    where
        F: Future<Output = Result<R, CallError>>,
    {
        ask(self.client().await?).await.map_err(CallError::of_engine)
    }

    async fn stream<R>(
        &self,
        start: impl FnOnce(&EngineClient) -> EngineCall<R>,
    ) -> Result<EngineCall<R>, CallError> {
        Ok(start(&self.client().await?).of_engine())
    }

    pub async fn ping(&self) -> Result<(), CallError> {
        self.twice(|client| async move { client.ping().await }).await
    }

    pub async fn status(&self) -> Result<Status, CallError> {
        self.twice(|client| async move { client.status().await }).await
    }

    pub async fn search(&self, search: Search) -> Result<SearchReply, CallError> {
        let search = &search;
        self.twice(|client| async move { client.search(search.clone()).await }).await
    }

    pub async fn complete(&self, complete: Complete) -> Result<CompleteReply, CallError> {
        self.once(|client| async move { client.complete(complete).await }).await
    }

    pub async fn undo(&self, undo: Undo) -> Result<UndoReply, CallError> {
        self.once(|client| async move { client.undo(undo).await }).await
    }

    pub async fn mcp(&self, root: &str, order: McpOrder) -> Result<McpReply, CallError> {
        self.once(|client| async move { client.mcp(root, order).await }).await
    }

    pub async fn answer(&self, answer: Answer) -> Result<(), CallError> {
        self.once(|client| async move { client.answer(answer).await }).await
    }

    pub async fn cancel_run(&self, run_id: &str) -> Result<(), CallError> {
        self.once(|client| async move { client.cancel_run(run_id).await }).await
    }

    pub async fn ask(&self, ask: Ask) -> Result<EngineCall<AskReply>, CallError> {
        self.stream(|client| client.ask(ask)).await
    }

    pub async fn run(&self, run: Run) -> Result<EngineCall<RunReply>, CallError> {
        self.stream(|client| client.run(run)).await
    }

    pub async fn edit(&self, edit: Edit) -> Result<EngineCall<EditReply>, CallError> {
        self.stream(|client| client.edit(edit)).await
    }

    /// Keeps an index up to date until the call is dropped or the engine ends.
    pub async fn watch(&self, watch: Watch) -> Result<EngineCall<()>, CallError> {
        self.stream(|client| client.watch(watch)).await
    }

    /// Follows what waits for an answer in `root`, with one engine after the other. Starts
    /// none, but once it has followed one it looks for the next.
    pub fn follow(&self, root: impl Into<String>) -> Following {
        Following {
            engine: self.clone(),
            root: root.into(),
            call: None,
            last: None,
            look: None,
            pause: Pause::default(),
        }
    }
}

/// What an engine tells whoever follows it, and that it is another one.
#[expect(clippy::large_enum_variant, reason = "nearly all are events, and none is kept")]
#[derive(Debug)]
pub enum Followed {
    /// An engine, which knows nothing of what its predecessor was told.
    Began(EngineClient),
    Event(Event),
    /// It told its last; what waited for an answer waits no more.
    Ended,
}

/// A `Follow` that goes on with the next engine. Dropping it ends it.
pub struct Following {
    engine: Engine,
    root: String,
    call: Option<EngineCall<()>>,
    /// The connection that was followed last: not to be followed twice.
    last: Option<EngineClient>,
    /// When to look for another engine.
    look: Option<tokio::time::Instant>,
    pause: Pause,
}

impl Following {
    /// What comes next, for ever. Nothing is lost when this future is dropped.
    pub async fn next(&mut self) -> Followed {
        if let Some(call) = &mut self.call {
            if let Some(event) = call.next().await {
                return Followed::Event(event);
            }
            self.call = None;
            return Followed::Ended;
        }
        if let Some(last) = &self.last {
            // If it has not ended, it does not want to be followed.
            last.0.closed().await;
            self.last = None;
            self.look = Some(tokio::time::Instant::now() + self.pause.next());
        }
        let client = loop {
            let Some(at) = self.look else { break self.engine.connected().await };
            tokio::select! {
                client = self.engine.connected() => break client,
                () = tokio::time::sleep_until(at) => {}
            }
            self.engine.join().await;
            self.look = Some(tokio::time::Instant::now() + self.pause.next());
        };
        self.pause = Pause::default();
        self.call = Some(client.follow(self.root.clone()));
        self.last = Some(client.clone());
        Followed::Began(client)
    }
}

/// Pauses between attempts: each twice as long as the one before, half of it random.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(RECONNECT_MIN)
    }
}

impl Pause {
    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(RECONNECT_MAX);
        let mut random = [0];
        // Without random bytes all come at the same time, which works too.
        let _ = sys::random(&mut random);
        pause / 2 + pause / 2 * u32::from(random[0]) / 255
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_differ() {
        let mut pause = Pause::default();
        let first = pause.next();
        assert!(first >= RECONNECT_MIN / 2 && first <= RECONNECT_MIN);
        let many: Vec<_> = (0..50).map(|_| pause.next()).collect();
        assert!(many.iter().all(|p| *p <= RECONNECT_MAX));
        assert!(many[20..].iter().all(|p| *p >= RECONNECT_MAX / 2));
        assert!(many[20..].iter().any(|p| *p != many[20]), "{many:?}");
    }

    #[tokio::test]
    async fn an_engine_that_cannot_be_had_is_tried_for_once_and_said_once() {
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tries);
        let engine = Engine::with(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Err(LaunchError::Missing) })
        });
        let first = engine.client().await.unwrap_err();
        assert!(!first.again);
        for _ in 0..3 {
            let error = engine.status().await.unwrap_err();
            let CallError::NoEngine(error) = error else { panic!("{error}") };
            assert!(error.again);
            assert_eq!(error.message, first.message);
        }
        assert_eq!(tries.load(Ordering::SeqCst), 1, "no attempt within the pause");
    }
}
