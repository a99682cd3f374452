//! Rules that deny paths hold from above: what lies below a folder is reached by no tool that is
//! given the folder, and by no command. Each way in is first shown to work without the rule.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use lapce_ai_tools::call::ToolCall;
use lapce_ai_tools::host::{Invocation, Ledger};
use lapce_ai_tools::journal::Selector;
use lapce_ai_tools::limits::CLOSED_MAX_PATHS;
use lapce_ai_tools::policy::{Policy, Verdict, file};
use lapce_ai_tools::sandbox::layer;
use lapce_ai_tools::spec::{self, Class, Runs};
use serde_json::{Value, json};

use crate::support::{Bench, outliner};

/// What a tool gives under rules, as the engine would carry the call out.
async fn under(b: &Bench, policy: &Policy, name: &str, params: Value) -> (bool, String) {
    let Value::Object(params) = params else { panic!("parameters are an object") };
    let call = ToolCall { id: "t".into(), name: name.into(), params };
    let spec = spec::find(name).unwrap();
    if let Verdict::Deny { rule } = policy.decide(spec, &call, &b.workspace) {
        return (false, format!("denied: {rule}"));
    }
    let out = b.host.run(Invocation::new(call, b.workspace.under(policy, spec))).await;
    (out.ok, out.envelope)
}

async fn sh(b: &Bench, policy: &Policy, command: &str) -> (bool, String) {
    under(b, policy, "execute_command", json!({"command": command})).await
}

fn deny(rules: &[(&str, &str)]) -> Policy {
    let text = rules.iter().fold(String::new(), |text, (tool, pattern)| {
        text + &format!("[[rules]]\neffect = \"deny\"\ntool = {tool:?}\npattern = {pattern:?}\n")
    });
    file::parse(&text).unwrap()
}

/// A workspace with something to hide in `secret/`, in `deep/k.pem`, and beside them.
fn bench() -> Bench {
    let mut b = Bench::new();
    b.host = b.host.with_outliner(Some(outliner()));
    for path in ["secret/a.rs", "secret/down/b.rs", "deep/k.pem", "deep/er/k.PEM"] {
        b.write(path, "pub fn hunter2() {}\n");
    }
    b.write("open.rs", "pub fn open() { /* hunter3 */ }\n");
    b.write("deep/open.rs", "pub fn open_too() {}\n");
    b
}

#[tokio::test]
async fn what_is_closed_is_left_out_below_a_folder_and_said_once() {
    let b = bench();
    let none = Policy::default();
    let policy = deny(&[("read", "secret/**"), ("read", "*.pem")]);
    let calls = [
        ("search_files", json!({"path": ".", "regex": "hunter2"})),
        ("search_files", json!({"path": "deep", "regex": "hunter2"})),
        ("list_code_definition_names", json!({"path": "secret"})),
        ("list_code_definition_names", json!({"path": "secret/a.rs"})),
        ("read_file", json!({"path": "secret/a.rs"})),
        ("read_file", json!({"args": [{"path": "open.rs"}, {"path": "deep/k.pem"}]})),
    ];
    // Each that there is; the other one reads what commands wrote.
    let mut tried: BTreeSet<&str> = calls.iter().map(|(tool, _)| *tool).collect();
    tried.extend(["list_files", "read_command_output"]);
    let reads = |spec: &&spec::ToolSpec| spec.class == Class::Read && spec.runs == Runs::Helper;
    assert_eq!(tried, spec::offered().filter(reads).map(|spec| spec.name).collect());
    for (tool, params) in calls {
        let (ok, text) = under(&b, &none, tool, params.clone()).await;
        assert!(ok && text.contains("hunter2()"), "{tool} {params} without the rule: {text}");
        let (_, text) = under(&b, &policy, tool, params.clone()).await;
        assert!(!text.contains("fn hunter2"), "{tool} {params}: {text}");
        assert!(text.contains("deny read"), "{tool} {params} names the rule: {text}");
    }
    let (ok, text) =
        under(&b, &policy, "search_files", json!({"path": ".", "regex": "h.nter"})).await;
    assert!(ok && text.contains("hunter3") && text.contains("Found 1 result."), "{text}");
    let note =
        "[left out what the user's rules close: 'deny read 'secret/**'', 'deny read '*.pem'']";
    assert_eq!(text.matches(note).count(), 1, "{text}");
    let list = json!({"path": ".", "recursive": true});
    let (ok, text) = under(&b, &policy, "list_files", list.clone()).await;
    assert!(ok && text.contains("deep/open.rs") && text.matches(note).count() == 1, "{text}");
    assert!(
        !text.contains("secret/a") && !text.contains("k.pem") && !text.contains("k.PEM"),
        "{text}"
    );
    let (ok, text) = under(&b, &policy, "list_files", json!({"path": "secret"})).await;
    assert!(!ok && text.contains("deny read"), "{text}");
    let (ok, text) =
        under(&b, &policy, "list_code_definition_names", json!({"path": "deep"})).await;
    assert!(ok && text.contains("open_too") && text.contains("'deny read '*.pem''"), "{text}");
    // Where nothing was left out nothing is said.
    b.write("free/x", "hunter4\n");
    let (_, text) = under(&b, &policy, "list_files", json!({"path": "free"})).await;
    assert!(!text.contains("left out"), "{text}");
    // A rule for one tool is about that tool.
    let own = deny(&[("search_files", "secret/**")]);
    let (_, text) = under(&b, &own, "search_files", json!({"path": ".", "regex": "hunter2"})).await;
    assert!(!text.contains("secret/a.rs") && text.contains("deep/k.pem"), "{text}");
    assert!(under(&b, &own, "read_file", json!({"path": "secret/a.rs"})).await.0);
}

