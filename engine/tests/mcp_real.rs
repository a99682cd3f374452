//! Real MCP servers from npm and PyPI, in the real sandbox. `cargo xtask test mcp` fetches
//! them, names their folder in `LAPCE_AI_TEST_MCP` and runs these; without it they fail.

mod support;

use std::path::PathBuf;

use lapce_ai_ipc::wire::engine::{McpOrder, McpServer, ToolCall, ToolReply};
use serde_json::{Value, json};
use support::{Fixture, need_tool_helper, within};

fn servers() -> PathBuf {
    std::env::var_os("LAPCE_AI_TEST_MCP")
        .map(PathBuf::from)
        .expect("LAPCE_AI_TEST_MCP names no folder; run `cargo xtask test mcp`")
}

async fn fixture() -> Fixture {
    need_tool_helper();
    let dir = servers().display().to_string();
    let node = |package: &str| {
        format!("{dir}/node/node_modules/@modelcontextprotocol/{package}/dist/index.js")
    };
    Fixture::new(&format!(
        "[mcp.servers.everything]\ncommand = \"node\"\nargs = [{:?}]\nread = [{dir:?}]\nworkspace = \"none\"\n\
         env = {{ SECRET = {{ env = \"PATH\" }} }}\n\
         [mcp.servers.files]\ncommand = \"node\"\nargs = [{:?}, \"${{workspace}}\"]\nread = [{dir:?}]\nworkspace = \"write\"\n\
         [mcp.servers.git]\ncommand = \"python3\"\nargs = [\"-m\", \"mcp_server_git\"]\nread = [{dir:?}]\nenv = {{ PYTHONPATH = \"{dir}/py\" }}\n",
        node("server-everything"),
        node("server-filesystem"),
    ))
    .await
}

async fn call(fixture: &Fixture, server: &str, tool: &str, arguments: Value) -> ToolReply {
    let request = ToolCall {
        root: fixture.root(),
        name: "use_mcp_tool".into(),
        json: json!({"server_name": server, "tool_name": tool, "arguments": arguments}).to_string(),
        approved: true,
    };
    within(fixture.client.tool(request).finish()).await.unwrap()
}

async fn test(fixture: &Fixture, name: &str) -> McpServer {
    let order = McpOrder::Test { name: name.into() };
    within(fixture.client.mcp(fixture.root(), order)).await.unwrap().servers.remove(0)
}

#[tokio::test]
#[ignore = "needs servers from npm; `cargo xtask test mcp` runs it"]
async fn everything_the_protocol_has() {
    let fixture = fixture().await;
    let server = test(&fixture, "everything").await;
    assert!(server.tools.iter().any(|t| t.name == "echo"), "{server:?}");
    assert!(!server.resources.is_empty() && !server.prompts.is_empty(), "{server:?}");
    let sum = call(&fixture, "everything", "get-sum", json!({"a": 2, "b": 40})).await;
    assert!(sum.ok && sum.text.contains("42"), "{sum:?}");
    let picture = call(&fixture, "everything", "get-tiny-image", json!({})).await;
    assert!(picture.text.contains("[image of type image/png"), "{picture:?}");
    let wrong = call(&fixture, "everything", "get-sum", json!({"a": "x"})).await;
    assert!(!wrong.ok, "{wrong:?}");
    // Its environment is its own, and what is secret does not come back.
    let env = call(&fixture, "everything", "get-env", json!({})).await;
    assert!(
        env.ok && env.text.contains("[key]") && !env.text.contains("CARGO_MANIFEST_DIR"),
        "{env:?}"
    );
    let uri = &server.resources[0].name;
    let request = ToolCall {
        root: fixture.root(),
        name: "access_mcp_resource".into(),
        json: json!({"server_name": "everything", "uri": uri}).to_string(),
        approved: true,
    };
    let resource = within(fixture.client.tool(request).finish()).await.unwrap();
    assert!(resource.ok && resource.text.len() > 50, "{resource:?}");
    let order = McpOrder::Prompt {
        server: "everything".into(),
        prompt: "args-prompt".into(),
        json: json!({"city": "Ulm"}).to_string(),
    };
    let prompt = within(fixture.client.mcp(fixture.root(), order)).await.unwrap();
    assert!(prompt.text.contains("Ulm"), "{prompt:?}");
    fixture.engine.mcp.stop().await;
}

