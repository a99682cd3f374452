//! Where things are, and how commands are run. Used by every part of xtask.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};

/// The repository, the target folder, the cache of fetched things.
pub struct Ctx {
    pub root: PathBuf,
    pub target: PathBuf,
    pub cache: PathBuf,
}

impl Ctx {
    pub fn new() -> Result<Self> {
        // At run time: with one target folder for several clones, cargo may take this program
        // as compiled for another one.
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .context("CARGO_MANIFEST_DIR is not set; run this as `cargo xtask`")?;
        let root = Path::new(&manifest).parent().context("xtask has no parent folder")?;
        let cache = match env::var_os("LAPCE_AI_CACHE") {
            Some(dir) => PathBuf::from(dir),
            None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?)
                .join(".cache/lapce-ai"),
        };
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => root.join(dir),
            None => root.join("target"),
        };
        for dir in [&cache, &target] {
            fs::create_dir_all(dir)
                .with_context(|| format!("failed to create {}", dir.display()))?;
        }
        Ok(Self { root: root.to_path_buf(), target, cache })
    }

    /// `cargo` in the repository, with the bundled protoc that LanceDB's build needs.
    pub fn cargo(&self) -> Result<Command> {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        // What the outer cargo said about xtask itself. Build scripts watch these variables
        // (ring's does), so with them LanceDB would be compiled again each time a build
        // through xtask follows a plain one.
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"]
                .iter()
                .any(|prefix| text.starts_with(prefix))
            {
                cargo.env_remove(name);
            }
        }
        if env::var_os("PROTOC").is_none() {
            let protoc = protoc_bin_vendored::protoc_bin_path().context(
                "no bundled protoc for this system; install one (`apt-get install protobuf-compiler`) and set PROTOC",
            )?;
            cargo.env("PROTOC", protoc);
        }
        Ok(cargo)
    }
}

/// Runs `command`, its output going where ours goes; an error names what was run.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command.status().with_context(|| format!("failed to start `{shown}`"))?;
    ensure!(status.success(), "`{shown}` ended with {status}");
    Ok(())
}

/// Runs `command` and returns what it printed.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command.output().with_context(|| format!("failed to start `{shown}`"))?;
    if !output.status.success() {
        bail!(
            "`{shown}` ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` printed no UTF-8"))
}

/// Whether a program of this name is on PATH.
pub fn on_path(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
