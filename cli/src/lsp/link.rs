//! The connection to the engine: made when first needed, made again when it is lost.
//!
//! The engine is started by whoever needs it first. When it dies, the user is told once, the
//! requests under way end with errors, and the next request connects anew; after failed
//! attempts there is a growing pause in which requests are answered at once with the error.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use lapce_ai_ipc::paths::Paths;
use lapce_ai_ipc::{EngineClient, Ident, Transport, launch};
use tokio::sync::Notify;

use super::client::{Editor, Level};
use super::limits;
use super::rpc::{Failure, REQUEST_FAILED};

pub(super) struct Link {
    paths: Paths,
    transport: Transport,
    editor: Rc<Editor>,
    client: RefCell<Option<EngineClient>>,
    /// One attempt at a time; the others wait for its outcome.
    attempt: tokio::sync::Mutex<Backoff>,
    lost_said: Cell<Option<Instant>>,
    made: Notify,
}

#[derive(Default)]
struct Backoff {
    pause: Duration,
    until: Option<Instant>,
    message: String,
}

impl Link {
    pub(super) fn new(paths: Paths, transport: Transport, editor: Rc<Editor>) -> Self {
        Self {
            paths,
            transport,
            editor,
            client: RefCell::default(),
            attempt: tokio::sync::Mutex::default(),
            lost_said: Cell::default(),
            made: Notify::new(),
        }
    }

    /// The engine, started and connected to if need be.
    pub(super) async fn engine(self: &Rc<Self>) -> Result<EngineClient, Failure> {
        if let Some(client) = self.alive() {
            return Ok(client);
        }
        let mut backoff = self.attempt.lock().await;
        if let Some(client) = self.alive() {
            return Ok(client);
        }
        if backoff.until.is_some_and(|until| Instant::now() < until) {
            return Err(Failure::new(REQUEST_FAILED, backoff.message.clone()));
        }
        let ident = Ident::new("lapce-ai-lsp", env!("CARGO_PKG_VERSION"));
        match launch::connect_or_start_over(&self.paths, ident, self.transport).await {
            Ok(client) => {
                *backoff = Backoff::default();
                let client = EngineClient::from(client);
                *self.client.borrow_mut() = Some(client.clone());
                self.made.notify_waiters();
                tokio::task::spawn_local(self.clone().watch(client.clone()));
                Ok(client)
            }
            Err(error) => {
                let message = format!("Lapce AI has no engine: {error} – {}", error.hint());
                // Said once for a row of failures.
                if backoff.until.is_none() {
                    self.editor.show(Level::Error, &message);
                }
                let pause = (backoff.pause * 2).clamp(limits::RETRY_MIN, limits::RETRY_MAX);
                let until = Some(Instant::now() + pause);
                *backoff = Backoff { pause, until, message: message.clone() };
                Err(Failure::new(REQUEST_FAILED, message))
            }
        }
    }

    /// Waits until somebody has connected to the engine; starts none.
    pub(super) async fn connected(&self) -> EngineClient {
        loop {
            let made = self.made.notified();
            if let Some(client) = self.alive() {
                return client;
            }
            made.await;
        }
    }

    pub(super) fn alive(&self) -> Option<EngineClient> {
        self.client.borrow().as_ref().filter(|client| !client.0.is_closed()).cloned()
    }

    /// Waits for the engine's end and says so.
    async fn watch(self: Rc<Self>, client: EngineClient) {
        let how = client.0.closed().await;
        *self.client.borrow_mut() = None;
        let text = format!("the Lapce AI engine ended ({how}); the next request starts it again");
        self.editor.log(&text);
        let now = Instant::now();
        let recently = self.lost_said.get().is_some_and(|at| now - at < limits::LOST_NOTICE);
        if !recently {
            self.lost_said.set(Some(now));
            self.editor.show(Level::Warning, &text);
        }
    }
}
