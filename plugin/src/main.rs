//! The volt: finds `lapce-ai-lsp`, makes Lapce start it, and tells the user what to do
//! when it cannot.
//!
//! Lapce calls `handle_rpc` once per message (P/wasi.rs of Lapce: one line of JSON-RPC on
//! stdin); what this module writes to stdout is read when it calls `host_handle_rpc`.
//! Nothing else happens here: no files are written, nothing is downloaded, no setting
//! that could name a program is read. The module must not trap: Lapce goes on with a
//! trapped volt as if nothing had happened, and the user would never learn why.
//!
//! PSP is spoken directly instead of through the `lapce-plugin` crate: that crate can only
//! start a server by the deprecated notification, which answers nothing, and it brings
//! an HTTP client along (docs/dependencies.d/plugin.md).

mod launch;
mod psp;
mod settings;

use std::cell::RefCell;

use serde_json::{Value, json};

use psp::{Host, Message, Pipes};

/// What has to be remembered between two messages.
#[derive(Default)]
struct Volt {
    started: bool,
}

impl Volt {
    fn handle(&mut self, host: &mut impl Host, message: Message) {
        match message {
            Message::Request { id, method, params } => match method.as_str() {
                "initialize" => {
                    // Answer first: starting the server takes as long as the server does.
                    host.reply(&id, Ok(json!({ "capabilities": {} })));
                    if !self.started {
                        self.started = true;
                        start(host, &params);
                    }
                }
                _ => host.reply(&id, Err(format!("{method} is not known to this volt"))),
            },
            // Notifications (`initialized`, document changes) need nothing from us, and
            // a response that nobody waits for is late.
            Message::Other => {}
        }
    }
}

fn start(host: &mut impl Host, params: &Value) {
    let (settings, complaints) = settings::read(params.get("initializationOptions"));
    for complaint in complaints {
        host.log(&complaint);
    }
    let env = launch::Env::from_process();
    match launch::find(host, &env) {
        Ok(server) => {
            host.log(&format!("starting {} {}", server.program, server.version));
            if let Err(error) = launch::start(host, &server, &settings) {
                host.show_error(&format!("{} could not be started: {error}", server.program));
            }
        }
        Err(missing) => host.show_error(&missing.to_string()),
    }
}

thread_local! {
    static VOLT: RefCell<Volt> = RefCell::default();
}

/// One message from Lapce.
// SAFETY: the name is unique in this module; Lapce finds the function by it.
#[unsafe(no_mangle)]
pub extern "C" fn handle_rpc() {
    let mut host = Pipes::default();
    VOLT.with(|volt| {
        // A message cannot arrive while one is handled (one thread, no re-entry); if a host
        // ever does so, dropping the message is better than a trap.
        if let Ok(mut volt) = volt.try_borrow_mut() {
            while let Some(message) = host.receive() {
                volt.handle(&mut host, message);
            }
        }
    });
}

/// Never called by Lapce; a command module must have it.
fn main() {}
