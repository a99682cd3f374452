//! `lapce-ai undo`

use lapce_ai_ipc::wire::engine::{Undo, UndoWhat, Undoable};

use super::args;
use super::exit::{Code, Failure, Outcome};
use super::output::{Output, Style, printable};
use super::session;
use super::status::ago;

pub async fn run(args: args::Undo, out: Output) -> Outcome {
    let root = session::workspace(args.root.root.as_deref())?;
    let client = session::engine().await?;
    if args.list {
        let calls = client.undoable(root).await?;
        return if args.json.json { out.json(&calls) } else { list(&calls, out) };
    }
    let what = match args.what {
        None => UndoWhat::Last,
        Some(name) => {
            let calls = client.undoable(root.clone()).await?;
            if calls.iter().any(|call| call.run == name) {
                UndoWhat::Run(name)
            } else {
                UndoWhat::Call(name)
            }
        }
    };
    let reply = client.undo(Undo { root, what }).await?;
    if args.json.json {
        out.json(&reply)?;
    } else if reply.ok {
        out.line(printable(&reply.text).trim_end())?;
        let hint = format!("`lapce-ai undo {}` takes this back", reply.run);
        out.note(&out.paint_err(Style::Dim, &hint));
    } else {
        let next = "`lapce-ai undo --list` shows what can be undone";
        return Err(Failure::new(Code::Failed, printable(reply.text.trim()), next));
    }
    if reply.ok { Ok(()) } else { Err(Failure::Silent(Code::Failed)) }
}

fn list(calls: &[Undoable], out: Output) -> Outcome {
    let mut run = None;
    for call in calls {
        if run != Some(&call.run) {
            out.line(&out.paint(Style::Strong, &printable(&call.run)))?;
            run = Some(&call.run);
        }
        out.line(&format!(
            "  {}  {}  {}  {}",
            printable(&call.call),
            call.tool,
            ago(call.at_ms / 1000),
            printable(&call.files.join(", ")),
        ))?;
    }
    if calls.is_empty() {
        out.note("nothing to undo: no tool has changed a file here");
    }
    Ok(())
}
