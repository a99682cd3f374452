//! A model server that plays back bytes: for tests only.
//!
//! It speaks just enough HTTP/1.1 to read a request and write what the script says, byte
//! for byte, with any cuts and pauses. Each connection serves one request.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// What the server does with one request.
#[derive(Debug, Clone)]
pub enum Step {
    Send(Vec<u8>),
    Pause(u64),
    /// Say nothing until the client leaves.
    Hang,
}

#[derive(Debug, Clone, Default)]
pub struct Script(pub Vec<Step>);

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub head: String,
    pub body: Value,
}

impl Seen {
    /// The request line's target.
    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (n, v) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| v.trim())
        })
    }
}

#[derive(Debug, Default)]
pub struct State {
    scripts: Mutex<VecDeque<Script>>,
    seen: Mutex<Vec<Seen>>,
    left: Notify,
}

#[derive(Debug, Clone)]
pub struct Scripted {
    pub port: u16,
    state: Arc<State>,
}

impl Scripted {
    /// Starts a server that answers requests with `scripts`, in order.
    pub async fn new(scripts: Vec<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { port: listener.local_addr().unwrap().port(), state: Arc::default() };
        server.state.scripts.lock().unwrap().extend(scripts);
        let state = server.state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, state.clone()));
            }
        });
        server
    }

    /// As [`Scripted::new`], behind TLS.
    pub async fn tls(scripts: Vec<Script>, config: Arc<rustls::ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { port: listener.local_addr().unwrap().port(), state: Arc::default() };
        server.state.scripts.lock().unwrap().extend(scripts);
        let state = server.state.clone();
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, acceptor) = (state.clone(), acceptor.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, state).await;
                    }
                });
            }
        });
        server
    }

    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Resolves when a client closed its connection during [`Step::Hang`].
    pub async fn client_left(&self) {
        self.state.left.notified().await;
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<State>) {
    let Some(seen) = read_request(&mut stream).await else { return };
    state.seen.lock().unwrap().push(seen);
    let script = state.scripts.lock().unwrap().pop_front();
    let script =
        script.unwrap_or_else(|| error(500, &[], r#"{"error":{"message":"the script is over"}}"#));
    for step in script.0 {
        match step {
            Step::Send(bytes) => {
                if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
            Step::Pause(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Step::Hang => {
                let mut byte = [0];
                let _ = stream.read(&mut byte).await;
                state.left.notify_one();
                return;
            }
        }
    }
    let _ = stream.shutdown().await;
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let length = head
        .lines()
        .find_map(|l| {
            l.to_ascii_lowercase()
                .strip_prefix("content-length:")
                .map(|v| v.trim().parse::<usize>().unwrap())
        })
        .unwrap_or(0);
    let mut body = bytes[head_end + 4..].to_vec();
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Seen { head, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}

const SSE_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

/// A stream sent in one piece.
pub fn stream(body: &str) -> Script {
    Script(vec![Step::Send(format!("{SSE_HEAD}{body}").into_bytes())])
}

/// A stream sent `size` bytes at a time, each a segment of its own where the kernel lets it.
pub fn dribble(body: &str, size: usize) -> Script {
    let mut steps = vec![Step::Send(SSE_HEAD.as_bytes().to_vec())];
    for chunk in body.as_bytes().chunks(size) {
        steps.push(Step::Send(chunk.to_vec()));
        steps.push(Step::Pause(1));
    }
    Script(steps)
}

/// A stream that stays open and silent at its end.
pub fn hanging(body: &str) -> Script {
    let mut script = stream(body);
    script.0.push(Step::Hang);
    script
}

/// A stream with a declared length that is cut before it is reached.
pub fn cut(body: &str) -> Script {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 100000\r\n\r\n";
    Script(vec![Step::Send(format!("{head}{body}").into_bytes())])
}

/// A JSON body.
pub fn json_body(body: &str) -> Script {
    Script(vec![Step::Send(
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).into_bytes(),
    )])
}

/// A response with an error status.
pub fn error(status: u16, headers: &[(&str, &str)], body: &str) -> Script {
    let headers = headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect::<Vec<_>>().concat();
    Script(vec![Step::Send(
        format!(
            "HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .into_bytes(),
    )])
}

pub fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

/// An event of the OpenAI chat format with one delta.
pub fn delta(delta: &Value) -> String {
    event(
        &json!({"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]}),
    )
}

/// The end of an answer: the reason, the usage, the terminal.
pub fn end(reason: &str) -> String {
    let finish = event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}));
    let usage =
        event(&json!({"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 5}}));
    format!("{finish}{usage}data: [DONE]\n\n")
}

/// An answer in words.
pub fn words(text: &str) -> Script {
    let pieces: String = text.split_inclusive(' ').map(|w| delta(&json!({"content": w}))).collect();
    stream(&format!("{pieces}{}", end("stop")))
}

/// An answer with native calls: name and arguments of each.
pub fn calls(text: &str, calls: &[(&str, Value)]) -> Script {
    let mut body = String::new();
    if !text.is_empty() {
        body.push_str(&delta(&json!({"content": text})));
    }
    for (index, (name, arguments)) in calls.iter().enumerate() {
        let arguments = arguments.to_string();
        let (a, b) = arguments.split_at(arguments.len() / 2);
        body.push_str(&delta(&json!({"tool_calls": [{"index": index, "id": format!("call_{name}_{index}"), "type": "function", "function": {"name": name, "arguments": a}}]})));
        body.push_str(&delta(
            &json!({"tool_calls": [{"index": index, "function": {"arguments": b}}]}),
        ));
    }
    body.push_str(&end("tool_calls"));
    stream(&body)
}

/// A port nobody listens on.
pub fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
