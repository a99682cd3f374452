//! The state of the terminal UI: keys and events go in, lines and wishes come out. Pure.

mod events;
mod view;

use std::collections::VecDeque;
use std::fmt::Write as _;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use lapce_ai_ipc::wire::engine::{
    Approval, AskReply, Attached, Decision, RunReply, SearchReply, UndoReply, Wanted,
};

use super::command::{self, Command};
use super::prompt::Prompt;
use super::screen::{Line, Look};
use crate::commands::output::printable;
use crate::commands::question;

/// What goes along of the conversation so far: exchanges, and bytes in all.
const EXCHANGES: usize = 4;
const EXCHANGE_BYTES: usize = 12 << 10;

/// Typed at an approval, opens the call in the user's editor.
pub(super) const EDIT: &str = "edit";

/// What a line that is typed becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Ask,
    Run,
}

/// What is to be done outside.
#[derive(Debug, PartialEq)]
pub enum Wish {
    /// A question, and the conversation that it belongs to.
    Ask(String, Option<String>),
    /// A task, and the run that it goes on with (nothing for the newest).
    Run(String, Option<String>),
    Search(String),
    Undo,
    Answer {
        id: String,
        decision: Decision,
        words: String,
    },
    /// What a call writes or runs, in the user's editor; what they leave is the answer.
    Edit {
        id: String,
        text: String,
        name: String,
    },
    /// Stop what is under way.
    Cancel,
    Quit,
}

/// How what was wished for has ended.
#[derive(Debug)]
pub enum Done {
    Ask(AskReply),
    Run(RunReply),
    Search(SearchReply),
    Undo(UndoReply),
    /// What went wrong, and the next step.
    Failed(String, String),
}

struct Busy {
    what: &'static str,
    run_id: String,
    is_run: bool,
    tools: u32,
    cancelling: bool,
}

/// A question or task, and what was answered.
struct Exchange {
    asked: String,
    answered: String,
    /// The conversation of the last run holds it.
    in_run: bool,
    /// That of the questions does.
    in_asked: bool,
}

pub struct App {
    mode: Mode,
    root: String,
    model: String,
    prompt: Prompt,
    lines: Vec<Line>,
    /// Text of the model whose line has not ended.
    open: String,
    busy: Option<Busy>,
    /// What is to be done once that is through, as it was typed.
    next: Option<(String, Command)>,
    waiting: VecDeque<Approval>,
    /// The question under way and what was answered so far.
    asked: String,
    answered: String,
    exchanges: VecDeque<Exchange>,
    /// The last run, which the next task goes on with.
    last_run: Option<String>,
    /// The conversation of the questions, which the next one is asked within.
    conversation: Option<String>,
    /// Ctrl-C was pressed with nothing to stop.
    leaving: bool,
}

impl App {
    pub fn new(root: String, model: String, mode: Mode) -> Self {
        let mut app = Self {
            mode,
            root,
            model,
            prompt: Prompt::default(),
            lines: Vec::new(),
            open: String::new(),
            busy: None,
            next: None,
            waiting: VecDeque::new(),
            asked: String::new(),
            answered: String::new(),
            exchanges: VecDeque::new(),
            last_run: None,
            conversation: None,
            leaving: false,
        };
        app.say(Look::Dim, "Lapce AI – type a question; Tab for the agent; /help for the rest");
        app
    }

    /// The model that was chosen here, or empty.
    pub fn model(&self) -> &str {
        &self.model
    }

    pub fn run_id(&self) -> Option<&str> {
        self.busy.as_ref().map(|busy| busy.run_id.as_str())
    }

    pub fn is_busy(&self) -> bool {
        self.busy.is_some()
    }

    /// The conversation so far, to go along with what is wished for: what that does not know.
    pub fn earlier(&self, wish: &Wish) -> Vec<Attached> {
        let in_run = matches!(wish, Wish::Run(_, Some(run)) if Some(run) == self.last_run.as_ref());
        let in_asked = matches!(wish, Wish::Ask(_, Some(_)));
        let mut text = String::new();
        for exchange in &self.exchanges {
            let Exchange { asked, answered, .. } = exchange;
            if !(in_run && exchange.in_run || in_asked && exchange.in_asked) {
                let _ = write!(text, "User: {asked}\nAnswer: {answered}\n\n");
            }
        }
        if text.is_empty() {
            return Vec::new();
        }
        vec![Attached { name: "earlier in this conversation".into(), text }]
    }

