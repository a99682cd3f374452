//! Listens to one answer of a model: words to the outlet, calls to the loop.
//!
//! A call in XML ends the answer as soon as it is whole: what a model writes behind it is
//! usually an invented result.

use lapce_ai_ipc::wire::engine::Usage;
use lapce_ai_tools::call::ToolCall;
use lapce_ai_tools::xml::{ParseError, Piece, StreamParser};
use tokio_util::sync::CancellationToken;

use super::outlet::{Outlet, until};
use super::tokens;
use crate::provider::{ChatStream, Delta, Finish, ProviderError, Stop};

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Everything the model wrote, calls in XML included, up to the end of the first call.
    pub raw: String,
    /// The words meant for the user.
    pub words: String,
    pub xml: Option<Result<ToolCall, ParseError>>,
    pub finish: Finish,
}

#[derive(Debug)]
pub enum Ended {
    Cancelled,
    /// `shown` says whether words had already gone out.
    Failed {
        error: ProviderError,
        shown: bool,
    },
}

/// Reads `stream` to its end. With a parser, calls in XML are looked for.
pub async fn listen(
    mut stream: ChatStream,
    mut parser: Option<StreamParser>,
    outlet: &mut Outlet<'_>,
    cancel: &[&CancellationToken],
) -> Result<Answer, Ended> {
    let mut answer = Answer {
        raw: String::new(),
        words: String::new(),
        xml: None,
        finish: Finish {
            stop: Stop::Truncated,
            usage: Usage::default(),
            calls: Vec::new(),
            opaque: Vec::new(),
        },
    };
    outlet.begin();
    loop {
        let delta = tokio::select! {
            biased;
            () = any(cancel) => return Err(Ended::Cancelled),
            delta = stream.next() => delta,
            () = until(outlet.next_tick()) => {
                outlet.tick().await.map_err(|_| Ended::Cancelled)?;
                continue;
            }
        };
        let sent = match delta {
            Delta::Notice(text) => outlet.notice(&text).await,
            Delta::Reasoning(_) | Delta::CallStarted { .. } => Ok(()),
            Delta::Text(text) => {
                answer.raw.push_str(&text);
                let pieces = match &mut parser {
                    Some(parser) => parser.push(&text),
                    None => vec![Piece::Text(text)],
                };
                let sent = take(pieces, &mut answer, outlet).await;
                if answer.xml.is_some() {
                    // The stream is dropped, which stops the provider. What it would have
                    // said about usage is estimated.
                    answer.finish.stop = Stop::ToolCalls;
                    answer.finish.usage.output = tokens::estimate(&answer.raw) as u64;
                    sent.map_err(|_| Ended::Cancelled)?;
                    return Ok(answer);
                }
                sent
            }
            Delta::End(Err(error)) => {
                return Err(Ended::Failed { error, shown: !answer.raw.is_empty() });
            }
            Delta::End(Ok(finish)) => {
                answer.finish = finish;
                if let Some(parser) = parser.take() {
                    let _ = take(parser.finish(), &mut answer, outlet).await;
                }
                return Ok(answer);
            }
        };
        sent.map_err(|_| Ended::Cancelled)?;
    }
}

async fn take(
    pieces: Vec<Piece>,
    answer: &mut Answer,
    outlet: &mut Outlet<'_>,
) -> Result<(), super::outlet::Gone> {
    for piece in pieces {
        match piece {
            Piece::Text(text) => {
                answer.words.push_str(&text);
                outlet.text(&text).await?;
            }
            Piece::CallStarted { .. } => {}
            Piece::Call(call) => {
                answer.xml = Some(Ok(call));
                return Ok(());
            }
            Piece::Error(error) => {
                answer.xml = Some(Err(error));
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Resolves when one of the tokens is cancelled.
pub async fn any(tokens: &[&CancellationToken]) {
    let waits = tokens.iter().map(|t| Box::pin(t.cancelled()));
    futures::future::select_all(waits).await;
}
