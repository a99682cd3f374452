//! Undo without Git, and outputs that are kept.

use lapce_ai_tools::host::{Ledger, ToolHost};
use lapce_ai_tools::journal::Selector;
use serde_json::json;

use crate::support::{Bench, helper};

fn bench() -> Bench {
    let mut b = Bench::new();
    b.host = ToolHost::new(helper()).with_state(b.dir.path().join("state"));
    b
}

async fn in_run(b: &Bench, ledger: &Ledger, id: &str, tool: &str, params: serde_json::Value) {
    let mut invocation = b.invocation(tool, params);
    invocation.call.id = id.into();
    invocation.ledger = ledger.clone();
    let out = b.host.run(invocation).await;
    assert!(out.ok, "{}", out.envelope);
}

#[tokio::test]
async fn a_run_is_undone_and_the_undo_too() {
    use std::os::unix::fs::PermissionsExt as _;
    let b = bench();
    b.write("a", b"one\xff\n");
    b.write("d", "gone\n");
    std::fs::set_permissions(b.path("d"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let ledger = Ledger::for_run("run-1");
    in_run(&b, &ledger, "c1", "write_to_file", json!({"path": "a", "content": "two\n"})).await;
    in_run(&b, &ledger, "c2", "append_to_file", json!({"path": "a", "content": "three\n"})).await;
    in_run(&b, &ledger, "c3", "write_to_file", json!({"path": "new/n", "content": "n\n"})).await;
    in_run(&b, &ledger, "c4", "delete_file", json!({"path": "d"})).await;
    let list = b.host.undoable(&b.workspace).unwrap();
    assert_eq!(list.iter().map(|u| u.call.as_str()).collect::<Vec<_>>(), ["c1", "c2", "c3", "c4"]);

    let undone = b.host.undo(&b.workspace, &Selector::Last).await;
    assert!(undone.ok, "{}", undone.text);
    assert_eq!(std::fs::read(b.path("a")).unwrap(), b"one\xff\n");
    assert_eq!(b.read("d"), "gone\n");
    let mode = std::fs::metadata(b.path("d")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o755);
    assert!(!b.path("new/n").exists());

    let again = b.host.undo(&b.workspace, &Selector::Run(undone.run)).await;
    assert!(again.ok, "{}", again.text);
    assert_eq!((b.read("a").as_str(), b.read("new/n").as_str()), ("two\nthree\n", "n\n"));
    assert!(!b.path("d").exists());

    let one = b.host.undo(&b.workspace, &Selector::Call("c2".into())).await;
    assert!(one.ok, "{}", one.text);
    assert_eq!(b.read("a"), "two\n");
    let none = b.host.undo(&b.workspace, &Selector::Run("none".into())).await;
    assert!(!none.ok && none.text.contains("nothing to undo"), "{}", none.text);
}

#[tokio::test]
async fn an_undo_does_not_overwrite_what_somebody_else_wrote() {
    let b = bench();
    b.write("a", "one\n");
    b.write("b", "one\n");
    let ledger = Ledger::for_run("r");
    in_run(&b, &ledger, "c1", "write_to_file", json!({"path": "a", "content": "two\n"})).await;
    in_run(&b, &ledger, "c2", "write_to_file", json!({"path": "b", "content": "two\n"})).await;
    b.write("b", "the user's\n");
    let undone = b.host.undo(&b.workspace, &Selector::Run("r".into())).await;
    assert!(!undone.ok && undone.text.contains("changed on disk"), "{}", undone.text);
    assert_eq!((b.read("a").as_str(), b.read("b").as_str()), ("two\n", "the user's\n"));
}

#[tokio::test]
async fn nothing_is_written_when_the_journal_cannot_be() {
    let b = bench();
    b.write("a", "one\n");
    std::fs::write(b.dir.path().join("state"), "a file where the folder should be").unwrap();
    let out = b.call("write_to_file", json!({"path": "a", "content": "two\n"})).await;
    assert!(!out.ok && out.envelope.contains("nothing was written"), "{}", out.envelope);
    assert_eq!(b.read("a"), "one\n");
}

#[tokio::test]
async fn a_long_output_is_kept_whole() {
    let b = bench();
    let out = b.sh("seq 1 20000; echo an error here; seq 20001 40000").await;
    assert!(out.ok && out.envelope.len() < 40 << 10, "{}", out.envelope.len());
    let id = out.artefact.expect("it is kept");
    assert!(out.envelope.contains(&id) && out.envelope.contains("bytes,"), "{}", out.envelope);
    let read = async |params| b.call("read_command_output", params).await;
    let hit = read(json!({"artifact_id": id, "search": "error"})).await;
    assert!(hit.ok && hit.envelope.contains("40001 lines, 1 matching lines"), "{}", hit.envelope);
    assert!(hit.envelope.contains("20001 | an error here"), "{}", hit.envelope);
    let part = read(json!({"artifact_id": id, "offset": 39_999, "limit": 2})).await;
    assert!(part.envelope.contains("39999 | 39998\n 40000 | 39999\n"), "{}", part.envelope);
    for bad in ["../state", "none", "", "a/b"] {
        let out = read(json!({"artifact_id": bad})).await;
        assert!(!out.ok, "{bad}: {}", out.envelope);
    }
    assert!(b.sh("echo short").await.artefact.is_none());
}

#[tokio::test]
async fn what_a_command_changed_is_undone() {
    let b = bench();
    b.write(".gitignore", "build/\n");
    b.write("keep", "keep\n");
    b.write("edit", "one\n");
    b.write("gone/deep", "deep\n".as_bytes());
    b.write("build/out", "1");
    let ledger = Ledger::for_run("r");
    let command = "echo two > edit; rm -r gone; mkdir -p new; echo n > new/n; chmod +x keep; echo 2 > build/out";
    in_run(&b, &ledger, "c1", "execute_command", json!({"command": command})).await;
    assert!(!b.path("gone").exists() && b.read("edit") == "two\n");
    let list = b.host.undoable(&b.workspace).unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].files, ["edit", "gone/deep", "keep", "new/n"]);
    let undone = b.host.undo(&b.workspace, &Selector::Last).await;
    assert!(undone.ok, "{}", undone.text);
    assert_eq!(
        (b.read("edit").as_str(), b.read("gone/deep").as_bytes()),
        ("one\n", "deep\n".as_bytes())
    );
    assert!(!b.path("new/n").exists());
    assert_eq!(b.read("build/out"), "2\n", "ignored files are not covered");
    // Looking alone keeps nothing.
    in_run(&b, &ledger, "c2", "execute_command", json!({"command": "cat edit"})).await;
    assert_eq!(b.host.undoable(&b.workspace).unwrap().len(), 2, "the command and its undo");
}

