//! `lapce-ai approvals`: what waits for the user, in any run, and the answer to it.

use std::path::Path;

use lapce_ai_ipc::EngineClient;
use lapce_ai_ipc::wire::engine::{Answer, Approval, Decision, Wanted};

use super::args::{Approvals, Scope};
use super::exit::{Code, Failure, Outcome};
use super::output::{Output, Style, printable};
use super::{editor, question, session};

pub async fn run(args: Approvals, out: Output) -> Outcome {
    // Without an engine nothing waits, and none is started for this.
    let client = session::running_engine().await?;
    let waiting = match &client {
        Some(client) => client.approvals("").await?,
        None => Vec::new(),
    };
    match (args, client) {
        (Approvals::List(json), _) if json.json => out.json(&waiting),
        (Approvals::List(_), _) => list(&waiting, out),
        (Approvals::Allow { id, edit: true, .. }, Some(client)) => {
            let Some(editable) = &find(&waiting, &id)?.editable else {
                let message = "there is nothing in this that can be changed";
                return Err(Failure::new(Code::Usage, message, "answer without --edit"));
            };
            let text = editor::edit(&editable.text, &editable.name)?;
            let decision =
                if text == editable.text { Decision::Allow } else { Decision::AllowChanged };
            answer(&client, &waiting, &id, decision, text, out).await
        }
        (Approvals::Allow { id, scope, .. }, Some(client)) => {
            let decision = match scope {
                Scope::Once => Decision::Allow,
                Scope::Run => Decision::AllowForRun,
                Scope::Workspace => Decision::AllowInWorkspace,
                Scope::Always => Decision::AllowAlways,
            };
            answer(&client, &waiting, &id, decision, String::new(), out).await
        }
        (Approvals::Deny { id, words }, Some(client)) => {
            answer(&client, &waiting, &id, Decision::Deny, words.join(" "), out).await
        }
        (Approvals::Answer { id, words }, Some(client)) => {
            let approval = find(&waiting, &id)?;
            // What is said about a result is what is still to be done.
            let decision = match approval.wanted {
                Wanted::Review => Decision::Deny,
                Wanted::Question => Decision::Allow,
                Wanted::Approval => {
                    let message = "this is a question of yes or no";
                    return Err(Failure::new(Code::Usage, message, "use `allow` or `deny`"));
                }
            };
            answer(&client, &waiting, &id, decision, words.join(" "), out).await
        }
        (
            Approvals::Allow { id, .. } | Approvals::Deny { id, .. } | Approvals::Answer { id, .. },
            None,
        ) => find(&waiting, &id).map(drop),
    }
}

fn list(waiting: &[Approval], out: Output) -> Outcome {
    for approval in waiting {
        let id = &approval.approval_id[..approval.approval_id.len().min(8)];
        out.line(&format!("{}  {}", out.paint(Style::Strong, id), printable(&approval.summary)))?;
        for line in printable(&approval.detail).lines() {
            out.line(&format!("    {line}"))?;
        }
        let folder = Path::new(&approval.cwd).display();
        let run = if approval.run_id.is_empty() { "a single call" } else { &approval.run_id };
        out.line(&format!("    in {folder}, {run}, {} s left", approval.timeout_s))?;
        if !approval.limits.is_empty() {
            out.line(&format!("    limits: {}", printable(&approval.limits)))?;
        }
        out.line(&format!("    {}", question::choices(approval)))?;
    }
    if waiting.is_empty() {
        out.note("nothing waits for an answer");
    }
    Ok(())
}

/// The one that `id` begins the name of.
fn find<'a>(waiting: &'a [Approval], id: &str) -> Outcome<&'a Approval> {
    let mut fits = waiting.iter().filter(|w| !id.is_empty() && w.approval_id.starts_with(id));
    match (fits.next(), fits.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => {
            let message = format!("{id:?} begins the name of several");
            Err(Failure::new(Code::Usage, message, "give more of the name"))
        }
        (None, _) => {
            let message = format!("nothing called {id:?} waits for an answer");
            Err(Failure::new(Code::NotFound, message, "`lapce-ai approvals list` shows what waits"))
        }
    }
}

async fn answer(
    client: &EngineClient,
    waiting: &[Approval],
    id: &str,
    decision: Decision,
    feedback: String,
    out: Output,
) -> Outcome {
    let approval = find(waiting, id)?;
    let approval_id = approval.approval_id.clone();
    client.answer(Answer { approval_id, decision, feedback }).await?;
    out.line(&format!("answered: {}", printable(&approval.summary)))
}
