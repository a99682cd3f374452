//! Vectors that are not made where the chunks are cut: a batch of rows waits for them before
//! it is committed. Each is kept in the cache under its text as soon as it came, so that
//! neither a build that ends early nor a branch that comes back is paid for again.

use std::collections::HashMap;

use super::Build;
use crate::cache::Key;
use crate::embed::{Embedder, Piece, Remote};
use crate::error::Error;
use crate::spool::Spool;
use crate::store::{Row, Rows};

impl Build {
    pub(super) fn remote(&self) -> Option<&Remote> {
        self.embedder.as_ref().and_then(|e| e.remote())
    }

    /// Vectors that are paid for and then cannot be used beside those of the shared index are
    /// not asked for.
    pub(super) fn fits_below(&self) -> Result<(), Error> {
        let (Some(remote), Some(layer)) = (self.remote(), &self.options.layer) else {
            return Ok(());
        };
        let (below, name) = (&layer.below, remote.name());
        if below.embedder == name {
            return Ok(());
        }
        let why = format!(
            "its vectors are of {}, and [index] embedder makes those of {name}; take one of the two out of config.toml",
            below.embedder
        );
        Err(Error::Location { uri: below.location.clone(), why })
    }

    /// Says what is about to be sent.
    pub(super) async fn announce(&self, todo: &Spool) {
        if let Some(remote) = self.remote().filter(|_| !todo.is_empty()) {
            remote.announce(todo.len(), todo.size()).await;
        }
    }

    /// Rows of one commit: fewer while each has to be asked for.
    pub(super) fn batch_rows(&self) -> usize {
        let most = self.options.batch_rows;
        if self.remote().is_some() { most.min(crate::limits::EMBED_ROWS) } else { most }
    }

    /// Has the vectors of these rows made, where the embedder is not here and the cache does
    /// not know them.
    pub(super) async fn fill(&mut self, rows: &mut Rows) -> Result<(), Error> {
        let embedder = self.embedder.clone();
        let Some(remote) = embedder.as_deref().and_then(|e| e.remote()) else { return Ok(()) };
        let keys: Vec<Option<(Key, String)>> = rows
            .all()
            .iter()
            .map(|row| {
                row.vector.is_none().then(|| {
                    let text = text_of(row);
                    (self.cache.text_key(&text), text)
                })
            })
            .collect();
        let mut known = HashMap::new();
        let mut asked = Vec::new();
        for (key, text) in keys.iter().flatten() {
            if known.contains_key(key) {
                continue;
            }
            let vector = self.cache.vector(key, remote.dims());
            if vector.is_none() {
                asked.push((*key, text.as_str()));
            }
            known.insert(*key, vector);
        }
        let texts: Vec<&str> = asked.iter().map(|(_, text)| *text).collect();
        let mut at = asked.iter();
        let keeper = &mut self.keeper;
        let made = remote
            .vectors(&texts, |vectors| {
                for (vector, (key, _)) in vectors.into_iter().zip(&mut at) {
                    keeper.add_vector(*key, &vector);
                    known.insert(*key, Some(vector));
                }
            })
            .await;
        made.map_err(Error::Embedder)?;
        for (row, key) in rows.all_mut().iter_mut().zip(keys) {
            if let Some((key, _)) = key {
                row.vector = known.get(&key).cloned().flatten();
            }
        }
        Ok(())
    }
}

fn text_of(row: &Row) -> String {
    let piece = Piece { path: &row.path, crumb: &row.crumb, symbol: &row.symbol, code: &row.code };
    piece.text()
}
