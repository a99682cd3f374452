//! Runs that go on with the conversation of an earlier one.

mod support;

use lapce_ai_ipc::CallError;
use lapce_ai_ipc::wire::engine::RunState::{Cancelled, Completed, Failed, TurnLimit};
use lapce_ai_ipc::wire::engine::{Decision, Event, Run, RunOutcome, RunReply, RunState};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use serde_json::{Value, json};
use support::scripted::{Scripted, calls, error, hanging, words};
use support::{Fixture, config, need_tool_helper, notices, within};

async fn place(scripts: Vec<support::scripted::Script>, tools: &str) -> (Scripted, Fixture) {
    need_tool_helper();
    let server = Scripted::new(scripts).await;
    let fixture = Fixture::new(&config(&server.base_url(), &format!("tools = \"{tools}\""))).await;
    (server, fixture)
}

fn task(fixture: &Fixture, task: &str) -> Run {
    Run { root: fixture.root(), task: task.into(), ..Run::default() }
}

fn next(fixture: &Fixture, words: &str) -> Run {
    Run { continues: Some(String::new()), ..task(fixture, words) }
}

/// Runs to the end; an approval is never needed.
async fn go(fixture: &Fixture, run: Run) -> (Vec<Event>, Result<RunReply, CallError>) {
    within(async {
        let mut call = fixture.client.run(run);
        let mut events = Vec::new();
        while let Some(event) = call.next().await {
            assert!(!matches!(event, Event::Approval(_)), "{event:?}");
            events.push(event);
        }
        (events, call.finish().await)
    })
    .await
}

