//! Embedders: text to vectors.
//!
//! One trait; an index records the name of the embedder that made its vectors and is
//! rebuilt when it changes. The default is our own static table (`table`); a user may name
//! a provider's model or a local ONNX model instead, which the engine asks (`remote`); `eval`
//! runs an ONNX model itself (`child`).

mod child;
mod remote;
mod table;

use std::sync::{Arc, OnceLock};

pub use child::Local;
pub use remote::{Ask, Given, Piece, Remote};
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
    /// The vector of a symbol alone, from embedders that make hundreds of them in the time
    /// of one search.
    fn name_of(&self, _symbol: &str) -> Option<Vec<i8>> {
        None
    }
    /// The embedder as one that answers later, in batches: `chunk` then gives nothing.
    fn remote(&self) -> Option<&Remote> {
        None
    }
    /// Whether unrelated texts have cosines near 0, as the ranking's weights assume.
    fn calibrated(&self) -> bool {
        true
    }
}

/// Brings the cosines of an embedder whose unrelated texts are alike, too, to the range that
/// ranking's weights are made for: the middle of the candidates becomes 0.
pub fn calibrate(candidates: &mut [crate::rank::Candidate]) {
    let mut sorted: Vec<f32> = candidates.iter().map(|c| c.dense).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let Some((&top, &middle)) = sorted.last().zip(sorted.get(sorted.len() / 2)) else { return };
    let range = (top - middle).max(1e-3);
    for candidate in candidates {
        candidate.dense = BEST_COSINE * ((candidate.dense - middle) / range).max(0.0);
    }
}

/// The cosine of a good match with the table.
const BEST_COSINE: f32 = 0.6;

/// Fills in how near each candidate's symbol is to the question, where its kind counts that.
pub fn add_names(
    query: &crate::rank::Query,
    vector: &[i8],
    embedder: &dyn Embedder,
    candidates: &mut [crate::rank::Candidate],
    weights: &crate::rank::Weights,
) {
    if weights.of(query.kind).name > 0.0 {
        for candidate in candidates.iter_mut().filter(|c| !c.symbol.is_empty()) {
            let name = embedder.name_of(&candidate.symbol);
            candidate.name = name.map_or(0.0, |name| cosine(vector, &name));
        }
    }
}

/// The words of a chunk's place: its last three folders, the file's name without its last
/// extension and the breadcrumb; the symbol on a line of its own.
pub fn place(path: &str, crumb: &str, symbol: &str) -> String {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    let stem =
        name.rsplit_once('.').map_or(name, |(stem, _)| if stem.is_empty() { name } else { stem });
    let mut near: Vec<&str> = folders.rsplit('/').take(3).collect();
    near.reverse();
    format!("{} {stem} {crumb}\n{symbol}", near.join(" "))
}

/// What `eval` measures in place of the table.
static MEASURED: OnceLock<Arc<dyn Embedder>> = OnceLock::new();

/// From here on `default_embedder` is this one; the first call counts.
pub fn measure(embedder: Arc<dyn Embedder>) {
    let _ = MEASURED.set(embedder);
}

/// The embedder of this build of the product.
pub fn default_embedder() -> Option<Arc<dyn Embedder>> {
    static SHIPPED: OnceLock<Option<Arc<Table>>> = OnceLock::new();
    if let Some(measured) = MEASURED.get() {
        return Some(Arc::clone(measured));
    }
    SHIPPED
        .get_or_init(|| {
            Table::shipped().map(Arc::new).map_err(|error| tracing::error!("{error}")).ok()
        })
        .clone()
        .map(|table| table as Arc<dyn Embedder>)
}
