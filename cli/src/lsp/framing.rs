//! LSP's base protocol: `Content-Length` headers around JSON.
//!
//! Used by [`super::transport`] alone. Reading never fails for what the peer wrote, only for
//! the pipe itself: headers that make no sense are skipped up to the next one that does,
//! and a message that is too large is skipped whole.

use std::io::{self, BufRead, Read, Write};

use super::limits;

/// One thing that came in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Message(Vec<u8>),
    /// A message of so many bytes that was skipped.
    TooLarge(u64),
    /// Header lines without a usable length.
    BadHeader,
    Eof,
}

const LENGTH: &[u8] = b"content-length:";

pub(super) fn read(input: &mut impl BufRead) -> io::Result<Frame> {
    let mut length = None;
    let mut seen = false;
    loop {
        let Some(line) = read_line(input)? else { return Ok(Frame::Eof) };
        let line = line.trim_ascii();
        if line.is_empty() {
            match (length, seen) {
                (Some(length), _) => return read_body(input, length),
                (None, true) => return Ok(Frame::BadHeader),
                // Blank lines between messages.
                (None, false) => continue,
            }
        }
        seen = true;
        if let Some(found) = parse_length(line) {
            length = Some(found);
        }
    }
}

/// The length in a header line. The name may stand anywhere in it: when an earlier length
/// was too small, the rest of that body runs into this line.
fn parse_length(line: &[u8]) -> Option<u64> {
    let at = line.windows(LENGTH.len()).rposition(|w| w.eq_ignore_ascii_case(LENGTH))?;
    let digits = std::str::from_utf8(line[at + LENGTH.len()..].trim_ascii()).ok()?;
    // `parse` takes a sign, the protocol does not.
    if digits.starts_with('+') {
        return None;
    }
    digits.parse().ok().filter(|&length| length <= limits::SKIPPABLE)
}

fn read_body(input: &mut impl BufRead, length: u64) -> io::Result<Frame> {
    let mut body = input.take(length);
    if length > limits::MESSAGE as u64 {
        let skipped = io::copy(&mut body, &mut io::sink())?;
        return Ok(if skipped == length { Frame::TooLarge(length) } else { Frame::Eof });
    }
    // Grows with what arrives: a length alone must not take memory.
    let mut bytes = Vec::new();
    let read = body.read_to_end(&mut bytes)?;
    Ok(if read as u64 == length { Frame::Message(bytes) } else { Frame::Eof })
}

/// One line, at most [`limits::HEADER_LINE`] of it; the rest of a longer one comes as
/// further lines.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = input.take(limits::HEADER_LINE as u64).read_until(b'\n', &mut line)?;
    Ok((read > 0).then_some(line))
}

pub(super) fn write(output: &mut impl Write, body: &[u8]) -> io::Result<()> {
    write!(output, "Content-Length: {}\r\n\r\n", body.len())?;
    output.write_all(body)?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(input: &[u8]) -> Vec<Frame> {
        let mut input = io::BufReader::with_capacity(7, input);
        let mut all = Vec::new();
        loop {
            let frame = read(&mut input).unwrap();
            let end = frame == Frame::Eof;
            all.push(frame);
            if end {
                return all;
            }
        }
    }

    fn message(body: &str) -> Frame {
        Frame::Message(body.as_bytes().to_vec())
    }

    #[test]
    fn what_is_written_can_be_read() {
        let mut bytes = Vec::new();
        write(&mut bytes, b"{}").unwrap();
        write(&mut bytes, "{\"ü\":1}".as_bytes()).unwrap();
        assert_eq!(frames(&bytes), [message("{}"), message("{\"ü\":1}"), Frame::Eof]);
    }

    #[test]
    fn header_spelling_does_not_matter() {
        for header in [
            "content-length:2",
            "CONTENT-LENGTH: 2 ",
            "X-Y: z\r\nContent-Length: 2\r\nContent-Type: a",
        ] {
            assert_eq!(
                frames(format!("{header}\r\n\r\n{{}}").as_bytes()),
                [message("{}"), Frame::Eof]
            );
        }
        assert_eq!(frames(b"Content-Length: 2\n\n{}"), [message("{}"), Frame::Eof]);
    }

    #[test]
    fn garbage_is_skipped_up_to_the_next_header() {
        let long = "x".repeat(3 * limits::HEADER_LINE);
        for garbage in [
            "nonsense\r\n\r\n",
            "Content-Length: -1\r\n\r\n",
            "Content-Length: +5\r\n\r\n",
            "Content-Length: ten\r\n\r\n",
            "Content-Length: 99999999999999999999999\r\n\r\n",
            "Content-Length: 18446744073709551615\r\n\r\n",
            "\u{0}\u{1}: \u{7f}\n\n",
            &format!("{long}\r\n\r\n"),
        ] {
            let all = frames(format!("{garbage}Content-Length: 2\r\n\r\n{{}}").as_bytes());
            assert_eq!(all, [Frame::BadHeader, message("{}"), Frame::Eof], "{garbage}");
        }
        assert_eq!(frames(b"\r\n\r\nContent-Length: 2\r\n\r\n{}"), [message("{}"), Frame::Eof]);
    }

    #[test]
    fn a_length_that_was_too_small_costs_one_message() {
        let all = frames(b"Content-Length: 1\r\n\r\n{\"a\":1}Content-Length: 2\r\n\r\n{}");
        assert_eq!(all, [message("{"), message("{}"), Frame::Eof]);
    }

    #[test]
    fn a_message_too_large_is_skipped_whole() {
        let size = limits::MESSAGE + 1;
        let mut bytes = format!("Content-Length: {size}\r\n\r\n").into_bytes();
        bytes.resize(bytes.len() + size, b'x');
        bytes.extend(b"Content-Length: 2\r\n\r\n{}");
        assert_eq!(frames(&bytes), [Frame::TooLarge(size as u64), message("{}"), Frame::Eof]);
    }

    #[test]
    fn an_end_within_a_message_is_the_end() {
        for cut in [
            "Content-Length: 5\r\n\r\n{}",
            "Content-Length: 5",
            "Content-Length: 900000000\r\n\r\n{}",
            "",
        ] {
            assert_eq!(frames(cut.as_bytes()), [Frame::Eof], "{cut}");
        }
    }
}
