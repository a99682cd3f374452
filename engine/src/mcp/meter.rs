//! What a stdio server sends, counted: a message that is too long or a flood ends the
//! connection, with the reason kept, before anything piles up.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, ReadBuf};

use super::limits;

/// Why a connection was ended by us; empty while it was not.
#[derive(Debug, Clone, Default)]
pub struct Reason(Arc<Mutex<String>>);

impl Reason {
    pub fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, why: String) {
        let mut reason = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if reason.is_empty() {
            *reason = why;
        }
    }
}

/// A reader that ends when its limits are passed.
#[derive(Debug)]
pub struct Metered<R> {
    inner: R,
    reason: Reason,
    ended: bool,
    line: usize,
    since: Instant,
    bytes: u64,
    lines: u32,
}

impl<R> Metered<R> {
    pub fn new(inner: R, reason: Reason) -> Self {
        Self { inner, reason, ended: false, line: 0, since: Instant::now(), bytes: 0, lines: 0 }
    }

    /// Counts a piece; `Some` is the limit that it passes.
    fn count(&mut self, piece: &[u8], now: Instant) -> Option<String> {
        if now.duration_since(self.since) > limits::FLOOD_WINDOW {
            (self.since, self.bytes, self.lines) = (now, 0, 0);
        }
        self.bytes += piece.len() as u64;
        let mut rest = piece;
        while let Some(at) = rest.iter().position(|b| *b == b'\n') {
            self.lines = self.lines.saturating_add(1);
            if self.line + at > limits::MESSAGE_BYTES {
                return Some(too_long());
            }
            self.line = 0;
            rest = &rest[at + 1..];
        }
        self.line += rest.len();
        if self.line > limits::MESSAGE_BYTES {
            return Some(too_long());
        }
        (self.bytes > limits::FLOOD_BYTES || self.lines > limits::FLOOD_LINES).then(|| {
            format!(
                "it was ended because it flooded us: {} messages, {} MB within {} s",
                self.lines,
                self.bytes >> 20,
                limits::FLOOD_WINDOW.as_secs()
            )
        })
    }
}

fn too_long() -> String {
    format!("it was ended because it sent a message longer than {} MB", limits::MESSAGE_BYTES >> 20)
}

impl<R: AsyncRead + Unpin> AsyncRead for Metered<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let piece = buf.filled()[before..].to_vec();
        if let Some(why) = self.count(&piece, Instant::now()) {
            self.reason.set(why);
            self.ended = true;
            buf.set_filled(before);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    async fn read(bytes: Vec<u8>) -> (usize, String) {
        let reason = Reason::default();
        let mut out = Vec::new();
        let mut metered = Metered::new(bytes.as_slice(), reason.clone());
        metered.read_to_end(&mut out).await.unwrap();
        (out.len(), reason.get())
    }

    #[tokio::test]
    async fn what_is_within_the_limits_passes_unchanged() {
        let line = [b"x".repeat(limits::MESSAGE_BYTES), b"\n{}\n".to_vec()].concat();
        assert_eq!(read(line.clone()).await, (line.len(), String::new()));
    }

    #[tokio::test]
    async fn a_gigantic_line_and_a_flood_end_the_connection() {
        let (n, why) = read(b"x".repeat(limits::MESSAGE_BYTES * 3)).await;
        assert!(n <= limits::MESSAGE_BYTES && why.contains("longer than 4 MB"), "{n} {why}");
        let (_, why) = read(b"\n".repeat(limits::FLOOD_LINES as usize * 2)).await;
        assert!(why.contains("flooded"), "{why}");
    }
}
