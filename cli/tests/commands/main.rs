//! The command line over the real programs: what people and scripts see, and how it ends.
//! Needs `lapce-ai-engine` and `lapce-ai-tool` beside it (`cargo xtask test` builds them).

mod engine;
#[path = "../lsp/support/model.rs"]
#[expect(dead_code, reason = "ghost text is the editor's alone")]
mod model;
mod output;
mod runs;
mod terminal;
mod tools;

use std::path::Path;

use lapce_ai_tests::{Ran, TestHome};

fn home() -> TestHome {
    let bin = Path::new(env!("CARGO_BIN_EXE_lapce-ai")).parent().unwrap();
    for program in ["lapce-ai-engine", "lapce-ai-tool"] {
        let file = bin.join(program);
        assert!(file.is_file(), "{} is not built; see `cargo xtask test`", file.display());
    }
    TestHome::with_programs(bin)
}

/// Compares with a file in `golden/`; `UPDATE_GOLDEN=1` writes it instead.
#[track_caller]
fn golden(name: &str, home: &TestHome, text: &str) {
    let text = text
        .replace(home.path().to_str().unwrap(), "HOME")
        .replace(home.bin_dir().to_str().unwrap(), "BIN")
        .replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let file = std::env::current_dir().unwrap().join("tests/commands/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; UPDATE_GOLDEN=1 writes it", file.display()));
    assert_eq!(text, expected, "{} differs; UPDATE_GOLDEN=1 writes it anew", file.display());
}

fn shown(ran: &Ran) -> String {
    format!("exit {}\n--- stdout\n{}--- stderr\n{}", ran.code.unwrap(), ran.stdout, ran.stderr)
}
