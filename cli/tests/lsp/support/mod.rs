//! The shim as Lapce drives it: over stdio, with real framing, strict about what comes back.
//!
//! Used by `cli/tests/lsp.rs` and, for the whole product, by `tests/tests/editor.rs`.

#![allow(
    clippy::allow_attributes,
    dead_code,
    unreachable_pub,
    reason = "shared by several test programs, each using a part"
)]

pub mod model;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use lapce_ai_tests::{HANG, TestHome};
use serde_json::{Value, json};

/// An answer: the result, or the error's code and message.
pub type Answer = Result<Value, (i64, String)>;

pub struct Editor {
    pub child: Child,
    stdin: Option<ChildStdin>,
    messages: Receiver<Value>,
    next_id: i64,
    answers: HashMap<i64, Answer>,
    /// The id that the last answer of all was to.
    pub last_answered: i64,
    /// Every notification that came, in order.
    pub notifications: Vec<(String, Value)>,
    /// Requests of the shim to the editor.
    pub requests: Vec<(String, Value)>,
    lapce: bool,
}

/// What Lapce 0.4.6 says about itself, as far as the shim looks at it.
pub fn lapce() -> Value {
    json!({
        "clientInfo": { "name": "Lapce-Stable", "version": "0.4.6" },
        "capabilities": {
            "window": { "workDoneProgress": true, "showMessage": {} },
            "workspace": { "symbol": {}, "configuration": false, "workspaceFolders": true },
            "experimental": {
                "serverStatusNotification": true,
                "commands": { "commands": ["rust-analyzer.runSingle", "rust-analyzer.debugSingle"] },
            },
        },
    })
}

pub fn uri(path: &Path) -> String {
    format!("file://{}", path.display())
}

pub fn at(file: &Path, line: u32, character: u32) -> Value {
    json!({
        "textDocument": { "uri": uri(file) },
        "position": { "line": line, "character": character },
    })
}

impl Editor {
    /// Starts the shim without a word.
    pub fn spawn(home: &TestHome) -> Self {
        Self::over(home.command("lapce-ai-lsp").arg("--stdio"))
    }

    /// Starts `command` and talks to it.
    pub fn over(command: &mut std::process::Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("lapce-ai-lsp starts");
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("piped");
        let (tx, messages) = channel();
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            while let Some(message) = read(&mut stdout) {
                if tx.send(message).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            stdin,
            messages,
            next_id: 0,
            answers: HashMap::new(),
            last_answered: -1,
            notifications: Vec::new(),
            requests: Vec::new(),
            lapce: false,
        }
    }

    /// Starts the shim in `root` as Lapce does, with the volt's settings.
    pub fn start(home: &TestHome, root: &Path, settings: &Value) -> Self {
        let mut editor = Self::spawn(home);
        editor.initialize(root, settings, lapce()).expect("initialize");
        editor
    }

    pub fn initialize(&mut self, root: &Path, settings: &Value, mut params: Value) -> Answer {
        let folder = format!("{}/", uri(root));
        self.lapce = params.get("clientInfo").is_some();
        params["processId"] = json!(std::process::id());
        params["rootUri"] = json!(folder);
        params["workspaceFolders"] = json!([{ "uri": folder, "name": folder }]);
        params["initializationOptions"] = settings.clone();
        let result = self.request("initialize", &params);
        self.notify("initialized", &json!({}));
        result
    }

