//! `lapce-ai mcp`: the user's file, the catalogue, and ourselves as a server.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Stdio};

use lapce_ai_tests::TestHome;
use serde_json::{Value, json};

fn home() -> TestHome {
    TestHome::with_programs(Path::new(env!("CARGO_BIN_EXE_lapce-ai")).parent().unwrap())
}

fn file(home: &TestHome) -> String {
    std::fs::read_to_string(home.paths().config_file()).unwrap()
}

#[test]
fn the_file_keeps_its_form_and_a_bad_change_does_not_reach_it() {
    let home = home();
    let before = "# mine\n[limits]   # odd   spaces\nrun_turns   = 3\n";
    home.config(before);
    home.cli([
        "mcp",
        "add",
        "docs",
        "--url",
        "https://docs.example.org/mcp",
        "--header",
        "Authorization=keyring:docs",
    ])
    .ok();
    home.cli([
        "mcp",
        "add",
        "mine",
        "--network",
        "api.example.org",
        "--env",
        "A=b",
        "--env",
        "T=env:TOKEN",
        "--",
        "server",
        "--stdio",
    ])
    .ok();
    let text = file(&home);
    assert!(text.starts_with(before), "{text}");
    assert!(
        text.contains("[mcp.servers.docs]\nurl = \"https://docs.example.org/mcp\"\n"),
        "{text}"
    );
    assert!(text.contains("headers = { Authorization = { keyring = \"docs\" } }"), "{text}");
    assert!(text.contains("command = \"server\"\nargs = [\"--stdio\"]\n"), "{text}");
    assert!(text.contains("env = { A = \"b\", T = { env = \"TOKEN\" } }"), "{text}");

    // Refused by the engine's own reader; the file is as it was.
    let bad = home.cli(["mcp", "add", "plain", "--url", "http://example.org/mcp"]).exited(2);
    assert!(bad.stderr.contains("unencrypted"), "{bad}");
    let taken = home.cli(["mcp", "add", "docs", "--url", "https://x.org/"]).exited(2);
    assert!(taken.stderr.contains("already"), "{taken}");
    home.cli(["mcp", "rm", "none"]).exited(3);
    home.cli(["mcp", "add", "no-such-entry"]).exited(3);
    assert_eq!(file(&home), text);

    home.cli(["mcp", "rm", "docs"]).ok();
    home.cli(["mcp", "rm", "mine"]).ok();
    assert_eq!(file(&home).trim_end(), before.trim_end());
    assert_eq!(home.processes(), [], "the file is changed without an engine");
}

#[test]
fn every_entry_of_the_catalogue_can_be_added_and_is_listed() {
    let home = home();
    let all = home.cli(["mcp", "catalogue", "--json"]).ok().json();
    let names: Vec<&str> =
        all.as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap()).collect();
    for name in &names {
        home.cli(["mcp", "add", name]).ok();
    }
    let root = home.workspace("w", &[("a", "")]);
    let listed = home.cli_in(&root, ["mcp", "list", "--json"]).ok().json();
    assert_eq!(listed.as_array().unwrap().len(), names.len());
    assert!(listed.as_array().unwrap().iter().all(|s| s["state"] == "not started"), "{listed}");
    // What it starts is not there: the answer says how to get on.
    let missing = home.cli_in(&root, ["mcp", "test", "kubernetes"]).exited(5);
    assert!(missing.stderr.contains("kubernetes"), "{missing}");
    home.assert_nothing_left();
}

/// Speaks MCP with `lapce-ai mcp serve`, line by line.
struct Client {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    next: u64,
}

impl Client {
    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.next += 1;
        let id = self.next;
        let text = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        writeln!(self.stdin, "{text}").unwrap();
        loop {
            let mut line = String::new();
            assert!(self.stdout.read_line(&mut line).unwrap() > 0, "it ended");
            let answer: Value = serde_json::from_str(&line).unwrap();
            if answer["id"] == id {
                return answer;
            }
        }
    }

    fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        self.ask("tools/call", &json!({"name": tool, "arguments": arguments}))["result"].clone()
    }
}

#[test]
fn other_agents_are_served_within_the_rules() {
    let home = home();
    let root = home.workspace("w", &[("src/a.rs", "fn needle() {}\n"), (".git/HEAD", "")]);
    let mut command = home.command("lapce-ai");
    let mut child = command
        .args(["mcp", "serve", "--tools", "all"])
        .current_dir(&root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut client = Client {
        stdin: child.stdin.take().unwrap(),
        stdout: BufReader::new(child.stdout.take().unwrap()),
        next: 0,
    };
    let hello = client.ask(
        "initialize",
        &json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}),
    );
    assert_eq!(hello["result"]["serverInfo"]["name"], "lapce-ai", "{hello}");
    writeln!(client.stdin, "{}", json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
        .unwrap();
    let tools = client.ask("tools/list", &json!({}));
    let names: Vec<&str> = tools["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"codebase_search") && names.contains(&"read_file"), "{names:?}");
    assert!(
        !names.contains(&"use_mcp_tool") && !names.contains(&"attempt_completion"),
        "{names:?}"
    );
    let read = client.call("read_file", &json!({"path": "src/a.rs"}));
    assert!(read["isError"] == false && read.to_string().contains("needle"), "{read}");
    let outside = client.call("read_file", &json!({"path": "/etc/passwd"}));
    assert!(outside["isError"] == true && !outside.to_string().contains("root:"), "{outside}");
    // Asked about: refused, with what would allow it.
    let command = client.call("execute_command", &json!({"command": "touch made"}));
    assert!(command["isError"] == true, "{command}");
    assert!(command.to_string().contains("lapce-ai rules allow execute_command"), "{command}");
    assert!(!root.join("made").exists());
    let unknown = client.ask("tools/call", &json!({"name": "attempt_completion", "arguments": {}}));
    assert!(
        unknown["error"]["message"].as_str().unwrap().contains("there is no tool"),
        "{unknown}"
    );
    drop(client);
    assert!(child.wait().unwrap().success(), "the end of its input ends it");
    // Every call was counted.
    let status = home.cli(["status", "--json"]).ok().json();
    let read_file = status["tools"]
        .as_array()
        .unwrap()
        .iter()
        .find(|t| t["tool"] == "read_file")
        .unwrap()
        .clone();
    assert_eq!((&read_file["ok"], &read_file["denied"]), (&json!(1), &json!(1)), "{read_file}");
    home.assert_nothing_left();
}

#[test]
fn only_reading_is_offered_unless_more_is_asked_for() {
    let home = home();
    let root = home.workspace("w", &[("a", "")]);
    let mut command = home.command("lapce-ai");
    command.args(["mcp", "serve"]).current_dir(&root);
    let lines = [
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}),
    ];
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for line in lines {
        writeln!(stdin, "{line}").unwrap();
    }
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let listed = answers.find_map(|l| l.ok().filter(|l| l.contains("\"id\":2"))).unwrap();
    assert!(listed.contains("read_file") && !listed.contains("write_to_file"), "{listed}");
    drop(stdin);
    assert!(child.wait().unwrap().success());
}
