//! `Ask`: find passages, build a prompt within the model's context, stream the answer.
//!
//! Without a model the passages are the answer, with one line on how to get a model.

use std::sync::Arc;

use lapce_ai_ipc::wire::engine::{Ask, AskReply, Event, Hit, Usage};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{Cx, EngineProtocol};

use super::run::title;
use super::{check_attached, check_text, holds_secrets, secret_file};
use crate::agent::listen::{Ended, any, listen};
use crate::agent::outlet::Outlet;
use crate::agent::{limits as agent_limits, prompt, tokens};
use crate::asked::Conversation;
use crate::mcp::mention;
use crate::provider::keys::redact;
use crate::provider::{ChatRequest, Fault, Message, Model, NO_MODEL_HINT, Stop};
use crate::state::Engine;
use crate::transcript::{Transcript, fenced};
use crate::workspace::Root;
use crate::{ids, limits};

pub async fn handle(
    engine: &Arc<Engine>,
    mut request: Ask,
    cx: &Cx<EngineProtocol>,
) -> Result<AskReply, WireError> {
    check_text("question", &request.question, limits::PROMPT_BYTES)?;
    check_attached(&request.attached)?;
    let root = Root::open(&request.root)?;
    let config = engine.config.get()?;
    let state = &engine.paths.state;
    let earlier = match &request.continues {
        None => None,
        Some(id) => match Conversation::open(state, &root, id.trim()) {
            None if id.trim().is_empty() => {
                let what = format!("no question about {root} is on record");
                return Err(
                    WireError::new(ErrorKind::NotFound, what).hint("ask without --continue")
                );
            }
            found => Some(found),
        },
    };
    let forgotten = matches!(earlier, Some(None));
    let earlier = earlier.flatten();
    let run = engine.runs.open()?;
    let cancel = [run.cancelled(), cx.cancelled()];
    let gone = || WireError::new(ErrorKind::Cancelled, "the question was cancelled");

    let transcript = request.transcript.then(|| Transcript::create(root.path(), run.id()));
    let (transcript, problem) = match transcript {
        Some(Err(error)) => (None, Some(format!("there is no transcript of this answer: {error}"))),
        Some(Ok(transcript)) => (Some(transcript), None),
        None => (None, None),
    };
    let mut outlet = Outlet::new(cx, transcript);
    outlet.note(&format!("# {}\n\n", title(&request.question)));
    if request.question.trim().lines().nth(1).is_some() {
        outlet.note(&format!("{}\n\n", request.question.trim()));
    }

    // The search and the look for a local model do not wait for each other.
    let query = searched(&request.question, earlier.as_ref());
    let search = engine.index.search(&root, &query, agent_limits::ASK_HITS, false);
    let looked = tokio::select! {
        both = async { futures::join!(search, engine.providers.chat_model(&config, &request.model)) } => both,
        () = any(&cancel) => return Err(gone()),
    };
    let (found, model) = (looked.0, looked.1?);
    let transcript_path = outlet.transcript_path();
    let started = Event::Started {
        run_id: run.id().to_owned(),
        transcript: (!transcript_path.is_empty()).then_some(transcript_path),
        model: model.as_ref().map(Model::id).unwrap_or_default(),
    };
    outlet.event(started).await.map_err(|_| gone())?;
    let secret = request.editor.take_if(|editor| holds_secrets(&editor.path));
    let withheld = secret.map(|editor| secret_file(&editor.path).message);
    let forgotten = forgotten.then(|| "the earlier questions are no longer on record".to_owned());
    for problem in problem.into_iter().chain(withheld).chain(forgotten) {
        outlet.notice(&problem).await.map_err(|_| gone())?;
    }
    let hits = match found {
        Ok(found) => found.hits,
        // With a model and the text in the editor there may still be an answer.
        Err(error)
            if model.is_some()
                && matches!(error.kind, ErrorKind::NotFound | ErrorKind::Unavailable) =>
        {
            outlet
                .notice(format!("no passages: {} {}", error.message, error.hint).trim())
                .await
                .map_err(|_| gone())?;
            Vec::new()
        }
        Err(error) => return Err(error),
    };
    let secrets = engine.providers.keys_at_hand(&config);
    let hits = engine.open_hits(&root, hits)?.into_iter();
    let hits: Vec<Hit> = hits.map(|h| Hit { code: redact(h.code, &secrets), ..h }).collect();

    let Some(model) = model else {
        outlet.event(Event::Citations(hits.clone())).await.map_err(|_| gone())?;
        outlet.note("No model is configured. The passages found:\n\n");
        outlet.note(&listed(&hits));
        let _ = outlet.finish().await;
        return Ok(AskReply {
            answered: false,
            model: String::new(),
            citations: hits,
            usage: Usage::default(),
            stop: "no_model".to_owned(),
            hint: NO_MODEL_HINT.to_owned(),
            conversation: String::new(),
        });
    };

    let mark = &ids::approval_id()[..8];
    let system = prompt::ask_system(mark);
    let asked = mention::attach(&request.question, &request.attached, mark);
    let editor = request
        .editor
        .as_ref()
        .map(|e| (e, prompt::workspace_path(root.as_str(), &e.path).unwrap_or(&e.path)));
    let context = model.context as usize;
    let max_output = (model.max_output as usize).min(context / 4);
    let mut room = context.saturating_sub(max_output + tokens::estimate(&system) + 64);
    if tokens::estimate(&asked) > room {
        return Err(WireError::new(
            ErrorKind::Limit,
            format!("the question does not fit the context of {} ({context} tokens)", model.id()),
        )
        .hint("ask something shorter, or choose a model with a larger context"));
    }
    let cap = if model.local { agent_limits::ASK_TOKENS_LOCAL } else { agent_limits::ASK_TOKENS };
    room = room.min(tokens::estimate(&asked) + cap);
    let mut before = earlier.as_ref().map_or_else(Vec::new, |earlier| {
        let spare = room.saturating_sub(tokens::estimate(&asked)).min(cap);
        earlier.messages(spare / agent_limits::ASKED_SHARE)
    });
    let mut cited = 0;
    loop {
        let taken: usize = before.iter().map(tokens::message).sum();
        let left = room.saturating_sub(taken);
        let (question, used) = prompt::ask_question(mark, &asked, editor, &hits, left);
        if used > 0 && used != cited {
            cited = used;
            outlet.event(Event::Citations(hits[..used].to_vec())).await.map_err(|_| gone())?;
        }
        let chat = ChatRequest {
            system: system.clone(),
            messages: before.iter().cloned().chain([Message::user(question)]).collect(),
            max_output: max_output as u32,
            temperature: model.temperature,
            ..ChatRequest::default()
        };
        let stream = engine.providers.chat(&model, chat);
        let answer = match listen(stream, None, &mut outlet, &cancel).await {
            Ok(answer) => answer,
            Err(Ended::Cancelled) => {
                outlet.note("\n\n*Cancelled.*\n");
                let _ = outlet.finish().await;
                return Err(gone());
            }
            // The estimate was too low for this model: half the passages.
            Err(Ended::Failed { error, shown: false })
                if error.fault == Fault::ContextLength && room > 512 =>
            {
                room /= 2;
                before.clear();
                outlet
                    .notice("the passages are too long for the model; fewer are sent")
                    .await
                    .map_err(|_| gone())?;
                continue;
            }
            Err(Ended::Failed { error, .. }) => {
                let error = error.wire();
                outlet.note(&format!("\n\n**Failed:** {} {}\n", error.message, error.hint));
                let _ = outlet.finish().await;
                return Err(error);
            }
        };
        let citations = hits[..used].to_vec();
        outlet.note("\n\n---\n\n");
        outlet.note(&listed_short(&citations));
        outlet.finish().await.map_err(|_| gone())?;
        let hint = match &answer.finish.stop {
            Stop::Truncated => "the answer was cut off; ask again".to_owned(),
            Stop::Length => format!(
                "the answer reached its limit of {max_output} tokens; raise max_output of the model in config.toml"
            ),
            Stop::Refused => "the model refused to answer".to_owned(),
            _ => String::new(),
        };
        let mut conversation = String::new();
        if !answer.words.trim().is_empty() {
            let mut talk = earlier.unwrap_or_else(|| Conversation::new(run.id(), &root));
            let clean = |text: &str| redact(text.to_owned(), &secrets);
            talk.add(&clean(&request.question), &clean(&answer.words));
            match talk.save(state) {
                Ok(()) => conversation = talk.id,
                Err(error) => tracing::warn!(%error, "a conversation cannot be kept"),
            }
        }
        return Ok(AskReply {
            conversation,
            answered: true,
            model: model.id(),
            citations,
            usage: answer.finish.usage,
            stop: answer.finish.stop.as_str().to_owned(),
            hint,
        });
    }
}

