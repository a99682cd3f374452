//! Vectors that the engine has made for us: this process has no network.
//!
//! A build sends its texts in bounded batches, one under way at a time, and waits; `server`
//! carries them over the ring. A question comes with its vector (`Given`).

use lapce_ai_ipc::wire::{ErrorKind, WireError};
use tokio::sync::{mpsc, oneshot};

use super::{Embedder, place};
use crate::limits::{EMBED_BYTES, EMBED_TEXT_BYTES, EMBED_TEXTS};

/// What a build has to say to the engine.
#[derive(Debug)]
pub enum Ask {
    Notice(String),
    Embed { texts: Vec<String>, answer: oneshot::Sender<Result<Vec<Vec<i8>>, WireError>> },
}

/// An embedder on the engine's side.
#[derive(Debug)]
pub struct Remote {
    name: String,
    dims: usize,
    price: String,
    ask: mpsc::Sender<Ask>,
}

/// What is embedded of one chunk.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    pub path: &'a str,
    pub crumb: &'a str,
    pub symbol: &'a str,
    pub code: &'a str,
}

impl Piece<'_> {
    pub fn text(&self) -> String {
        Self::join(place(self.path, self.crumb, self.symbol), self.code)
    }

    pub(super) fn join(place: String, code: &str) -> String {
        let mut text = place;
        text.push('\n');
        text.push_str(code);
        text.truncate(crate::chunk::cut(&text, EMBED_TEXT_BYTES).len());
        text
    }
}

impl Remote {
    pub fn new(name: String, dims: usize, price: String, ask: mpsc::Sender<Ask>) -> Self {
        Self { name, dims, price, ask }
    }

    /// Says what a build is about to send, before the first of it leaves.
    pub async fn announce(&self, files: u64, bytes: u64) {
        let _ = self.ask.send(Ask::Notice(estimate(&self.name, &self.price, files, bytes))).await;
    }

    /// Has the vectors of all texts made, in their order; `made` gets them batch by batch.
    pub async fn vectors(
        &self,
        texts: &[&str],
        mut made: impl FnMut(Vec<Vec<i8>>),
    ) -> Result<(), WireError> {
        let mut next = 0;
        while next < texts.len() {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while let Some(text) = texts.get(next).filter(|_| batch.len() < EMBED_TEXTS) {
                if !batch.is_empty() && bytes + text.len() > EMBED_BYTES {
                    break;
                }
                bytes += text.len();
                batch.push((*text).to_owned());
                next += 1;
            }
            let (answer, answered) = oneshot::channel();
            let sent = batch.len();
            let gone = |_| WireError::new(ErrorKind::Unavailable, "the engine is gone");
            let ask = Ask::Embed { texts: batch, answer };
            self.ask.send(ask).await.map_err(|e| gone(e.to_string()))?;
            let vectors = answered.await.map_err(|e| gone(e.to_string()))??;
            if vectors.len() != sent || vectors.iter().any(|v| v.len() != self.dims) {
                let what = format!("{} answered with vectors of another size", self.name);
                return Err(WireError::new(ErrorKind::Provider, what)
                    .hint("run `lapce-ai index` again: it asks for the size anew"));
            }
            made(vectors);
        }
        Ok(())
    }
}

/// A token is about this many bytes of code.
const TOKEN_BYTES: u64 = 3;

fn estimate(name: &str, price: &str, files: u64, bytes: u64) -> String {
    let model = name.strip_prefix("remote:").unwrap_or(name);
    let model = model.rsplit_once(':').map_or(model, |(model, _)| model);
    let tokens = bytes / TOKEN_BYTES;
    if !name.starts_with("remote:") {
        return format!(
            "a model on this machine reads {files} files, but for what it has read before: about {} thousand tokens at most; Ctrl-C stops it, and what is done is kept",
            tokens.div_ceil(1000)
        );
    }
    let cost = price.parse::<f64>().map_or(String::new(), |price| {
        format!(", about {:.2} at {price} per million", price * tokens as f64 / 1e6)
    });
    format!(
        "the text of {files} files goes to {model}, but for what it was asked before: about {} thousand tokens at most{cost}; Ctrl-C stops it, and what is done is kept",
        tokens.div_ceil(1000)
    )
}

