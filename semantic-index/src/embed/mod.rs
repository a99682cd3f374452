//! Embedders: text to vectors.
//!
//! One trait; an index records the name of the embedder that made its vectors and is
//! rebuilt when it changes. The default is our own static table (`table`).

/// Turns code and questions into vectors of one space.
pub trait Embedder: Send + Sync {
    /// Changes whenever vectors change.
    fn name(&self) -> &str;
    fn dims(&self) -> usize;
    /// The vector of a chunk, or None when it holds no known word.
    fn chunk(&self, crumb: &str, code: &str) -> Option<Vec<i8>>;
    /// The vector of a question.
    fn query(&self, text: &str) -> Option<Vec<i8>>;
}

/// The embedder of this build of the product.
pub fn default_embedder() -> Option<std::sync::Arc<dyn Embedder>> {
    None
}
