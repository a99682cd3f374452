//! The command line: one file a command. [`args`] says what there is, [`exit`] how it
//! ends, [`output`] how it looks, [`session`] how it reaches the engine.

mod approvals;
pub mod args;
mod ask;
mod diagnostics;
mod doctor;
mod edit;
pub(crate) mod editor;
mod eval;
pub(crate) mod exit;
mod generate;
mod index;
mod index_program;
mod mcp;
pub(crate) mod output;
mod progress;
pub(crate) mod question;
mod rules;
pub(crate) mod run;
mod runs;
mod search;
pub(crate) mod session;
mod start;
mod status;
mod stop;
mod stream;
mod tool;
mod undo;
mod user_file;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Approvals, Cli, Command, Eval, McpCommand, Rules, Runs, Tool};
use exit::{Code, Failure, Outcome};
use output::Output;

/// The whole program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = Output::new();
    let json = wants_json(&cli.command);
    session::choose_transport(&cli.transport);
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| {
            let result = runtime.block_on(dispatch(cli.command, out));
            // A thread that waits for the terminal must not keep us.
            runtime.shutdown_background();
            result
        });
    let code = match result {
        Ok(()) => Code::Ok,
        Err(failure) => {
            out.failure(&failure, json);
            failure.code()
        }
    };
    ExitCode::from(code as u8)
}

async fn dispatch(command: Command, out: Output) -> Outcome {
    match command {
        Command::Status(json) => status::run(json, out).await,
        Command::Diagnostics(json) => diagnostics::run(json, out).await,
        Command::Start(json) => start::run(json, out).await,
        Command::Stop(json) => stop::run(json, out).await,
        Command::Doctor(args) => doctor::run(args, out).await,
        Command::Index(args) => index::run(args, out).await,
        Command::Search(args) => search::run(args, out).await,
        Command::Ask(args) => ask::run(args, out).await,
        Command::Edit(args) => edit::run(args, out).await,
        Command::Run(args) => run::run(args, out).await,
        Command::Runs(args) => runs::run(args, out).await,
        Command::Tui(args) => crate::tui::run(args, out).await,
        Command::Tool(args) => tool::run(args, out).await,
        Command::Undo(args) => undo::run(args, out).await,
        Command::Approvals(args) => approvals::run(args, out).await,
        Command::Rules(args) => rules::run(args, out),
        Command::Eval(args) => eval::run(args),
        Command::Mcp(args) => mcp::run(args, out).await,
        Command::Completions { shell } => generate::completions(shell, out),
        Command::Generate { what } => generate::reference(what, out),
    }
}

fn wants_json(command: &Command) -> bool {
    match command {
        Command::Status(json)
        | Command::Diagnostics(json)
        | Command::Start(json)
        | Command::Stop(json)
        | Command::Rules(Rules::List(json))
        | Command::Mcp(McpCommand::Catalogue(json))
        | Command::Approvals(Approvals::List(json))
        | Command::Runs(Runs::List { json, .. } | Runs::Show { json, .. })
        | Command::Tool(Tool::List(json)) => json.json,
        Command::Mcp(McpCommand::List(args)) => args.json.json,
        Command::Mcp(McpCommand::Test(args)) => args.json.json,
        Command::Undo(args) => args.json.json,
        Command::Doctor(args) => args.json.json,
        Command::Index(args) => args.json,
        Command::Eval(Eval::Search(args)) => args.json,
        Command::Search(args) => args.json.json,
        Command::Ask(args) => args.json,
        Command::Run(args) => args.json,
        Command::Tool(Tool::Run(args)) => args.report,
        Command::Tool(Tool::Schema { .. })
        | Command::Edit(_)
        | Command::Tui(_)
        | Command::Rules(_)
        | Command::Mcp(_)
        | Command::Approvals(_)
        | Command::Completions { .. }
        | Command::Generate { .. } => false,
    }
}
