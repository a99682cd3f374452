//! Questions to the user that must be answered before something runs or goes on.
//!
//! A handler asks; the question goes out as an event of its call and to every client that
//! watches its workspace; any client may answer by id (`Request::Answer`) and the first answer
//! wins. Silence, a cancelled call and an ended engine all mean no.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lapce_ai_ipc::wire::engine::{Answer, Approval, Decision, Editable, Event, Wanted};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{Cx, EngineProtocol};
use tokio::sync::{broadcast, oneshot};

use crate::{ids, limits};

/// What a handler wants to know. For an approval: exactly what will run, where, with which
/// limits.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// The run it belongs to, or empty.
    pub run_id: String,
    pub tool: String,
    pub summary: String,
    pub detail: String,
    pub cwd: String,
    pub limits: String,
    pub wanted: Wanted,
    pub suggestions: Vec<String>,
    /// What may be answered besides `Allow` and `Deny`.
    pub scopes: Vec<Decision>,
    pub root: String,
    pub transcript: String,
    /// The parameter that may be changed, if any.
    pub editable: Option<Editable>,
}

/// How it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Allowed {
        scope: Scope,
        /// The answer to a question.
        words: String,
    },
    /// This once, with another text of the parameter that may be changed.
    Changed { text: String },
    /// With what the user said, for the model to read; may be empty.
    Denied { feedback: String },
    /// Nobody answered in time.
    TimedOut { after: Duration },
}

/// How far a yes reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Once,
    /// The same kind of question for the rest of the run.
    Run,
    Workspace,
    Always,
}

/// Something that the watchers are told.
#[derive(Debug, Clone)]
pub struct Change {
    pub root: String,
    pub event: Event,
}

/// The open questions.
pub struct Approvals {
    open: Mutex<BTreeMap<String, Open>>,
    /// The last that were closed, and by whom: a late answer is told.
    closed: Mutex<Vec<(String, String)>>,
    changes: broadcast::Sender<Change>,
    timeout: Mutex<Duration>,
}

struct Open {
    approval: Approval,
    until: Instant,
    sender: oneshot::Sender<(Answer, String)>,
}

