//! The semantic index of Lapce AI.
pub mod chunk;
pub mod lang;
pub mod limits;
pub mod manifest;
pub mod sniff;
pub mod tokens;
pub mod walk;
