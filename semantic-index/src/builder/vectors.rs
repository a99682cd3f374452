//! Vectors that are not made where the chunks are cut: a batch of rows waits for them before
//! it is committed, so a killed build has paid for nothing that the next one asks again but
//! one batch.

use super::Build;
use crate::embed::{Piece, Remote};
use crate::error::Error;
use crate::store::Rows;
use crate::walk::Entry;

impl Build {
    pub(super) fn remote(&self) -> Option<&Remote> {
        self.embedder.as_ref().and_then(|e| e.remote())
    }

    /// Says what is about to be sent.
    pub(super) async fn announce(&self, todo: &[Entry]) {
        if let Some(remote) = self.remote().filter(|_| !todo.is_empty()) {
            let bytes = todo.iter().map(|e| e.size).sum();
            remote.announce(todo.len() as u64, bytes).await;
        }
    }

    /// Rows of one commit: fewer while each has to be asked for.
    pub(super) fn batch_rows(&self) -> usize {
        let most = self.options.batch_rows;
        if self.remote().is_some() { most.min(crate::limits::EMBED_ROWS) } else { most }
    }

    /// Has the vectors of these rows made, where the embedder is not here.
    pub(super) async fn fill(&self, rows: &mut Rows) -> Result<(), Error> {
        let Some(remote) = self.remote() else { return Ok(()) };
        let pieces: Vec<Piece<'_>> = rows
            .all()
            .iter()
            .filter(|row| row.vector.is_none())
            .map(|row| Piece {
                path: &row.path,
                crumb: &row.crumb,
                symbol: &row.symbol,
                code: &row.code,
            })
            .collect();
        let vectors = remote.vectors(&pieces).await.map_err(Error::Embedder)?;
        for (row, vector) in
            rows.all_mut().iter_mut().filter(|row| row.vector.is_none()).zip(vectors)
        {
            row.vector = Some(vector);
        }
        Ok(())
    }
}
