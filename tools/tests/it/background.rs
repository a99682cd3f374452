//! Commands in the background, and commands with a terminal.

use std::time::Duration;

use lapce_ai_tools::call::ToolCall;
use lapce_ai_tools::host::{Invocation, Ledger, Outcome};
use lapce_ai_tools::journal::Selector;
use lapce_ai_tools::limits::BACKGROUND_MAX;
use serde_json::{Value, json};

use crate::support::Bench;

/// Calls of one run.
struct Run {
    b: Bench,
    ledger: Ledger,
}

impl Run {
    fn new() -> Self {
        let mut b = Bench::new();
        b.host = b.host.with_state(b.dir.path().join("state"));
        Self { b, ledger: Ledger::for_run("run") }
    }

    async fn call(&self, name: &str, params: Value) -> Outcome {
        let Value::Object(params) = params else { panic!("parameters are an object") };
        let call = ToolCall { id: "t".into(), name: name.into(), params };
        let mut invocation = Invocation::new(call, self.b.workspace.clone());
        invocation.ledger = self.ledger.clone();
        self.b.host.run(invocation).await
    }

    /// Starts a command in the background and returns its name.
    async fn start(&self, command: &str) -> String {
        let out =
            self.call("execute_command", json!({"command": command, "background": true})).await;
        assert!(out.ok, "{}", out.envelope);
        out.artefact.unwrap()
    }

    async fn read(&self, params: Value) -> String {
        let out = self.call("read_command_output", params).await;
        assert!(out.ok, "{}", out.envelope);
        out.envelope
    }

