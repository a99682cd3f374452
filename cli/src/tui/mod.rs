//! `lapce-ai tui`: questions, agent runs and their approvals in one terminal.
//!
//! Made for the terminal panel of an editor: keyboard only, no function keys, no mouse, and
//! the terminal's own scrollback. `app` is the state and what keys and events do to it, `screen`
//! what is drawn, `prompt` the line that is typed; this file joins them to the terminal and the
//! engine.

mod app;
mod command;
mod prompt;
mod screen;

use std::io::{self, IsTerminal as _};
use std::pin::Pin;
use std::time::{Duration, Instant};

use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste, Event as Term, EventStream};
use crossterm::{execute, terminal};
use futures::StreamExt as _;
use lapce_ai_ipc::wire::engine::{
    Answer, Ask, Attached, Decision, Event, Run, Search, Undo, UndoWhat,
};
use lapce_ai_ipc::{CallError, Engine, EngineCall, Followed};
use tokio::sync::mpsc;

use crate::commands::args;
use crate::commands::editor;
use crate::commands::exit::{Code, Failure, Outcome};
use crate::commands::output::Output;
use crate::commands::session::{self, Interrupts};
use crate::mentions;
use app::{App, Done, Mode, Wish};
use screen::{Look, Screen};

/// Events of the call under way that wait to be shown.
const EVENTS: usize = 256;
/// Texts that the engine takes beside a question.
const ATTACHED: usize = 8;
/// Hits of a search.
const HITS: u32 = 8;
/// How often the time in the status moves.
const TICK: Duration = Duration::from_secs(1);

type Work = Pin<Box<dyn Future<Output = Done>>>;

pub async fn run(args: args::Tui, out: Output) -> Outcome {
    let root = session::workspace(args.root.root.as_deref())?;
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        let message = "the terminal UI needs a terminal";
        return Err(Failure::new(Code::Usage, message, "use `lapce-ai ask` or `lapce-ai run`"));
    }
    let engine = session::lasting_engine();
    engine.client().await?;
    let mode = if args.agent { Mode::Run } else { Mode::Ask };
    let app = App::new(root.clone(), args.model, mode);
    let raw = Raw::enter()?;
    let screen = Screen::new(io::stdout(), out.colours());
    let mut ui = Ui { engine, root, app, screen, since: Instant::now(), work: None };
    let result = ui.serve().await;
    let _ = ui.screen.close();
    drop(raw);
    result
}

/// The terminal as we need it; put back when this is dropped, however that happens.
struct Raw;

impl Raw {
    fn enter() -> Outcome<Self> {
        let raw = Self;
        Self::take()?;
        Ok(raw)
    }

    fn take() -> Outcome {
        terminal::enable_raw_mode()?;
        Ok(execute!(io::stdout(), EnableBracketedPaste)?)
    }

    /// Gives the terminal back, for another program.
    fn leave() {
        let _ = execute!(io::stdout(), DisableBracketedPaste);
        let _ = terminal::disable_raw_mode();
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        Self::leave();
    }
}

struct Ui {
    engine: Engine,
    root: String,
    app: App,
    screen: Screen<io::Stdout>,
    since: Instant,
    work: Option<Work>,
}

impl Ui {
    async fn serve(&mut self) -> Outcome {
        let mut keys = EventStream::new();
        let mut interrupts = Interrupts::new()?;
        let (events, mut coming) = mpsc::channel(EVENTS);
        // What waits for the user in this workspace, whoever started it.
        let mut follow = self.engine.follow(self.root.clone());
        let mut tick = tokio::time::interval(TICK);
        loop {
            // What has come already is shown with one drawing.
            while let Ok(event) = coming.try_recv() {
                self.app.event(event);
            }
            self.draw()?;
            tokio::select! {
                biased;
                key = keys.next() => match key {
                    Some(Ok(key)) => {
                        match self.take(key, &events).await {
                            None => {}
                            Some(Wish::Edit { id, text, name }) => {
                                // Neither keys nor Ctrl-C are ours meanwhile.
                                drop(keys);
                                self.edit(id, text, name).await?;
                                (keys, interrupts) = (EventStream::new(), Interrupts::new()?);
                            }
                            Some(_) => return Ok(()),
                        }
                    }
                    // The terminal is gone.
                    Some(Err(_)) | None => return Ok(()),
                },
                () = interrupts.next() => return Ok(()),
                Some(event) = coming.recv() => self.app.event(event),
                done = ended(&mut self.work) => {
                    self.work = None;
                    while let Ok(event) = coming.try_recv() {
                        self.app.event(event);
                    }
                    if let Some(wish) = self.app.done(done) {
                        self.start(wish, events.clone());
                    }
                }
                what = follow.next() => match what {
                    Followed::Event(Event::Approval(approval)) => self.app.asks(approval),
                    Followed::Event(Event::Answered { approval_id, by }) => {
                        self.app.decided(&approval_id, &by);
                    }
                    Followed::Event(_) | Followed::Began(_) => {}
                    Followed::Ended => self.app.forget_waiting(),
                },
                _ = tick.tick(), if self.app.is_busy() => {}
            }
        }
    }

    fn draw(&mut self) -> Outcome {
        let columns = match terminal::size() {
            Ok((columns @ 1.., _)) => usize::from(columns),
            // It does not know its size.
            _ => 80,
        };
        let lines = self.app.take_lines(columns);
        let bottom = self.app.bottom(columns, self.since.elapsed());
        Ok(self.screen.draw(&lines, &bottom, columns)?)
    }

