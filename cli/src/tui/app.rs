//! The state of the terminal UI: keys and events go in, lines and wishes come out. Pure.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use lapce_ai_ipc::wire::engine::{
    Approval, AskReply, Attached, Decision, Event, Hit, RunOutcome, RunReply, SearchReply,
    UndoReply, Wanted,
};

use super::command::{self, Command};
use super::prompt::Prompt;
use super::screen::{Bottom, Line, Look, full_rows};
use crate::commands::output::{count, printable};
use crate::commands::question;

/// Questions that wait at a time, of all runs.
const WAITING: usize = 64;
/// Rows of a question's detail that are shown.
const DETAIL: usize = 8;
/// What goes along of the conversation so far: exchanges, and bytes in all.
const EXCHANGES: usize = 4;
const EXCHANGE_BYTES: usize = 12 << 10;
/// Lines of a hit that are shown.
const HIT_LINES: usize = 6;

/// What a line that is typed becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Ask,
    Run,
}

/// What is to be done outside.
#[derive(Debug, PartialEq)]
pub enum Wish {
    Ask(String),
    Run(String),
    Search(String),
    Undo,
    Answer {
        id: String,
        decision: Decision,
        words: String,
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
    tools: u32,
    cancelling: bool,
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
    waiting: VecDeque<Approval>,
    /// The question under way and what was answered so far.
    asked: String,
    answered: String,
    exchanges: VecDeque<(String, String)>,
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
            waiting: VecDeque::new(),
            asked: String::new(),
            answered: String::new(),
            exchanges: VecDeque::new(),
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

    /// The conversation so far, to go along with the next question.
    pub fn earlier(&self) -> Vec<Attached> {
        if self.exchanges.is_empty() {
            return Vec::new();
        }
        let mut text = String::new();
        for (asked, answered) in &self.exchanges {
            let _ = write!(text, "User: {asked}\nAnswer: {answered}\n\n");
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
            Command::Ask(_) | Command::Run(_) | Command::Search(_) | Command::Undo
        );
        if starts && self.busy.is_some() {
            self.say(Look::Warn, "one thing at a time: wait for it, or stop it with Ctrl-C");
            return None;
        }
        self.prompt.take();
        self.typed(&text);
        match command {
            Command::Ask(text) => Some(self.start("answering", text, Wish::Ask)),
            Command::Run(text) => Some(self.start("at work", text, Wish::Run)),
            Command::Search(text) => Some(self.start("searching", text, Wish::Search)),
            Command::Undo => Some(self.start("undoing", String::new(), |_| Wish::Undo)),
            Command::Model(name) => {
                self.model = name;
                None
            }
            Command::New => {
                self.exchanges.clear();
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

    fn start(&mut self, what: &'static str, text: String, wish: fn(String) -> Wish) -> Wish {
        self.busy = Some(Busy { what, run_id: String::new(), tools: 0, cancelling: false });
        self.asked.clone_from(&text);
        self.answered.clear();
        wish(text)
    }

    fn typed(&mut self, text: &str) {
        self.end_line();
        for (n, line) in printable(text).lines().enumerate() {
            let mark = if n == 0 { "> " } else { "  " };
            self.lines.push(Line { look: Look::Typed, text: format!("{mark}{line}") });
        }
    }

    /// Takes an event of the call under way.
    pub fn event(&mut self, event: Event) {
        match event {
            Event::Started { run_id, transcript, model } => {
                if let Some(busy) = &mut self.busy {
                    busy.run_id = run_id;
                }
                let model = if model.is_empty() { "no model".to_owned() } else { model };
                let place =
                    transcript.map_or_else(String::new, |path| format!(", transcript {path}"));
                self.say(Look::Dim, &format!("{model}{place}"));
            }
            Event::Text(text) => self.text(&text),
            Event::Notice(text) => self.say(Look::Warn, &text),
            Event::ToolStarted { summary, name, .. } => {
                if let Some(busy) = &mut self.busy {
                    busy.tools += 1;
                }
                let what = if summary.is_empty() { name } else { summary };
                self.say(Look::Dim, &format!("▸ {what}"));
            }
            Event::ToolOutput { text, .. } => {
                for line in printable(&text).lines() {
                    self.say(Look::Dim, &format!("  │ {line}"));
                }
            }
            Event::ToolFinished { ok, summary, wall_ms, .. } => {
                let (mark, look) = if ok { ("✓", Look::Dim) } else { ("✗", Look::Bad) };
                self.say(look, &format!("  {mark} {summary} ({wall_ms} ms)"));
            }
            Event::Approval(approval) => self.asks(approval),
            Event::Answered { approval_id, by } => self.decided(&approval_id, &by),
            Event::Citations(_) | Event::Progress(_) | Event::Indexed(_) => {}
        }
    }

    /// Something waits for the user: of the run here, or of another in this workspace.
    pub fn asks(&mut self, approval: Approval) {
        let known = self.waiting.iter().any(|w| w.approval_id == approval.approval_id);
        if !known && self.waiting.len() < WAITING {
            self.waiting.push_back(approval);
        }
    }

    /// It was answered, here or elsewhere, or its time is over.
    pub fn decided(&mut self, id: &str, by: &str) {
        let before = self.waiting.len();
        self.waiting.retain(|w| w.approval_id != id);
        if self.waiting.len() < before {
            let how = if by.is_empty() { "its time is over" } else { "answered elsewhere" };
            self.say(Look::Dim, &format!("({how})"));
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

    /// What was under way has ended.
    pub fn done(&mut self, done: Done) {
        self.busy = None;
        self.end_line();
        match done {
            Done::Ask(reply) => self.answer(&reply),
            Done::Run(reply) => self.result(&reply),
            Done::Search(reply) => self.found(&reply),
            Done::Undo(reply) => {
                self.say(if reply.ok { Look::Good } else { Look::Warn }, reply.text.trim_end());
            }
            Done::Failed(message, hint) => {
                self.say(Look::Bad, &message);
                if !hint.is_empty() {
                    self.say(Look::Dim, &format!("next: {hint}"));
                }
            }
        }
    }

    fn answer(&mut self, reply: &AskReply) {
        if reply.answered {
            self.remember();
            for hit in &reply.citations {
                let place = format!("  {}:{}  {}", hit.path, hit.start_line, hit.symbol);
                self.say(Look::Dim, &place);
            }
        } else {
            self.say(Look::Warn, "No model answered; these passages fit best.");
            self.passages(&reply.citations);
        }
        if !reply.hint.is_empty() {
            self.say(Look::Dim, &reply.hint);
        }
    }

    fn result(&mut self, reply: &RunReply) {
        let (look, word) = match reply.outcome {
            RunOutcome::Completed => (Look::Good, "completed"),
            RunOutcome::TurnLimit => (Look::Warn, "stopped at the turn limit"),
            RunOutcome::Cancelled => (Look::Warn, "stopped"),
            RunOutcome::Failed => (Look::Bad, "failed"),
        };
        if !reply.result.is_empty() {
            self.say(Look::Plain, &reply.result);
            self.answered = reply.result.chars().take(EXCHANGE_BYTES / 4).collect();
        }
        self.remember();
        let usage = &reply.usage;
        let input = usage.input.saturating_add(usage.cache_read).saturating_add(usage.cache_write);
        let output = usage.output.saturating_add(usage.reasoning);
        let turns = count(reply.turns.into(), "turn");
        let calls = count(reply.tool_calls.into(), "tool call");
        self.say(look, &format!("{word}: {turns}, {calls}; {input} tokens in, {output} out"));
    }

    fn found(&mut self, reply: &SearchReply) {
        self.passages(&reply.hits);
        let found = count(reply.hits.len() as u64, "hit");
        let partial = if reply.partial { "; the index is being built" } else { "" };
        self.say(Look::Dim, &format!("{found}{partial}"));
    }

    fn passages(&mut self, hits: &[Hit]) {
        for hit in hits {
            self.say(Look::Good, &format!("{}:{}  {}", hit.path, hit.start_line, hit.symbol));
            for (number, line) in (hit.start_line..).zip(hit.code.lines()).take(HIT_LINES) {
                self.say(Look::Plain, &format!("{number:>6} {line}"));
            }
        }
    }

    fn remember(&mut self) {
        let exchange = (std::mem::take(&mut self.asked), std::mem::take(&mut self.answered));
        self.exchanges.push_back(exchange);
        let bytes = |list: &VecDeque<(String, String)>| -> usize {
            list.iter().map(|(asked, answered)| asked.len() + answered.len()).sum()
        };
        while self.exchanges.len() > EXCHANGES
            || self.exchanges.len() > 1 && bytes(&self.exchanges) > EXCHANGE_BYTES
        {
            self.exchanges.pop_front();
        }
    }

    /// Lines that are to be printed for good.
    pub fn take_lines(&mut self, columns: usize) -> Vec<Line> {
        let full = full_rows(&mut self.open, columns);
        let mut lines = std::mem::take(&mut self.lines);
        lines.extend(full.into_iter().map(|text| Line { look: Look::Plain, text }));
        lines
    }

    /// The rows at the bottom; `since` is how long the call has been under way.
    pub fn bottom(&self, columns: usize, since: Duration) -> Bottom {
        let mark = match (self.waiting.front(), self.mode) {
            (Some(_), _) => "? ",
            (None, Mode::Ask) => "ask> ",
            (None, Mode::Run) => "agent> ",
        };
        let (typed, cursor) = self.prompt.view(columns.saturating_sub(mark.len()));
        Bottom {
            open: self.open.clone(),
            question: self.waiting.front().map(|first| self.shown(first)).unwrap_or_default(),
            mark: mark.to_owned(),
            typed,
            cursor,
            status: self.status(since),
        }
    }

    fn shown(&self, approval: &Approval) -> Vec<String> {
        let what = match approval.wanted {
            Wanted::Approval => "allow?",
            Wanted::Question => "question:",
            Wanted::Review => "done?",
        };
        let ours = self.run_id() == Some(approval.run_id.as_str());
        let whose = if ours { "" } else { " (another run)" };
        let mut rows = vec![format!("{what}{whose} {}", printable(&approval.summary))];
        let detail = printable(&approval.detail);
        rows.extend(detail.lines().take(DETAIL).map(|line| format!("  {line}")));
        let hidden = detail.lines().count().saturating_sub(DETAIL);
        if hidden > 0 {
            rows.push(format!("  … {} more", count(hidden as u64, "line")));
        }
        if !approval.limits.is_empty() {
            rows.push(format!("  limits: {}", printable(&approval.limits)));
        }
        rows.push(question::choices(approval));
        if self.waiting.len() > 1 {
            rows.push(format!("({} more after this)", self.waiting.len() - 1));
        }
        // A question takes one row a line, whatever it holds.
        rows.into_iter().map(|row| row.replace('\n', " ")).collect()
    }

    fn status(&self, since: Duration) -> String {
        if self.leaving {
            return "Ctrl-C again leaves".to_owned();
        }
        let model =
            if self.model.is_empty() { String::new() } else { format!(" · {}", self.model) };
        let Some(busy) = &self.busy else {
            let other = if self.mode == Mode::Ask { "agent" } else { "ask" };
            return format!("{} · Tab: {other} · /help{model}", self.root);
        };
        let tools = match busy.tools {
            0 => String::new(),
            tools => format!(", {}", count(tools.into(), "tool call")),
        };
        let verb = if busy.cancelling { "stopping" } else { busy.what };
        format!("{verb} {} s{tools} · Ctrl-C stops{model}", since.as_secs())
    }
}

#[cfg(test)]
#[path = "app_tests.rs"]
mod tests;
