//! The engine's requests as methods, for front ends.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};

use crate::client::{Call, Client};
use crate::error::CallError;
use crate::protocol::EngineProtocol;
use crate::wire::engine::{
    Answer, Approval, Ask, AskReply, BuildReport, Complete, CompleteReply, Edit, EditReply, Event,
    IndexBuild, Mcp, McpOrder, McpReply, PastRun, Reply, Request, Run, RunInfo, RunReply, Search,
    SearchReply, Status, ToolCall, ToolReply, Undo, UndoReply, Undoable, Watch,
};

/// A connection to the engine.
#[derive(Debug, Clone)]
pub struct EngineClient(pub Client<EngineProtocol>);

impl From<Client<EngineProtocol>> for EngineClient {
    fn from(client: Client<EngineProtocol>) -> Self {
        Self(client)
    }
}

/// A call whose reply is known to be an `R`: a stream of events, then
/// [`EngineCall::finish`]. Dropping it cancels it.
pub struct EngineCall<R> {
    call: Call<EngineProtocol>,
    pick: fn(Reply) -> Result<R, CallError>,
    /// Whoever made it outlives engines.
    of_engine: bool,
}

impl<R> EngineCall<R> {
    pub(crate) fn of_engine(self) -> Self {
        Self { of_engine: true, ..self }
    }

    /// The next event; `None` means that the reply (or error) is there.
    pub async fn next(&mut self) -> Option<Event> {
        self.call.next().await
    }

    /// Drops the remaining events and waits for the reply.
    pub async fn finish(self) -> Result<R, CallError> {
        let Self { call, pick, of_engine } = self;
        let reply = call.finish().await;
        pick(reply.map_err(|e| if of_engine { e.of_engine() } else { e })?)
    }
}

impl<R> Stream for EngineCall<R> {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.call.poll_next_unpin(cx)
    }
}

fn unexpected(reply: &Reply) -> CallError {
    let name = format!("{reply:?}");
    let end = name.find(|c: char| !c.is_alphanumeric()).unwrap_or(name.len());
    CallError::Unexpected(name[..end].to_owned())
}

macro_rules! pick {
    ($variant:ident) => {
        |reply| match reply {
            Reply::$variant(value) => Ok(value),
            other => Err(unexpected(&other)),
        }
    };
}

impl EngineClient {
    fn typed<R>(&self, request: Request, pick: fn(Reply) -> Result<R, CallError>) -> EngineCall<R> {
        EngineCall { call: self.0.start(request), pick, of_engine: false }
    }

    pub async fn ping(&self) -> Result<(), CallError> {
        self.typed(Request::Ping, unit).finish().await
    }

    pub async fn status(&self) -> Result<Status, CallError> {
        self.typed(Request::Status, pick!(Status)).finish().await
    }

    pub async fn stop(&self) -> Result<(), CallError> {
        self.typed(Request::Stop, unit).finish().await
    }

    pub async fn search(&self, search: Search) -> Result<SearchReply, CallError> {
        self.typed(Request::Search(search), pick!(Search)).finish().await
    }

    pub async fn complete(&self, complete: Complete) -> Result<CompleteReply, CallError> {
        self.typed(Request::Complete(complete), pick!(Complete)).finish().await
    }

    pub async fn undo(&self, undo: Undo) -> Result<UndoReply, CallError> {
        self.typed(Request::Undo(undo), pick!(Undo)).finish().await
    }

    pub async fn undoable(&self, root: impl Into<String>) -> Result<Vec<Undoable>, CallError> {
        let request = Request::Undoable { root: root.into() };
        self.typed(request, pick!(Undoable)).finish().await
    }

    pub async fn mcp(
        &self,
        root: impl Into<String>,
        order: McpOrder,
    ) -> Result<McpReply, CallError> {
        self.mcp_call(root, order).finish().await
    }

    /// The same with its events.
    pub fn mcp_call(&self, root: impl Into<String>, order: McpOrder) -> EngineCall<McpReply> {
        self.typed(Request::Mcp(Mcp { root: root.into(), order }), pick!(Mcp))
    }

    /// What waits for an answer; in every workspace when `root` is empty.
    pub async fn approvals(&self, root: impl Into<String>) -> Result<Vec<Approval>, CallError> {
        let request = Request::Approvals { root: root.into() };
        self.typed(request, pick!(Approvals)).finish().await
    }

    /// The runs on record; of every workspace when `root` is empty.
    pub async fn runs(&self, root: impl Into<String>) -> Result<Vec<RunInfo>, CallError> {
        self.typed(Request::Runs { root: root.into() }, pick!(Runs)).finish().await
    }

    pub async fn past_run(&self, run: impl Into<String>) -> Result<PastRun, CallError> {
        let request = Request::PastRun { run: run.into() };
        self.typed(request, pick!(PastRun)).finish().await.map(|run| *run)
    }

    /// Follows what waits for an answer in `root`, until the call is dropped.
    pub fn follow(&self, root: impl Into<String>) -> EngineCall<()> {
        self.typed(Request::Follow { root: root.into() }, unit)
    }

    /// Tells the engine of a text that is not saved, or that it is now.
    pub async fn buffer(
        &self,
        path: impl Into<String>,
        text: Option<String>,
    ) -> Result<(), CallError> {
        self.typed(Request::Buffer { path: path.into(), text }, unit).finish().await
    }

    pub async fn answer(&self, answer: Answer) -> Result<(), CallError> {
        self.typed(Request::Answer(answer), unit).finish().await
    }

    pub async fn cancel_run(&self, run_id: impl Into<String>) -> Result<(), CallError> {
        self.typed(Request::CancelRun { run_id: run_id.into() }, unit).finish().await
    }

    pub fn index(&self, build: IndexBuild) -> EngineCall<BuildReport> {
        self.typed(Request::IndexBuild(build), pick!(IndexReport))
    }

    /// Keeps an index up to date until the call is dropped.
    pub fn watch(&self, watch: Watch) -> EngineCall<()> {
        self.typed(Request::Watch(watch), unit)
    }

    pub fn ask(&self, ask: Ask) -> EngineCall<AskReply> {
        self.typed(Request::Ask(ask), pick!(Ask))
    }

    /// Dropping the call gives the edit up.
    pub fn edit(&self, edit: Edit) -> EngineCall<EditReply> {
        self.typed(Request::Edit(edit), pick!(Edit))
    }

    pub fn run(&self, run: Run) -> EngineCall<RunReply> {
        self.typed(Request::Run(run), pick!(Run))
    }

    pub fn tool(&self, tool: ToolCall) -> EngineCall<ToolReply> {
        self.typed(Request::Tool(tool), pick!(Tool))
    }
}

fn unit(reply: Reply) -> Result<(), CallError> {
    match reply {
        Reply::Done | Reply::Pong => Ok(()),
        other => Err(unexpected(&other)),
    }
}
