//! Agent runs and their approvals.

use std::path::Path;

use lapce_ai_tests::{TestHome, wait_for};
use serde_json::{Value, json};

use crate::support::model::{Model, Reply, gate};
use crate::support::{Editor, at, opened, uri};
use crate::{FAILED, SOURCE, actions, pick, place, rename, settings, started};

/// The agent asks before it runs a command; the answer is given with a code action in the
/// transcript.
#[test]
fn an_approval_is_answered_in_the_transcript() {
    for allow in [true, false] {
        let (home, root, file) = place();
        let model = Model::new(vec![
            Reply::Call("execute_command", json!({ "command": "touch made-by-the-agent" })),
            Reply::Call("attempt_completion", json!({ "result": "All done." })),
        ]);
        home.config(&model.config());
        let mut editor = started(&home, &root, &file);
        let offered = actions(&mut editor, &file, 0);
        let action = pick(&offered, "run the agent on “make this faster”");
        assert!(action.get("edit").is_none(), "Lapce would apply it without resolving: {action}");
        let resolved = editor.request("codeAction/resolve", &action).unwrap();
        let transcript = opened(&resolved["edit"]);
        editor.until("the question", |e| !e.popups().is_empty());
        let popup = editor.popups()[0].clone();
        assert!(popup.contains("touch made-by-the-agent"), "{popup}");
        assert!(popup.contains(transcript.to_str().unwrap()), "{popup}");

        let text = std::fs::read_to_string(&transcript).unwrap();
        editor.open(&transcript, "markdown", &text);
        let answers = actions(&mut editor, &transcript, 0);
        assert!(
            pick(&answers, "approve for this run:")["title"]
                .as_str()
                .unwrap()
                .contains("execute_command")
        );
        pick(&answers, "stop this run");
        // Also where the list does not go with each write to the transcript.
        let run_id = transcript.file_stem().unwrap().to_str().unwrap();
        pick(&actions(&mut editor, &file, 0), &format!("stop run {run_id}"));
        let answer = pick(
            &answers,
            if allow {
                "Lapce AI: approve execute_command for 'touch"
            } else {
                "Lapce AI: deny execute_command for 'touch"
            },
        );
        let resolved = editor.request("codeAction/resolve", &answer).unwrap();
        assert_eq!(opened(&resolved["edit"]), transcript);

        wait_for("the end of the run", || {
            std::fs::read_to_string(&transcript).unwrap().contains("All done.")
        });
        assert_eq!(root.join("made-by-the-agent").exists(), allow);
        editor.until("the end of the display", |e| {
            e.progress().iter().any(|(kind, _)| kind == "end")
        });
        // The run is over: the transcript is a document like any other.
        assert!(
            editor
                .request("codeAction/resolve", &answer)
                .unwrap_err()
                .1
                .contains("answered already")
        );
        assert_eq!(editor.quit(), Some(0));
        home.assert_nothing_left();
    }
}

/// F2 in the transcript with `edit: COMMAND` runs that command instead.
#[test]
fn a_command_is_changed_with_f2_in_the_transcript() {
    let (home, root, file) = place();
    let model = Model::new(vec![
        Reply::Call("execute_command", json!({ "command": "touch made" })),
        Reply::Call("attempt_completion", json!({ "result": "All done." })),
    ]);
    home.config(&model.config());
    let mut editor = started(&home, &root, &file);
    let action = pick(&actions(&mut editor, &file, 0), "run the agent on “make this faster”");
    let resolved = editor.request("codeAction/resolve", &action).unwrap();
    let transcript = opened(&resolved["edit"]);
    editor.until("the question", |e| !e.popups().is_empty());
    let popup = editor.popups()[0].clone();
    let text = std::fs::read_to_string(&transcript).unwrap();
    editor.open(&transcript, "markdown", &text);
    let nothing = editor.request("textDocument/rename", &rename(&transcript, 0, "edit:"));
    assert!(nothing.unwrap_err().1.contains("type the command behind"), "{popup}");
    let typed = rename(&transcript, 0, "edit: touch other");
    let edit = editor.request("textDocument/rename", &typed).unwrap();
    assert_eq!(opened(&edit), transcript);
    wait_for("the end of the run", || {
        std::fs::read_to_string(&transcript).unwrap().contains("All done.")
    });
    assert!(root.join("other").exists() && !root.join("made").exists());
    let text = std::fs::read_to_string(&transcript).unwrap();
    assert!(text.contains("changed and allowed by the user"), "{text}");
    assert_eq!(editor.quit(), Some(0));
    home.assert_nothing_left();
}

