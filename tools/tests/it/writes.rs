//! The tools that change files, through the helper.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use lapce_ai_tools::host::{Invocation, Ledger};
use serde_json::{Value, json};

use crate::support::Bench;

impl Bench {
    fn with_ledger(&self, ledger: &Ledger, tool: &str, params: Value) -> Invocation {
        let mut invocation = self.invocation(tool, params);
        invocation.ledger = ledger.clone();
        invocation
    }
}

#[tokio::test]
async fn every_editing_tool_edits() {
    let b = Bench::new();
    let diff = "<<<<<<< SEARCH\n:start_line:2\n-------\n  two\n=======\n  TWO\n>>>>>>> REPLACE\n";
    let patch = "*** Begin Patch\n*** Update File: f\n@@\n-  two\n+  TWO\n*** End Patch";
    for (tool, params, want) in [
        ("write_to_file", json!({"path": "f", "content": "new\n"}), "new\n"),
        ("apply_diff", json!({"path": "f", "diff": diff}), "one\n  TWO\nthree\n"),
        (
            "insert_content",
            json!({"path": "f", "line": 2, "content": "x\n"}),
            "one\nx\n  two\nthree\n",
        ),
        (
            "search_and_replace",
            json!({"path": "f", "search": "t", "replace": "$1"}),
            "one\n  $1wo\n$1hree\n",
        ),
        ("append_to_file", json!({"path": "f", "content": "four\n"}), "one\n  two\nthree\nfour\n"),
        (
            "edit",
            json!({"file_path": "f", "old_string": "  two", "new_string": "2"}),
            "one\n2\nthree\n",
        ),
        (
            "search_replace",
            json!({"file_path": "f", "old_string": "one\n", "new_string": ""}),
            "  two\nthree\n",
        ),
        (
            "edit_file",
            json!({"file_path": "f", "old_string": "two\nthree", "new_string": "2\n3"}),
            "one\n2\n3\n",
        ),
        ("apply_patch", json!({"patch": patch}), "one\n  TWO\nthree\n"),
    ] {
        b.write("f", "one\n  two\nthree\n");
        std::fs::set_permissions(b.path("f"), std::fs::Permissions::from_mode(0o750)).unwrap();
        let out = b.call(tool, params).await;
        assert!(out.ok, "{tool}: {}", out.envelope);
        assert_eq!(
            if tool == "edit_file" { b.read("f").replace("  2", "2") } else { b.read("f") },
            want,
            "{tool}"
        );
        assert!(
            out.envelope.contains("<operation>modified</operation>"),
            "{tool}: {}",
            out.envelope
        );
        let mode = std::fs::metadata(b.path("f")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o750, "{tool} keeps the mode");
    }
    let out = b.call("delete_file", json!({"path": "f"})).await;
    assert!(out.ok && !b.path("f").exists(), "{}", out.envelope);
    let left: Vec<_> = std::fs::read_dir(b.workspace.root()).unwrap().collect();
    assert!(left.is_empty(), "temporary files are left: {left:?}");
}

#[tokio::test]
async fn new_files_and_folders_are_made() {
    let b = Bench::new();
    let out = b.call("write_to_file", json!({"path": "a/b/c.txt", "content": "  x\n\n"})).await;
    assert!(out.ok && out.envelope.contains("created"), "{}", out.envelope);
    assert_eq!(b.read("a/b/c.txt"), "  x\n\n");
    let out =
        b.call("edit_file", json!({"file_path": "n", "old_string": "", "new_string": "x"})).await;
    assert!(out.ok, "{}", out.envelope);
    for (tool, params) in [
        ("edit", json!({"file_path": "none", "old_string": "a", "new_string": "b"})),
        ("delete_file", json!({"path": "none"})),
        ("delete_file", json!({"path": "a"})),
        ("write_to_file", json!({"path": "a", "content": ""})),
        ("write_to_file", json!({"path": ".", "content": ""})),
        ("write_to_file", json!({"path": "n/x", "content": ""})),
    ] {
        let out = b.call(tool, params.clone()).await;
        assert!(!out.ok, "{tool} {params}: {}", out.envelope);
    }
}

