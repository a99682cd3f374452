//! The command line over the real programs: what people and scripts see, and how it ends.
//! Needs `lapce-ai-engine` and `lapce-ai-tool` beside it (`cargo xtask test` builds them).

#[path = "lsp/support/model.rs"]
#[expect(dead_code, reason = "ghost text is the editor's alone")]
mod model;

use std::io::Read as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::Stdio;

use lapce_ai_tests::terminal::{self, HANG_UP};
use lapce_ai_tests::{Ran, TestHome, alive, kill, programs, run, wait, wait_for};
use model::{Model, Reply};

fn home() -> TestHome {
    let bin = Path::new(env!("CARGO_BIN_EXE_lapce-ai")).parent().unwrap();
    for program in ["lapce-ai-engine", "lapce-ai-tool"] {
        let file = bin.join(program);
        assert!(file.is_file(), "{} is not built; see `cargo xtask test`", file.display());
    }
    TestHome::with_programs(bin)
}

/// Compares with a file in `golden/`; `UPDATE_GOLDEN=1` writes it instead.
#[track_caller]
fn golden(name: &str, home: &TestHome, text: &str) {
    let text = text
        .replace(home.path().to_str().unwrap(), "HOME")
        .replace(home.bin_dir().to_str().unwrap(), "BIN")
        .replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; UPDATE_GOLDEN=1 writes it", file.display()));
    assert_eq!(text, expected, "{} differs; UPDATE_GOLDEN=1 writes it anew", file.display());
}

fn shown(ran: &Ran) -> String {
    format!("exit {}\n--- stdout\n{}--- stderr\n{}", ran.code.unwrap(), ran.stdout, ran.stderr)
}

#[test]
fn help() {
    let home = home();
    for (name, args) in [
        ("help.txt", &["--help"][..]),
        ("help-short.txt", &["-h"]),
        ("help-index.txt", &["index", "--help"]),
        ("help-search.txt", &["search", "--help"]),
        ("help-ask.txt", &["ask", "--help"]),
        ("help-run.txt", &["run", "--help"]),
        ("help-tool-run.txt", &["tool", "run", "--help"]),
        ("help-doctor.txt", &["doctor", "--help"]),
    ] {
        golden(name, &home, &home.cli(args).ok().stdout);
    }
    assert_eq!(home.processes(), [], "help starts nothing");
}

#[test]
fn errors() {
    let home = home();
    let root = home.workspace("w", &[("a.rs", "fn a() {}\n")]);
    let root = root.to_str().unwrap();
    let cases: &[(&str, &[&str])] = &[
        ("no command", &[]),
        ("a typo", &["serach", "x"]),
        ("a number out of range", &["search", "x", "-k", "0"]),
        ("no words", &["search"]),
        ("empty words", &["search", " ", "--root", root]),
        ("a path that does not exist", &["index", "/no/such/folder"]),
        ("a file where a folder belongs", &["search", "x", "--root", "/etc/passwd"]),
        ("no index", &["search", "x", "--root", root]),
        ("no index, as JSON", &["search", "x", "--root", root, "--json"]),
        ("an unknown tool", &["tool", "run", "frobnicate"]),
        (
            "parameters that are no JSON",
            &["tool", "run", "list_files", "--json", "{", "--root", root],
        ),
        ("a parameter is missing", &["tool", "run", "list_files", "--root", root]),
        (
            "a tool that needs a run",
            &["tool", "run", "attempt_completion", "--json", "{\"result\":\"x\"}", "--root", root],
        ),
    ];
    let mut text = String::new();
    for (what, args) in cases {
        text.push_str(&["# ", what, "\n", &shown(&home.cli(*args)), "\n"].concat());
    }
    golden("errors.txt", &home, &text);
    home.assert_nothing_left();
}

#[test]
fn status_and_stop_start_nothing() {
    let home = home();
    let status = home.cli(["status"]).ok();
    assert!(status.stdout.contains("no engine is running"), "{status}");
    assert_eq!(home.cli(["status", "--json"]).ok().json()["running"], false);
    assert_eq!(home.cli(["stop", "--json"]).ok().json()["stopped"], false);
    assert_eq!(home.processes(), []);
}

#[test]
fn start_and_stop_are_a_pair() {
    let home = home();
    let started = home.cli(["start", "--json"]).ok().json();
    assert_eq!(started["pid"], home.engine_pid().unwrap());
    assert_eq!(started["started"], true);
    let again = home.cli(["start", "--json"]).ok().json();
    assert_eq!((&again["pid"], &again["started"]), (&started["pid"], &false.into()));
    assert_eq!(home.cli(["stop", "--json"]).ok().json()["stopped"], true);
    home.assert_nothing_left();
}

