//! `lapce-ai tool list | schema | run`

use lapce_ai_ipc::wire::engine::ToolCall;
use lapce_ai_tools::{schema, spec};

use super::args::{self, Tool};
use super::exit::{Code, Failure, Outcome};
use super::output::{Output, Style, printable};
use super::session;
use super::stream::Stream;

pub async fn run(args: Tool, out: Output) -> Outcome {
    match args {
        Tool::List(json) if json.json => {
            let tools: Vec<_> = spec::offered().map(schema::function).collect();
            out.json(&tools)
        }
        Tool::List(_) => {
            for spec in spec::offered() {
                let name = out.paint(Style::Strong, &format!("{:<24}", spec.name));
                out.line(&format!("{name} {}", spec.summary))?;
            }
            Ok(())
        }
        Tool::Schema { name } => {
            let spec = spec::find(&name).ok_or_else(|| unknown(&name))?;
            out.json(&schema::function(spec))
        }
        Tool::Run(args) => call(args, out).await,
    }
}

fn unknown(name: &str) -> Failure {
    let message = format!("there is no tool {name:?}");
    Failure::new(Code::NotFound, message, "`lapce-ai tool list` names every tool")
}

async fn call(args: args::ToolRun, out: Output) -> Outcome {
    if spec::find(&args.name).is_none() {
        return Err(unknown(&args.name));
    }
    let root = session::workspace(args.root.root.as_deref())?;
    let client = session::engine().await?;
    let mut stream = Stream::new(&client, out, false, false);
    let request = ToolCall { root, name: args.name, json: args.json, approved: !args.ask };
    let reply = stream.follow(client.tool(request)).await?;
    if args.report {
        out.json(&reply)?;
    } else {
        out.line(printable(&reply.text).trim_end())?;
        let layers = if reply.layers.is_empty() {
            "no sandbox needed".to_owned()
        } else {
            reply.layers.join(", ")
        };
        let rule = match reply.rule.as_str() {
            "" => String::new(),
            rule => format!("; allowed: {}", printable(rule)),
        };
        let note = format!("{} ms; {layers}{rule}", reply.wall_ms);
        out.note(&out.paint_err(Style::Dim, &note));
    }
    if reply.ok { Ok(()) } else { Err(Failure::Silent(Code::Failed)) }
}
