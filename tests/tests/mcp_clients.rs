//! `lapce-ai mcp serve` asked by clients that are not ours: the protocol's Rust SDK, and the
//! command line of its inspector (`cargo xtask test mcp` fetches that; without it the test
//! fails).

#[expect(dead_code, reason = "the other tests use the rest")]
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lapce_ai_tests::{HANG, TestHome, run, wait_for};
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, ClientRequest,
    ProgressNotificationParam,
};
use rmcp::service::{NotificationContext, PeerRequestOptions, RunningService};
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::{ClientHandler, RoleClient, ServiceError, ServiceExt as _};
use serde_json::{Value, json};
use support::{index, repository};
use tokio::sync::mpsc;

/// A client that keeps the reports of progress.
struct Client(mpsc::UnboundedSender<ProgressNotificationParam>);

impl ClientHandler for Client {
    async fn on_progress(
        &self,
        params: ProgressNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        let _ = self.0.send(params);
    }
}

struct Connection {
    service: RunningService<RoleClient, Client>,
    progress: mpsc::UnboundedReceiver<ProgressNotificationParam>,
    server: tokio::process::Child,
}

impl Connection {
    async fn open(home: &TestHome, root: &Path, tools: &str) -> Self {
        let mut command = home.command("lapce-ai");
        command.args(["mcp", "serve", "--tools", tools]).current_dir(root);
        let mut command = tokio::process::Command::from(command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut server = command.spawn().expect("lapce-ai starts");
        let pipes = (server.stdout.take().unwrap(), server.stdin.take().unwrap());
        let (sender, progress) = mpsc::unbounded_channel();
        let transport = AsyncRwTransport::new_client(pipes.0, pipes.1);
        let service = Client(sender).serve(transport).await.expect("a handshake");
        Self { service, progress, server }
    }

    async fn call(&self, tool: &str, arguments: Value) -> Result<CallToolResult, ServiceError> {
        let call = self.service.call_tool(request(tool, arguments));
        tokio::time::timeout(HANG, call).await.expect("an answer")
    }

    /// Ends it as a client does: by closing the pipes.
    async fn close(mut self) {
        self.service.cancel().await.unwrap();
        let status = tokio::time::timeout(HANG, self.server.wait()).await.expect("it ends");
        assert!(status.unwrap().success());
    }
}

fn request(tool: &str, arguments: Value) -> CallToolRequestParams {
    let mut params = CallToolRequestParams::new(tool.to_owned());
    if let Value::Object(map) = arguments {
        params.arguments = Some(map);
    }
    params
}

fn text(result: &CallToolResult) -> String {
    serde_json::to_string(&result.content).unwrap()
}

#[tokio::test]
async fn the_rust_sdk_lists_searches_and_is_refused() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    index(&home, &root);
    let client = Connection::open(&home, &root, "all").await;
    let info = client.service.peer_info().unwrap();
    assert_eq!(info.server_info.as_ref().unwrap().name, "lapce-ai");
    let tools = client.service.list_all_tools().await.unwrap();
    let search = tools.iter().find(|t| t.name == "codebase_search").unwrap();
    assert_eq!(search.input_schema["required"], json!(["query"]), "{search:?}");
    assert_eq!(search.annotations.as_ref().unwrap().read_only_hint, Some(true));

    let words = json!({"query": "exponential backoff between attempts"});
    let found = client.call("codebase_search", words).await.unwrap();
    assert!(found.is_error != Some(true) && text(&found).contains("src/retry.rs"), "{found:?}");

    // Asked about, and nobody to ask: an error with the way out, and nothing happened.
    let refused = client.call("execute_command", json!({"command": "touch made"})).await.unwrap();
    assert_eq!(refused.is_error, Some(true));
    assert!(text(&refused).contains("lapce-ai rules allow execute_command"), "{refused:?}");
    home.cli(["rules", "deny", "write_to_file"]).ok();
    let denied = client.call("write_to_file", json!({"path": "made", "content": "x"})).await;
    let denied = denied.unwrap();
    assert!(denied.is_error == Some(true) && text(&denied).contains("denies it"), "{denied:?}");
    assert!(!root.join("made").exists());
    client.close().await;
    home.assert_nothing_left();
}

#[tokio::test]
async fn bad_input_is_an_error_and_the_server_goes_on() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    let client = Connection::open(&home, &root, "read").await;
    // Tools that are not offered cannot be called either.
    for tool in ["write_to_file", "execute_command", "use_mcp_tool", "no such\u{1b}[2J", ""] {
        let error = client.call(tool, json!({})).await.unwrap_err();
        let ServiceError::McpError(error) = error else { panic!("{tool}: {error}") };
        assert!(error.message.contains("there is no tool"), "{error:?}");
        assert!(!error.message.contains('\u{1b}'), "{error:?}");
    }
    for arguments in [json!({}), json!({"path": 7}), json!({"path": ["a"], "odd": {}})] {
        let wrong = client.call("read_file", arguments).await.unwrap();
        assert!(wrong.is_error == Some(true) && text(&wrong).contains("read_file"), "{wrong:?}");
    }
    let outside = client.call("read_file", json!({"path": "/etc/passwd"})).await.unwrap();
    assert!(outside.is_error == Some(true) && !text(&outside).contains("root:"), "{outside:?}");
    let whole = client.call("read_file", json!({"path": "README.md"})).await.unwrap();
    assert!(text(&whole).contains("A small shop"), "{whole:?}");
    client.close().await;
    home.assert_nothing_left();
}

