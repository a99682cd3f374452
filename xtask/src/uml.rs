//! The tools' tests of the cgroup layer under a kernel that delegates cgroup v2: user-mode
//! Linux, one program that is a whole kernel, from Debian's archive. Used by `test cgroup`.
//!
//! The guest sees this machine's files read-only, with folders in memory where it writes. The
//! tests run twice in it: as root, and as a user whom a part of the tree was delegated to, as
//! systemd does.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::ctx::{Ctx, on_path, output, run};
use crate::fetch::{beside, place};

const PACKAGE: &str = "user-mode-linux";
/// Printed by the guest after each run whose tests passed.
const PASSED: &str = "UML-PASSED";

/// The kernel, fetched once.
fn kernel(ctx: &Ctx) -> Result<PathBuf> {
    let dir = ctx.cache.join(PACKAGE);
    let program = dir.join("usr/bin/linux.uml");
    if program.is_file() {
        return Ok(program);
    }
    for needed in ["apt-get", "dpkg"] {
        ensure!(on_path(needed), "{needed} is not on PATH, so {PACKAGE} cannot be fetched");
    }
    if let Err(why) = output(Command::new("apt-get").args(["update", "-qq"])) {
        eprintln!("xtask: package lists are used as they are ({why:#})");
    }
    let fresh = beside(ctx, PACKAGE)?;
    eprintln!("xtask: fetching {PACKAGE} (41 MB)");
    run(Command::new("apt-get").current_dir(fresh.path()).args(["-qq", "download", PACKAGE]))?;
    for entry in fs::read_dir(fresh.path())? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "deb") {
            run(Command::new("dpkg").arg("-x").arg(&path).arg(fresh.path()))?;
            fs::remove_file(&path)?;
        }
    }
    place(fresh, &dir)?;
    Ok(program)
}

/// The test program of `lapce-ai-tools`, built.
fn tests(ctx: &Ctx) -> Result<PathBuf> {
    let mut cargo = ctx.cargo()?;
    cargo.args(["test", "-p", "lapce-ai-tools", "--test", "it", "--no-run"]);
    let lines = output(cargo.arg("--message-format=json").stderr(Stdio::inherit()))?;
    let program = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(line["executable"].as_str().filter(|_| line["target"]["name"] == "it")?))
    };
    lines.lines().find_map(program).context("cargo names no test program")
}

pub fn test(ctx: &Ctx) -> Result<()> {
    let (kernel, program) = (kernel(ctx)?, tests(ctx)?);
    let helper = ctx.target.join("debug/lapce-ai-tool");
    ensure!(helper.is_file(), "{} is missing", helper.display());
    let dir = tempfile::tempdir()?;
    let init = dir.path().join("init");
    fs::write(&init, script(&program, &helper))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let log = dir.path().join("log");
    let status = Command::new("timeout")
        .args(["-k", "5", "600"])
        .arg(&kernel)
        .args(["mem=2G", "rootfstype=hostfs", "rootflags=/", "ro", "quiet", "con=null"])
        .arg("con0=null,fd:1")
        .arg(format!("init={}", init.display()))
        .env("HOME", dir.path())
        .stdin(Stdio::null())
        .stdout(fs::File::create(&log)?)
        .stderr(Stdio::null())
        .status()
        .context("failed to start user-mode Linux")?;
    let said = fs::read(&log)?;
    let said = String::from_utf8_lossy(&said);
    println!("{said}");
    let passed = said.matches(PASSED).count();
    if passed != 2 {
        bail!("{passed} of 2 runs in user-mode Linux passed ({status})");
    }
    Ok(())
}

/// The guest's first program. The helper's path is compiled into the tests, so it is put in the
/// same place, which others than root may not be able to reach on this machine.
fn script(program: &Path, helper: &Path) -> String {
    let (program, helper) = (program.display(), helper.display());
    format!(
        r#"#!/bin/sh
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
mount -t proc proc /proc; mount -t sysfs sysfs /sys
for dir in /tmp /run; do mount -t tmpfs -o mode=1777 tmpfs $dir; done
cp {program} /tmp/it; cp {helper} /tmp/helper
top=/$(echo {helper} | cut -d/ -f2)
mount -t tmpfs -o mode=755 tmpfs $top
mkdir -p $(dirname {helper}); cp /tmp/helper {helper}; chmod 755 /tmp/it {helper}
ip link set lo up 2>/dev/null
cg=/sys/fs/cgroup; mount -t cgroup2 cgroup2 $cg
echo "+memory +pids +cpu" > $cg/cgroup.subtree_control
echo "cgroup v2 passes on: $(cat $cg/cgroup.subtree_control)"
export LAPCE_AI_TEST_ABSENT_LAYERS=landlock,pid-limit HOME=/tmp/home TMPDIR=/tmp
mkdir -m 777 $HOME
echo "== as root"
/tmp/it cgroup:: --test-threads 1 && echo {PASSED}
mkdir -p $cg/user/session
echo "+memory +pids +cpu" > $cg/user/cgroup.subtree_control
for file in . cgroup.procs cgroup.threads cgroup.subtree_control session session/cgroup.procs; do
  chown 1000:1000 $cg/user/$file
done
echo $$ > $cg/user/session/cgroup.procs
# Nothing above the delegated part may be what is found.
echo "== as a user"
setpriv --reuid 1000 --regid 1000 --clear-groups /tmp/it cgroup:: --test-threads 1 && echo {PASSED}
echo o > /proc/sysrq-trigger; sleep 5
"#
    )
}
