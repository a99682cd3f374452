//! Builds the volt: the plugin crate for `wasm32-wasip1`.
//!
//! Two ways, tried in this order:
//!
//! 1. the target's standard library from rustup (`rustup target add wasm32-wasip1`);
//! 2. where rustup cannot fetch it, on Debian: its `rustc-web` packages, unpacked into a
//!    folder of our cache. Nothing is installed, and the user's toolchain is not touched;
//!    the standard library is compiled along with the plugin.
//!
//! `LAPCE_AI_WASM_TOOLCHAIN=apt` goes straight to the second way. Used by `volt` and `test`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};

use crate::ctx::{Ctx, on_path, output, run};

const TARGET: &str = "wasm32-wasip1";
/// The budget for the module.
const MAX_MODULE: u64 = 1 << 20;
/// The packages whose names do not change; the others are read from what these depend on.
const PACKAGES: [&str; 4] = ["rustc-web", "libstd-rust-web-dev", "rust-web-src", "wasi-libc"];

/// Builds the module and returns its path.
pub fn build_plugin(ctx: &Ctx) -> Result<PathBuf> {
    let mut cargo = ctx.cargo()?;
    let target = ctx.target.join("plugin");
    cargo.current_dir(ctx.root.join("plugin")).env("CARGO_TARGET_DIR", &target).args([
        "build",
        "--release",
        "--locked",
        "--package",
        "lapce-ai-volt",
        "--target",
        TARGET,
    ]);
    let forced = env::var_os("LAPCE_AI_WASM_TOOLCHAIN").is_some_and(|way| way == "apt");
    if forced {
        use_apt(ctx, &mut cargo)?;
    } else if let Err(why) = rustup_target(TARGET) {
        eprintln!("xtask: {why:#}; using Debian's wasm toolchain instead");
        use_apt(ctx, &mut cargo).with_context(|| {
            format!(
                "the {TARGET} target is missing; get it with `rustup target add {TARGET}` ({why:#})"
            )
        })?;
    }
    run(&mut cargo)?;
    let module = target.join(TARGET).join("release/lapce-ai.wasm");
    let size = fs::metadata(&module)
        .with_context(|| format!("failed to read {}", module.display()))?
        .len();
    ensure!(
        size <= MAX_MODULE,
        "{} has {size} bytes; its budget is {MAX_MODULE}",
        module.display()
    );
    Ok(module)
}

/// Makes sure that rustup's standard library for a target is there.
pub fn rustup_target(target: &str) -> Result<()> {
    let sysroot = rustup_sysroot()?;
    let present = |sysroot: &Path| sysroot.join("lib/rustlib").join(target).join("lib").is_dir();
    if present(&sysroot) {
        return Ok(());
    }
    ensure!(on_path("rustup"), "rustc has no {target} and there is no rustup to add it");
    output(Command::new("rustup").args(["target", "add", target]))?;
    // With a half-broken mirror rustup has been seen to report success.
    ensure!(
        present(&sysroot),
        "`rustup target add {target}` ended well but {} has no such target",
        sysroot.display()
    );
    Ok(())
}

fn rustup_sysroot() -> Result<PathBuf> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    Ok(PathBuf::from(output(Command::new(rustc).args(["--print", "sysroot"]))?.trim()))
}

/// Points `cargo` at Debian's compiler, with the standard library built from source.
pub fn use_apt_compiler(ctx: &Ctx, cargo: &mut Command) -> Result<PathBuf> {
    let root = apt_toolchain(ctx)?;
    cargo
        .env("LD_LIBRARY_PATH", root.join("usr/lib/x86_64-linux-gnu"))
        .env("RUSTC", root.join("usr/bin/rustc"))
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["-Z", "build-std=std,panic_abort"]);
    Ok(root)
}

