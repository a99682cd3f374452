//! Reaching a limit is a result that names it.

use lapce_ai_tools::limits::Limits;
use serde_json::json;

use crate::support::Bench;

async fn run(b: &Bench, command: &str, limits: Limits) -> lapce_ai_tools::host::Outcome {
    let mut invocation = b.invocation("execute_command", json!({"command": command}));
    invocation.limits = Some(limits);
    b.host.run(invocation).await
}

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn time() {
    let b = Bench::new();
    let out = run(&b, "echo before; sleep 60", Limits { wall_ms: 4_000, ..Limits::COMMAND }).await;
    assert_eq!(out.limit_hit, "stopped: time limit 4 s reached");
    assert!(
        out.envelope.contains("stopped: time limit") && out.envelope.contains("before"),
        "{}",
        out.envelope
    );
}

#[tokio::test]
async fn processor_time() {
    let b = Bench::new();
    let out = run(&b, "while :; do :; done", Limits { cpu_s: 1, ..Limits::COMMAND }).await;
    assert_eq!(out.limit_hit, "stopped: processor time limit 1 s reached", "{}", out.envelope);
}

#[tokio::test]
async fn memory_of_one_process() {
    let b = Bench::new();
    let limits = Limits { memory_bytes: 512 * MIB, ..Limits::COMMAND };
    let script = "python3 -c 'x = bytearray(1 << 30); print(len(x))'";
    let out = run(&b, script, limits).await;
    assert!(!out.ok && !out.envelope.contains("1073741824"), "{}", out.envelope);
    assert!(out.envelope.contains("the memory limit is 512 MB"), "{}", out.envelope);
    let out = run(&b, script, Limits { memory_bytes: 2048 * MIB, ..Limits::COMMAND }).await;
    assert!(out.ok, "with room, it works: {}", out.envelope);
}

#[tokio::test]
async fn memory_of_all_together() {
    let b = Bench::new();
    let limits = Limits { memory_bytes: 200 * MIB, ..Limits::COMMAND };
    let one = "python3 -c 'x = bytearray(b\"x\") * (80 << 20); import time; time.sleep(20)'";
    let out = run(&b, &format!("for i in 1 2 3 4; do {one} & done; wait"), limits).await;
    assert_eq!(out.limit_hit, "stopped: memory limit 200 MB reached", "{}", out.envelope);
}

#[tokio::test]
async fn output() {
    let b = Bench::new();
    let out = run(&b, "yes", Limits { output_bytes: MIB, ..Limits::COMMAND }).await;
    assert_eq!(out.limit_hit, "stopped: output limit 1 MB reached", "{}", out.envelope);
    assert!(out.envelope.len() < 64 << 10);
}

#[tokio::test]
async fn file_size() {
    let b = Bench::new();
    let limits = Limits { file_bytes: MIB, ..Limits::COMMAND };
    let out = run(&b, "dd if=/dev/zero of=big bs=1M count=10", limits.clone()).await;
    assert_eq!(out.limit_hit, "stopped: file size limit 1 MB reached", "{}", out.envelope);
    let mut invocation =
        b.invocation("write_to_file", json!({"path": "x", "content": "x".repeat(2 << 20)}));
    invocation.limits = Some(Limits { file_bytes: MIB, ..Limits::WRITE });
    let out = b.host.run(invocation).await;
    assert!(!out.ok && out.envelope.contains("more than the 1 MB"), "{}", out.envelope);
}

#[tokio::test]
async fn disk() {
    let b = Bench::new();
    let limits = Limits { disk_bytes: 20 * MIB, ..Limits::COMMAND };
    let fill = "i=0; while true; do head -c 1048576 /dev/urandom > f$i; i=$((i+1)); done";
    let out = run(&b, fill, limits).await;
    assert_eq!(out.limit_hit, "stopped: disk limit 20 MB reached", "{}", out.envelope);
    // The private /tmp has a bound of its own.
    let out = run(&b, "dd if=/dev/zero of=/tmp/big bs=1M count=1500", Limits::COMMAND).await;
    assert!(!out.ok && out.envelope.contains("No space left"), "{}", out.envelope);
}

#[tokio::test]
async fn processes() {
    let b = Bench::new();
    let limits = Limits { processes: 40, wall_ms: 5_000, ..Limits::COMMAND };
    let bomb = "bomb() { bomb | bomb & }; bomb; sleep 2; echo survived";
    let out = run(&b, bomb, limits).await;
    assert!(!out.ok, "{}", out.envelope);
    assert_eq!(out.limit_hit, "stopped: process limit 40 reached", "{}", out.envelope);
    // The host is none the worse, and nothing is left.
    assert!(b.sh("true").await.ok);
}

#[tokio::test]
async fn open_files() {
    let b = Bench::new();
    let script = "python3 -c 'f = [open(\"/dev/null\") for _ in range(200)]; print(len(f))'";
    let out = run(&b, script, Limits { open_files: 64, ..Limits::COMMAND }).await;
    assert!(!out.ok && out.envelope.contains("the limit of open files is 64"), "{}", out.envelope);
    let out = run(&b, script, Limits::COMMAND).await;
    assert!(out.ok, "with room, it works: {}", out.envelope);
}
