//! What is printed: help, errors, reports, completions.

use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use crate::{golden, home, shown};

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
        ("help-runs.txt", &["runs", "--help"]),
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
