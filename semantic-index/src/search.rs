//! Answers one question from one index.
//!
//! Candidates from the full-text index (and the vectors, where the index has them), then
//! `rank`, then the code of the winners. Read-only; called by the worker.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use lancedb::Session;
use lapce_ai_ipc::wire::index::{Found, Hit, Stats};

use crate::embed::Embedder;
use crate::error::Error;
use crate::limits::{CANDIDATES, DENSE_CANDIDATES, MAX_HIT_CODE_BYTES, MAX_HITS};
use crate::manifest::State;
use crate::rank::{Candidate, Query, Weights, rank};
use crate::store::{Copies, Store, best_first};

/// An index open for reading; clones share the table.
#[derive(Debug, Clone)]
pub struct Index {
    dir: PathBuf,
    state: State,
    store: Store,
    copies: Option<Arc<Copies>>,
}

impl Index {
    pub async fn open(dir: &Path, root: &str, session: &Arc<Session>) -> Result<Self, Error> {
        let state = State::load(dir).ok_or_else(|| Error::NoIndex(root.to_string()))?;
        let store = Store::open(&state.db_path(dir), session).await?;
        let copies = copies(dir, &state);
        Ok(Self { dir: dir.to_path_buf(), state, store, copies })
    }

    /// Notices what a build has committed since the last question.
    pub async fn refresh(&mut self, root: &str, session: &Arc<Session>) -> Result<(), Error> {
        let state = State::load(&self.dir).ok_or_else(|| Error::NoIndex(root.to_string()))?;
        if state.db != self.state.db {
            self.store = Store::open(&state.db_path(&self.dir), session).await?;
        } else if state.generation != self.state.generation {
            self.store.refresh().await?;
        }
        if state.view != self.state.view || state.db != self.state.db {
            self.copies = copies(&self.dir, &state);
        }
        self.state = state;
        Ok(())
    }

    /// Lets go of mapped pages while nobody asks.
    pub fn let_go(&self) {
        if let Some(copies) = &self.copies {
            copies.let_go();
        }
    }

    pub fn stats(&self) -> Stats {
        Stats {
            files: self.state.files,
            chunks: self.state.chunks,
            built_at: self.state.built_at,
            disk_bytes: self.state.disk_bytes,
            embedder: self.state.embedder.clone(),
        }
    }

    pub async fn search(
        &self,
        text: &str,
        limit: u32,
        explain: bool,
        embedder: Option<&dyn Embedder>,
        weights: &Weights,
        arm: Arm,
    ) -> Result<Found, Error> {
        let started = Instant::now();
        let limit = (limit as usize).clamp(1, MAX_HITS);
        let query = Query::parse(text);
        let embedder = embedder.filter(|e| arm != Arm::Lexical && e.name() == self.state.embedder);
        let copies = self.copies.as_deref();
        let dense = embedder.filter(|e| copies.is_some_and(|c| c.has_vectors(e.dims())));
        let vector = dense.and_then(|e| e.query(&query.text));
        let depth = CANDIDATES.max(limit);
        // Copies of another version: a build is under way. The vectors still serve.
        let fresh = match copies {
            Some(copies) if copies.version() == self.store.version().await? => Some(copies),
            _ => None,
        };
        let mut candidates = match (arm, fresh) {
            (Arm::Dense, _) => Vec::new(),
            (_, Some(copies)) => lexical(copies, query.terms(), vector.as_deref(), depth),
            (_, None) => self.store.lexical(query.terms(), vector.as_deref(), depth).await?,
        };
        if let (Some(vector), Some(copies)) = (&vector, copies) {
            let known: HashSet<u64> = candidates.iter().map(|c| c.row).collect();
            let mut near: Vec<Candidate> = copies
                .nearest(vector, depth)
                .into_iter()
                .filter_map(|(at, dense)| Some(Candidate { dense, ..copies.candidate(at)? }))
                .filter(|c| !known.contains(&c.row))
                .collect();
            near.truncate(if arm == Arm::Dense { depth } else { DENSE_CANDIDATES });
            if fresh.is_none() {
                let rows: Vec<(u64, f32)> = near.iter().map(|c| (c.row, c.dense)).collect();
                near = self.store.rows(&rows).await?;
            }
            candidates.extend(near);
        }
        let ranked = rank(&query, &candidates, limit, weights);
        let rows: Vec<u64> = ranked.iter().map(|r| candidates[r.at].row).collect();
        let mut code = self.store.code(&rows).await?;
        let hits = ranked
            .iter()
            .map(|r| {
                let c = &candidates[r.at];
                let mut text = code.remove(&c.row).unwrap_or_default();
                let keep = crate::chunk::cut(&text, MAX_HIT_CODE_BYTES).len();
                text.truncate(keep);
                Hit {
                    path: c.path.clone(),
                    start_line: c.start_line,
                    end_line: c.end_line,
                    symbol: c.symbol.clone(),
                    kind: c.kind.clone(),
                    score: r.score,
                    code: text,
                    why: if explain { r.why.to_string() } else { String::new() },
                }
            })
            .collect();
        Ok(Found {
            hits,
            hybrid: vector.is_some(),
            indexed_files: self.state.files,
            took_us: started.elapsed().as_micros() as u64,
        })
    }
}

/// Which candidates take part; the product uses both arms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    Lexical,
    Dense,
    Hybrid,
}

/// The best rows by BM25, read from the mapped copies.
fn lexical(
    copies: &Copies,
    terms: &[String],
    question: Option<&[i8]>,
    limit: usize,
) -> Vec<Candidate> {
    let mut out: Vec<Candidate> = copies
        .scores(terms, limit)
        .into_iter()
        .filter_map(|(at, lexical)| {
            let dense = question.map_or(0.0, |question| copies.cosine(at, question));
            Some(Candidate { lexical, dense, ..copies.candidate(at)? })
        })
        .collect();
    best_first(&mut out);
    out
}

fn copies(dir: &Path, state: &State) -> Option<Arc<Copies>> {
    (!state.view.is_empty())
        .then(|| Copies::open(&state.db_path(dir), &state.view))
        .flatten()
        .map(Arc::new)
}
