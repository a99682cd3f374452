//! `cargo xtask test`: everything CI runs, step by step, with a table at the end.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::build::{self, Profile};
use crate::ctx::{Ctx, on_path, output, run};
use crate::{chromium, docs, llama, mcp, minilm, systems, uml, wasm};

/// Packages that do not link LanceDB.
const SMALL: [&str; 7] = [
    "lapce-ai-ipc",
    "lapce-ai-fence",
    "lapce-ai-tools",
    "lapce-ai-engine",
    "lapce-ai-embed",
    "lapce-ai-cli",
    "xtask",
];

/// Each test program's time, as `timeout` reads it. The longest takes a few minutes here.
const TEST_LIMIT: &str = "20m";

struct Step {
    name: &'static str,
    what: &'static str,
    run: fn(&Ctx) -> Result<()>,
}

/// In the order they run: what fails fast comes first.
const STEPS: &[Step] = &[
    Step { name: "fmt", what: "rustfmt finds nothing to change", run: fmt },
    Step { name: "deny", what: "licences and sources of all dependencies", run: deny },
    Step { name: "programs", what: "the six programs build", run: programs },
    Step { name: "clippy", what: "clippy has no warning", run: clippy },
    Step { name: "slim", what: "the index with some languages, and without LanceDB", run: slim },
    Step { name: "unit", what: "tests of every package without LanceDB", run: unit },
    Step { name: "users", what: "another user is refused (needs root or sudo)", run: users },
    Step { name: "index", what: "tests of the index over real LanceDB", run: index },
    Step { name: "plugin", what: "the volt builds and runs in wasmtime", run: plugin },
    Step { name: "systems", what: "the fences of macOS and Windows compile", run: systems::check },
    Step { name: "model", what: "the engine with a real model server", run: model },
    Step { name: "onnx", what: "a real ONNX model, against its reference", run: onnx },
    Step { name: "browser", what: "browser_action with a real Chromium", run: browser },
    Step { name: "mcp", what: "real MCP servers and a client from npm and PyPI", run: mcp_servers },
    Step { name: "e2e", what: "end to end over the real programs", run: e2e },
    Step {
        name: "docs",
        what: "generated pages are up to date, links in the code's own lead somewhere",
        run: docs_check,
    },
];

/// Run only by name: a second build of LanceDB, with its client for S3, would not fit into
/// the hour that a cold run may take; user-mode Linux is in no package registry.
const EXTRA: &[Step] = &[
    Step { name: "s3", what: "a shared index on a real S3 server (not part of CI)", run: s3 },
    Step {
        name: "cgroup",
        what: "limits kept by cgroup v2, in user-mode Linux from Debian (not part of CI)",
        run: uml::test,
    },
];

pub fn list() {
    for step in STEPS.iter().chain(EXTRA) {
        println!("{:10} {}", step.name, step.what);
    }
}

pub fn test(ctx: &Ctx, only: Option<&str>) -> Result<()> {
    let named = |s: &&Step| only == Some(s.name);
    let steps: Vec<&Step> = match only {
        None => STEPS.iter().collect(),
        Some(_) => STEPS.iter().chain(EXTRA).filter(named).collect(),
    };
    if steps.is_empty() {
        bail!("no step `{}`; `cargo xtask test --list` names them", only.unwrap_or_default());
    }
    let mut rows = Vec::new();
    for step in &steps {
        eprintln!("\n== {}: {}", step.name, step.what);
        let started = Instant::now();
        let result = (step.run)(ctx);
        if let Err(error) = &result {
            eprintln!("== {} failed: {error:#}", step.name);
        }
        rows.push((step.name, started.elapsed(), result.is_ok()));
    }
    println!("\n{:10} {:>8}  result", "step", "seconds");
    for (name, took, ok) in &rows {
        println!("{name:10} {:>8.1}  {}", took.as_secs_f64(), if *ok { "ok" } else { "FAILED" });
    }
    let passed = rows.iter().filter(|(_, _, ok)| *ok).count();
    println!("{passed} passed, {} failed", rows.len() - passed);
    if passed < rows.len() {
        bail!("{} of {} steps failed", rows.len() - passed, rows.len());
    }
    Ok(())
}

fn fmt(ctx: &Ctx) -> Result<()> {
    run(ctx.cargo()?.args(["fmt", "--all", "--check"]))?;
    run(ctx.cargo()?.args(["fmt", "--all", "--check", "--manifest-path", "plugin/Cargo.toml"]))
}

