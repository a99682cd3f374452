//! `lapce-ai run`

use lapce_ai_ipc::wire::engine::{Run, RunOutcome, RunReply};

use super::args;
use super::exit::{Code, Failure, Outcome};
use super::output::{Output, Style, count, printable};
use super::session;
use super::stream::Stream;
use crate::mentions;

pub async fn run(args: args::Run, out: Output) -> Outcome {
    let root = session::workspace(args.root.root.as_deref())?;
    let (task, continues) = words(args.task, args.continues);
    let client = session::engine().await?;
    let (task, attached) = mentions::expanded(&client, &root, task).await?;
    let mut stream = Stream::new(&client, out, args.json, args.yes);
    stream.wait = args.wait;
    let call = client.run(Run {
        root,
        task,
        editor: None,
        model: args.model,
        max_turns: args.max_turns,
        mode: args.mode,
        review: args.review,
        attached,
        continues,
    });
    let reply = stream.follow(call).await?;
    if args.json {
        out.json_line(&serde_json::json!({"reply": reply}))?;
    } else {
        print(&reply, out)?;
    }
    match reply.outcome {
        RunOutcome::Completed => Ok(()),
        RunOutcome::TurnLimit => Err(Failure::Silent(Code::Limit)),
        RunOutcome::Cancelled => Err(Failure::Silent(Code::Interrupted)),
        RunOutcome::Failed => Err(Failure::Silent(Code::Failed)),
    }
}

/// What is to be done, and the run that it goes on with. `--continue` takes the word behind it,
/// which is the task when it cannot be a run's name and nothing else is said.
fn words(task: Option<String>, continues: Option<String>) -> (String, Option<String>) {
    match (task, continues) {
        (None, Some(words)) if !may_name_a_run(&words) => (words, Some(String::new())),
        (task, continues) => (task.unwrap_or_default(), continues),
    }
}

/// A part of `20261125-093812-3fa1c2`, long enough to mean it.
pub(crate) fn may_name_a_run(text: &str) -> bool {
    text.len() >= 4
        && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'))
        && text.bytes().any(|b| b.is_ascii_digit())
}

fn print(reply: &RunReply, out: Output) -> Outcome {
    if !reply.result.is_empty() {
        out.line("")?;
        out.line(printable(&reply.result).trim_end())?;
    }
    let (style, word) = match reply.outcome {
        RunOutcome::Completed => (Style::Good, "completed"),
        RunOutcome::TurnLimit => (Style::Warn, "stopped at the turn limit"),
        RunOutcome::Cancelled => (Style::Warn, "cancelled"),
        RunOutcome::Failed => (Style::Bad, "failed"),
    };
    out.note(&format!(
        "{}: {}, {}; {} tokens in, {} out; {}",
        out.paint_err(style, word),
        count(reply.turns.into(), "turn"),
        count(reply.tool_calls.into(), "tool call"),
        reply.usage.input + reply.usage.cache_read + reply.usage.cache_write,
        reply.usage.output + reply.usage.reasoning,
        reply.transcript,
    ));
    let next = format!("`lapce-ai run --continue {} \"…\"` goes on with it", reply.run_id);
    out.note(&out.paint_err(Style::Dim, &next));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_continue_is_a_name_or_the_task() {
        let read = |task: Option<&str>, continues: Option<&str>| {
            words(task.map(str::to_owned), continues.map(str::to_owned))
        };
        let newest = Some(String::new());
        assert_eq!(read(Some("fix it"), None), ("fix it".into(), None));
        assert_eq!(read(None, Some("")), (String::new(), newest.clone()));
        assert_eq!(read(None, Some("fix it")), ("fix it".into(), newest.clone()));
        assert_eq!(read(None, Some("decade")), ("decade".into(), newest));
        assert_eq!(read(None, Some("3fa1c2")), (String::new(), Some("3fa1c2".into())));
        let full = "20261125-093812-3fa1c2";
        assert_eq!(read(Some("fix it"), Some(full)), ("fix it".into(), Some(full.into())));
        // Two texts: the first is a name whatever it looks like, and the engine says if none has it.
        assert_eq!(read(Some("fix it"), Some("latest")), ("fix it".into(), Some("latest".into())));
    }
}
