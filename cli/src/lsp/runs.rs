//! Questions and agent runs that were started from this editor.
//!
//! The engine writes the transcript; this module starts the call, hands the transcript's path
//! to whoever opens it, shows the state in the status bar, and keeps the approvals that wait
//! for an answer. They end with the editor: dropping a call cancels it.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use lapce_ai_ipc::EngineCall;
use lapce_ai_ipc::wire::engine::{
    Answer, Approval, Ask, AskReply, Decision, Event, Run, RunOutcome, RunReply, Wanted,
};
use tokio::sync::oneshot;

use super::client::{Level, Progress};
use super::limits;
use super::rpc::Failure;
use super::shell::Shell;
use super::unsaved;

#[derive(Default)]
pub(super) struct Runs {
    active: RefCell<Vec<Rc<Active>>>,
    /// What waits for the user in this workspace, whoever started it.
    waiting: RefCell<Vec<Waiting>>,
}

/// One ask or run under way.
pub(super) struct Active {
    pub(super) run_id: String,
    pub(super) transcript: PathBuf,
    /// The user was told where to answer.
    told: Cell<bool>,
}

struct Waiting {
    approval: Approval,
    until: Instant,
}

impl Runs {
    pub(super) fn active(&self) -> Vec<Rc<Active>> {
        self.active.borrow().clone()
    }

    /// Something waits for an answer.
    pub(super) fn waits(&self, approval: Approval) {
        let until = Instant::now() + Duration::from_secs(approval.timeout_s.into());
        let mut waiting = self.waiting.borrow_mut();
        waiting.retain(|w| Instant::now() < w.until);
        // It comes by the run's own call and by the watch.
        let known = waiting.iter().any(|w| w.approval.approval_id == approval.approval_id);
        if !known && waiting.len() < limits::WAITING {
            waiting.push(Waiting { approval, until });
        }
    }

    /// It was answered, here or elsewhere, or its time is over.
    pub(super) fn decided(&self, approval_id: &str) {
        self.waiting.borrow_mut().retain(|w| w.approval.approval_id != approval_id);
    }

    fn transcript_of(&self, approval_id: &str) -> Option<PathBuf> {
        let waiting = self.waiting.borrow();
        let found = waiting.iter().find(|w| w.approval.approval_id == approval_id)?;
        Some(PathBuf::from(&found.approval.transcript))
    }

    pub(super) fn forget_waiting(&self) {
        self.waiting.borrow_mut().clear();
    }

    /// What waits in the run whose transcript `path` is, the oldest first.
    pub(super) fn waiting_in(&self, path: &Path) -> Vec<Approval> {
        let waiting = self.waiting.borrow();
        waiting
            .iter()
            .filter(|w| Instant::now() < w.until)
            .filter(|w| !w.approval.transcript.is_empty())
            .filter(|w| same_file(path, Path::new(&w.approval.transcript)))
            .map(|w| w.approval.clone())
            .collect()
    }

    fn find(&self, run_id: &str) -> Option<Rc<Active>> {
        self.active.borrow().iter().find(|a| a.run_id == run_id).cloned()
    }
}

/// What can be started.
pub(super) enum Job {
    Ask(Ask),
    Run(Run),
}

/// Starts a job and returns the path of its transcript, which the engine has created by
/// then. When the caller goes away before that, the job is cancelled.
pub(super) async fn start(shell: &Rc<Shell>, job: Job) -> Result<PathBuf, Failure> {
    if shell.runs.active.borrow().len() >= limits::RUNS {
        return Err(Failure::declined(format!(
            "{} questions and runs are under way already; wait for one or stop it",
            limits::RUNS
        )));
    }
    let engine = shell.link.engine().await?;
    // Tools are to see what the user sees.
    unsaved::flush(shell).await;
    let (tx, rx) = oneshot::channel();
    let shell = shell.clone();
    match job {
        Job::Ask(ask) => {
            let call = engine.ask(ask).await?;
            tokio::task::spawn_local(drive(shell, call, "answering", tx, after_ask));
        }
        Job::Run(run) => {
            let call = engine.run(run).await?;
            tokio::task::spawn_local(drive(shell, call, "agent at work", tx, after_run));
        }
    }
    match tokio::time::timeout(limits::STARTED, rx).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(Failure::declined("the engine ended while the answer was started")),
        Err(_) => {
            Err(Failure::declined(format!("nothing was started within {:?}", limits::STARTED)))
        }
    }
}

/// Starts a job for a gesture whose errors the editor does not show (Lapce drops a failed
/// rename or resolve silently): they come as a popup too.
pub(super) async fn start_and_say(shell: &Rc<Shell>, job: Job) -> Result<PathBuf, Failure> {
    let outcome = start(shell, job).await;
    match &outcome {
        Ok(path) => shell.editor.open(path),
        Err(failure) => shell.editor.show(Level::Error, &format!("Lapce AI: {}", failure.message)),
    }
    outcome
}

/// What a reply leaves to say, if anything.
type After<R> = fn(&R) -> Option<(Level, String)>;

fn after_ask(reply: &AskReply) -> Option<(Level, String)> {
    (!reply.answered).then(|| {
        let hint = if reply.hint.is_empty() { "run `lapce-ai doctor`" } else { &reply.hint };
        (
            Level::Info,
            format!("Lapce AI: no model answered; the transcript shows what was found. {hint}"),
        )
    })
}

