use serde_json::json;

use crate::support::Bench;

#[tokio::test]
async fn read_file_numbers_lines() {
    let b = Bench::new();
    b.write("a.txt", "one\ntwo\nthree\n");
    let out = b.call("read_file", json!({"path": "a.txt"})).await;
    println!("{out:#?}");
    assert!(out.ok, "{}", out.envelope);
    assert_eq!(
        out.envelope,
        "[read_file for 'a.txt'] Result:\n<files>\n<file><path>a.txt</path>\n<content \
         lines=\"1-3\">\n1 | one\n2 | two\n3 | three\n</content>\n</file>\n</files>"
    );
}

#[tokio::test]
async fn commands_report_code_folder_and_output() {
    let b = Bench::new();
    b.write("sub/x", "");
    let out = b
        .call(
            "execute_command",
            json!({"command": "pwd; echo err >&2; printf 'a\\rb\\n'; cat; exit 3", "cwd": "sub"}),
        )
        .await;
    let want = format!(
        "[execute_command for 'pwd; echo err >&2; printf 'a\\rb\\n'; cat; exit 3'] Result:\nExit code: \
         3\nWorking folder: sub\n<output>\n{}\nerr\nb\n</output>",
        b.path("sub").display()
    );
    assert_eq!(out.envelope, want);
    assert!(!out.ok);
    for (cwd, word) in [
        ("none", "does not exist"),
        ("..", "outside"),
        ("sub/x", "not a folder"),
        ("/etc", "outside"),
    ] {
        let out = b.call("execute_command", json!({"command": "true", "cwd": cwd})).await;
        assert!(!out.ok && out.envelope.contains(word), "{cwd}: {}", out.envelope);
    }
}

#[tokio::test]
async fn output_streams_while_the_command_runs() {
    let b = Bench::new();
    let mut invocation = b.invocation(
        "execute_command",
        json!({"command": "echo first; while [ ! -e go ]; do sleep 0.01; done; echo last"}),
    );
    let (sender, mut receiver) = tokio::sync::mpsc::channel(16);
    invocation.on_output = Some(sender);
    let watch = async {
        assert_eq!(receiver.recv().await.as_deref(), Some("first\n"));
        b.write("go", "");
        assert_eq!(receiver.recv().await.as_deref(), Some("last\n"));
    };
    let (out, ()) = tokio::join!(b.host.run(invocation), watch);
    assert!(out.ok, "{}", out.envelope);
}

#[tokio::test]
async fn toolchains_work_inside() {
    let b = Bench::new();
    b.write(
        "Cargo.toml",
        "[package]\nname = \"x\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n",
    );
    b.write("src/main.rs", "fn main() { println!(\"built\"); }\n");
    b.write("m.c", "#include <stdio.h>\nint main(void) { puts(\"compiled\"); }\n");
    let out = b.sh("cargo run -q --offline && cc -o m m.c && ./m && python3 -c 'print(6 * 7)' && git --version").await;
    assert!(out.ok, "{}", out.envelope);
    for word in ["built", "compiled", "42", "git version"] {
        assert!(out.envelope.contains(word), "{}", out.envelope);
    }
}

#[tokio::test]
async fn a_bad_helper_is_an_error_not_a_crash() {
    let b = Bench::new();
    for helper in ["/nonexistent/helper", "/bin/true", "/bin/cat"] {
        let host = lapce_ai_tools::host::ToolHost::new(helper.into());
        let out = host.run(b.invocation("read_file", json!({"path": "x"}))).await;
        assert!(!out.ok && out.envelope.contains("<error>"), "{helper}: {}", out.envelope);
    }
}

#[tokio::test]
async fn write_list_search() {
    let b = Bench::new();
    let out =
        b.call("write_to_file", json!({"path": "src/x.rs", "content": "fn main() {}\n"})).await;
    assert!(out.ok, "{}", out.envelope);
    assert_eq!(b.read("src/x.rs"), "fn main() {}\n");
    let out = b.call("list_files", json!({"path": ".", "recursive": true})).await;
    assert!(out.ok, "{}", out.envelope);
    assert!(out.envelope.ends_with("src/\nsrc/x.rs"), "{}", out.envelope);
    let out = b.call("search_files", json!({"path": ".", "regex": "fn \\w+"})).await;
    assert!(out.ok, "{}", out.envelope);
    println!("{}", out.envelope);
}

