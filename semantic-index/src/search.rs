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
use crate::store::{Copies, Lights, Store, Vectors, best_first};

/// An index open for reading; clones share the table.
#[derive(Debug, Clone)]
pub struct Index {
    dir: PathBuf,
    state: State,
    store: Store,
    vectors: Option<Arc<Vectors>>,
    lights: Option<Arc<Lights>>,
}

impl Index {
    pub async fn open(dir: &Path, root: &str, session: &Arc<Session>) -> Result<Self, Error> {
        let state = State::load(dir).ok_or_else(|| Error::NoIndex(root.to_string()))?;
        let store = Store::open(&state.db_path(dir), session).await?;
        let (vectors, lights) = copies(dir, &state);
        Ok(Self { dir: dir.to_path_buf(), state, store, vectors, lights })
    }

    /// Notices what a build has committed since the last question.
    pub async fn refresh(&mut self, root: &str, session: &Arc<Session>) -> Result<(), Error> {
        let state = State::load(&self.dir).ok_or_else(|| Error::NoIndex(root.to_string()))?;
        if state.db != self.state.db {
            self.store = Store::open(&state.db_path(&self.dir), session).await?;
        } else if state.generation != self.state.generation {
            self.store.refresh().await?;
        }
        if state.vectors != self.state.vectors || state.db != self.state.db {
            (self.vectors, self.lights) = copies(&self.dir, &state);
        }
        self.state = state;
        Ok(())
    }

    /// Lets go of mapped pages while nobody asks.
    pub fn let_go(&self) {
        if let Some(vectors) = &self.vectors {
            vectors.let_go();
        }
        if let Some(lights) = &self.lights {
            lights.let_go();
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
        let vectors = self.vectors.as_ref().filter(|_| arm != Arm::Lexical);
        let embedder = embedder.filter(|e| vectors.is_some() && e.name() == self.state.embedder);
        let vector = embedder.and_then(|e| e.query(&query.text));
        let depth = CANDIDATES.max(limit);
        let lights = match &self.lights {
            Some(lights) if lights.version() == self.store.version().await? => Some(&**lights),
            _ => None,
        };
        let mut candidates = match (arm, lights) {
            (Arm::Dense, _) => Vec::new(),
            (_, Some(lights)) => {
                let scores = self.store.scores(query.terms(), depth).await?;
                let question = vectors.map(|v| &**v).zip(vector.as_deref());
                lexical(&scores, lights, question)
            }
            (_, None) => self.store.lexical(query.terms(), vector.as_deref(), depth).await?,
        };
        if let (Some(vector), Some(vectors)) = (&vector, vectors) {
            let known: HashSet<u64> = candidates.iter().map(|c| c.row).collect();
            let mut near = vectors.nearest(vector, depth);
            near.retain(|(row, _)| !known.contains(row));
            near.truncate(if arm == Arm::Dense { depth } else { DENSE_CANDIDATES });
            match lights {
                Some(lights) => candidates.extend(near.iter().filter_map(|(row, dense)| {
                    Some(Candidate { dense: *dense, ..lights.get(*row)?.0 })
                })),
                None => candidates.extend(self.store.rows(&near).await?),
            }
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

/// Scored rows as candidates, read from the mapped copies.
fn lexical(
    scores: &[(u64, f32)],
    lights: &Lights,
    question: Option<(&Vectors, &[i8])>,
) -> Vec<Candidate> {
    let mut out: Vec<Candidate> = scores
        .iter()
        .filter_map(|(row, score)| {
            let (candidate, at) = lights.get(*row)?;
            let dense =
                question.zip(at).map_or(0.0, |((vectors, vector), at)| vectors.cosine(at, vector));
            Some(Candidate { lexical: *score, dense, ..candidate })
        })
        .collect();
    best_first(&mut out);
    out
}

fn copies(dir: &Path, state: &State) -> (Option<Arc<Vectors>>, Option<Arc<Lights>>) {
    if state.vectors.is_empty() {
        return (None, None);
    }
    let copies = Copies::named(&state.db_path(dir), &state.vectors);
    (Vectors::open(&copies.vectors).map(Arc::new), Lights::open(&copies.lights).map(Arc::new))
}
