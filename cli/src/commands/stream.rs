//! A call that streams: its events shown as they come, its questions put to the user,
//! Ctrl-C turned into a cancelled run. Used by `ask`, `run` and `tool run`.

use std::collections::VecDeque;
use std::time::Duration;

use lapce_ai_ipc::wire::engine::{Answer, Approval, Decision, Event, Wanted};
use lapce_ai_ipc::{EngineCall, EngineClient};

use super::exit::{Code, Failure, Outcome};
use super::output::{Output, Style, printable};
use super::question::{self, Terminal};
use super::session::Interrupts;

/// How long a cancelled run gets to say that it is cancelled.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);

pub struct Stream<'a> {
    pub client: &'a EngineClient,
    pub out: Output,
    /// Print events as JSON lines.
    pub json: bool,
    /// Answer every question with yes.
    pub yes: bool,
    /// Keep the model's words to itself: they are not for reading.
    pub quiet: bool,
    /// Without a terminal, leave questions to other front ends.
    pub wait: bool,
    /// Whether the last text printed ended its line.
    at_line_start: bool,
    run_id: String,
    /// Questions put to the user, the first one on the screen.
    open: VecDeque<Approval>,
    terminal: Option<Terminal>,
}

impl<'a> Stream<'a> {
    pub fn new(client: &'a EngineClient, out: Output, json: bool, yes: bool) -> Self {
        Self {
            client,
            out,
            json,
            yes,
            quiet: false,
            wait: false,
            at_line_start: true,
            run_id: String::new(),
            open: VecDeque::new(),
            terminal: None,
        }
    }

    /// Shows the call to its end and returns its reply.
    pub async fn follow<R>(&mut self, mut call: EngineCall<R>) -> Outcome<R> {
        let mut interrupts = Interrupts::new()?;
        let mut cancelled = false;
        let never = Duration::from_secs(u64::from(u32::MAX));
        loop {
            let patience = if cancelled { CANCEL_PATIENCE } else { never };
            tokio::select! {
                event = call.next() => match event {
                    Some(event) => self.event(event).await?,
                    None => break,
                },
                line = next_line(&mut self.terminal) => self.answer(line).await?,
                () = interrupts.next() => {
                    if cancelled || self.run_id.is_empty() {
                        return Err(self.interrupted());
                    }
                    cancelled = true;
                    self.end_line()?;
                    self.out.note("cancelling; press Ctrl-C again to leave at once");
                    // Gone already: its reply is on the way.
                    let _ = self.client.cancel_run(self.run_id.clone()).await;
                }
                () = tokio::time::sleep(patience) => return Err(self.interrupted()),
            }
        }
        self.end_line()?;
        Ok(call.finish().await?)
    }

    fn interrupted(&mut self) -> Failure {
        let _ = self.end_line();
        Failure::new(Code::Interrupted, "cancelled", "")
    }

