use std::time::Duration;

use lapce_ai_ipc::wire::engine::{Editable, Event, Hit};

use super::view::DETAIL;
use super::*;

fn app() -> App {
    let mut app = App::new("/w".into(), String::new(), Mode::Ask);
    app.take_lines(80);
    app
}

fn press(app: &mut App, code: KeyCode) -> Option<Wish> {
    app.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn ctrl(app: &mut App, c: char) -> Option<Wish> {
    app.key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL))
}

fn type_line(app: &mut App, text: &str) -> Option<Wish> {
    for c in text.chars() {
        assert_eq!(press(app, KeyCode::Char(c)), None);
    }
    press(app, KeyCode::Enter)
}

fn shown(app: &mut App) -> Vec<String> {
    app.take_lines(80).into_iter().map(|line| line.text).collect()
}

fn started(app: &mut App, run_id: &str) {
    app.event(Event::Started { run_id: run_id.into(), transcript: None, model: "test/m".into() });
}

fn approval(id: &str, run_id: &str) -> Approval {
    Approval {
        approval_id: id.into(),
        run_id: run_id.into(),
        summary: "execute_command for 'make'".into(),
        detail: (0..20).map(|n| format!("line {n}\n")).collect::<Vec<_>>().concat(),
        scopes: vec![Decision::AllowForRun],
        ..Approval::default()
    }
}

fn ask_reply() -> AskReply {
    AskReply {
        answered: true,
        model: "test/m".into(),
        citations: Vec::new(),
        usage: lapce_ai_ipc::wire::engine::Usage::default(),
        stop: "stop".into(),
        hint: String::new(),
        conversation: "c1".into(),
    }
}

#[test]
fn an_answer_streams_in_and_goes_along_with_the_next_question() {
    let mut app = app();
    assert_eq!(type_line(&mut app, "why?"), Some(Wish::Ask("why?".into(), None)));
    assert_eq!(shown(&mut app), ["> why?"]);
    started(&mut app, "r1");
    for text in ["Be", "cause\nof ", "that"] {
        app.event(Event::Text(text.into()));
    }
    assert_eq!(shown(&mut app), ["test/m", "Because"]);
    assert_eq!(app.bottom(80, Duration::ZERO).open, "of that");
    assert!(app.bottom(80, Duration::from_secs(3)).status.starts_with("answering 3 s"));
    assert!(app.earlier(&Wish::Ask(String::new(), None)).is_empty());
    app.done(Done::Ask(ask_reply()));
    assert_eq!(shown(&mut app), ["of that"]);
    let earlier = app.earlier(&Wish::Ask(String::new(), None));
    assert_eq!(earlier[0].text, "User: why?\nAnswer: Because\nof that\n\n");
    // The engine keeps it: the next question belongs to the same conversation.
    let next = Wish::Ask("and then?".into(), Some("c1".into()));
    assert_eq!(
        type_line(&mut app, "and then?"),
        Some(Wish::Ask("and then?".into(), Some("c1".into())))
    );
    assert!(app.earlier(&next).is_empty());
    app.done(Done::Failed("x".into(), String::new()));
    app.prompt.clear();
    assert_eq!(type_line(&mut app, "/new"), None);
    assert_eq!(type_line(&mut app, "else?"), Some(Wish::Ask("else?".into(), None)));
    app.done(Done::Failed("x".into(), String::new()));
    assert!(app.earlier(&Wish::Ask(String::new(), None)).is_empty());
}

#[test]
fn a_task_goes_on_with_the_run_before_it_until_something_new_begins() {
    let mut app = app();
    type_line(&mut app, "why?");
    app.event(Event::Text("Because.".into()));
    app.done(Done::Ask(ask_reply()));
    let first = Wish::Run("build it".into(), None);
    assert_eq!(type_line(&mut app, "/run build it"), Some(first));
    started(&mut app, "r1");
    app.done(Done::Failed("the engine ended".into(), String::new()));
    type_line(&mut app, "what now?");
    app.event(Event::Text("Go on.".into()));
    app.done(Done::Ask(ask_reply()));
    let next = type_line(&mut app, "/run go on").unwrap();
    assert_eq!(next, Wish::Run("go on".into(), Some("r1".into())));
    let along = &app.earlier(&next)[0].text;
    assert!(along.contains("what now?") && !along.contains("why?"), "{along}");
    let other = Wish::Run(String::new(), Some("r0".into()));
    assert!(app.earlier(&other)[0].text.contains("why?"));
    started(&mut app, "r2");
    app.done(Done::Failed("x".into(), String::new()));
    press(&mut app, KeyCode::Tab);
    assert!(app.bottom(120, Duration::ZERO).status.contains("goes on with the last run"));
    type_line(&mut app, "/new");
    assert!(!app.bottom(120, Duration::ZERO).status.contains("goes on"));
    assert_eq!(type_line(&mut app, "more"), Some(Wish::Run("more".into(), None)));
    app.done(Done::Failed("x".into(), String::new()));
    let newest = Wish::Run("more".into(), Some(String::new()));
    assert_eq!(type_line(&mut app, "/continue more"), Some(newest));
}

