//! The shim's hold on the engine ([`Engine`] makes and renews the connection), and what the
//! user hears of it: once that there is none to be had, once that it has ended.

use std::rc::Rc;
use std::time::Instant;

use lapce_ai_ipc::paths::Paths;
use lapce_ai_ipc::{Engine, EngineClient, Following, Ident, Transport};

use super::client::{Editor, Level};
use super::limits;
use super::rpc::Failure;

pub(super) struct Link {
    engine: Engine,
    editor: Rc<Editor>,
}

impl Link {
    pub(super) fn new(paths: Paths, transport: Transport, editor: Rc<Editor>) -> Self {
        let ident = Ident::new("lapce-ai-lsp", env!("CARGO_PKG_VERSION"));
        Self { engine: Engine::new(paths, ident, transport), editor }
    }

    /// The engine, started and connected to if need be.
    pub(super) async fn engine(&self) -> Result<&Engine, Failure> {
        self.client().await?;
        Ok(&self.engine)
    }

    /// As [`Link::engine`], the connection of the moment.
    pub(super) async fn client(&self) -> Result<EngineClient, Failure> {
        self.engine.client().await.map_err(|error| {
            let again = error.again;
            let failure = Failure::from(error);
            // Said once for a row of failures.
            if !again {
                self.editor.show(Level::Error, &failure.message);
            }
            failure
        })
    }

    pub(super) fn alive(&self) -> Option<EngineClient> {
        self.engine.alive()
    }

    /// Waits until there is an engine; starts none.
    pub(super) async fn connected(&self) {
        self.engine.connected().await;
    }

    /// Follows all that waits for the user, once there is an engine; starts none.
    pub(super) fn follow(&self) -> Following {
        self.engine.follow("")
    }

    /// Tells the user of each engine's end. For ever.
    pub(super) async fn watch(&self) {
        let mut said: Option<Instant> = None;
        loop {
            let how = self.engine.connected().await.0.closed().await;
            let text =
                format!("the Lapce AI engine ended ({how}); the next request starts it again");
            self.editor.log(&text);
            if said.is_none_or(|at| at.elapsed() >= limits::LOST_NOTICE) {
                said = Some(Instant::now());
                self.editor.show(Level::Warning, &text);
            }
        }
    }
}
