//! `lapce-ai-lsp`: see [`lapce_ai_cli::lsp`].

fn main() -> std::process::ExitCode {
    lapce_ai_cli::lsp::main()
}