fn after_run(reply: &RunReply) -> Option<(Level, String)> {
    match reply.outcome {
        RunOutcome::Failed => {
            let line = reply.result.lines().next().unwrap_or("see the transcript");
            Some((Level::Error, format!("Lapce AI: the run failed: {line}")))
        }
        RunOutcome::Completed | RunOutcome::TurnLimit | RunOutcome::Cancelled => None,
    }
}

async fn drive<R>(
    shell: Rc<Shell>,
    mut call: EngineCall<R>,
    doing: &'static str,
    started: oneshot::Sender<Result<PathBuf, Failure>>,
    after: After<R>,
) {
    let mut started = Some(started);
    let mut active: Option<Rc<Active>> = None;
    let mut progress: Option<Progress> = None;
    while let Some(event) = {
        // Until the transcript is open somewhere, the job is the caller's to cancel.
        match &mut started {
            Some(waiter) => tokio::select! {
                event = call.next() => event,
                () = waiter.closed() => return,
            },
            None => call.next().await,
        }
    } {
        match event {
            Event::Started { run_id, transcript: Some(transcript), .. } if active.is_none() => {
                let transcript = PathBuf::from(transcript);
                if let Some(waiter) = started.take() {
                    let _ = waiter.send(Ok(transcript.clone()));
                }
                let token = format!("lapce-ai/run/{run_id}");
                let run = Rc::new(Active { run_id, transcript, told: Cell::default() });
                shell.runs.active.borrow_mut().push(run.clone());
                active = Some(run);
                progress = shell.editor.progress(&token, "Lapce AI", doing).await;
            }
            Event::Approval(approval) => {
                if let Some(active) = &active {
                    ask_user(&shell, active, progress.as_ref(), approval);
                }
            }
            Event::Answered { approval_id, .. } => shell.runs.decided(&approval_id),
            Event::ToolStarted { summary, name, .. } => {
                let text = if summary.is_empty() { name } else { summary };
                report(progress.as_ref(), &text);
            }
            Event::ToolFinished { .. } => report(progress.as_ref(), doing),
            Event::Notice(text) => report(progress.as_ref(), &text),
            _ => {}
        }
    }
    let reply = call.finish().await;
    if let Some(active) = &active {
        shell.runs.active.borrow_mut().retain(|a| !Rc::ptr_eq(a, active));
    }
    drop(progress);
    let outcome = match reply {
        Ok(reply) => after(&reply),
        Err(error) => {
            let failure = Failure::from(error);
            match started.take() {
                // Whoever started it says it.
                Some(waiter) => {
                    let _ = waiter.send(Err(failure));
                    return;
                }
                None => Some((Level::Error, format!("Lapce AI: {}", failure.message))),
            }
        }
    };
    if let Some(waiter) = started.take() {
        let text = "the engine wrote no transcript; is the workspace writable?";
        let _ = waiter.send(Err(Failure::declined(text)));
    }
    if let Some((level, text)) = outcome {
        shell.editor.show(level, &text);
    }
}

fn report(progress: Option<&Progress>, text: &str) {
    if let Some(progress) = progress {
        progress.report(text.lines().next().unwrap_or_default(), None);
    }
}

/// Keeps an approval and tells the user where to answer it.
fn ask_user(shell: &Shell, active: &Active, progress: Option<&Progress>, approval: Approval) {
    let what = match approval.wanted {
        Wanted::Approval => "waits for you",
        Wanted::Question => "asks you",
        Wanted::Review => "is done, if you agree",
    };
    report(progress, &format!("{what}: {}", approval.summary));
    if !active.told.replace(true) {
        shell.editor.show(
            Level::Info,
            &format!(
                "Lapce AI asks: {} – answer with the code actions (Ctrl+.) in {}",
                approval.summary,
                active.transcript.display()
            ),
        );
    }
    shell.runs.waits(approval);
}

/// The user's answer to what waits in this workspace. Returns the run's transcript.
pub(super) async fn answer(
    shell: &Rc<Shell>,
    approval_id: &str,
    decision: Decision,
    words: &str,
) -> Result<PathBuf, Failure> {
    let transcript = shell
        .runs
        .transcript_of(approval_id)
        .ok_or_else(|| Failure::declined("this was answered already, or withdrawn"))?;
    let engine = shell.link.engine().await?;
    let answer =
        Answer { approval_id: approval_id.to_owned(), decision, feedback: words.to_owned() };
    // Answered or not: it is not to be offered again.
    shell.runs.decided(approval_id);
    engine.answer(answer).await?;
    Ok(transcript)
}

/// Stops a run of ours. Returns its transcript.
pub(super) async fn stop(shell: &Rc<Shell>, run_id: &str) -> Result<PathBuf, Failure> {
    let active = running(shell, run_id)?;
    shell.link.engine().await?.cancel_run(run_id).await?;
    Ok(active.transcript.clone())
}

fn running(shell: &Shell, run_id: &str) -> Result<Rc<Active>, Failure> {
    shell.runs.find(run_id).ok_or_else(|| Failure::declined("this run has ended"))
}

/// Whether `path` is the transcript of `active`.
pub(super) fn is_transcript(active: &Active, path: &Path) -> bool {
    same_file(path, &active.transcript)
}

/// The editor may name a file through a symlink.
fn same_file(path: &Path, transcript: &Path) -> bool {
    path == transcript
        || path.file_name() == transcript.file_name()
            && path.canonicalize().ok() == transcript.canonicalize().ok()
}