#[tokio::test]
async fn a_cancelled_command_is_undone_too() {
    let b = bench();
    b.write("f", "one\n");
    let command = "rm f; touch marker; sleep 60";
    let mut invocation = b.invocation("execute_command", json!({"command": command}));
    invocation.call.id = "c1".into();
    let cancel = invocation.cancel.clone();
    let waiting = async {
        while !b.path("marker").exists() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        cancel.cancel();
    };
    let (out, ()) = tokio::join!(b.host.run(invocation), waiting);
    assert!(out.envelope.contains("Cancelled"), "{}", out.envelope);
    assert!(!b.path("f").exists());
    let undone = b.host.undo(&b.workspace, &Selector::Call("c1".into())).await;
    assert!(undone.ok, "{}", undone.text);
    assert!(b.read("f") == "one\n" && !b.path("marker").exists());
}

#[tokio::test]
async fn a_change_too_large_to_keep_is_named() {
    let b = bench();
    b.write("large.txt", "x".repeat(3 << 20));
    let out = b.sh("echo y >> large.txt; echo done > small").await;
    assert!(out.ok && out.envelope.contains("cannot be undone: large.txt"), "{}", out.envelope);
}

#[tokio::test]
async fn what_is_ignored_by_now_or_no_file_at_all_is_named() {
    let b = bench();
    for name in ["pipe", "hidden", "still"] {
        b.write(name, "one\n");
    }
    let command =
        "rm pipe; mkfifo pipe; echo two > hidden; printf 'hidden\\nstill\\n' > .gitignore";
    let out = b.sh(command).await;
    assert!(out.ok, "{}", out.envelope);
    assert!(out.envelope.contains("cannot be undone: hidden, pipe<"), "{}", out.envelope);
}

/// Every path that is no folder, with where it leads or what it holds.
fn tree(b: &Bench) -> String {
    let script = "find . -type l -printf '%p -> %l\n' | sort; \
                  find . -type f | sort | xargs -d '\n' -r grep -H ''";
    let list = std::process::Command::new("/bin/sh")
        .args(["-c", script])
        .current_dir(b.workspace.root())
        .output()
        .unwrap();
    String::from_utf8(list.stdout).unwrap()
}