#[test]
fn the_conversation_that_goes_along_is_bounded() {
    let mut app = app();
    for n in 0..20 {
        type_line(&mut app, &format!("question {n}"));
        for _ in 0..100 {
            app.event(Event::Text("x".repeat(1000)));
        }
        app.done(Done::Ask(ask_reply()));
        app.take_lines(80);
    }
    let text = &app.earlier(&Wish::Ask(String::new(), None))[0].text;
    assert!(text.len() < 2 * EXCHANGE_BYTES && text.contains("question 19"), "{}", text.len());
}

#[test]
fn what_waits_is_answered_by_what_is_typed() {
    let mut app = app();
    press(&mut app, KeyCode::Tab);
    assert_eq!(type_line(&mut app, "build it"), Some(Wish::Run("build it".into(), None)));
    started(&mut app, "r1");
    app.event(Event::Approval(approval("a1", "r1")));
    // The same by the watch, and one of another run.
    app.asks(approval("a1", "r1"));
    app.asks(approval("a2", "r2"));
    let bottom = app.bottom(80, Duration::ZERO);
    assert_eq!(bottom.mark, "? ");
    assert_eq!(bottom.question[0], "allow? execute_command for 'make'");
    assert_eq!(bottom.question.len(), 1 + DETAIL + 1 + 1 + 1, "{:?}", bottom.question);
    assert!(bottom.question.contains(&"(1 more after this)".to_owned()));
    let yes =
        Wish::Answer { id: "a1".into(), decision: Decision::AllowForRun, words: String::new() };
    assert_eq!(type_line(&mut app, "a"), Some(yes));
    assert!(app.bottom(80, Duration::ZERO).question[0].contains("(another run)"));
    app.decided("a2", "");
    assert!(app.bottom(80, Duration::ZERO).question.is_empty());
    assert!(shown(&mut app).contains(&"(its time is over)".to_owned()));
    // Commands are no answers, and one can always leave.
    app.asks(approval("a3", "r1"));
    assert_eq!(type_line(&mut app, "/help"), None);
    assert_eq!(app.bottom(80, Duration::ZERO).mark, "? ");
    assert_eq!(type_line(&mut app, "/quit"), Some(Wish::Quit));
}

#[test]
fn a_line_typed_meanwhile_is_done_afterwards() {
    let mut app = app();
    type_line(&mut app, "why?");
    started(&mut app, "r1");
    shown(&mut app);
    assert_eq!(type_line(&mut app, "/run make it"), None);
    let status = app.bottom(80, Duration::ZERO).status;
    assert!(status.contains("then: /run make it · Esc takes it back"), "{status}");
    // One waits, and the next is left where it was typed.
    assert_eq!(type_line(&mut app, "and more"), None);
    assert_eq!(app.bottom(80, Duration::ZERO).typed, "and more");
    assert_eq!(shown(&mut app), ["one line waits already; Esc takes it back"]);
    let next = app.done(Done::Ask(ask_reply()));
    assert_eq!(next, Some(Wish::Run("make it".into(), None)));
    assert_eq!(shown(&mut app), ["> /run make it"]);
    assert_eq!(app.run_id(), Some(""));
    assert_eq!(app.done(Done::Ask(ask_reply())), None);

    // Esc takes it back to where it was typed, and only then stops what is under way.
    app.prompt.clear();
    type_line(&mut app, "why?");
    type_line(&mut app, "then that");
    assert_eq!(press(&mut app, KeyCode::Esc), None);
    assert_eq!(app.bottom(80, Duration::ZERO).typed, "then that");
    assert_eq!(press(&mut app, KeyCode::Esc), Some(Wish::Cancel));
}

