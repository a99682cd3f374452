//! The agent loop: the model speaks, its tool calls run, the results go back, until the
//! task is done or something says stop.
//!
//! Entered by `handlers/run.rs` through [`run`]. What ends a run: `attempt_completion`, an
//! answer without a call, the turn limit, the token budget, a provider's error, a cancel; and
//! three mistakes in a row or the same call a fourth time, unless the user says how to go on. A subtask is a loop of its own inside
//! its parent's (`steps.rs`): own conversation, own budget, same desk. A call runs only when it is
//! whole: nothing of an answer that was cut off is acted upon.

pub mod calls;
pub mod history;
pub mod journal;
pub mod limits;
pub mod listen;
pub mod modes;
pub mod outlet;
pub mod prompt;
pub mod rewrite;
mod steps;
pub mod todo;
pub mod tokens;
mod wanted;

use std::sync::Arc;

use lapce_ai_ipc::wire::WireError;
use lapce_ai_ipc::wire::engine::{RunOutcome, Usage};
use lapce_ai_tools::call::ToolCall;
use lapce_ai_tools::spec::{self, Runs, ToolSpec};
use lapce_ai_tools::xml::StreamParser;
use lapce_ai_tools::{envelope, schema};
use serde_json::json;

use self::calls::{Desk, Given, Over, signature};
use self::history::History;
use self::journal::Journal;
use self::listen::{Answer, Ended, listen};
use self::modes::Mode;
use self::outlet::Outlet;
use self::wanted::Wanted;
use crate::config::{Config, ToolForm};
use crate::past::record;
use crate::provider::{ChatRequest, Fault, Message, Model, Part, Providers, Role, Stop, ToolDef};

/// How a run ended.
#[derive(Debug)]
pub struct Ending {
    pub outcome: RunOutcome,
    pub result: String,
    pub turns: u32,
    pub tool_calls: u32,
    pub usage: Usage,
    /// The mode that it ended in.
    pub mode: String,
}

pub struct Task {
    pub model: Model,
    pub first_message: String,
    pub max_turns: u32,
    pub max_tokens: u64,
    pub mode: Mode,
    /// Put the result to the user before the run ends.
    pub review: bool,
    /// The section of the prompt about slash commands and skills.
    pub texts: String,
    /// The conversation that the run goes on with, and the to-do list then.
    pub earlier: Vec<Message>,
    pub todos: String,
}

/// The tools that a run in this mode offers its model.
fn offered(mode: &Mode, config: &Config, mcp: bool) -> Vec<&'static ToolSpec> {
    // Without a model for images, or a server of MCP, there is nothing to offer.
    let works = |s: &&ToolSpec| match s.runs {
        Runs::Mcp => mcp,
        _ => s.name != "generate_image" || !config.image.is_empty(),
    };
    spec::offered().filter(|s| mode.offers(s)).filter(works).collect()
}

/// What a run and its subtasks share.
struct Common<'c> {
    providers: &'c Arc<Providers>,
    config: &'c Config,
    /// Put results to the user.
    review: bool,
    /// The section of the prompt about slash commands and skills.
    texts: String,
    subtasks: u32,
    tool_calls: u32,
    reviews: u32,
}

/// Runs a task to its end. An error only when nothing came of it at all.
pub async fn run(
    providers: &Arc<Providers>,
    config: &Config,
    task: Task,
    mut desk: Desk<'_>,
    outlet: &mut Outlet<'_>,
    journal: &mut Journal,
) -> Result<Ending, WireError> {
    let mcp = !desk.mcp.is_empty();
    let mut common = Common {
        providers,
        config,
        review: task.review,
        texts: task.texts,
        subtasks: 0,
        tool_calls: 0,
        reviews: 0,
    };
    let history = if task.earlier.is_empty() {
        History::new(task.first_message)
    } else {
        let context = task.model.context as usize;
        let room = context * limits::EARLIER_PERCENT / 100;
        let mut history = History::continued(task.earlier, room, task.first_message);
        if task.model.tools == ToolForm::Xml {
            history.write_calls_out();
        }
        history
    };
    // The log of a run holds all that its model was told.
    for (event, fields) in record::entries(history.messages()) {
        journal.event(event, fields);
    }
    if !task.todos.is_empty() {
        journal.event("todos", json!({"depth": 0, "list": task.todos}));
    }
    let mut run = Loop {
        form: task.model.tools,
        history,
        model: task.model,
        max_turns: task.max_turns,
        max_tokens: task.max_tokens,
        specs: offered(&task.mode, config, mcp),
        mode: task.mode,
        depth: 0,
        todos: task.todos,
        common: &mut common,
        desk: &mut desk,
        outlet,
        journal,
        turns: 0,
        usage: Usage::default(),
        mistakes: 0,
        same: (String::new(), 0),
        reminded: false,
    };
    let (outcome, result) = match run.go().await {
        Ok(end) | Err(Stopped::End(end)) => end,
        Err(Stopped::Cancelled) => (RunOutcome::Cancelled, "The run was cancelled.".to_owned()),
        Err(Stopped::Failed(error)) if run.common.tool_calls == 0 && run.turns <= 1 => {
            run.journal.event("failed", json!({"error": error.message}));
            return Err(error);
        }
        Err(Stopped::Failed(error)) => {
            (RunOutcome::Failed, format!("{} {}", error.message, error.hint).trim().to_owned())
        }
    };
    let (turns, usage, mode) = (run.turns, run.usage, run.mode.slug);
    Ok(Ending { outcome, result, turns, tool_calls: common.tool_calls, usage, mode })
}