/// What passages are searched for: the question, and the one before it, for a follow-up seldom
/// names what it is about.
fn searched(question: &str, earlier: Option<&Conversation>) -> String {
    let most = limits::QUERY_BYTES / 4;
    let Some(before) = earlier.and_then(Conversation::last_question) else {
        return question.chars().take(most).collect();
    };
    let both = question.chars().take(most / 2).chain(['\n']);
    both.chain(before.chars().take(most / 2 - 1)).collect()
}

/// The passages themselves, as Markdown.
fn listed(hits: &[Hit]) -> String {
    let passage =
        |hit: &Hit| format!("{}:{}\n\n{}\n", hit.path, hit.start_line, fenced("", &hit.code));
    hits.iter().map(passage).collect::<Vec<_>>().concat()
}

/// Where the passages are, as Markdown.
fn listed_short(hits: &[Hit]) -> String {
    if hits.is_empty() {
        return String::new();
    }
    let place = |h: &Hit| format!("- {}:{}-{} {}\n", h.path, h.start_line, h.end_line, h.symbol);
    let places = hits.iter().map(place).collect::<Vec<_>>().concat();
    format!("Passages the model was given:\n\n{places}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follow_up_is_searched_with_the_question_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path().to_str().unwrap()).unwrap();
        let mut talk = Conversation::new("a", &root);
        assert_eq!(searched("why?", None), "why?");
        assert_eq!(searched("why?", Some(&talk)), "why?");
        talk.add("where are retries counted?", "In pay.rs.");
        assert_eq!(searched("and why?", Some(&talk)), "and why?\nwhere are retries counted?");
        talk.add(&"ä".repeat(5_000), "x");
        let long = searched(&"ö".repeat(5_000), Some(&talk));
        assert!(long.len() <= limits::QUERY_BYTES && long.contains("ö\nä"), "{}", long.len());
    }
}
