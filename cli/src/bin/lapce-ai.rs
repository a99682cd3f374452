//! `lapce-ai`: see [`lapce_ai_cli::commands`].

fn main() -> std::process::ExitCode {
    lapce_ai_cli::commands::main()
}
