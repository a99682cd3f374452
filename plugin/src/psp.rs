//! The plugin protocol's plumbing: JSON-RPC lines on stdin and stdout, and the host call
//! that makes Lapce read them.
//!
//! Used by `main.rs` and, through [`Host`], by `launch.rs`; knows nothing of servers or
//! settings. Input is the host's, yet nothing here trusts it: unreadable lines are
//! skipped.

use std::io::{BufRead, Read, Write, stdin, stdout};

use serde_json::{Value, json};

/// Longest line that is read; longer ones are skipped whole.
const MAX_LINE: u64 = 8 << 20;

/// What the rest of the volt needs from Lapce; tests put their own in its place.
pub(crate) trait Host {
    /// Sends a request and waits for its result.
    fn request(&mut self, method: &str, params: Value) -> Result<Value, String>;
    fn notify(&mut self, method: &str, params: Value);
    fn reply(&mut self, id: &Value, result: Result<Value, String>);

    /// A popup that stays until the user closes it.
    fn show_error(&mut self, text: &str) {
        self.notify("window/showMessage", json!({ "type": 1, "message": text }));
    }

    fn log(&mut self, text: &str) {
        self.notify(
            "window/logMessage",
            json!({ "type": 3, "message": format!("lapce-ai: {text}") }),
        );
    }
}

/// A message from Lapce, as far as this volt tells them apart.
#[derive(Debug, PartialEq)]
pub(crate) enum Message {
    Request { id: Value, method: String, params: Value },
    Other,
}

/// Reads one line's worth of message; `None` for what is no JSON object.
pub(crate) fn parse(line: &[u8]) -> Option<Message> {
    let Value::Object(mut object) = serde_json::from_slice(line).ok()? else { return None };
    let method = object.get("method").and_then(Value::as_str).map(str::to_owned);
    let id = object.remove("id").filter(|id| id.is_number() || id.is_string());
    Some(match (method, id) {
        (Some(method), Some(id)) => {
            let params = object.remove("params").unwrap_or(Value::Null);
            Message::Request { id, method, params }
        }
        _ => Message::Other,
    })
}

/// The answer to request `id` in this line, if it is that.
fn parse_answer(line: &[u8], id: u64) -> Option<Result<Value, String>> {
    let Value::Object(mut object) = serde_json::from_slice(line).ok()? else { return None };
    if object.get("method").is_some() || object.get("id").and_then(Value::as_u64) != Some(id) {
        return None;
    }
    if let Some(error) = object.remove("error") {
        let text = error.get("message").and_then(Value::as_str).unwrap_or("unknown error");
        return Some(Err(text.to_owned()));
    }
    Some(Ok(object.remove("result").unwrap_or(Value::Null)))
}

/// Lapce's end of the pipes.
#[derive(Default)]
pub(crate) struct Pipes {
    /// Messages that arrived while an answer was awaited.
    waiting: Vec<Message>,
}

/// Ids only have to differ from those still in flight, and there is one at a time; they
/// start high so that a log shows whose they are.
const FIRST_ID: u64 = 1_000_000;

thread_local! {
    static NEXT_ID: std::cell::Cell<u64> = const { std::cell::Cell::new(FIRST_ID) };
}

impl Pipes {
    /// The next message, or `None` when the pipe is empty.
    pub(crate) fn receive(&mut self) -> Option<Message> {
        if !self.waiting.is_empty() {
            return Some(self.waiting.remove(0));
        }
        while let Some(line) = read_line() {
            if let Some(message) = parse(&line) {
                return Some(message);
            }
        }
        None
    }
}

impl Host for Pipes {
    fn request(&mut self, method: &str, params: Value) -> Result<Value, String> {
        let id = NEXT_ID.get();
        NEXT_ID.set(id.wrapping_add(1));
        send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        // Lapce has put the answer into stdin by the time its call returns.
        while let Some(line) = read_line() {
            if let Some(answer) = parse_answer(&line, id) {
                return answer;
            }
            if let Some(message) = parse(&line) {
                self.waiting.push(message);
            }
        }
        Err(format!("the editor did not answer {method}"))
    }

    fn notify(&mut self, method: &str, params: Value) {
        send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    fn reply(&mut self, id: &Value, result: Result<Value, String>) {
        send(&match result {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err(message) => json!({
                "jsonrpc": "2.0", "id": id, "error": { "code": -32601, "message": message }
            }),
        });
    }
}

/// One line without its end, or `None` when the pipe is empty. A line that is too long
/// comes back empty.
fn read_line() -> Option<Vec<u8>> {
    let mut input = stdin().lock();
    let mut line = Vec::new();
    let read = input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).ok()?;
    if read == 0 {
        return None;
    }
    if line.last() != Some(&b'\n') && read as u64 == MAX_LINE {
        line.clear();
        loop {
            let mut rest = Vec::new();
            match input.by_ref().take(MAX_LINE).read_until(b'\n', &mut rest) {
                Ok(0) | Err(_) => break,
                Ok(_) if rest.last() == Some(&b'\n') => break,
                Ok(_) => {}
            }
        }
    }
    Some(line)
}

fn send(message: &Value) {
    let mut out = stdout().lock();
    // The host's pipe is memory; if it fails there is nobody left to tell.
    let _ = writeln!(out, "{message}").and_then(|()| out.flush());
    drop(out);
    host_handle_rpc();
}

#[cfg(target_family = "wasm")]
fn host_handle_rpc() {
    #[link(wasm_import_module = "lapce")]
    unsafe extern "C" {
        #[link_name = "host_handle_rpc"]
        fn lapce_host_handle_rpc();
    }
    // SAFETY: an import without parameters; the host only touches the pipes.
    unsafe { lapce_host_handle_rpc() }
}

/// Outside of Lapce there is no host to call.
#[cfg(not(target_family = "wasm"))]
fn host_handle_rpc() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_from_everything_else() {
        assert_eq!(
            parse(br#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#),
            Some(Message::Request { id: json!(0), method: "initialize".into(), params: json!({}) })
        );
        for other in [
            r#"{"method":"initialized"}"#,
            r#"{"id":3,"result":null}"#,
            r#"{"id":{"x":1},"method":"initialize"}"#,
            r#"{"id":1,"method":7}"#,
            "{}",
        ] {
            assert_eq!(parse(other.as_bytes()), Some(Message::Other), "{other}");
        }
        for garbage in ["", "[1,2]", "nonsense", "{\"id\":1,", "\u{feff}{}"] {
            assert_eq!(parse(garbage.as_bytes()), None, "{garbage}");
        }
        assert_eq!(parse(b"\xff\xfe{}"), None);
        assert_eq!(parse("[".repeat(100_000).as_bytes()), None, "depth is bounded");
    }

    #[test]
    fn an_answer_is_ours_only_by_its_id() {
        assert_eq!(parse_answer(br#"{"id":7,"result":{"a":1}}"#, 7), Some(Ok(json!({"a":1}))));
        assert_eq!(
            parse_answer(br#"{"id":7,"error":{"code":0,"message":"no"}}"#, 7),
            Some(Err("no".into()))
        );
        assert_eq!(parse_answer(br#"{"id":8,"result":1}"#, 7), None);
        assert_eq!(parse_answer(br#"{"id":7,"method":"initialize"}"#, 7), None);
        assert_eq!(parse_answer(b"garbage", 7), None);
    }
}
