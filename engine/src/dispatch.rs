//! From a request on a ring to the handler of its feature, and back.
//!
//! The only place that matches on `Request`. Each call gets a number and a span (call,
//! session, client) that every log line about it carries. A handler that panics is logged
//! and answered as a bug; the engine and the other calls go on.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use lapce_ai_ipc::wire::engine::{Reply, Request};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{Cx, EngineProtocol, Handler};
use tracing::Instrument as _;

use crate::handlers;
use crate::state::Engine;

/// The engine's side of every connection.
pub struct Dispatcher {
    pub engine: Arc<Engine>,
}

impl Handler<EngineProtocol> for Dispatcher {
    async fn handle(&self, request: Request, cx: Cx<EngineProtocol>) -> Result<Reply, WireError> {
        let call = self.engine.stats.next_call();
        let name = name(&request);
        let span = tracing::info_span!(
            "call", call, request = name, session = %cx.peer().session, client = %cx.peer().name
        );
        async {
            let result = guard(name, route(&self.engine, request, &cx)).await;
            match &result {
                Ok(_) => tracing::debug!("done"),
                Err(error) => tracing::info!(kind = ?error.kind, error = %error.message, "failed"),
            }
            result
        }
        .instrument(span)
        .await
    }
}

/// Turns a panic of `work` into an error of this call alone.
async fn guard<T>(
    name: &str,
    work: impl Future<Output = Result<T, WireError>>,
) -> Result<T, WireError> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| Err(bug(name, &*panic)))
}

async fn route(
    engine: &Arc<Engine>,
    request: Request,
    cx: &Cx<EngineProtocol>,
) -> Result<Reply, WireError> {
    match request {
        Request::Ping => Ok(Reply::Pong),
        Request::Status => Ok(Reply::Status(handlers::status::handle(engine))),
        Request::Stop => {
            tracing::info!("stop asked for");
            engine.shutdown.cancel();
            Ok(Reply::Done)
        }
        // The long ones are boxed: a ping must not carry their state along.
        Request::IndexBuild(r) => {
            Box::pin(handlers::index::handle(engine, r, cx)).await.map(Reply::IndexReport)
        }
        Request::Search(r) => {
            Box::pin(handlers::search::handle(engine, r)).await.map(Reply::Search)
        }
        Request::Ask(r) => Box::pin(handlers::ask::handle(engine, r, cx)).await.map(Reply::Ask),
        Request::Run(r) => Box::pin(handlers::run::handle(engine, r, cx)).await.map(Reply::Run),
        Request::Answer(answer) => {
            engine.approvals.answer(answer, &cx.peer().name).map(|()| Reply::Done)
        }
        Request::Approvals { root } => {
            let root = if root.is_empty() {
                root
            } else {
                crate::workspace::Root::open(&root)?.to_string()
            };
            Ok(Reply::Approvals(engine.approvals.list(&root)))
        }
        Request::Follow { root } => {
            Box::pin(handlers::follow::handle(engine, &root, cx)).await.map(|()| Reply::Done)
        }
        Request::Buffer { path, text } => {
            engine.buffers.set(&cx.peer().session, &path, text).map(|()| Reply::Done)
        }
        Request::CancelRun { run_id } => {
            if engine.runs.cancel(&run_id) {
                Ok(Reply::Done)
            } else {
                Err(WireError::new(ErrorKind::NotFound, format!("no run {run_id} is in progress")))
            }
        }
        Request::Tool(r) => Box::pin(handlers::tool::handle(engine, r, cx)).await.map(Reply::Tool),
        Request::Complete(r) => {
            Box::pin(handlers::complete::handle(engine, r, cx)).await.map(Reply::Complete)
        }
        Request::Edit(r) => Box::pin(handlers::edit::handle(engine, r, cx)).await.map(Reply::Edit),
        Request::Undo(r) => Box::pin(handlers::undo::handle(engine, r)).await.map(Reply::Undo),
        Request::Watch(r) => Box::pin(handlers::watch::handle(engine, r, cx)).await,
        Request::Undoable { root } => handlers::undo::list(engine, &root).map(Reply::Undoable),
        Request::Mcp(r) => Box::pin(handlers::mcp::handle(engine, r, cx)).await.map(Reply::Mcp),
        Request::Runs { root } => handlers::runs::list(engine, &root).await.map(Reply::Runs),
        Request::PastRun { run } => {
            handlers::runs::show(engine, run).await.map(|run| Reply::PastRun(Box::new(run)))
        }
    }
}

fn name(request: &Request) -> &'static str {
    match request {
        Request::Ping => "ping",
        Request::Status => "status",
        Request::Stop => "stop",
        Request::IndexBuild(_) => "index",
        Request::Search(_) => "search",
        Request::Ask(_) => "ask",
        Request::Run(_) => "run",
        Request::Answer(_) => "answer",
        Request::CancelRun { .. } => "cancel-run",
        Request::Tool(_) => "tool",
        Request::Complete(_) => "complete",
        Request::Edit(_) => "edit",
        Request::Undo(_) => "undo",
        Request::Undoable { .. } => "undoable",
        Request::Watch(_) => "watch",
        Request::Mcp(_) => "mcp",
        Request::Approvals { .. } => "approvals",
        Request::Follow { .. } => "follow",
        Request::Buffer { .. } => "buffer",
        Request::Runs { .. } => "runs",
        Request::PastRun { .. } => "past-run",
    }
}

/// A panic as the caller sees it. The message goes to the log only: it may hold anything.
fn bug(name: &str, panic: &(dyn Any + Send)) -> WireError {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    tracing::error!(panic = message, "a handler panicked");
    WireError::new(ErrorKind::Internal, format!("a bug in the engine ended this {name}"))
        .hint("the log has the details: `lapce-ai status` names it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_one_call_and_keeps_its_words_out_of_the_reply() {
        let broken: Result<(), _> = guard("search", async { panic!("key sk-123") }).await;
        let error = broken.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Internal);
        assert_eq!(error.message, "a bug in the engine ended this search");
        assert!(!format!("{error:?}").contains("sk-123"));
        assert_eq!(guard("ping", async { Ok(7) }).await, Ok(7));
    }
}
