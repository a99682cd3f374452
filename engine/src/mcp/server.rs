//! One server of the configuration: started when it is first needed, started again with
//! growing pauses when it fails, asked within its limits, ended when nobody asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use lapce_ai_ipc::wire::ErrorKind;
use rmcp::ServiceError;
use tokio::sync::Semaphore;

use super::calls::service_error;
use super::config::ServerConfig;
use super::definitions::{self, Cache, Definitions};
use super::limits;
use super::session::{Needs, Session};
use crate::provider::Picture;

/// Why a call gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub kind: ErrorKind,
    pub message: String,
}

impl Failure {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub text: String,
    /// The server calls it a success.
    pub ok: bool,
    /// Images among it, for a model that takes them.
    pub pictures: Vec<Picture>,
    pub layers: Vec<String>,
}

/// What is known of a server now, for `status`.
#[derive(Debug, Clone, Default)]
pub struct Known {
    pub definitions: Option<Arc<Definitions>>,
    pub pid: u32,
    pub running: bool,
    /// Why it does not run, when it should.
    pub problem: String,
    pub layers: Vec<String>,
    pub absent: Vec<(String, String)>,
}

pub struct Server {
    pub name: String,
    pub config: ServerConfig,
    fingerprint: String,
    cache: Cache,
    /// Held while the server is started, so that it is started once.
    state: tokio::sync::Mutex<State>,
    known: Mutex<Known>,
    last_used: Mutex<Instant>,
    slots: Semaphore,
    limiter: DefaultDirectRateLimiter,
    tool_limiters: HashMap<String, DefaultDirectRateLimiter>,
}

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    /// In a row.
    failures: u32,
    not_before: Option<Instant>,
    why: String,
}

impl State {
    fn failed(&mut self, why: String) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(Instant::now() + pause(self.failures));
        self.why = why;
    }
}

/// The pause after so many failures in a row: none after the first, then doubled.
fn pause(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        n => Duration::from_secs(1 << (n - 2).min(10)).min(limits::BACK_OFF),
    }
}

fn limiter(per_minute: u32) -> DefaultDirectRateLimiter {
    let per_minute = std::num::NonZeroU32::new(per_minute).unwrap_or(std::num::NonZeroU32::MIN);
    RateLimiter::direct(Quota::per_minute(per_minute))
}

impl Server {
    pub fn new(name: &str, config: ServerConfig, cache: Cache) -> Self {
        let fingerprint = config.fingerprint();
        let tool_limiters = config
            .tools
            .iter()
            .filter_map(|(tool, t)| Some((tool.clone(), limiter(t.calls_per_minute?))))
            .collect();
        let definitions = cache.load(name, &fingerprint).map(Arc::new);
        Self {
            name: name.to_owned(),
            limiter: limiter(config.calls_per_minute),
            tool_limiters,
            config,
            fingerprint,
            cache,
            state: tokio::sync::Mutex::default(),
            known: Mutex::new(Known { definitions, ..Known::default() }),
            last_used: Mutex::new(Instant::now()),
            slots: Semaphore::new(limits::CALLS),
        }
    }