#[tokio::test]
async fn commands_do_not_see_what_is_closed_to_readers() {
    let b = bench();
    let none = Policy::default();
    for rule in
        [("read", "secret/**"), ("*", "secret"), ("read_file", "SECRET/"), ("read", "/secret/*")]
    {
        let policy = deny(&[rule, ("read", "*.pem")]);
        for command in [
            "grep hunter2 secret/a.rs",
            "grep -r hunter2 .",
            "cp -r secret c && grep -r hunter2 c",
            "tar cf - . | grep -a hunter2",
            "ln -sfn secret l && grep -r hunter2 l/",
            "cat deep/er/k.PEM | grep hunter2",
            "mv deep d2 && mv d2 deep && grep hunter2 deep/k.pem",
            "ln deep/k.pem h && rm h",
            "python3 -c 'import os; os.listdir(\"secret\")'",
            "chmod 700 secret && ls secret/a.rs",
            "echo x >> deep/k.pem",
        ] {
            let (ok, text) = sh(&b, &none, command).await;
            assert!(ok, "{command} without the rule: {text}");
            let (ok, text) = sh(&b, &policy, command).await;
            assert!(!ok && text.contains("Exit code"), "{rule:?}: {command}: {text}");
            assert!(!text.contains("fn hunter2"), "{rule:?}: {command}: {text}");
            assert!(text.contains("closed to commands by the user's rules"), "{command}: {text}");
            let _ = fs::remove_dir_all(b.path("c"));
        }
        let (ok, text) = sh(&b, &policy, "grep hunter3 open.rs && echo more >> deep/open.rs").await;
        assert!(ok && !text.contains("closed to"), "{text}");
        let in_it = json!({"command": "ls", "cwd": "secret/down"});
        let (ok, text) = under(&b, &policy, "execute_command", in_it).await;
        assert!(!ok && text.contains("is closed by the user's rule"), "{text}");
    }
    assert!(b.read("secret/a.rs").contains("hunter2"), "it is still there");
}

/// A covered file that could be opened would be taken for an empty one, and committed as such.
#[tokio::test]
async fn git_keeps_what_it_cannot_see() {
    let b = bench();
    let policy = deny(&[("read", "secret/**"), ("read", "*.pem")]);
    let git = "git -c user.name=a -c user.email=a@b";
    let (ok, text) =
        sh(&b, &Policy::default(), &format!("git init -q && git add . && {git} commit -qm 1"))
            .await;
    assert!(ok, "{text}");
    sh(&b, &policy, &format!("echo more >> open.rs; git add -A; {git} commit -qam 2")).await;
    let (ok, text) = sh(&b, &Policy::default(), "git show HEAD:secret/a.rs HEAD:deep/k.pem").await;
    assert!(ok && text.matches("hunter2").count() == 2, "{text}");
}