#[tokio::test]
async fn a_large_file_is_counted_and_read_in_its_middle() {
    let b = Bench::new();
    let line = |n: usize| format!("line {n:>9}\n");
    let text: String = (1..=700_000).map(line).collect();
    for (name, text) in [("whole", text.as_str()), ("cut", text.trim_end())] {
        b.write(name, text);
        let params = json!({"path": name, "start_line": 400_000, "end_line": 400_001});
        let out = b.call("read_file", params).await;
        assert!(out.ok, "{}", out.envelope);
        let want = "400000 | line    400000\n400001 | line    400001\n";
        assert!(out.envelope.contains(want), "{}", out.envelope);
        assert!(out.envelope.contains("the file has 700000 lines"), "{}", out.envelope);
    }
}

/// A file with no hit is looked through in one go; anchors still mean lines, and what does
/// not fit one read is searched to its end.
#[tokio::test]
async fn anchors_mean_lines_and_large_files_are_searched_whole() {
    let b = Bench::new();
    b.write("small.txt", "one\ntwo\nthree");
    let filler = "x".repeat(99) + "\n";
    let mut large = filler.repeat(1_000);
    large.push_str("two at the end\n");
    b.write("large.txt", &large);
    b.write("binary.bin", b"two\0two\n");
    b.write("late.bin", [large.as_bytes(), b"\0two\n"].concat());
    for (regex, hits) in [("^two", 2), ("three$", 1), ("^$", 0), ("^one$", 1), (r"\bt\w+ at", 1)] {
        let out = b.call("search_files", json!({"path": ".", "regex": regex})).await;
        let want =
            if hits == 1 { "Found 1 result.".into() } else { format!("Found {hits} results.") };
        assert!(out.envelope.contains(&want), "{regex}: {}", out.envelope);
        assert!(!out.envelope.contains(".bin"), "{regex}: {}", out.envelope);
    }
    let out = b.call("search_files", json!({"path": ".", "regex": "at the end"})).await;
    assert!(out.envelope.contains(" 1001 | two at the end"), "{}", out.envelope);
}

#[tokio::test]
async fn search_output_is_capped_per_line_and_in_total_and_says_so() {
    let b = Bench::new();
    b.write("long.txt", format!("short needle\n{}needle\nlast needle\n", "x".repeat(3 << 20)));
    b.write("many.txt", "needle\n".repeat(5_000));
    let out = b.call("search_files", json!({"path": "long.txt", "regex": "needle"})).await;
    assert!(out.ok, "{}", out.envelope);
    // One long line is cut, and drops neither itself nor its file.
    for part in ["Found 3 results.", "1 | short needle", "bytes more]", "3 | last needle"] {
        assert!(out.envelope.contains(part), "{part} is not in {:.600}", out.envelope);
    }
    assert!(out.envelope.len() < 4_000, "{}", out.envelope.len());
    let out = b.call("search_files", json!({"path": ".", "regex": "needle"})).await;
    assert!(out.ok && out.envelope.len() < 200 << 10, "{}", out.envelope.len());
    assert!(out.envelope.contains("are left out. Narrow the search"), "{:.300}", out.envelope);
}

#[tokio::test]
async fn a_write_keeps_the_mode_and_leaves_nothing_beside_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let b = Bench::new();
    b.write("run.sh", "#!/bin/sh\necho old\n");
    std::fs::set_permissions(b.path("run.sh"), std::fs::Permissions::from_mode(0o750)).unwrap();
    let params = json!({"file_path": "run.sh", "old_string": "old", "new_string": "new"});
    let out = b.call("edit", params).await;
    assert!(out.ok, "{}", out.envelope);
    assert_eq!(b.read("run.sh"), "#!/bin/sh\necho new\n");
    let mode = std::fs::metadata(b.path("run.sh")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o750);
    let names: Vec<_> = std::fs::read_dir(b.workspace.root()).unwrap().flatten().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}
