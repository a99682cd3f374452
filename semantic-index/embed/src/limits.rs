//! Every bound of this program. Memory, time and processes are bounded from outside: the
//! engine runs it in the sandbox of the tools (`engine/src/index_client/onnx.rs`).

/// Largest model; its weights may take four times as much in memory.
pub const MODEL_BYTES: u64 = 512 << 20;
/// Largest `tokenizer.json`, and any other description of the model.
pub const TOKENIZER_BYTES: u64 = 32 << 20;
pub const SETTINGS_BYTES: u64 = 1 << 20;
/// Words and pieces of words.
pub const VOCABULARY: usize = 1 << 20;
/// Longest input of the model, whatever it says of itself; and what is taken when it says
/// nothing.
pub const MAX_TOKENS: usize = 512;
pub const DEFAULT_TOKENS: usize = 256;
/// Most numbers of a vector.
pub const MAX_DIMS: usize = 4_096;
/// One line of standard input.
pub const REQUEST_BYTES: u64 = 4 << 20;
/// Texts of one request.
pub const MAX_TEXTS: usize = 64;
/// Tokens, padding included, of the texts that go through the model together.
pub const BATCH_TOKENS: usize = 512;
/// Longest prefix that a model wants before its questions or texts.
pub const PROMPT_BYTES: usize = 1 << 10;
