//! Hands over to `lapce-ai-index` for what needs no engine.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use lapce_ai_ipc::paths;

use super::exit::{Code, Failure, Outcome};

const PROGRAM: &str = "lapce-ai-index";

/// Becomes `lapce-ai-index ARGS`; returns only when that cannot be started.
pub fn become_it(args: impl IntoIterator<Item = OsString>) -> Outcome {
    let Some(program) = paths::find_program(PROGRAM) else {
        let what = format!("the program {PROGRAM} was not found");
        return Err(Failure::new(Code::Unavailable, what, "run `lapce-ai doctor`"));
    };
    let error = Command::new(&program).args(args).exec();
    let what = format!("{} cannot be started: {error}", program.display());
    Err(Failure::new(Code::Unavailable, what, "run `lapce-ai doctor`"))
}