/// What leaves the loop from within a turn.
enum Stopped {
    End((RunOutcome, String)),
    Cancelled,
    Failed(WireError),
}

impl From<Over> for Stopped {
    fn from(over: Over) -> Self {
        match over {
            Over::Cancelled => Self::Cancelled,
            Over::Failed(error) => Self::Failed(error),
        }
    }
}

impl From<outlet::Gone> for Stopped {
    fn from(_: outlet::Gone) -> Self {
        Self::Cancelled
    }
}

fn failed(result: impl Into<String>) -> Stopped {
    Stopped::End((RunOutcome::Failed, result.into()))
}

struct Loop<'r, 'a, 'o> {
    common: &'r mut Common<'a>,
    model: Model,
    form: ToolForm,
    mode: Mode,
    specs: Vec<&'static ToolSpec>,
    history: History,
    desk: &'r mut Desk<'a>,
    outlet: &'r mut Outlet<'o>,
    journal: &'r mut Journal,
    /// 0 for a run, 1 for its subtask, …
    depth: u32,
    /// The to-do list as it stands.
    todos: String,
    max_turns: u32,
    max_tokens: u64,
    turns: u32,
    usage: Usage,
    mistakes: u32,
    /// The last call, and how often in a row it came.
    same: (String, u32),
    /// The model was told once that its answer held no call.
    reminded: bool,
}

