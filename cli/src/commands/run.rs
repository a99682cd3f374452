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
    let client = session::engine().await?;
    let (task, attached) = mentions::expanded(&client, &root, args.task).await?;
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
    Ok(())
}