#[test]
fn what_failed_or_was_stopped_has_nothing_done_after_it() {
    let mut app = app();
    type_line(&mut app, "/run first");
    type_line(&mut app, "/run second");
    assert_eq!(app.done(Done::Failed("no network".into(), String::new())), None);
    assert_eq!(app.bottom(80, Duration::ZERO).typed, "/run second");
    assert!(!app.is_busy());
}

#[test]
fn ctrl_c_stops_and_then_leaves() {
    let mut app = app();
    type_line(&mut app, "why?");
    started(&mut app, "r1");
    type_line(&mut app, "/help");
    for c in "more".chars() {
        press(&mut app, KeyCode::Char(c));
    }
    assert_eq!(ctrl(&mut app, 'c'), Some(Wish::Cancel));
    assert_eq!(app.run_id(), Some("r1"));
    assert_eq!(ctrl(&mut app, 'c'), Some(Wish::Quit));
    app.done(Done::Failed("cancelled".into(), "try again".into()));
    assert!(shown(&mut app).ends_with(&["cancelled".into(), "next: try again".into()]));
    // What was typed meanwhile is still there.
    assert_eq!(ctrl(&mut app, 'c'), None);
    assert_eq!(ctrl(&mut app, 'c'), None);
    assert_eq!(app.bottom(80, Duration::ZERO).status, "Ctrl-C again leaves");
    assert_eq!(ctrl(&mut app, 'c'), Some(Wish::Quit));
    assert_eq!(ctrl(&mut app, 'd'), Some(Wish::Quit));
}

#[test]
fn no_text_moves_the_cursor_or_the_colours() {
    let mut app = app();
    type_line(&mut app, "why?");
    app.event(Event::Text("\x1b[2Jred\x1b[31m\n".into()));
    app.event(Event::Notice("\x07bell".into()));
    app.event(Event::ToolFinished {
        call_id: "c".into(),
        name: "n".into(),
        ok: false,
        summary: "\x1b]0;title\x07".into(),
        wall_ms: 1,
        rule: String::new(),
    });
    app.paste("\x1b[31mpaste");
    let bottom = app.bottom(80, Duration::ZERO);
    let all = format!("{:?}{:?}", shown(&mut app), bottom.typed);
    assert!(!all.contains("\\u{1b}") && !all.contains("\\u{7}"), "{all}");
}

#[test]
fn a_search_shows_places_and_code() {
    let mut app = app();
    assert_eq!(type_line(&mut app, "/search retry"), Some(Wish::Search("retry".into())));
    let hit = Hit {
        path: "src/a.rs".into(),
        start_line: 9,
        end_line: 30,
        symbol: "retry".into(),
        kind: "function".into(),
        score: 1.0,
        code: "fn retry() {\n}\n".into(),
        why: String::new(),
    };
    app.passages(&[hit]);
    assert_eq!(
        shown(&mut app),
        ["> /search retry", "src/a.rs:9  retry", "     9 fn retry() {", "    10 }"]
    );
}

#[test]
fn a_call_that_can_be_changed_is_opened_and_answered_with_what_is_left() {
    let mut app = app();
    let editable = Editable { name: "command".into(), text: "make".into() };
    app.asks(Approval { editable: Some(Box::new(editable)), ..approval("1", "r") });
    app.asks(approval("2", "r"));
    let rows = app.bottom(80, Duration::ZERO).question;
    assert!(rows.iter().any(|row| row.starts_with("edit changes it first")), "{rows:?}");
    let edit = Wish::Edit { id: "1".into(), text: "make".into(), name: "command".into() };
    assert_eq!(type_line(&mut app, "edit"), Some(edit));
    let answer = app.edited("1".into(), Some("make all".into()));
    let changed = Decision::AllowChanged;
    assert_eq!(
        answer,
        Some(Wish::Answer { id: "1".into(), decision: changed, words: "make all".into() })
    );
    // Where there is nothing to change, it is no answer, and no refusal.
    assert_eq!(type_line(&mut app, "edit"), None);
    assert!(shown(&mut app).iter().any(|row| row.contains("nothing in this that can be changed")));
    let allowed = app.edited("2".into(), None);
    let words = String::new();
    assert_eq!(allowed, Some(Wish::Answer { id: "2".into(), decision: Decision::Allow, words }));
    // It was answered elsewhere meanwhile.
    assert_eq!(app.edited("1".into(), Some("x".into())), None);
    assert!(shown(&mut app).iter().any(|row| row.contains("not taken")));
}
