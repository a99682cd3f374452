//! `list_code_definition_names`, texts of a repository, and images: the helper's part.

use lapce_ai_tools::host::ToolHost;
use serde_json::json;

use crate::support::{Bench, helper, outliner};

fn bench() -> Bench {
    let mut b = Bench::new();
    b.host = ToolHost::new(helper()).with_outliner(Some(outliner()));
    b
}

#[tokio::test]
async fn definitions_of_a_file_and_of_a_folder() {
    let b = bench();
    b.write("src/a.rs", "struct A;\n\nimpl A {\n    fn f(&self) {\n    }\n}\n");
    b.write("src/b.py", "def g():\n    pass\n");
    b.write("src/notes.txt", "nothing\n");
    b.write("src/deep/c.rs", "fn deep() {}\n");
    let out = b.call("list_code_definition_names", json!({"path": "src/a.rs"})).await;
    assert!(out.ok, "{}", out.envelope);
    assert_eq!(
        out.envelope,
        "[list_code_definition_names for 'src/a.rs'] Result:\n# src/a.rs\n1--1 | struct A;\n3--6 | \
         impl A {\n4--5 |     fn f(&self) {"
    );
    let out = b.call("list_code_definition_names", json!({"path": "src"})).await;
    assert!(out.ok && out.envelope.contains("# src/b.py\n1--2 | def g():"), "{}", out.envelope);
    assert!(out.envelope.contains("# src/a.rs"), "{}", out.envelope);
    assert!(!out.envelope.contains("deep") && !out.envelope.contains("notes"), "{}", out.envelope);
    assert!(out.layers.iter().any(|l| l == "seccomp"), "{:?}", out.layers);
    let out = b.call("list_code_definition_names", json!({"path": "src/notes.txt"})).await;
    assert!(out.ok && out.envelope.contains("No definitions"), "{}", out.envelope);
}

#[tokio::test]
async fn definitions_of_what_is_hidden_outside_or_no_text_are_refused() {
    let b = bench();
    b.write(".aiignore", "secret.rs\n");
    b.write("secret.rs", "fn hidden() {}\n");
    b.write("open.rs", "fn shown() {}\n");
    b.write("x.bin", [0u8; 64]);
    b.write("big.rs", "fn f() {}\n".repeat(200_000));
    std::os::unix::fs::symlink("/etc/passwd", b.path("link.rs")).unwrap();
    for (path, words) in [
        ("secret.rs", "ignored by .aiignore"),
        ("../x.rs", "outside"),
        ("link.rs", "leads out of the workspace"),
        ("x.bin", "binary"),
        ("big.rs", "larger than 1 MB"),
        ("none.rs", "does not exist"),
    ] {
        let out = b.call("list_code_definition_names", json!({"path": path})).await;
        assert!(!out.ok && out.envelope.contains(words), "{path}: {}", out.envelope);
    }
    let out = b.call("list_code_definition_names", json!({"path": "."})).await;
    assert!(out.ok && out.envelope.contains("shown"), "{}", out.envelope);
    assert!(!out.envelope.contains("hidden") && !out.envelope.contains("link.rs"));
}

#[tokio::test]
async fn definitions_of_an_unsaved_buffer() {
    let b = bench();
    b.write("a.rs", "fn on_disk() {}\n");
    let mut invocation = b.invocation("list_code_definition_names", json!({"path": "a.rs"}));
    invocation.buffers.insert("a.rs".into(), "fn in_the_editor() {}\n".into());
    let out = b.host.run(invocation).await;
    assert!(out.ok && out.envelope.contains("in_the_editor"), "{}", out.envelope);
}

#[tokio::test]
async fn definitions_without_the_program_or_without_a_layer() {
    let b = bench();
    b.write("a.rs", "fn a() {}\n");
    let call = || b.invocation("list_code_definition_names", json!({"path": "a.rs"}));
    let out = ToolHost::new(helper()).run(call()).await;
    assert!(!out.ok && out.envelope.contains("lapce-ai doctor"), "{}", out.envelope);
    let out = ToolHost::new(helper()).with_outliner(Some("/bin/false".into())).run(call()).await;
    assert!(!out.ok && out.envelope.contains("exit status: 1"), "{}", out.envelope);
    // As in a container: Landlock and seccomp alone.
    let bare = b.without(&["mount-namespace"]);
    let host = ToolHost::new(helper()).with_outliner(Some(outliner()));
    let out =
        host.run(bare.invocation("list_code_definition_names", json!({"path": "a.rs"}))).await;
    assert!(out.ok && out.envelope.contains("fn a()"), "{}", out.envelope);
}