#[tokio::test]
async fn links_lead_to_nothing_that_is_closed() {
    let b = bench();
    fs::create_dir(b.path("vault")).unwrap();
    b.write("vault/v", "pub fn hunter2() {}\n");
    symlink("vault", b.path("named")).unwrap();
    symlink("secret", b.path("other")).unwrap();
    symlink("deep/open.rs", b.path("x.pem")).unwrap();
    let policy = deny(&[("read", "secret/**"), ("read", "named/**"), ("read", "*.pem")]);
    for path in
        ["other/a.rs", "./secret/a.rs", "open/../secret/a.rs", "named/v", "vault/v", "x.pem"]
    {
        let (ok, text) = under(&b, &policy, "read_file", json!({"path": path})).await;
        assert!(!ok && !text.contains("fn hunter2"), "{path}: {text}");
        assert!(
            sh(&b, &Policy::default(), &format!("cat {path}")).await.0 || path.contains("open/")
        );
        let (ok, text) = sh(&b, &policy, &format!("cat {path}")).await;
        assert!(!ok && !text.contains("fn hunter2"), "{path}: {text}");
    }
    for path in ["other", "named", "vault"] {
        for tool in ["list_files", "search_files"] {
            let params = json!({"path": path, "regex": "hunter2"});
            let (ok, text) = under(&b, &policy, tool, params).await;
            assert!(!ok && text.contains("deny read"), "{tool} {path}: {text}");
        }
    }
}

/// Each call looks anew: what has come to be there since is closed to the next.
#[tokio::test]
async fn what_is_created_later_is_closed_to_the_next_call() {
    let b = bench();
    let policy = deny(&[("read", "later/**"), ("read", "*.key")]);
    let (ok, text) = sh(
        &b,
        &policy,
        "A=fn; mkdir later && echo $A hunter2 > later/x && echo $A hunter2 > n.key",
    )
    .await;
    assert!(ok, "{text}");
    let (ok, text) = sh(&b, &policy, "cat later/x; cat n.key").await;
    assert!(!ok && !text.contains("fn hunter2"), "{text}");
    let (_, text) =
        under(&b, &policy, "search_files", json!({"path": ".", "regex": "hunter2"})).await;
    assert!(!text.contains("later/x") && !text.contains("n.key"), "{text}");
}

/// A workspace inside a workspace, with a repository and rules of its own.
#[tokio::test]
async fn nested_workspaces_are_no_way_around() {
    let b = bench();
    b.write("inner/secret/a.rs", "pub fn hunter2() {}\n");
    b.write("inner/.gitignore", "!secret\n");
    b.write("inner/.lapce/rules.toml", "[[rules]]\neffect = \"allow\"\ntool = \"*\"\n");
    let policy = deny(&[("read", "**/secret/**")]);
    for command in ["cd inner && cat secret/a.rs", "git -C inner init -q; cat inner/secret/a.rs"] {
        let (ok, text) = sh(&b, &policy, command).await;
        assert!(!ok && !text.contains("fn hunter2"), "{command}: {text}");
    }
    // Opened by itself, a rule for the outer one by its absolute path is not about it; one for
    // everywhere is.
    let inner = Bench::at(&b.path("inner"));
    let (ok, text) = sh(&inner, &deny(&[("read", "secret/**")]), "cat secret/a.rs").await;
    assert!(!ok && !text.contains("fn hunter2"), "{text}");
    let text = format!(
        "[[rules]]\neffect = \"deny\"\ntool = \"read\"\npattern = \"secret/**\"\nworkspace = {:?}\n",
        b.workspace.root()
    );
    let outer = file::parse(&text).unwrap();
    assert!(sh(&inner, &outer, "cat secret/a.rs").await.0);
    assert!(!sh(&b, &outer, "cat secret/a.rs").await.0);
}

