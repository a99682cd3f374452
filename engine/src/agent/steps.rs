//! The calls that the loop answers itself: questions to the user, the end, the to-do list,
//! modes and subtasks.

use std::future::Future;
use std::pin::Pin;

use lapce_ai_ipc::wire::engine::{Event, RunOutcome, Usage, Wanted};
use lapce_ai_tools::call::{ToolCall, one_line};
use lapce_ai_tools::envelope;
use lapce_ai_tools::spec::ToolSpec;
use serde_json::json;

use super::calls::Over;
use super::history::History;
use super::{Loop, Step, Stopped, failed, given, limits, modes, offered, prompt, todo, tokens};
use crate::approvals::{Question, Verdict};

impl Loop<'_, '_, '_> {
    /// What the system prompt says besides the rules: the mode, texts, the to-do list.
    pub(super) fn standing(&self) -> String {
        let mut text = modes::section(self.common.config, &self.mode);
        text.push_str(&self.common.texts);
        if !self.todos.is_empty() {
            // Old results are left out of a long conversation; the list stays.
            text.push_str("\nTo-do list now:\n");
            text.push_str(&self.todos);
            text.push('\n');
        }
        text
    }

    /// `attempt_completion`: the end, unless the user has something to say about it.
    pub(super) async fn completion(&mut self, call: &ToolCall) -> Result<Step, Stopped> {
        let result = call.text("result").trim().to_owned();
        let review = self.common.review && self.depth == 0;
        if review && self.common.reviews < limits::REVIEWS {
            self.common.reviews += 1;
            let question = Question {
                summary: "the result of the run".into(),
                detail: result.clone(),
                wanted: Wanted::Review,
                ..self.asking(call)
            };
            if let Verdict::Denied { feedback } = self.put(question).await?
                && !feedback.trim().is_empty()
            {
                self.journal.event("review", json!({"id": call.id, "feedback": feedback}));
                self.outlet.note(&format!("\n\n*The user: {}*\n\n", feedback.trim()));
                return Ok(given(envelope::feedback(call, &feedback), true));
            }
        }
        Ok(Step::End((RunOutcome::Completed, result)))
    }

    /// `ask_followup_question`.
    pub(super) async fn question(
        &mut self,
        spec: &'static ToolSpec,
        call: &ToolCall,
    ) -> Result<Step, Stopped> {
        if let Some(refusal) = self.desk.refused_by_rule(spec, call, self.journal)? {
            return Ok(Step::Given(refusal));
        }
        let text = call.text("question").trim().to_owned();
        let suggested = call.params.get("follow_up").and_then(|v| v.as_array());
        let suggestions: Vec<(String, Option<String>)> = suggested
            .into_iter()
            .flatten()
            .take(limits::SUGGESTIONS)
            .filter_map(|s| {
                let mode = s["mode"].as_str().map(str::to_owned);
                Some((s["text"].as_str()?.to_owned(), mode))
            })
            .collect();
        let question = Question {
            summary: one_line(&text, 120),
            detail: text.clone(),
            wanted: Wanted::Question,
            suggestions: suggestions.iter().map(|(text, _)| text.clone()).collect(),
            ..self.asking(call)
        };
        self.outlet.note(&format!("\n\n**Question:** {text}\n\n"));
        for (text, _) in &suggestions {
            self.outlet.note(&format!("- {text}\n"));
        }
        let answer = match self.put(question).await? {
            Verdict::Allowed { words, .. } if !words.trim().is_empty() => words.trim().to_owned(),
            Verdict::Denied { feedback } if !feedback.trim().is_empty() => {
                feedback.trim().to_owned()
            }
            Verdict::TimedOut { after } => {
                let text = envelope::question_timeout(call, after.as_secs());
                self.journal.event("answered", json!({"id": call.id, "timeout": true}));
                self.outlet.note("\n\n*Nobody answered.*\n\n");
                return Ok(given(text, true));
            }
            _ => {
                self.journal.event("answered", json!({"id": call.id, "answer": ""}));
                self.outlet.note("\n\n*The user gave no answer.*\n\n");
                return Ok(given(envelope::no_answer(call), true));
            }
        };
        self.journal.event("answered", json!({"id": call.id, "answer": answer}));
        self.outlet.note(&format!("\n\n**Answer:** {answer}\n\n"));
        // A suggestion may come with a mode to go on in: the user chose it with the answer.
        let mode = suggestions.iter().find(|(text, _)| text.trim() == answer);
        if let Some(slug) = mode.and_then(|(_, mode)| mode.as_deref())
            && let Ok(mode) = modes::find(self.common.config, slug)
        {
            self.enter(mode);
        }
        Ok(given(envelope::answer(call, &answer), true))
    }

    /// The model does not get on: what the user says about it, or the end. A subtask ends; its
    /// parent decides what to make of that.
    pub(super) async fn stuck(&mut self, problem: &str) -> Result<String, Stopped> {
        let end = || failed(problem);
        if self.depth > 0 {
            return Err(end());
        }
        let question = Question {
            summary: one_line(problem, 120),
            detail: problem.to_owned(),
            wanted: Wanted::Question,
            ..self.desk.asking()
        };
        self.outlet.note(&format!("\n\n**Stuck:** {problem}\n\n"));
        let words = match self.put(question).await? {
            Verdict::Allowed { words, .. } => words,
            Verdict::Denied { feedback } => feedback,
            Verdict::TimedOut { .. } | Verdict::Changed { .. } => String::new(),
        };
        let words = words.trim();
        self.journal.event("stuck", json!({"problem": problem, "answer": words}));
        if words.is_empty() {
            return Err(end());
        }
        self.outlet.note(&format!("\n\n*The user: {words}*\n\n"));
        Ok(words.to_owned())
    }

    /// `update_todo_list`.
    pub(super) fn todo_list(&mut self, call: &ToolCall) -> Step {
        match todo::read(call.text("todos")) {
            Ok(list) => {
                self.outlet.note(&format!("\n\n{list}\n\n"));
                self.journal
                    .event("todos", json!({"id": call.id, "depth": self.depth, "list": list}));
                self.todos.clone_from(&list);
                given(envelope::result(call, &list), true)
            }
            Err(why) => given(envelope::error(call, &why), false),
        }
    }

    /// `switch_mode`.
    pub(super) async fn switch(
        &mut self,
        spec: &'static ToolSpec,
        call: &ToolCall,
    ) -> Result<Step, Stopped> {
        let mode = match modes::find(self.common.config, call.text("mode_slug")) {
            Ok(mode) => mode,
            Err(why) => return Ok(given(envelope::error(call, &why), false)),
        };
        if mode == self.mode {
            let text = format!("The mode is '{}' already.", mode.slug);
            return Ok(given(envelope::result(call, &text), true));
        }
        if let Some(refusal) = self.agree(spec, call, &mode).await? {
            return Ok(refusal);
        }
        let text = format!("The mode is '{}' now: {}.", mode.slug, mode.summary);
        self.enter(mode);
        Ok(given(envelope::result(call, &text), true))
    }

    fn enter(&mut self, mode: modes::Mode) {
        self.outlet.note(&format!("\n\n*Mode: {}*\n\n", mode.slug));
        self.journal.event("mode", json!({"mode": mode.slug, "depth": self.depth}));
        self.specs = offered(&mode, self.common.config, !self.desk.mcp.is_empty());
        self.desk.mode.clone_from(&mode.slug);
        self.mode = mode;
    }

    /// A mode that may do more is put to the user, unless a rule of theirs allows it.
    async fn agree(
        &mut self,
        spec: &'static ToolSpec,
        call: &ToolCall,
        mode: &modes::Mode,
    ) -> Result<Option<Step>, Stopped> {
        let wider = mode.is_wider_than(&self.mode);
        let why = format!(
            "the mode '{}' may do more than '{}': {}",
            mode.slug, self.mode.slug, mode.summary
        );
        let because = wider.then_some(why.as_str());
        let refusal = self.desk.gate(spec, call, because, self.outlet, self.journal).await?;
        Ok(refusal.err().map(Step::Given))
    }

    /// `new_task`. Boxed as a trait object: the future holds another of its kind.
    pub(super) fn subtask<'s>(
        &'s mut self,
        spec: &'static ToolSpec,
        call: &'s ToolCall,
    ) -> Pin<Box<dyn Future<Output = Result<Step, Stopped>> + Send + 's>> {
        Box::pin(self.run_subtask(spec, call))
    }

    /// A loop of its own; its result is this call's.
    async fn run_subtask(
        &mut self,
        spec: &'static ToolSpec,
        call: &ToolCall,
    ) -> Result<Step, Stopped> {
        let no = |why: &str| Ok(given(envelope::error(call, why), false));
        let mode = match modes::find(self.common.config, call.text("mode")) {
            Ok(mode) => mode,
            Err(why) => return no(&why),
        };
        if self.depth >= limits::SUBTASK_DEPTH {
            return no("a subtask at this depth starts none of its own; do the work here");
        }
        if self.common.subtasks >= limits::SUBTASKS {
            return no("this run has started as many subtasks as it may; do the work here");
        }
        let todos = match call.text("todos").trim() {
            "" => String::new(),
            list => match todo::read(list) {
                Ok(list) => list,
                Err(why) => return no(&why),
            },
        };
        let left = self.max_tokens.saturating_sub(tokens::sum(&self.usage));
        let max_tokens = left / limits::SUBTASK_SHARE;
        if let Some(refusal) = self.agree(spec, call, &mode).await? {
            return Ok(refusal);
        }
        self.common.subtasks += 1;
        let message = call.text("message").trim();
        let shown = one_line(message, 120);
        let started = Event::ToolStarted {
            call_id: call.id.clone(),
            name: call.name.clone(),
            summary: format!("subtask in mode {}: {shown}", mode.slug),
        };
        self.outlet.event(started).await?;
        self.outlet.note(&format!("\n\n## Subtask ({})\n\n{message}\n\n", mode.slug));
        let depth = self.depth + 1;
        self.journal.event(
            "subtask",
            json!({"id": call.id, "depth": depth, "mode": mode.slug, "message": message, "tokens": max_tokens}),
        );
        let begun = std::time::Instant::now();
        self.desk.mode.clone_from(&mode.slug);
        let mut child = Loop {
            form: self.form,
            history: History::new(prompt::subtask(message)),
            model: self.model.clone(),
            max_turns: self.max_turns,
            max_tokens,
            specs: offered(&mode, self.common.config, !self.desk.mcp.is_empty()),
            mode,
            depth,
            todos,
            common: &mut *self.common,
            desk: &mut *self.desk,
            outlet: &mut *self.outlet,
            journal: &mut *self.journal,
            turns: 0,
            usage: Usage::default(),
            mistakes: 0,
            same: (String::new(), 0),
            reminded: false,
        };
        let ended = child.go().await;
        let (turns, usage) = (child.turns, child.usage.clone());
        self.desk.mode.clone_from(&self.mode.slug);
        // What it used was the run's.
        tokens::add(&mut self.usage, &usage);
        let (outcome, result) = match ended {
            Ok(end) | Err(Stopped::End(end)) => end,
            Err(stopped) => return Err(stopped),
        };
        let ok = outcome == RunOutcome::Completed;
        self.journal.event(
            "subtask_ended",
            json!({"id": call.id, "depth": depth, "outcome": outcome, "result": result, "turns": turns, "usage": usage}),
        );
        self.outlet.note(&format!("\n\n**Subtask over.**\n\n{result}\n\n"));
        let finished = Event::ToolFinished {
            call_id: call.id.clone(),
            name: call.name.clone(),
            ok,
            summary: one_line(&result, 120),
            wall_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            rule: String::new(),
        };
        self.outlet.event(finished).await?;
        let text = envelope::subtask(call, ok, &result);
        Ok(Step::Given(super::Given::new(text, ok)))
    }

    /// The parts of a question that are the same for all of this run's.
    fn asking(&self, call: &ToolCall) -> Question {
        Question { tool: call.name.clone(), ..self.desk.asking() }
    }

    /// Puts a question to the user and waits.
    async fn put(&mut self, question: Question) -> Result<Verdict, Stopped> {
        self.outlet.finish().await?;
        let cancel = self.desk.cancel.clone();
        let verdict = tokio::select! {
            verdict = self.desk.engine.approvals.ask(question, self.desk.cx) => verdict,
            () = cancel.cancelled() => return Err(Stopped::Cancelled),
        };
        verdict.map_err(|error| Stopped::from(Over::from(error)))
    }
}
