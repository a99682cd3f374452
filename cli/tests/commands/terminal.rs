//! What is asked on a terminal, and the terminal UI.

use std::os::unix::process::CommandExt as _;

use lapce_ai_tests::terminal::{self, HANG_UP};
use lapce_ai_tests::{TestHome, kill, programs, run, wait_for};

use crate::home;
use crate::model::{self, Model, Reply};

/// The terminal of a user: answers what is asked with `reply`, returns what was shown.
fn on_a_terminal(home: &TestHome, args: &[&str], reply: &str) -> (Option<i32>, String) {
    on_a_terminal_when(home, args, "say what to do instead", reply)
}

/// Runs on a terminal of its own; what is typed comes when `cue` is shown.
fn on_a_terminal_when(
    home: &TestHome,
    args: &[&str],
    cue: &str,
    reply: &str,
) -> (Option<i32>, String) {
    on_a_terminal_with(home, args, &[(cue, reply)])
}

/// The same with several replies, each after its cue has come.
fn on_a_terminal_with(
    home: &TestHome,
    args: &[&str],
    script: &[(&str, &str)],
) -> (Option<i32>, String) {
    let mut command = home.command("lapce-ai");
    command.args(args).env("NO_COLOR", "1");
    terminal::on_a_terminal(command, script)
}

#[test]
fn approvals_are_asked_on_the_terminal() {
    let home = home();
    let root = home.workspace("w", &[("a", "")]);
    let args = |json| {
        let root = root.to_str().unwrap();
        ["tool", "run", "execute_command", "--ask", "--root", root, "--json", json]
    };
    let (code, shown) = on_a_terminal(&home, &args("{\"command\":\"touch yes\"}"), "y\n");
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("allow? execute_command for 'touch yes'"), "{shown}");
    assert!(shown.contains("limits: "), "{shown}");
    assert!(root.join("yes").exists());

    let (code, shown) =
        on_a_terminal(&home, &args("{\"command\":\"touch no\"}"), "use cargo instead\n");
    assert_eq!(code, Some(4), "{shown}");
    assert!(shown.contains("the answer was no: use cargo instead"), "{shown}");
    assert!(!root.join("no").exists());
    home.assert_nothing_left();
}

#[test]
fn without_a_terminal_the_answer_is_no() {
    let home = home();
    let root = home.workspace("w", &[("a", "")]);
    let mut command = home.command("lapce-ai");
    command.args([
        "tool",
        "run",
        "execute_command",
        "--ask",
        "--json",
        "{\"command\":\"touch no\"}",
    ]);
    command.current_dir(&root);
    // SAFETY: setsid is async-signal-safe and touches no memory.
    unsafe {
        command.pre_exec(|| {
            libc::setsid();
            Ok(())
        });
    }
    let ran = run(command, b"y\n").exited(4);
    assert!(ran.stderr.contains("there is no terminal to ask on"), "{ran}");
    assert!(!root.join("no").exists());
    home.assert_nothing_left();
}

/// The change is shown, asked about and written like an agent's, so that it can be undone.
#[test]
fn a_piece_of_a_file_is_edited() {
    let home = home();
    let text = "fn a() {\n    old();\n}\n\nfn b() {}\n";
    let root = home.workspace("w", &[("a.rs", text)]);
    let file = root.join("a.rs");
    let now = || std::fs::read_to_string(&file).unwrap();
    let answer = || Reply::Words("<rewritten>\nfn a() {\n    new();\n}\n</rewritten>");
    let model =
        Model::new(vec![answer(), answer(), answer(), Reply::Words("That is not possible.")]);
    home.config(&model.config());
    let dry = home.cli_in(&root, ["edit", "--dry-run", "a.rs:1", "call", "new"]).ok();
    assert_eq!(
        dry.stdout,
        "@@ line 1 @@\n  fn a() {\n-     old();\n+     new();\n  }\n  \n  fn b() {}\n"
    );
    assert_eq!(now(), text);
    let asked = &model.seen()[0]["messages"][1]["content"];
    assert!(asked.as_str().unwrap().ends_with("Instruction: call new"), "{asked}");
    let piece = asked.as_str().unwrap().split("</piece-").next().unwrap();
    assert!(piece.contains("old();") && !piece.contains("fn b"), "{asked}");

    let args = ["edit", "--root", root.to_str().unwrap(), file.to_str().unwrap(), "call new"];
    let (code, shown) = on_a_terminal_when(&home, &args, "write this?", "n\n");
    assert_eq!((code, now().as_str()), (Some(4), text), "{shown}");
    let (code, shown) = on_a_terminal_when(&home, &args, "write this?", "y\n");
    assert_eq!(code, Some(0), "{shown}");
    // The whole file was the piece here.
    assert_eq!(now(), "fn a() {\n    new();\n}\n");
    home.cli_in(&root, ["undo"]).ok();
    assert_eq!(now(), text);

    let refused = home.cli_in(&root, ["edit", "--yes", "a.rs:1-3", "x"]).exited(6);
    assert!(refused.stderr.contains("That is not possible."), "{refused}");
    // Wrong input costs no request.
    home.cli_in(&root, ["edit", "a.rs", "x"]).exited(2);
    home.cli_in(&root, ["edit", "--yes", "a.rs:9", "x"]).exited(3);
    home.cli_in(&root, ["edit", "--yes", "none.rs", "x"]).exited(3);
    home.cli_in(&root, ["edit", "--yes", ".", "x"]).exited(2);
    let outside = home.folder("outside").join("b.rs");
    std::fs::write(&outside, "b\n").unwrap();
    home.cli_in(&root, ["edit", "--yes", outside.to_str().unwrap(), "x"]).exited(4);
    std::fs::write(root.join("prod.env"), "A=b\n").unwrap();
    home.cli_in(&root, ["edit", "--yes", "prod.env", "x"]).exited(4);
    assert_eq!((now().as_str(), model.seen().len()), (text, 4));
    home.assert_nothing_left();
}