impl Default for Approvals {
    fn default() -> Self {
        Self::with_timeout(limits::APPROVAL_TIMEOUT)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Approvals {
    pub fn with_timeout(timeout: Duration) -> Self {
        Self {
            open: Mutex::default(),
            closed: Mutex::default(),
            changes: broadcast::channel(limits::APPROVAL_CHANGES).0,
            timeout: Mutex::new(timeout),
        }
    }

    /// Changes how long questions asked from now on wait.
    pub fn set_timeout(&self, timeout: Duration) {
        *lock(&self.timeout) = timeout;
    }

    /// Puts `question` to the caller of `cx` and to all who watch, and waits for the first
    /// answer.
    ///
    /// An error means the call itself is over (cancelled) or too many questions are open.
    pub async fn ask(
        &self,
        question: Question,
        cx: &Cx<EngineProtocol>,
    ) -> Result<Verdict, WireError> {
        let timeout = *lock(&self.timeout);
        let (approval, answer) = self.register(question, timeout)?;
        let mut entry = Entry { approvals: self, approval: &approval, by: String::new() };
        let root = approval.root.clone();
        let _ = self.changes.send(Change { root, event: Event::Approval(approval.clone()) });
        cx.emit(Event::Approval(approval.clone())).await.map_err(|_| cancelled())?;
        let verdict = tokio::select! {
            answer = answer => {
                let (answer, by) = answer.map_err(|_| cancelled())?;
                entry.by = by;
                verdict(answer)
            }
            () = tokio::time::sleep(timeout) => Verdict::TimedOut { after: timeout },
            () = cx.cancelled().cancelled() => return Err(cancelled()),
        };
        let answered = entry.answered();
        drop(entry);
        cx.emit(answered).await.map_err(|_| cancelled())?;
        Ok(verdict)
    }

    /// Delivers the answer of the client `by`; an error when the question is not open (any
    /// more), or cannot be answered like that.
    pub fn answer(&self, answer: Answer, by: &str) -> Result<(), WireError> {
        let mut open = lock(&self.open);
        let Some(found) = open.get(&answer.approval_id) else {
            drop(open);
            let closed = lock(&self.closed);
            let who = closed.iter().rev().find(|(id, _)| *id == answer.approval_id);
            let text = match who {
                Some((_, who)) if !who.is_empty() => format!("{who} answered this first"),
                Some(_) => "this was withdrawn, or its time is over".to_owned(),
                None => "no such question is open; it was answered or withdrawn".to_owned(),
            };
            return Err(WireError::new(ErrorKind::NotFound, text));
        };
        let (fits, else_say) = match &answer.decision {
            Decision::Allow | Decision::Deny => (true, ""),
            Decision::AllowChanged => {
                (found.approval.editable.is_some(), "this cannot be changed; answer yes or no")
            }
            wider => (
                found.approval.scopes.contains(wider),
                "this cannot be allowed beyond this once; answer with yes or no",
            ),
        };
        if !fits {
            return Err(WireError::new(ErrorKind::Invalid, else_say));
        }
        if answer.feedback.len() > limits::PROMPT_BYTES {
            return Err(WireError::new(
                ErrorKind::Limit,
                format!("an answer holds at most {} bytes", limits::PROMPT_BYTES),
            ));
        }
        let sender = open.remove(&answer.approval_id).map(|found| found.sender);
        // Before the next one can look: a late answer is told whose was first.
        self.close(&answer.approval_id, by);
        drop(open);
        sender.and_then(|sender| sender.send((answer, by.to_owned())).ok()).ok_or_else(|| {
            WireError::new(ErrorKind::NotFound, "this was withdrawn, or its time is over")
        })
    }

    /// The open questions of a workspace, or of all, oldest first; each with the time it has
    /// left.
    pub fn list(&self, root: &str) -> Vec<Approval> {
        let now = Instant::now();
        let open = lock(&self.open);
        let mut found: Vec<(Instant, Approval)> = open
            .values()
            .filter(|open| root.is_empty() || open.approval.root == root)
            .map(|open| {
                let left = open.until.saturating_duration_since(now);
                let timeout_s = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
                (open.until, Approval { timeout_s, ..open.approval.clone() })
            })
            .collect();
        found.sort_by_key(|(until, _)| *until);
        found.into_iter().map(|(_, approval)| approval).collect()
    }

    /// Everything that opens and closes from now on.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    fn close(&self, id: &str, by: &str) {
        let mut closed = lock(&self.closed);
        if closed.len() >= limits::APPROVALS {
            closed.remove(0);
        }
        closed.push((id.to_owned(), by.to_owned()));
    }

    fn register(
        &self,
        question: Question,
        timeout: Duration,
    ) -> Result<(Approval, oneshot::Receiver<(Answer, String)>), WireError> {
        let mut open = lock(&self.open);
        if open.len() >= limits::APPROVALS {
            return Err(WireError::new(
                ErrorKind::Limit,
                format!("{} questions are waiting for an answer already", limits::APPROVALS),
            ));
        }
        let (sender, receiver) = oneshot::channel();
        let id = ids::approval_id();
        let approval = Approval {
            approval_id: id.clone(),
            run_id: question.run_id,
            tool: question.tool,
            summary: question.summary,
            detail: question.detail,
            cwd: question.cwd,
            limits: question.limits,
            timeout_s: u32::try_from(timeout.as_secs().max(1)).unwrap_or(u32::MAX),
            wanted: question.wanted,
            suggestions: question.suggestions,
            scopes: question.scopes,
            root: question.root,
            transcript: question.transcript,
            editable: question.editable.map(Box::new),
        };
        let until = Instant::now() + timeout;
        open.insert(id, Open { approval: approval.clone(), until, sender });
        Ok((approval, receiver))
    }
}

/// Takes a question off the list, however its wait ends, and tells the watchers.
struct Entry<'a> {
    approvals: &'a Approvals,
    approval: &'a Approval,
    by: String,
}

