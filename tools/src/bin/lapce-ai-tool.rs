//! Runs one tool call inside the sandbox, and ends. Started by the engine only; see
//! `lapce_ai_tools::protocol` for what passes over its standard input and output.

fn main() {
    std::process::exit(lapce_ai_tools::exec::main());
}
