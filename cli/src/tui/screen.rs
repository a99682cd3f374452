//! What is on the terminal: lines that stay, and below them a few rows that are drawn anew.
//!
//! The terminal's own scrollback is the history, so scrolling, searching and copying work as
//! they do elsewhere. Only the rows at the bottom are ever erased: the question that waits, the
//! line that is typed and the status.

use std::fmt::Write as _;
use std::io::{self, Write};

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Plain,
    Typed,
    Dim,
    Good,
    Warn,
    Bad,
}

impl Look {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Typed => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "31;1",
        }
    }
}

/// A line that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub look: Look,
    pub text: String,
}

/// The rows at the bottom.
#[derive(Debug, Default, Clone)]
pub struct Bottom {
    /// Text of the model whose line has not ended.
    pub open: String,
    /// What the user is asked.
    pub question: Vec<String>,
    pub mark: String,
    pub typed: String,
    /// Column of the cursor behind the mark.
    pub cursor: usize,
    pub status: String,
}

pub struct Screen<W> {
    out: W,
    colour: bool,
    /// Rows of the bottom above the cursor.
    above: usize,
}

impl<W: Write> Screen<W> {
    pub fn new(out: W, colour: bool) -> Self {
        Self { out, colour, above: 0 }
    }

    /// Adds lines that stay, and draws the bottom anew.
    pub fn draw(&mut self, lines: &[Line], bottom: &Bottom, columns: usize) -> io::Result<()> {
        let columns = columns.max(10);
        let mut text = String::new();
        self.erase(&mut text);
        for line in lines {
            self.paint(&mut text, line.look, &line.text);
            text.push_str("\r\n");
        }
        let mut rows = Vec::new();
        if !bottom.open.is_empty() {
            rows.push((Look::Plain, bottom.open.clone()));
        }
        rows.extend(bottom.question.iter().map(|row| (Look::Warn, row.clone())));
        for (look, row) in &rows {
            self.paint(&mut text, *look, cut(row, columns));
            text.push_str("\r\n");
        }
        self.paint(&mut text, Look::Typed, &bottom.mark);
        text.push_str(&bottom.typed);
        text.push_str("\r\n");
        self.paint(&mut text, Look::Dim, cut(&bottom.status, columns));
        // Back to the line that is typed.
        let column = bottom.mark.width() + bottom.cursor;
        let _ = write!(text, "\x1b[1A\r\x1b[{}C", column.max(1));
        if column == 0 {
            text.push('\r');
        }
        text.push_str("\x1b[?25h");
        self.above = rows.len();
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Takes the bottom away: what follows is written below the lines that stay.
    pub fn close(&mut self) -> io::Result<()> {
        let mut text = String::new();
        self.erase(&mut text);
        text.push_str("\x1b[?25h");
        self.above = 0;
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn erase(&self, text: &mut String) {
        text.push_str("\x1b[?25l\r");
        if self.above > 0 {
            let _ = write!(text, "\x1b[{}A", self.above);
        }
        text.push_str("\x1b[J");
    }

    fn paint(&self, text: &mut String, look: Look, part: &str) {
        let code = look.code();
        if self.colour && !code.is_empty() {
            let _ = write!(text, "\x1b[{code}m{part}\x1b[0m");
        } else {
            text.push_str(part);
        }
    }
}

/// The start of `text` that fits one row.
fn cut(text: &str, columns: usize) -> &str {
    let mut width = 0;
    for (at, c) in text.char_indices() {
        width += c.width().unwrap_or(0);
        if width >= columns {
            return &text[..at];
        }
    }
    text
}

/// Takes rows that are full off the start of `open`, broken at a space where there is one.
pub fn full_rows(open: &mut String, columns: usize) -> Vec<String> {
    let columns = columns.max(10);
    let mut rows = Vec::new();
    loop {
        let fits = cut(open, columns).len();
        if fits == open.len() {
            return rows;
        }
        let at = open[..fits].rfind(' ').filter(|at| *at > 0).map_or(fits, |at| at + 1);
        let at = if at == 0 { open.chars().next().map_or(0, char::len_utf8) } else { at };
        let rest = open.split_off(at);
        rows.push(std::mem::replace(open, rest).trim_end().to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(screen: &mut Screen<Vec<u8>>, lines: &[Line], bottom: &Bottom) -> String {
        screen.draw(lines, bottom, 20).unwrap();
        String::from_utf8(std::mem::take(&mut screen.out)).unwrap()
    }

    #[test]
    fn only_the_rows_at_the_bottom_are_erased() {
        let mut screen = Screen::new(Vec::new(), false);
        let bottom = Bottom {
            open: "half a line".into(),
            question: vec!["allow?".into(), "y or n".into()],
            mark: "> ".into(),
            typed: "abc".into(),
            cursor: 3,
            status: "a status that is longer than the row".into(),
        };
        let line = |text: &str| Line { look: Look::Good, text: text.into() };
        let first = drawn(&mut screen, &[line("one")], &bottom);
        assert_eq!(
            first,
            "\x1b[?25l\r\x1b[Jone\r\nhalf a line\r\nallow?\r\ny or n\r\n> abc\r\na status that is lo\x1b[1A\r\x1b[5C\x1b[?25h"
        );
        let second = drawn(&mut screen, &[], &Bottom { mark: "> ".into(), ..Bottom::default() });
        assert!(second.starts_with("\x1b[?25l\r\x1b[3A\x1b[J> \r\n"), "{second:?}");
        screen.close().unwrap();
        assert_eq!(screen.out, b"\x1b[?25l\r\x1b[J\x1b[?25h");
        let mut coloured = Screen::new(Vec::new(), true);
        assert!(
            drawn(&mut coloured, &[line("x")], &Bottom::default()).contains("\x1b[32mx\x1b[0m")
        );
    }

    #[test]
    fn words_are_broken_where_they_can_be() {
        let mut open = String::from("one two three four");
        assert_eq!(full_rows(&mut open, 10), ["one two", "three"]);
        assert_eq!(open, "four");
        let mut open = "x".repeat(25);
        assert_eq!(full_rows(&mut open, 10), ["xxxxxxxxx", "xxxxxxxxx"]);
        assert_eq!(open.len(), 7);
        let mut open = "日".repeat(10);
        assert_eq!(full_rows(&mut open, 10), ["日日日日", "日日日日"]);
        let mut open = String::from("fits");
        assert!(full_rows(&mut open, 10).is_empty());
    }
}
