//! `lapce-ai-embed FOLDER`: see the library.

use std::path::PathBuf;
use std::process::ExitCode;

use lapce_ai_embed::model::Model;
use lapce_ai_embed::serve;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(folder), None) = (args.next(), args.next()) else {
        eprintln!("usage: lapce-ai-embed FOLDER, with model.onnx and tokenizer.json in it");
        return ExitCode::from(2);
    };
    if folder == "--version" {
        println!("lapce-ai-embed {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    // The user's own work goes first, and this process goes first when memory runs out.
    // SAFETY: a plain system call on this process.
    unsafe { libc::nice(10) };
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    // A model that the runtime stumbles over ends this process and no other.
    std::panic::set_hook(Box::new(|panic| eprintln!("the model's runtime gave up: {panic}")));
    let model = Model::load(&PathBuf::from(folder));
    match serve::run(model, &mut std::io::stdin().lock(), &mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lapce-ai-embed: {error}");
            ExitCode::FAILURE
        }
    }
}
