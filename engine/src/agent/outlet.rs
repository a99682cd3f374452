//! What a run shows while it goes on: events to the caller, words to the transcript.
//!
//! The first words of an answer leave at once; after that they are gathered and leave
//! every [`limits::TICK`]. Used by `ask` and the agent loop.

use lapce_ai_ipc::wire::engine::Event;
use lapce_ai_ipc::{Cx, EngineProtocol};
use tokio::time::Instant;

use super::limits;
use crate::transcript::Transcript;

/// The caller is gone or has cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

pub struct Outlet<'a> {
    cx: &'a Cx<EngineProtocol>,
    transcript: Option<Transcript>,
    pending: String,
    /// When words last left; `None` at the start of an answer.
    last: Option<Instant>,
}

impl<'a> Outlet<'a> {
    pub fn new(cx: &'a Cx<EngineProtocol>, transcript: Option<Transcript>) -> Self {
        Self { cx, transcript, pending: String::new(), last: None }
    }

    /// Path of the transcript, or empty.
    pub fn transcript_path(&self) -> String {
        self.transcript.as_ref().map(|t| t.path().display().to_string()).unwrap_or_default()
    }

    /// A new answer begins: its first words leave at once.
    pub fn begin(&mut self) {
        self.last = None;
    }

    /// Words of the model.
    pub async fn text(&mut self, text: &str) -> Result<(), Gone> {
        if text.is_empty() {
            return Ok(());
        }
        if let Some(transcript) = &mut self.transcript {
            transcript.push(text);
        }
        self.pending.push_str(text);
        if self.last.is_none_or(|last| last.elapsed() >= limits::TICK) {
            self.flush_text().await?;
        }
        Ok(())
    }

    /// Any other event; the words before it leave first.
    pub async fn event(&mut self, event: Event) -> Result<(), Gone> {
        self.flush_text().await?;
        self.cx.emit(event).await.map_err(|_| Gone)
    }

    /// Something the user should know now.
    pub async fn notice(&mut self, text: &str) -> Result<(), Gone> {
        self.note(&format!("\n\n> {text}\n\n"));
        self.event(Event::Notice(text.to_owned())).await
    }

    /// Words for the transcript alone.
    pub fn note(&mut self, markdown: &str) {
        if let Some(transcript) = &mut self.transcript {
            transcript.push(markdown);
        }
    }

    /// When [`Outlet::tick`] has something to do.
    pub fn next_tick(&self) -> Option<Instant> {
        let text = if self.pending.is_empty() {
            None
        } else {
            Some(self.last.unwrap_or_else(Instant::now) + limits::TICK)
        };
        let file = self.transcript.as_ref().and_then(Transcript::next_write).map(Instant::from_std);
        match (text, file) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        }
    }

    pub async fn tick(&mut self) -> Result<(), Gone> {
        if self.last.is_none_or(|last| last.elapsed() >= limits::TICK) {
            self.flush_text().await?;
        }
        if let Some(transcript) = &mut self.transcript
            && transcript.next_write().is_some_and(|at| at <= std::time::Instant::now())
        {
            transcript.flush();
        }
        self.report_failure().await
    }

    async fn report_failure(&mut self) -> Result<(), Gone> {
        if let Some(problem) = self.transcript.as_mut().and_then(Transcript::take_failure) {
            self.cx.emit(Event::Notice(problem)).await.map_err(|_| Gone)?;
        }
        Ok(())
    }

    async fn flush_text(&mut self) -> Result<(), Gone> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let text = std::mem::take(&mut self.pending);
        self.last = Some(Instant::now());
        self.cx.emit(Event::Text(text)).await.map_err(|_| Gone)
    }

    /// Everything leaves, and the transcript is whole.
    pub async fn finish(&mut self) -> Result<(), Gone> {
        if let Some(transcript) = &mut self.transcript {
            transcript.flush();
        }
        self.flush_text().await?;
        self.report_failure().await
    }
}

/// Waits until `at`, or for ever.
pub async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
