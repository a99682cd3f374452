//! Embedders: text to vectors.
//!
//! One trait; an index records the name of the embedder that made its vectors and is
//! rebuilt when it changes. The default is our own static table (`table`).

mod table;

use std::sync::{Arc, OnceLock};

pub use table::{Table, cosine};

/// Turns code and questions into vectors of one space.
pub trait Embedder: Send + Sync {
    /// Changes whenever vectors change.
    fn name(&self) -> &str;
    fn dims(&self) -> usize;
    /// The vector of a chunk, or None when it holds no known word. `place` is what
    /// [`place`] gives.
    fn chunk(&self, place: &str, code: &str) -> Option<Vec<i8>>;
    /// The vector of a question.
    fn query(&self, text: &str) -> Option<Vec<i8>>;
}

/// The words of a chunk's place: its last three folders, the file's name without its last
/// extension, the breadcrumb and the symbol.
pub fn place(path: &str, crumb: &str, symbol: &str) -> String {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    let stem =
        name.rsplit_once('.').map_or(name, |(stem, _)| if stem.is_empty() { name } else { stem });
    let mut near: Vec<&str> = folders.rsplit('/').take(3).collect();
    near.reverse();
    format!("{} {stem} {crumb} {symbol}", near.join(" "))
}

/// The embedder of this build of the product.
pub fn default_embedder() -> Option<Arc<dyn Embedder>> {
    static SHIPPED: OnceLock<Option<Arc<Table>>> = OnceLock::new();
    SHIPPED
        .get_or_init(|| {
            Table::shipped().map(Arc::new).map_err(|error| tracing::error!("{error}")).ok()
        })
        .clone()
        .map(|table| table as Arc<dyn Embedder>)
}
