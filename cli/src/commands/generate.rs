//! `lapce-ai completions`, and the reference pages that `cargo xtask docs` keeps.

use std::fmt::Write as _;

use clap::CommandFactory as _;
use clap_complete::Shell;
use lapce_ai_ipc::launch::ENGINE_PROGRAM;
use lapce_ai_ipc::paths;
use lapce_ai_tools::spec::{self, ToolSpec};

use super::args::{Cli, Reference};
use super::exit::{Code, Failure, Outcome};
use super::output::Output;

pub fn completions(shell: Shell, out: Output) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "lapce-ai", &mut script);
    out.piece(&String::from_utf8_lossy(&script))
}

pub fn reference(what: Reference, out: Output) -> Outcome {
    match what {
        Reference::Cli => out.piece(&cli()),
        Reference::Tools => out.piece(&tools()),
        Reference::Config => out.piece(&config()?),
    }
}

fn cli() -> String {
    let mut page = String::from("# Command line\n\nWritten by `lapce-ai generate cli`.\n");
    let mut root = Cli::command().term_width(96);
    root.build();
    command(&root, "lapce-ai", &mut page);
    page
}

fn command(command: &clap::Command, name: &str, page: &mut String) {
    let help = command.clone().bin_name(name).render_long_help().to_string();
    let help: Vec<_> = help.trim_end().lines().map(str::trim_end).collect();
    let _ = write!(page, "\n## {name}\n\n```text\n{}\n```\n", help.join("\n"));
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        if sub.get_name() != "help" {
            self::command(sub, &format!("{name} {}", sub.get_name()), page);
        }
    }
}

fn tools() -> String {
    let mut page = String::from("# Tools\n\nWritten by `lapce-ai generate tools`.\n");
    for spec in spec::offered() {
        tool(spec, &mut page);
    }
    page
}

fn tool(spec: &ToolSpec, page: &mut String) {
    let _ = write!(page, "\n## {}\n\n{}", spec.name, spec.summary);
    if !spec.doc.is_empty() {
        let _ = write!(page, " {}", spec.doc);
    }
    let _ = write!(page, "\n\nClass: {:?}. Limits: {}.\n", spec.class, spec.limits);
    if !spec.params.is_empty() {
        page.push_str("\n| parameter | kind | required | |\n|---|---|---|---|\n");
    }
    for param in spec.params {
        let required = if param.required { "yes" } else { "no" };
        let (name, kind) = (param.name, param.kind.word());
        let _ = writeln!(page, "| `{name}` | {kind} | {required} | {} |", param.doc);
    }
    let _ = write!(page, "\n```xml\n{}\n```\n", spec.example.trim_end());
}

/// The engine knows its configuration; it is asked, so that this program need not link it.
fn config() -> Outcome<String> {
    let failed = |what: String| Failure::new(Code::Unavailable, what, "run `lapce-ai doctor`");
    let program = paths::find_program(ENGINE_PROGRAM)
        .ok_or_else(|| failed(format!("the program {ENGINE_PROGRAM} was not found")))?;
    let output = std::process::Command::new(&program)
        .arg("--config-reference")
        .output()
        .map_err(|error| failed(format!("{}: {error}", program.display())))?;
    if !output.status.success() {
        return Err(failed(format!("{} --config-reference failed", program.display())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
