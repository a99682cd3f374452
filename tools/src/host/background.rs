//! Commands that go on while a run does other things: their output so far, their end, and
//! that they end with the run. Used by [`super::ToolHost`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::undo::Before;
use super::{Invocation, Outcome, ToolHost};
use crate::artefact;
use crate::call::ToolCall;
use crate::envelope;
use crate::limits::{
    BACKGROUND_KEPT, BACKGROUND_LOOK_MS, BACKGROUND_MAX, BACKGROUND_MAX_WAIT_S,
    COMMAND_MAX_TIMEOUT_S, KILL_GRACE_MS, Limits,
};
use crate::policy::commands::only_looks;
use crate::protocol::Report;
use crate::terminal;

/// The background commands of one run. Dropped with the run, and then every one is ended.
#[derive(Debug, Default)]
pub(super) struct Jobs(Mutex<Vec<Arc<Job>>>);

#[derive(Debug)]
pub(super) struct Job {
    /// The name under which its output is read.
    pub(super) id: String,
    pub(super) cancel: CancellationToken,
    started: Instant,
    state: Mutex<State>,
    ended: Notify,
    /// The workspace before it began, and again at each look since; for undo.
    before: tokio::sync::Mutex<Option<Before>>,
}

#[derive(Debug, Default)]
struct State {
    output: Vec<u8>,
    /// How it ended.
    end: Option<String>,
    /// What it changed and cannot be undone.
    lost: Vec<String>,
}

impl Drop for Jobs {
    fn drop(&mut self) {
        for job in self.list().iter() {
            job.cancel.cancel();
        }
    }
}

impl Jobs {
    fn list(&self) -> MutexGuard<'_, Vec<Arc<Job>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more command; an error when too many run.
    pub(super) fn add(&self) -> Result<Arc<Job>, String> {
        let mut list = self.list();
        let running: Vec<&str> =
            list.iter().filter(|j| j.end().is_none()).map(|j| j.id.as_str()).collect();
        if running.len() >= BACKGROUND_MAX {
            return Err(format!(
                "{} commands run in the background already ({}); stop one with \
                 read_command_output and stop = true",
                running.len(),
                running.join(", ")
            ));
        }
        if list.len() >= BACKGROUND_KEPT
            && let Some(at) = list.iter().position(|j| j.end().is_some())
        {
            list.remove(at);
        }
        let job = Arc::new(Job {
            id: format!("bg-{}", artefact::fresh()),
            cancel: CancellationToken::new(),
            started: Instant::now(),
            state: Mutex::default(),
            ended: Notify::new(),
            before: tokio::sync::Mutex::default(),
        });
        list.push(job.clone());
        Ok(job)
    }

    pub(super) fn find(&self, id: &str) -> Option<Arc<Job>> {
        self.list().iter().find(|job| job.id == id).cloned()
    }
}

impl Job {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a piece of output, up to `max` bytes in all.
    pub(super) fn push(&self, piece: &[u8], max: usize) {
        let mut state = self.state();
        let room = max.saturating_sub(state.output.len());
        state.output.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    pub(super) fn output(&self) -> Vec<u8> {
        self.state().output.clone()
    }

    fn end(&self) -> Option<String> {
        self.state().end.clone()
    }

    pub(super) fn finish(&self, report: Option<&Report>, outcome: &Outcome) {
        let how = match report {
            _ if self.cancel.is_cancelled() => "ended: stopped on request".into(),
            _ if !outcome.limit_hit.is_empty() => format!("ended: {}", outcome.limit_hit),
            Some(Report { exit_code: Some(code), .. }) => format!("ended: exit code {code}"),
            Some(Report { signal: Some(signal), .. }) => format!("ended: signal {signal}"),
            Some(Report { body, .. }) if !body.is_empty() => body.clone(),
            _ => "ended without a result; it may have run out of memory".into(),
        };
        self.state().end = Some(how);
        self.ended.notify_waiters();
    }

    /// Waits for the end, at most `time`.
    pub(super) async fn wait(&self, time: Duration) {
        let ended = self.ended.notified();
        tokio::pin!(ended);
        ended.as_mut().enable();
        if self.end().is_none() {
            let _ = tokio::time::timeout(time, ended).await;
        }
    }

    /// Ends it and waits until it is gone.
    pub(super) async fn stop(&self) {
        self.cancel.cancel();
        self.wait(Duration::from_millis(2 * KILL_GRACE_MS)).await;
    }

    /// `running for 12 s`, or how it ended.
    pub(super) fn status(&self) -> String {
        self.end().unwrap_or_else(|| format!("running for {} s", self.started.elapsed().as_secs()))
    }
}

impl ToolHost {
    /// Starts a command that goes on after this call.
    pub(super) async fn start_job(
        &self,
        call: ToolCall,
        invocation: &Invocation,
        mut limits: Limits,
        outcome: &mut Outcome,
    ) {
        if self.state.is_none() {
            outcome.envelope = envelope::error(&call, "there is no place to keep its output");
            return;
        }
        let job = match invocation.ledger.jobs.add() {
            Ok(job) => job,
            Err(why) => {
                outcome.envelope = envelope::error(&call, &why);
                return;
            }
        };
        if !call.has("timeout") {
            limits.wall_ms = COMMAND_MAX_TIMEOUT_S * 1_000;
        }
        let mut own = Invocation::new(call.clone(), invocation.workspace.clone());
        own.network = invocation.network.clone();
        own.cancel = job.cancel.clone();
        own.job = Some(job.clone());
        own.ledger = invocation.ledger.files();
        if !only_looks(call.text("command")) {
            *job.before.lock().await = self.look(&call, invocation).await;
        }
        let (host, running) = (self.clone(), job.clone());
        tokio::spawn(async move {
            let mut outcome = Outcome::empty();
            let report = host.run_helper(&own.call, &own, limits, &mut outcome).await;
            host.settle(&running, false).await;
            running.finish(report.as_ref(), &outcome);
        });
        tokio::select! {
            () = job.wait(Duration::from_millis(BACKGROUND_LOOK_MS)) => {}
            () = invocation.cancel.cancelled() => {
                job.stop().await;
                outcome.envelope = envelope::cancelled(&call);
                return;
            }
        }
        let output = terminal::resolve(&job.output());
        outcome.ok = true;
        outcome.artefact = Some(job.id.clone());
        outcome.envelope = envelope::background(&call, &job.id, &job.status(), &output);
    }

