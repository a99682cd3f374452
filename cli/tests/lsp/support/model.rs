//! A model server that plays back a script: for tests only.
//!
//! Speaks as much HTTP as the engine needs: one request a connection, answers in the OpenAI
//! chat format (streamed) or as one JSON body.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// How one request is answered.
pub enum Reply {
    /// An answer in words.
    Words(&'static str),
    /// Words, then silence until the sender speaks (or is dropped), then more words.
    Halting(&'static str, Receiver<()>, &'static str),
    /// A native tool call.
    Call(&'static str, Value),
    /// Ghost text, once the sender speaks (or is dropped).
    Ghost(&'static str, Option<Receiver<()>>),
}

/// A halt and what ends it.
pub fn gate() -> (Sender<()>, Receiver<()>) {
    channel()
}

pub struct Model {
    port: u16,
    seen: Arc<Mutex<Vec<Value>>>,
}

impl Model {
    pub fn new(script: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(VecDeque::from(script)));
        let log = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, log) = (script.clone(), log.clone());
                std::thread::spawn(move || {
                    let _ = serve(stream, &script, &log);
                });
            }
        });
        Self { port, seen }
    }

    /// Bodies of the requests so far.
    pub fn seen(&self) -> Vec<Value> {
        self.seen.lock().unwrap().clone()
    }

    /// A `config.toml` whose chat and completion model this is.
    pub fn config(&self) -> String {
        format!(
            "[models]\nchat = \"test/m\"\ncomplete = \"test/m\"\ndetect_local = false\n\n\
             [providers.test]\nkind = \"openai\"\nbase_url = \"http://127.0.0.1:{}/v1\"\n\n\
             [providers.test.models.m]\ntools = \"native\"\nfim = \"suffix\"\n",
            self.port
        )
    }
}

fn serve(
    mut stream: TcpStream,
    script: &Mutex<VecDeque<Reply>>,
    log: &Mutex<Vec<Value>>,
) -> std::io::Result<()> {
    let body = read_request(&mut stream)?;
    let reply = script.lock().unwrap().pop_front();
    log.lock().unwrap().push(body);
    match reply {
        None => {
            stream.write_all(b"HTTP/1.1 500 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        }
        Some(Reply::Words(text)) => {
            head(&mut stream)?;
            stream.write_all(
                format!("{}{}", delta(&json!({ "content": text })), end("stop")).as_bytes(),
            )
        }
        Some(Reply::Halting(first, gate, rest)) => {
            head(&mut stream)?;
            stream.write_all(delta(&json!({ "content": first })).as_bytes())?;
            stream.flush()?;
            let _ = gate.recv();
            stream.write_all(
                format!("{}{}", delta(&json!({ "content": rest })), end("stop")).as_bytes(),
            )
        }
        Some(Reply::Call(name, arguments)) => {
            head(&mut stream)?;
            let call = json!({ "tool_calls": [{
                "index": 0, "id": "call_0", "type": "function",
                "function": { "name": name, "arguments": arguments.to_string() },
            }]});
            stream.write_all(format!("{}{}", delta(&call), end("tool_calls")).as_bytes())
        }
        Some(Reply::Ghost(text, gate)) => {
            if let Some(gate) = gate {
                let _ = gate.recv();
            }
            let body =
                json!({ "choices": [{ "text": text, "finish_reason": "stop" }] }).to_string();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(format!("{head}{body}").as_bytes())
        }
    }
}

fn read_request(stream: &mut TcpStream) -> std::io::Result<Value> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    let body = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        let n = stream.read(&mut chunk)?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&chunk[..n]);
    };
    let head = String::from_utf8_lossy(&bytes[..body]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.and_then(|n| n.trim().parse().ok()).unwrap_or(0);
    while bytes.len() < body + length {
        let n = stream.read(&mut chunk)?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&chunk[..n]);
    }
    Ok(serde_json::from_slice(&bytes[body..body + length]).unwrap_or(Value::Null))
}

fn head(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n",
    )
}

fn delta(delta: &Value) -> String {
    let choice = json!({ "index": 0, "delta": delta, "finish_reason": null });
    format!(
        "data: {}\n\n",
        json!({ "id": "c", "object": "chat.completion.chunk", "choices": [choice] })
    )
}

fn end(reason: &str) -> String {
    let finish = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] });
    let usage = json!({ "choices": [], "usage": { "prompt_tokens": 20, "completion_tokens": 5 } });
    format!("data: {finish}\n\ndata: {usage}\n\ndata: [DONE]\n\n")
}
