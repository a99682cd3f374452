//! The built module under Lapce's host. `LAPCE_AI_WASM` names the module (xtask sets
//! it after building); without it the tests fail and say so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use lapce_ai_volt_host_test::{Compiled, Editor, LoadedVolt, RealProbe, Sent};
use serde_json::{Value, json};

const VERSION: &str = "0.1.0";
/// The budget for the published module.
const MAX_MODULE: u64 = 1 << 20;

fn module() -> PathBuf {
    std::env::var_os("LAPCE_AI_WASM")
        .map(PathBuf::from)
        .expect("set LAPCE_AI_WASM to the built lapce-ai.wasm (`cargo xtask volt` builds it)")
}

fn compiled() -> &'static Compiled {
    static COMPILED: OnceLock<Compiled> = OnceLock::new();
    COMPILED.get_or_init(|| Compiled::from_file(&module()).unwrap())
}

/// An installed volt, and a folder for programs on PATH.
struct Installed {
    dir: tempfile::TempDir,
}

impl Installed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["volt", "path", "home"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a program that prints `line` at `place`.
    fn program(&self, place: &str, script: &str) -> PathBuf {
        let file = self.path(place);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        // Not by this process: what another test starts meanwhile would hold it open for
        // writing, and then it cannot be started.
        let draft = file.with_extension("draft");
        fs::write(&draft, format!("#!/bin/sh\n{script}\n")).unwrap();
        assert!(Command::new("install").args([&draft, &file]).status().unwrap().success());
        fs::remove_file(draft).unwrap();
        file
    }

    fn load(&self) -> LoadedVolt {
        self.load_with(RealProbe { path: self.path("path").display().to_string() })
    }

    fn load_with(&self, editor: impl Editor) -> LoadedVolt {
        let (path, home) = (self.path("path"), self.path("home"));
        let env = [("PATH", path.to_str().unwrap()), ("HOME", home.to_str().unwrap())];
        LoadedVolt::load(compiled(), &self.path("volt"), &env, editor).unwrap()
    }

    fn run(&self, settings: &Value) -> Sent {
        let mut volt = self.load();
        volt.initialize(settings).unwrap();
        let sent = volt.sent();
        assert_eq!(sent.unreadable, Vec::<String>::new());
        sent
    }
}

fn says(version: &str) -> String {
    format!("[ \"$1\" = --version ] && echo lapce-ai-lsp {version}")
}

fn uri(path: &Path) -> String {
    format!("file://{}", path.display())
}

#[test]
fn the_module_is_within_its_size() {
    let size = fs::metadata(module()).unwrap().len();
    assert!(size <= MAX_MODULE, "{size} bytes");
}

#[test]
fn its_own_folder_comes_first_and_the_server_gets_the_settings() {
    let installed = Installed::new();
    let bundled = installed.program("volt/bin/lapce-ai-lsp", &says(VERSION));
    installed.program("path/lapce-ai-lsp", &says(VERSION));
    let sent = installed.run(&json!({ "index": { "auto": false }, "search": { "limit": 7 } }));

    assert_eq!(
        sent.requests_of("host/executeProcess"),
        [&json!({ "program": bundled, "args": ["--version"] })]
    );
    assert_eq!(
        sent.requests_of("host/startLspServer"),
        [&json!({
            "serverUri": uri(&bundled),
            "serverArgs": ["--stdio"],
            "documentSelector": [{ "scheme": "file", "pattern": "**/*" }],
            "options": {
                "index.auto": false, "search.enabled": true, "search.limit": 7,
                "references.limit": 12, "ask.enabled": true, "actions.enabled": true,
                "completion.enabled": true,
            },
        })]
    );
    assert_eq!(sent.popups(), Vec::<&str>::new());
    assert_eq!(
        sent.replies,
        [json!({ "jsonrpc": "2.0", "id": 0, "result": { "capabilities": {} } })]
    );
}

#[test]
fn path_is_next_through_a_urn() {
    let installed = Installed::new();
    installed.program("path/lapce-ai-lsp", &says(VERSION));
    let sent = installed.run(&Value::Null);
    let started = sent.requests_of("host/startLspServer");
    assert_eq!(started.len(), 1);
    assert_eq!(started[0]["serverUri"], "urn:lapce-ai-lsp");
    assert_eq!(started[0]["options"]["index.auto"], true);
}

