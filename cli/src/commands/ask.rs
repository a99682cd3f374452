//! `lapce-ai ask`

use std::io::Read as _;

use lapce_ai_ipc::wire::engine::{Ask, AskReply, Hit};

use super::args;
use super::exit::{Code, Failure, Outcome};
use super::output::{Output, Style, printable};
use super::session;
use super::stream::Stream;
use crate::mentions;

/// What is taken from standard input.
const INPUT_BYTES: u64 = 200 * 1024;

pub async fn run(args: args::Ask, out: Output) -> Outcome {
    let root = session::workspace(args.root.root.as_deref())?;
    let client = session::engine().await?;
    // Before the input comes to it: that may be anybody's text.
    let (mut question, attached) = mentions::expanded(&client, &root, args.question).await?;
    if args.input.is_some() {
        question = format!("{question}\n\n{}", standard_input()?);
    }
    let mut stream = Stream::new(&client, out, args.json, false);
    let call = client.ask(Ask {
        root,
        question,
        editor: None,
        model: args.model,
        transcript: args.transcript,
        attached,
        continues: args.continues.then(String::new),
    });
    let reply = stream.follow(call).await?;
    if args.json {
        out.json_line(&serde_json::json!({"reply": reply}))?;
    } else {
        print(&reply, out)?;
    }
    if reply.stop == "cancelled" {
        return Err(Failure::Silent(Code::Interrupted));
    }
    Ok(())
}

fn print(reply: &AskReply, out: Output) -> Outcome {
    if !reply.answered {
        out.line("No model answered; these passages fit the question best.")?;
        out.line("")?;
        for hit in &reply.citations {
            out.line(&citation(hit, out))?;
            for (number, line) in (hit.start_line..).zip(hit.code.lines()) {
                out.line(&format!("{number:>6} {}", printable(line)))?;
            }
            out.line("")?;
        }
    } else if !reply.citations.is_empty() {
        out.line("")?;
        for hit in &reply.citations {
            out.line(&citation(hit, out))?;
        }
    }
    if reply.answered && reply.stop != "stop" && !reply.stop.is_empty() {
        out.note(&out.paint_err(Style::Warn, &format!("the answer ended early: {}", reply.stop)));
    }
    if !reply.hint.is_empty() {
        out.note(&out.paint_err(Style::Dim, &printable(&reply.hint)));
    }
    Ok(())
}

fn citation(hit: &Hit, out: Output) -> String {
    let place = format!("{}:{}", printable(&hit.path), hit.start_line);
    format!("{}  {}", out.paint(Style::Path, &place), printable(&hit.symbol))
}

fn standard_input() -> Outcome<String> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(INPUT_BYTES + 1).read_to_end(&mut bytes).map_err(|error| {
        Failure::new(Code::Failed, format!("cannot read standard input: {error}"), "")
    })?;
    if bytes.len() as u64 > INPUT_BYTES {
        let message = format!("standard input has more than {INPUT_BYTES} bytes");
        return Err(Failure::new(Code::Limit, message, "send the part that matters"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
