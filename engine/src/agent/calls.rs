//! One tool call of a run: is it allowed, does the user agree, and what did it give.
//!
//! Used by the loop. Every result is an envelope of `lapce_ai_tools`; keys that a file or
//! a command may hold are taken out before the model sees it.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use lapce_ai_ipc::wire::WireError;
use lapce_ai_ipc::wire::engine::{Decision, Event};
use lapce_ai_ipc::{Cx, EngineProtocol};
use lapce_ai_tools::call::ToolCall;
use lapce_ai_tools::envelope;
use lapce_ai_tools::host::{Invocation, Ledger};
use lapce_ai_tools::policy::{BUILT_IN, INSIDE, Policy, Verdict as Rule, mcp};
use lapce_ai_tools::protocol::Seen;
use lapce_ai_tools::spec::{Class, Runs, ToolSpec};
use lapce_ai_tools::workspace::Workspace;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::journal::Journal;
use super::limits;
use super::listen::any;
use super::outlet::{Outlet, until};
use crate::approvals::{Question, Scope, Verdict};
use crate::gate;
use crate::handlers;
use crate::handlers::own::Place;
use crate::metrics::End;
use crate::provider::Picture;
use crate::provider::keys::redact;
use crate::secret::Secret;
use crate::state::Engine;
use crate::transcript::fenced;
use crate::workspace::Root;

/// What a call gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    pub envelope: String,
    pub ok: bool,
    /// Counts towards the mistakes in a row that end a run.
    pub mistake: bool,
    /// The user said no: the other calls of the turn are skipped.
    pub denied: bool,
    /// For a model that takes them.
    pub pictures: Vec<Picture>,
}

impl Given {
    pub fn new(envelope: String, ok: bool) -> Self {
        Self { envelope, ok, mistake: false, denied: false, pictures: Vec::new() }
    }
}

/// What all calls of a run share.
pub struct Desk<'a> {
    pub engine: &'a Engine,
    pub cx: &'a Cx<EngineProtocol>,
    pub cancel: CancellationToken,
    pub run_id: String,
    pub root: Root,
    pub workspace: Workspace,
    pub ledger: Ledger,
    /// The files of the ledger that the journal tells of.
    pub noted: BTreeMap<String, Seen>,
    /// What the system prompt says of MCP servers; empty without any.
    pub mcp: String,
    /// Path of the transcript, or empty.
    pub transcript: String,
    /// Whether the model takes pictures.
    pub pictures: bool,
    /// The mode that the run, or its subtask, is in: some rules hold in one only.
    pub mode: String,
    /// What the user allowed for the rest of the run.
    pub allowed: HashSet<String>,
    /// Keys that must not reach a prompt, an event or the journal.
    pub secrets: Vec<Secret>,
}

/// What allows a call.
pub(super) struct Agreed {
    rule: String,
    /// The call as the user changed it, and what the model is told of that.
    changed: Option<(ToolCall, String)>,
}

impl Agreed {
    fn by(rule: impl Into<String>) -> Self {
        Self { rule: rule.into(), changed: None }
    }
}

/// The run is over: cancelled, or the engine cannot go on.
#[derive(Debug)]
pub enum Over {
    Cancelled,
    Failed(WireError),
}

impl From<WireError> for Over {
    fn from(error: WireError) -> Self {
        match error.kind {
            lapce_ai_ipc::wire::ErrorKind::Cancelled => Self::Cancelled,
            _ => Self::Failed(error),
        }
    }
}

