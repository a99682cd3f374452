//! The kernel's own limits on a command's whole tree, where cgroup v2 is delegated to this
//! user. Where it is not, the run must say so (`LAPCE_AI_TEST_ABSENT_LAYERS=cgroup`);
//! `cargo xtask test cgroup` runs these under a kernel that delegates it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lapce_ai_tools::host::Outcome;
use lapce_ai_tools::limits::Limits;
use serde_json::json;

use crate::support::{Bench, alive};

const MIB: u64 = 1 << 20;

/// Whether the layer is there; a panic when it is not and the run does not say so.
async fn delegated(b: &Bench) -> bool {
    let out = b.sh("true").await;
    assert!(out.ok, "{}", out.envelope);
    if out.layers.iter().any(|l| l == "cgroup-v2") {
        return true;
    }
    let waived = std::env::var("LAPCE_AI_TEST_ABSENT_LAYERS").unwrap_or_default();
    let why = out.absent.iter().find(|(name, _)| name == "cgroup").map(|(_, why)| why.as_str());
    assert!(waived.split(',').any(|l| l == "cgroup"), "no cgroup v2: {why:?}");
    false
}

/// The group of a process.
fn group_of(pid: u32) -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        right.starts_with("cgroup2 ").then(|| left.split(' ').nth(4))?
    })?;
    let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let own = own.lines().find_map(|l| l.strip_prefix("0::"))?;
    Some(Path::new(mount).join(own.trim_start_matches('/')))
}

fn number(group: &Path, file: &str) -> Option<u64> {
    std::fs::read_to_string(group.join(file)).ok()?.trim().parse().ok()
}

/// What was seen of a command's group while it ran.
#[derive(Default)]
struct Seen {
    group: PathBuf,
    /// Most processes at once.
    most: u64,
    /// The kernel refused one.
    refused: bool,
}

/// Runs a command and looks at its group all the while.
async fn watched(b: &Bench, command: &str, limits: Limits) -> (Outcome, Seen) {
    let mut invocation = b.invocation("execute_command", json!({"command": command}));
    invocation.limits = Some(limits);
    let running = b.host.run(invocation);
    tokio::pin!(running);
    let mut seen = Seen::default();
    loop {
        tokio::select! {
            outcome = &mut running => return (outcome, seen),
            () = tokio::time::sleep(Duration::from_millis(2)) => {}
        }
        let own = b.host.pids().first().and_then(|pid| group_of(*pid));
        // Between its start and its move it is in ours.
        if let Some(own) = own.filter(|g| g.to_string_lossy().contains("/lapce-ai-")) {
            seen.most = seen.most.max(number(&own, "pids.current").unwrap_or(0));
            let events = std::fs::read_to_string(own.join("pids.events")).unwrap_or_default();
            seen.refused |= !events.is_empty() && !events.contains("max 0");
            seen.group = own;
        }
    }
}

#[tokio::test]
async fn a_fork_bomb_is_held_by_the_kernel() {
    let b = Bench::new();
    if !delegated(&b).await {
        return;
    }
    let limits = Limits { processes: 40, wall_ms: 20_000, ..Limits::COMMAND };
    let bomb = "bomb() { bomb | bomb & }; bomb; sleep 5; echo survived";
    // Without the limits that a process carries along, the group's are what holds.
    let alone = b.without(&["rlimits", "pid-limit"]);
    let mut refused = false;
    for _ in 0..20 {
        let (out, seen) = watched(&alone, bomb, limits.clone()).await;
        assert!(out.envelope.contains("process limit 40 reached"), "{}", out.envelope);
        assert!(seen.most <= 48, "{} processes at once", seen.most);
        assert!(!seen.group.exists(), "{} is left", seen.group.display());
        // On a slow machine the helper may see the 41st before the kernel refuses the 49th.
        refused = seen.refused;
        if refused {
            break;
        }
    }
    assert!(refused, "the kernel refused no process");
    // With all of them the first that is reached does, and the result says so.
    let (out, seen) = watched(&b, bomb, limits).await;
    let said = !out.limit_hit.is_empty() || out.envelope.contains("the process limit is 40");
    assert!(said && seen.most <= 48, "{}", out.envelope);
    assert!(b.sh("true").await.ok);
}

