//! `Edit`: one piece of a text, written anew as its user asks.
//!
//! Nothing is written to disk: the new text goes back to whoever shows the file, which
//! checks that the text is still the one that was sent.

use std::sync::Arc;

use lapce_ai_ipc::wire::engine::{Edit, EditReply, Event, Hit};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{Cx, EngineProtocol};

use super::{check_text, holds_secrets, secret_file};
use crate::agent::listen::{Ended, any, listen};
use crate::agent::outlet::Outlet;
use crate::agent::rewrite::{self, NoPiece};
use crate::agent::{limits as agent_limits, prompt, tokens};
use crate::provider::keys::redact;
use crate::provider::{ChatRequest, Fault, Message, Model, NO_MODEL_HINT, Stop};
use crate::state::Engine;
use crate::workspace::Root;
use crate::{ids, limits};

pub async fn handle(
    engine: &Arc<Engine>,
    request: Edit,
    cx: &Cx<EngineProtocol>,
) -> Result<EditReply, WireError> {
    check_text("instruction", &request.instruction, limits::PROMPT_BYTES)?;
    for (what, text, limit) in [
        ("piece", &request.piece, agent_limits::EDIT_PIECE_BYTES),
        ("text before the piece", &request.before, limits::PROMPT_BYTES),
        ("text after the piece", &request.after, limits::PROMPT_BYTES),
        ("indent", &request.indent, agent_limits::EDIT_INDENT_BYTES),
    ] {
        if !text.is_empty() && text.len() > limit {
            let message = format!("the {what} has {} bytes; at most {limit} are taken", text.len());
            return Err(WireError::new(ErrorKind::Limit, message).hint("choose a smaller piece"));
        }
    }
    if holds_secrets(&request.path) {
        return Err(secret_file(&request.path));
    }
    let root = Root::open(&request.root)?;
    let config = engine.config.get()?;
    let run = engine.runs.open()?;
    let cancel = [run.cancelled(), cx.cancelled()];
    let gone = || WireError::new(ErrorKind::Cancelled, "the edit was cancelled");

    let query: String = request.instruction.chars().take(limits::QUERY_BYTES / 4).collect();
    let search = async {
        // Passages help; an index that is not there, or slow, is no reason to wait.
        let search = engine.index.search(&root, &query, agent_limits::ASK_HITS, false);
        let found = tokio::time::timeout(agent_limits::EDIT_SEARCH, search).await;
        found.ok().and_then(Result::ok).map(|found| found.hits).unwrap_or_default()
    };
    let (hits, model) = tokio::select! {
        both = async { futures::join!(search, engine.providers.chat_model(&config, &request.model)) } => both,
        () = any(&cancel) => return Err(gone()),
    };
    let model = model?.ok_or_else(|| {
        WireError::new(
            ErrorKind::Unavailable,
            "no model is configured, and none runs on this machine",
        )
        .hint(NO_MODEL_HINT)
    })?;
    let mut outlet = Outlet::new(cx, None);
    let started =
        Event::Started { run_id: run.id().to_owned(), transcript: None, model: model.id() };
    outlet.event(started).await.map_err(|_| gone())?;

    let secrets = engine.providers.keys_at_hand(&config);
    if redact(request.piece.clone(), &secrets) != request.piece {
        return Err(WireError::new(
            ErrorKind::Invalid,
            "the piece holds the key of a provider, which is sent to no model",
        )
        .hint("keys belong into the keyring, not into files: docs/providers.md"));
    }
    let hits = engine.open_hits(&root, hits)?.into_iter();
    let hits: Vec<Hit> = hits.map(|h| Hit { code: redact(h.code, &secrets), ..h }).collect();
    let request = Edit {
        before: redact(request.before, &secrets),
        after: redact(request.after, &secrets),
        ..request
    };
    let path = prompt::workspace_path(root.as_str(), &request.path).unwrap_or(&request.path);

    let mark = &ids::approval_id()[..8];
    let system = rewrite::system(mark);
    let context = model.context as usize;
    // The piece comes back whole, and may grow.
    let max_output = (model.max_output as usize).min(context / 2);
    let room = context.saturating_sub(max_output + tokens::estimate(&system) + 64);
    let piece = tokens::estimate(&request.piece);
    if rewrite::fixed(&request) > room || piece > max_output {
        let message = format!("a piece of about {piece} tokens is too long for {}", model.id());
        return Err(WireError::new(ErrorKind::Limit, message)
            .hint("choose a smaller piece, or a model with a larger context and max_output"));
    }
    let cap = if model.local { agent_limits::ASK_TOKENS_LOCAL } else { agent_limits::EDIT_TOKENS };
    let mut budget = room.min(rewrite::fixed(&request) + cap);
    let answer = loop {
        let chat = ChatRequest {
            system: system.clone(),
            messages: vec![Message::user(rewrite::request(mark, &request, path, &hits, budget))],
            max_output: max_output as u32,
            temperature: model.temperature,
            ..ChatRequest::default()
        };
        match listen(engine.providers.chat(&model, chat), None, &mut outlet, &cancel).await {
            Ok(answer) => break answer,
            Err(Ended::Cancelled) => return Err(gone()),
            // The estimate was too low for this model: less of what stands around.
            Err(Ended::Failed { error, shown: false })
                if error.fault == Fault::ContextLength && budget > rewrite::fixed(&request) =>
            {
                budget = rewrite::fixed(&request).max(budget / 2);
            }
            Err(Ended::Failed { error, .. }) => return Err(error.wire()),
        }
    };
    outlet.finish().await.map_err(|_| gone())?;
    whole(&answer.finish.stop, &model, max_output)?;
    let text = rewrite::piece(&answer.raw, &request).map_err(|no| match no {
        NoPiece::Cut => cut(&model),
        NoPiece::Said(words) if words.is_empty() => {
            WireError::new(ErrorKind::Provider, format!("{} answered nothing", model.id()))
                .hint("try again, or choose another model")
        }
        NoPiece::Said(words) => {
            WireError::new(ErrorKind::Provider, format!("nothing was edited: {words}"))
                .hint("say it in other words, or choose another place")
        }
    })?;
    Ok(EditReply { text, model: model.id(), usage: answer.finish.usage })
}

/// Half a piece must not take the place of a whole one.
fn whole(stop: &Stop, model: &Model, max_output: usize) -> Result<(), WireError> {
    match stop {
        Stop::Length => Err(WireError::new(
            ErrorKind::Limit,
            format!(
                "the edit is longer than the {max_output} tokens that {} may write",
                model.id()
            ),
        )
        .hint("choose a smaller piece, or raise max_output of the model in config.toml")),
        Stop::Truncated => Err(cut(model)),
        Stop::Refused => {
            Err(WireError::new(ErrorKind::Provider, format!("{} refused the edit", model.id())))
        }
        _ => Ok(()),
    }
}

fn cut(model: &Model) -> WireError {
    WireError::new(ErrorKind::Provider, format!("the answer of {} was cut off", model.id()))
        .hint("nothing was edited; try again")
}