/// A question, a task with an approval, and the way out, on a real terminal.
#[test]
fn the_terminal_ui_asks_works_and_leaves() {
    let home = home();
    let root = home.workspace("w", &[("a.rs", "fn a() {}\n")]);
    let model = Model::new(vec![
        Reply::Words("It is empty.\n"),
        Reply::Call("execute_command", serde_json::json!({ "command": "touch made" })),
        Reply::Call("attempt_completion", serde_json::json!({ "result": "All done." })),
    ]);
    home.config(&model.config());
    let args = ["tui", "--root", root.to_str().unwrap()];
    let script: &[(&str, &str)] = &[
        ("ask> ", "what is a?\r"),
        ("It is empty.", "/run make it\r"),
        ("y yes", "y\r"),
        ("All done.", "/nonsense\r"),
        ("there is no command", "\u{15}/quit\r"),
    ];
    let (code, shown) = on_a_terminal_with(&home, &args, script);
    assert_eq!(code, Some(0), "{shown}");
    assert!(root.join("made").exists(), "{shown}");
    assert!(shown.contains("allow? execute_command for 'touch made'"), "{shown}");
    assert!(shown.contains("completed: 2 turns, 1 tool call;"), "{shown}");
    // The bottom is gone, and the terminal takes pastes as before.
    assert!(shown.trim_end().ends_with("\x1b[?2004l"), "{shown:?}");
    let seen = model.seen();
    let task = seen[1]["messages"].to_string();
    assert!(task.contains("It is empty."), "the conversation goes along: {task}");
    home.cli(["tui", "--root", root.to_str().unwrap()]).exited(2);
    home.assert_nothing_left();
}

/// A call is changed in the user's editor, which has the terminal as it was; an editor that fails
/// answers nothing.
#[test]
fn a_call_is_changed_in_an_editor_from_the_terminal_ui() {
    let home = home();
    let root = home.workspace("w", &[("a.rs", "fn a() {}\n")]);
    let model = Model::new(vec![
        Reply::Call("execute_command", serde_json::json!({ "command": "touch made" })),
        Reply::Call("execute_command", serde_json::json!({ "command": "touch broken" })),
        Reply::Call("attempt_completion", serde_json::json!({ "result": "All done." })),
    ]);
    home.config(&model.config());
    let editor = home.path().join("my-editor");
    let saw = home.path().join("saw");
    programs::script(
        &editor,
        &format!(
            "#!/bin/sh\nstty -a >> {0}\ngrep -q broken \"$1\" && exit 7\nsed -i s/made/other/ \"$1\"\n",
            saw.display()
        ),
    );
    let mut command = home.command("lapce-ai");
    command.args(["tui", "--agent", "--root", root.to_str().unwrap()]);
    command.env("NO_COLOR", "1").env("VISUAL", &editor);
    let script: &[(&str, &str)] = &[
        ("agent> ", "make it\r"),
        ("edit changes it first, in your editor", "edit\r"),
        ("allow? execute_command for 'touch broken'", ""),
        ("edit changes it first, in your editor", "edit\r"),
        ("so nothing was answered", ""),
        ("edit changes it first, in your editor", "n\r"),
        ("All done.", "/quit\r"),
    ];
    let (code, shown) = terminal::on_a_terminal(command, script);
    assert_eq!(code, Some(0), "{shown}");
    assert!(root.join("other").exists() && !root.join("made").exists(), "{shown}");
    assert!(!root.join("broken").exists(), "{shown}");
    // Lines and echo, as a shell has them; and after it keys come one by one again.
    let saw = std::fs::read_to_string(saw).unwrap();
    assert!(saw.contains(" icanon") && saw.contains(" echo "), "{saw}");
    let told = model.seen()[1]["messages"].to_string();
    assert!(told.contains("The user changed 'command'"), "{told}");
    home.assert_nothing_left();
}

/// Its terminal goes away: nothing of it stays.
#[test]
fn the_terminal_ui_ends_with_its_terminal() {
    let home = home();
    let root = home.workspace("w", &[("a.rs", "")]);
    let (_keep, halt) = model::gate();
    let model = Model::new(vec![Reply::Halting("Half", halt, "")]);
    home.config(&model.config());
    let args = ["tui", "--root", root.to_str().unwrap()];
    let (code, shown) = on_a_terminal_with(&home, &args, &[("ask> ", "why?\r"), ("Half", HANG_UP)]);
    assert!(shown.contains("answering"), "{shown}");
    assert_ne!(code, Some(70), "{shown}");
    home.assert_nothing_left();
}

/// The engine dies while it answers: that is said, and the next question starts another.
#[test]
fn the_terminal_ui_outlives_the_engine() {
    let home = home();
    let root = home.workspace("w", &[("a.rs", "")]);
    let (_keep, halt) = model::gate();
    let model = Model::new(vec![Reply::Halting("Half", halt, ""), Reply::Words("It is back.\n")]);
    home.config(&model.config());
    let args = ["tui", "--root", root.to_str().unwrap()];
    let script: &[(&str, &str)] = &[
        ("ask> ", "why?\r"),
        ("the engine ended before this was done", "again?\r"),
        ("It is back.", "/quit\r"),
    ];
    let (code, shown) = std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_for("the first question", || !model.seen().is_empty());
            kill(home.engine_pid().unwrap(), libc::SIGKILL);
        });
        on_a_terminal_with(&home, &args, script)
    });
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("next: run it again"), "{shown}");
    home.assert_nothing_left();
}
