//! OAuth of servers that are reached over HTTP: the authorization code flow with PKCE, a
//! client registered on the spot, and a redirect to this machine.
//!
//! [`login::login`] is `lapce-ai mcp login`; [`tokens::Tokens`] holds and renews what it
//! gave, and [`client::Authorised`] sends it. Below them: `discovery` reads what servers say
//! about themselves (pure), `guard` decides which addresses that may lead to, `callback`
//! waits for the browser. Tokens are kept in the keyring, and nowhere else.

pub mod callback;
pub mod client;
pub mod config;
pub mod discovery;
pub mod guard;
pub mod login;
pub mod pkce;
pub mod tokens;

/// Entry of a server in the keyring.
fn entry(server: &str) -> String {
    format!("mcp-oauth-{server}")
}
