//! What events and ends become: lines, and what is asked of the user.

use lapce_ai_ipc::wire::engine::{
    Approval, AskReply, Event, Hit, RunOutcome, RunReply, SearchReply,
};

use super::{App, Done, EXCHANGE_BYTES, Wish};
use crate::commands::output::{count, printable};
use crate::tui::screen::Look;

/// Questions that wait at a time, of all runs.
const WAITING: usize = 64;
/// Lines of a hit that are shown.
const HIT_LINES: usize = 6;

impl App {
    /// Takes an event of the call under way.
    pub fn event(&mut self, event: Event) {
        match event {
            Event::Started { run_id, transcript, model } => {
                if let Some(busy) = &mut self.busy {
                    if busy.is_run {
                        // All that was said before went along.
                        self.last_run = Some(run_id.clone());
                        self.exchanges.iter_mut().for_each(|exchange| exchange.in_run = true);
                    }
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

    /// Whoever asked is gone.
    pub fn forget_waiting(&mut self) {
        if !self.waiting.is_empty() {
            self.waiting.clear();
            self.say(Look::Dim, "(the engine ended; nothing waits any more)");
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

    /// What was under way has ended; what the line that waited asks for, if all went well.
    pub fn done(&mut self, done: Done) -> Option<Wish> {
        self.busy = None;
        self.end_line();
        let well = match done {
            Done::Ask(reply) => {
                self.answer(&reply);
                reply.answered
            }
            Done::Run(reply) => {
                self.result(&reply);
                reply.outcome == RunOutcome::Completed
            }
            Done::Search(reply) => {
                self.found(&reply);
                true
            }
            Done::Undo(reply) => {
                self.say(if reply.ok { Look::Good } else { Look::Warn }, reply.text.trim_end());
                reply.ok
            }
            Done::Failed(message, hint) => {
                self.say(Look::Bad, &message);
                if !hint.is_empty() {
                    self.say(Look::Dim, &format!("next: {hint}"));
                }
                false
            }
        };
        if !well {
            // It may have built on what has failed.
            self.take_back();
            return None;
        }
        let (text, command) = self.next.take()?;
        self.act(&text, command)
    }

    fn answer(&mut self, reply: &AskReply) {
        if reply.answered {
            let kept = !reply.conversation.is_empty();
            if kept {
                self.conversation = Some(reply.conversation.clone());
            }
            self.remember(false, kept);
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
        self.remember(true, false);
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

    pub(super) fn passages(&mut self, hits: &[Hit]) {
        for hit in hits {
            self.say(Look::Good, &format!("{}:{}  {}", hit.path, hit.start_line, hit.symbol));
            for (number, line) in (hit.start_line..).zip(hit.code.lines()).take(HIT_LINES) {
                self.say(Look::Plain, &format!("{number:>6} {line}"));
            }
        }
    }
}
