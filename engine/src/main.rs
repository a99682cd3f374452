//! `lapce-ai-engine`: see [`lapce_ai_engine::lifecycle`].

fn main() -> std::process::ExitCode {
    lapce_ai_engine::lifecycle::main()
}