    pub fn known(&self) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn touch(&self) {
        *self.last_used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// The definitions: those at hand, or asked of the server, which is started for it.
    pub async fn definitions(
        self: &Arc<Self>,
        needs: Needs<'_>,
    ) -> Result<Arc<Definitions>, Failure> {
        if let Some(definitions) = self.known().definitions {
            return Ok(definitions);
        }
        self.session(needs, false).await?;
        Ok(self.known().definitions.unwrap_or_default())
    }

    /// The connection, made when there is none. `now` skips the pause after failures.
    pub async fn session(
        self: &Arc<Self>,
        needs: Needs<'_>,
        now: bool,
    ) -> Result<Arc<Session>, Failure> {
        self.touch();
        let mut state = self.state.lock().await;
        if let Some(session) = &state.session {
            if session.is_closed() {
                self.bury(&mut state).await;
            } else if session.closed == *needs.closed {
                return Ok(session.clone());
            } else if let Some(session) = state.session.take() {
                // What it sees was decided when it began; the user's rules are others now.
                session.end().await;
            }
        }
        let unavailable = |why: &str| {
            Failure::new(ErrorKind::Unavailable, format!("the MCP server {} {why}", self.name))
        };
        if let Some(at) = state.not_before.filter(|at| !now && *at > Instant::now()) {
            let seconds = at.saturating_duration_since(Instant::now()).as_secs() + 1;
            let why = &state.why;
            return Err(unavailable(&format!(
                "does not run: {why}. It is started again with a call in {seconds} s or later"
            )));
        }
        let begun = Instant::now();
        match self.open(needs).await {
            Ok(session) => {
                tracing::info!(
                    server = self.name,
                    ms = begun.elapsed().as_millis() as u64,
                    "an MCP server answers"
                );
                state.session = Some(session.clone());
                self.watch(&session);
                Ok(session)
            }
            Err(why) => {
                tracing::info!(server = self.name, why, "an MCP server did not start");
                self.note(|known| {
                    *known = Known {
                        definitions: known.definitions.take(),
                        problem: why.clone(),
                        ..Known::default()
                    };
                });
                state.failed(why.clone());
                Err(unavailable(&format!("did not start: {why}")))
            }
        }
    }

    async fn open(&self, needs: Needs<'_>) -> Result<Arc<Session>, String> {
        let session = Arc::new(Session::open(&self.name, &self.config, needs).await?);
        if let Err(why) = self.read_definitions(&session).await {
            let how = session.end().await;
            return Err(format!("it did not say what it offers: {why} ({how})"));
        }
        self.note(|known| {
            known.pid = session.pid();
            known.running = true;
            known.problem.clear();
            known.layers.clone_from(&session.layers);
            known.absent.clone_from(&session.absent);
        });
        Ok(session)
    }

    /// Asks for the lists and keeps them.
    async fn read_definitions(&self, session: &Session) -> Result<(), String> {
        let asked = definitions::ask(session.peer(), &self.fingerprint);
        let found = match tokio::time::timeout(self.config.start_timeout, asked).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Err(service_error(&error)),
            Err(_) => {
                return Err(format!("no answer within {} s", self.config.start_timeout.as_secs()));
            }
        };
        if self.known().definitions.as_deref() == Some(&found) {
            return Ok(());
        }
        if let Err(error) = self.cache.keep(&self.name, &found) {
            tracing::warn!(server = self.name, %error, "the definitions of an MCP server are not kept");
        }
        self.note(|known| known.definitions = Some(Arc::new(found)));
        Ok(())
    }

    /// A connection that is closed: what ended, and when it may be tried again.
    async fn bury(&self, state: &mut State) {
        let Some(session) = state.session.take() else { return };
        let how = session.end().await;
        tracing::info!(server = self.name, how, "an MCP server ended");
        self.note(|known| {
            *known = Known {
                definitions: known.definitions.take(),
                problem: format!("ended: {how}"),
                ..Known::default()
            };
        });
        state.failed(how);
    }

    /// Looks after a connection for as long as it is open and in use.
    fn watch(self: &Arc<Self>, session: &Arc<Session>) {
        let (server, session) = (Arc::downgrade(self), Arc::downgrade(session));
        tokio::spawn(look_after(server, session));
    }

    /// Ends the server, if it runs.
    pub async fn stop(&self) {
        let mut state = self.state.lock().await;
        if let Some(session) = state.session.take() {
            session.end().await;
        }
        *state = State::default();
        self.note(|known| {
            *known = Known { definitions: known.definitions.take(), ..Known::default() }
        });
    }

    pub(super) fn within_rate(&self, tool: Option<&str>) -> Result<(), Failure> {
        let over = |what: String, wait: Duration| {
            let seconds = wait.as_secs() + 1;
            Failure::new(
                ErrorKind::Limit,
                format!(
                    "{what} has reached its rate limit; the next call is possible in {seconds} s"
                ),
            )
        };
        let clock = DefaultClock::default();
        if let Some((name, limiter)) = tool.and_then(|t| self.tool_limiters.get_key_value(t)) {
            limiter.check().map_err(|not| {
                over(format!("{}/{name}", self.name), not.wait_time_from(clock.now()))
            })?;
        }
        self.limiter.check().map_err(|not| {
            over(format!("the MCP server {}", self.name), not.wait_time_from(clock.now()))
        })
    }

