//! Runs one tool call inside the sandbox, and ends.

fn main() {}
