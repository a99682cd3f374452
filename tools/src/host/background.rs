//! Commands that go on while a run does other things: their output so far, their end, and
//! that they end with the run. Used by [`super::ToolHost`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Outcome;
use crate::limits::{BACKGROUND_KEPT, BACKGROUND_MAX, KILL_GRACE_MS};
use crate::protocol::Report;

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
}

#[derive(Debug, Default)]
struct State {
    output: Vec<u8>,
    /// How it ended.
    end: Option<String>,
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
        static NEXT: AtomicU64 = AtomicU64::new(1);
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
        let time = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_millis());
        let job = Arc::new(Job {
            id: format!("bg-{time:x}-{}", NEXT.fetch_add(1, Ordering::Relaxed)),
            cancel: CancellationToken::new(),
            started: Instant::now(),
            state: Mutex::default(),
            ended: Notify::new(),
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
