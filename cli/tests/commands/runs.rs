//! Runs on record, and runs that go on with another: the real engine, killed in the middle of a
//! call.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use lapce_ai_tests::{kill, wait, wait_for};
use serde_json::json;

use crate::home;
use crate::model::{Model, Reply};

#[test]
fn a_run_goes_on_after_the_engine_was_killed_in_the_middle_of_a_call() {
    let home = home();
    let root = home.workspace("w", &[("a.rs", "fn a() {}\n")]);
    let command = "touch begun; sleep 987653";
    let model = Model::new(vec![
        Reply::Call("execute_command", json!({ "command": command })),
        Reply::Call("attempt_completion", json!({ "result": "I looked again." })),
        Reply::Words("Nothing more."),
    ]);
    home.config(&model.config());
    assert_eq!(home.cli_in(&root, ["runs", "list", "--json"]).ok().json(), json!([]));
    home.cli_in(&root, ["run", "--continue", "x"]).exited(3);

    let mut run = home.command("lapce-ai");
    run.args(["run", "--yes", "Do it\nwith care"]).current_dir(&root);
    run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut run = run.spawn().unwrap();
    let sleeper = || home.processes().iter().any(|p| p.command == "sleep 987653");
    wait_for("the command", || root.join("begun").exists() && sleeper());
    kill(home.engine_pid().unwrap(), libc::SIGKILL);
    assert_eq!(wait(&mut run), Some(5));
    wait_for("the end of the command", || !sleeper());

    let list = home.cli_in(&root, ["runs", "list"]).ok().stdout;
    assert!(list.contains("  interrupted  Do it\n"), "{list}");
    assert!(list.contains("test/m, code, 1 turn, "), "{list}");
    let runs = home.cli_in(&root, ["runs", "list", "--json"]).ok().json();
    let first = runs[0]["run"].as_str().unwrap().to_owned();
    let log = home.paths().state.join("runs").join(format!("{first}.jsonl"));
    assert_eq!(std::fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);

    let ran = home.cli_in(&root, ["run", "--continue", "What became of it?"]).ok();
    assert!(ran.stdout.contains("I looked again."), "{ran}");
    assert!(ran.stderr.contains(&format!("going on with run {first}: Do it")), "{ran}");
    assert!(ran.stderr.contains("`lapce-ai run --continue 2"), "{ran}");
    let seen = model.seen();
    let messages = seen[1]["messages"].as_array().unwrap();
    let roles: Vec<&str> = messages.iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool", "user"]);
    let result = messages[3]["content"].as_str().unwrap();
    assert!(result.starts_with("[execute_command for 'touch begun; sleep 987653'] Result:"));
    assert!(result.contains("interrupted while this call was under way"), "{result}");
    assert!(messages[4]["content"].as_str().unwrap().contains("What became of it?"));

    // By a part of its name, without words.
    let end = &first[9..];
    home.cli_in(&root, ["run", "--continue", end]).ok();
    let asked = model.seen()[2]["messages"].to_string();
    assert!(asked.contains("Go on with the task."), "{asked}");
    let shown = home.cli(["runs", "show", end]).ok().stdout;
    for part in [
        "  interrupted\n",
        "Task\nDo it\nwith care\n",
        "  … execute_command for 'touch begun; sleep 987653' (no result)\n",
        "gone on with by 2",
        "transcript: /",
    ] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    let last = home.cli_in(&root, ["runs", "list", "--all", "--json"]).ok().json();
    assert_eq!(last.as_array().unwrap().len(), 3);
    let second = last[1]["run"].as_str().unwrap();
    let shown = home.cli(["runs", "show", second]).ok().stdout;
    assert!(shown.contains(&format!("went on with {first}  interrupted  Do it\n")), "{shown}");

    // Elsewhere it is refused, with the way to it.
    let other = home.workspace("other", &[("b", "")]);
    let refused = home.cli_in(&other, ["run", "--continue", end, "x"]).exited(2);
    assert!(refused.stderr.contains("is of another workspace"), "{refused}");
    assert!(refused.stderr.contains("continue it there: `lapce-ai run --root /"), "{refused}");
    assert_eq!(home.cli_in(&other, ["runs", "list", "--json"]).ok().json(), json!([]));
    home.cli(["runs", "show", "nonesuch"]).exited(3);
    home.assert_nothing_left();
}

/// A line in the terminal UI after a run goes on with it, and `/continue` with one from before.
#[test]
fn the_terminal_ui_goes_on_with_runs_and_conversations() {
    let home = home();
    let root = home.workspace("w", &[("a.rs", "fn a() {}\n")]);
    let done = |result: &str| Reply::Call("attempt_completion", json!({ "result": result }));
    let model = Model::new(vec![
        done("One done."),
        done("Two done."),
        done("Three done."),
        Reply::Words("It is empty.\n"),
        Reply::Words("Because of you.\n"),
        Reply::Words("From the shell."),
    ]);
    home.config(&model.config());
    home.cli_in(&root, ["run", "first task"]).ok();
    let mut command = home.command("lapce-ai");
    command.args(["tui", "--root", root.to_str().unwrap()]).env("NO_COLOR", "1");
    let (code, shown) = lapce_ai_tests::terminal::on_a_terminal(
        command,
        &[
            ("ask> ", "/continue second task\r"),
            ("Two done.", "/run third task\r"),
            ("Three done.", "what is a?\r"),
            ("It is empty.", "and why?\r"),
            ("Because of you.", "/quit\r"),
        ],
    );
    assert_eq!(code, Some(0), "{shown}");
    home.cli_in(&root, ["ask", "--continue", "and now?"]).ok();
    let seen = model.seen();
    let task = seen[2]["messages"].to_string();
    for part in ["first task", "second task", "third task"] {
        assert!(task.contains(part), "{part} is not in {task}");
    }
    let question = seen[4]["messages"].to_string();
    assert!(question.contains("It is empty.") && question.contains("Question: and why?"));
    let question = seen[5]["messages"].to_string();
    assert!(question.contains("Because of you.") && question.contains("what is a?"), "{question}");
    home.assert_nothing_left();
}