#[tokio::test]
async fn a_file_that_changed_since_it_was_read_is_not_written() {
    let b = Bench::new();
    let ledger = Ledger::default();
    b.write("f", "one\n");
    let write = json!({"path": "f", "content": "mine\n"});
    let read = b.with_ledger(&ledger, "read_file", json!({"path": "f"}));
    assert!(b.host.run(read).await.ok);
    b.write("f", "theirs\n");
    let out = b.host.run(b.with_ledger(&ledger, "write_to_file", write.clone())).await;
    assert!(
        !out.ok && out.envelope.contains("changed on disk since it was read"),
        "{}",
        out.envelope
    );
    assert_eq!(b.read("f"), "theirs\n");
    // Read again, it can be written; and twice in a row.
    b.host.run(b.with_ledger(&ledger, "read_file", json!({"path": "f"}))).await;
    assert!(b.host.run(b.with_ledger(&ledger, "write_to_file", write.clone())).await.ok);
    let append = json!({"path": "f", "content": "more\n"});
    assert!(b.host.run(b.with_ledger(&ledger, "append_to_file", append)).await.ok);
    assert_eq!(b.read("f"), "mine\nmore\n");
    std::fs::remove_file(b.path("f")).unwrap();
    let out = b.host.run(b.with_ledger(&ledger, "write_to_file", write.clone())).await;
    assert!(!out.ok && out.envelope.contains("was deleted since"), "{}", out.envelope);
    // Another run knows nothing of it.
    assert!(b.call("write_to_file", write).await.ok);
}

#[tokio::test]
async fn a_patch_changes_all_files_or_none() {
    let b = Bench::new();
    b.write("a", "a\n");
    b.write("b", "b\n");
    let ok = "*** Begin Patch\n*** Add File: new/n\n+n\n*** Update File: a\n@@\n-a\n+A\n*** Delete File: b\n*** End Patch";
    let bad = ok.replace("-a\n", "-z\n");
    let out = b.call("apply_patch", json!({"patch": bad})).await;
    assert!(!out.ok && !b.path("new/n").exists() && b.path("b").exists(), "{}", out.envelope);
    let out = b.call("apply_patch", json!({"patch": ok})).await;
    assert!(out.ok, "{}", out.envelope);
    assert_eq!((b.read("a").as_str(), b.read("new/n").as_str()), ("A\n", "n\n"));
    assert!(!b.path("b").exists());
    let moved = "*** Begin Patch\n*** Update File: a\n*** Move to: c\n@@\n-A\n+C\n*** End Patch";
    assert!(b.call("apply_patch", json!({"patch": moved})).await.ok);
    assert!(!b.path("a").exists() && b.read("c") == "C\n");
    // A failure half-way takes the first files back: the second cannot be written.
    b.write("x", "x\n");
    b.write("ro/y", "y\n");
    std::fs::set_permissions(b.path("ro"), std::fs::Permissions::from_mode(0o555)).unwrap();
    let half = "*** Begin Patch\n*** Update File: x\n@@\n-x\n+X\n*** Update File: ro/y\n@@\n-y\n+Y\n*** End Patch";
    let out = b.call("apply_patch", json!({"patch": half})).await;
    std::fs::set_permissions(b.path("ro"), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(!out.ok && out.envelope.contains("Nothing was changed"), "{}", out.envelope);
    assert_eq!((b.read("x").as_str(), b.read("ro/y").as_str()), ("x\n", "y\n"));
    let out = b
        .call(
            "apply_patch",
            json!({"patch": "*** Begin Patch\n*** Add File: ../out\n+x\n*** End Patch"}),
        )
        .await;
    assert!(!out.ok && out.envelope.contains("outside"), "{}", out.envelope);
    let out = b
        .call(
            "apply_patch",
            json!({"patch": "*** Begin Patch\n*** Add File: .git/hooks/x\n+x\n*** End Patch"}),
        )
        .await;
    assert!(!out.ok && out.envelope.contains("protected"), "{}", out.envelope);
}

#[tokio::test]
async fn a_hard_link_is_not_written_through() {
    let b = Bench::new();
    let outside = b.dir.path().join("outside");
    std::fs::write(&outside, "before\n").unwrap();
    std::fs::hard_link(&outside, b.path("link")).unwrap();
    let out = b.call("write_to_file", json!({"path": "link", "content": "after\n"})).await;
    assert!(out.ok, "{}", out.envelope);
    assert_eq!(b.read("link"), "after\n");
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "before\n");
    assert_eq!(std::fs::metadata(b.path("link")).unwrap().nlink(), 1);
}

