//! Answers one question from one index.
//!
//! Candidates from the mapped copies (while a build is under way, from the table's full-text
//! index), then `rank`, then the code of the winners. Read-only; called by the worker.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use lancedb::Session;
use lapce_ai_ipc::wire::index::{Found, Hit, Stats};

use crate::embed::{self, Embedder};
use crate::error::Error;
use crate::limits::{CANDIDATES, DENSE_CANDIDATES, MAX_HIT_CODE_BYTES, MAX_HITS};
use crate::manifest::State;
use crate::rank::{self, Candidate, Query, Weights, rank};
use crate::shared::{Location, SHARED_FOLDER};
use crate::store::copies::{Asked, SHARED_ROW};
use crate::store::{Copies, Place, Store, best_first};

/// An index open for reading; clones share the table.
#[derive(Debug, Clone)]
pub struct Index {
    dir: PathBuf,
    state: State,
    store: Store,
    copies: Option<Arc<Copies>>,
    /// The table of the shared index below, opened when a hit's file is not here.
    shared: Arc<tokio::sync::OnceCell<Store>>,
    session: Arc<Session>,
}

impl Index {
    pub async fn open(dir: &Path, root: &str, session: &Arc<Session>) -> Result<Self, Error> {
        let state = State::load(dir).ok_or_else(|| Error::NoIndex(root.to_string()))?;
        let store = Store::open(&state.db_path(dir), session).await?;
        let copies = copies(dir, &state);
        let (shared, session) = (Arc::default(), Arc::clone(session));
        Ok(Self { dir: dir.to_path_buf(), state, store, copies, shared, session })
    }

    /// Notices what a build has committed since the last question.
    pub async fn refresh(&mut self, root: &str, session: &Arc<Session>) -> Result<(), Error> {
        let state = State::load(&self.dir).ok_or_else(|| Error::NoIndex(root.to_string()))?;
        if state.db != self.state.db {
            self.store = Store::open(&state.db_path(&self.dir), session).await?;
        } else if state.generation != self.state.generation {
            self.store.refresh().await?;
        }
        if state.below != self.state.below {
            self.shared = Arc::default();
        }
        let (new, old) = ((&state.view, &state.db, &state.shadow), &self.state);
        if new != (&old.view, &old.db, &old.shadow) {
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
        let below = self.state.below.as_ref();
        let embedder = embedder
            .filter(|e| arm != Arm::Lexical && e.name() == self.state.embedder)
            // After an update of the program the shared index may still be of the last table.
            .filter(|e| below.is_none_or(|below| below.embedder == e.name()));
        let copies = self.copies.as_deref();
        let dense = embedder.filter(|e| copies.is_some_and(|c| c.has_vectors(e.dims())));
        let vector = dense.and_then(|e| e.query(&query.text));
        let depth = CANDIDATES.max(limit);
        // Copies of another version: a build is under way. The vectors still serve.
        let fresh = match copies {
            Some(copies) if copies.version() == self.store.version().await? => Some(copies),
            _ => None,
        };
        let asked = copies.map(|copies| copies.ask(query.terms()));
        let mut candidates = match (arm, fresh.zip(asked.as_ref())) {
            (Arm::Dense, _) => Vec::new(),
            (_, Some((copies, asked))) => lexical(copies, asked, vector.as_deref(), depth),
            (_, None) => {
                let mut found = self.store.lexical(query.terms(), vector.as_deref(), depth).await?;
                let below = copies.filter(|_| self.state.below.is_some());
                if let Some((copies, asked)) = below.zip(asked.as_ref()) {
                    let shared = lexical(copies, asked, vector.as_deref(), depth);
                    found.extend(shared.into_iter().filter(|c| c.row & SHARED_ROW != 0));
                }
                found
            }
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
                let (shared, own): (Vec<_>, Vec<_>) =
                    near.into_iter().partition(|c| c.row & SHARED_ROW != 0);
                let rows: Vec<(u64, f32)> = own.iter().map(|c| (c.row, c.dense)).collect();
                near = self.store.rows(&rows).await?;
                near.extend(shared);
            }
            candidates.extend(near);
            if let (Some(copies), Some(asked)) = (fresh, &asked) {
                rank::cover(&mut candidates, |c| copies.cover(asked, Place::of(c)));
            }
        }
        if let Some((vector, embedder)) = vector.as_deref().zip(embedder) {
            if !embedder.calibrated() {
                embed::calibrate(&mut candidates);
            }
            embed::add_names(&query, vector, embedder, &mut candidates, weights);
        }
        let ranked = rank(&query, &candidates, limit, weights);
        let mut code = self.code(ranked.iter().map(|r| &candidates[r.at])).await?;
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
                    why: if explain {
                        format!("{} query: {}", query.kind.label(), r.why)
                    } else {
                        String::new()
                    },
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

impl Index {
    /// The code of hits by row. Those of the shared index are the same in the working tree;
    /// only what is not there is asked of its table.
    async fn code(
        &self,
        hits: impl Iterator<Item = &Candidate>,
    ) -> Result<HashMap<u64, String>, Error> {
        let (shared, own): (Vec<_>, Vec<_>) = hits.partition(|c| c.row & SHARED_ROW != 0);
        let rows: Vec<u64> = own.iter().map(|c| c.row).collect();
        let mut code = self.store.code(&rows).await?;
        let mut missing = Vec::new();
        for hit in shared {
            match lines(Path::new(&self.state.root), hit) {
                Some(text) => drop(code.insert(hit.row, text)),
                None => missing.push(hit.row & !SHARED_ROW),
            }
        }
        if let Some(below) = self.state.below.as_ref().filter(|_| !missing.is_empty()) {
            let open = async || {
                let table = Location::parse(&below.location)?.table(&below.db);
                Ok::<_, Error>(Store::open_at(&table, &self.session, below.version).await?)
            };
            let found =
                async { Ok(self.shared.get_or_try_init(open).await?.code(&missing).await?) };
            match found.await {
                Ok(found) => {
                    code.extend(found.into_iter().map(|(row, text)| (row | SHARED_ROW, text)));
                }
                // The worker has no credentials: the hit comes without its code.
                Err::<_, Error>(error) => tracing::info!("{error}"),
            }
        }
        Ok(code)
    }
}

/// The lines of a hit in the working tree.
fn lines(root: &Path, hit: &Candidate) -> Option<String> {
    let text = String::from_utf8(crate::builder::read_file(&root.join(&hit.path)).ok()?).ok()?;
    let (first, last) = (hit.start_line.checked_sub(1)? as usize, hit.end_line as usize);
    let lines: Vec<&str> = text.lines().skip(first).take(last.checked_sub(first)?).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
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
    asked: &Asked,
    question: Option<&[i8]>,
    limit: usize,
) -> Vec<Candidate> {
    let mut out: Vec<Candidate> = copies
        .scores(asked, limit)
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
    let db = state.db_path(dir);
    let mut copies = Copies::open(&db, &state.view)?;
    if let Some(below) = &state.below {
        let hidden = std::fs::read(db.join(&state.shadow)).ok()?;
        let hidden = serde_json::from_slice(&hidden).ok()?;
        copies.add_shared(&dir.join(SHARED_FOLDER), &below.view, &hidden)?;
    }
    Some(Arc::new(copies))
}
