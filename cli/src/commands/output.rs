//! What reaches the terminal: colours when wanted, JSON lines, plain words.
//!
//! Results go to standard output, everything else to standard error. A standard output that
//! nobody reads any more ends the command quietly.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use super::exit::{Failure, Outcome};

/// How a piece of text looks on a terminal.
#[derive(Debug, Clone, Copy)]
pub enum Style {
    Strong,
    Dim,
    Good,
    Bad,
    Warn,
    Path,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Strong => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Bad => "31;1",
            Self::Warn => "33",
            Self::Path => "35",
        }
    }
}

/// The two streams, and whether they take colours.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    out_colour: bool,
    err_colour: bool,
    pub err_is_terminal: bool,
}

#[expect(clippy::unused_self, reason = "one handle for everything that is printed")]
impl Output {
    pub fn new() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        Self {
            out_colour: !plain && io::stdout().is_terminal(),
            err_colour: !plain && io::stderr().is_terminal(),
            err_is_terminal: io::stderr().is_terminal(),
        }
    }

    /// Whether standard output takes colours.
    pub fn colours(self) -> bool {
        self.out_colour
    }

    /// `text` as it looks on standard output.
    pub fn paint(self, style: Style, text: &str) -> String {
        paint(self.out_colour, style, text)
    }

    /// `text` as it looks on standard error.
    pub fn paint_err(self, style: Style, text: &str) -> String {
        paint(self.err_colour, style, text)
    }

    /// A line of the result.
    pub fn line(self, text: &str) -> Outcome {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        Ok(())
    }

    /// A piece of the result that should be seen at once.
    pub fn piece(self, text: &str) -> Outcome {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// A value as JSON: indented for a document, one line for a stream.
    pub fn json(self, value: &impl Serialize) -> Outcome {
        let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
        self.line(&text)
    }

    pub fn json_line(self, value: &impl Serialize) -> Outcome {
        let text = serde_json::to_string(value).map_err(io::Error::from)?;
        self.line(&text)
    }

    /// A remark; losing it is no error.
    pub fn note(self, text: &str) {
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Says why the command failed: on standard error, and with `json` as the result too.
    pub fn failure(self, failure: &Failure, json: bool) {
        let Failure::Said { kind, message, hint, .. } = failure else { return };
        if json {
            let error = serde_json::json!({"error": {
                "kind": kind, "message": message, "hint": hint,
            }});
            let _ = self.json_line(&error);
            return;
        }
        let mut text = format!("{}: {message}", self.paint_err(Style::Bad, "error"));
        if !hint.is_empty() {
            let _ = write!(text, "\n  {}: {hint}", self.paint_err(Style::Strong, "next"));
        }
        self.note(&text);
    }
}

fn paint(colour: bool, style: Style, text: &str) -> String {
    if colour { format!("\x1b[{}m{text}\x1b[0m", style.code()) } else { text.to_owned() }
}

/// Text from a file, a model or a tool, without what a terminal would obey.
pub fn printable(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .filter(|c| !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
        .collect()
}

/// KiB as a person reads it.
pub fn kib(kib: u64) -> String {
    if kib >= 10 * 1024 {
        format!("{} MB", kib / 1024)
    } else if kib >= 1024 {
        format!("{}.{} MB", kib / 1024, kib % 1024 * 10 / 1024)
    } else {
        format!("{kib} KB")
    }
}

/// Milliseconds as a person reads them.
pub fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0 => format!("{ms} ms"),
        1..60 => format!("{s}.{} s", ms % 1000 / 100),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}

/// A count with its thing: `1 file`, `1,234 files`.
pub fn count(n: u64, thing: &str) -> String {
    let digits = n.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let plural = if n == 1 { "" } else { "s" };
    format!("{grouped} {thing}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(kib(900), "900 KB");
        assert_eq!(kib(1536), "1.5 MB");
        assert_eq!(kib(168 * 1024), "168 MB");
        assert_eq!(duration(12), "12 ms");
        assert_eq!(duration(1250), "1.2 s");
        assert_eq!(duration(3_660_000), "1 h 1 min");
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(1_234_567, "chunk"), "1,234,567 chunks");
    }

    #[test]
    fn a_terminal_obeys_nothing_of_the_text() {
        assert_eq!(printable("a\x1b]0;x\x07b\tc\nd\r\u{202e}e"), "a]0;xb\tc\nde");
        assert_eq!(paint(true, Style::Good, "x"), "\x1b[32mx\x1b[0m");
        assert_eq!(paint(false, Style::Good, "x"), "x");
    }
}
