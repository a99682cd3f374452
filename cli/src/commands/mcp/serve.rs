//! `lapce-ai mcp serve`: our tools for other agents, over MCP on standard input and output.
//!
//! The workspace is the one it was started in. A call goes to the engine as a run's does:
//! rules first, then the sandbox. What the rules would ask about is refused with the
//! command that would allow it, since on these pipes there is nobody to ask.

use std::sync::Arc;

use lapce_ai_ipc::wire::engine::{Answer, Decision, Event, ToolCall};
use lapce_ai_ipc::{CallError, EngineClient};
use lapce_ai_tools::schema;
use lapce_ai_tools::spec::{self, Class, Runs, ToolSpec};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData,
    Implementation, ListToolsResult, PaginatedRequestParams, ProgressNotificationParam,
    ProgressToken, ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::{Peer, RoleServer, ServerHandler, ServiceExt as _};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::super::args::McpServe;
use super::super::exit::{Code, Failure, Outcome};
use super::super::output::printable;
use super::super::session;

/// Longest line that a client may send.
const MESSAGE_BYTES: usize = 4 << 20;
/// Calls at a time; more wait.
const CALLS: usize = 8;
/// Text of one report of progress, and reports of one call.
const PROGRESS_CHARS: usize = 500;
const PROGRESS_REPORTS: u32 = 1000;

struct Server {
    root: String,
    /// The classes of tools that are offered.
    classes: &'static [Class],
    slots: Semaphore,
}

pub async fn run(args: McpServe) -> Outcome {
    let root = session::workspace(args.root.root.as_deref())?;
    let classes: &[Class] = match args.tools.as_str() {
        "all" => &[Class::Read, Class::Write, Class::Execute],
        "write" => &[Class::Read, Class::Write],
        _ => &[Class::Read],
    };
    let (stdin, stdout) = rmcp::transport::io::stdio();
    let transport = rmcp::transport::async_rw::AsyncRwTransport::new_server(stdin, stdout)
        .with_max_line_length(MESSAGE_BYTES);
    let failed = |what: String| Failure::new(Code::Failed, what, "an MCP client speaks first");
    let service = Server { root, classes, slots: Semaphore::new(CALLS) }
        .serve(transport)
        .await
        .map_err(|e| failed(format!("no MCP client on standard input: {e}")))?;
    service.waiting().await.map_err(|e| failed(e.to_string()))?;
    Ok(())
}

impl Server {
    fn offered(&self) -> impl Iterator<Item = &'static ToolSpec> {
        let classes = self.classes;
        spec::offered().filter(move |spec| {
            classes.contains(&spec.class)
                // Those that mean something without a run of ours.
                && matches!(spec.runs, Runs::Helper | Runs::Host | Runs::Index)
        })
    }

    async fn carry_out(
        &self,
        name: &str,
        json: String,
        mut progress: Progress,
    ) -> Result<CallToolResult, String> {
        let _slot = self.slots.acquire().await.map_err(|e| e.to_string())?;
        // A connection for each call: the engine may have ended meanwhile, and starts again.
        let client = session::engine().await.map_err(said)?;
        let request =
            ToolCall { root: self.root.clone(), name: name.to_owned(), json, approved: false };
        let mut call = client.tool(request);
        let mut refused = None;
        while let Some(event) = call.next().await {
            match event {
                Event::Approval(question) => {
                    refused = Some(format!(
                        "{} is asked about, and here is nobody to ask. The user can allow it: lapce-ai rules allow {name}",
                        printable(&question.summary)
                    ));
                    deny(&client, question.approval_id).await;
                }
                Event::ToolOutput { text, .. } => progress.report(&text).await,
                _ => {}
            }
        }
        match (call.finish().await, refused) {
            (Err(_), Some(refused)) => Err(refused),
            (Err(CallError::Remote(error)), None) => {
                Err(format!("{} {}", error.message, error.hint).trim().to_owned())
            }
            (Err(error), None) => Err(error.to_string()),
            (Ok(reply), _) => {
                let text = vec![ContentBlock::text(reply.text)];
                Ok(if reply.ok {
                    CallToolResult::success(text)
                } else {
                    CallToolResult::error(text)
                })
            }
        }
    }
}

/// Live output of a call, for a client that asked for reports.
struct Progress {
    to: Option<(Peer<RoleServer>, ProgressToken)>,
    sent: u32,
}

impl Progress {
    fn of(context: &RequestContext<RoleServer>) -> Self {
        let token = context.meta.get_progress_token();
        Self { to: token.map(|token| (context.peer.clone(), token)), sent: 0 }
    }

    /// Tells what came last; the whole text comes with the result.
    async fn report(&mut self, text: &str) {
        let Some((peer, token)) = self.to.as_ref().filter(|_| self.sent < PROGRESS_REPORTS) else {
            return;
        };
        self.sent += 1;
        let line = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        let line = lapce_ai_tools::call::one_line(&printable(line), PROGRESS_CHARS);
        let report = ProgressNotificationParam::new(token.clone(), f64::from(self.sent));
        // A client that is gone ends the call in another way.
        let _ = peer.notify_progress(report.with_message(line)).await;
    }
}

fn said(failure: Failure) -> String {
    match failure {
        Failure::Said { message, hint, .. } => format!("{message}. {hint}"),
        _ => "the engine cannot be reached".to_owned(),
    }
}

async fn deny(client: &EngineClient, approval_id: String) {
    let feedback = "no user is there to answer".to_owned();
    let answer = Answer { approval_id, decision: Decision::Deny, feedback };
    // Answered elsewhere already: then that counts.
    let _ = client.answer(answer).await;
}

/// The tool as MCP describes it.
fn described(spec: &ToolSpec) -> Tool {
    let parameters = match schema::parameters(spec) {
        Value::Object(map) => map,
        _ => serde_json::Map::new(),
    };
    let notes = ToolAnnotations::new().read_only(spec.class == Class::Read).open_world(false);
    Tool::new(spec.name, schema::description(spec), Arc::new(parameters)).with_annotations(notes)
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::default();
        info.capabilities = ServerCapabilities::builder().enable_tools().build();
        info.server_info = Implementation::new("lapce-ai", env!("CARGO_PKG_VERSION"));
        info.instructions = Some(format!(
            "Tools over the workspace {}. codebase_search finds code by meaning; it needs an index (`lapce-ai index`).",
            self.root
        ));
        info
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult {
            tools: self.offered().map(described).collect(),
            ..ListToolsResult::default()
        })
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(spec) = self.offered().find(|spec| *spec.name == *request.name) else {
            return Err(ErrorData::invalid_params(
                format!("there is no tool {:?}", printable(&request.name)),
                None,
            ));
        };
        let json = Value::Object(request.arguments.unwrap_or_default()).to_string();
        let result = tokio::select! {
            result = self.carry_out(spec.name, json, Progress::of(&context)) => result,
            // Dropping the call cancels it in the engine.
            () = context.ct.cancelled() => Err("cancelled".to_owned()),
        };
        let result =
            result.unwrap_or_else(|why| CallToolResult::error(vec![ContentBlock::text(why)]));
        Ok(CallToolResponse::Complete(result))
    }
}
