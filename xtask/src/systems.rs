//! The fences of macOS and Windows (`tools/fence`), compiled for those systems: nothing is linked
//! and nothing is run. Used by `test systems`.

use anyhow::{Context, Result};

use crate::ctx::{Ctx, run};
use crate::wasm;

const TARGETS: [&str; 2] = ["aarch64-apple-darwin", "x86_64-pc-windows-msvc"];

pub fn check(ctx: &Ctx) -> Result<()> {
    for target in TARGETS {
        let mut cargo = ctx.cargo()?;
        // Another compiler than the rest's, perhaps, and a standard library of its own.
        cargo.env("CARGO_TARGET_DIR", ctx.target.join("systems")).env("RUSTFLAGS", "-D warnings");
        cargo.args(["check", "--locked", "-p", "lapce-ai-fence", "--target", target]);
        if let Err(why) = wasm::rustup_target(target) {
            eprintln!("xtask: {why:#}; compiling its standard library with Debian's compiler");
            wasm::use_apt_compiler(ctx, &mut cargo).with_context(|| {
                format!("the {target} target is missing; get it with `rustup target add {target}`")
            })?;
        }
        run(&mut cargo)?;
    }
    Ok(())
}