#[tokio::test]
async fn progress_is_told_and_a_cancelled_call_leaves_nothing() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    home.cli(["rules", "allow", "execute_command"]).ok();
    let mut client = Connection::open(&home, &root, "all").await;
    let command = "echo first; sleep 1000";
    let params = request("execute_command", json!({"command": command}));
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
    let options = PeerRequestOptions::no_options();
    let handle = client.service.send_cancellable_request(request, options).await.unwrap();
    let told = tokio::time::timeout(HANG, client.progress.recv()).await.expect("progress");
    let told = told.unwrap();
    assert_eq!(told.progress_token, handle.progress_token);
    assert_eq!((told.message.as_deref(), told.total), (Some("first"), None));
    let running = || home.processes().iter().any(|p| p.command.contains("sleep 1000"));
    assert!(running());
    handle.cancel(Some("not wanted any more".into())).await.unwrap();
    while running() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The connection is as good as before.
    let whole = client.call("read_file", json!({"path": "README.md"})).await.unwrap();
    assert!(text(&whole).contains("A small shop"), "{whole:?}");
    client.close().await;
    home.assert_nothing_left();
}

#[tokio::test]
async fn a_client_that_vanishes_takes_its_calls_along() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    home.cli(["rules", "allow", "execute_command"]).ok();
    let mut client = Connection::open(&home, &root, "all").await;
    let params = request("execute_command", json!({"command": "echo up; sleep 1000"}));
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
    let options = PeerRequestOptions::no_options();
    let _handle = client.service.send_cancellable_request(request, options).await.unwrap();
    tokio::time::timeout(HANG, client.progress.recv()).await.expect("progress").unwrap();
    client.close().await;
    wait_for("the command to end", || {
        !home.processes().iter().any(|p| p.command.contains("sleep 1000"))
    });
    home.assert_nothing_left();
}

/// `mcp-inspector --cli` with a method, on `lapce-ai mcp serve` in `root`.
fn inspector(home: &TestHome, root: &Path, args: &[&str]) -> lapce_ai_tests::Ran {
    let dir = std::env::var_os("LAPCE_AI_TEST_MCP").map(PathBuf::from);
    let dir = dir.expect("LAPCE_AI_TEST_MCP names no folder; run `cargo xtask test mcp`");
    let program = dir.join("node/node_modules/@modelcontextprotocol/inspector/cli/build/cli.js");
    assert!(program.is_file(), "{} is missing", program.display());
    let mut command = Command::new("node");
    command.arg(program).arg("--cli").env("LAPCE_AI_HOME", home.path()).current_dir(root);
    command.env("LAPCE_AI_BIN_DIR", home.bin_dir()).env("HOME", home.path().join("h"));
    // It hands only named variables to the server.
    for name in ["LAPCE_AI_HOME", "LAPCE_AI_BIN_DIR"] {
        let value = if name.ends_with("HOME") { home.path() } else { home.bin_dir() };
        command.arg("-e").arg(format!("{name}={}", value.display()));
    }
    command.arg(home.bin_dir().join("lapce-ai")).args(["mcp", "serve", "--tools", "all"]);
    command.args(args);
    run(command, b"")
}

#[test]
#[ignore = "needs the inspector from npm; `cargo xtask test mcp` runs it"]
fn the_inspector_of_the_protocol_speaks_with_us() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    index(&home, &root);
    let listed = inspector(&home, &root, &["--method", "tools/list"]).ok().json();
    let names: Vec<_> = listed["tools"].as_array().unwrap().iter().map(|t| &t["name"]).collect();
    assert!(names.contains(&&json!("codebase_search")), "{names:?}");
    let call = |tool: &str, argument: &str| {
        let args = ["--method", "tools/call", "--tool-name", tool, "--tool-arg", argument];
        inspector(&home, &root, &args)
    };
    let found = call("codebase_search", "query=total price with tax").ok().json();
    assert!(found.to_string().contains("web/cart.ts"), "{found}");
    let refused = call("execute_command", "command=touch made").ok().json();
    assert_eq!(refused["isError"], true, "{refused}");
    assert!(refused.to_string().contains("lapce-ai rules allow"), "{refused}");
    assert!(!root.join("made").exists());
    let wrong = call("no_such_tool", "a=b");
    assert!(wrong.code != Some(0) && wrong.stderr.contains("there is no tool"), "{wrong}");
    home.assert_nothing_left();
}
