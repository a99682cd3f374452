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
async fn commands_run() {
    let b = Bench::new();
    let out = b.sh("echo hi; id -u; pwd; ls -la / ; ls /dev /proc; cat /proc/self/status | grep -E 'Cap|Seccomp'; env; exit 3").await;
    println!("{out:#?}\n{}", out.envelope);
    assert!(out.envelope.contains("Exit code: 3"));
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
