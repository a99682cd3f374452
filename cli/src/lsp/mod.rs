//! `lapce-ai-lsp`: the language server that an editor starts, one per window.
//!
//! It translates LSP to requests of the engine and holds nothing that matters: open
//! documents, the runs that this editor started, no keys, no index. It is built to the host's
//! rules (docs/editor.md): it must not crash, because Lapce does not start a server again;
//! it declines with errors, because the first success wins; it ends with stdin, because
//! nothing else tells it to.
//!
//! `transport` and `framing` move bytes, `rpc` and `types` read them, `server` is the loop,
//! `handlers/` the features, `documents` and `text` what they look at, `link` the engine,
//! `runs`, `edits` and `index` what goes on in the background.

mod client;
mod documents;
mod edits;
mod framing;
mod handlers;
mod index;
mod latest;
mod limits;
mod link;
mod parent;
mod past;
mod piece;
mod rpc;
mod runs;
mod server;
mod settings;
mod shell;
mod text;
mod transport;
mod types;
mod unsaved;
mod uri;

use std::process::ExitCode;
use std::time::Duration;

use lapce_ai_ipc::Transport;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const HELP: &str = "\
lapce-ai-lsp [--stdio] [--transport memfd|portable]

The language server of Lapce AI, over stdin and stdout. An editor starts it; in Lapce the
plugin does. Settings come in the editor's `initializationOptions` (docs/editor.md).

  --stdio             speak LSP over stdin and stdout, the only way there is
  --transport NAME    memory of the connection to the engine: memfd (sealed memory files,
                      the default) or portable (named shared memory)
  --version           print the version
  --help              print this
";

pub fn main() -> ExitCode {
    let mut transport = Transport::default();
    let mut args = std::env::args_os().skip(1);
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--transport") => {
                let name = args.next().unwrap_or_default();
                let Some(chosen) = name.to_str().and_then(Transport::from_name) else {
                    eprintln!("lapce-ai-lsp: --transport takes memfd or portable");
                    return ExitCode::from(2);
                };
                transport = chosen;
            }
            Some("--stdio") => {}
            Some("--version" | "-V") => {
                println!("lapce-ai-lsp {VERSION}");
                return ExitCode::SUCCESS;
            }
            Some("--help" | "-h") => {
                print!("{HELP}");
                return ExitCode::SUCCESS;
            }
            _ => {
                eprintln!("lapce-ai-lsp: unknown argument {}; see --help", arg.display());
                return ExitCode::from(2);
            }
        }
    }
    match run(transport) {
        Ok(server::End::Clean) => ExitCode::SUCCESS,
        Ok(server::End::Unclean) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("lapce-ai-lsp: failed to start: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(transport: Transport) -> std::io::Result<server::End> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let (out, writer) = transport::Outbox::start()?;
    let frames = transport::reader()?;
    let tasks = tokio::task::LocalSet::new();
    let end = tasks.block_on(&runtime, server::serve(frames, out.clone(), transport));
    // Cancels what is under way; the engine notices by the end of the connection.
    drop(tasks);
    runtime.shutdown_timeout(Duration::ZERO);
    out.close();
    // The editor may have stopped reading; then there is nobody to write for.
    let patience = std::time::Instant::now() + limits::FAREWELL;
    while !writer.is_finished() && std::time::Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(end)
}