    pub fn say(&mut self, look: Look, text: &str) {
        self.end_line();
        for line in printable(text).lines() {
            self.lines.push(Line { look, text: line.to_owned() });
        }
    }

    pub fn paste(&mut self, text: &str) {
        self.prompt.insert(&printable(text));
    }

    /// Takes a key.
    pub fn key(&mut self, key: KeyEvent) -> Option<Wish> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        let leaving = std::mem::replace(&mut self.leaving, false);
        match key.code {
            KeyCode::Char('c') if ctrl => return self.interrupt(leaving),
            KeyCode::Char('d') if ctrl && self.prompt.is_empty() => return Some(Wish::Quit),
            KeyCode::Char('d') if ctrl => self.prompt.delete(),
            KeyCode::Esc if self.next.is_some() => self.take_back(),
            KeyCode::Esc if self.busy.is_some() => return self.interrupt(false),
            KeyCode::Esc => self.prompt.clear(),
            KeyCode::Enter if alt => self.prompt.insert("\n"),
            KeyCode::Enter => return self.enter(),
            KeyCode::Tab => {
                self.mode = if self.mode == Mode::Ask { Mode::Run } else { Mode::Ask };
            }
            KeyCode::Backspace if ctrl || alt => self.prompt.delete_word(),
            KeyCode::Backspace => self.prompt.backspace(),
            KeyCode::Delete => self.prompt.delete(),
            KeyCode::Left if ctrl || alt => self.prompt.word_left(),
            KeyCode::Right if ctrl || alt => self.prompt.word_right(),
            KeyCode::Left => self.prompt.left(),
            KeyCode::Right => self.prompt.right(),
            KeyCode::Up => self.prompt.up(),
            KeyCode::Down => self.prompt.down(),
            KeyCode::Home => self.prompt.home(),
            KeyCode::End => self.prompt.end(),
            KeyCode::Char(c) if ctrl => match c {
                'a' => self.prompt.home(),
                'e' => self.prompt.end(),
                'b' => self.prompt.left(),
                'f' => self.prompt.right(),
                'p' => self.prompt.up(),
                'n' => self.prompt.down(),
                'u' => self.prompt.delete_to_start(),
                'k' => self.prompt.delete_to_end(),
                'w' | 'h' => self.prompt.delete_word(),
                'j' => self.prompt.insert("\n"),
                _ => {}
            },
            KeyCode::Char('b') if alt => self.prompt.word_left(),
            KeyCode::Char('f') if alt => self.prompt.word_right(),
            KeyCode::Char(c) => self.prompt.insert(c.encode_utf8(&mut [0; 4])),
            _ => {}
        }
        None
    }

    /// Stops what is under way; else clears the line; else leaves, if pressed again.
    fn interrupt(&mut self, leaving: bool) -> Option<Wish> {
        if let Some(busy) = &mut self.busy {
            if std::mem::replace(&mut busy.cancelling, true) {
                return Some(Wish::Quit);
            }
            self.say(Look::Dim, "stopping; Ctrl-C again leaves at once");
            return Some(Wish::Cancel);
        }
        if !self.prompt.is_empty() {
            self.prompt.clear();
            return None;
        }
        if leaving {
            return Some(Wish::Quit);
        }
        self.leaving = true;
        None
    }

    fn enter(&mut self) -> Option<Wish> {
        let text = self.prompt.text().trim().to_owned();
        if text.is_empty() {
            return None;
        }
        if let Some(approval) = self.waiting.front()
            && !command::is_one(&text)
        {
            if approval.wanted == Wanted::Approval && text.eq_ignore_ascii_case(EDIT) {
                self.prompt.take();
                let Some(editable) = approval.editable.clone() else {
                    self.say(Look::Warn, "there is nothing in this that can be changed");
                    return None;
                };
                let id = approval.approval_id.clone();
                return Some(Wish::Edit { id, text: editable.text, name: editable.name });
            }
            let answer = question::parse_for(approval, &text);
            self.prompt.take();
            let (decision, words) = answer?;
            let id = approval.approval_id.clone();
            self.typed(&text);
            self.waiting.pop_front();
            return Some(Wish::Answer { id, decision, words });
        }
        let command = match command::read(&text, self.mode) {
            Ok(command) => command,
            Err(problem) => {
                self.say(Look::Bad, &problem);
                return None;
            }
        };
        let starts = matches!(
            command,
            Command::Ask(_)
                | Command::Run(_)
                | Command::Continue(..)
                | Command::Search(_)
                | Command::Undo
        );
        if starts && self.busy.is_some() {
            if self.next.is_some() {
                self.say(Look::Warn, "one line waits already; Esc takes it back");
                return None;
            }
            self.prompt.take();
            self.next = Some((text, command));
            return None;
        }
        self.prompt.take();
        self.act(&text, command)
    }

    /// The answer to what was edited; nothing when it does not wait any more.
    pub fn edited(&mut self, id: String, changed: Option<String>) -> Option<Wish> {
        let at = self.waiting.iter().position(|w| w.approval_id == id);
        let Some(at) = at else {
            self.say(Look::Warn, "(not taken: nothing waits for this any more)");
            return None;
        };
        self.waiting.remove(at);
        self.typed(if changed.is_some() { "edit" } else { "edit (nothing was changed)" });
        let (decision, words) = match changed {
            Some(text) => (Decision::AllowChanged, text),
            None => (Decision::Allow, String::new()),
        };
        Some(Wish::Answer { id, decision, words })
    }

    fn act(&mut self, text: &str, command: Command) -> Option<Wish> {
        self.typed(text);
        match command {
            Command::Ask(text) => {
                let conversation = self.conversation.clone();
                Some(self.start("answering", text, |text| Wish::Ask(text, conversation)))
            }
            Command::Run(text) => {
                let last = self.last_run.clone();
                Some(self.start("at work", text, |text| Wish::Run(text, last)))
            }
            Command::Continue(run, text) => {
                Some(self.start("at work", text, |text| Wish::Run(text, Some(run))))
            }
            Command::Search(text) => Some(self.start("searching", text, Wish::Search)),
            Command::Undo => Some(self.start("undoing", String::new(), |_| Wish::Undo)),
            Command::Model(name) => {
                self.model = name;
                None
            }
            Command::New => {
                self.exchanges.clear();
                self.last_run = None;
                self.conversation = None;
                self.say(Look::Dim, "a new conversation");
                None
            }
            Command::Help => {
                self.say(Look::Plain, command::HELP);
                None
            }
            Command::Quit => Some(Wish::Quit),
        }
    }

    /// The line that waits is to be typed again.
    fn take_back(&mut self) {
        if let Some((text, _)) = self.next.take()
            && self.prompt.is_empty()
        {
            self.prompt.insert(&text);
        }
    }

    fn start(
        &mut self,
        what: &'static str,
        text: String,
        wish: impl FnOnce(String) -> Wish,
    ) -> Wish {
        self.asked.clone_from(&text);
        self.answered.clear();
        let wish = wish(text);
        let is_run = matches!(wish, Wish::Run(..));
        self.busy = Some(Busy { what, run_id: String::new(), is_run, tools: 0, cancelling: false });
        wish
    }

    fn typed(&mut self, text: &str) {
        self.end_line();
        for (n, line) in printable(text).lines().enumerate() {
            let mark = if n == 0 { "> " } else { "  " };
            self.lines.push(Line { look: Look::Typed, text: format!("{mark}{line}") });
        }
    }

    fn text(&mut self, text: &str) {
        let text = printable(text);
        if self.answered.len() + text.len() <= EXCHANGE_BYTES {
            self.answered.push_str(&text);
        }
        let mut parts = text.split('\n');
        self.open.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let line = std::mem::replace(&mut self.open, part.to_owned());
            self.lines.push(Line { look: Look::Plain, text: line });
        }
    }

    fn end_line(&mut self) {
        if !self.open.is_empty() {
            let text = std::mem::take(&mut self.open);
            self.lines.push(Line { look: Look::Plain, text });
        }
    }

    fn remember(&mut self, in_run: bool, in_asked: bool) {
        let asked = std::mem::take(&mut self.asked);
        let answered = std::mem::take(&mut self.answered);
        self.exchanges.push_back(Exchange { asked, answered, in_run, in_asked });
        let bytes = |list: &VecDeque<Exchange>| -> usize {
            list.iter().map(|e| e.asked.len() + e.answered.len()).sum()
        };
        while self.exchanges.len() > EXCHANGES
            || self.exchanges.len() > 1 && bytes(&self.exchanges) > EXCHANGE_BYTES
        {
            self.exchanges.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