    async fn until_no_helper_lives(&self) {
        for _ in 0..500 {
            if self.b.host.pids().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("still alive: {:?}", self.b.host.pids());
    }
}

#[tokio::test]
async fn a_background_command_is_read_while_it_runs_and_waited_for() {
    let run = Run::new();
    let id =
        run.start("echo first; while [ ! -e go ]; do sleep 0.02; done; echo last; exit 3").await;
    let text = run.read(json!({"artifact_id": id})).await;
    assert!(text.contains("1 | first") && text.contains("<notice>running for"), "{text}");
    // Other calls go on meanwhile.
    assert!(run.call("write_to_file", json!({"path": "go", "content": ""})).await.ok);
    let text = run.read(json!({"artifact_id": id, "wait": 20})).await;
    assert!(text.contains("2 | last") && text.contains("<notice>ended: exit code 3"), "{text}");
    let text = run.read(json!({"artifact_id": id, "search": "la.t"})).await;
    assert!(text.contains("2 | last") && !text.contains("first"), "{text}");
}

#[tokio::test]
async fn what_fails_at_once_is_told_at_once() {
    let run = Run::new();
    let params = json!({"command": "echo oops >&2; exit 7", "background": true});
    let out = run.call("execute_command", params).await;
    assert!(out.envelope.contains("ended: exit code 7\n<output>\noops"), "{}", out.envelope);
}

#[tokio::test]
async fn a_background_command_is_stopped_with_all_it_started() {
    let run = Run::new();
    let id = run.start("trap '' TERM; (setsid sleep 600 &) ; sleep 600").await;
    assert_eq!(run.b.host.pids().len(), 1);
    let text = run.read(json!({"artifact_id": id, "stop": true})).await;
    assert!(text.contains("<notice>ended: stopped on request"), "{text}");
    run.until_no_helper_lives().await;
    let out =
        run.call("read_command_output", json!({"artifact_id": "cmd-1-1", "stop": true})).await;
    assert!(!out.ok && out.envelope.contains("no command of this run"), "{}", out.envelope);
}

#[tokio::test]
async fn background_commands_end_with_their_run() {
    let mut run = Run::new();
    for _ in 0..3 {
        run.start("sleep 600").await;
    }
    assert_eq!(run.b.host.pids().len(), 3);
    run.ledger = Ledger::default();
    run.until_no_helper_lives().await;
}

#[tokio::test]
async fn background_commands_are_bounded_and_belong_to_their_run() {
    let run = Run::new();
    let starts = (0..BACKGROUND_MAX).map(|_| run.start("sleep 600"));
    let ids = futures::future::join_all(starts).await;
    let params = json!({"command": "sleep 600", "background": true});
    let out = run.call("execute_command", params).await;
    assert!(!out.ok && out.envelope.contains("run in the background already"), "{}", out.envelope);
    let other = Run { b: Run::new().b, ledger: Ledger::for_run("other") };
    let out = other.call("read_command_output", json!({"artifact_id": ids[0], "stop": true})).await;
    assert!(!out.ok, "{}", out.envelope);
    assert_eq!(run.b.host.pids().len(), BACKGROUND_MAX);
}

#[tokio::test]
async fn a_terminal_only_when_asked() {
    let b = Bench::new();
    let command = "test -t 0 && test -t 1 && echo terminal; stty size; echo $TERM";
    let out = b.call("execute_command", json!({"command": command, "pty": true})).await;
    assert!(out.envelope.contains("terminal\n40 120\nxterm-256color"), "{}", out.envelope);
    let out = b.sh(command).await;
    assert!(!out.envelope.contains("\nterminal\n"), "{}", out.envelope);
    // It is the command's own, and nothing can be typed into it from inside.
    let script = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSTI, b\"x\")";
    let command = format!("python3 -c '{script}'");
    let out = b.call("execute_command", json!({"command": command, "pty": true})).await;
    assert!(!out.ok && out.envelope.contains("not permitted"), "{}", out.envelope);
    // Colours and carriage returns are resolved, the limits hold.
    let params = json!({"command": "printf '\\033[31m10%%\\r\\033[0mdone'; sleep 60", "pty": true, "timeout": 4});
    let out = b.call("execute_command", params).await;
    assert!(out.envelope.contains("time limit 4 s reached"), "{}", out.envelope);
    assert!(out.envelope.contains("<output>\ndone"), "{}", out.envelope);
}

#[tokio::test]
async fn what_a_background_command_changes_is_undone() {
    let run = Run::new();
    let b = &run.b;
    b.write("a", "one\n");
    b.write("b", "one\n");
    b.write("mine", "one\n");
    // Each step waits for a file that the test makes.
    let step = |n: u8, what: &str| {
        format!("until [ -e go{n} ]; do sleep 0.02; done; {what}; touch done{n}")
    };
    let command = [step(1, "echo two > a"), step(2, "rm b"), step(3, "echo three > a")].join("; ");
    let id = run.start(&command).await;
    let go = async |n: u8| {
        b.write(&format!("go{n}"), "");
        while !b.path(&format!("done{n}")).exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    go(1).await;
    run.read(json!({"artifact_id": id})).await;
    let files = || {
        let list = b.host.undoable(&b.workspace).unwrap();
        list.into_iter().flat_map(|u| u.files).filter(|f| f.len() == 1).collect::<Vec<_>>()
    };
    assert_eq!(files(), ["a"], "up to the reading of its output");
    // What another call writes meanwhile is that call's.
    let params = json!({"path": "mine", "content": "two\n"});
    let Value::Object(params) = params else { unreachable!() };
    let call = ToolCall { id: "w".into(), name: "write_to_file".into(), params };
    let mut invocation = Invocation::new(call, b.workspace.clone());
    invocation.ledger = run.ledger.clone();
    assert!(b.host.run(invocation).await.ok);
    go(2).await;
    go(3).await;
    let end = run.read(json!({"artifact_id": id, "wait": 60})).await;
    assert!(end.contains("ended: exit code 0"), "{end}");
    assert_eq!(b.read("a"), "three\n");
    let undone = b.host.undo(&b.workspace, &Selector::Call("t".into())).await;
    assert!(undone.ok, "{}", undone.text);
    assert_eq!((b.read("a").as_str(), b.read("b").as_str()), ("one\n", "one\n"));
    assert_eq!(b.read("mine"), "two\n");
    let journal = std::fs::read_dir(b.dir.path().join("state/journal")).unwrap().next().unwrap();
    let left = std::fs::read_dir(journal.unwrap().path()).unwrap().flatten();
    let left: Vec<_> = left.map(|e| e.file_name()).collect();
    assert!(!left.iter().any(|n| n.to_string_lossy().starts_with("snapshot-")), "{left:?}");
}

/// Two commands at once had one place for the state before them.
#[tokio::test]
async fn commands_side_by_side_are_each_undone() {
    let run = Run::new();
    let b = &run.b;
    b.write("a", "one\n");
    b.write("b", "one\n");
    let sh = |id: &str, command: &str| {
        let mut invocation = b.invocation("execute_command", json!({"command": command}));
        invocation.call.id = id.into();
        b.host.run(invocation)
    };
    let first = "echo two > a; touch first; until [ -e second ]; do sleep 0.02; done";
    let second = "until [ -e first ]; do sleep 0.02; done; echo two > b; touch second";
    let (x, y) = tokio::join!(sh("x", first), sh("y", second));
    assert!(x.ok && y.ok, "{}{}", x.envelope, y.envelope);
    for (call, file) in [("x", "a"), ("y", "b")] {
        let list = b.host.undoable(&b.workspace).unwrap();
        let own = list.iter().find(|u| u.call == call).unwrap();
        assert!(own.files.iter().any(|f| f == file), "{call}: {:?}", own.files);
    }
}
