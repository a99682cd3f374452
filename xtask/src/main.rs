//! `cargo xtask COMMAND`: the workshop of the repository.
//!
//! Light on purpose: it compiles in seconds, then builds, fetches and runs the rest.
//! It never changes the user's toolchain beyond `rustup target add`, and never the
//! user's engine: what it starts runs in a folder of its own.

mod bench;
mod build;
mod chromium;
mod codex;
mod ctx;
mod demo;
mod docs;
mod fetch;
mod llama;
mod load;
mod mcp;
mod minilm;
mod semble;
mod systems;
mod test;
mod uml;
mod volt;
mod wasm;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::ctx::Ctx;

const HELP: &str = "\
cargo xtask COMMAND

  demo [PATH] [--release]   the whole path on a real repository (default: this one)
  test [FILTER]             everything CI runs; FILTER names one step (see --list)
  test --load N [FILTER]    the same beside N processes that keep the cores busy
  test --list               the steps of `test`
  build [--release]         all programs, into one folder, whose path is printed
  volt [OUT] [--release]    an installable Lapce plugin folder (default: target/volt)
  bench NAME [ARGS]         build the release programs, then run one bench
  bench --list              the benches
  docs [--check]            regenerate the generated pages; --check fails on drift
  fetch-model               the model server and the small model that tests use
  fetch-minilm              an embedding model whose folder `[index] embedder` may name

Environment: CARGO_TARGET_DIR is respected. Everything fetched lies in
$HOME/.cache/lapce-ai (or $LAPCE_AI_CACHE).
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    match run(&command, args.collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &str, mut args: Vec<String>) -> Result<()> {
    if matches!(command, "" | "help" | "-h" | "--help") {
        print!("{HELP}");
        return Ok(());
    }
    let ctx = Ctx::new()?;
    let mut flag = |name: &str| {
        let found = args.iter().position(|arg| arg == name);
        found.map(|at| args.remove(at)).is_some()
    };
    match command {
        "demo" => {
            let release = flag("--release");
            demo::demo(&ctx, release, only_path(args)?)
        }
        "test" if flag("--list") => {
            test::list();
            Ok(())
        }
        "test" => {
            let _load = if flag("--load") { Some(load::Load::start(&mut args)?) } else { None };
            test::test(&ctx, args.first().map(String::as_str))
        }
        "build" => {
            let release = flag("--release");
            println!("{}", build::programs(&ctx, release.into())?.display());
            Ok(())
        }
        "volt" => {
            let release = flag("--release");
            let out = only_path(args)?.unwrap_or_else(|| ctx.target.join("volt"));
            let programs = build::programs(&ctx, release.into())?;
            volt::volt(&ctx, &out, &programs)?;
            println!("{}", out.display());
            Ok(())
        }
        "bench" if flag("--list") => bench::list(&ctx),
        "bench" => bench::run_bench(&ctx, &args),
        "docs" => {
            let check = flag("--check");
            docs::run(&ctx, check)
        }
        "fetch-model" => {
            let model = llama::fetch(&ctx)?;
            println!("{}\n{}", model.server.display(), model.weights.display());
            Ok(())
        }
        "fetch-minilm" => {
            println!("{}", minilm::fetch(&ctx)?.display());
            Ok(())
        }
        other => bail!("no command `{other}`; `cargo xtask help` lists them"),
    }
}

fn only_path(args: Vec<String>) -> Result<Option<PathBuf>> {
    if let Some(unknown) = args.iter().find(|arg| arg.starts_with("--")) {
        bail!("no option `{unknown}`; `cargo xtask help` lists them");
    }
    if args.len() > 1 {
        bail!("one path at most, not {}", args.len());
    }
    Ok(args.into_iter().next().map(PathBuf::from))
}
