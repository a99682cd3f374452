//! What the user grants to commands, asked for over a real ring: a network by a rule or by an
//! answer, secrets by a setting. A repository grants nothing.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use lapce_ai_ipc::wire::engine::{Decision, Event, ToolCall};
use serde_json::{Value, json};
use support::{Fixture, need_tool_helper, within};

/// A server of this machine that answers every request with `served`.
fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nserved\n",
            );
        }
    });
    port
}

/// How a command ended.
struct Reply {
    ok: bool,
    text: String,
}

/// Runs a command; what is asked is answered with `decision`. Returns what was asked.
async fn sh(fixture: &Fixture, params: &Value, decision: Decision) -> (Vec<String>, Reply) {
    within(async {
        let mut call = fixture.client.tool(ToolCall {
            root: fixture.root(),
            name: "execute_command".into(),
            json: params.to_string(),
            approved: false,
        });
        let mut asked = Vec::new();
        while let Some(event) = call.next().await {
            if let Event::Approval(question) = event {
                asked.push(question.detail.clone());
                fixture.answer(&question.approval_id, decision.clone(), "").await;
            }
        }
        let reply = match call.finish().await {
            Ok(reply) => Reply { ok: reply.ok, text: reply.text },
            Err(error) => Reply { ok: false, text: format!("{error:?}") },
        };
        (asked, reply)
    })
    .await
}

fn rules(fixture: &Fixture, text: &str) {
    let file = fixture.engine.paths.rules_file();
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, text).unwrap();
}

#[tokio::test]
async fn a_network_is_granted_by_the_users_rule_and_by_nothing_in_the_repository() {
    need_tool_helper();
    let fixture = Fixture::new("").await;
    let port = server();
    let rule = format!(
        "[[rules]]\neffect = \"turbo\"\ntool = \"execute_command\"\npattern = \"curl\"\n\
         network = [\"localhost:{port}\"]\n"
    );
    let get = json!({"command": format!("curl -sS http://localhost:{port}/")});
    // The same words in the repository, wherever one might look for them.
    for file in ["rules.toml", ".lapce/rules.toml", ".lapce/ai/rules.toml", "config.toml"] {
        fixture.write(file, &rule);
    }
    let (asked, reply) = sh(&fixture, &get, Decision::Allow).await;
    assert_eq!(asked.len(), 1, "no rule allows it");
    assert!(!reply.ok && !reply.text.contains("\nserved"), "{}", reply.text);
    rules(&fixture, &rule);
    let (asked, reply) = sh(&fixture, &get, Decision::Deny).await;
    assert!(asked.is_empty() && reply.text.contains("\nserved"), "{asked:?} {}", reply.text);
    // The rule is for its command alone.
    let other = json!({"command": format!("cat; python3 -c 'import urllib.request as u; print(u.urlopen(\"http://localhost:{port}/\").read())'")});
    let (_, reply) = sh(&fixture, &other, Decision::Allow).await;
    assert!(!reply.ok && !reply.text.contains("b'served"), "{}", reply.text);
}

#[tokio::test]
async fn a_network_is_granted_by_the_answer_to_a_question_that_names_it() {
    need_tool_helper();
    let fixture = Fixture::new("").await;
    let port = server();
    // Looking needs no question, the network does.
    let params = json!({
        "command": format!("cat /dev/null; curl -sS http://localhost:{port}/"),
        "network": format!("localhost:{port}"),
    });
    let (asked, reply) = sh(&fixture, &params, Decision::Deny).await;
    assert!(asked[0].contains(&format!("localhost:{port}")), "{asked:?}");
    assert!(!reply.ok, "{}", reply.text);
    let (_, reply) = sh(&fixture, &params, Decision::Allow).await;
    assert!(reply.ok && reply.text.contains("\nserved"), "{}", reply.text);
    let params = json!({"command": "ls", "network": format!("localhost:{port}")});
    let (asked, _) = sh(&fixture, &params, Decision::Deny).await;
    assert!(asked[0].contains("it asks for the network"), "{asked:?}");
}

#[tokio::test]
async fn an_ignored_secret_is_shown_by_the_users_setting() {
    need_tool_helper();
    for (config, seen) in [("", false), ("[sandbox]\nshow = [\".env\"]\n", true)] {
        let fixture = Fixture::new(config).await;
        fixture.write(".gitignore", ".env\n");
        fixture.write(".env", "KEY=hunter2\n");
        fixture.write("config.toml", "[sandbox]\nshow = [\".env\"]\n");
        let (_, reply) = sh(&fixture, &json!({"command": "cat .env"}), Decision::Deny).await;
        assert_eq!(reply.text.contains("hunter2"), seen, "{config}: {}", reply.text);
    }
}