#[tokio::test]
async fn what_is_closed_to_writers_is_read_only_for_commands() {
    let b = bench();
    b.write("migrations/1.sql", "one");
    b.write("lib/x.lock", "lock");
    symlink("migrations", b.path("m")).unwrap();
    let policy = deny(&[("write", "migrations/**"), ("write", "*.lock")]);
    for command in [
        "echo > migrations/1.sql",
        "echo > migrations/2.sql",
        "echo > m/2.sql",
        "rm migrations/1.sql",
        "mv migrations m2",
        "mv lib l2",
        "rm lib/x.lock",
        "sed -i s/lock/x/ lib/x.lock",
        "echo x > new && mv new lib/x.lock",
    ] {
        let (ok, text) = sh(&b, &policy, command).await;
        assert!(!ok, "{command}: {text}");
    }
    assert_eq!((b.read("migrations/1.sql"), b.read("lib/x.lock")), ("one".into(), "lock".into()));
    let (ok, text) =
        sh(&b, &policy, "cat migrations/1.sql m/1.sql lib/x.lock && echo > lib/y").await;
    assert!(ok, "{text}");
    for (tool, params) in [
        ("write_to_file", json!({"path": "migrations/2.sql", "content": "x"})),
        ("write_to_file", json!({"path": "m/1.sql", "content": "x"})),
        ("delete_file", json!({"path": "./migrations/1.sql"})),
        ("edit", json!({"file_path": "lib/x.lock", "old_string": "lock", "new_string": "x"})),
    ] {
        let (ok, text) = under(&b, &policy, tool, params).await;
        assert!(!ok && text.contains("deny write"), "{tool}: {text}");
    }
    let patch = "*** Begin Patch\n*** Update File: open.rs\n*** Move to: migrations/o.rs\n@@\n-pub fn open() { /* hunter3 */ }\n+x\n*** End Patch\n";
    let (ok, text) = under(&b, &policy, "apply_patch", json!({"patch": patch})).await;
    assert!(!ok && text.contains("deny write") && b.path("open.rs").exists(), "{text}");
    // What no mount could hold is moved aside, links that were put elsewhere too.
    let policy = deny(&[("write", "*.lock"), ("write", "dist/**"), ("write", "m")]);
    let command = "mkdir dist && echo x > dist/a && echo y > lib/new.lock && rm m && ln -s lib m";
    let (ok, text) = sh(&b, &policy, command).await;
    assert!(ok && !b.path("dist").exists() && !b.path("lib/new.lock").exists(), "{text}");
    assert!(!b.path("m").is_symlink(), "{text}");
    assert_eq!(text.matches("was moved to").count(), 3, "{text}");
    assert!(text.contains("'dist' is closed by the rule 'deny write 'dist/**''"), "{text}");
    // Everything.
    let policy = deny(&[("write", "**")]);
    let (ok, text) = sh(&b, &policy, "cat open.rs && echo > fresh").await;
    assert!(
        !ok && text.contains("hunter3") && text.contains("closes the whole workspace"),
        "{text}"
    );
    assert!(!b.path("fresh").exists());
}

/// What a writer would show of a file in its errors, or take along, is closed as well.
#[tokio::test]
async fn no_writer_shows_or_moves_what_is_closed_to_readers() {
    let b = bench();
    let policy = deny(&[("read", "secret/**")]);
    let patch = "*** Begin Patch\n*** Update File: secret/a.rs\n*** Move to: out.rs\n@@\n-pub fn nothing() {}\n+x\n*** End Patch\n";
    let calls = [
        (
            "edit",
            json!({"file_path": "secret/a.rs", "old_string": "pub fn hunter()", "new_string": "x"}),
        ),
        (
            "edit_file",
            json!({"file_path": "secret/a.rs", "old_string": "pub fn hunter()", "new_string": "x"}),
        ),
        (
            "search_replace",
            json!({"file_path": "secret/a.rs", "old_string": "pub fn hunter()", "new_string": "x"}),
        ),
        ("search_and_replace", json!({"path": "secret/a.rs", "search": "pub fn", "replace": "x"})),
        (
            "apply_diff",
            json!({"path": "secret/a.rs", "diff": "<<<<<<< SEARCH\npub fn hunter1() {}\n=======\nx\n>>>>>>> REPLACE"}),
        ),
        ("insert_content", json!({"path": "secret/a.rs", "line": 1, "content": "x"})),
        ("append_to_file", json!({"path": "secret/a.rs", "content": "x"})),
        ("write_to_file", json!({"path": "secret/a.rs", "content": "x"})),
        ("delete_file", json!({"path": "secret/a.rs"})),
        ("apply_patch", json!({"patch": patch})),
    ];
    // Each that there is, so that a new one is tried too.
    let tried: BTreeSet<&str> = calls.iter().map(|(tool, _)| *tool).collect();
    let writes = |spec: &&spec::ToolSpec| spec.class == Class::Write && spec.runs == Runs::Helper;
    assert_eq!(tried, spec::offered().filter(writes).map(|spec| spec.name).collect());
    for (tool, params) in calls {
        let (ok, text) = under(&b, &policy, tool, params).await;
        assert!(!ok && !text.contains("fn hunter2"), "{tool}: {text}");
        assert!(text.contains("is closed by the user's rule 'deny read"), "{tool}: {text}");
    }
    assert!(b.read("secret/a.rs").contains("hunter2") && !b.path("out.rs").exists());
}

