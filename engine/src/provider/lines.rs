//! Bytes of a streamed body, cut anywhere, into frames: server-sent events or NDJSON.
//!
//! Pure: the network is in `http.rs`. Bytes are kept until a line is whole and decoded
//! then, so a character split between two chunks survives. Lines and events have a bound.

use super::limits;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Sse,
    Ndjson,
}

/// One event of the stream. NDJSON lines have no name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub event: String,
    pub data: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    #[error("a line of the stream is longer than {} bytes", limits::LINE_BYTES)]
    Line,
    #[error("an event of the stream is longer than {} bytes", limits::EVENT_BYTES)]
    Event,
}

/// Cuts a stream into frames.
#[derive(Debug)]
pub struct Splitter {
    framing: Framing,
    line: Vec<u8>,
    /// The last byte was a carriage return that ended a line; a line feed belongs to it.
    after_cr: bool,
    /// Nothing was read yet: a byte order mark may come.
    start: bool,
    event: String,
    data: String,
    has_data: bool,
}

impl Splitter {
    pub fn new(framing: Framing) -> Self {
        Self {
            framing,
            line: Vec::new(),
            after_cr: false,
            start: true,
            event: String::new(),
            data: String::new(),
            has_data: false,
        }
    }

    /// Takes the next bytes and appends the frames they complete.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<Frame>) -> Result<(), SplitError> {
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(at) = bytes.iter().position(|b| *b == b'\n' || *b == b'\r') {
            self.keep(&bytes[..at])?;
            self.end_line(out)?;
            let cr = bytes[at] == b'\r';
            bytes = &bytes[at + 1..];
            if cr {
                if bytes.is_empty() {
                    self.after_cr = true;
                } else {
                    bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
                }
            }
        }
        self.keep(bytes)
    }

    /// The stream is over: what is left, even when the last line or blank line is missing.
    pub fn finish(mut self, out: &mut Vec<Frame>) -> Result<(), SplitError> {
        if !self.line.is_empty() {
            self.end_line(out)?;
        }
        self.end_event(out);
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), SplitError> {
        if self.line.len() + bytes.len() > limits::LINE_BYTES {
            return Err(SplitError::Line);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, out: &mut Vec<Frame>) -> Result<(), SplitError> {
        let bytes = std::mem::take(&mut self.line);
        let mut line: &[u8] = &bytes;
        if std::mem::take(&mut self.start) {
            line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
        let line = String::from_utf8_lossy(line);
        let result = match self.framing {
            Framing::Ndjson => {
                if !line.trim().is_empty() {
                    out.push(Frame { event: String::new(), data: line.into_owned() });
                }
                Ok(())
            }
            Framing::Sse => self.sse_line(&line, out),
        };
        // The buffer is used again for the next line, unless a long one made it large.
        let mut bytes = bytes;
        bytes.clear();
        bytes.shrink_to(16 * 1024);
        self.line = bytes;
        result
    }

    fn sse_line(&mut self, line: &str, out: &mut Vec<Frame>) -> Result<(), SplitError> {
        if line.is_empty() {
            self.end_event(out);
            return Ok(());
        }
        // A line that begins with a colon is a comment: a keep-alive.
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if self.data.len() + value.len() + 1 > limits::EVENT_BYTES {
                    return Err(SplitError::Event);
                }
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            "event" => value.clone_into(&mut self.event),
            _ => {}
        }
        Ok(())
    }

    fn end_event(&mut self, out: &mut Vec<Frame>) {
        let event = std::mem::take(&mut self.event);
        if std::mem::take(&mut self.has_data) {
            out.push(Frame { event, data: std::mem::take(&mut self.data) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(framing: Framing, chunks: &[&[u8]]) -> Vec<Frame> {
        let mut splitter = Splitter::new(framing);
        let mut out = Vec::new();
        for chunk in chunks {
            splitter.push(chunk, &mut out).unwrap();
        }
        splitter.finish(&mut out).unwrap();
        out
    }

    fn frame(event: &str, data: &str) -> Frame {
        Frame { event: event.into(), data: data.into() }
    }

    const SSE: &str = "\u{feff}: OPENROUTER PROCESSING\n\nevent: a\ndata: {\"t\":\"grün €\"}\n\n\
        data:no space\r\ndata: second\r\n\r\nid: 7\rretry: 1\rdata: cr only\r\r: keepalive\n\nevent: b\n\ndata\n\ndata: [DONE]";

    fn expected() -> Vec<Frame> {
        vec![
            frame("a", "{\"t\":\"grün €\"}"),
            frame("", "no space\nsecond"),
            frame("", "cr only"),
            frame("", ""),
            frame("", "[DONE]"),
        ]
    }

    #[test]
    fn server_sent_events() {
        assert_eq!(split(Framing::Sse, &[SSE.as_bytes()]), expected());
    }

    /// Every pair of cuts, empty chunks included: same frames.
    #[test]
    fn any_split_gives_the_same_frames() {
        let bytes = SSE.as_bytes();
        for a in 0..=bytes.len() {
            for b in a..=bytes.len() {
                assert_eq!(
                    split(Framing::Sse, &[&bytes[..a], &bytes[a..b], &bytes[b..]]),
                    expected(),
                    "cut at {a} and {b}"
                );
            }
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(split(Framing::Sse, &single), expected());
    }

    #[test]
    fn ndjson_with_crlf_blank_lines_and_no_last_newline() {
        let text = "{\"a\":1}\r\n\n{\"b\":\"ü\"}\n  \n{\"done\":true}".as_bytes();
        let want =
            vec![frame("", "{\"a\":1}"), frame("", "{\"b\":\"ü\"}"), frame("", "{\"done\":true}")];
        for at in 0..=text.len() {
            assert_eq!(split(Framing::Ndjson, &[&text[..at], &text[at..]]), want);
        }
    }

    #[test]
    fn lines_and_events_are_bounded() {
        let mut splitter = Splitter::new(Framing::Sse);
        let mut out = Vec::new();
        let mib = vec![b'x'; limits::LINE_BYTES];
        splitter.push(&mib, &mut out).unwrap();
        assert_eq!(splitter.push(b"x", &mut out), Err(SplitError::Line));

        let mut splitter = Splitter::new(Framing::Sse);
        let line = format!("data: {}\n", "x".repeat(limits::LINE_BYTES - 6));
        let mut result = Ok(());
        for _ in 0..5 {
            result = result.and_then(|()| splitter.push(line.as_bytes(), &mut out));
        }
        assert_eq!(result, Err(SplitError::Event));
    }

    #[test]
    fn invalid_utf8_is_replaced_not_fatal() {
        assert_eq!(split(Framing::Sse, &[b"data: a\xff", b"b\n\n"]), vec![frame("", "a\u{fffd}b")]);
    }
}
