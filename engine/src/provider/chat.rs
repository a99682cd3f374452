//! One answer, streamed: sends, retries while nothing was shown, decodes.
//!
//! The work is a task of its own that ends when its [`ChatStream`] is dropped; that closes
//! the connection, and with it the provider's work. Deltas wait in a bounded channel, so a
//! slow reader holds the network back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::error::{Fault, ProviderError, clean};
use super::http::{self, Http, Outgoing};
use super::keys::Keys;
use super::lines::{Framing, Splitter};
use super::model::Model;
use super::types::{ChatRequest, Delta, Finish, Stop};
use super::wire::Decode;
use super::{format, limits, retry, wire};

/// The deltas of one answer; the last is [`Delta::End`].
#[derive(Debug)]
pub struct ChatStream {
    deltas: mpsc::Receiver<Delta>,
    task: JoinHandle<()>,
    provider: String,
}

impl ChatStream {
    /// The next delta. Safe to drop and call again. After the end: an error.
    pub async fn next(&mut self) -> Delta {
        self.deltas.recv().await.unwrap_or_else(|| {
            Delta::End(Err(ProviderError::new(
                Fault::Protocol,
                &self.provider,
                "the answer is over",
            )))
        })
    }
}

impl Drop for ChatStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) fn start(
    http: Arc<Http>,
    keys: Arc<Keys>,
    model: Model,
    request: ChatRequest,
) -> ChatStream {
    let (sender, deltas) = mpsc::channel(limits::DELTAS);
    let provider = model.provider.clone();
    let task = tokio::spawn(async move {
        let result = drive(&http, &keys, &model, &request, &sender).await;
        let _ = sender.send(Delta::End(result)).await;
    });
    ChatStream { deltas, task, provider }
}

async fn drive(
    http: &Http,
    keys: &Keys,
    model: &Model,
    request: &ChatRequest,
    deltas: &mpsc::Sender<Delta>,
) -> Result<Finish, ProviderError> {
    let key = keys.get(&model.provider, model.key.as_ref()).await?;
    let outgoing = format::outgoing(model, key.as_ref(), request);
    let mut tries = 0;
    loop {
        tries += 1;
        let mut shown = false;
        let error = match attempt(http, model, &outgoing, deltas, &mut shown).await {
            Ok(finish) => return Ok(finish),
            Err(error) => error,
        };
        if error.fault == Fault::Auth {
            keys.forget();
        }
        let pause = if shown { None } else { retry::pause(&error, tries, retry::jitter()) };
        let Some(pause) = pause else { return Err(error) };
        let _ = deltas.send(Delta::Notice(notice(&error, pause, tries + 1))).await;
        tokio::time::sleep(pause).await;
    }
}

/// What the user is told before a pause.
fn notice(error: &ProviderError, pause: Duration, next: u32) -> String {
    let what = match error.fault {
        Fault::RateLimited => "rate limited".to_owned(),
        _ => error.message.clone(),
    };
    let wait = if pause < Duration::from_secs(2) {
        format!("{:.1} s", pause.as_secs_f64())
    } else {
        format!("{:.0} s", pause.as_secs_f64())
    };
    format!("{}: {what}, next try in {wait} (try {next} of {})", error.provider, limits::TRIES)
}

async fn attempt(
    http: &Http,
    model: &Model,
    outgoing: &Outgoing,
    deltas: &mpsc::Sender<Delta>,
    shown: &mut bool,
) -> Result<Finish, ProviderError> {
    let mut response = http.send(outgoing, &model.network, model.first_byte()).await?;
    let framing = format::framing(model);
    let whole = framing == Framing::Sse
        && response
            .headers()
            .get("content-type")
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| v.starts_with("application/json"));
    let mut reader = Reader {
        splitter: Splitter::new(framing),
        decoder: format::decoder(model),
        model,
        outgoing,
        deltas,
        shown,
        taken: 0,
    };
    if whole {
        // The server ignored `stream`: one JSON text, an answer or an error.
        let body = http::read_body(&mut response, limits::BODY_BYTES, model.first_byte())
            .await
            .map_err(|why| {
                ProviderError::new(
                    Fault::Network,
                    &model.provider,
                    format!("the answer was cut off: {why}"),
                )
            })?;
        reader.frame("", &String::from_utf8_lossy(&body)).await?;
        return reader.decoder.finish();
    }
    let why_cut = loop {
        let idle = if reader.decoder.announced() { limits::AFTER_END } else { model.idle() };
        let chunk = match tokio::time::timeout(idle, response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => break "the stream ended".to_owned(),
            Ok(Err(error)) => {
                break format!(
                    "the connection broke: {}",
                    clean(&http::cause(&error), outgoing.key.as_ref())
                );
            }
            Err(_) => break format!("silence for {} s", idle.as_secs()),
        };
        reader.push(&chunk).await?;
        if reader.decoder.ended() {
            break String::new();
        }
    };
    reader.rest().await?;
    let begun = *reader.shown;
    let finish = reader.decoder.finish()?;
    if finish.stop == Stop::Truncated {
        if !begun {
            return Err(ProviderError::new(
                Fault::Network,
                &model.provider,
                format!("{why_cut} before an answer began"),
            ));
        }
        let _ = deltas
            .send(Delta::Notice(format!("{}: the answer was cut off ({why_cut})", model.provider)))
            .await;
    }
    Ok(finish)
}

/// Bytes in, deltas out.
struct Reader<'a> {
    splitter: Splitter,
    decoder: Box<dyn Decode>,
    model: &'a Model,
    outgoing: &'a Outgoing,
    deltas: &'a mpsc::Sender<Delta>,
    /// Whether anything of the answer was passed on.
    shown: &'a mut bool,
    taken: usize,
}

impl Reader<'_> {
    async fn push(&mut self, bytes: &[u8]) -> Result<(), ProviderError> {
        let mut frames = Vec::new();
        let split = self.splitter.push(bytes, &mut frames);
        for frame in frames {
            self.frame(&frame.event, &frame.data).await?;
        }
        split.map_err(|e| wire::protocol(&self.model.provider, e.to_string()))
    }

    /// What the stream left behind. Half an event is no error here: the answer counts as cut.
    async fn rest(&mut self) -> Result<(), ProviderError> {
        let splitter = std::mem::replace(&mut self.splitter, Splitter::new(Framing::Sse));
        let mut frames = Vec::new();
        if splitter.finish(&mut frames).is_ok() {
            for frame in frames {
                match self.frame(&frame.event, &frame.data).await {
                    Err(error) if error.fault == Fault::Protocol => break,
                    other => other?,
                }
            }
        }
        Ok(())
    }

    async fn frame(&mut self, event: &str, data: &str) -> Result<(), ProviderError> {
        let mut out = Vec::new();
        let result = self.decoder.frame(event, data, &mut out);
        for delta in out {
            if let Delta::Text(text) | Delta::Reasoning(text) = &delta {
                self.taken += text.len();
            }
            *self.shown = true;
            if self.deltas.send(delta).await.is_err() {
                // Nobody listens; the task is about to be ended.
                return Err(wire::protocol(&self.model.provider, "nobody listens"));
            }
        }
        if self.taken > limits::ANSWER_BYTES {
            return Err(wire::protocol(
                &self.model.provider,
                format!("the answer is longer than {} bytes", limits::ANSWER_BYTES),
            ));
        }
        result.map_err(|mut error| {
            error.message = clean(&error.message, self.outgoing.key.as_ref());
            error
        })
    }
}