impl Entry<'_> {
    fn answered(&self) -> Event {
        Event::Answered { approval_id: self.approval.approval_id.clone(), by: self.by.clone() }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        lock(&self.approvals.open).remove(&self.approval.approval_id);
        if self.by.is_empty() {
            self.approvals.close(&self.approval.approval_id, "");
        }
        let root = self.approval.root.clone();
        let _ = self.approvals.changes.send(Change { root, event: self.answered() });
    }
}

fn verdict(answer: Answer) -> Verdict {
    let scope = match answer.decision {
        Decision::Allow => Scope::Once,
        Decision::AllowForRun => Scope::Run,
        Decision::AllowInWorkspace => Scope::Workspace,
        Decision::AllowAlways => Scope::Always,
        Decision::Deny => return Verdict::Denied { feedback: answer.feedback },
        Decision::AllowChanged => return Verdict::Changed { text: answer.feedback },
    };
    Verdict::Allowed { scope, words: answer.feedback }
}

fn cancelled() -> WireError {
    WireError::new(ErrorKind::Cancelled, "the call was cancelled while waiting for an approval")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(id: &str, decision: Decision) -> Answer {
        Answer { approval_id: id.into(), decision, feedback: "use cargo".into() }
    }

    fn open(approvals: &Approvals, root: &str) -> (Approval, oneshot::Receiver<(Answer, String)>) {
        let question = Question { root: root.into(), ..Question::default() };
        approvals.register(question, Duration::from_mins(1)).unwrap()
    }

    #[tokio::test]
    async fn the_first_answer_wins() {
        let approvals = Approvals::default();
        let (approval, receiver) = open(&approvals, "/w");
        let id = approval.approval_id.clone();
        approvals.answer(reply(&id, Decision::Deny), "terminal").unwrap();
        let second = approvals.answer(reply(&id, Decision::Allow), "editor").unwrap_err();
        assert_eq!(second.kind, ErrorKind::NotFound);
        let (answer, by) = receiver.await.unwrap();
        assert_eq!(
            (verdict(answer), by.as_str()),
            (Verdict::Denied { feedback: "use cargo".into() }, "terminal")
        );
        assert_eq!(second.message, "terminal answered this first");
        drop(Entry { approvals: &approvals, approval: &approval, by });
        let late = approvals.answer(reply(&id, Decision::Allow), "editor").unwrap_err();
        assert_eq!(late.message, "terminal answered this first");
    }

    #[test]
    fn open_questions_are_bounded_and_listed_by_workspace() {
        let approvals = Approvals::default();
        let kept: Vec<_> = (0..limits::APPROVALS)
            .map(|n| open(&approvals, if n % 2 == 0 { "/a" } else { "/b" }))
            .collect();
        let more = approvals.register(Question::default(), Duration::from_secs(1));
        assert_eq!(more.unwrap_err().kind, ErrorKind::Limit);
        assert_eq!(approvals.list("").len(), limits::APPROVALS);
        let listed = approvals.list("/a");
        assert_eq!(listed.len(), limits::APPROVALS / 2);
        assert_eq!(listed[0].approval_id, kept[0].0.approval_id);
        approvals.answer(reply(&kept[0].0.approval_id, Decision::Allow), "x").unwrap();
        assert!(approvals.register(Question::default(), Duration::from_secs(1)).is_ok());
    }

    #[test]
    fn a_scope_that_was_not_offered_is_refused_and_the_question_stays() {
        let approvals = Approvals::default();
        let (approval, _receiver) = open(&approvals, "/w");
        let id = &approval.approval_id;
        for scope in [
            Decision::AllowForRun,
            Decision::AllowInWorkspace,
            Decision::AllowAlways,
            Decision::AllowChanged,
        ] {
            let error = approvals.answer(reply(id, scope), "x").unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid);
        }
        approvals.answer(reply(id, Decision::Allow), "x").unwrap();
    }

    #[test]
    fn watchers_are_told_of_the_end() {
        let approvals = Approvals::default();
        let mut changes = approvals.changes();
        let (approval, _receiver) = open(&approvals, "/w");
        drop(Entry { approvals: &approvals, approval: &approval, by: "me".into() });
        let change = changes.try_recv().unwrap();
        assert!(matches!(change.event, Event::Answered { by, .. } if by == "me"));
        assert!(approvals.list("").is_empty());
    }
}
