//! `Run`: the agent works on a task.
//!
//! Checks the request, opens the run, its transcript and its journal, tells the caller of
//! both, and hands over to the loop in `agent/`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use lapce_ai_ipc::wire::engine::{Event, Run, RunOutcome, RunReply, RunState};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{Cx, EngineProtocol};
use lapce_ai_tools::host::Ledger;
use serde_json::json;

use super::{check_attached, check_text, holds_secrets};
use crate::agent::calls::Desk;
use crate::agent::journal::Journal;
use crate::agent::outlet::Outlet;
use crate::agent::{self, Task, limits as agent_limits, modes, prompt};
use crate::mcp;
use crate::past::{self, LOG_VERSION, Past};
use crate::provider::NO_MODEL_HINT;
use crate::state::Engine;
use crate::transcript::Transcript;
use crate::workspace::Root;
use crate::{ids, limits, texts};

/// The task of a run that goes on with another, when the user says nothing.
const GO_ON: &str = "Go on with the task.";

pub async fn handle(
    engine: &Arc<Engine>,
    mut request: Run,
    cx: &Cx<EngineProtocol>,
) -> Result<RunReply, WireError> {
    if request.continues.is_some() && request.task.trim().is_empty() {
        GO_ON.clone_into(&mut request.task);
    }
    check_text("task", &request.task, limits::PROMPT_BYTES)?;
    check_attached(&request.attached)?;
    let root = Root::open(&request.root)?;
    let workspace = engine.workspace(&root)?;
    let config = engine.config.get()?;
    let mut past = match &request.continues {
        Some(name) => Some(past::conversation(engine, &root, name).await?),
        None => None,
    };
    let kept = |given: &mut String, then: &str| {
        let kept = given.trim().is_empty() && !then.is_empty();
        if kept {
            then.clone_into(given);
        }
        kept
    };
    let (mut model_kept, mut mode_kept) = (false, false);
    if let Some(past) = &past {
        model_kept = kept(&mut request.model, &past.info.model);
        mode_kept = kept(&mut request.mode, &past.info.mode);
    }
    let model = engine.providers.chat_model(&config, &request.model).await;
    let model =
        model.map_err(
            |error| {
                if model_kept { error.hint("name another with --model") } else { error }
            },
        )?;
    let model = model.ok_or_else(|| {
        WireError::new(
            ErrorKind::Unavailable,
            "no model is configured, and none runs on this machine",
        )
        .hint(NO_MODEL_HINT)
    })?;
    let slug = if request.mode.trim().is_empty() { modes::DEFAULT } else { &request.mode };
    let mode = modes::find(&config, slug).map_err(|problem| {
        let hint = if mode_kept {
            "name another with --mode"
        } else {
            "modes of your own stand under [modes.NAME] in config.toml"
        };
        WireError::new(ErrorKind::NotFound, problem).hint(hint)
    })?;
    if let Some(past) = past.as_mut().filter(|past| past.info.model != model.id()) {
        past.for_another_model();
    }
    // Before anything is begun: without the sandbox there is nothing a run could do.
    engine.tools()?;
    let run = engine.runs.open()?;
    let transcript = Transcript::create(root.path(), run.id());
    let problem =
        transcript.as_ref().err().map(|e| format!("there is no transcript of this run: {e}"));
    let mut outlet = Outlet::new(cx, transcript.ok());
    let mut journal = Journal::create(&engine.paths.state, run.id()).map_err(|e| {
        WireError::new(ErrorKind::Unavailable, format!("the journal of the run cannot be written: {e}"))
            .hint("check the free space and the permissions of the state folder; `lapce-ai doctor` names it")
    })?;
    let transcript_path = outlet.transcript_path();
    outlet.note(&format!(
        "# {}\n\n*Run {} with {}*\n\n",
        title(&request.task),
        run.id(),
        model.id()
    ));
    let continues = past.as_ref().map_or("", |past| past.info.run.as_str());
    if !continues.is_empty() {
        outlet.note(&format!("*It goes on with run [{continues}]({continues}.md).*\n\n"));
    }
    outlet.note(&format!("{}\n\n---\n\n", request.task.trim()));
    let secrets = engine.providers.keys_at_hand(&config);
    journal.keep_out(secrets.clone());
    journal.event("started", json!({"run": run.id(), "version": LOG_VERSION, "root": root.as_str(), "task": request.task, "model": model.id(), "mode": mode.slug, "client": cx.peer().name, "continues": continues}));
    let started = Event::Started {
        run_id: run.id().to_owned(),
        transcript: (!transcript_path.is_empty()).then(|| transcript_path.clone()),
        model: model.id(),
    };
    let gone = |_| WireError::new(ErrorKind::Cancelled, "the run was cancelled");
    outlet.event(started).await.map_err(gone)?;
    if let Some(problem) = problem {
        outlet.notice(&problem).await.map_err(gone)?;
    }
    if let Some(past) = &past {
        outlet.notice(&going_on(past)).await.map_err(gone)?;
    }

    let editor = request
        .editor
        .as_ref()
        .filter(|e| !holds_secrets(&e.path))
        .and_then(|e| Some((e, prompt::workspace_path(root.as_str(), &e.path)?)));
    // What the agent writes it can find; a workspace without an index is not given one unasked.
    let watched = engine.index.exists(&root);
    let _watch = watched.then(|| engine.index.watch(&root, engine.index_settings()));
    let mark = ids::approval_id();
    let asked = mcp::mention::attach(&request.task, &request.attached, &mark[8..16]);
    let mut first_message = prompt::task(&asked, editor, &mark[..8], model.context as usize / 8);
    if let Some(past) = &past {
        let changed = past.changed_since(root.path());
        let ended = ended(past.info.state);
        first_message =
            format!("{first_message}\n\n{}", prompt::continued(ended, &changed, &past.missing));
    }
    let (earlier, todos, seen) =
        past.map(|past| (past.messages, past.todos, past.seen)).unwrap_or_default();
    let (servers, missing) = engine.mcp.offered(engine, &config, &root).await;
    for problem in missing {
        outlet.notice(&problem).await.map_err(gone)?;
    }
    let mcp = mcp::prompt::section(
        &servers,
        &ids::approval_id()[..8],
        model.context as usize / mcp::limits::PROMPT_SHARE,
    );
    let offered = texts::offered(&engine.paths.config, engine.tools()?, &workspace).await;
    let mut desk = Desk {
        engine,
        cx,
        cancel: run.cancelled().clone(),
        run_id: run.id().to_owned(),
        root: root.clone(),
        workspace,
        ledger: Ledger::for_run(run.id()).with_seen(seen),
        noted: BTreeMap::new(),
        mcp,
        transcript: transcript_path.clone(),
        pictures: model.images,
        mode: mode.slug.clone(),
        allowed: HashSet::new(),
        secrets,
    };
    desk.note_files(&mut journal);
    let max_turns =
        if request.max_turns == 0 { config.limits.run_turns } else { request.max_turns };
    let task = Task {
        model: model.clone(),
        first_message,
        max_turns: max_turns.clamp(1, agent_limits::TURNS),
        max_tokens: config.limits.run_tokens,
        mode,
        review: request.review,
        texts: texts::section(&offered),
        earlier,
        todos,
    };
    let ending =
        Box::pin(agent::run(&engine.providers, &config, task, desk, &mut outlet, &mut journal))
            .await;
    let ending = match ending {
        Ok(ending) => ending,
        Err(error) => {
            outlet.note(&format!("\n\n**Failed:** {} {}\n", error.message, error.hint));
            let _ = outlet.finish().await;
            return Err(error);
        }
    };
    journal.event(
        "ended",
        json!({"outcome": ending.outcome, "result": ending.result, "mode": ending.mode, "turns": ending.turns, "tool_calls": ending.tool_calls, "usage": ending.usage}),
    );
    outlet.note(&format!("\n\n---\n\n**{}**\n\n{}\n", heading(&ending.outcome), ending.result));
    let _ = outlet.finish().await;
    tracing::info!(run = run.id(), outcome = ?ending.outcome, turns = ending.turns, tool_calls = ending.tool_calls, "run ended");
    Ok(RunReply {
        run_id: run.id().to_owned(),
        outcome: ending.outcome,
        result: ending.result,
        transcript: transcript_path,
        turns: ending.turns,
        tool_calls: ending.tool_calls,
        usage: ending.usage,
    })
}

/// How a run ended, as the one that goes on with it is told.
fn ended(state: RunState) -> &'static str {
    match state {
        RunState::Completed => "came to its end",
        RunState::TurnLimit => "reached its limit of turns",
        RunState::Cancelled => "the user stopped",
        RunState::Failed => "failed",
        RunState::Running | RunState::Interrupted => "was interrupted",
    }
}

/// What the user is told of it.
fn going_on(past: &Past) -> String {
    let mut text = format!("going on with run {}: {}", past.info.run, past.info.task);
    if !past.missing.is_empty() {
        text.push_str("; not all of it is there: ");
        text.push_str(&past.missing.join("; "));
    }
    text
}

fn heading(outcome: &RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Completed => "Done",
        RunOutcome::TurnLimit => "Turn limit",
        RunOutcome::Cancelled => "Cancelled",
        RunOutcome::Failed => "Stopped",
    }
}

/// The first line of a text, short enough for a heading.
pub(crate) fn title(text: &str) -> String {
    lapce_ai_tools::call::one_line(text.trim().lines().next().unwrap_or_default(), 100)
}