#[test]
fn the_first_command_starts_the_engine_and_status_shows_it() {
    let home = home();
    let root = home.workspace("w", &[("a.rs", "fn a() {}\n")]);
    home.cli_in(&root, ["search", "x"]).exited(3);
    let status = home.cli(["status", "--json"]).ok().json();
    assert_eq!(status["running"], true);
    assert_eq!(status["pid"], home.engine_pid().unwrap());
    let text = home.cli(["status"]).ok();
    for words in ["engine 0.", "up ", "engine.log", "resident", "lapce-ai-engine"] {
        assert!(text.stdout.contains(words), "{words} is not in {text}");
    }
    assert_eq!(home.cli(["stop"]).ok().stdout, "stopped\n");
    home.assert_nothing_left();
}

#[test]
fn diagnostics_show_the_ring_over_either_transport() {
    let home = home();
    assert!(home.cli(["diagnostics"]).ok().stdout.contains("no engine is running"));
    home.cli(["start"]).ok();
    for transport in ["memfd", "portable"] {
        let ran = home.cli(["diagnostics", "--transport", transport, "--json"]).ok();
        let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let connection = &report["connections"][0];
        assert_eq!(connection["transport"], transport);
        assert!(connection["bytes_in"].as_u64().unwrap() > 0, "{connection}");
        assert_eq!(connection["calls"], 1, "its own call is open: {connection}");
        let text = home.cli(["--transport", transport, "diagnostics"]).ok().stdout;
        assert!(text.contains(&format!("over {transport}, session ")), "{text}");
    }
    let refused = home.cli(["--transport", "pigeon", "status"]);
    assert_eq!(refused.code, Some(2));
    home.cli(["stop"]).ok();
}

#[test]
fn commands_that_start_at_once_share_one_engine() {
    let home = home();
    let root = home.workspace("w", &[("a.txt", "hello\n")]);
    let json = "{\"path\":\".\"}";
    std::thread::scope(|scope| {
        let ran: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| home.cli_in(&root, ["tool", "run", "list_files", "--json", json]))
            })
            .collect();
        for ran in ran {
            let ran = ran.join().unwrap().ok();
            assert!(ran.stdout.contains("a.txt"), "{ran}");
        }
    });
    let engines = home.processes().into_iter().filter(|p| p.name == "lapce-ai-engine").count();
    assert_eq!(engines, 1);
    home.assert_nothing_left();
}

#[test]
fn without_the_engine_the_error_names_it() {
    let bin = tempfile::tempdir().unwrap();
    // A copy: beside a link the real engine would be found.
    programs::copy(Path::new(env!("CARGO_BIN_EXE_lapce-ai")), &bin.path().join("lapce-ai"));
    let home = TestHome::with_programs(bin.path());
    let ran = home.cli(["search", "x"]).exited(5);
    assert!(ran.stderr.contains("the program lapce-ai-engine was not found"), "{ran}");
    let doctor = home.cli(["doctor"]).exited(1);
    assert!(doctor.stdout.contains("FAIL lapce-ai-engine"), "{doctor}");
    assert!(doctor.stdout.contains("install it beside lapce-ai"), "{doctor}");
}

#[test]
fn an_engine_that_cannot_start_says_why() {
    let home = home();
    std::fs::write(home.paths().runtime, "in the way").unwrap();
    let ran = home.cli(["search", "x"]).exited(5);
    assert!(ran.stderr.contains("cannot use the folder"), "{ran}");
    assert!(ran.stderr.contains("next:"), "{ran}");
}

#[test]
fn doctor_reports_every_part() {
    let home = home();
    let ran = home.cli(["doctor", "--json"]);
    let checks = ran.json();
    let checks = checks.as_array().unwrap();
    let find = |name: &str| {
        checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name}: {ran}"))
    };
    for name in [
        "lapce-ai-engine",
        "lapce-ai-tool",
        "lapce-ai-lsp",
        "runtime folder",
        "data folder",
        "engine",
    ] {
        assert_eq!(find(name)["state"], "ok", "{ran}");
    }
    // Nothing is configured or indexed here, and each says what to do about it.
    for name in ["model", "index"] {
        assert_eq!(find(name)["state"], "warn", "{ran}");
        assert_ne!(find(name)["next"], "", "{ran}");
    }
    assert!(checks.iter().any(|c| c["name"].as_str().unwrap().starts_with("sandbox ")), "{ran}");
    let sandbox = home.cli(["doctor", "sandbox", "--json"]).ok().json();
    assert!(sandbox.as_array().unwrap().iter().any(|check| check["name"] == "sandbox seccomp"));
    home.assert_nothing_left();
}