impl Desk<'_> {
    pub async fn carry_out(
        &mut self,
        spec: &'static ToolSpec,
        call: &ToolCall,
        outlet: &mut Outlet<'_>,
        journal: &mut Journal,
    ) -> Result<Given, Over> {
        let started = Event::ToolStarted {
            call_id: call.id.clone(),
            name: call.name.clone(),
            summary: call.summary(),
        };
        outlet.event(started).await.map_err(|_| Over::Cancelled)?;
        outlet.note(&format!("\n\n**{}**\n\n", call.summary().replace('*', "\\*")));
        journal.event("call", json!({"id": call.id, "tool": call.name, "params": call.params}));
        let begun = Instant::now();
        let (mut given, rule) = match self.gate(spec, call, None, outlet, journal).await? {
            Err(refusal) => {
                self.engine.metrics.record(spec.name, End::Denied, Duration::ZERO);
                (refusal, String::new())
            }
            Ok(agreed) => {
                let (changed, note) = agreed.changed.unzip();
                let call = changed.as_ref().unwrap_or(call);
                let mut given = self.counted(spec, call, outlet).await?;
                given.envelope.extend(note);
                (given, agreed.rule)
            }
        };
        given.envelope = redact(given.envelope, &self.secrets);
        let wall_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        journal.event(
            "result",
            json!({"id": call.id, "ok": given.ok, "wall_ms": wall_ms, "rule": rule, "text": given.envelope}),
        );
        self.note_files(journal);
        outlet.note(&fenced(
            "",
            &envelope::head_and_tail(&given.envelope, limits::SHOWN_RESULT_BYTES),
        ));
        outlet.note("\n");
        let summary = given.envelope.lines().nth(1).unwrap_or_default();
        let finished = Event::ToolFinished {
            call_id: call.id.clone(),
            name: call.name.clone(),
            ok: given.ok,
            summary: lapce_ai_tools::call::one_line(summary, 120),
            wall_ms,
            rule,
        };
        outlet.event(finished).await.map_err(|_| Over::Cancelled)?;
        Ok(given)
    }

    /// Writes down which files the run has come to know, for a run that goes on with it.
    pub fn note_files(&mut self, journal: &mut Journal) {
        let now = self.ledger.seen();
        let gone: Vec<&String> = self.noted.keys().filter(|p| !now.contains_key(*p)).collect();
        let new: BTreeMap<_, _> =
            now.iter().filter(|(path, seen)| self.noted.get(*path) != Some(seen)).collect();
        if !gone.is_empty() || !new.is_empty() {
            journal.event("seen", json!({"files": new, "gone": gone}));
            self.noted = now;
        }
    }

    /// Runs a call within its rate, and counts how it ended.
    async fn counted(
        &mut self,
        spec: &'static ToolSpec,
        call: &ToolCall,
        outlet: &mut Outlet<'_>,
    ) -> Result<Given, Over> {
        if let Err(why) = self.engine.metrics.within_rate(spec.name) {
            self.engine.metrics.record(spec.name, End::Limited, Duration::ZERO);
            return Ok(refused(envelope::error(call, &why), false));
        }
        let begun = Instant::now();
        let given = Box::pin(self.run(spec, call, outlet)).await?;
        // The lines below the head are ours when a limit ended the call.
        let stopped =
            |line: &str| line.trim_start_matches("The command was ").starts_with("stopped: ");
        let end = match given.ok {
            true => End::Ok,
            false if given.envelope.lines().skip(1).take(2).any(stopped) => End::Limited,
            false => End::Failed,
        };
        self.engine.metrics.record(spec.name, end, begun.elapsed());
        Ok(given)
    }

    /// Asks the policy, and the user where it or `because` says so. `Ok` says what allows the
    /// call; `Err` is why it must not run.
    pub(super) async fn gate(
        &mut self,
        spec: &'static ToolSpec,
        call: &ToolCall,
        because: Option<&str>,
        outlet: &mut Outlet<'_>,
        journal: &mut Journal,
    ) -> Result<Result<Agreed, Given>, Over> {
        let policy = self.policy()?;
        let mut why = match policy.decide(spec, call, &self.workspace) {
            // A rule of the user's is stronger than a reason of ours.
            Rule::Allow { rule } if because.is_none() || rule != BUILT_IN => {
                journal.event("allowed", json!({"id": call.id, "rule": rule}));
                if rule != BUILT_IN && rule != INSIDE {
                    outlet.note(&format!("*Allowed by the rule: {rule}.*\n\n"));
                }
                return Ok(Ok(Agreed::by(rule)));
            }
            Rule::Allow { .. } => String::new(),
            Rule::Deny { rule } => {
                journal.event("denied", json!({"id": call.id, "rule": rule}));
                return Ok(Err(refused(envelope::denied_by_rule(call, &rule), false)));
            }
            Rule::Ask { why } => why,
        };
        if let Some(because) = because {
            because.clone_into(&mut why);
        }
        let kind = kind(spec, call);
        if self.allowed.contains(&kind) {
            const RULE: &str = "allowed by the user for this run";
            journal.event("allowed", json!({"id": call.id, "rule": RULE}));
            return Ok(Ok(Agreed::by(RULE)));
        }
        let mut question = gate::question(&policy, spec, call, &self.workspace, &why);
        question.scopes.insert(0, Decision::AllowForRun);
        question.run_id.clone_from(&self.run_id);
        question.transcript.clone_from(&self.transcript);
        outlet.note("*Waiting for the user's approval.*\n\n");
        outlet.finish().await.map_err(|_| Over::Cancelled)?;
        let cancel = self.cancel.clone();
        let verdict = tokio::select! {
            verdict = self.engine.approvals.ask(question, self.cx) => verdict,
            () = cancel.cancelled() => return Err(Over::Cancelled),
        };
        let (answer, given) = match verdict.map_err(Over::from)? {
            Verdict::Allowed { scope, .. } => {
                let kept = gate::remember(self.engine, &policy, spec, call, &self.workspace, scope);
                let answer = match kept {
                    Ok(Some(rule)) => format!("allowed, and kept as the rule: {rule}"),
                    Ok(None) if scope == Scope::Once => "allowed".to_owned(),
                    Ok(None) => "allowed for the run".to_owned(),
                    Err(error) => format!("allowed for the run; {}", error.message),
                };
                if scope != Scope::Once {
                    self.allowed.insert(kind);
                }
                (answer, Ok(Agreed::by("allowed by the user")))
            }
            Verdict::Changed { text } => {
                match gate::changed(&policy, spec, call, &self.workspace, text) {
                    Ok(changed) => {
                        let params = &changed.0.params;
                        journal.event("changed", json!({"id": call.id, "params": params}));
                        let rule = "changed and allowed by the user".to_owned();
                        (rule.clone(), Ok(Agreed { rule, changed: Some(changed) }))
                    }
                    Err(rule) => {
                        let text = envelope::denied_by_rule(call, &rule);
                        (format!("changed, and not allowed: {rule}"), Err(refused(text, false)))
                    }
                }
            }
            Verdict::Denied { feedback } => {
                ("denied".to_owned(), Err(refused(envelope::denied(call, &feedback), true)))
            }
            Verdict::TimedOut { after } => {
                let seconds = u32::try_from(after.as_secs()).unwrap_or(u32::MAX);
                let text = envelope::approval_timeout(call, seconds);
                ("timed out".to_owned(), Err(refused(text, true)))
            }
        };
        journal.event("decision", json!({"id": call.id, "answer": answer}));
        outlet.note(&format!("*The user's answer: {answer}.*\n\n"));
        Ok(given)
    }

    /// The user's rules, as they stand in the mode of the run.
    fn policy(&self) -> Result<Policy, Over> {
        Ok(self.engine.policy().map_err(Over::Failed)?.in_mode(&self.mode))
    }

    /// A rule that denies a call which nobody is asked about otherwise.
    pub(super) fn refused_by_rule(
        &self,
        spec: &ToolSpec,
        call: &ToolCall,
        journal: &mut Journal,
    ) -> Result<Option<Given>, Over> {
        let policy = self.policy()?;
        let Rule::Deny { rule } = policy.decide(spec, call, &self.workspace) else {
            return Ok(None);
        };
        journal.event("denied", json!({"id": call.id, "rule": rule}));
        Ok(Some(refused(envelope::denied_by_rule(call, &rule), false)))
    }

    /// The parts of a question that are the same for all of this run's.
    pub(super) fn asking(&self) -> Question {
        Question {
            run_id: self.run_id.clone(),
            root: self.root.to_string(),
            cwd: self.root.to_string(),
            transcript: self.transcript.clone(),
            ..Question::default()
        }
    }

    async fn run(
        &mut self,
        spec: &ToolSpec,
        call: &ToolCall,
        outlet: &mut Outlet<'_>,
    ) -> Result<Given, Over> {
        if spec.runs == Runs::Index {
            let closed = self.policy()?.closed(Some(spec), self.root.path()).to_readers();
            let search = handlers::tool::codebase_search(self.engine, &self.root, call, &closed);
            let cancel = [&self.cancel, self.cx.cancelled()];
            let reply = tokio::select! {
                reply = search => reply,
                () = any(&cancel) => return Err(Over::Cancelled),
            };
            return Ok(match reply {
                Ok(reply) => Given::new(reply.text, reply.ok),
                Err(error) => {
                    let envelope = envelope::error(call, &error.message);
                    Given { mistake: true, ..Given::new(envelope, false) }
                }
            });
        }
        if spec.runs == Runs::Engine {
            return self.own(spec, call).await;
        }
        if spec.runs == Runs::Mcp {
            let asked = Box::pin(handlers::mcp::carry_out(self.engine, &self.root, call));
            let cancel = [&self.cancel, self.cx.cancelled()];
            let (reply, pictures) = tokio::select! {
                reply = asked => reply,
                () = any(&cancel) => return Err(Over::Cancelled),
            };
            // What a server answers, errors included, is no mistake of the model.
            let mut given = Given::new(reply.text, reply.ok);
            if !pictures.is_empty() && self.pictures {
                given.envelope.push_str(&envelope::pictures(pictures.len()));
                given.pictures = pictures;
            } else if !pictures.is_empty() {
                given.envelope.push_str(&envelope::pictures_left_out());
            }
            return Ok(given);
        }
        let stop = self.cancel.child_token();
        // However this future ends, the helper ends with it.
        let _guard = stop.clone().drop_guard();
        let (sender, mut output) = mpsc::channel(limits::OUTPUT_EVENTS);
        let policy = self.policy()?;
        let mut invocation = Invocation::new(call.clone(), self.workspace.under(&policy, spec));
        invocation.network = policy.network(spec, call, &self.workspace);
        invocation.pictures = self.pictures;
        invocation.cancel = stop.clone();
        invocation.on_output = Some(sender);
        invocation.ledger = self.ledger.clone();
        invocation.buffers = self.engine.buffers.below(&self.root);
        let running = self.engine.tools().map_err(Over::Failed)?.run(invocation);
        tokio::pin!(running);
        let secrets = &self.secrets;
        let shown = |text: String| Event::ToolOutput {
            call_id: call.id.clone(),
            text: redact(text, secrets),
        };
        let outcome = loop {
            tokio::select! {
                outcome = &mut running => break outcome,
                Some(text) = output.recv() => {
                    if outlet.event(shown(text)).await.is_err() {
                        stop.cancel();
                    }
                }
                () = until(outlet.next_tick()) => {
                    if outlet.tick().await.is_err() {
                        stop.cancel();
                    }
                }
                () = self.cx.cancelled().cancelled(), if !stop.is_cancelled() => stop.cancel(),
            }
        };
        if stop.is_cancelled() {
            return Err(Over::Cancelled);
        }
        while let Ok(text) = output.try_recv() {
            outlet.event(shown(text)).await.map_err(|_| Over::Cancelled)?;
        }
        // A command that fails (tests that do not pass) is no mistake of the model.
        let mistake = !outcome.ok && spec.class != Class::Execute && outcome.limit_hit.is_empty();
        let pictures: Vec<Picture> =
            outcome.pictures.iter().filter_map(|bytes| Picture::new(bytes)).collect();
        let mut envelope = outcome.envelope;
        if !pictures.is_empty() {
            envelope.push_str(&envelope::pictures(pictures.len()));
        } else if outcome.screenshot.is_some() && !self.pictures {
            envelope.push_str(&envelope::no_pictures());
        }
        Ok(Given { mistake, pictures, ..Given::new(envelope, outcome.ok) })
    }
}