/// A folder or a symlink in a file's place, a file or a symlink in a folder's, and back.
#[tokio::test]
async fn changes_of_kind_are_undone_and_redone() {
    let b = bench();
    let outside = b.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("x"), "not yours\n").unwrap();
    b.write("file", "file\n");
    b.write("other", "other\n");
    b.write("folder/x", "x\n");
    b.write("folder/deep/y", "y\n");
    std::os::unix::fs::symlink("other", b.path("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", b.path("dangling")).unwrap();
    let before = tree(&b);
    for (n, command) in [
        "rm file; mkdir file",
        "rm file; mkdir -p file/a/empty; echo in > file/a/in; ln -s in file/a/l",
        "rm file; ln -s other file",
        "rm -r folder; echo f > folder",
        &format!("rm -r folder; ln -s {} folder", outside.display()),
        "mv folder moved; ln -s moved folder",
        "rm link; echo l > link",
        "ln -sfn file link; rm dangling; ln -s new made",
        "rm link; mkdir link; echo l > link/l",
        "mv file folder/deep; mv folder file; ln -s file/deep folder",
    ]
    .into_iter()
    .enumerate()
    {
        let ledger = Ledger::for_run(&format!("r{n}"));
        in_run(&b, &ledger, "c", "execute_command", json!({"command": command})).await;
        let after = tree(&b);
        let mut last = Selector::Last;
        for (times, want) in [&before, &after, &before].into_iter().enumerate() {
            let undone = b.host.undo(&b.workspace, &last).await;
            assert!(undone.ok, "{command}, {times}: {}", undone.text);
            assert_eq!(tree(&b), *want, "{command}, {times}");
            last = Selector::Run(undone.run);
        }
        assert!(b.path("file").is_file() && b.path("folder").is_dir(), "{command}");
        assert!(b.path("folder").symlink_metadata().unwrap().is_dir(), "{command}");
        assert_eq!(std::fs::read_to_string(outside.join("x")).unwrap(), "not yours\n");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1, "{command}");
    }
}

#[tokio::test]
async fn a_file_whose_name_became_a_folder_is_undone() {
    let b = bench();
    b.write("a", "one\n");
    let before = tree(&b);
    let ledger = Ledger::for_run("r");
    in_run(&b, &ledger, "c1", "delete_file", json!({"path": "a"})).await;
    in_run(&b, &ledger, "c2", "write_to_file", json!({"path": "a/b", "content": "two\n"})).await;
    let undone = b.host.undo(&b.workspace, &Selector::Last).await;
    assert!(undone.ok, "{}", undone.text);
    assert_eq!(tree(&b), before);
}

#[tokio::test]
async fn what_somebody_else_put_in_the_way_of_an_undo_stays() {
    use std::os::unix::fs::symlink;
    let b = bench();
    b.write(".gitignore", "*.o\n");
    let stays = async |step: &dyn Fn(), named: &str| {
        let _ = std::fs::remove_dir_all(b.path("d"));
        for path in ["d/a", "d/sub/b"] {
            b.write(path, "one\n");
        }
        let ledger = Ledger::for_run("r");
        let command = "rm d/a; mkdir d/a; echo mine > d/a/mine; echo two > d/sub/b";
        in_run(&b, &ledger, "c1", "execute_command", json!({"command": command})).await;
        step();
        let now = tree(&b);
        let undone = b.host.undo(&b.workspace, &Selector::Call("c1".into())).await;
        assert!(!undone.ok && undone.text.contains(named), "{named}: {}", undone.text);
        assert_eq!(tree(&b), now, "{named}");
    };
    stays(&|| b.write("d/a/yours", "x\n"), "'d/a/yours' was not left there").await;
    stays(&|| b.write("d/a/x.o", "x\n"), "'d/a/x.o' is ignored").await;
    stays(&|| symlink("/etc", b.path("d/a/l")).unwrap(), "'d/a/l' was not left there").await;
    stays(&|| b.write("d/a/mine", "yours\n"), "'d/a/mine' changed on disk").await;
    stays(&|| b.write("d/sub/b", "yours\n"), "'d/sub/b' changed on disk").await;
    let link_for_file = || {
        std::fs::rename(b.path("d/sub/b"), b.path("d/sub/c")).unwrap();
        symlink("c", b.path("d/sub/b")).unwrap();
    };
    stays(&link_for_file, "'d/sub/b' changed on disk").await;
    let link_for_folder = || {
        std::fs::rename(b.path("d/sub"), b.path("d/away")).unwrap();
        symlink("away", b.path("d/sub")).unwrap();
    };
    stays(&link_for_folder, "'d/sub' is no folder any more").await;
    let folder = || {
        std::fs::remove_file(b.path("d/sub/b")).unwrap();
        std::fs::create_dir(b.path("d/sub/b")).unwrap();
    };
    stays(&folder, "'d/sub/b' changed on disk").await;
    let protected = || {
        std::fs::create_dir_all(b.path("d/a/.git")).unwrap();
        std::fs::write(b.path("d/a/.git/config"), "x").unwrap();
    };
    stays(&protected, "'d/a/.git' is protected").await;
}

