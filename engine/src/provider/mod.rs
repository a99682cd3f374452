//! Model providers: which model a request uses, and how it is asked.
pub mod error;
pub mod limits;
pub mod lines;
pub mod openai;
pub mod retry;
pub mod types;
pub mod wire;