/// A run that was started in a terminal waits; the editor hears of it and answers. What the
/// editor shows and has not saved is what its tools read, and write over by no means.
#[test]
fn a_run_of_the_terminal_is_answered_here_and_sees_unsaved_text() {
    let (home, root, file) = place();
    let model = Model::new(vec![
        Reply::Call("read_file", json!({ "path": "src/a.rs" })),
        Reply::Call("write_to_file", json!({ "path": "src/a.rs", "content": "x" })),
        Reply::Call("execute_command", json!({ "command": "touch made-by-the-agent" })),
        Reply::Call("attempt_completion", json!({ "result": "All done." })),
    ]);
    home.config(&model.config());
    let mut editor = started(&home, &root, &file);
    let before = std::fs::read_to_string(&file).unwrap();
    editor.notify(
        "textDocument/didChange",
        &json!({
            "textDocument": { "uri": uri(&file), "version": 9 },
            "contentChanges": [{ "text": "// only in the editor\n" }],
        }),
    );
    // Whatever needs the engine connects to it; the shim starts none for this.
    let _ = editor.request("workspace/symbol", &json!({ "query": "anything" }));
    wait_for("the engine to hold the text", || {
        let mut read = home.command("lapce-ai");
        read.args(["tool", "run", "read_file", "--json", "{\"path\":\"src/a.rs\"}", "--root"]);
        let given = read.arg(&root).output().unwrap();
        String::from_utf8_lossy(&given.stdout).contains("only in the editor")
    });
    let mut command = home.command("lapce-ai");
    // SAFETY: setsid is async-signal-safe and touches no memory.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, || {
            libc::setsid();
            Ok(())
        });
    }
    let mut run = command
        .args(["run", "--wait", "--root", root.to_str().unwrap(), "look"])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let runs = root.join(".lapce/ai/runs");
    let transcript = || Some(std::fs::read_dir(&runs).ok()?.flatten().next()?.path());
    wait_for("the transcript", || {
        transcript().is_some_and(|t| {
            t.extension().is_some_and(|e| e == "md")
                && std::fs::read_to_string(t).unwrap().contains("Waiting for the user's approval")
        })
    });
    let transcript = transcript().unwrap();
    editor.open(&transcript, "markdown", &std::fs::read_to_string(&transcript).unwrap());
    let mut answers = Vec::new();
    wait_for("the question to be heard of", || {
        answers = actions(&mut editor, &transcript, 0);
        answers
            .iter()
            .any(|a| a["title"].as_str().unwrap().contains("approve execute_command for 'touch"))
    });
    pick(&answers, "in this workspace");
    let answer = pick(&answers, "Lapce AI: approve execute_command for 'touch");
    editor.request("codeAction/resolve", &answer).unwrap();
    assert!(run.wait().unwrap().success());
    assert!(root.join("made-by-the-agent").exists());
    let seen = model.seen();
    let last = seen.last().unwrap().to_string();
    assert!(last.contains("only in the editor"), "{last}");
    assert!(last.contains("not saved, so nothing was written"), "{last}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    assert_eq!(editor.quit(), Some(0));
    home.assert_nothing_left();
}

#[test]
fn a_run_is_stopped_from_its_transcript_and_by_quitting() {
    let (home, root, file) = place();
    let (_keep, halt) = gate();
    let (_keep_too, halt_too) = gate();
    let model = Model::new(vec![
        Reply::Halting("Thinking", halt, ""),
        Reply::Halting("Thinking", halt_too, ""),
    ]);
    home.config(&model.config());
    let mut editor = started(&home, &root, &file);
    let start = |editor: &mut Editor| {
        let edit = editor.request("textDocument/rename", &rename(&file, 4, "run: think")).unwrap();
        opened(&edit)
    };
    let runs = |home: &TestHome| {
        let status = home.cli(["status", "--json"]).ok().json();
        status["active_runs"].as_array().expect("a list").len()
    };
    let transcript = start(&mut editor);
    wait_for("the run", || runs(&home) == 1);
    editor.open(&transcript, "markdown", "");
    let stop = pick(&actions(&mut editor, &transcript, 0), "stop this run");
    editor.request("codeAction/resolve", &stop).unwrap();
    wait_for("the run to end", || runs(&home) == 0);

    start(&mut editor);
    wait_for("the second run", || runs(&home) == 1);
    assert_eq!(editor.quit(), Some(0));
    wait_for("the run to end with its editor", || runs(&home) == 0);
    home.assert_nothing_left();
}

