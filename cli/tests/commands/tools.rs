//! Tools, rules, undo; what is left when something dies.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use lapce_ai_tests::{TestHome, alive, kill, run, wait, wait_for};

use crate::home;

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