#[tokio::test]
#[ignore = "needs servers from npm; `cargo xtask test mcp` runs it"]
async fn the_file_server_stays_in_its_fence() {
    let fixture = fixture().await;
    fixture.write("src/a.txt", "hello\n");
    fixture.write(".git/config", "[core]\n");
    let path = |p: &str| fixture.root.join(p).display().to_string();
    let read = call(&fixture, "files", "read_text_file", json!({"path": path("src/a.txt")})).await;
    assert!(read.ok && read.text.contains("hello"), "{read:?}");
    let write = |p: &str| json!({"path": path(p), "content": "x"});
    let inside = call(&fixture, "files", "write_file", write("src/b.txt")).await;
    assert!(inside.ok, "{inside:?}");
    assert_eq!(fixture.read("src/b.txt"), "x");
    for protected in [".git/config", ".envrc", "top.txt"] {
        let reply = call(&fixture, "files", "write_file", write(protected)).await;
        assert!(!reply.ok, "{protected}: {reply:?}");
    }
    assert_eq!(fixture.read(".git/config"), "[core]\n");
    fixture.engine.mcp.stop().await;
}

#[tokio::test]
#[ignore = "needs a server from PyPI; `cargo xtask test mcp` runs it"]
async fn the_git_server_reads_the_workspace() {
    let fixture = fixture().await;
    fixture.write("a.txt", "one\n");
    fixture.git();
    let log = call(&fixture, "git", "git_log", json!({"repo_path": fixture.root()})).await;
    assert!(log.ok && log.text.contains("first"), "{log:?}");
    // The workspace is read only for it.
    let add = json!({"repo_path": fixture.root(), "branch_name": "new"});
    let branch = call(&fixture, "git", "git_create_branch", add).await;
    assert!(!branch.ok, "{branch:?}");
    fixture.engine.mcp.stop().await;
}