#[tokio::test]
async fn the_program_is_fenced() {
    // A program in its place sees no more than the workspace, read-only.
    let b = bench();
    b.write("a.rs", "fn a() {}\n");
    let (draft, spy) = (b.dir.path().join("draft"), b.dir.path().join("spy"));
    std::fs::write(
        &draft,
        "#!/bin/sh\ncat >/dev/null\nhead -1 /etc/shadow 2>&1\necho HOME=$(ls -A /root /home 2>/dev/null)\ntouch made 2>&1\nprintenv HOME USER\necho end\n",
    )
    .unwrap();
    // Not by this process: what another test starts meanwhile would hold it open for writing.
    let copy = std::process::Command::new("install").arg(&draft).arg(&spy).status().unwrap();
    assert!(copy.success());
    let host = ToolHost::new(helper()).with_outliner(Some(spy));
    let out = host.run(b.invocation("list_code_definition_names", json!({"path": "a.rs"}))).await;
    assert!(out.ok && out.envelope.contains("end"), "{}", out.envelope);
    assert!(out.envelope.contains("'/etc/shadow' for reading: No such file"), "{}", out.envelope);
    assert!(out.envelope.contains("cannot touch 'made'"), "{}", out.envelope);
    assert!(out.envelope.lines().any(|l| l == "HOME=" || l == "HOME=/root:"), "{}", out.envelope);
    assert!(!b.path("made").exists());
}

#[tokio::test]
async fn texts_of_a_repository_are_read_and_nothing_else() {
    let b = Bench::new();
    b.write(".lapce/ai/commands/review.md", "Look closely.\n");
    b.write(".lapce/ai/commands/big.md", "x".repeat(100_000));
    b.write("outside.md", "x");
    std::os::unix::fs::symlink("/etc/passwd", b.path(".lapce/ai/commands/link.md")).unwrap();
    let folders = [".lapce/ai/commands", ".lapce/ai/skills"];
    let names = b.host.note_names(&b.workspace, &folders).await.unwrap();
    assert_eq!(
        names,
        ["big.md", "link.md", "review.md"].map(|n| format!(".lapce/ai/commands/{n}"))
    );
    let text = b.host.note(&b.workspace, ".lapce/ai/commands/review.md").await;
    assert_eq!(text.as_deref(), Ok("Look closely.\n"));
    for (path, words) in [
        (".lapce/ai/commands/big.md", "longer than"),
        (".lapce/ai/commands/link.md", "symlink"),
        (".lapce/ai/commands/none.md", "does not exist"),
        ("../x", "outside"),
    ] {
        let error = b.host.note(&b.workspace, path).await.unwrap_err();
        assert!(error.contains(words), "{path}: {error}");
    }
    // A folder that is a symlink is not gone into.
    let b = Bench::new();
    b.write("elsewhere/x.md", "");
    std::fs::create_dir_all(b.path(".lapce/ai")).unwrap();
    std::os::unix::fs::symlink("../../elsewhere", b.path(".lapce/ai/commands")).unwrap();
    assert!(b.host.note_names(&b.workspace, &folders).await.unwrap().is_empty());
}

/// The smallest PNG there is: one pixel.
pub const PIXEL: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\x9cc\xf8\xcf\xc0\xf0\x1f\0\x05\0\x01\xff\x89\x99=\x1d\0\0\0\0IEND\xaeB`\x82";

#[tokio::test]
async fn an_image_is_written_like_any_file_and_can_be_undone() {
    use lapce_ai_tools::journal::Selector;
    let mut b = Bench::new();
    b.host = ToolHost::new(helper()).with_state(b.dir.path().join("state"));
    let call = |path: &str, bytes: &[u8]| {
        let params = json!({"prompt": "a pixel", "path": path});
        let mut invocation = b.invocation("generate_image", params);
        invocation.payload = Some(bytes.to_vec());
        b.host.run(invocation)
    };
    let out = call("art/dot.png", PIXEL).await;
    assert!(out.ok, "{}", out.envelope);
    assert_eq!(
        out.envelope,
        "[generate_image for 'art/dot.png'] Result:\n<file_write_result>\n<path>art/dot.png</path>\n\
         <operation>created</operation>\n<notice>png image, 1 × 1, 70 B</notice>\n</file_write_result>"
    );
    assert_eq!(std::fs::read(b.path("art/dot.png")).unwrap(), PIXEL);
    for (path, bytes, words) in [
        (".git/hooks/pre-commit", PIXEL, "protected"),
        ("../x.png", PIXEL, "outside"),
        ("x.png", &b"#!/bin/sh\n"[..], "no PNG"),
        ("x.png", &PIXEL[..60], "damaged"),
    ] {
        let out = call(path, bytes).await;
        assert!(!out.ok && out.envelope.contains(words), "{path}: {}", out.envelope);
    }
    assert!(!b.path("x.png").exists());
    // Without bytes there is nothing for the helper to do.
    let out = b.call("generate_image", json!({"prompt": "p", "path": "y.png"})).await;
    assert!(!out.ok && !b.path("y.png").exists(), "{}", out.envelope);
    let undone = b.host.undo(&b.workspace, &Selector::Last).await;
    assert!(undone.ok && !b.path("art/dot.png").exists(), "{}", undone.text);
}