/// The clock of a file system ticks coarsely: two changes within a tick leave the same stamp.
#[tokio::test]
async fn a_change_that_leaves_the_same_stamp_as_the_one_before_is_undone() {
    let b = bench();
    for n in 0..30 {
        b.write("f", format!("user {n:02}\n"));
        // Same size, same inode, at once.
        let command = format!("printf 'tool %02d\\n' {n} > f");
        let ledger = Ledger::for_run(&format!("r{n}"));
        in_run(&b, &ledger, "c", "execute_command", json!({"command": command})).await;
        assert_eq!(b.read("f"), format!("tool {n:02}\n"));
        assert!(b.host.undo(&b.workspace, &Selector::Last).await.ok);
        assert_eq!(b.read("f"), format!("user {n:02}\n"));
    }
}

/// Size, time of change and inode can be put back by a program; the inode's own time cannot.
#[tokio::test]
async fn a_change_that_hides_its_time_is_undone() {
    let b = bench();
    b.write("f", "one\n");
    b.write("g", "old\n");
    settle().await;
    let command = json!({"command": "touch -d 2001-01-01 g"});
    in_run(&b, &Ledger::for_run("r1"), "c", "execute_command", command).await;
    settle().await;
    let command = "touch -r f .t && printf 'two\\n' > f && touch -r .t f && rm .t && touch -d 2001-01-01 g && printf 'new\\n' > g && touch -d 2001-01-01 g";
    let ledger = Ledger::for_run("r2");
    in_run(&b, &ledger, "c", "execute_command", json!({"command": command})).await;
    let undone = b.host.undo(&b.workspace, &Selector::Last).await;
    assert!(undone.ok, "{}", undone.text);
    assert_eq!((b.read("f").as_str(), b.read("g").as_str()), ("one\n", "old\n"));
}

/// Long enough for stamps to be trusted.
async fn settle() {
    let ms = lapce_ai_tools::limits::SNAPSHOT_SETTLED_MS as u64 + 300;
    tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
}

/// The second look at the files lists only what changed; it must find all that a first finds.
#[tokio::test]
async fn changes_of_every_kind_are_undone_when_the_files_are_known() {
    let b = bench();
    for folder in 0..20 {
        for file in 0..5 {
            b.write(&format!("d{folder}/s/f{file}"), format!("{folder} {file}\n"));
        }
    }
    b.write("d0/.gitignore", "*.o\n");
    b.write("d0/x.o", "object\n");
    let all = || {
        let list = std::process::Command::new("/bin/sh")
            .args([
                "-c",
                "find . -type f -not -name '*.o' | sort | xargs sha256sum; find . -type f | wc -l",
            ])
            .current_dir(b.workspace.root())
            .output()
            .unwrap();
        String::from_utf8(list.stdout).unwrap()
    };
    let before = all();
    settle().await;
    for (n, command) in [
        "echo more >> d3/s/f1",
        "rm d4/s/f0",
        "echo new > d5/s/new; mkdir -p d5/n/m; echo deep > d5/n/m/f",
        "mv d6 moved; mkdir d6; echo other > d6/t",
        "rm -r d7; mkdir -p d7/s; echo again > d7/s/f0",
        "mv d8/s/f0 d8/s/tmp; mv d8/s/f1 d8/s/f0; mv d8/s/tmp d8/s/f1",
        "chmod +x d9/s/f2; ln d9/s/f3 d9/s/link",
        "for n in $(seq 11 19); do echo x > d$n/s/f0; echo y > d$n/y; done",
        "echo '*.p' > d0/.gitignore; echo p > d0/x.p; echo q > d0/x.q",
        "rm d0/.gitignore",
        "touch d2/s/f0; cat d2/s/f1 > d2/s/copy; rm d2/s/copy",
    ]
    .into_iter()
    .enumerate()
    {
        let ledger = Ledger::for_run(&format!("r{n}"));
        in_run(&b, &ledger, "c", "execute_command", json!({"command": command})).await;
        // Commands that leave all as it was have nothing to undo.
        if all() != before {
            let undone = b.host.undo(&b.workspace, &Selector::Last).await;
            assert!(undone.ok, "{command}: {}", undone.text);
        }
        // What stays: a file that the rules ignored when the command had ended.
        let _ = std::fs::remove_file(b.path("d0/x.p"));
        let now = all();
        let differ = before.lines().zip(now.lines()).find(|(was, is)| was != is);
        assert_eq!(differ, None, "{command}");
        assert_eq!(now.lines().count(), before.lines().count(), "{command}");
    }
}
