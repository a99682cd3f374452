//! Agent runs: a scripted model, a real git repository, real tools in the real sandbox,
//! and a client on a real ring.

mod support;

use lapce_ai_ipc::CallError;
use lapce_ai_ipc::wire::engine::{Decision, Event, Run, RunOutcome, RunReply};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use serde_json::{Value, json};
use support::scripted::{Scripted, calls, closed_port, cut, delta, error, hanging, stream, words};
use support::{Fixture, config, exists, need_tool_helper, notices, text_of, within};

fn run_of(fixture: &Fixture, task: &str) -> Run {
    Run {
        root: fixture.root(),
        task: task.into(),
        editor: None,
        model: String::new(),
        max_turns: 0,
        ..Run::default()
    }
}

/// Runs to the end; `decide` answers the questions.
async fn go(
    fixture: &Fixture,
    run: Run,
    mut decide: impl FnMut(&str) -> (Decision, &'static str),
) -> (Vec<Event>, Result<RunReply, CallError>) {
    within(async {
        let mut call = fixture.client.run(run);
        let mut events = Vec::new();
        while let Some(event) = call.next().await {
            if let Event::Approval(question) = &event {
                let (decision, feedback) = decide(&question.summary);
                fixture.answer(&question.approval_id, decision, feedback).await;
            }
            events.push(event);
        }
        (events, call.finish().await)
    })
    .await
}

fn never(summary: &str) -> (Decision, &'static str) {
    panic!("nothing here needs an approval, but {summary} was asked about")
}

fn finished(events: &[Event]) -> Vec<(String, bool)> {
    events
        .iter()
        .filter_map(|e| {
            if let Event::ToolFinished { name, ok, .. } = e {
                Some((name.clone(), *ok))
            } else {
                None
            }
        })
        .collect()
}

/// The results in the last request of a native conversation.
fn results(body: &Value) -> Vec<String> {
    let messages = body["messages"].as_array().unwrap();
    messages
        .iter()
        .filter(|m| m["role"] == "tool")
        .map(|m| m["content"].as_str().unwrap().to_owned())
        .collect()
}

fn remote(result: Result<RunReply, CallError>) -> WireError {
    match result {
        Err(CallError::Remote(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_task_is_done_with_native_calls() {
    need_tool_helper();
    let server = Scripted::new(vec![
        calls(
            "Let me look. ",
            &[("list_files", json!({"path": "."})), ("read_file", json!({"path": "greet.py"}))],
        ),
        calls("", &[("write_to_file", json!({"path": "greet.py", "content": "print('hello')\n"}))]),
        calls("", &[("execute_command", json!({"command": "git status --short"}))]),
        calls("", &[("attempt_completion", json!({"result": "It greets now."}))]),
    ])
    .await;
    let fixture = Fixture::new(&config(&server.base_url(), "tools = \"native\"")).await;
    fixture.write("greet.py", "print('bye')\n");
    fixture.git();
    let (events, reply) = go(&fixture, run_of(&fixture, "Make it greet"), |summary| {
        assert!(summary.contains("git status"), "{summary}");
        (Decision::Allow, "")
    })
    .await;
    let reply = reply.unwrap();
    assert_eq!((reply.outcome, reply.result.as_str()), (RunOutcome::Completed, "It greets now."));
    assert_eq!((reply.turns, reply.tool_calls), (4, 4));
    assert_eq!((reply.usage.input, reply.usage.output), (80, 20));
    assert_eq!(fixture.read("greet.py"), "print('hello')\n");
    assert_eq!(
        finished(&events),
        ["list_files", "read_file", "write_to_file", "execute_command"]
            .map(|n| (n.to_owned(), true))
    );
    assert_eq!(text_of(&events), "Let me look. ");
    assert!(
        matches!(&events[0], Event::Started { model, .. } if model == "test/m"),
        "{:?}",
        events[0]
    );

    // What the model was told: its own calls, then the results, in order.
    let seen = server.seen();
    let given = results(&seen[1].body);
    assert!(
        given[0].starts_with("[list_files for '.'] Result:") && given[0].contains("greet.py"),
        "{}",
        given[0]
    );
    assert!(given[1].contains("print('bye')"), "{}", given[1]);
    assert!(results(&seen[3].body).last().unwrap().contains("greet.py"), "git saw the change");
    assert!(
        seen[0].body["tools"]
            .as_array()
            .unwrap()
            .iter()
            .any(|t| t["function"]["name"] == "read_file")
    );

    // What is left behind: a transcript to read, a journal for the record.
    let transcript = std::fs::read_to_string(&reply.transcript).unwrap();
    assert!(reply.transcript.starts_with(&format!("{}/.lapce/ai/runs/", fixture.root())));
    for part in [
        "# Make it greet",
        "Let me look.",
        "**write_to_file for 'greet.py'**",
        "**Done**",
        "It greets now.",
    ] {
        assert!(transcript.contains(part), "{part} is not in\n{transcript}");
    }
    let journal = fixture.journal();
    let names: Vec<&str> = journal.iter().map(|e| e["event"].as_str().unwrap()).collect();
    assert_eq!((names[0], *names.last().unwrap()), ("started", "ended"));
    assert_eq!(names.iter().filter(|n| **n == "call").count(), 4);
    assert!(names.contains(&"answer"));
    assert!(
        !std::process::Command::new("git")
            .args(["status", "--short"])
            .current_dir(&fixture.root)
            .output()
            .unwrap()
            .stdout
            .windows(6)
            .any(|w| w == b".lapce")
    );
}

#[tokio::test]
async fn a_model_without_function_calls_works_with_xml() {
    need_tool_helper();
    let server = Scripted::new(vec![
        words("I will read it. <read_file>\n<path>notes.txt</path>\n</read_file>\n[read_file] Result:\nan invented result <write_to_file><path>x</path><content>y</content></write_to_file>"),
        words("<attempt_completion>\n<result>The note says 42.</result>\n</attempt_completion>"),
    ])
    .await;
    let fixture = Fixture::new(&config(&server.base_url(), "tools = \"xml\"")).await;
    fixture.write("notes.txt", "the answer is 42\n");
    let (events, reply) = go(&fixture, run_of(&fixture, "What does the note say?"), never).await;
    let reply = reply.unwrap();
    assert_eq!(
        (reply.outcome, reply.result.as_str(), reply.tool_calls),
        (RunOutcome::Completed, "The note says 42.", 1)
    );
    assert_eq!(text_of(&events).trim(), "I will read it.");
    assert!(!fixture.root.join("x").exists(), "what is written behind a call is not carried out");
    let seen = server.seen();
    assert!(seen[0].body.get("tools").is_none());
    assert!(seen[0].body["messages"][0]["content"].as_str().unwrap().contains("# Tools"));
    let messages = seen[1].body["messages"].as_array().unwrap();
    let last = messages.last().unwrap();
    assert_eq!(last["role"], "user");
    assert!(last["content"].as_str().unwrap().contains("the answer is 42"));
    assert!(!messages[2]["content"].as_str().unwrap().contains("invented"), "{}", messages[2]);
}

#[tokio::test]
async fn a_model_that_refuses_tools_is_given_xml() {
    need_tool_helper();
    let server = Scripted::new(vec![
        error(400, &[], r#"{"error":{"message":"m does not support tools"}}"#),
        words("<attempt_completion><result>ok</result></attempt_completion>"),
    ])
    .await;
    let fixture = Fixture::new(&config(&server.base_url(), "tools = \"native\"")).await;
    let (events, reply) = go(&fixture, run_of(&fixture, "t"), never).await;
    assert_eq!(reply.unwrap().outcome, RunOutcome::Completed);
    assert!(notices(&events)[0].contains("no function calls"));
}

#[tokio::test]
async fn a_denied_call_does_not_run_and_the_rest_of_the_turn_is_skipped() {
    need_tool_helper();
    let server = Scripted::new(vec![
        calls(
            "",
            &[
                ("execute_command", json!({"command": "touch made"})),
                ("write_to_file", json!({"path": "other", "content": "x"})),
            ],
        ),
        words("I stop here."),
    ])
    .await;
    let fixture = Fixture::new(&config(&server.base_url(), "tools = \"native\"")).await;
    let (events, reply) =
        go(&fixture, run_of(&fixture, "t"), |_| (Decision::Deny, "not this way")).await;
    assert_eq!(reply.unwrap().outcome, RunOutcome::Completed);
    assert!(!exists(&fixture.root.join("made")) && !exists(&fixture.root.join("other")));
    assert_eq!(finished(&events), [("execute_command".to_owned(), false)]);
    let given = results(&server.seen()[1].body);
    assert!(given[0].contains("denied") && given[0].contains("not this way"), "{}", given[0]);
    assert!(given[1].contains("earlier call"), "{}", given[1]);
}

#[tokio::test]
async fn allowed_for_the_run_means_the_same_command_only() {
    need_tool_helper();
    let command = |c: &str| calls("", &[("execute_command", json!({"command": c}))]);
    let server = Scripted::new(vec![
        command("touch one"),
        command("touch one"),
        command("touch two"),
        words("done"),
    ])
    .await;
    let fixture = Fixture::new(&config(&server.base_url(), "tools = \"native\"")).await;
    let mut asked = Vec::new();
    let (_, reply) = go(&fixture, run_of(&fixture, "t"), |summary| {
        asked.push(summary.to_owned());
        (Decision::AllowForRun, "")
    })
    .await;
    assert_eq!(reply.unwrap().tool_calls, 3);
    assert_eq!(asked.len(), 2, "{asked:?}");
}

#[tokio::test]
async fn a_cut_answer_is_never_carried_out() {
    need_tool_helper();
    let arguments = json!({"path": "a", "content": "x"}).to_string();
    let call = delta(
        &json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "write_to_file", "arguments": arguments}}]}),
    );
    let server = Scripted::new(vec![stream(&call), cut(&call), words("done")]).await;
    let fixture = Fixture::new(&config(&server.base_url(), "tools = \"native\"")).await;
    let (events, reply) = go(&fixture, run_of(&fixture, "t"), never).await;
    let reply = reply.unwrap();
    assert_eq!((reply.outcome, reply.tool_calls, reply.turns), (RunOutcome::Completed, 0, 1));
    assert!(!exists(&fixture.root.join("a")));
    assert!(
        notices(&events).iter().any(|n| n.contains("asking again (attempt 2)")),
        "{:?}",
        notices(&events)
    );

    // In XML: cut inside the call.
    let text = delta(&json!({"content": "<write_to_file><path>a</path><content>x</con"}));
    let server = Scripted::new(vec![stream(&text), stream(&text), stream(&text)]).await;
    let fixture = Fixture::new(&config(&server.base_url(), "tools = \"xml\"")).await;
    let (_, reply) = go(&fixture, run_of(&fixture, "t"), never).await;
    let reply = reply.unwrap();
    assert_eq!((reply.outcome, reply.tool_calls), (RunOutcome::Failed, 0));
    assert!(reply.result.contains("cut off again and again"), "{}", reply.result);
    assert!(!exists(&fixture.root.join("a")));
}

#[tokio::test]
async fn after_three_mistakes_in_a_row_the_user_is_asked() {
    need_tool_helper();
    let mistakes = vec![
        calls("", &[("no_such_tool", json!({}))]),
        calls("", &[("read_file", json!({"path": "missing.txt"}))]),
        calls("", &[("write_to_file", json!({"path": "a"}))]),
        words("then said so"),
    ];
    let server = Scripted::new(mistakes.clone()).await;
    let fixture = Fixture::new(&config(&server.base_url(), "tools = \"native\"")).await;
    let mut asked = Vec::new();
    let (_, reply) = go(&fixture, run_of(&fixture, "t"), |summary| {
        asked.push(summary.to_owned());
        (Decision::Allow, "it is a.txt")
    })
    .await;
    assert_eq!(reply.unwrap().result, "then said so");
    assert!(asked.len() == 1 && asked[0].contains("3 mistakes in a row"), "{asked:?}");
    let body = server.seen()[3].body.to_string();
    assert!(body.contains("<feedback>\\nit is a.txt\\n</feedback>"), "{body}");

    // Without a word from the user, the run is over.
    let server = Scripted::new(mistakes).await;
    let fixture = Fixture::new(&config(&server.base_url(), "tools = \"native\"")).await;
    let (_, reply) = go(&fixture, run_of(&fixture, "t"), |_| (Decision::Deny, "")).await;
    let reply = reply.unwrap();
    assert_eq!((reply.outcome, server.seen().len()), (RunOutcome::Failed, 3));
    assert!(reply.result.contains("3 mistakes in a row"), "{}", reply.result);
    let given = results(&server.seen()[2].body);
    assert!(given[0].contains("There is no tool of this name"), "{}", given[0]);
    assert!(given[1].contains("missing.txt"), "{}", given[1]);
}

#[tokio::test]
async fn before_the_same_call_a_fourth_time_the_user_is_asked() {
    need_tool_helper();
    let same = calls("", &[("list_files", json!({"path": "."}))]);
    let mut scripts = vec![same; 4];
    scripts.push(words("went on"));
    let server = Scripted::new(scripts.clone()).await;
    let fixture = Fixture::new(&config(&server.base_url(), "tools = \"native\"")).await;
    let (_, reply) =
        go(&fixture, run_of(&fixture, "t"), |_| (Decision::Allow, "look elsewhere")).await;
    let reply = reply.unwrap();
    assert_eq!((reply.result.as_str(), reply.tool_calls), ("went on", 3));
    let given = results(&server.seen()[4].body);
    assert!(given[3].contains("Not run again") && given[3].contains("look elsewhere"), "{given:?}");

    let server = Scripted::new(scripts).await;
    let fixture = Fixture::new(&config(&server.base_url(), "tools = \"native\"")).await;
    let (_, reply) = go(&fixture, run_of(&fixture, "t"), |_| (Decision::Deny, "")).await;
    let reply = reply.unwrap();
    assert_eq!((reply.outcome, reply.tool_calls), (RunOutcome::Failed, 3));
    assert!(reply.result.contains("the same call for the 4th time"), "{}", reply.result);
}

#[tokio::test]
async fn turns_and_tokens_have_limits() {
    need_tool_helper();
    let turn = |n: usize| {
        calls("", &[("list_files", json!({"path": ".", "recursive": n.is_multiple_of(2)}))])
    };
    let server = Scripted::new((0..9).map(turn).collect()).await;
    let fixture = Fixture::new(&config(&server.base_url(), "tools = \"native\"")).await;
    let (_, reply) = go(&fixture, Run { max_turns: 2, ..run_of(&fixture, "t") }, never).await;
    let reply = reply.unwrap();
    assert_eq!((reply.outcome, reply.turns, server.seen().len()), (RunOutcome::TurnLimit, 2, 2));

    let server = Scripted::new((0..9).map(turn).collect()).await;
    let text = format!(
        "{}\n[limits]\nrun_tokens = 60\n",
        config(&server.base_url(), "tools = \"native\"")
    );
    let fixture = Fixture::new(&text).await;
    let (_, reply) = go(&fixture, run_of(&fixture, "t"), never).await;
    let reply = reply.unwrap();
    // 25 tokens a turn: after the third the budget is used.
    assert_eq!((reply.outcome, server.seen().len()), (RunOutcome::Failed, 3));
    assert!(reply.result.contains("budget of 60 tokens"), "{}", reply.result);
}

#[tokio::test]
async fn a_run_is_cancelled_while_the_model_speaks() {
    need_tool_helper();
    let server = Scripted::new(vec![hanging(&delta(&json!({"content": "thinking"})))]).await;
    let fixture = Fixture::new(&config(&server.base_url(), "tools = \"native\"")).await;
    within(async {
        let mut call = fixture.client.run(run_of(&fixture, "t"));
        let mut id = String::new();
        loop {
            match call.next().await.unwrap() {
                Event::Started { run_id, .. } => id = run_id,
                Event::Text(_) => break,
                _ => {}
            }
        }
        fixture.client.cancel_run(id).await.unwrap();
        let reply = call.finish().await.unwrap();
        assert_eq!(reply.outcome, RunOutcome::Cancelled);
        server.client_left().await;
        assert!(std::fs::read_to_string(&reply.transcript).unwrap().contains("**Cancelled**"));
        assert!(fixture.engine.runs.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_run_and_the_command_it_started() {
    need_tool_helper();
    let server = Scripted::new(vec![calls(
        "",
        &[("execute_command", json!({"command": "echo started; sleep 600"}))],
    )])
    .await;
    let fixture = Fixture::new(&config(&server.base_url(), "tools = \"native\"")).await;
    within(async {
        let mut call = fixture.client.run(run_of(&fixture, "t"));
        loop {
            match call.next().await.unwrap() {
                Event::Approval(question) => {
                    fixture.answer(&question.approval_id, Decision::Allow, "").await;
                }
                Event::ToolOutput { text, .. } if text.contains("started") => break,
                _ => {}
            }
        }
        assert_eq!(fixture.engine.tool_pids().len(), 1);
        drop(call);
        while !fixture.engine.tool_pids().is_empty() || !fixture.engine.runs.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn errors_before_anything_was_done_are_errors() {
    need_tool_helper();
    let fixture = Fixture::new("[models]\ndetect_local = false\n").await;
    let (_, reply) = go(&fixture, run_of(&fixture, "t"), never).await;
    let error = remote(reply);
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.hint.contains("config.toml"), "{}", error.hint);

    let (_, reply) =
        go(&fixture, Run { root: "/does/not/exist".into(), ..run_of(&fixture, "t") }, never).await;
    assert_eq!(remote(reply).kind, ErrorKind::NotFound);
    let (_, reply) = go(&fixture, run_of(&fixture, " \n"), never).await;
    assert_eq!(remote(reply).kind, ErrorKind::Invalid);

    let base = format!("http://127.0.0.1:{}/v1", closed_port());
    let fixture = Fixture::new(&config(&base, "")).await;
    let (_, reply) = go(&fixture, run_of(&fixture, "t"), never).await;
    let error = remote(reply);
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.hint.contains("start the model server"), "{}", error.hint);

    let fixture = Fixture::new("[models]\nchat = 7\n").await;
    let (_, reply) = go(&fixture, run_of(&fixture, "t"), never).await;
    assert!(remote(reply).message.contains("line 2, column 8"));
}

#[tokio::test]
async fn a_provider_that_fails_later_ends_the_run_with_what_was_done() {
    need_tool_helper();
    let server = Scripted::new(vec![
        calls("", &[("list_files", json!({"path": "."}))]),
        error(401, &[], r#"{"error":{"message":"key revoked","code":"invalid_api_key"}}"#),
    ])
    .await;
    let fixture = Fixture::new(&config(&server.base_url(), "tools = \"native\"")).await;
    let (_, reply) = go(&fixture, run_of(&fixture, "t"), never).await;
    let reply = reply.unwrap();
    assert_eq!((reply.outcome, reply.tool_calls), (RunOutcome::Failed, 1));
    assert!(reply.result.contains("key revoked"), "{}", reply.result);
}

#[tokio::test]
async fn keys_found_in_files_do_not_reach_the_model_the_events_or_the_journal() {
    need_tool_helper();
    let key = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let server = Scripted::new(vec![
        calls("", &[("read_file", json!({"path": ".env.sample"}))]),
        words("done"),
    ])
    .await;
    let text = config(&server.base_url(), "tools = \"native\"").replace(
        "kind = \"openai\"\n",
        "kind = \"openai\"\nkey = { env = \"CARGO_MANIFEST_DIR\" }\n",
    );
    let fixture = Fixture::new(&text).await;
    fixture.write(".env.sample", &format!("TOKEN={key}\n"));
    let (events, reply) = go(&fixture, run_of(&fixture, "t"), never).await;
    let reply = reply.unwrap();
    let given = results(&server.seen()[1].body);
    assert!(given[0].contains("TOKEN=[key]"), "{}", given[0]);
    for text in [
        format!("{events:?}"),
        std::fs::read_to_string(&reply.transcript).unwrap(),
        format!("{:?}", fixture.journal()),
    ] {
        assert!(!text.contains(&format!("TOKEN={key}")));
    }
}

#[tokio::test]
async fn a_long_run_stays_within_the_context() {
    need_tool_helper();
    let read = |n: usize| calls("", &[("read_file", json!({"path": format!("f{n}.txt")}))]);
    let mut scripts: Vec<_> = (0..12).map(read).collect();
    scripts.push(words("done"));
    let server = Scripted::new(scripts).await;
    let fixture = Fixture::new(&config(
        &server.base_url(),
        "tools = \"native\"\ncontext = 8192\nmax_output = 512",
    ))
    .await;
    for n in 0..12 {
        fixture
            .write(&format!("f{n}.txt"), &format!("file {n}\n{}", "some words here\n".repeat(300)));
    }
    let (_, reply) = go(&fixture, run_of(&fixture, "Read everything"), never).await;
    assert_eq!(reply.unwrap().outcome, RunOutcome::Completed);
    let last = &server.seen()[12].body;
    // Three bytes a token is what the estimate assumes; the prompt must fit with the answer.
    assert!(last.to_string().len() / 3 < 8192 + 1024, "{}", last.to_string().len());
    let given = results(last);
    assert!(given.iter().any(|r| r.contains("taken out")), "{given:?}");
    assert!(given.last().unwrap().contains("file 11"));
    assert!(last["messages"][1]["content"].as_str().unwrap().contains("Read everything"));
}

#[tokio::test]
async fn a_workspace_with_a_hostile_lapce_folder_gets_no_transcript_but_a_run() {
    need_tool_helper();
    let server = Scripted::new(vec![words("done")]).await;
    let fixture = Fixture::new(&config(&server.base_url(), "tools = \"native\"")).await;
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), fixture.root.join(".lapce")).unwrap();
    let (events, reply) = go(&fixture, run_of(&fixture, "t"), never).await;
    assert_eq!(reply.unwrap().transcript, "");
    assert!(notices(&events)[0].contains("symlink"), "{:?}", notices(&events));
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}
