//! Arguments of `mcp`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Json, Root};

#[derive(Debug, Subcommand)]
pub enum McpCommand {
    /// List the servers and their state; starts none
    List(McpList),
    /// Start a server now and show what it offers
    Test(McpTest),
    /// Add a server of the catalogue, a program, or an address to config.toml
    Add(McpAdd),
    /// Remove a server from config.toml
    Rm { name: String },
    /// Log in to a server that wants OAuth; its tokens go into the keyring
    Login(McpLogin),
    /// Forget the login to a server
    Logout { name: String },
    /// Show servers that are ready to be added
    Catalogue(Json),
    /// List a server's prompts, or print one
    Prompts(McpPrompts),
    /// Offer our search and tools to other agents, as an MCP server on stdin and stdout
    #[command(long_about = "\
Offer our search and tools to other agents, as an MCP server on standard input and output, for \
the workspace that it was started in. Each call goes through your rules and the sandbox as an \
agent's does; what would be asked about is refused, since there is nobody to ask.")]
    Serve(McpServe),
}

#[derive(Debug, Args)]
pub struct McpList {
    #[command(flatten)]
    pub root: Root,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Args)]
pub struct McpTest {
    /// The server
    pub name: String,
    #[command(flatten)]
    pub root: Root,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Args)]
pub struct McpAdd {
    /// Its name; without a command or --url also its name in the catalogue
    pub name: String,
    /// Its name in the catalogue, when that differs
    #[arg(long, value_name = "ENTRY", conflicts_with_all = ["url", "command"])]
    pub from: Option<String>,
    /// The address of a server that speaks streamable HTTP
    #[arg(long, conflicts_with = "command")]
    pub url: Option<String>,
    /// A variable of its environment: NAME=text, NAME=env:VARIABLE or NAME=keyring:ENTRY
    #[arg(long, value_name = "NAME=VALUE", conflicts_with = "url")]
    pub env: Vec<String>,
    /// A header of each request, written like --env
    #[arg(long, value_name = "NAME=VALUE", requires = "url")]
    pub header: Vec<String>,
    /// It wants a login (OAuth): `lapce-ai mcp login` after it
    #[arg(long, requires = "url")]
    pub oauth: bool,
    /// A host it may reach (api.example.org, localhost:5432), or `all` for the host's network
    #[arg(long, value_name = "HOST")]
    pub network: Vec<String>,
    /// What it may do with the workspace [default: read]
    #[arg(long, value_parser = ["none", "read", "write"])]
    pub workspace: Option<String>,
    /// One more folder it may read
    #[arg(long, value_name = "FOLDER")]
    pub read: Vec<PathBuf>,
    /// One more folder it may write
    #[arg(long, value_name = "FOLDER")]
    pub write: Vec<PathBuf>,
    /// The program and its arguments, after `--`
    #[arg(last = true)]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct McpLogin {
    /// The server
    pub name: String,
    /// Print the address only, and open no browser
    #[arg(long)]
    pub no_browser: bool,
}

#[derive(Debug, Args)]
pub struct McpPrompts {
    /// The server
    pub server: String,
    /// The prompt to print [default: list them]
    pub prompt: Option<String>,
    /// Its arguments, a JSON object
    #[arg(long, value_name = "OBJECT", default_value = "{}")]
    pub arguments: String,
    #[command(flatten)]
    pub root: Root,
}

#[derive(Debug, Args)]
pub struct McpServe {
    /// Which tools to offer: those that read, those that also change files, or commands too
    #[arg(long, default_value = "read", value_parser = ["read", "write", "all"])]
    pub tools: String,
    #[command(flatten)]
    pub root: Root,
}