fn deny(ctx: &Ctx) -> Result<()> {
    if !on_path("cargo-deny") {
        eprintln!("xtask: installing cargo-deny");
        // A private target folder: cargo install would otherwise fill ours with its own builds.
        run(Command::new("cargo")
            .args(["install", "--locked", "--quiet", "cargo-deny"])
            .args(["--profile", "dev"])
            .env("CARGO_TARGET_DIR", ctx.cache.join("cargo-deny")))?;
    }
    // Advisories need a database from outside the registries: `cargo deny check advisories`.
    run(ctx.cargo()?.args([
        "deny",
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ]))
}

fn programs(ctx: &Ctx) -> Result<()> {
    build::programs(ctx, Profile::Dev).map(drop)
}

fn clippy(ctx: &Ctx) -> Result<()> {
    let mut cargo = ctx.cargo()?;
    cargo.args(["clippy", "--all-targets"]);
    for package in SMALL.iter().chain(&["lapce-ai-benches", "lapce-ai-tests"]) {
        cargo.args(["-p", package]);
    }
    run(cargo.args(["--", "-D", "warnings"]))?;
    run(ctx.cargo()?.args([
        "clippy",
        "--all-targets",
        "-p",
        "lapce-ai-index",
        "--",
        "-D",
        "warnings",
    ]))
}

/// Checked without LanceDB, so that it costs seconds: a build with few grammars, and one with
/// none.
fn slim(ctx: &Ctx) -> Result<()> {
    for languages in ["", "lang-rust,lang-python,lang-typescript"] {
        run(ctx
            .cargo()?
            .args(["clippy", "-p", "lapce-ai-index", "--all-targets", "--no-default-features"])
            .args(["--features", languages, "--", "-D", "warnings"]))?;
    }
    Ok(())
}

/// `cargo test`, where a test that hangs fails its step instead of holding up the run: each
/// test program is ended when its time is over. `before` comes before that program too.
fn tests(ctx: &Ctx, before: &str) -> Result<Command> {
    let mut cargo = ctx.cargo()?;
    let arch = std::env::consts::ARCH.to_uppercase();
    // In the foreground, so that Ctrl-C reaches the tests.
    let runner = format!("timeout --foreground --kill-after=10s {TEST_LIMIT} {before}");
    cargo.env(format!("CARGO_TARGET_{arch}_UNKNOWN_LINUX_GNU_RUNNER"), runner.trim());
    // One run names every test that fails.
    cargo.args(["test", "--no-fail-fast"]);
    Ok(cargo)
}

fn unit(ctx: &Ctx) -> Result<()> {
    // With the programs at hand: some tests start real processes.
    let bin = build::programs(ctx, Profile::Dev)?;
    let mut cargo = tests(ctx, "")?;
    waive_cgroups(&mut cargo, &bin.join("lapce-ai-tool"))?;
    cargo.env("LAPCE_AI_BIN_DIR", bin);
    for package in SMALL {
        cargo.args(["-p", package]);
    }
    run(&mut cargo)?;
    run(tests(ctx, "")?.args(["-p", "lapce-ai-benches"]))
}

/// Becoming another user takes root; a runner that is not root gets it from sudo.
fn users(ctx: &Ctx) -> Result<()> {
    let root = std::fs::metadata("/proc/self")?.uid() == 0;
    run(tests(ctx, if root { "" } else { "sudo -n" })?.args([
        "-p",
        "lapce-ai-ipc",
        "--test",
        "strangers",
        "--",
        "--ignored",
    ]))
}

/// A layer that is missing fails a test, unless the run names it. Few systems where CI runs
/// delegate cgroup v2; where this one does, its tests run.
fn waive_cgroups(cargo: &mut Command, helper: &Path) -> Result<()> {
    const ABSENT: &str = "LAPCE_AI_TEST_ABSENT_LAYERS";
    let layers: serde_json::Value =
        serde_json::from_str(&output(Command::new(helper).arg("--doctor"))?)?;
    let mut layers = layers.as_array().into_iter().flatten();
    let active = layers.any(|layer| layer["name"] == "cgroup" && layer["active"] == true);
    if !active && std::env::var_os(ABSENT).is_none() {
        eprintln!(
            "xtask: no cgroup v2 is delegated here: its tests are waived; \
             `cargo xtask test cgroup` runs them in user-mode Linux"
        );
        cargo.env(ABSENT, "cgroup");
    }
    Ok(())
}

