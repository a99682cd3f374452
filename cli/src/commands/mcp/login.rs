//! `lapce-ai mcp login` and `logout`: the engine does it, this shows the address and opens it.

use std::process::{Command, Stdio};

use lapce_ai_ipc::wire::engine::{Event, McpOrder};

use super::super::args::McpLogin;
use super::super::exit::Outcome;
use super::super::output::{Output, printable};
use super::super::session;

const OPENER: &str = "xdg-open";

pub async fn login(args: McpLogin, out: Output) -> Outcome {
    let name = args.name;
    let client = session::engine().await?;
    let root = session::workspace(None)?;
    let mut call = client.mcp_call(root, McpOrder::Login { name: name.clone() });
    while let Some(event) = call.next().await {
        let Event::Text(address) = event else { continue };
        let address = printable(&address);
        out.note(&format!("open this address to log in to {name}:"));
        out.line(&address)?;
        if !args.no_browser && open(&address) {
            out.note("it was handed to your browser");
        }
        out.note("waiting for you; Ctrl-C gives up");
    }
    let reply = call.finish().await?;
    out.line(&format!("logged in to {name} ({})", printable(&reply.text)))?;
    out.note(&format!("next: lapce-ai mcp test {name}"));
    Ok(())
}

pub async fn logout(name: String, out: Output) -> Outcome {
    let client = session::engine().await?;
    let root = session::workspace(None)?;
    let reply = client.mcp(root, McpOrder::Logout { name: name.clone() }).await?;
    if reply.text.is_empty() {
        out.note(&format!("there was no login to {name}"));
        return Ok(());
    }
    out.line(&format!("logged out of {name}"))
}

/// Hands an address to the desktop, where there is one. The engine has checked that it is
/// https, or http on this machine.
fn open(address: &str) -> bool {
    let desktop = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|v| std::env::var_os(v).is_some());
    let web = address.starts_with("https://") || address.starts_with("http://");
    if !desktop || !web {
        return false;
    }
    let opener = Command::new(OPENER)
        .arg(address)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    opener.is_ok()
}