#[tokio::test]
async fn without_namespaces_nothing_runs_past_a_rule() {
    let b = bench();
    b.write("lib/x.lock", "lock");
    let bare = b.without(&[layer::MOUNT]);
    let (ok, text) = sh(&bare, &deny(&[("read", "secret/**")]), "true").await;
    assert!(
        !ok && text.contains("was not run: a rule of the user's denies reading 'secret'"),
        "{text}"
    );
    // Writing is held by Landlock: nothing in the folder that holds the path.
    let policy = deny(&[("write", "lib/x.lock")]);
    assert!(!sh(&bare, &policy, "echo > lib/x.lock").await.0);
    assert!(!sh(&bare, &policy, "rm lib/x.lock").await.0);
    assert_eq!(b.read("lib/x.lock"), "lock");
    let (ok, text) = sh(&bare, &policy, "cat lib/x.lock && echo x >> deep/open.rs").await;
    assert!(ok, "{text}");
    let (ok, text) = sh(&b.without(&[layer::MOUNT, layer::LANDLOCK]), &policy, "true").await;
    assert!(!ok && text.contains("denies writing 'lib/x.lock'"), "{text}");
}

#[tokio::test]
async fn more_than_can_be_held_is_a_refusal() {
    let b = Bench::new();
    for n in 0..=CLOSED_MAX_PATHS {
        b.write(&format!("{n}.pem"), "x");
    }
    for tool in ["read", "write"] {
        let (ok, text) = sh(&b, &deny(&[(tool, "*.pem")]), "true").await;
        assert!(!ok && text.contains("was not run: rules deny"), "{text}");
    }
    let (ok, text) = sh(&b, &deny(&[("read", "**")]), "true").await;
    assert!(!ok && text.contains("closes the whole workspace to reading"), "{text}");
    fs::remove_file(b.path("0.pem")).unwrap();
    let (ok, text) = sh(&b, &deny(&[("read", "*.pem")]), "true").await;
    assert!(ok, "{text}");
    assert!(!sh(&b, &deny(&[("read", "*.pem")]), "cat 7.pem").await.0);
}

/// A folder closed to writers may hold what is hidden, and the other way round: neither opens
/// the other.
#[tokio::test]
async fn covers_and_fixed_paths_do_not_open_each_other() {
    let b = Bench::new();
    b.write("a/b/c/key", "fn hunter2");
    b.write("a/b/c/plain", "plain");
    b.write("a/.env", "fn hunter2");
    b.write(".gitignore", ".env\n");
    b.write(".vscode/x/key", "fn hunter2");
    let policy = deny(&[("write", "a/**"), ("read", "key"), ("write", ".vscode/x/**")]);
    for command in [
        "echo > a/b/c/plain",
        "echo > a/b/c/new",
        "cat a/b/c/key",
        "cat .vscode/x/key",
        "echo > .vscode/new",
        "echo > .vscode/x/new",
        "grep hunter2 a/.env",
        "mv a/b a/d",
        "mv a d",
    ] {
        let (ok, text) = sh(&b, &policy, command).await;
        assert!(!ok && !text.contains("fn hunter2"), "{command}: {text}");
    }
    assert!(sh(&b, &policy, "cat a/b/c/plain").await.0);
}

