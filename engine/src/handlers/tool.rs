//! `Tool`: one tool call for a user or a client, under the same policy as the agent's.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lapce_ai_ipc::wire::engine::{Event, ToolCall, ToolReply};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{Cx, EngineProtocol};
use lapce_ai_tools::closed::{self, Paths};
use lapce_ai_tools::host::{Invocation, Ledger, Outcome};
use lapce_ai_tools::policy::Verdict as Policy;
use lapce_ai_tools::sandbox::network::Network;
use lapce_ai_tools::spec::{self, Runs, ToolSpec};
use lapce_ai_tools::{call, envelope, native, workspace};
use tokio::sync::mpsc;

use super::check_text;
use super::own::Place;
use crate::approvals::Verdict;
use crate::gate;
use crate::metrics::End;
use crate::state::Engine;
use crate::workspace::Root;
use crate::{handlers, ids, limits};

pub async fn handle(
    engine: &Arc<Engine>,
    request: ToolCall,
    cx: &Cx<EngineProtocol>,
) -> Result<ToolReply, WireError> {
    check_text("tool's name", &request.name, limits::QUERY_BYTES)?;
    check_text("parameter object", &request.json, limits::TOOL_JSON_BYTES)?;
    let root = Root::open(&request.root)?;
    let spec = spec::find(&request.name).ok_or_else(|| {
        WireError::new(ErrorKind::NotFound, format!("there is no tool {:?}", request.name))
            .hint("`lapce-ai tool list` names every tool")
    })?;
    let call = native::call(&ids::run_id(), spec, &request.json).map_err(|invalid| {
        WireError::new(ErrorKind::Invalid, format!("{}: {invalid}", spec.name))
            .hint(format!("`lapce-ai tool schema {}` shows its parameters", spec.name))
    })?;
    let workspace = engine.workspace(&root)?;
    let gated = gate(engine, spec, &call, &workspace, request.approved, cx).await;
    let (rule, changed) = gated.inspect_err(|error| {
        if error.kind == ErrorKind::Denied {
            engine.metrics.record(spec.name, End::Denied, Duration::ZERO);
        }
    })?;
    engine.metrics.within_rate(spec.name).map_err(|why| WireError::new(ErrorKind::Limit, why))?;
    let begun = Instant::now();
    let (changed, note) = changed.unzip();
    let call = changed.unwrap_or(call);
    let reply = carry_out(engine, spec, call, workspace, &root, cx).await;
    let end = match &reply {
        Ok(reply) if reply.ok => End::Ok,
        Ok(reply) if !reply.limit_hit.is_empty() => End::Limited,
        _ => End::Failed,
    };
    engine.metrics.record(spec.name, end, begun.elapsed());
    reply.map(|mut reply| {
        reply.text.extend(note);
        ToolReply { rule, ..reply }
    })
}

/// A call that may run, by whoever runs it.
async fn carry_out(
    engine: &Arc<Engine>,
    spec: &ToolSpec,
    call: call::ToolCall,
    workspace: workspace::Workspace,
    root: &Root,
    cx: &Cx<EngineProtocol>,
) -> Result<ToolReply, WireError> {
    let policy = engine.policy()?.in_mode("");
    let workspace = workspace.under(&policy, spec);
    match spec.runs {
        Runs::Helper | Runs::Host => {
            let network = policy.network(spec, &call, &workspace);
            run(engine, call, root, workspace, network, cx).await.map(reply)
        }
        Runs::Engine => own(engine, &call, root, &workspace, cx).await,
        Runs::Index => {
            let closed = policy.closed(Some(spec), root.path()).to_readers();
            codebase_search(engine, root, &call, &closed).await
        }
        Runs::Mcp => tokio::select! {
            (reply, _) = Box::pin(super::mcp::carry_out(engine, root, &call)) => Ok(reply),
            () = cx.cancelled().cancelled() => Err(cancelled(spec)),
            () = engine.shutdown.cancelled() => Err(cancelled(spec)),
        },
        Runs::Agent | Runs::Absent => Err(WireError::new(
            ErrorKind::Unsupported,
            format!("{} means something only within a run", spec.name),
        )
        .hint("use `lapce-ai run \"task\"`")),
    }
}

fn cancelled(spec: &ToolSpec) -> WireError {
    WireError::new(ErrorKind::Cancelled, format!("{} was cancelled", spec.name))
}

/// Asks the policy, and the user where the policy says so. Gives what allowed the call, and the
/// call as the user changed it; an error is why it must not run.
async fn gate(
    engine: &Engine,
    spec: &ToolSpec,
    call: &call::ToolCall,
    workspace: &workspace::Workspace,
    approved: bool,
    cx: &Cx<EngineProtocol>,
) -> Result<(String, Option<(call::ToolCall, String)>), WireError> {
    let denied = |why: String| {
        WireError::new(ErrorKind::Denied, format!("{} did not run: {why}", call.summary()))
    };
    let policy = engine.policy()?.in_mode("");
    let why = match policy.decide(spec, call, workspace) {
        Policy::Allow { rule } => return Ok((rule, None)),
        Policy::Deny { rule } => return Err(denied(format!("the rule {rule:?} denies it"))),
        Policy::Ask { .. } if approved => return Ok(("typed by the user".to_owned(), None)),
        Policy::Ask { why } => why,
    };
    let question = gate::question(&policy, spec, call, workspace, &why);
    match engine.approvals.ask(question, cx).await? {
        Verdict::Allowed { scope, .. } => {
            let kept = gate::remember(engine, &policy, spec, call, workspace, scope)?;
            Ok((kept.unwrap_or_else(|| "allowed by the user".to_owned()), None))
        }
        Verdict::Changed { text } => {
            let changed = gate::changed(&policy, spec, call, workspace, text);
            let changed = changed.map_err(|rule| denied(format!("as changed: {rule}")))?;
            Ok(("changed and allowed by the user".to_owned(), Some(changed)))
        }
        Verdict::Denied { feedback } if feedback.is_empty() => {
            Err(denied("the answer was no".to_owned()))
        }
        Verdict::Denied { feedback } => Err(denied(format!("the answer was no: {feedback}"))),
        Verdict::TimedOut { after } => {
            Err(denied(format!("nobody answered within {} s", after.as_secs())))
        }
    }
}