#[tokio::test]
#[ignore = "needs a server from npm; `cargo xtask test mcp` runs it"]
async fn a_server_over_http() {
    need_tool_helper();
    let port = support::scripted::closed_port();
    let program =
        servers().join("node/node_modules/@modelcontextprotocol/server-everything/dist/index.js");
    let mut child = tokio::process::Command::new("node")
        .arg(program)
        .arg("streamableHttp")
        .env("PORT", port.to_string())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    within(async {
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    let fixture =
        Fixture::new(&format!("[mcp.servers.web]\nurl = \"http://127.0.0.1:{port}/mcp\"\n")).await;
    let sum = call(&fixture, "web", "get-sum", json!({"a": 2, "b": 40})).await;
    assert!(sum.ok && sum.text.contains("42"), "{sum:?}");
    assert_eq!(test(&fixture, "web").await.kind, "http");
    child.kill().await.unwrap();
    let gone = call(&fixture, "web", "get-sum", json!({"a": 2, "b": 40})).await;
    assert!(!gone.ok && gone.text.contains("it cannot be reached"), "{gone:?}");
    fixture.engine.mcp.stop().await;
}

/// The sections of the catalogue whose programs need no account to say what they can do:
/// as a user would add them, but for where the program lies.
#[tokio::test]
#[ignore = "needs servers from npm and PyPI; `cargo xtask test mcp` runs it"]
async fn programs_of_the_catalogue_say_what_they_can_do() {
    const CATALOGUE: &str = include_str!("../../cli/src/commands/mcp/catalogue.toml");
    need_tool_helper();
    let dir = servers();
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().display();
    std::fs::write(
        folder.path().join("reader.kubeconfig"),
        "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: \"https://127.0.0.1:6443\"}}]\n\
         contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {token: none}}]\ncurrent-context: c\n",
    )
    .unwrap();
    let catalogue: toml::Table = CATALOGUE.parse().unwrap();
    let module = |path: &str| vec![dir.join("node/node_modules").join(path).display().to_string()];
    let mut tried = Vec::new();
    for (name, entry) in &catalogue {
        if entry.get("tried").is_none() {
            continue;
        }
        let (program, before, tool) = match name.as_str() {
            "filesystem" => (
                "node",
                module("@modelcontextprotocol/server-filesystem/dist/index.js"),
                "read_text_file",
            ),
            "everything" => {
                ("node", module("@modelcontextprotocol/server-everything/dist/index.js"), "echo")
            }
            "memory" => {
                ("node", module("@modelcontextprotocol/server-memory/dist/index.js"), "read_graph")
            }
            "notion-local" => {
                ("node", module("@notionhq/notion-mcp-server/bin/cli.mjs"), "API-post-search")
            }
            "kubernetes" => ("node", module("kubernetes-mcp-server/bin/index.js"), "pods_list"),
            "playwright" => ("node", module("@playwright/mcp/cli.js"), "browser_navigate"),
            "git" => ("python3", vec!["-m".into(), "mcp_server_git".into()], "git_log"),
            "fetch" => ("python3", vec!["-m".into(), "mcp_server_fetch".into()], "fetch"),
            other => panic!("{other} says that it was tried, and is not"),
        };
        let mut section = entry["server"].as_table().unwrap().clone();
        let list = |section: &toml::Table, key: &str| {
            section.get(key).and_then(|v| v.as_array().cloned()).unwrap_or_default()
        };
        let args: Vec<toml::Value> =
            before.into_iter().map(toml::Value::from).chain(list(&section, "args")).collect();
        section.insert("command".into(), program.into());
        section.insert("args".into(), args.into());
        let mut read = list(&section, "read");
        read.push(dir.display().to_string().into());
        section.insert("read".into(), read.into());
        let env = section.entry("env").or_insert_with(|| toml::Table::new().into());
        let env = env.as_table_mut().unwrap();
        // A made-up key: a variable that every engine has.
        for (_, value) in env.iter_mut().filter(|(_, value)| value.is_table()) {
            *value = toml::Table::from_iter([("env".to_owned(), "PATH".into())]).into();
        }
        if program == "python3" {
            env.insert("PYTHONPATH".into(), dir.join("py").display().to_string().into());
        }
        // Folders that the user would make.
        let text = toml::Table::from_iter([("s".to_owned(), section.into())]).to_string();
        let text = text.replace("/etc/kubernetes", &own.to_string());
        let text = text.replace("/srv/mcp-memory", &own.to_string());
        let text = text.replace("[s", "[mcp.servers.s");
        let fixture = Fixture::new(&text).await;
        fixture.write("a.txt", "one\n");
        fixture.git();
        let server = test(&fixture, "s").await;
        assert!(server.tools.iter().any(|t| t.name == tool && t.allowed), "{name}: {server:?}");
        assert!(server.layers.iter().any(|layer| layer == "seccomp"), "{name}: {server:?}");
        fixture.engine.mcp.stop().await;
        tried.push(name.as_str());
    }
    assert!(tried.len() >= 8, "{tried:?}");
}

#[tokio::test]
#[ignore = "needs servers from npm; `cargo xtask test mcp` runs it"]
async fn prompts_and_resources_that_the_user_types() {
    let fixture = fixture().await;
    let server = test(&fixture, "everything").await;
    let expand = async |typed: String| {
        let order = McpOrder::Expand { typed };
        within(fixture.client.mcp(fixture.root(), order)).await.unwrap()
    };
    let prompt = expand("/mcp:everything:args-prompt city=Ulm".into()).await;
    assert!(prompt.text.contains("Ulm") && prompt.attached.is_empty(), "{prompt:?}");
    let uri = &server.resources[0].name;
    let asked = expand(format!("what is in @everything:{uri}?")).await;
    assert_eq!(asked.attached[0].name, format!("everything:{uri}"));
    assert!(asked.attached[0].text.len() > 50, "{asked:?}");
    fixture.engine.mcp.stop().await;
}