    /// Puts what a background command changed so far into the undo journal.
    async fn settle(&self, job: &Job, goes_on: bool) {
        let mut before = job.before.lock().await;
        let Some(look) = &*before else { return };
        let lost = self.note_changes(look, goes_on).await;
        job.state().lost.extend(lost);
        if !goes_on {
            *before = None;
        }
    }

    /// Reads a kept output; that of a background command as it is now.
    pub(super) async fn read_output(
        &self,
        call: &ToolCall,
        invocation: &Invocation,
        limits: Limits,
        outcome: &mut Outcome,
    ) {
        let id = call.text("artifact_id");
        let job = invocation.ledger.jobs.find(id);
        if job.is_none() && (call.flag("stop") || call.has("wait")) {
            let why = format!("no command of this run goes on in the background as '{id}'");
            outcome.envelope = envelope::error(call, &why);
            return;
        }
        if let Some(job) = &job {
            if call.flag("stop") {
                job.stop().await;
            }
            if let Some(seconds) = call.number("wait") {
                let time = Duration::from_secs((seconds.max(0) as u64).min(BACKGROUND_MAX_WAIT_S));
                tokio::select! {
                    () = job.wait(time) => {}
                    () = invocation.cancel.cancelled() => {
                        outcome.envelope = envelope::cancelled(call);
                        return;
                    }
                }
            }
            if job.end().is_none() {
                self.settle(job, true).await;
            }
            let text = terminal::resolve(&job.output());
            if let Some(Err(e)) = self.artefacts().map(|a| a.put(&job.id, &text)) {
                let why = format!("the output cannot be kept: {e}");
                outcome.envelope = envelope::error(call, &why);
                return;
            }
        }
        self.run_helper(call, invocation, limits, outcome).await;
        if let Some(job) = job.filter(|_| outcome.ok) {
            outcome.envelope.push_str(&envelope::notice(&job.status()));
            let lost = std::mem::take(&mut job.state().lost);
            outcome.envelope.extend(lost.iter().map(|what| envelope::not_undoable(what)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_commands_are_bounded_and_ended_ones_make_room() {
        let jobs = Jobs::default();
        let all: Vec<_> = (0..BACKGROUND_MAX).map(|_| jobs.add().unwrap()).collect();
        assert!(jobs.add().unwrap_err().contains(&all[0].id));
        let report = Report { exit_code: Some(3), ..Report::default() };
        all[0].finish(Some(&report), &Outcome::empty());
        assert_eq!(all[0].status(), "ended: exit code 3");
        assert!(jobs.add().is_ok());
        drop(jobs);
        assert!(all.iter().all(|job| job.cancel.is_cancelled()), "they end with the run");
    }

    #[test]
    fn output_is_bounded() {
        let jobs = Jobs::default();
        let job = jobs.add().unwrap();
        job.push(b"abc", 5);
        job.push(b"defg", 5);
        assert_eq!(job.output(), b"abcde");
    }
}