    async fn event(&mut self, event: Event) -> Outcome {
        if let Event::Started { run_id, .. } = &event {
            self.run_id.clone_from(run_id);
        }
        if self.json {
            self.out.json_line(&serde_json::json!({"event": event}))?;
            match event {
                Event::Approval(approval) => self.ask(approval).await?,
                Event::Answered { approval_id, by } => self.decided(&approval_id, &by)?,
                _ => {}
            }
            return Ok(());
        }
        let out = self.out;
        let dim = |text: &str| out.paint_err(Style::Dim, text);
        match event {
            Event::Started { transcript, model, .. } => {
                let model = if model.is_empty() { "no model".to_owned() } else { model };
                let place =
                    transcript.map_or_else(String::new, |path| format!(", transcript {path}"));
                self.out.note(&dim(&format!("{model}{place}")));
            }
            Event::Text(_) if self.quiet => {}
            Event::Text(text) => self.text(&text)?,
            Event::Notice(text) => {
                self.end_line()?;
                self.out.note(&self.out.paint_err(Style::Warn, &printable(&text)));
            }
            Event::ToolStarted { summary, .. } => {
                self.end_line()?;
                self.out.note(&dim(&format!("▸ {}", printable(&summary))));
            }
            Event::ToolOutput { text, .. } => {
                self.end_line()?;
                for line in printable(&text).lines() {
                    self.out.note(&dim(&format!("  │ {line}")));
                }
            }
            Event::Answered { approval_id, by } => self.decided(&approval_id, &by)?,
            Event::ToolFinished { ok, summary, wall_ms, .. } => {
                self.end_line()?;
                let mark = if ok { "✓" } else { "✗" };
                self.out.note(&dim(&format!("  {mark} {} ({wall_ms} ms)", printable(&summary))));
            }
            Event::Approval(approval) => self.ask(approval).await?,
            // Shown with the reply.
            Event::Citations(_) | Event::Progress(_) | Event::Indexed(_) => {}
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Outcome {
        let text = printable(text);
        if let Some(last) = text.chars().last() {
            self.at_line_start = last == '\n';
        }
        self.out.piece(&text)
    }

    fn end_line(&mut self) -> Outcome {
        if !std::mem::replace(&mut self.at_line_start, true) && !self.json {
            self.out.piece("\n")?;
        }
        Ok(())
    }

    /// Puts a question to the user, or answers it where there is nobody to ask.
    async fn ask(&mut self, approval: Approval) -> Outcome {
        if self.yes {
            return self.send(&approval.approval_id, Decision::Allow, String::new()).await;
        }
        if self.terminal.is_none() {
            self.terminal = Terminal::open();
        }
        if self.terminal.is_none() {
            let id = &approval.approval_id[..approval.approval_id.len().min(8)];
            if self.wait {
                self.out.note(&format!(
                    "{} waits for `lapce-ai approvals allow {id}` (or deny, or answer) for {} s",
                    printable(&approval.summary),
                    approval.timeout_s
                ));
                return Ok(());
            }
            self.out
                .note("there is no terminal to ask on, so the answer is no; see --wait and --yes");
            // A result that nobody looks at is taken as it is.
            let (decision, words) = match approval.wanted {
                Wanted::Review => (Decision::Allow, ""),
                _ => (Decision::Deny, "nobody is there to answer; do without this"),
            };
            return self.send(&approval.approval_id, decision, words.to_owned()).await;
        }
        self.open.push_back(approval);
        if self.open.len() == 1 {
            self.put_question()?;
        }
        Ok(())
    }

    fn put_question(&mut self) -> Outcome {
        self.end_line()?;
        if let Some(approval) = self.open.front() {
            question::show(approval, self.out);
        }
        Ok(())
    }

    /// A line from the terminal (`None`: it is closed) as the answer to the first question.
    async fn answer(&mut self, line: Option<String>) -> Outcome {
        let Some(approval) = self.open.front() else {
            if line.is_none() {
                self.terminal = None;
            }
            return Ok(());
        };
        let id = approval.approval_id.clone();
        let (decision, feedback) = match line {
            Some(line) => match question::parse_for(approval, &line) {
                Some(answer) => answer,
                None => return self.put_question(),
            },
            None => (Decision::Deny, "the user left".to_owned()),
        };
        self.open.pop_front();
        self.send(&id, decision, feedback).await?;
        self.put_question()
    }

    async fn send(&self, id: &str, decision: Decision, feedback: String) -> Outcome {
        let answer = Answer { approval_id: id.to_owned(), decision, feedback };
        // Answered elsewhere, or too late: the call goes on and says so itself.
        if let Err(error) = self.client.answer(answer).await {
            self.out.note(&format!("(not taken: {error})"));
        }
        Ok(())
    }

    /// Somebody has answered, or the time is over: it is asked no more.
    fn decided(&mut self, id: &str, by: &str) -> Outcome {
        let shown = self.open.front().is_some_and(|front| front.approval_id == id);
        self.open.retain(|approval| approval.approval_id != id);
        if shown {
            let how = if by.is_empty() { "its time is over" } else { "answered elsewhere" };
            self.out.note(&format!("({how})"));
            self.put_question()?;
        }
        Ok(())
    }
}

async fn next_line(terminal: &mut Option<Terminal>) -> Option<String> {
    match terminal {
        Some(terminal) => terminal.line().await,
        None => std::future::pending().await,
    }
}
