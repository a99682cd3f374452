//! The `DevTools` protocol over a pair of pipes: JSON, each message ended by a NUL. What
//! comes back was made by pages and is not to be trusted; its size is bounded here.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::time::Instant;

use serde_json::{Value, json};

use crate::limits::{BROWSER_EVENTS, BROWSER_MESSAGE_BYTES};
use crate::sandbox::sys;

#[derive(Debug)]
pub(super) struct Cdp {
    to: File,
    from: File,
    buffer: Vec<u8>,
    next: u64,
    /// Events that came while an answer was waited for.
    events: VecDeque<Value>,
}

impl Cdp {
    pub(super) fn new(to: File, from: File) -> Self {
        Self { to, from, buffer: Vec::new(), next: 0, events: VecDeque::new() }
    }

    /// Sends a command and waits for its answer.
    pub(super) fn call(
        &mut self,
        method: &str,
        params: &Value,
        session: Option<&str>,
        deadline: Instant,
    ) -> Result<Value, String> {
        let id = self.send(method, params, session)?;
        loop {
            let Some(mut message) = self.message(deadline)? else {
                return Err(format!("the browser did not answer to {method} in time"));
            };
            if message.get("id").and_then(Value::as_u64) == Some(id) {
                if let Some(error) = message.get("error") {
                    let why = error.get("message").and_then(Value::as_str).unwrap_or("no reason");
                    return Err(format!("{method}: {}", crate::call::one_line(why, 300)));
                }
                return Ok(message["result"].take());
            }
            if message.get("method").is_some() && self.events.len() < BROWSER_EVENTS {
                self.events.push_back(message);
            }
        }
    }

    fn send(&mut self, method: &str, params: &Value, session: Option<&str>) -> Result<u64, String> {
        self.next += 1;
        let mut message = json!({"id": self.next, "method": method, "params": params});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut text = message.to_string().into_bytes();
        text.push(0);
        self.to.write_all(&text).map_err(|e| format!("the browser is gone: {e}"))?;
        Ok(self.next)
    }

    /// The next event, or nothing by `deadline`.
    pub(super) fn event(&mut self, deadline: Instant) -> Result<Option<Value>, String> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match self.message(deadline)? {
                Some(message) if message.get("method").is_some() => return Ok(Some(message)),
                // An answer that nobody waits for any more.
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// The next message. A question that a page puts up (`alert`) holds up everything else,
    /// answers included, so it is dismissed here.
    fn message(&mut self, deadline: Instant) -> Result<Option<Value>, String> {
        let message = self.raw(deadline)?;
        if let Some(message) = &message
            && message["method"] == "Page.javascriptDialogOpening"
        {
            let no = json!({"accept": false});
            self.send("Page.handleJavaScriptDialog", &no, message["sessionId"].as_str())?;
        }
        Ok(message)
    }

    fn raw(&mut self, deadline: Instant) -> Result<Option<Value>, String> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|b| *b == 0) {
                let rest = self.buffer.split_off(searched + at + 1);
                let mut text = std::mem::replace(&mut self.buffer, rest);
                text.pop();
                return serde_json::from_slice(&text)
                    .map(Some)
                    .map_err(|e| format!("the browser sent something that is no message: {e}"));
            }
            searched = self.buffer.len();
            if searched > BROWSER_MESSAGE_BYTES {
                return Err("the browser sent a message that is too long".into());
            }
            let left = deadline.saturating_duration_since(Instant::now()).as_millis();
            let wait = left.min(60_000) as i32;
            let ready = sys::poll(&[(self.from.as_raw_fd(), libc::POLLIN)], wait)
                .map_err(|e| format!("the browser cannot be waited for: {e}"))?;
            if ready[0] == 0 {
                return Ok(None);
            }
            let mut piece = [0; 16 << 10];
            match self.from.read(&mut piece) {
                Ok(0) => return Err("the browser ended".into()),
                Ok(n) => self.buffer.extend_from_slice(&piece[..n]),
                Err(e) => return Err(format!("the browser cannot be read: {e}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A scripted other end: answers each command with the lines given for it.
    fn scripted(script: Vec<Vec<Value>>) -> Cdp {
        let (ours_in, theirs_out) = sys::pipe().unwrap();
        let (theirs_in, ours_out) = sys::pipe().unwrap();
        std::thread::spawn(move || {
            let (mut from, mut to) = (File::from(theirs_in), File::from(theirs_out));
            for answers in script {
                let mut byte = [1];
                while byte != [0] && from.read(&mut byte).unwrap_or(0) > 0 {}
                for answer in answers {
                    // In pieces, as a pipe may give them.
                    for piece in (answer.to_string() + "\0").as_bytes().chunks(7) {
                        to.write_all(piece).unwrap();
                    }
                }
            }
        });
        Cdp::new(File::from(ours_out), File::from(ours_in))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn answers_are_told_from_events_and_errors_named() {
        let mut cdp = scripted(vec![
            vec![
                json!({"method": "a.happened", "params": {}}),
                json!({"id": 77, "result": {}}),
                json!({"id": 1, "result": {"x": 2}}),
            ],
            vec![json!({"id": 2, "error": {"message": "no\nway"}})],
        ]);
        assert_eq!(cdp.call("A.do", &json!({}), None, soon()).unwrap(), json!({"x": 2}));
        assert_eq!(cdp.call("B.do", &json!({}), Some("s"), soon()).unwrap_err(), "B.do: no way");
        assert_eq!(cdp.event(soon()).unwrap().unwrap()["method"], "a.happened");
        assert!(cdp.event(soon()).unwrap_err().contains("the browser ended"));
    }

    #[test]
    fn silence_and_rubbish_are_errors() {
        let mut cdp = scripted(vec![vec![json!({"id": 9})], vec![]]);
        let now = Instant::now() + Duration::from_millis(50);
        assert!(cdp.call("A.do", &json!({}), None, now).is_err());
        let (reader, writer) = sys::pipe().unwrap();
        File::from(writer).write_all(b"not json\0").unwrap();
        let null = File::options().write(true).open("/dev/null").unwrap();
        let mut cdp = Cdp::new(null, File::from(reader));
        assert!(cdp.event(soon()).unwrap_err().contains("no message"));
    }
}