    /// Asks the server for something within its limits. Dropping the future tells the
    /// server that the answer is not wanted any more.
    pub(super) async fn ask<T>(
        self: &Arc<Self>,
        needs: Needs<'_>,
        timeout: Duration,
        what: impl AsyncFnOnce(&Session) -> Result<T, ServiceError>,
    ) -> Result<(T, Arc<Session>), Failure> {
        let _slot = self
            .slots
            .acquire()
            .await
            .map_err(|_| Failure::new(ErrorKind::Unavailable, "the engine is ending"))?;
        let session = self.session(needs, false).await?;
        let answer = tokio::time::timeout(timeout, what(&session)).await;
        self.touch();
        match answer {
            Ok(Ok(answer)) => {
                let mut state = self.state.lock().await;
                (state.failures, state.not_before) = (0, None);
                Ok((answer, session))
            }
            Ok(Err(_)) if session.is_closed() => {
                let mut state = self.state.lock().await;
                let ours = state.session.as_ref().is_some_and(|s| Arc::ptr_eq(s, &session));
                if ours {
                    self.bury(&mut state).await;
                }
                let why = if state.why.is_empty() { "it ended" } else { state.why.as_str() };
                Err(Failure::new(
                    ErrorKind::Unavailable,
                    format!("the MCP server {} ended before it answered: {why}", self.name),
                ))
            }
            Ok(Err(error)) => {
                let said = session.redact(service_error(&error));
                Err(Failure::new(ErrorKind::Provider, said))
            }
            Err(_) => Err(Failure::new(
                ErrorKind::Limit,
                format!("stopped: {} gave no answer within {} s", self.name, timeout.as_secs()),
            )),
        }
    }
}

/// Reads the lists again when they change; ends a server that nobody uses; buries one
/// that has ended, so that no process of it waits to be collected.
async fn look_after(server: Weak<Server>, session: Weak<Session>) {
    let mut pause = limits::CHANGED_PAUSE;
    loop {
        let Some(changed) = session.upgrade().map(|s| s.changed.clone()) else { return };
        let told = tokio::time::timeout(limits::TICK, changed.notified()).await.is_ok();
        // One that says "changed" again and again is believed less and less often.
        if told {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(limits::CHANGED_PAUSE_MAX);
        } else {
            pause = limits::CHANGED_PAUSE;
        }
        let (Some(server), Some(session)) = (server.upgrade(), session.upgrade()) else { return };
        if session.is_closed() {
            let mut state = server.state.lock().await;
            if state.session.as_ref().is_some_and(|s| Arc::ptr_eq(s, &session)) {
                server.bury(&mut state).await;
            }
            return;
        }
        if told && let Err(why) = server.read_definitions(&session).await {
            tracing::info!(
                server = server.name,
                why,
                "the lists of an MCP server could not be read again"
            );
        }
        let unused = server.last_used.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        if unused > limits::IDLE && server.slots.available_permits() == limits::CALLS {
            tracing::info!(server = server.name, "an MCP server is ended: nobody uses it");
            server.stop().await;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let seconds: Vec<u64> = (1..=12).map(|n| pause(n).as_secs()).collect();
        assert_eq!(seconds, [0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]);
    }

    #[test]
    fn rates_are_per_server_and_per_tool() {
        let text = "[mcp.servers.s]\ncommand = \"x\"\ncalls_per_minute = 3\ntools.t.calls_per_minute = 1\n";
        let config = crate::config::Config::parse(text).unwrap().mcp.remove("s").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let server = Server::new("s", config, Cache(dir.path().to_owned()));
        assert!(server.within_rate(Some("t")).is_ok());
        let over = server.within_rate(Some("t")).unwrap_err();
        assert_eq!(over.kind, ErrorKind::Limit);
        assert!(over.message.starts_with("s/t has reached its rate limit"), "{}", over.message);
        assert!(server.within_rate(Some("u")).is_ok());
        assert!(server.within_rate(None).is_ok());
        let over = server.within_rate(None).unwrap_err().message;
        assert!(over.starts_with("the MCP server s has reached"), "{over}");
    }
}