    /// Writes bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(bytes).expect("the shim reads");
        stdin.flush().expect("the shim reads");
    }

    pub fn send(&mut self, message: &Value) {
        let body = message.to_string();
        self.raw(format!("Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    }

    pub fn notify(&mut self, method: &str, params: &Value) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    /// Sends a request and returns its id.
    pub fn begin(&mut self, method: &str, params: &Value) -> i64 {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        id
    }

    /// Waits for the answer to `id`.
    #[track_caller]
    pub fn answer(&mut self, id: i64) -> Answer {
        loop {
            if let Some(answer) = self.answers.remove(&id) {
                return answer;
            }
            self.pump();
        }
    }

    #[track_caller]
    pub fn request(&mut self, method: &str, params: &Value) -> Answer {
        let id = self.begin(method, params);
        self.answer(id)
    }

    /// Takes one message in, waiting for it.
    #[track_caller]
    fn pump(&mut self) {
        let message = self.messages.recv_timeout(HANG).expect("the shim is silent, or has ended");
        self.take(&message);
    }

    /// Waits until `found` in what has come so far.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut found: impl FnMut(&mut Self) -> bool) {
        let deadline = std::time::Instant::now() + HANG;
        while !found(self) {
            assert!(
                std::time::Instant::now() < deadline,
                "waited in vain for {what}: {:#?}",
                self.notifications
            );
            if let Ok(message) = self.messages.recv_timeout(Duration::from_millis(20)) {
                self.take(&message);
            }
        }
    }

    /// Judges a message as Lapce's reader does, and files it.
    fn take(&mut self, message: &Value) {
        assert_eq!(message["jsonrpc"], "2.0", "{message}");
        let id = message.get("id");
        if let Some(method) = message.get("method").and_then(Value::as_str) {
            // Without params Lapce's reader thread dies.
            let params = message.get("params").unwrap_or_else(|| panic!("no params: {message}"));
            assert!(params.is_object() || params.is_array(), "{message}");
            match id {
                Some(id) => {
                    assert!(
                        method == "window/workDoneProgress/create"
                            || !self.lapce
                                && matches!(method, "window/showDocument" | "workspace/applyEdit"),
                        "this editor cannot answer {method}"
                    );
                    self.requests.push((method.to_owned(), params.clone()));
                    self.send(
                        &json!({ "jsonrpc": "2.0", "id": id, "result": { "applied": true } }),
                    );
                }
                None => self.notifications.push((method.to_owned(), params.clone())),
            }
            return;
        }
        let id = id.and_then(Value::as_i64);
        let answer = match message.get("error") {
            Some(error) => {
                let code = error["code"].as_i64().expect("a code");
                Err((code, error["message"].as_str().expect("a message").to_owned()))
            }
            None => Ok(message.get("result").expect("a result").clone()),
        };
        // An answer to nobody: an error about an unreadable message.
        let id = id.unwrap_or(-1);
        self.last_answered = id;
        assert!(
            id < 0 || self.answers.insert(id, answer.clone()).is_none(),
            "answered twice: {id}"
        );
        if id < 0 {
            self.answers.insert(id, answer);
        }
    }

    /// Opens a document, version 1.
    pub fn open(&mut self, file: &Path, language: &str, text: &str) {
        self.notify(
            "textDocument/didOpen",
            &json!({ "textDocument": {
                "uri": uri(file), "languageId": language, "version": 1, "text": text,
            }}),
        );
    }

    /// Texts of the popups so far.
    pub fn popups(&self) -> Vec<String> {
        self.notifications
            .iter()
            .filter(|(method, _)| method == "window/showMessage")
            .map(|(_, params)| params["message"].as_str().expect("a text").to_owned())
            .collect()
    }

    /// `begin`, `report` and `end` of the progress displays so far: kind and message.
    pub fn progress(&self) -> Vec<(String, String)> {
        self.notifications
            .iter()
            .filter(|(method, _)| method == "$/progress")
            .map(|(_, params)| {
                let text = |key: &str| params["value"][key].as_str().unwrap_or_default().to_owned();
                (text("kind"), text("message"))
            })
            .collect()
    }

    /// Closes stdin, as quitting Lapce does, and waits for the end.
    pub fn quit(mut self) -> Option<i32> {
        self.stdin = None;
        lapce_ai_tests::wait(&mut self.child)
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One message; `None` at the end. Fails for framing that Lapce could not read.
fn read(stdout: &mut impl BufRead) -> Option<Value> {
    let mut length = None;
    loop {
        let mut line = String::new();
        if stdout.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").expect("a header");
        assert!(name.eq_ignore_ascii_case("content-length"), "{line}");
        length = Some(value.parse::<usize>().expect("a length"));
    }
    let mut body = vec![0; length.expect("a length")];
    stdout.read_exact(&mut body).ok()?;
    Some(serde_json::from_slice(&body).expect("JSON"))
}

/// The one file that an edit opens; it must not change anything.
#[track_caller]
pub fn opened(edit: &Value) -> PathBuf {
    let changes = edit["changes"].as_object().unwrap_or_else(|| panic!("no changes in {edit}"));
    assert_eq!(changes.len(), 1, "{edit}");
    let (uri, edits) = changes.iter().next().expect("one");
    assert_eq!(edits, &json!([]), "the edit must be empty");
    PathBuf::from(uri.strip_prefix("file://").expect("a file"))
}