#[test]
fn a_tool_runs_in_the_sandbox() {
    let home = home();
    let root =
        home.workspace("w", &[("src/a.rs", "fn answer() -> u32 { 42 }\n"), (".git/HEAD", "")]);
    let inner = root.join("src");
    let tool = |name: &str, json: &str| {
        home.cli_in(&inner, ["tool", "run", name, "--report", "--json", json])
    };
    // The workspace is the folder with the repository, wherever one stands in it.
    let report = tool("read_file", "{\"args\":[{\"path\":\"src/a.rs\"}]}").ok().json();
    assert!(report["text"].as_str().unwrap().contains("fn answer() -> u32 { 42 }"), "{report}");
    let report = tool("execute_command", "{\"command\":\"echo $((6*7)); pwd\"}").ok().json();
    assert!(report["text"].as_str().unwrap().contains("42"), "{report}");
    let layers = report["layers"].as_array().unwrap();
    assert!(layers.iter().any(|layer| layer == "seccomp"), "{report}");
    let report = tool("read_file", "{\"args\":[{\"path\":\"../../../../etc/shadow\"}]}");
    assert!(!report.stdout.contains("root:"), "{report}");
    let report = tool("execute_command", "{\"command\":\"exit 3\"}");
    assert!(report.json()["text"].as_str().unwrap().contains('3'), "{report}");
    home.assert_nothing_left();
}

#[test]
fn tools_are_listed_with_their_schemas() {
    let home = home();
    let list = home.cli(["tool", "list"]).ok();
    assert!(list.stdout.contains("execute_command"), "{list}");
    let all = home.cli(["tool", "list", "--json"]).ok().json();
    let schema = home.cli(["tool", "schema", "read_file"]).ok().json();
    assert!(all.as_array().unwrap().contains(&schema));
    assert_eq!(home.processes(), [], "nothing is started for that");
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let home = home();
    for args in [&["tool", "list"][..], &["generate", "cli"], &["--help"], &["doctor"]] {
        let mut command = home.command("lapce-ai");
        let mut child = command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let status = child.wait().unwrap();
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
        assert_eq!((status.signal(), status.code(), &*stderr), (None, Some(0), ""), "{args:?}");
    }
}

/// A command that runs until something ends it, and the process that does the running.
fn sleeper(home: &TestHome) -> (std::process::Child, u32) {
    let root = home.workspace("w", &[("a", "")]);
    let mut command = home.command("lapce-ai");
    let child = command
        .args(["tool", "run", "execute_command", "--json", "{\"command\":\"sleep 987654\"}"])
        .current_dir(&root)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pid = 0;
    wait_for("the sleeper", || {
        let found = home.processes().into_iter().find(|p| p.command == "sleep 987654");
        found.inspect(|process| pid = process.pid).is_some()
    });
    (child, pid)
}

#[test]
fn an_interrupt_cancels_the_call_and_then_ends_the_command() {
    let home = home();
    let (mut child, sleep) = sleeper(&home);
    let engine = home.engine_pid().unwrap();
    kill(child.id(), libc::SIGINT);
    assert_eq!(wait(&mut child), Some(130));
    wait_for("the sleeper's end", || !alive(sleep));
    assert_eq!(home.engine_pid(), Some(engine), "the engine goes on");
    home.assert_nothing_left();
}

#[test]
fn the_engine_outlives_its_first_client_and_the_call_does_not() {
    let home = home();
    let (mut child, sleep) = sleeper(&home);
    let engine = home.engine_pid().unwrap();
    // What Lapce does to a language server: the whole process group, with SIGKILL.
    let group = i32::try_from(child.id()).unwrap();
    // SAFETY: kill touches no memory; the group is the one made for this child.
    assert_eq!(unsafe { libc::kill(-group, libc::SIGKILL) }, 0);
    wait(&mut child);
    wait_for("the sleeper's end", || !alive(sleep));
    assert_eq!(home.cli(["status", "--json"]).ok().json()["pid"], engine);
    home.assert_nothing_left();
}

#[test]
fn the_engines_death_is_told_and_the_next_command_has_a_new_one() {
    let home = home();
    let (mut child, sleep) = sleeper(&home);
    let engine = home.engine_pid().unwrap();
    kill(engine, libc::SIGKILL);
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(wait(&mut child), Some(5), "{stderr}");
    assert!(stderr.contains("the engine is gone"), "{stderr}");
    assert!(stderr.contains("next: run the command again"), "{stderr}");
    wait_for("the sleeper's end", || !alive(sleep));
    home.cli(["search", "x"]).exited(3);
    assert!(home.engine_pid().is_some_and(|pid| pid != engine));
    home.assert_nothing_left();
}

