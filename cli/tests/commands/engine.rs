//! The engine's life as the command line sees it.

use std::path::Path;

use lapce_ai_tests::{TestHome, kill, programs};

use crate::home;

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
