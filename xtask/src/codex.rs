//! The Codex command line, for `cargo xtask bench tools`: its sandbox is what ours is
//! measured beside. From npm, unpacked into the cache folder; a bench does without it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::ctx::{Ctx, on_path, run};

const PACKAGE: &str = "@openai/codex@0.169.0-linux-x64";
/// Of the package, what its sandbox needs.
const PROGRAM: &str = "package/vendor/x86_64-unknown-linux-musl/bin/codex";

/// The program, and a home folder for it; fetched once.
pub fn fetch(ctx: &Ctx) -> Result<(PathBuf, PathBuf)> {
    let dir = ctx.cache.join("codex");
    let found = (dir.join("codex"), dir.join("home"));
    if found.0.is_file() {
        return Ok(found);
    }
    ensure!(cfg!(target_arch = "x86_64") && on_path("npm"), "there is no npm");
    let fresh = crate::fetch::beside(ctx, "codex")?;
    let archive = crate::fetch::npm_pack(PACKAGE, fresh.path())?;
    run(Command::new("tar").arg("xzf").arg(&archive).arg(PROGRAM).current_dir(fresh.path()))?;
    fs::create_dir_all(&found.1)?;
    fs::rename(fresh.path().join(PROGRAM), &found.0)
        .with_context(|| format!("failed to place {}", found.0.display()))?;
    Ok(found)
}
