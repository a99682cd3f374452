//! `lapce-ai-index`: the worker and the build process the engine starts, and the same
//! work by hand (`build`, `search`, `dry-run`, `verify`, `gc`, `rm`, `eval`).

mod args;
#[cfg(feature = "lance")]
mod local;
mod measure;
mod outline;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Gives memory back at once and commits none ahead: 100 MB less for a worker. mimalloc
/// reads the environment at its first allocation, which comes before `main`.
#[used]
#[unsafe(link_section = ".init_array.00099")]
static ALLOCATOR_SETTINGS: extern "C" fn() = {
    extern "C" fn set() {
        for (name, value) in
            [(c"MIMALLOC_ARENA_EAGER_COMMIT", c"0"), (c"MIMALLOC_PURGE_DELAY", c"0")]
        {
            // SAFETY: runs before main on the only thread; both strings are static.
            // The last argument keeps what the user has set.
            unsafe { libc::setenv(name.as_ptr(), value.as_ptr(), 0) };
        }
    }
    set
};

fn main() -> ExitCode {
    let args = args::Args::parse();
    match run(args.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lapce-ai-index: {error:#}");
            // As `lapce-ai` exits when something named is not there.
            let absent =
                matches!(error.downcast_ref(), Some(lapce_ai_index::error::Error::NoIndex(_)));
            if absent { ExitCode::from(3) } else { ExitCode::FAILURE }
        }
    }
}

fn run(command: args::Command) -> anyhow::Result<()> {
    use args::Command;
    if !matches!(command, Command::Worker { .. } | Command::Build { fd: Some(_), .. }) {
        // By hand, `… | head` ends quietly. On the ring a closed socket must be an error.
        // SAFETY: sets the default action of a signal before any thread starts.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
    match command {
        Command::DryRun { root, json } => measure::dry_run(&root, json),
        Command::Outline => outline::run(),
        Command::Eval(eval) => measure::eval(&eval),
        #[cfg(feature = "lance")]
        Command::Worker { fd } => {
            lapce_ai_index::server::run(lapce_ai_index::server::Role::Worker, fd)
        }
        #[cfg(feature = "lance")]
        Command::Build { fd: Some(fd), .. } => {
            local::be_modest();
            lapce_ai_index::server::run(lapce_ai_index::server::Role::Build, fd)
        }
        #[cfg(feature = "lance")]
        other => local::run(other),
        #[cfg(not(feature = "lance"))]
        _ => anyhow::bail!(
            "this program was built without its store; build it with the feature `lance`"
        ),
    }
}