impl Loop<'_, '_, '_> {
    async fn go(&mut self) -> Result<(RunOutcome, String), Stopped> {
        while self.turns < self.max_turns {
            if tokens::sum(&self.usage) >= self.max_tokens {
                return Err(failed(format!(
                    "The run has used its budget of {} tokens. Raise run_tokens in [limits] of config.toml, or split the task.",
                    self.max_tokens
                )));
            }
            self.turns += 1;
            let answer = self.ask().await?;
            if let Some(end) = self.act(answer).await? {
                return Ok(end);
            }
            if self.mistakes >= limits::MISTAKES {
                let words = self.stuck(&envelope::too_many_mistakes(self.mistakes)).await?;
                self.mistakes = 0;
                self.tell(envelope::advice(&words));
            }
        }
        Ok((
            RunOutcome::TurnLimit,
            format!(
                "The run reached its limit of {} turns before the model said that the task is done.",
                self.max_turns
            ),
        ))
    }

    /// One answer of the model, asked for again when it was cut off.
    async fn ask(&mut self) -> Result<Answer, Stopped> {
        let mut cuts = 0;
        let mut tightened = false;
        loop {
            let request = self.request(tightened);
            self.journal.event("request", json!({"turn": self.turns, "depth": self.depth, "model": self.model.id(), "messages": request.messages.len()}));
            let parser =
                (self.form == ToolForm::Xml).then(|| StreamParser::new(self.specs.iter().copied()));
            let prompt_estimate: usize = tokens::estimate(&request.system)
                + request.messages.iter().map(tokens::message).sum::<usize>();
            let stream = self.common.providers.chat(&self.model, request);
            let cancel = self.desk.cancel.clone();
            let listened =
                listen(stream, parser, self.outlet, &[&cancel, self.desk.cx.cancelled()]).await;
            let mut answer = match listened {
                Ok(answer) => answer,
                Err(Ended::Cancelled) => return Err(Stopped::Cancelled),
                Err(Ended::Failed { error, shown }) => {
                    self.journal.event("provider_error", json!({"error": error.to_string()}));
                    match error.fault {
                        Fault::NoTools if self.form == ToolForm::Native && !shown => {
                            self.form = ToolForm::Xml;
                            self.history.write_calls_out();
                            self.outlet.notice("this model takes no function calls; tools are described in the text instead").await?;
                            continue;
                        }
                        Fault::ContextLength if !tightened && !shown => {
                            tightened = true;
                            self.outlet.notice("the conversation is too long for the model; older steps are left out").await?;
                            continue;
                        }
                        // A model that was thought to take pictures and does not.
                        Fault::BadRequest | Fault::NotFound
                            if !shown && self.history.keep_pictures(0) =>
                        {
                            self.desk.pictures = false;
                            self.outlet.notice("the model was asked again without the pictures, which it may not take").await?;
                            continue;
                        }
                        _ => return Err(Stopped::Failed(error.wire())),
                    }
                }
            };
            if answer.finish.usage == Usage::default() || answer.finish.usage.input == 0 {
                answer.finish.usage.input = prompt_estimate as u64;
                answer.finish.usage.output =
                    answer.finish.usage.output.max(tokens::estimate(&answer.raw) as u64);
            }
            tokens::add(&mut self.usage, &answer.finish.usage);
            self.journal.event(
                "answer",
                json!({"turn": self.turns, "depth": self.depth, "stop": answer.finish.stop.as_str(), "text": answer.raw, "usage": answer.finish.usage, "total": self.usage}),
            );
            if answer.finish.stop != Stop::Truncated {
                return Ok(answer);
            }
            cuts += 1;
            if cuts > limits::CUT_RETRIES {
                return Err(failed(format!(
                    "The answers of {} are cut off again and again; nothing of them was carried out.",
                    self.model.id()
                )));
            }
            self.outlet.notice(&format!("the answer was cut off and nothing of it was carried out; asking again (attempt {})", cuts + 1)).await?;
        }
    }

    fn request(&mut self, tightened: bool) -> ChatRequest {
        let native = self.form == ToolForm::Native;
        let extra = self.standing() + &self.desk.mcp;
        let specs = self.specs.iter().copied();
        let system = prompt::run_system(self.desk.root.as_str(), self.form, &extra, specs);
        let tools: Vec<ToolDef> =
            if native { self.specs.iter().map(|s| definition(s)).collect() } else { Vec::new() };
        let fixed = tokens::estimate(&system)
            + tools
                .iter()
                .map(|t| {
                    tokens::estimate(&t.description) + tokens::estimate(&t.parameters.to_string())
                })
                .sum::<usize>();
        let context = self.model.context as usize;
        let max_output = (self.model.max_output as usize).min(context / 4);
        let mut room = context.saturating_sub(max_output + fixed + 64);
        if tightened {
            room /= 2;
        }
        self.history.fit(room);
        ChatRequest {
            system,
            messages: self.history.messages().to_vec(),
            tools,
            max_output: max_output as u32,
            temperature: self.model.temperature,
            stop: Vec::new(),
        }
    }

    /// Carries out what an answer asks for. `Some` ends the run.
    async fn act(&mut self, answer: Answer) -> Result<Option<(RunOutcome, String)>, Stopped> {
        if answer.finish.stop == Stop::Refused {
            return Err(failed(format!(
                "{} refused to go on. {}",
                self.model.id(),
                answer.words.trim()
            )));
        }
        let wanted = wanted::all(&answer, &self.specs);
        self.remember(&answer, &wanted);
        if answer.finish.stop == Stop::Length && wanted.is_empty() {
            self.mistakes += 1;
            self.tell(
                "[no tool] Result:\n<error>\nYour answer reached the output limit before it was whole; nothing of it was carried out. Work in smaller steps.\n</error>".to_owned(),
            );
            return Ok(None);
        }
        if wanted.is_empty() {
            return Ok(self.without_call(&answer));
        }
        self.reminded = false;
        let (mut results, mut pictures) = (Vec::new(), Vec::new());
        let mut denied = false;
        for wanted in wanted {
            let given = if denied {
                let call = wanted
                    .call
                    .unwrap_or_else(|_| ToolCall::new(wanted.id.clone(), wanted.name.clone()));
                Given::new(envelope::skipped(&call), false)
            } else {
                match self.one(&wanted).await? {
                    Step::Given(given) => given,
                    Step::End(end) => return Ok(Some(end)),
                }
            };
            self.mistakes = if given.mistake { self.mistakes + 1 } else { 0 };
            denied |= given.denied;
            let shown = given.pictures.len();
            pictures.extend(given.pictures.into_iter().map(Part::Image));
            let text = self.cut_result(given.envelope);
            let result = match self.form {
                ToolForm::Native if !answer.finish.calls.is_empty() => {
                    Part::CallResult { id: wanted.id, name: wanted.name, text, ok: given.ok }
                }
                _ => Part::Text(text),
            };
            if self.depth == 0 {
                self.journal.event("given", record::given(&result, shown));
            }
            results.push(result);
        }
        results.append(&mut pictures);
        self.history.push(Message { role: Role::User, parts: results });
        Ok(None)
    }

    /// One call: the loop's own, or one for the desk.
    async fn one(&mut self, wanted: &Wanted) -> Result<Step, Stopped> {
        let mistake =
            |envelope: String| Step::Given(Given { mistake: true, ..Given::new(envelope, false) });
        let Some(spec) = self.specs.iter().copied().find(|s| s.name == wanted.name) else {
            let known = spec::find(&wanted.name);
            return Ok(mistake(match known.filter(|spec| !self.mode.offers(spec)) {
                Some(spec) => envelope::not_in_mode(spec.name, &self.mode.slug),
                None => envelope::unknown_tool(&wanted.name, self.specs.iter().copied()),
            }));
        };
        let call = match &wanted.call {
            Ok(call) => call,
            Err(problem) => return Ok(mistake(problem.clone())),
        };
        let signature = signature(call);
        if self.same.0 == signature {
            self.same.1 += 1;
        } else {
            self.same = (signature, 1);
        }
        if self.same.1 >= limits::SAME_CALL {
            let words = self.stuck(&envelope::repeated_call(call, self.same.1)).await?;
            self.same = (String::new(), 0);
            return Ok(given(envelope::repeated(call, &words), true));
        }
        if let Some(why) = self.mode.refuses(spec, call) {
            return Ok(mistake(envelope::error(call, &why)));
        }
        match call.name.as_str() {
            "attempt_completion" => self.completion(call).await,
            "ask_followup_question" => self.question(spec, call).await,
            "update_todo_list" => Ok(self.todo_list(call)),
            "switch_mode" => self.switch(spec, call).await,
            "new_task" => self.subtask(spec, call).await,
            _ => {
                self.common.tool_calls += 1;
                Ok(Step::Given(self.desk.carry_out(spec, call, self.outlet, self.journal).await?))
            }
        }
    }

    /// An answer that calls nothing: the end for models with function calls; the others
    /// are reminded once, they forget the form.
    fn without_call(&mut self, answer: &Answer) -> Option<(RunOutcome, String)> {
        let words = answer.words.trim();
        if !words.is_empty() && (self.form == ToolForm::Native || self.reminded) {
            return Some((RunOutcome::Completed, words.to_owned()));
        }
        self.mistakes += u32::from(words.is_empty());
        self.reminded = true;
        self.tell(envelope::no_tool_used(self.form == ToolForm::Xml));
        None
    }

    /// Something that the model is to know besides results.
    fn tell(&mut self, text: String) {
        if self.depth == 0 {
            self.journal.event("told", record::told(&text));
        }
        self.history.push(Message::user(text));
    }

    /// The model's own words, as the next request repeats them.
    fn remember(&mut self, answer: &Answer, wanted: &[Wanted]) {
        let mut parts = answer.finish.opaque.clone();
        if !answer.raw.trim().is_empty() {
            parts.push(Part::Text(answer.raw.clone()));
        }
        for call in &answer.finish.calls {
            // Broken arguments are not sent back: providers refuse the whole conversation.
            let arguments = if call.arguments.is_ok() { call.raw.clone() } else { "{}".to_owned() };
            parts.push(Part::Call { id: call.id.clone(), name: call.name.clone(), arguments });
        }
        if parts.is_empty() {
            parts.push(Part::Text("(no answer)".to_owned()));
        }
        if self.depth == 0 {
            let heads: Vec<String> = wanted.iter().map(Wanted::head).collect();
            self.journal.event("said", record::said(&parts, &heads));
        }
        self.history.push(Message { role: Role::Assistant, parts });
    }

    fn cut_result(&self, text: String) -> String {
        let budget = (self.model.context / limits::RESULT_SHARE) as usize;
        if tokens::estimate(&text) <= budget {
            text
        } else {
            envelope::head_and_tail(&text, budget * 3)
        }
    }
}

enum Step {
    Given(Given),
    End((RunOutcome, String)),
}

fn definition(spec: &ToolSpec) -> ToolDef {
    ToolDef {
        name: spec.name.to_owned(),
        description: schema::description(spec),
        parameters: schema::parameters(spec),
    }
}

/// A result of the loop's own.
fn given(envelope: String, ok: bool) -> Step {
    Step::Given(Given { mistake: !ok, ..Given::new(envelope, ok) })
}
