//! A command's output as text: what a terminal would have left on its lines.

/// Decodes a stream of bytes; characters may be split between pieces.
#[derive(Debug, Default)]
pub struct Utf8(Vec<u8>);

impl Utf8 {
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.0.extend_from_slice(bytes);
        let keep = match std::str::from_utf8(&self.0) {
            Ok(_) => 0,
            Err(e) if e.error_len().is_none() => self.0.len() - e.valid_up_to(),
            // Something invalid in the middle; only an unfinished end is kept back.
            Err(_) => (1..=3.min(self.0.len()))
                .find(|n| {
                    let tail = &self.0[self.0.len() - n..];
                    matches!(std::str::from_utf8(tail), Err(e) if e.error_len().is_none() && e.valid_up_to() == 0)
                })
                .unwrap_or(0),
        };
        let cut = self.0.len() - keep;
        let text = String::from_utf8_lossy(&self.0[..cut]).into_owned();
        self.0.drain(..cut);
        text
    }
}

/// Resolves carriage returns and backspaces line by line, and drops escape sequences.
pub fn resolve(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (body, end) = match line.strip_suffix('\n') {
            Some(body) => (body, "\n"),
            None => (line, ""),
        };
        let body = body.strip_suffix('\r').unwrap_or(body);
        if body.contains(['\r', '\u{8}', '\u{1b}']) {
            resolve_line(body, &mut out);
        } else {
            out.push_str(body);
        }
        out.push_str(end);
    }
    out
}

fn resolve_line(line: &str, out: &mut String) {
    let mut cells: Vec<char> = Vec::new();
    let mut at = 0usize;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => at = 0,
            '\u{8}' => at = at.saturating_sub(1),
            '\u{1b}' => match chars.next() {
                Some('[') => {
                    // CSI: parameters, then one final character.
                    let mut digits = String::new();
                    let end = loop {
                        match chars.next() {
                            Some(c @ '\u{40}'..='\u{7e}') => break Some(c),
                            Some(c) => digits.push(c),
                            None => break None,
                        }
                    };
                    if end == Some('K') {
                        match digits.as_str() {
                            "" | "0" => cells.truncate(at),
                            "2" => cells.clear(),
                            _ => {}
                        }
                    } else if end == Some('G') {
                        at = digits.parse::<usize>().unwrap_or(1).clamp(1, 10_000) - 1;
                    }
                }
                Some(']') => {
                    // OSC: up to BEL or ESC \.
                    while let Some(c) = chars.next() {
                        if c == '\u{7}' {
                            break;
                        }
                        if c == '\u{1b}' {
                            chars.next();
                            break;
                        }
                    }
                }
                _ => {}
            },
            c => {
                while cells.len() < at {
                    cells.push(' ');
                }
                if at < cells.len() {
                    cells[at] = c;
                } else {
                    cells.push(c);
                }
                at += 1;
            }
        }
    }
    out.extend(cells);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carriage_returns_overwrite() {
        assert_eq!(resolve(b"10%\r50%\r100%\ndone\r\n"), "100%\ndone\n");
        assert_eq!(resolve(b"abcdef\rxy\n"), "xycdef\n");
        assert_eq!(resolve(b"abc\x08\x08X"), "aXc");
        assert_eq!(resolve(b"old text\r\x1b[Knew"), "new");
    }

    #[test]
    fn colours_and_titles_go() {
        assert_eq!(resolve(b"\x1b[1;31merror\x1b[0m: x\n"), "error: x\n");
        assert_eq!(resolve(b"\x1b]0;title\x07a\x1b]8;;u\x1b\\b"), "ab");
        assert_eq!(resolve(b"\xff\xfe"), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn split_characters_arrive_whole() {
        let text = "aé→𝄞z".as_bytes();
        for cut in 0..=text.len() {
            let mut utf8 = Utf8::default();
            let joined = utf8.push(&text[..cut]) + &utf8.push(&text[cut..]);
            assert_eq!(joined.as_bytes(), text);
        }
    }
}