/// The same, to link for WASI.
fn use_apt(ctx: &Ctx, cargo: &mut Command) -> Result<()> {
    let root = use_apt_compiler(ctx, cargo)?;
    let sysroot = rustup_sysroot()?;
    let lld = sysroot.join("lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld");
    ensure!(
        lld.is_file(),
        "{} is missing; `rustup component add llvm-tools` may bring it",
        lld.display()
    );
    let libc = root.join("usr/lib/wasm32-wasi");
    ensure!(
        libc.join("crt1-command.o").is_file(),
        "wasi-libc has no {}/crt1-command.o",
        libc.display()
    );
    cargo.env("CARGO_TARGET_WASM32_WASIP1_LINKER", lld).env(
        "CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS",
        format!("-L {0} -C link-self-contained=no -C link-arg={0}/crt1-command.o", libc.display()),
    );
    Ok(())
}

/// Debian's packages, unpacked once into the cache.
fn apt_toolchain(ctx: &Ctx) -> Result<PathBuf> {
    let root = ctx.cache.join("wasm/root");
    if root.join("usr/bin/rustc").is_file() {
        return Ok(root);
    }
    for program in ["apt-get", "apt-cache", "dpkg"] {
        if !on_path(program) {
            bail!("{program} is not on PATH, so Debian's wasm toolchain cannot be fetched");
        }
    }
    // Needs root; without it the lists that are there are used.
    if let Err(why) = output(Command::new("apt-get").args(["update", "-qq"])) {
        eprintln!("xtask: package lists are used as they are ({why:#})");
    }
    let work = ctx.cache.join("wasm/new");
    if work.exists() {
        fs::remove_dir_all(&work)
            .with_context(|| format!("failed to remove {}", work.display()))?;
    }
    let unpacked = work.join("root");
    fs::create_dir_all(&unpacked)
        .with_context(|| format!("failed to create {}", unpacked.display()))?;

    let library = versioned("libstd-rust-web-dev", "libstd-rust-web-")?;
    let llvm = versioned(&library, "libllvm")?;
    let mut packages: Vec<String> = PACKAGES.map(String::from).to_vec();
    packages.extend([library, llvm]);
    eprintln!("xtask: fetching {} (140 MB)", packages.join(" "));
    run(Command::new("apt-get").current_dir(&work).args(["-qq", "download"]).args(&packages))
        .with_context(|| format!("apt-get download {} failed", packages.join(" ")))?;
    let mut debs = 0;
    for entry in fs::read_dir(&work)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "deb") {
            run(Command::new("dpkg").arg("-x").arg(&path).arg(&unpacked))?;
            fs::remove_file(&path)?;
            debs += 1;
        }
    }
    ensure!(debs == packages.len(), "apt-get downloaded {debs} of {} packages", packages.len());
    // Into place in one step: a folder that was interrupted is never taken for a whole one.
    fs::rename(&unpacked, &root).with_context(|| format!("failed to move {}", root.display()))?;
    let _ = fs::remove_dir_all(&work);
    Ok(root)
}

/// The package `prefix` + version that `package` depends on, as apt has it now.
fn versioned(package: &str, prefix: &str) -> Result<String> {
    let depends =
        output(Command::new("apt-cache").args(["depends", package])).with_context(|| {
            format!("apt knows no package {package} (Debian 12 with security updates has it)")
        })?;
    pick(&depends, prefix)
        .with_context(|| format!("{package} depends on no {prefix}VERSION: {depends}"))
}

/// The dependency named `prefix` + a number, in what `apt-cache depends` prints.
fn pick(depends: &str, prefix: &str) -> Option<String> {
    let names = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    let numbered = |name: &&str| {
        let rest = name.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    names.map(str::trim).find(numbered).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versioned_names_come_from_apt() {
        let dev = "libstd-rust-web-dev\n  Depends: libstd-rust-web-1.96\n  Conflicts: <rustup>\n";
        assert_eq!(pick(dev, "libstd-rust-web-").as_deref(), Some("libstd-rust-web-1.96"));
        let library = "libstd-rust-web-1.96\n  Depends: libc6\n  Depends: libllvm22\n";
        assert_eq!(pick(library, "libllvm").as_deref(), Some("libllvm22"));
        assert_eq!(pick("x\n  Depends: libstd-rust-web-dev\n", "libstd-rust-web-"), None);
        assert_eq!(pick("", "libllvm"), None);
    }
}
