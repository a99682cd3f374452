//! Builds all programs and lays them out in one folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::ctx::{Ctx, output, run};

/// The programs a user runs, all in one folder so that each finds the others.
pub const PROGRAMS: [&str; 6] = [
    "lapce-ai",
    "lapce-ai-lsp",
    "lapce-ai-engine",
    "lapce-ai-tool",
    "lapce-ai-index",
    "lapce-ai-embed",
];

/// How programs are compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Minutes, for tests and the demo.
    Dev,
    /// Half an hour because of LanceDB, for use and for figures.
    Release,
}

impl From<bool> for Profile {
    fn from(release: bool) -> Self {
        if release { Self::Release } else { Self::Dev }
    }
}

impl Profile {
    pub fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
        }
    }
}

/// Builds everything and returns the folder that holds the six programs.
pub fn programs(ctx: &Ctx, profile: Profile) -> Result<PathBuf> {
    small(ctx, profile)?;
    index(ctx, profile)?;
    let out = ctx.target.join(match profile {
        Profile::Dev => "programs-dev",
        Profile::Release => "programs",
    });
    fs::create_dir_all(&out)?;
    for name in PROGRAMS {
        link_or_copy(&built(ctx, profile, name), &out.join(name))?;
    }
    Ok(out)
}

/// The programs that do not link LanceDB.
pub fn small(ctx: &Ctx, profile: Profile) -> Result<()> {
    let mut cargo = ctx.cargo()?;
    cargo.args(["build", "--bins", "-p", "lapce-ai-engine", "-p", "lapce-ai-cli"]);
    cargo.args(["-p", "lapce-ai-embed"]);
    let release = (profile == Profile::Release).then_some("--release");
    run(cargo.args(release))?;
    // One starts with every call: without libraries to load that takes half the time. Tests run
    // the kind that is released.
    let mut cargo = ctx.cargo()?;
    cargo.args(["rustc", "-p", "lapce-ai-tools", "--bin", "lapce-ai-tool"]).args(release);
    if !has_static_libc() {
        eprintln!("xtask: no static libc is installed, so lapce-ai-tool starts more slowly");
        return run(&mut cargo);
    }
    run(cargo.args(["--", "-C", "target-feature=+crt-static"]))?;
    let program = built(ctx, profile, "lapce-ai-tool");
    ensure!(!asks_for_loader(&fs::read(&program)?), "{} is not static", program.display());
    Ok(())
}

/// Whether a 64-bit ELF program names a loader, as those do that need libraries.
fn asks_for_loader(program: &[u8]) -> bool {
    const PT_INTERP: u64 = 3;
    let number = |at: usize, bytes: usize| {
        let field = program.get(at..at + bytes).unwrap_or_default();
        field.iter().rev().fold(0u64, |n, byte| n << 8 | u64::from(*byte))
    };
    let (at, size, count) = (number(32, 8) as usize, number(54, 2) as usize, number(56, 2));
    (0..count as usize).any(|n| number(at.saturating_add(n * size), 4) == PT_INTERP)
}

/// Whether the C compiler finds one: Debian's libc6-dev has it, Fedora's glibc-static.
fn has_static_libc() -> bool {
    let found = output(Command::new("cc").arg("-print-file-name=libc.a"));
    cfg!(all(target_os = "linux", target_env = "gnu"))
        && found.is_ok_and(|path| Path::new(path.trim()).is_absolute())
}

/// The index worker, which links LanceDB.
pub fn index(ctx: &Ctx, profile: Profile) -> Result<()> {
    if !built(ctx, profile, "lapce-ai-index").exists() {
        let minutes = if profile == Profile::Dev { "about 10" } else { "about 30" };
        eprintln!(
            "xtask: building LanceDB for the first time takes {minutes} minutes on two cores"
        );
    }
    let mut cargo = ctx.cargo()?;
    cargo.args(["build", "--bins", "-p", "lapce-ai-index"]);
    if profile == Profile::Release {
        cargo.args(["--profile", "release-index"]);
    }
    run(&mut cargo)
}

fn built(ctx: &Ctx, profile: Profile, name: &str) -> PathBuf {
    let folder = match (profile, name) {
        (Profile::Dev, _) => "debug",
        (Profile::Release, "lapce-ai-index") => "release-index",
        (Profile::Release, _) => "release",
    };
    ctx.target.join(folder).join(name)
}

/// Replaces `to` atomically, so that a running program keeps its old file.
fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    let fresh = to.with_extension("new");
    let _ = fs::remove_file(&fresh);
    fs::hard_link(from, &fresh)
        .or_else(|_| fs::copy(from, &fresh).map(drop))
        .with_context(|| format!("failed to copy {} to {}", from.display(), to.display()))?;
    fs::rename(&fresh, to).with_context(|| format!("failed to replace {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_libraries_is_told_from_one_without() {
        let own = fs::read("/proc/self/exe").unwrap();
        assert!(asks_for_loader(&own));
        // The same without its list of segments.
        let mut none = own;
        none[56..58].fill(0);
        assert!(!asks_for_loader(&none) && !asks_for_loader(b"short"));
    }
}
