//! The generated pages: what `lapce-ai generate` prints, kept in the repository.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::build::{self, Profile};
use crate::ctx::{Ctx, output};

const PAGES: [&str; 3] = ["cli", "tools", "config"];

/// Writes the pages, or with `check` only compares them.
pub fn run(ctx: &Ctx, check: bool) -> Result<()> {
    let bin = build::programs(ctx, Profile::Dev)?;
    let dir = ctx.root.join("docs/reference");
    fs::create_dir_all(&dir)?;
    let mut stale = Vec::new();
    for page in PAGES {
        let fresh = output(Command::new(bin.join("lapce-ai")).args(["generate", page]))?;
        let path = dir.join(format!("{page}.md"));
        if fs::read_to_string(&path).unwrap_or_default() == fresh {
            continue;
        }
        if check {
            stale.push(path.display().to_string());
        } else {
            fs::write(&path, fresh)
                .with_context(|| format!("failed to write {}", path.display()))?;
        }
    }
    if !stale.is_empty() {
        bail!("out of date: {}; `cargo xtask docs` regenerates them", stale.join(", "));
    }
    Ok(())
}
