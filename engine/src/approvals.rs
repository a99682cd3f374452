//! Questions to the user that must be answered before something runs.
//!
//! A handler asks; the question goes out as an event of its call; any client may answer by
//! id (`Request::Answer`) and the first answer wins. Silence, a cancelled call and an ended
//! engine all mean no.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapce_ai_ipc::wire::engine::{Answer, Approval, Decision, Event};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{Cx, EngineProtocol};
use tokio::sync::oneshot;

use crate::{ids, limits};

/// What a handler wants to be allowed to do: exactly what will run, where, with which limits.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// The run it belongs to, or empty.
    pub run_id: String,
    pub tool: String,
    pub summary: String,
    pub detail: String,
    pub cwd: String,
    pub limits: String,
}

/// How it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// Also for the same kind of question for the rest of the run.
    AllowedForRun,
    /// With what the user said, for the model to read; may be empty.
    Denied {
        feedback: String,
    },
    /// Nobody answered in time.
    TimedOut {
        after: Duration,
    },
}

/// The open questions.
pub struct Approvals {
    open: Mutex<HashMap<String, oneshot::Sender<Answer>>>,
    timeout: Duration,
}

impl Default for Approvals {
    fn default() -> Self {
        Self::with_timeout(limits::APPROVAL_TIMEOUT)
    }
}

impl Approvals {
    pub fn with_timeout(timeout: Duration) -> Self {
        Self { open: Mutex::default(), timeout }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Answer>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `question` to the caller of `cx` and waits for the first answer.
    ///
    /// An error means the call itself is over (cancelled) or too many questions are open.
    pub async fn ask(
        &self,
        question: Question,
        cx: &Cx<EngineProtocol>,
    ) -> Result<Verdict, WireError> {
        let (id, answer) = self.register()?;
        let _entry = Entry { approvals: self, id: &id };
        let approval = Approval {
            approval_id: id.clone(),
            run_id: question.run_id,
            tool: question.tool,
            summary: question.summary,
            detail: question.detail,
            cwd: question.cwd,
            limits: question.limits,
            timeout_s: u32::try_from(self.timeout.as_secs().max(1)).unwrap_or(u32::MAX),
        };
        cx.emit(Event::Approval(approval)).await.map_err(|_| cancelled())?;
        tokio::select! {
            answer = answer => answer.map(verdict).map_err(|_| cancelled()),
            () = tokio::time::sleep(self.timeout) => Ok(Verdict::TimedOut { after: self.timeout }),
            () = cx.cancelled().cancelled() => Err(cancelled()),
        }
    }

    /// Delivers an answer; an error when the question is not open (any more).
    pub fn answer(&self, answer: Answer) -> Result<(), WireError> {
        let sender = self.open().remove(&answer.approval_id);
        sender.and_then(|sender| sender.send(answer).ok()).ok_or_else(|| {
            WireError::new(ErrorKind::NotFound, "this question was answered or withdrawn already")
        })
    }

    fn register(&self) -> Result<(String, oneshot::Receiver<Answer>), WireError> {
        let mut open = self.open();
        if open.len() >= limits::APPROVALS {
            return Err(WireError::new(
                ErrorKind::Limit,
                format!("{} questions are waiting for an answer already", limits::APPROVALS),
            ));
        }
        let (sender, receiver) = oneshot::channel();
        let id = ids::approval_id();
        open.insert(id.clone(), sender);
        Ok((id, receiver))
    }
}

/// Takes a question off the list, however its wait ends.
struct Entry<'a> {
    approvals: &'a Approvals,
    id: &'a str,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.approvals.open().remove(self.id);
    }
}

fn verdict(answer: Answer) -> Verdict {
    match answer.decision {
        Decision::Allow => Verdict::Allowed,
        Decision::AllowForRun => Verdict::AllowedForRun,
        Decision::Deny => Verdict::Denied { feedback: answer.feedback },
    }
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

    #[tokio::test]
    async fn the_first_answer_wins() {
        let approvals = Approvals::default();
        let (id, receiver) = approvals.register().unwrap();
        approvals.answer(reply(&id, Decision::Deny)).unwrap();
        let second = approvals.answer(reply(&id, Decision::Allow)).unwrap_err();
        assert_eq!(second.kind, ErrorKind::NotFound);
        let verdict = verdict(receiver.await.unwrap());
        assert_eq!(verdict, Verdict::Denied { feedback: "use cargo".into() });
    }

    #[test]
    fn open_questions_are_bounded() {
        let approvals = Approvals::default();
        let open: Vec<_> = (0..limits::APPROVALS).map(|_| approvals.register().unwrap()).collect();
        assert_eq!(approvals.register().unwrap_err().kind, ErrorKind::Limit);
        approvals.answer(reply(&open[0].0, Decision::Allow)).unwrap();
        assert!(approvals.register().is_ok());
    }
}