impl Desk<'_> {
    /// A call that the engine carries out itself.
    async fn own(&self, spec: &ToolSpec, call: &ToolCall) -> Result<Given, Over> {
        let buffers = self.engine.buffers.below(&self.root);
        let workspace = self.workspace.under(&self.policy()?, spec);
        let place = Place {
            workspace: &workspace,
            ledger: &self.ledger,
            buffers: &buffers,
            cancel: &self.cancel,
        };
        let done = tokio::select! {
            done = handlers::own::run(self.engine, call, place) => done.map_err(Over::Failed)?,
            () = self.cx.cancelled().cancelled() => return Err(Over::Cancelled),
        };
        if self.cancel.is_cancelled() {
            return Err(Over::Cancelled);
        }
        Ok(Given { mistake: done.mistake, ..Given::new(done.envelope, done.ok) })
    }
}

fn refused(envelope: String, denied: bool) -> Given {
    Given { denied, ..Given::new(envelope, false) }
}

/// What "for the rest of the run" covers: a command is the same command; a server's tool
/// is that tool of that server; a file tool is the tool.
fn kind(spec: &ToolSpec, call: &ToolCall) -> String {
    match spec.class {
        Class::Execute => signature(call),
        Class::Mcp => format!("{} {}", spec.name, mcp::subject(call)),
        _ => spec.name.to_owned(),
    }
}

