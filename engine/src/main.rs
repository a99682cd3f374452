//! `lapce-ai-engine`: see [`lapce_ai_engine::lifecycle`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    lapce_ai_engine::lifecycle::main()
}