fn refusal(result: Result<RunReply, CallError>) -> WireError {
    match result {
        Err(CallError::Remote(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn log_of(fixture: &Fixture, run: &str) -> String {
    let path = fixture.engine.paths.state.join("runs").join(format!("{run}.jsonl"));
    std::fs::read_to_string(path).unwrap()
}

fn messages(body: &Value) -> &Vec<Value> {
    body["messages"].as_array().unwrap()
}

/// Every call has its result right behind the answer: what providers insist on.
fn sound(body: &Value) {
    let mut open: Vec<String> = Vec::new();
    for message in messages(body) {
        if message["role"] == "tool" {
            assert_eq!(open.remove(0), message["tool_call_id"].as_str().unwrap(), "{body}");
            continue;
        }
        assert!(open.is_empty(), "{body:#}");
        let calls = message["tool_calls"].as_array().into_iter().flatten();
        open.extend(calls.map(|call| call["id"].as_str().unwrap().to_owned()));
    }
    assert!(open.is_empty(), "{body:#}");
}

#[tokio::test]
async fn a_run_goes_on_with_all_that_the_earlier_one_knew() {
    let (server, fixture) = place(
        vec![
            calls(
                "Let me look.",
                &[
                    ("read_file", json!({"path": "greet.py"})),
                    ("update_todo_list", json!({"todos": "[x] look\n[ ] change"})),
                ],
            ),
            calls("", &[("attempt_completion", json!({"result": "It says bye."}))]),
            calls("", &[("write_to_file", json!({"path": "greet.py", "content": "x\n"}))]),
            calls("", &[("attempt_completion", json!({"result": "Second."}))]),
            calls("", &[("attempt_completion", json!({"result": "Third."}))]),
        ],
        "native",
    )
    .await;
    fixture.write("greet.py", "print('bye')\n");
    let first = Run { mode: "debug".into(), ..task(&fixture, "What does it say?") };
    let (_, first) = go(&fixture, first).await;
    let first = first.unwrap();
    // The user changes what the run has read.
    fixture.write("greet.py", "print('changed by the user')\n");
    let (events, second) = go(&fixture, next(&fixture, "Now change it.")).await;
    let second = second.unwrap();
    assert_ne!(first.run_id, second.run_id);
    assert_eq!(second.turns, 2, "the turns count anew");
    assert!(
        notices(&events)
            .contains(&format!("going on with run {}: What does it say?", first.run_id).as_str()),
        "{events:?}"
    );
    let seen = server.seen();
    let body = &seen[2].body;
    sound(body);
    let all = messages(body);
    assert!(all[1]["content"].as_str().unwrap().contains("What does it say?"));
    assert_eq!(all[2]["content"], "Let me look.");
    assert!(all[3]["content"].as_str().unwrap().contains("print('bye')"), "{body}");
    let accepted = all.iter().rfind(|m| m["role"] == "tool").unwrap();
    assert!(accepted["content"].as_str().unwrap().contains("has seen this result"), "{body}");
    let told = all.last().unwrap()["content"].as_str().unwrap();
    for part in ["<task>\nNow change it.\n</task>", "came to its end", "saw them: greet.py."] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    // Mode and list are kept.
    let system = all[0]["content"].as_str().unwrap();
    assert!(system.contains("[ ] change"), "{system}");
    let refused = server.seen()[3].body.to_string();
    assert!(refused.contains("changed on disk since it was read"), "{refused}");
    assert_eq!(fixture.read("greet.py"), "print('changed by the user')\n");

    // A third goes on with the second, and knows the first.
    let third = Run { continues: Some(second.run_id[9..].to_owned()), ..task(&fixture, "") };
    let third = go(&fixture, third).await.1.unwrap();
    let body = &server.seen()[4].body;
    sound(body);
    let text = body.to_string();
    for part in ["What does it say?", "Now change it.", "Go on with the task."] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let runs = fixture.client.runs(fixture.root()).await.unwrap();
    let names: Vec<&str> = runs.iter().map(|r| r.run.as_str()).collect();
    assert_eq!(names, [&third.run_id, &second.run_id, &first.run_id], "{runs:?}");
    assert_eq!((runs[2].state, runs[2].mode.as_str()), (RunState::Completed, "debug"));
    assert_eq!((runs[1].mode.as_str(), runs[1].model.as_str()), ("debug", "test/m"));
    assert_eq!((runs[2].turns, runs[2].usage.input), (2, 40));
    assert_eq!(runs[2].task, "What does it say?");
    assert!(runs.iter().all(|r| r.refused.is_empty()), "{runs:?}");
    let shown = fixture.client.past_run(third.run_id).await.unwrap();
    let chain: Vec<&str> = shown.chain.iter().map(|r| r.run.as_str()).collect();
    assert_eq!(chain, [&second.run_id, &first.run_id]);
    let shown = fixture.client.past_run(first.run_id.clone()).await.unwrap();
    assert_eq!(shown.continued_by, [second.run_id]);
    assert_eq!((shown.result.as_str(), shown.steps.len()), ("It says bye.", 1));
    assert_eq!((shown.steps[0].ok, shown.todos.as_str()), (Some(true), "[x] look\n[ ] change"));
    assert_eq!(shown.transcript, first.transcript);
}

/// However the earlier run ended, the next one's conversation is one that a provider takes.
#[tokio::test]
async fn a_run_goes_on_after_every_end() {
    let (server, fixture) = place(
        vec![
            // The limit of turns.
            calls("", &[("list_files", json!({"path": "."}))]),
            words("Counted."),
            // An error of the provider, after a turn.
            calls("", &[("list_files", json!({"path": "."}))]),
            error(401, &[], r#"{"error":{"message":"no"}}"#),
            words("Went on."),
            // An error at once.
            error(401, &[], r#"{"error":{"message":"no"}}"#),
            words("There."),
            // A cancel while the model speaks.
            hanging(""),
            words("Back."),
        ],
        "native",
    )
    .await;
    let limited = Run { max_turns: 1, ..task(&fixture, "one") };
    assert_eq!(go(&fixture, limited).await.1.unwrap().outcome, RunOutcome::TurnLimit);
    let reply = go(&fixture, next(&fixture, "two")).await.1.unwrap();
    assert_eq!(reply.outcome, RunOutcome::Completed);
    let failed = go(&fixture, next(&fixture, "three")).await.1.unwrap();
    assert_eq!(failed.outcome, RunOutcome::Failed);
    go(&fixture, next(&fixture, "four")).await.1.unwrap();
    go(&fixture, next(&fixture, "five")).await.1.unwrap_err();
    go(&fixture, next(&fixture, "six")).await.1.unwrap();
    within(async {
        let mut call = fixture.client.run(next(&fixture, "seven"));
        let Some(Event::Started { run_id, .. }) = call.next().await else { panic!() };
        while server.seen().len() < 8 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        // While it runs nobody goes on with it.
        let error = refusal(go(&fixture, next(&fixture, "eight")).await.1);
        assert_eq!(error.kind, ErrorKind::Conflict, "{error:?}");
        fixture.client.cancel_run(run_id).await.unwrap();
        assert_eq!(call.finish().await.unwrap().outcome, RunOutcome::Cancelled);
    })
    .await;
    go(&fixture, next(&fixture, "eight")).await.1.unwrap();
    let seen = server.seen();
    let last = &seen.last().unwrap().body;
    for request in &seen {
        sound(&request.body);
    }
    let text = last.to_string();
    for part in ["one", "two", "three", "four", "five", "six", "seven", "eight"] {
        assert!(text.contains(&format!("<task>\\n{part}\\n</task>")), "{part} is not in {text}");
    }
    for part in ["limit of turns", "Counted.", "which failed", "the user stopped"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let states: Vec<RunState> =
        fixture.client.runs("").await.unwrap().into_iter().map(|r| r.state).collect();
    assert_eq!(
        states,
        [Completed, Cancelled, Completed, Failed, Completed, Failed, Completed, TurnLimit]
    );
}

#[tokio::test]
async fn what_cannot_be_gone_on_with_is_said() {
    let (_server, fixture) = place(vec![words("Done."), words("Done too.")], "native").await;
    let nothing = refusal(go(&fixture, next(&fixture, "x")).await.1);
    assert_eq!(nothing.kind, ErrorKind::NotFound);
    assert!(nothing.message.starts_with("no run of /"), "{nothing:?}");
    let run = go(&fixture, task(&fixture, "one")).await.1.unwrap().run_id;
    let other = tempfile::tempdir().unwrap();
    let there = other.path().canonicalize().unwrap().display().to_string();
    let elsewhere =
        Run { root: there, continues: Some(run.clone()), task: "x".into(), ..Run::default() };
    let error = refusal(go(&fixture, elsewhere).await.1);
    assert_eq!(error.message, format!("run {run} is of another workspace, {}", fixture.root()));
    assert!(error.hint.contains(&format!("--continue={run}")), "{error:?}");
    let unknown = Run { mode: "none".into(), ..next(&fixture, "x") };
    let error = refusal(go(&fixture, unknown).await.1);
    assert!(error.hint.contains("modes of your own"), "{error:?}");
    // Damaged in the middle: what is whole is gone on with, and that is said.
    let path = fixture.engine.paths.state.join("runs").join(format!("{run}.jsonl"));
    let log = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, log.replace("\"event\":\"said\"", "\"event\":\"sa")).unwrap();
    let again = Run { continues: Some(run), ..task(&fixture, "x") };
    let (events, reply) = go(&fixture, again).await;
    reply.unwrap();
    assert!(
        notices(&events).iter().any(|n| n.contains("its log has 1 damaged line")),
        "{events:?}"
    );
}

/// A conversation longer than the context is cut, and both tasks stay.
#[tokio::test]
async fn a_long_conversation_is_brought_into_the_context() {
    need_tool_helper();
    let mut scripts: Vec<_> = (0..12)
        .map(|n| calls("", &[("read_file", json!({"path": format!("f{n}.txt")}))]))
        .collect();
    scripts.extend([words("Read."), words("Done.")]);
    let server = Scripted::new(scripts).await;
    let lines = "tools = \"native\"\ncontext = 60000\nmax_output = 1000";
    let fixture = Fixture::new(&config(&server.base_url(), lines)).await;
    for n in 0..12 {
        fixture.write(&format!("f{n}.txt"), &format!("{n} some words\n").repeat(900));
    }
    go(&fixture, task(&fixture, "Read everything")).await.1.unwrap();
    let reply = go(&fixture, next(&fixture, "What was in it?")).await.1.unwrap();
    assert_eq!(reply.result, "Done.");
    let body = &server.seen()[13].body;
    sound(body);
    let text = body.to_string();
    assert!(text.contains("Read everything") && text.contains("What was in it?"), "{text}");
    assert!(text.contains("taken out to save room"));
    let before = server.seen()[12].body.to_string().len();
    assert!(text.len() < before, "{} is not below {before}", text.len());
    // The log of the second holds what it began with and no more.
    assert!(log_of(&fixture, &reply.run_id).len() < 200_000);
}

/// Calls in the text, and an earlier run with native ones.
#[tokio::test]
async fn the_form_of_calls_may_change_between_runs() {
    need_tool_helper();
    let server = Scripted::new(vec![
        calls("", &[("list_files", json!({"path": "."}))]),
        words("Native."),
        words("<list_files>\n<path>.</path>\n</list_files>"),
        words("<attempt_completion>\n<result>Xml.</result>\n</attempt_completion>"),
        words("Native again."),
    ])
    .await;
    let text = config(&server.base_url(), "tools = \"native\"")
        + "\n[providers.test.models.x]\ntools = \"xml\"\n";
    let fixture = Fixture::new(&text).await;
    fixture.write("a.txt", "");
    go(&fixture, task(&fixture, "one")).await.1.unwrap();
    let xml = Run { model: "test/x".into(), ..next(&fixture, "two") };
    assert_eq!(go(&fixture, xml).await.1.unwrap().result, "Xml.");
    let body = &server.seen()[2].body;
    assert!(body["tools"].is_null());
    assert!(messages(body).iter().all(|m| m["role"] != "tool" && m["tool_calls"].is_null()));
    assert!(body.to_string().contains("(called list_files with"), "{body}");
    let back = Run { model: "test/m".into(), ..next(&fixture, "three") };
    go(&fixture, back).await.1.unwrap();
    let body = &server.seen()[4].body;
    sound(body);
    assert!(body.to_string().contains("The user has seen this result"), "{body}");
}

#[tokio::test]
async fn keys_do_not_enter_the_log_with_the_conversation() {
    need_tool_helper();
    let key = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let server = Scripted::new(vec![words(&format!("The key is {key}.")), words("Yes.")]).await;
    let config = config(&server.base_url(), "tools = \"native\"").replace(
        "kind = \"openai\"\n",
        "kind = \"openai\"\nkey = { env = \"CARGO_MANIFEST_DIR\" }\n",
    );
    let fixture = Fixture::new(&config).await;
    let reply = go(&fixture, task(&fixture, &format!("Is it {key}?"))).await.1.unwrap();
    assert!(server.seen()[0].body.to_string().contains(&key), "the user has said it");
    go(&fixture, next(&fixture, "Sure?")).await.1.unwrap();
    let log = log_of(&fixture, &reply.run_id);
    assert!(log.contains("[key]") && !log.contains(&key), "{log}");
    assert!(!server.seen()[1].body.to_string().contains(&key));
}

#[tokio::test]
async fn what_was_allowed_for_a_run_is_asked_about_again() {
    let command = || calls("", &[("execute_command", json!({"command": "touch made"}))]);
    let (_server, fixture) =
        place(vec![command(), command(), words("One."), command(), words("Two.")], "native").await;
    let mut asked = 0;
    for run in [task(&fixture, "one"), next(&fixture, "two")] {
        within(async {
            let mut call = fixture.client.run(run);
            while let Some(event) = call.next().await {
                if let Event::Approval(question) = event {
                    asked += 1;
                    let id = &question.approval_id;
                    fixture.answer(id, Decision::AllowForRun, "").await;
                }
            }
            call.finish().await.unwrap();
        })
        .await;
    }
    assert_eq!(asked, 2, "once in each run");
}