/// A call as one text: equal calls have equal texts.
pub fn signature(call: &ToolCall) -> String {
    // Through a sorted map: the order a model writes parameters in means nothing.
    let sorted: BTreeMap<_, _> = call.params.iter().collect();
    format!("{} {}", call.name, serde_json::to_string(&sorted).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use lapce_ai_tools::spec::find;

    use super::*;

    #[test]
    fn the_order_of_parameters_means_nothing() {
        let a = ToolCall::new("1", "write_to_file").with("path", "a").with("content", "x");
        let b = ToolCall::new("2", "write_to_file").with("content", "x").with("path", "a");
        assert_eq!(signature(&a), signature(&b));
        assert_ne!(signature(&a), signature(&a.clone().with("content", "y")));
    }

    #[test]
    fn allowing_a_command_for_the_run_allows_that_command() {
        let run = find("execute_command").unwrap();
        let test = ToolCall::new("1", "execute_command").with("command", "cargo test");
        let wipe = ToolCall::new("2", "execute_command").with("command", "rm -r src");
        assert_ne!(kind(run, &test), kind(run, &wipe));
        let write = find("write_to_file").unwrap();
        let one = ToolCall::new("1", "write_to_file").with("path", "a");
        assert_eq!(kind(write, &one), "write_to_file");
    }
}
