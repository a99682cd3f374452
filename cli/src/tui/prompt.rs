//! The line that is typed, with a cursor and what was typed before. Pure.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Longest line, in bytes; a paste beyond it is cut.
pub const LINE: usize = 64 << 10;
/// Lines kept to come back to.
const KEPT: usize = 200;
/// How a line break looks in the one row that there is.
const BREAK: char = '⏎';

#[derive(Debug, Default)]
pub struct Prompt {
    text: String,
    /// Byte offset, on a character boundary.
    at: usize,
    earlier: Vec<String>,
    /// Which of `earlier` is shown; what was being typed is kept meanwhile.
    shown: Option<usize>,
    draft: String,
}

impl Prompt {
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Types text; control characters but line breaks are left out.
    pub fn insert(&mut self, text: &str) {
        for c in text.replace("\r\n", "\n").replace('\r', "\n").chars() {
            if self.text.len() + c.len_utf8() > LINE {
                return;
            }
            if !c.is_control() || c == '\n' {
                self.text.insert(self.at, c);
                self.at += c.len_utf8();
            }
        }
    }

    pub fn clear(&mut self) {
        self.text.clear();
        self.at = 0;
        self.shown = None;
    }

    /// Takes the line; it can be come back to.
    pub fn take(&mut self) -> String {
        let text = std::mem::take(&mut self.text);
        self.clear();
        if !text.trim().is_empty() && self.earlier.last() != Some(&text) {
            if self.earlier.len() == KEPT {
                self.earlier.remove(0);
            }
            self.earlier.push(text.clone());
        }
        text
    }

    pub fn left(&mut self) {
        self.at = self.before();
    }

    pub fn right(&mut self) {
        self.at = self.after();
    }

    pub fn home(&mut self) {
        self.at = 0;
    }

    pub fn end(&mut self) {
        self.at = self.text.len();
    }

    pub fn word_left(&mut self) {
        self.at = self.word_start();
    }

    pub fn word_right(&mut self) {
        let rest = &self.text[self.at..];
        let blank = rest.len() - rest.trim_start().len();
        let word = rest[blank..].find(char::is_whitespace).unwrap_or(rest.len() - blank);
        self.at += blank + word;
    }

    pub fn backspace(&mut self) {
        let from = self.before();
        self.text.replace_range(from..self.at, "");
        self.at = from;
    }

    pub fn delete(&mut self) {
        let to = self.after();
        self.text.replace_range(self.at..to, "");
    }

    pub fn delete_word(&mut self) {
        let from = self.word_start();
        self.text.replace_range(from..self.at, "");
        self.at = from;
    }

    pub fn delete_to_start(&mut self) {
        self.text.replace_range(..self.at, "");
        self.at = 0;
    }

    pub fn delete_to_end(&mut self) {
        self.text.truncate(self.at);
    }

    /// The line typed before the one that is shown.
    pub fn up(&mut self) {
        let next = match self.shown {
            None if self.earlier.is_empty() => return,
            None => {
                self.draft = self.text.clone();
                self.earlier.len() - 1
            }
            Some(0) => return,
            Some(at) => at - 1,
        };
        self.show(next);
    }

    pub fn down(&mut self) {
        match self.shown {
            Some(at) if at + 1 < self.earlier.len() => self.show(at + 1),
            Some(_) => {
                self.shown = None;
                self.text = std::mem::take(&mut self.draft);
                self.at = self.text.len();
            }
            None => {}
        }
    }

    /// The part of the line that fits `columns`, and the column of the cursor in it.
    pub fn view(&self, columns: usize) -> (String, usize) {
        let (before, after) = self.text.split_at(self.at);
        let before = before.replace('\n', &BREAK.to_string());
        let after = after.replace('\n', &BREAK.to_string());
        // One column is for the cursor behind the last character.
        let columns = columns.max(2) - 1;
        let mut from = before.len();
        let mut column = 0;
        for (at, c) in before.char_indices().rev() {
            let width = c.width().unwrap_or(0);
            if column + width > columns {
                break;
            }
            column += width;
            from = at;
        }
        let mut view = before[from..].to_owned();
        let mut width = view.width();
        for c in after.chars() {
            width += c.width().unwrap_or(0);
            if width > columns {
                break;
            }
            view.push(c);
        }
        (view, column)
    }

    fn show(&mut self, at: usize) {
        self.shown = Some(at);
        self.text = self.earlier[at].clone();
        self.at = self.text.len();
    }

    fn before(&self) -> usize {
        self.text[..self.at].char_indices().next_back().map_or(0, |(at, _)| at)
    }

    fn after(&self) -> usize {
        self.text[self.at..].chars().next().map_or(self.at, |c| self.at + c.len_utf8())
    }

    fn word_start(&self) -> usize {
        let head = self.text[..self.at].trim_end();
        head.rfind(char::is_whitespace)
            .map_or(0, |at| at + head[at..].chars().next().map_or(1, char::len_utf8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Prompt {
        let mut prompt = Prompt::default();
        prompt.insert(text);
        prompt
    }

    #[test]
    fn characters_and_words_are_moved_over_and_deleted() {
        let mut prompt = typed("grün  und äß");
        prompt.left();
        prompt.backspace();
        assert_eq!(prompt.text(), "grün  und ß");
        prompt.delete();
        assert_eq!(prompt.text(), "grün  und ");
        prompt.word_left();
        prompt.delete_to_end();
        assert_eq!(prompt.text(), "grün  ");
        prompt.delete_word();
        assert_eq!(prompt.text(), "");
        for _ in 0..2 {
            prompt.backspace();
            prompt.delete();
            prompt.left();
            prompt.right();
            prompt.delete_word();
        }
        let mut prompt = typed("one two");
        prompt.home();
        prompt.word_right();
        prompt.insert("!");
        assert_eq!(prompt.text(), "one! two");
        prompt.delete_to_start();
        assert_eq!(prompt.text(), " two");
        prompt.end();
        prompt.insert("\u{7}a\r\nb\tc");
        assert_eq!(prompt.text(), " twoa\nbc");
    }

    #[test]
    fn earlier_lines_come_back_and_the_draft_is_kept() {
        let mut prompt = Prompt::default();
        prompt.up();
        prompt.down();
        for line in ["one", "two", "two", " "] {
            prompt.insert(line);
            assert_eq!(prompt.take(), line);
        }
        prompt.insert("draft");
        prompt.up();
        assert_eq!(prompt.text(), "two");
        prompt.up();
        prompt.up();
        assert_eq!(prompt.text(), "one");
        prompt.down();
        prompt.down();
        assert_eq!(prompt.text(), "draft");
        for n in 0..2 * KEPT {
            prompt.insert(&n.to_string());
            prompt.take();
        }
        assert_eq!(prompt.earlier.len(), KEPT);
    }

    #[test]
    fn what_fits_is_shown_around_the_cursor() {
        assert_eq!(typed("short").view(20), ("short".into(), 5));
        assert_eq!(typed("0123456789").view(5), ("6789".into(), 4));
        let mut prompt = typed("0123456789");
        prompt.home();
        assert_eq!(prompt.view(5), ("0123".into(), 0));
        assert_eq!(typed("日本語").view(5), ("本語".into(), 4));
        assert_eq!(typed("a\nb").view(9), ("a⏎b".into(), 3));
        assert_eq!(typed("xyz").view(0).1, 1);
    }

    #[test]
    fn a_line_has_an_end() {
        let mut prompt = typed(&"ä".repeat(LINE));
        prompt.insert("more");
        assert!(prompt.text().len() <= LINE);
    }
}