impl Embedder for Remote {
    fn name(&self) -> &str {
        &self.name
    }

    fn dims(&self) -> usize {
        self.dims
    }

    fn chunk(&self, _place: &str, _code: &str) -> Option<Vec<i8>> {
        None
    }

    fn query(&self, _text: &str) -> Option<Vec<i8>> {
        None
    }

    fn remote(&self) -> Option<&Remote> {
        Some(self)
    }

    fn calibrated(&self) -> bool {
        false
    }
}

/// The vector that came with a question.
#[derive(Debug)]
pub struct Given {
    pub name: String,
    pub vector: Vec<i8>,
}

impl Embedder for Given {
    fn name(&self) -> &str {
        &self.name
    }

    fn dims(&self) -> usize {
        self.vector.len()
    }

    fn chunk(&self, _place: &str, _code: &str) -> Option<Vec<i8>> {
        None
    }

    fn query(&self, _text: &str) -> Option<Vec<i8>> {
        Some(self.vector.clone())
    }

    fn calibrated(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_says_what_leaves_and_what_it_costs() {
        assert_eq!(
            estimate("remote:openai/text-embedding-3-small:1536", "0.02", 40, 3_000_000),
            "the text of 40 files goes to openai/text-embedding-3-small, but for what it was asked before: about 1000 thousand tokens at most, about 0.02 at 0.02 per million; Ctrl-C stops it, and what is done is kept"
        );
        assert_eq!(
            estimate("remote:local/m:4", "", 1, 10),
            "the text of 1 files goes to local/m, but for what it was asked before: about 1 thousand tokens at most; Ctrl-C stops it, and what is done is kept"
        );
    }

    #[test]
    fn nothing_leaves_for_a_local_model() {
        assert_eq!(
            estimate("onnx:0011223344556677:384", "", 40, 3_000_000),
            "a model on this machine reads 40 files, but for what it has read before: about 1000 thousand tokens at most; Ctrl-C stops it, and what is done is kept"
        );
    }

    #[tokio::test]
    async fn texts_travel_in_bounded_batches_and_come_back_in_order() {
        let (ask, mut asked) = mpsc::channel(1);
        let remote = Remote::new("remote:p/m:2".into(), 2, String::new(), ask);
        let engine = tokio::spawn(async move {
            let mut batches = Vec::new();
            while let Some(Ask::Embed { texts, answer }) = asked.recv().await {
                let vectors = texts.iter().map(|t| vec![t.len() as i8, 1]).collect();
                batches.push((texts.len(), texts.iter().map(String::len).sum::<usize>()));
                answer.send(Ok(vectors)).unwrap();
            }
            batches
        });
        let long = "x".repeat(3 * EMBED_TEXT_BYTES);
        let codes: Vec<&str> =
            (0..150).map(|n| if n % 7 == 0 { long.as_str() } else { "ab" }).collect();
        let texts: Vec<String> = codes
            .iter()
            .map(|code| Piece { path: "a.rs", crumb: "", symbol: "", code }.text())
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut vectors = Vec::new();
        remote.vectors(&texts, |some| vectors.extend(some)).await.unwrap();
        drop(remote);
        assert_eq!(vectors.len(), 150);
        for (code, vector) in codes.iter().zip(&vectors) {
            let whole = "a".len() + " ".len() * 3 + 1 + code.len();
            assert_eq!(vector[0], whole.min(EMBED_TEXT_BYTES) as i8);
        }
        let batches = engine.await.unwrap();
        assert!(batches.len() > 2, "{batches:?}");
        assert!(batches.iter().all(|b| b.0 <= EMBED_TEXTS && b.1 <= EMBED_BYTES), "{batches:?}");
    }

    #[tokio::test]
    async fn an_answer_of_another_size_is_an_error() {
        let (ask, mut asked) = mpsc::channel(1);
        let remote = Remote::new("remote:p/m:2".into(), 2, String::new(), ask);
        tokio::spawn(async move {
            let Some(Ask::Embed { answer, .. }) = asked.recv().await else { return };
            answer.send(Ok(vec![vec![1, 2, 3]])).unwrap();
        });
        let error = remote.vectors(&["x"], |_| {}).await.unwrap_err();
        assert!(error.message.contains("another size"), "{error}");
    }
}
