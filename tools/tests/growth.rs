//! Many calls leave nothing behind. A program of its own, since it counts what the
//! process has open.

#[path = "it/support.rs"]
#[expect(dead_code, reason = "shared with the other tests")]
mod support;

use serde_json::json;

use support::Bench;

#[tokio::test]
async fn many_calls_at_once_and_in_a_row_leave_nothing() {
    let b = Bench::new();
    b.write("f", "x\n");
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    b.call("read_file", json!({"path": "f"})).await;
    let before = count("fd");
    let calls = (0..64).map(|_| b.call("read_file", json!({"path": "f"})));
    for out in futures::future::join_all(calls).await {
        assert!(out.ok, "{}", out.envelope);
    }
    for _ in 0..100 {
        assert!(b.sh("true").await.ok);
    }
    assert_eq!(count("fd"), before);
    assert!(b.host.pids().is_empty());
}