    /// Takes a key; gives what is left to the loop: to leave, or to hand the terminal on.
    async fn take(&mut self, key: Term, events: &mpsc::Sender<Event>) -> Option<Wish> {
        let wish = match key {
            Term::Key(key) => self.app.key(key),
            Term::Paste(text) => {
                self.app.paste(&text);
                None
            }
            _ => None,
        };
        match wish {
            None => {}
            Some(wish @ (Wish::Quit | Wish::Edit { .. })) => return Some(wish),
            Some(Wish::Cancel) => self.cancel().await,
            Some(Wish::Answer { id, decision, words }) => self.answer(id, decision, words).await,
            Some(wish) => self.start(wish, events.clone()),
        }
        None
    }

    async fn answer(&mut self, approval_id: String, decision: Decision, feedback: String) {
        let answer = Answer { approval_id, decision, feedback };
        if let Err(error) = self.engine.answer(answer).await {
            self.app.say(Look::Warn, &format!("(not taken: {error})"));
        }
    }

    /// A call in the user's editor, which has the terminal to itself. An editor that fails
    /// answers nothing.
    async fn edit(&mut self, id: String, text: String, name: String) -> Outcome {
        self.screen.close()?;
        Raw::leave();
        let written = text.clone();
        let edited = tokio::task::spawn_blocking(move || editor::edit(&written, &name)).await;
        // The stream of keys that was dropped leaves a wake-up behind where nobody waited, and
        // crossterm forgets keys that it hears of together with one. Now there are none: taking
        // the terminal announces what is typed anew.
        let _ = crossterm::event::poll(Duration::ZERO);
        Raw::take()?;
        match edited {
            Ok(Ok(new)) => {
                let changed = (new != text).then_some(new);
                if let Some(Wish::Answer { id, decision, words }) = self.app.edited(id, changed) {
                    self.answer(id, decision, words).await;
                }
            }
            Ok(Err(Failure::Said { message, .. })) => self.app.say(Look::Warn, &message),
            Ok(Err(_)) | Err(_) => self.app.say(Look::Warn, "the editor failed"),
        }
        Ok(())
    }

    async fn cancel(&mut self) {
        match self.app.run_id() {
            // Not begun, or without a run of its own: dropping it cancels it.
            None | Some("") => {
                if self.work.take().is_some() {
                    self.app.done(Done::Failed("stopped".into(), String::new()));
                }
            }
            Some(run_id) => {
                let _ = self.engine.cancel_run(run_id).await;
            }
        }
    }

    fn start(&mut self, wish: Wish, events: mpsc::Sender<Event>) {
        self.since = Instant::now();
        let engine = self.engine.clone();
        let root = self.root.clone();
        let (model, earlier) = (self.app.model().to_owned(), self.app.earlier(&wish));
        self.work = Some(match wish {
            Wish::Ask(text, continues) => Box::pin(async move {
                let (question, attached) = match whole(&engine, &root, text, earlier).await {
                    Ok(whole) => whole,
                    Err(failure) => return failed(failure),
                };
                let ask = Ask { root, question, model, attached, continues, ..Ask::default() };
                told(engine.ask(ask).await, events, Done::Ask).await
            }),
            Wish::Run(text, continues) => Box::pin(async move {
                let (task, attached) = match whole(&engine, &root, text, earlier).await {
                    Ok(whole) => whole,
                    Err(failure) => return failed(failure),
                };
                let run = Run { root, task, model, attached, continues, ..Run::default() };
                told(engine.run(run).await, events, Done::Run).await
            }),
            Wish::Search(query) => Box::pin(async move {
                let search = Search { root, query, limit: HITS, explain: false };
                engine.search(search).await.map_or_else(|e| failed(e.into()), Done::Search)
            }),
            Wish::Undo => Box::pin(async move {
                let undo = Undo { root, what: UndoWhat::Last };
                engine.undo(undo).await.map_or_else(|e| failed(e.into()), Done::Undo)
            }),
            Wish::Answer { .. } | Wish::Edit { .. } | Wish::Cancel | Wish::Quit => return,
        });
    }
}

/// What was typed with what it names, and with the conversation so far.
async fn whole(
    engine: &Engine,
    root: &str,
    typed: String,
    earlier: Vec<Attached>,
) -> Outcome<(String, Vec<Attached>)> {
    let (text, mut attached) = mentions::expanded(&engine.client().await?, root, typed).await?;
    // What the user named comes first.
    attached.extend(earlier.into_iter().take(ATTACHED.saturating_sub(attached.len())));
    Ok((text, attached))
}

/// The call to its end, its events passed on.
async fn told<R>(
    call: Result<EngineCall<R>, CallError>,
    events: mpsc::Sender<Event>,
    done: fn(R) -> Done,
) -> Done {
    let mut call = match call {
        Ok(call) => call,
        Err(error) => return failed(error.into()),
    };
    while let Some(event) = call.next().await {
        if events.send(event).await.is_err() {
            break;
        }
    }
    call.finish().await.map_or_else(|error| failed(error.into()), done)
}

fn failed(failure: Failure) -> Done {
    match failure {
        Failure::Said { message, hint, .. } => Done::Failed(message, hint),
        Failure::Silent(_) | Failure::PipeClosed => Done::Failed("it failed".into(), String::new()),
    }
}

async fn ended(work: &mut Option<Work>) -> Done {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}
