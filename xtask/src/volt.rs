//! `cargo xtask volt`: an installable plugin folder with the programs in its `bin/`.
//!
//! Lapce takes it with `lapce -n --plugin-path OUT`, or copied to
//! `~/.local/share/lapce-stable/plugins/lapce-ai.lapce-ai`. The same folder without `bin/`
//! is what the plugin registry is given.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::build::PROGRAMS;
use crate::ctx::Ctx;
use crate::wasm;

/// Files of `plugin/` that belong into the folder as they are.
const FILES: [&str; 2] = ["volt.toml", "README.md"];

/// Lays out the folder `out`; `bin_dir` holds the built programs. An older volt at `out` is
/// replaced; anything else there is left alone, with an error.
pub fn volt(ctx: &Ctx, out: &Path, bin_dir: &Path) -> Result<()> {
    let module = wasm::build_plugin(ctx)?;
    if out.exists() {
        let ours = out.join("volt.toml").is_file()
            || out.read_dir().is_ok_and(|mut dir| dir.next().is_none());
        ensure!(ours, "{} exists and is no volt; name another folder", out.display());
    }
    let fresh = out.with_extension("new");
    if fresh.exists() {
        fs::remove_dir_all(&fresh)
            .with_context(|| format!("failed to remove {}", fresh.display()))?;
    }
    let bin = fresh.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("failed to create {}", bin.display()))?;
    for file in FILES {
        copy(&ctx.root.join("plugin").join(file), &fresh.join(file))?;
    }
    copy(&module, &fresh.join("lapce-ai.wasm"))?;
    for program in PROGRAMS {
        copy(&bin_dir.join(program), &bin.join(program))?;
    }
    // The old folder goes only when the new one is whole.
    if out.exists() {
        fs::remove_dir_all(out).with_context(|| format!("failed to remove {}", out.display()))?;
    }
    fs::rename(&fresh, out)
        .with_context(|| format!("failed to move the volt to {}", out.display()))?;
    eprintln!("xtask: try it with `lapce -n --plugin-path {}`", out.display());
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("failed to copy {} to {}", from.display(), to.display()))
}