/// A call that the engine carries out itself.
async fn own(
    engine: &Engine,
    call: &call::ToolCall,
    root: &Root,
    workspace: &workspace::Workspace,
    cx: &Cx<EngineProtocol>,
) -> Result<ToolReply, WireError> {
    let started = Instant::now();
    let cancel = engine.shutdown.child_token();
    let _stop = cancel.clone().drop_guard();
    let (ledger, buffers) = (Ledger::default(), engine.buffers.below(root));
    let place = Place { workspace, ledger: &ledger, buffers: &buffers, cancel: &cancel };
    let done = tokio::select! {
        done = handlers::own::run(engine, call, place) => done?,
        () = cx.cancelled().cancelled() => {
            return Err(WireError::new(ErrorKind::Cancelled, "cancelled"));
        }
    };
    Ok(ToolReply {
        text: done.envelope,
        ok: done.ok,
        wall_ms: millis(started.elapsed()),
        layers: done.layers,
        limit_hit: String::new(),
        rule: String::new(),
    })
}

/// Runs the call in its helper, passing live output on.
async fn run(
    engine: &Engine,
    call: call::ToolCall,
    root: &Root,
    workspace: workspace::Workspace,
    network: Network,
    cx: &Cx<EngineProtocol>,
) -> Result<Outcome, WireError> {
    let call_id = call.id.clone();
    let cancel = engine.shutdown.child_token();
    // However this future ends, the helper ends with it.
    let _stop = cancel.clone().drop_guard();
    let (sender, mut output) = mpsc::channel(limits::TOOL_OUTPUT_EVENTS);
    let mut invocation = Invocation::new(call, workspace);
    invocation.network = network;
    invocation.cancel = cancel.clone();
    invocation.on_output = Some(sender);
    invocation.buffers = engine.buffers.below(root);
    let run = engine.tools()?.run(invocation);
    tokio::pin!(run);
    loop {
        tokio::select! {
            outcome = &mut run => {
                while let Ok(text) = output.try_recv() {
                    let _ = cx.emit(Event::ToolOutput { call_id: call_id.clone(), text }).await;
                }
                return Ok(outcome);
            }
            Some(text) = output.recv() => {
                let _ = cx.emit(Event::ToolOutput { call_id: call_id.clone(), text }).await;
            }
            () = cx.cancelled().cancelled(), if !cancel.is_cancelled() => cancel.cancel(),
        }
    }
}

/// The tool that asks the index instead of a helper. Also called by the agent loop.
pub async fn codebase_search(
    engine: &Engine,
    root: &Root,
    call: &call::ToolCall,
    closed: &Paths,
) -> Result<ToolReply, WireError> {
    let started = Instant::now();
    let query = call.text("query");
    check_text("query", query, limits::QUERY_BYTES)?;
    let below = call.text("path").trim().trim_start_matches("./").trim_end_matches('/');
    let narrow = !below.is_empty() && below != ".";
    let limit = if narrow || !closed.is_empty() { limits::HITS } else { limits::TOOL_HITS };
    let mut rules: Vec<&str> = Vec::new();
    let body = match engine.index.search(root, query, limit, false).await {
        Ok(found) => {
            let under = |path: &str| {
                path.strip_prefix(below)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            let hits: Vec<_> = found
                .hits
                .iter()
                .filter(|hit| !narrow || under(&hit.path))
                .filter(|hit| {
                    let rule = closed.rule_for(Path::new(&hit.path));
                    rules.extend(rule.filter(|rule| !rules.contains(rule)));
                    rule.is_none()
                })
                .take(limits::TOOL_HITS as usize)
                .map(|hit| {
                    let (path, from, to) = (&hit.path, hit.start_line, hit.end_line);
                    let name = if hit.symbol.is_empty() { &hit.kind } else { &hit.symbol };
                    format!("{path}:{from}-{to} {name}\n{}", hit.code.trim_end())
                })
                .collect();
            let mut text = hits.join("\n\n");
            if hits.is_empty() {
                "No passage matches.".clone_into(&mut text);
            }
            if let Some(note) = closed::note(&rules) {
                let _ = write!(text, "\n[{note}]");
            }
            Ok(text)
        }
        Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Unavailable) => {
            Err(format!("{}. {}", error.message, error.hint))
        }
        Err(error) => return Err(error),
    };
    let (ok, text) = match body {
        Ok(body) => (true, envelope::result(call, &body)),
        Err(problem) => (false, envelope::error(call, problem.trim())),
    };
    Ok(ToolReply {
        text,
        ok,
        wall_ms: millis(started.elapsed()),
        layers: vec![],
        limit_hit: String::new(),
        rule: String::new(),
    })
}

fn reply(outcome: Outcome) -> ToolReply {
    ToolReply {
        text: outcome.envelope,
        ok: outcome.ok,
        wall_ms: millis(outcome.wall),
        layers: outcome.layers,
        limit_hit: outcome.limit_hit,
        rule: String::new(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