fn index(ctx: &Ctx) -> Result<()> {
    run(tests(ctx, "")?.args(["-p", "lapce-ai-index"]))
}

/// The server is s3s-fs from crates.io: it signs, lists and refuses conditional writes as
/// S3 does.
fn s3(ctx: &Ctx) -> Result<()> {
    let home = ctx.cache.join("s3s-fs");
    let server = home.join("bin/s3s-fs");
    if !server.exists() {
        eprintln!("xtask: installing s3s-fs");
        run(Command::new("cargo")
            .args(["install", "--debug", "--locked", "--quiet", "s3s-fs@0.14.1"])
            .args(["--features", "binary", "--root"])
            .arg(&home)
            .env("CARGO_TARGET_DIR", home.join("build")))?;
        let _ = std::fs::remove_dir_all(home.join("build"));
    }
    run(tests(ctx, "")?
        .args(["-p", "lapce-ai-index", "--features", "s3", "--test", "shared", "over_s3"])
        .env("LAPCE_AI_TEST_S3_SERVER", server))
}

fn plugin(ctx: &Ctx) -> Result<()> {
    let module = wasm::build_plugin(ctx)?;
    // Its own target folder: another workspace with other pins, and a host program of its own.
    run(tests(ctx, "")?
        .args(["--manifest-path", "plugin/Cargo.toml", "--workspace"])
        .env("CARGO_TARGET_DIR", ctx.target.join("plugin"))
        .env("LAPCE_AI_WASM", module))
}

fn model(ctx: &Ctx) -> Result<()> {
    let model = llama::fetch(ctx)?;
    let bin = build::programs(ctx, Profile::Dev)?;
    run(tests(ctx, "")?
        .args(["-p", "lapce-ai-engine", "--test", "provider_llama", "--", "--ignored"])
        .env("LAPCE_AI_BIN_DIR", bin)
        .env("LAPCE_AI_TEST_LLAMA_SERVER", model.server)
        .env("LAPCE_AI_TEST_LLAMA_MODEL", model.weights))
}

fn onnx(ctx: &Ctx) -> Result<()> {
    let folder = minilm::fetch(ctx)?;
    run(tests(ctx, "")?
        .args(["-p", "lapce-ai-embed", "--test", "minilm", "--", "--ignored"])
        .env("LAPCE_AI_TEST_MINILM", folder))
}

fn browser(ctx: &Ctx) -> Result<()> {
    let chromium = chromium::fetch(ctx)?;
    let bin = build::programs(ctx, Profile::Dev)?;
    run(tests(ctx, "")?
        .env("LAPCE_AI_BIN_DIR", bin)
        .args(["-p", "lapce-ai-tools", "--test", "it", "browser::", "--", "--ignored"])
        .env("LAPCE_AI_TEST_CHROMIUM", chromium.program)
        .env("LAPCE_AI_TEST_CHROMIUM_LIB", chromium.libraries))
}

fn mcp_servers(ctx: &Ctx) -> Result<()> {
    let servers = mcp::fetch(ctx)?;
    let bin = build::programs(ctx, Profile::Dev)?;
    for (package, test) in [("lapce-ai-engine", "mcp_real"), ("lapce-ai-tests", "mcp_clients")] {
        run(tests(ctx, "")?
            .args(["-p", package, "--test", test, "--", "--ignored"])
            .env("LAPCE_AI_BIN_DIR", &bin)
            .env("LAPCE_AI_TEST_MCP", &servers))?;
    }
    Ok(())
}

fn e2e(ctx: &Ctx) -> Result<()> {
    let bin = build::programs(ctx, Profile::Dev)?;
    run(tests(ctx, "")?.args(["-p", "lapce-ai-tests"]).env("LAPCE_AI_BIN_DIR", bin))
}

fn docs_check(ctx: &Ctx) -> Result<()> {
    docs::run(ctx, true)?;
    let mut cargo = ctx.cargo()?;
    // Private items are documented too, so links to them lead somewhere.
    cargo.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links");
    cargo.args(["doc", "--no-deps", "--document-private-items"]);
    for package in SMALL {
        cargo.args(["-p", package]);
    }
    run(&mut cargo)
}