#[test]
fn the_users_own_folders_are_last() {
    let installed = Installed::new();
    installed.program("path/lapce-ai-lsp", &says("9.9.9"));
    let own = installed.program("home/.cargo/bin/lapce-ai-lsp", &says("0.1.7"));
    let sent = installed.run(&Value::Null);
    assert_eq!(sent.requests_of("host/startLspServer")[0]["serverUri"], uri(&own));
}

#[test]
fn a_missing_program_is_said_once_and_nothing_is_started() {
    let installed = Installed::new();
    let mut volt = installed.load();
    volt.initialize(&Value::Null).unwrap();
    volt.initialize(&Value::Null).unwrap();
    let sent = volt.sent();
    assert_eq!(sent.requests_of("host/startLspServer").len(), 0);
    let popups = sent.popups();
    assert_eq!(popups.len(), 1, "{popups:?}");
    assert!(popups[0].contains("lapce-ai-lsp was not found"), "{popups:?}");
    assert!(popups[0].contains("cargo xtask volt"), "{popups:?}");
}

#[test]
fn a_wrong_version_is_named() {
    let installed = Installed::new();
    installed.program("path/lapce-ai-lsp", &says("9.9.9"));
    let sent = installed.run(&Value::Null);
    assert_eq!(sent.requests_of("host/startLspServer").len(), 0);
    assert_eq!(sent.popups().len(), 1);
    assert!(sent.popups()[0].contains("lapce-ai-lsp is version 9.9.9, but this plugin is 0.1.0"));
}

#[test]
fn a_program_that_fails_is_quoted() {
    let installed = Installed::new();
    installed.program("path/lapce-ai-lsp", "echo 'version GLIBC_2.99 not found' >&2; exit 1");
    let sent = installed.run(&Value::Null);
    assert_eq!(sent.requests_of("host/startLspServer").len(), 0);
    assert!(sent.popups()[0].contains("version GLIBC_2.99 not found"), "{:?}", sent.popups());
}

#[test]
fn bad_settings_are_logged_and_the_server_still_starts() {
    for bad in
        [json!([1, 2]), json!("x"), json!(7), json!({ "index": "no", "search": { "limit": {} } })]
    {
        let installed = Installed::new();
        installed.program("path/lapce-ai-lsp", &says(VERSION));
        let sent = installed.run(&bad);
        let started = sent.requests_of("host/startLspServer");
        assert_eq!(started.len(), 1, "{bad}");
        assert_eq!(started[0]["options"]["search.limit"], 20, "{bad}");
        assert!(
            sent.notifications.iter().any(|(method, params)| method == "window/logMessage"
                && params["message"].as_str().unwrap().contains("setting")),
            "{bad}"
        );
    }
}

/// Garbage neither traps the module nor keeps the real messages from being handled.
#[test]
fn garbage_is_tolerated() {
    let installed = Installed::new();
    installed.program("path/lapce-ai-lsp", &says(VERSION));
    let mut volt = installed.load();
    let deep = "[".repeat(200_000);
    let long = format!("{{\"method\":\"x\",\"params\":\"{}\"}}", "a".repeat(9 << 20));
    for line in [
        &b""[..],
        b"nonsense",
        b"\xff\xfe\x00{}",
        b"{\"jsonrpc\":\"2.0\",\"id\":",
        b"{\"id\":{},\"method\":[],\"params\":null}",
        b"{\"id\":5,\"result\":{}}",
        b"[]",
        deep.as_bytes(),
        long.as_bytes(),
    ] {
        volt.send_line(line).unwrap();
    }
    assert!(volt.sent().requests.is_empty());
    volt.send(&json!({ "jsonrpc": "2.0", "id": 9, "method": "no/such", "params": {} })).unwrap();
    assert_eq!(volt.sent().replies[0]["error"]["code"], -32601);
    volt.initialize(&Value::Null).unwrap();
    assert_eq!(volt.sent().requests_of("host/startLspServer").len(), 1);
}

/// An editor whose answers are not what the protocol says.
struct Odd(Value);

impl Editor for Odd {
    fn request(&mut self, _: &str, _: &Value) -> Option<Result<Value, String>> {
        (!self.0.is_null()).then(|| Ok(self.0.clone()))
    }
}

#[test]
fn odd_answers_end_in_a_message_and_not_in_a_trap() {
    for answer in [Value::Null, json!([]), json!({ "success": "yes", "stdout": "lapce-ai-lsp" })] {
        let installed = Installed::new();
        let mut volt = installed.load_with(Odd(answer.clone()));
        volt.initialize(&Value::Null).unwrap();
        assert_eq!(volt.sent().popups().len(), 1, "{answer}");
    }
}
