//! The two thin clients of the engine: the command line (`commands`) and the language
//! server (`lsp`). Neither holds state that matters, talks to a provider, or opens an index.

pub mod commands;
mod lines;
pub mod lsp;
mod mentions;
mod tui;