#[test]
fn actions_leave_code_to_the_languages_server() {
    let (home, root, file) = place();
    let mut editor = started(&home, &root, &file);
    for line in [1, 2, 3] {
        assert_eq!(actions(&mut editor, &file, line), Vec::<Value>::new(), "line {line}");
    }
    let blank = actions(&mut editor, &file, 4);
    assert_eq!(blank.len(), 2);
    pick(&blank, "open the terminal UI");
    pick(&blank, "explain this place");
    let only = json!({
        "textDocument": { "uri": uri(&file) },
        "range": { "start": { "line": 0, "character": 0 }, "end": { "line": 0, "character": 0 } },
        "context": { "diagnostics": [], "only": ["source.organizeImports"] },
    });
    assert_eq!(editor.request("textDocument/codeAction", &only).unwrap_err().0, FAILED);
    for foreign in [
        json!({ "title": "x" }),
        json!({ "title": "x", "data": 7 }),
        json!([]),
        json!({ "data": { "lapceAi": { "do": "format" } } }),
    ] {
        assert!(editor.request("codeAction/resolve", &foreign).is_err(), "{foreign}");
    }
    assert_eq!(home.engine_pid(), None, "offering starts nothing");
}

/// Lapce runs `kind` with `cargoArgs` in its terminal; the task is one argument whatever it
/// holds.
#[test]
fn a_task_can_be_run_in_the_terminal() {
    let (home, root, file) = place();
    let mut editor = started(&home, &root, &file);
    let action = pick(&actions(&mut editor, &file, 0), "run in the terminal");
    assert_eq!(action["command"], "rust-analyzer.runSingle");
    let args = &action["arguments"][0];
    assert_eq!(
        args["args"],
        json!({
            "cargoArgs": ["run", "--", "make this faster"], "cargoExtraArgs": [], "executableArgs": [],
        })
    );
    let program = args["kind"].as_str().unwrap();
    assert_eq!(Path::new(program), home.bin_dir().canonicalize().unwrap().join("lapce-ai"));
    for part in ["targetUri", "targetRange", "targetSelectionRange"] {
        assert!(!args["location"][part].is_null(), "{args}");
    }
    let tui = pick(&actions(&mut editor, &file, 4), "open the terminal UI");
    assert_eq!(tui["arguments"][0]["args"]["cargoArgs"], json!(["tui"]));
    // An editor without that command is not offered it.
    let mut editor = Editor::spawn(&home);
    editor.initialize(&root, &settings(), json!({ "capabilities": {} })).unwrap();
    editor.open(&file, "rust", SOURCE);
    let offered = actions(&mut editor, &file, 0);
    assert!(offered.iter().all(|a| a["command"] != "rust-analyzer.runSingle"));
}

/// At the end of the transcript of a run that is over, F2 and a code action go on with it.
#[test]
fn a_run_is_gone_on_with_at_the_end_of_its_transcript() {
    let (home, root, file) = place();
    let done = |result: &str| Reply::Call("attempt_completion", json!({ "result": result }));
    let model = Model::new(vec![done("All done."), done("More done."), done("Most done.")]);
    home.config(&model.config());
    let mut editor = started(&home, &root, &file);
    let edit = editor.request("textDocument/rename", &rename(&file, 4, "run: think")).unwrap();
    let transcript = opened(&edit);
    let whole = |transcript: &Path, result: &str| {
        wait_for("the end of the run", || {
            std::fs::read_to_string(transcript).unwrap().contains(&format!("**Done**\n\n{result}"))
        });
        std::fs::read_to_string(transcript).unwrap()
    };
    let text = whole(&transcript, "All done.");
    wait_for("the run to end", || {
        let status = home.cli(["status", "--json"]).ok().json();
        status["active_runs"].as_array().unwrap().is_empty()
    });
    editor.until("the end of the display", |e| e.progress().iter().any(|(kind, _)| kind == "end"));
    editor.open(&transcript, "markdown", &text);
    let end = u32::try_from(text.lines().count()).unwrap();
    let offered = editor.request("textDocument/prepareRename", &at(&transcript, end, 0)).unwrap();
    assert_eq!(offered["placeholder"], "run: ");
    let elsewhere = editor.request("textDocument/prepareRename", &at(&transcript, 1, 0)).unwrap();
    assert_eq!(elsewhere["placeholder"], "ask ");
    let edit =
        editor.request("textDocument/rename", &rename(&transcript, end, "run: and more")).unwrap();
    let second = opened(&edit);
    assert_ne!(second, transcript);
    let shown = whole(&second, "More done.");
    let first = transcript.file_stem().unwrap().to_str().unwrap();
    assert!(shown.contains(&format!("*It goes on with run [{first}]({first}.md).*")), "{shown}");
    let asked = model.seen()[1]["messages"].to_string();
    assert!(asked.contains("think") && asked.contains("and more"), "{asked}");
    let go_on = pick(&actions(&mut editor, &transcript, end), "go on with this run");
    let resolved = editor.request("codeAction/resolve", &go_on).unwrap();
    whole(&opened(&resolved["edit"]), "Most done.");
    let asked = model.seen()[2]["messages"].to_string();
    assert!(asked.contains("Go on with the task.") && !asked.contains("and more"), "{asked}");
    assert_eq!(editor.quit(), Some(0));
    home.assert_nothing_left();
}