/// Until Linux 6.14 the highest process number is one for the machine, and root may set it from
/// inside a namespace: a call must not.
#[tokio::test]
async fn process_numbers_of_the_machine_stay_as_they_are() {
    let read = || std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
    let (b, before) = (Bench::new(), read());
    assert!(b.sh("true").await.ok);
    assert_eq!(read(), before);
}

/// Memory that belongs to no process: the watcher does not see it, the kernel does.
#[tokio::test]
async fn memory_of_the_whole_tree_is_held_by_the_kernel() {
    let b = Bench::new();
    if !delegated(&b).await {
        return;
    }
    let limits = Limits { memory_bytes: 128 * MIB, ..Limits::COMMAND };
    let fill = "head -c 400000000 /dev/zero > /tmp/full; echo survived";
    let (out, seen) = watched(&b, fill, limits).await;
    assert!(!out.envelope.contains("survived") || !out.ok, "{}", out.envelope);
    assert_eq!(out.limit_hit, "stopped: memory limit 128 MB reached", "{}", out.envelope);
    assert!(!seen.group.exists(), "{} is left", seen.group.display());
    let limits = Limits { memory_bytes: 700 * MIB, ..Limits::COMMAND };
    let (out, _) = watched(&b, fill, limits).await;
    assert!(out.ok && out.envelope.contains("survived"), "with room: {}", out.envelope);
}

#[tokio::test]
async fn a_group_holds_its_limits_and_goes_with_its_call() {
    let b = Bench::new();
    if !delegated(&b).await {
        return;
    }
    let command = "setsid sleep 301 </dev/null >/dev/null 2>&1 & sleep 302";
    let invocation = b.invocation("execute_command", json!({"command": command}));
    let cancel = invocation.cancel.clone();
    let mut members = Vec::new();
    let looking = async {
        let group = loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let Some(group) = b.host.pids().first().and_then(|pid| group_of(*pid)) else {
                continue;
            };
            let text = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            members = text.lines().filter_map(|l| l.parse::<u32>().ok()).collect();
            let sleeps = |pid: &&u32| {
                std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.starts_with(b"sleep"))
            };
            if members.iter().filter(sleeps).count() == 2 {
                break group;
            }
        };
        assert_eq!(number(&group, "pids.max"), Some(u64::from(Limits::COMMAND.processes) + 8));
        assert_eq!(number(&group, "memory.max"), Some(Limits::COMMAND.memory_bytes));
        if let Some(swap) = number(&group, "memory.swap.max") {
            assert_eq!(swap, 0);
        }
        if let Ok(cpu) = std::fs::read_to_string(group.join("cpu.max")) {
            assert!(!cpu.starts_with("max"), "{cpu}");
        }
        cancel.cancel();
        group
    };
    let running = b.host.run(invocation);
    tokio::pin!(running);
    let group = tokio::select! {
        out = &mut running => panic!("it ended: {}", out.envelope),
        group = looking => group,
    };
    let out = running.await;
    assert!(out.envelope.contains("Cancelled"), "{}", out.envelope);
    assert!(!group.exists(), "{} is left", group.display());
    assert!(members.iter().all(|pid| !alive(*pid)), "{members:?}");
}

/// An engine that died leaves groups behind: the next one ends what is in them.
#[tokio::test]
async fn groups_left_behind_are_ended() {
    let b = Bench::new();
    if !delegated(&b).await {
        return;
    }
    let (_, seen) = watched(&b, "sleep 0.3", Limits::COMMAND).await;
    let mut gone = Command::new("/bin/true").spawn().unwrap();
    gone.wait().unwrap();
    let left = seen.group.with_file_name(format!("lapce-ai-{}-0", gone.id()));
    std::fs::create_dir(&left).unwrap();
    let mut sleeper = Command::new("sleep").arg("300").stdin(Stdio::null()).spawn().unwrap();
    std::fs::write(left.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
    let fresh = Bench::new();
    assert!(fresh.sh("true").await.ok);
    let status = sleeper.wait().unwrap();
    assert!(!status.success(), "it was killed");
    // A group whose members are still ending cannot be removed; the next engine does that.
    for _ in 0..100 {
        if !left.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(Bench::new().sh("true").await.ok);
    }
    panic!("{} is left", left.display());
}
