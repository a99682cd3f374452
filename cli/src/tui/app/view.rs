//! What is shown of the state.

use std::time::Duration;

use lapce_ai_ipc::wire::engine::{Approval, Wanted};

use super::{App, EDIT, Mode};
use crate::commands::output::{count, printable};
use crate::commands::question;
use crate::tui::screen::{Bottom, Line, Look, full_rows};

/// Rows of a question's detail that are shown.
pub(super) const DETAIL: usize = 8;

impl App {
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
        if approval.wanted == Wanted::Approval && approval.editable.is_some() {
            rows.push(format!("{EDIT} changes it first, in your editor"));
        }
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
            let after = match (self.mode, &self.last_run) {
                (Mode::Run, Some(_)) => " · goes on with the last run, /new does not",
                _ => "",
            };
            return format!("{} · Tab: {other} · /help{model}{after}", self.root);
        };
        let tools = match busy.tools {
            0 => String::new(),
            tools => format!(", {}", count(tools.into(), "tool call")),
        };
        let verb = if busy.cancelling { "stopping" } else { busy.what };
        let keys = match &self.next {
            Some((text, _)) => format!("then: {} · Esc takes it back", printable(text)),
            None => format!("Ctrl-C stops{model}"),
        };
        format!("{verb} {} s{tools} · {}", since.as_secs(), keys.replace('\n', " "))
    }
}
