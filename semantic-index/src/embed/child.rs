//! A local ONNX model for `eval`: `lapce-ai-embed` as a child of this process.
//!
//! The product asks through the engine, which fences it (`remote`); here a user measures a
//! model of their own by hand.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::Embedder;
use super::remote::Piece;

/// A model that answers on pipes.
pub struct Local {
    name: String,
    dims: usize,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    child: Child,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Local {
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        let program = lapce_ai_ipc::paths::find_program("lapce-ai-embed")
            .context("the program lapce-ai-embed was not found; `cargo xtask build` makes it")?;
        let mut child = Command::new(program)
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().context("no pipe")?;
        let mut stdout = BufReader::new(child.stdout.take().context("no pipe")?);
        let hello = line(&mut stdout)?;
        let (id, dims) = hello["id"].as_str().zip(hello["dims"].as_u64()).with_context(|| {
            hello["error"].as_str().unwrap_or("it said nothing of itself").to_owned()
        })?;
        let (name, dims) = (format!("{id}:{dims}"), dims as usize);
        Ok(Self { name, dims, pipes: Mutex::new((stdin, stdout)), child })
    }

    fn ask(&self, text: &str, question: bool) -> Option<Vec<i8>> {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let (stdin, stdout) = &mut *pipes;
        let request = json!({"texts": [text], "question": question});
        writeln!(stdin, "{request}").and_then(|()| stdin.flush()).ok()?;
        serde_json::from_value(line(stdout).ok()?["vectors"][0].take()).ok()
    }
}

fn line(from: &mut BufReader<ChildStdout>) -> anyhow::Result<Value> {
    let mut text = String::new();
    from.read_line(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

impl Drop for Local {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Embedder for Local {
    fn name(&self) -> &str {
        &self.name
    }

    fn dims(&self) -> usize {
        self.dims
    }

    fn chunk(&self, place: &str, code: &str) -> Option<Vec<i8>> {
        self.ask(&Piece::join(place.to_owned(), code), false)
    }

    fn query(&self, text: &str) -> Option<Vec<i8>> {
        self.ask(text, true)
    }

    fn calibrated(&self) -> bool {
        false
    }
}
