//! The texts models are given, held byte for byte. After an intended change run with
//! `UPDATE_GOLDEN=1` and read the diff.

use lapce_ai_tools::call::{Invalid, ToolCall};
use lapce_ai_tools::envelope::{self, LimitHit};
use lapce_ai_tools::limits::Limits;
use lapce_ai_tools::protocol::Report;
use lapce_ai_tools::{prompt, schema, spec};

fn check(name: &str, text: &str) {
    let path = std::env::current_dir().unwrap().join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(want == text, "{name} differs from tests/golden/{name}; what it is now:\n{text}");
}

#[test]
fn envelopes() {
    let read = ToolCall::new("1", "read_file").with("path", "src/main.rs");
    let many = ToolCall::new("1", "read_file")
        .with("args", serde_json::json!([{"path": "a"}, {"path": "b"}]));
    let run = ToolCall::new("1", "execute_command")
        .with("command", "cargo test\n--all")
        .with("cwd", "sub");
    let ask = ToolCall::new("1", "ask_followup_question").with("question", "Which port?");
    let task = ToolCall::new("1", "new_task").with("mode", "code").with("message", "Write tests.");
    let write = spec::find("write_to_file").unwrap();
    let exit = |code| Report { exit_code: Some(code), ok: code == 0, ..Report::default() };
    let limits = Limits::COMMAND;
    let memory = LimitHit::Memory(512 << 20);
    let texts: Vec<(&str, String)> = vec![
        ("result", envelope::result(&read, "body")),
        ("empty result", envelope::result(&many, " \n")),
        ("error", envelope::error(&read, "'src/main.rs' does not exist")),
        ("denied", envelope::denied(&run, "")),
        ("denied with feedback", envelope::denied(&run, "use make\n")),
        ("denied by rule", envelope::denied_by_rule(&run, "deny execute_command 'cargo'")),
        ("approval timeout", envelope::approval_timeout(&run, 300)),
        ("skipped", envelope::skipped(&run)),
        (
            "changed by the user",
            envelope::user_edits("content", "one\ntwo\nthree\n", "one\n2\n2.5\nthree\n"),
        ),
        ("line ends changed by the user", envelope::user_edits("content", "one\n", "one")),
        ("cancelled", envelope::cancelled(&run)),
        ("interrupted", envelope::interrupted(&envelope::head(&run))),
        ("not begun", envelope::not_begun(&envelope::head(&run))),
        ("seen by the user", envelope::accepted(&envelope::head(&run))),
        ("unknown tool", envelope::unknown_tool("do_magic", [write].into_iter())),
        ("missing parameter, xml", envelope::missing_parameter(write, "content", true)),
        ("missing parameter, native", envelope::missing_parameter(write, "content", false)),
        (
            "invalid",
            envelope::invalid(
                write,
                &Invalid::Wrong {
                    name: "line_count".into(),
                    problem: "'x' is not a whole number".into(),
                },
                true,
            ),
        ),
        ("no tool used, xml", envelope::no_tool_used(true)),
        ("no tool used, native", envelope::no_tool_used(false)),
        (
            "background",
            envelope::background(&run, "bg-1-1", "running for 1 s", "listening on 3000\n"),
        ),
        ("background, silent", envelope::background(&run, "bg-1-1", "ended: exit code 0", "")),
        ("network refused", envelope::not_granted(&["a.com:443".into(), "b.com:80".into()])),
        ("cut call", envelope::cut_call("write_to_file")),
        ("too many mistakes", envelope::too_many_mistakes(3)),
        ("repeated call", envelope::repeated_call(&read, 4)),
        ("picture", envelope::pictures(1)),
        ("pictures", envelope::pictures(2)),
        ("no pictures", envelope::no_pictures()),
        ("pictures left out", envelope::pictures_left_out()),
        ("limit held", envelope::reached(&LimitHit::Processes(40))),
        ("advice", envelope::advice("Look in src/.\n")),
        ("repeated call, advice", envelope::repeated(&read, "Look in src/.\n")),
        ("command", envelope::command(&run, &exit(0), None, &limits, "ok\n", None)),
        ("command without output", envelope::command(&run, &exit(1), None, &limits, "", None)),
        (
            "command out of memory",
            envelope::command(&run, &exit(1), None, &limits, "MemoryError\n", None),
        ),
        (
            "command over a limit",
            envelope::command(&run, &Report::default(), Some(&memory), &limits, "x", None),
        ),
        (
            "command by signal",
            envelope::command(
                &run,
                &Report { signal: Some(11), ..Report::default() },
                None,
                &limits,
                "",
                None,
            ),
        ),
        (
            "long output",
            envelope::command(
                &run,
                &exit(0),
                None,
                &limits,
                &"0123456789abcde\n".repeat(4096),
                Some("cmd-1"),
            )
            .replace(&"0123456789abcde\n".repeat(500), "<500 lines>\n"),
        ),
        ("answer", envelope::answer(&ask, " 8080\n")),
        ("no answer", envelope::no_answer(&ask)),
        ("question timeout", envelope::question_timeout(&ask, 300)),
        (
            "feedback on a result",
            envelope::feedback(&ToolCall::new("1", "attempt_completion"), "add a test\n"),
        ),
        ("subtask", envelope::subtask(&task, true, "Three tests were added.\n")),
        ("subtask without a result", envelope::subtask(&task, true, "")),
        ("subtask that failed", envelope::subtask(&task, false, "The turn limit was reached.")),
        ("not in this mode", envelope::not_in_mode("write_to_file", "ask")),
        (
            "command of the user",
            envelope::offered_text("command", "review", true, "k3x9", "Look.\n"),
        ),
        ("skill of a repository", envelope::offered_text("skill", "release", false, "k3x9", "Do.")),
        ("limits", format!("{limits}")),
        (
            "every limit",
            [
                LimitHit::Wall(1500),
                LimitHit::Cpu(2),
                memory.clone(),
                LimitHit::Output(1 << 20),
                LimitHit::FileSize(2 << 30),
                LimitHit::Disk(1 << 30),
                LimitHit::Processes(64),
            ]
            .iter()
            .map(envelope::limit)
            .collect::<Vec<_>>()
            .join("\n"),
        ),
    ];
    let all: Vec<String> =
        texts.iter().map(|(name, text)| format!("=== {name}\n{text}\n\n")).collect();
    let all = all.concat();
    check("envelopes.txt", &all);
}

#[test]
fn prompt_section() {
    check("prompt.md", &prompt::xml_section(spec::offered()));
}

#[test]
fn schemas() {
    let all: Vec<_> = spec::all().iter().map(schema::function).collect();
    check("schemas.json", &(serde_json::to_string_pretty(&all).unwrap() + "\n"));
}

#[test]
fn the_catalogue_is_whole() {
    assert_eq!(spec::all().len(), 29);
    for spec in spec::all() {
        assert!(spec.summary.ends_with('.'), "{}", spec.name);
        assert_eq!(spec::all().iter().filter(|s| s.name == spec.name).count(), 1);
        for param in spec.params {
            assert!(param.doc.ends_with('.'), "{} {}", spec.name, param.name);
        }
    }
    // What is not built is offered to nobody.
    assert!(spec::offered().all(|s| s.runs != spec::Runs::Absent));
}