#[test]
fn a_killed_tool_is_told_and_nothing_is_left_of_it() {
    let home = home();
    let (mut child, sleep) = sleeper(&home);
    let helper = home.processes().into_iter().find(|p| p.name == "lapce-ai-tool").unwrap();
    kill(helper.pid, libc::SIGKILL);
    assert_eq!(wait(&mut child), Some(1));
    wait_for("the sleeper's end", || !alive(sleep));
    home.assert_nothing_left();
}

#[test]
fn a_hanging_engine_is_stopped_all_the_same() {
    let home = home();
    home.cli(["search", "x"]).exited(3);
    kill(home.engine_pid().unwrap(), libc::SIGSTOP);
    let ran = home.cli(["stop"]).ok();
    assert_eq!(ran.stdout, "stopped by SIGKILL\n");
    // Its files are stale, and the next engine takes their place.
    home.cli(["search", "x"]).exited(3);
    home.assert_nothing_left();
}

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

#[test]
fn rules_decide_about_tools() {
    let home = home();
    let root = home.workspace("w", &[("a", "")]);
    let root = root.to_str().unwrap();
    let command = |line: &str, ask: bool| {
        let json = serde_json::json!({"command": line}).to_string();
        let mut args = vec!["tool", "run", "execute_command", "--root", root, "--json", &json];
        if ask {
            args.push("--ask");
        }
        let mut command = home.command("lapce-ai");
        command.args(args);
        // SAFETY: setsid is async-signal-safe and touches no memory.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                Ok(())
            });
        }
        run(command, b"")
    };
    command("touch one", true).exited(4);
    let added = home.cli(["rules", "allow", "execute_command", "touch"]).ok();
    assert_eq!(added.stdout, "rule 1: allow execute_command 'touch'\n");
    command("touch one", true).ok();
    command("mkdir two", true).exited(4);
    home.cli(["rules", "deny", "execute_command", "touch secret"]).ok();
    // A rule that denies holds for the user's own commands too.
    let denied = command("touch secret", false).exited(4);
    assert!(denied.stderr.contains("deny execute_command 'touch secret'"), "{denied}");
    let list = home.cli(["rules", "list", "--json"]).ok().json();
    assert_eq!(list.as_array().unwrap().len(), 2);
    home.cli(["rules", "remove", "2"]).ok();
    command("touch secret", true).ok();
    home.cli(["rules", "remove", "2"]).exited(3);
    home.cli(["rules", "deny", "frobnicate"]).exited(3);
    // A file that cannot be understood allows nothing.
    std::fs::write(home.paths().rules_file(), "[[rule]]\neffect = \"deny\"\n").unwrap();
    let broken = command("echo", false).exited(2);
    assert!(broken.stderr.contains("rules.toml: line 1: unknown field `rule`"), "{broken}");
    home.cli(["rules", "list"]).exited(2);
    home.assert_nothing_left();
}

#[test]
fn what_a_tool_changed_can_be_undone() {
    let home = home();
    let root = home.workspace("w", &[("a.txt", "before\n")]);
    let file = root.join("a.txt");
    let text = || std::fs::read_to_string(&file).unwrap();
    let nothing = home.cli_in(&root, ["undo"]).exited(1);
    assert!(nothing.stderr.contains("next: `lapce-ai undo --list`"), "{nothing}");
    let json = "{\"path\":\"a.txt\",\"content\":\"after\\n\"}";
    home.cli_in(&root, ["tool", "run", "write_to_file", "--json", json]).ok();
    assert_eq!(text(), "after\n");
    let list = home.cli_in(&root, ["undo", "--list", "--json"]).ok().json();
    assert_eq!(list[0]["tool"], "write_to_file", "{list}");
    assert_eq!(list[0]["files"][0], "a.txt", "{list}");
    let undone = home.cli_in(&root, ["undo", "--json"]).ok().json();
    assert_eq!(text(), "before\n");
    // And the undo itself.
    home.cli_in(&root, ["undo", undone["run"].as_str().unwrap()]).ok();
    assert_eq!(text(), "after\n");
    // Somebody else's change is not overwritten.
    std::fs::write(&file, "mine\n").unwrap();
    home.cli_in(&root, ["undo"]).exited(1);
    assert_eq!(text(), "mine\n");
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

#[test]
fn completions_and_references_are_written() {
    let home = home();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.cli(["completions", shell]).ok();
        assert!(script.stdout.contains("lapce-ai"), "{script}");
    }
    let cli = home.cli(["generate", "cli"]).ok();
    assert!(cli.stdout.contains("## lapce-ai tool run"), "{cli}");
    let tools = home.cli(["generate", "tools"]).ok();
    assert!(tools.stdout.contains("## execute_command"), "{tools}");
    let config = home.cli(["generate", "config"]).ok();
    assert!(config.stdout.contains("[providers"), "{config}");
    assert_eq!(home.processes(), []);
}