/// An approved command may rewrite the rules; what they hid stays hidden, from it and from every
/// call after it, in this run and in the next.
#[tokio::test]
async fn a_command_that_rewrites_gitignore_opens_no_secret() {
    let state = tempfile::tempdir().unwrap();
    for (rewrite, restore) in [
        ("sed -i /env/d .gitignore", "echo .env >> .gitignore"),
        ("rm .gitignore", "echo .env > .gitignore"),
        (
            "echo '!.env' > sub/.gitignore; echo '!.env' >> .gitignore",
            "rm sub/.gitignore; echo .env > .gitignore",
        ),
        ("echo > .gitignore; kill -9 $$", "echo .env > .gitignore"),
    ] {
        let mut b = Bench::new();
        b.host = b.host.with_state(state.path().to_owned());
        b.write(".gitignore", "*.o\n.env\n");
        for path in [".env", "sub/.env"] {
            b.write(path, "KEY=hunter2\n");
        }
        b.write("a.txt", "no secret\n");
        let none = Policy::default();
        let (_, text) = sh(&b, &none, &format!("({rewrite}); cat .env sub/.env")).await;
        assert!(!text.contains("KEY=hunter2"), "{rewrite}: {text}");
        assert!(text.contains("tools see nothing of them still: .env, sub/.env"), "{text}");
        let outside = std::process::Command::new("git")
            .args(["-c", "safe.directory=*", "check-ignore", "--no-index", ".env"])
            .current_dir(b.path("."))
            .output();
        assert!(!outside.unwrap().status.success(), "the rules are rewritten indeed");
        // Another host, as after a restart of the engine, is as strict.
        let mut next = Bench::at(b.workspace.root());
        next.host = next.host.with_state(state.path().to_owned());
        for b in [&b, &next] {
            let (ok, text) = sh(b, &none, "grep -r hunter2 . || mv sub s2").await;
            assert!(!ok && !text.contains("KEY=hunter2"), "{rewrite}: {text}");
            for (tool, params) in [
                ("read_file", json!({"path": ".env"})),
                ("read_file", json!({"path": "sub/.env"})),
                ("search_files", json!({"path": ".", "regex": "hunter."})),
                ("append_to_file", json!({"path": ".env", "content": "x"})),
            ] {
                let (_, text) = under(b, &none, tool, params).await;
                assert!(!text.contains("KEY=hunter2"), "{rewrite}: {tool}: {text}");
                assert!(text.contains("git ignored it until a command"), "{tool}: {text}");
            }
        }
        // The user's own setting shows one of them.
        let mut shown = Bench::at(b.workspace.root());
        shown.host = shown.host.with_state(state.path().to_owned());
        shown.workspace = shown.workspace.show(["/sub/.env".into()]);
        assert!(under(&shown, &none, "read_file", json!({"path": "sub/.env"})).await.0);
        assert!(sh(&shown, &none, "grep hunter2 sub/.env").await.0);
        assert!(!sh(&shown, &none, "grep hunter2 .env").await.0);
        // Undone, the command's work is gone, and no secret with it.
        let undone = b.host.undo(&b.workspace, &Selector::Last).await;
        assert!(
            undone.ok && b.path(".env").exists() && b.path("sub/.env").exists(),
            "{}",
            undone.text
        );
        // Once git ignores them again, it is git's to say.
        sh(&b, &none, restore).await;
        sh(&b, &none, "true").await;
        b.write(".gitignore", "*.o\n");
        let (ok, text) = under(&b, &none, "read_file", json!({"path": ".env"})).await;
        assert!(ok && text.contains("KEY=hunter2"), "changed by the user: {text}");
    }
}

/// A command in the background is at it while others run; one that is cancelled says nothing of
/// its end.
#[tokio::test]
async fn what_a_running_command_may_open_is_hidden_meanwhile_and_after() {
    let state = tempfile::tempdir().unwrap();
    let mut b = Bench::new();
    b.host = b.host.with_state(state.path().to_owned());
    b.write(".gitignore", ".env\n");
    b.write(".env", "KEY=hunter2\n");
    let none = Policy::default();
    let ledger = Ledger::for_run("r");
    let params = json!({"command": "echo > .gitignore; touch done; sleep 300", "background": true});
    let Value::Object(params) = params else { unreachable!() };
    let call = ToolCall { id: "t".into(), name: "execute_command".into(), params };
    let mut invocation = Invocation::new(call, b.workspace.clone());
    invocation.ledger = ledger.clone();
    assert!(b.host.run(invocation).await.ok);
    let deadline = Instant::now() + Duration::from_mins(1);
    while !b.path("done").exists() {
        assert!(Instant::now() < deadline, "the command has not begun");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..2 {
        assert!(!sh(&b, &none, "grep hunter2 .env").await.0);
        let (ok, text) = under(&b, &none, "read_file", json!({"path": ".env"})).await;
        assert!(!ok && text.contains("git ignored it"), "{text}");
    }
    drop(ledger);
    while !b.host.pids().is_empty() {
        assert!(Instant::now() < deadline, "it does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!sh(&b, &none, "grep hunter2 .env").await.0);
    assert!(!under(&b, &none, "read_file", json!({"path": ".env"})).await.0);
}