#[tokio::test]
async fn odd_content_has_a_defined_result() {
    let b = Bench::new();
    b.write("latin1", b"caf\xe9\n");
    b.write("crlf", "a\r\nb\r\n");
    b.write("bin", b"\x89PNG\r\n\x1a\n\0\0\0");
    b.write("empty", "");
    b.write("utf16", b"\xff\xfeh\0i\0\n\0");
    b.write("long", "x".repeat(50 << 20));
    let read = async |path: &str| b.call("read_file", json!({"path": path})).await.envelope;
    assert!(read("latin1").await.contains("not valid UTF-8"));
    assert!(read("bin").await.contains("<binary_file format=\"png\">"));
    assert!(read("empty").await.contains("<notice>the file is empty</notice>"));
    assert!(read("utf16").await.contains("1 | hi"));
    let long = read("long").await;
    assert!(long.contains("bytes more]") && long.len() < 10_000);
    let out = b.call("append_to_file", json!({"path": "latin1", "content": "x"})).await;
    assert!(!out.ok && out.envelope.contains("not valid UTF-8"), "{}", out.envelope);
    let out = b.call("append_to_file", json!({"path": "long", "content": "x"})).await;
    assert!(!out.ok && out.envelope.contains("50 MB"), "{}", out.envelope);
    let out = b.call("append_to_file", json!({"path": "crlf", "content": "c\n"})).await;
    assert!(out.ok, "{}", out.envelope);
    assert_eq!(b.read("crlf"), "a\r\nb\r\nc\r\n");
}

#[tokio::test]
async fn an_unsaved_text_is_what_a_later_write_is_checked_by() {
    let b = Bench::new();
    b.write("a.txt", "old\n");
    let ledger = lapce_ai_tools::host::Ledger::default();
    let call = |name: &str, params: serde_json::Value, unsaved: Option<&str>| {
        let mut invocation = b.invocation(name, params);
        invocation.ledger = ledger.clone();
        if let Some(text) = unsaved {
            invocation.buffers.insert("a.txt".into(), text.into());
        }
        b.host.run(invocation)
    };
    let edit = || json!({"file_path": "a.txt", "old_string": "typed", "new_string": "changed"});
    let read = json!({"path": "a.txt"});
    let out = call("read_file", read.clone(), Some("typed\n")).await;
    assert!(out.envelope.contains("1 | typed"), "{}", out.envelope);
    // Not while it is unsaved, by no tool; and not by a patch that names another file too.
    let patch = "*** Begin Patch\n*** Add File: b.txt\n+x\n*** Update File: a.txt\n@@\n-old\n+new\n*** End Patch";
    for (name, params) in [
        ("edit", edit()),
        ("write_to_file", json!({"path": "a.txt", "content": "x"})),
        ("delete_file", json!({"path": "a.txt"})),
        ("apply_patch", json!({"patch": patch})),
    ] {
        let out = call(name, params, Some("typed\n")).await;
        assert!(!out.ok && out.envelope.contains("not saved"), "{name}: {}", out.envelope);
    }
    assert_eq!(b.read("a.txt"), "old\n");
    assert!(!b.path("b.txt").exists());
    // Thrown away instead of saved: the file is not what was read.
    let out = call("write_to_file", json!({"path": "a.txt", "content": "x"}), None).await;
    assert!(!out.ok && out.envelope.contains("changed on disk"), "{}", out.envelope);
    // Saved as it was read: the edit fits.
    b.write("a.txt", "typed\n");
    let out = call("edit", edit(), None).await;
    assert!(out.ok, "{}", out.envelope);
    assert_eq!(b.read("a.txt"), "changed\n");
}

#[tokio::test]
async fn a_write_that_breaks_a_file_says_so_and_is_made() {
    let b = Bench::new();
    b.write("a.json", "{\"a\": 1}\n");
    b.write("Cargo.toml", "[package]\nname = \"x\"\n");
    let out = b
        .call("search_and_replace", json!({"path": "a.json", "search": "1}", "replace": "1,}"}))
        .await;
    let problems = "<operation>modified</operation>\n<problems>\nthis is not valid JSON: key must \
                    be a string at line 1 column 9\n</problems>\n";
    assert!(out.ok && out.envelope.contains(problems), "{}", out.envelope);
    assert_eq!(b.read("a.json"), "{\"a\": 1,}\n");
    // Broken as it was before.
    let out = b.call("append_to_file", json!({"path": "a.json", "content": "\n"})).await;
    assert!(out.ok && !out.envelope.contains("<problems>"), "{}", out.envelope);
    let patch = "*** Begin Patch\n*** Update File: Cargo.toml\n@@\n-name = \"x\"\n+name = x\n\
                 *** End Patch\n";
    let out = b.call("apply_patch", json!({"patch": patch})).await;
    assert!(out.ok && out.envelope.contains("this is not valid TOML: "), "{}", out.envelope);
}
