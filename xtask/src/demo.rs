//! `cargo xtask demo [PATH]`: the whole path on a real repository.
//!
//! Runs in a home folder of its own, so that the user's engine and indexes are left
//! alone; only the user's `config.toml` is copied in, for the model.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::build::{self, Profile};
use crate::ctx::{Ctx, output, run};

/// Questions any repository has answers to; the first ones suit this repository best.
const SEARCHES: [&str; 3] =
    ["read the configuration file", "start a child process", "report an error to the user"];
const QUESTION: &str = "How does this project start, and which function is its entry point?";

pub fn demo(ctx: &Ctx, release: bool, path: Option<PathBuf>) -> Result<()> {
    let root = path.unwrap_or_else(|| ctx.root.clone());
    let root = fs::canonicalize(&root)
        .with_context(|| format!("failed to find {}; give a folder that exists", root.display()))?;
    ensure!(root.is_dir(), "{} is not a folder", root.display());
    // Ctrl-C reaches the running step; we stay to clean up after it.
    ctrlc::set_handler(|| {}).context("failed to catch Ctrl-C")?;

    let profile = Profile::from(release);
    let mut table = Table::default();
    let bin = table.step("build", || build::programs(ctx, profile))?;
    let demo = Demo::new(bin)?;

    let root = root.to_str().context("the path is not UTF-8")?;
    table.step("engine start", || demo.cli(&["start"]))?;
    table.step("index", || demo.cli(&["index", root]))?;
    for words in SEARCHES {
        heading(&format!("search \"{words}\""));
        table.step(&format!("search \"{words}\""), || {
            demo.cli(&["search", words, "-k", "3", "--root", root])
        })?;
    }
    heading("one tool in the sandbox");
    table.step("tool execute_command", || {
        let call = r#"{"command": "uname -s; id -u; head -c 1 /etc/shadow || echo 'the sandbox keeps /etc/shadow closed'"}"#;
        demo.cli(&["tool", "run", "execute_command", "--json", call, "--root", root])
    })?;
    heading(&format!("ask \"{QUESTION}\""));
    table.step("ask", || demo.cli(&["ask", QUESTION, "--root", root]))?;

    let status = demo.status()?;
    demo.stop()?;
    table.print(profile, &status);
    Ok(())
}

fn heading(text: &str) {
    println!("\n── {text}");
}

/// An engine in a folder of its own, gone when this is dropped.
struct Demo {
    home: tempfile::TempDir,
    bin: PathBuf,
}

impl Demo {
    fn new(bin: PathBuf) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("lapce-ai-demo-").tempdir()?;
        if let Some(config) = user_config().filter(|file| file.is_file()) {
            let dir = home.path().join("config");
            fs::create_dir_all(&dir)?;
            fs::copy(&config, dir.join("config.toml"))
                .with_context(|| format!("failed to copy {}", config.display()))?;
        }
        Ok(Self { home, bin })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.bin.join("lapce-ai"));
        command
            .args(args)
            .env("LAPCE_AI_HOME", self.home.path())
            .env("LAPCE_AI_BIN_DIR", &self.bin);
        command
    }

    fn cli(&self, args: &[&str]) -> Result<()> {
        run(&mut self.command(args))
    }

    fn status(&self) -> Result<Value> {
        let text = output(&mut self.command(&["status", "--json"]))?;
        serde_json::from_str(&text).context("`lapce-ai status --json` printed no JSON")
    }

    fn stop(&self) -> Result<()> {
        output(&mut self.command(&["stop"]))?;
        let socket = self.home.path().join("run/engine.sock");
        let deadline = Instant::now() + Duration::from_secs(5);
        while socket.exists() {
            if Instant::now() > deadline {
                bail!("the engine did not stop within 5 s ({} is still there)", socket.display());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if self.home.path().join("run/engine.sock").exists() {
            let _ = self.command(&["stop"]).output();
        }
    }
}

fn user_config() -> Option<PathBuf> {
    let base = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let base = base.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".config")))?;
    Some(base.join("lapce-ai/config.toml"))
}

#[derive(Default)]
struct Table(Vec<(String, Duration)>);

impl Table {
    fn step<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let started = Instant::now();
        let value = work().with_context(|| format!("the demo's step `{name}` failed"))?;
        self.0.push((name.into(), started.elapsed()));
        Ok(value)
    }

    fn print(&self, profile: Profile, status: &Value) {
        println!("\n{:48} {:>10}", format!("step ({} build)", profile.name()), "ms");
        for (name, took) in &self.0 {
            println!("{name:48} {:>10.1}", took.as_secs_f64() * 1e3);
        }
        println!(
            "\n{:32} {:>8} {:>10} {:>10} {:>14}",
            "process", "pid", "RSS KiB", "PSS KiB", "private KiB"
        );
        let none = Vec::new();
        for process in status["processes"].as_array().unwrap_or(&none) {
            let memory = &process["memory"];
            let number = |value: &Value| value.as_u64().unwrap_or_default();
            println!(
                "{:32} {:>8} {:>10} {:>10} {:>14}",
                process["name"].as_str().unwrap_or("?"),
                number(&process["pid"]),
                number(&memory["rss_kib"]),
                number(&memory["pss_kib"]),
                number(&memory["private_dirty_kib"])
            );
        }
    }
}
