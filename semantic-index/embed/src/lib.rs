//! A local ONNX model that turns texts into vectors.
//!
//! The program `lapce-ai-embed` loads one model from a folder that the user's configuration
//! names and answers on its standard streams (`serve`) until they close. The engine starts it
//! for a question or a build, in the sandbox of the tools, and ends it when it is idle; no
//! other process holds a model or links the runtime. It reads the folder and nothing else,
//! and downloads nothing.

pub mod limits;
pub mod model;
pub mod serve;
pub mod settings;
pub mod words;

/// Why a model cannot be used: a sentence that begins with what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable(pub String);

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unusable {}

/// Bounded, and no more of it than `most` bytes.
fn read(path: &std::path::Path, most: u64) -> Result<Vec<u8>, Unusable> {
    use std::io::Read as _;
    let wrong = |why: &dyn std::fmt::Display| Unusable(format!("{}: {why}", path.display()));
    let file = std::fs::File::open(path).map_err(|e| wrong(&e))?;
    let meta = file.metadata().map_err(|e| wrong(&e))?;
    if !meta.is_file() {
        return Err(wrong(&"it is not a file"));
    }
    if meta.len() > most {
        return Err(wrong(&format!("it is larger than {} MiB", most >> 20)));
    }
    let mut bytes = Vec::with_capacity(meta.len() as usize);
    file.take(most).read_to_end(&mut bytes).map_err(|e| wrong(&e))?;
    Ok(bytes)
}
