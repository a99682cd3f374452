//! Real MCP programs for tests, unpacked into the cache folder: the protocol's reference
//! servers, some of the catalogue that need no account, and the protocol's inspector.
//! Install scripts are not run.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::ctx::{Ctx, on_path, run};

/// The versions that `cli/src/commands/mcp/catalogue.toml` names.
const NPM: [&str; 7] = [
    "@modelcontextprotocol/server-everything@2026.8.31",
    "@modelcontextprotocol/server-filesystem@2026.8.31",
    "@modelcontextprotocol/server-memory@2026.8.31",
    "@notionhq/notion-mcp-server@2.5.2",
    "@playwright/mcp@0.0.83",
    "kubernetes-mcp-server@0.0.67",
    // Version 2 wants Node 22.
    "@modelcontextprotocol/inspector@1.0.3",
];
const PYPI: [&str; 2] = ["mcp-server-git==2026.10.19", "mcp-server-fetch==2026.10.24"];

/// The folder with `node/` and `py/`; fetched once, later calls only look.
pub fn fetch(ctx: &Ctx) -> Result<PathBuf> {
    let dir = ctx.cache.join("mcp-2026.11.1");
    if dir.join("done").is_file() {
        return Ok(dir);
    }
    for program in ["node", "npm", "python3"] {
        ensure!(
            on_path(program),
            "{program} is missing; `apt-get install nodejs npm python3 python3-pip` brings it"
        );
    }
    let fresh = crate::fetch::beside(ctx, "mcp")?;
    eprintln!("xtask: fetching MCP servers from npm and PyPI");
    run(Command::new("npm")
        .args([
            "install",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--no-progress",
            "--prefix",
        ])
        .arg(fresh.path().join("node"))
        .args(NPM)
        .current_dir(fresh.path()))
    .context("failed to fetch MCP servers from npm")?;
    run(Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--only-binary",
            ":all:",
        ])
        .args(["--no-compile", "--root-user-action", "ignore", "--target"])
        .arg(fresh.path().join("py"))
        .args(PYPI))
    .context("failed to fetch MCP servers from PyPI")?;
    fs::write(fresh.path().join("done"), "")?;
    crate::fetch::place(fresh, &dir)?;
    Ok(dir)
}
