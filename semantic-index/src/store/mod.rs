//! The LanceDB table of one index: one row a chunk.
//!
//! The only module, with its children, that knows LanceDB and Arrow. `build` writes,
//! `search` reads. Rows carry the generation of the build that wrote them, so that an
//! update adds a file's new rows before it deletes the old ones.

mod rows;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::types::{Float32Type, Int8Type, UInt8Type, UInt32Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use futures::TryStreamExt;
use lance::index::{CreateIndexBuilder, DatasetIndexExt};
use lance_index::IndexType;
use lancedb::index::Index;
use lancedb::index::scalar::{FtsIndexBuilder, FullTextSearchQuery, MatchQuery};
use lancedb::query::{ExecutableQuery, QueryBase, Select};
use lancedb::table::{CompactionOptions, OptimizeAction, OptimizeOptions};
use lancedb::{Connection, ObjectStoreRegistry, Session, Table};

pub use copies::{Copies, Place};
pub use rows::{Row, Rows};

use crate::embed::cosine;
use crate::limits::{
    CLOSED_INDEX_ROWS, DELETE_PATHS, DELETE_ROWS, FTS_MEMORY_MIB, KEEP_VERSIONS, LARGE_TABLE_ROWS,
    SMALL_FRAGMENT_ROWS,
};
use crate::rank::Candidate;

/// Name of the table in its database folder.
const TABLE: &str = "chunks";
/// Name of the full-text index.
const WORDS: &str = "words";
/// What ranking needs of a candidate; code is fetched for the hits alone.
const LIGHT: &[&str] = &["path", "start_line", "end_line", "symbol", "kind", "crumb", "flags"];

pub type Result<T> = std::result::Result<T, lancedb::Error>;

/// Caches of a process, shared by its tables.
pub fn session(index_cache: usize, metadata_cache: usize) -> Arc<Session> {
    Arc::new(Session::new(index_cache, metadata_cache, Arc::new(ObjectStoreRegistry::default())))
}

/// The Lance dataset below LanceDB's table: it plans faster, and takes a question's vector
/// as bytes, which LanceDB would turn into floats that a column of bytes refuses. A macro,
/// because LanceDB does not export the type's name.
macro_rules! snapshot {
    ($store:expr) => {
        match $store.table.dataset() {
            Some(wrapper) => wrapper.get().await?,
            None => return Err(lancedb::Error::Runtime { message: "not a local table".into() }),
        }
    };
}

// Below the macro, which they use.
pub mod copies;
mod copy;

/// An open table.
#[derive(Clone)]
pub struct Store {
    table: Table,
    /// The full-text index exists; a first build makes it after its first commit.
    searchable: bool,
    /// Superseded versions are kept this long.
    keep: std::time::Duration,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

async fn connect(db: &Path, session: &Arc<Session>) -> Result<Connection> {
    lancedb::connect(&db.to_string_lossy()).session(Arc::clone(session)).execute().await
}

impl Store {
    /// A new, empty table in a fresh folder.
    pub async fn create(db: &Path, session: &Arc<Session>, dims: usize) -> Result<Self> {
        let table = connect(db, session)
            .await?
            .create_empty_table(TABLE, rows::schema(dims))
            .execute()
            .await?;
        Ok(Self { table, searchable: false, keep: KEEP_VERSIONS })
    }

    pub async fn open(db: &Path, session: &Arc<Session>) -> Result<Self> {
        let table = connect(db, session).await?.open_table(TABLE).execute().await?;
        let mut store = Self { table, searchable: false, keep: KEEP_VERSIONS };
        store.searchable = store.has_index(WORDS).await?;
        Ok(store)
    }

    /// Keeps superseded versions this long.
    pub fn keep_versions(&mut self, keep: std::time::Duration) {
        self.keep = keep;
    }

    /// The table as it was at this version.
    pub async fn open_at(db: &Path, session: &Arc<Session>, version: u64) -> Result<Self> {
        let table = connect(db, session).await?.open_table(TABLE).execute().await?;
        table.checkout(version).await?;
        Ok(Self { table, searchable: false, keep: KEEP_VERSIONS })
    }

    /// Undoes what was committed after this version.
    pub async fn go_back_to(&mut self, version: u64) -> Result<()> {
        if self.version().await? != version {
            self.table.checkout(version).await?;
            self.table.restore().await?;
            self.searchable = self.has_index(WORDS).await?;
        }
        Ok(())
    }

    /// Sees what other processes have committed since.
    pub async fn refresh(&mut self) -> Result<()> {
        self.table.checkout_latest().await?;
        self.searchable = self.searchable || self.has_index(WORDS).await?;
        Ok(())
    }

    pub async fn count(&self) -> Result<u64> {
        Ok(self.table.count_rows(None).await? as u64)
    }

    /// Commits rows.
    pub async fn add(&self, rows: &Rows, generation: u64, dims: usize) -> Result<()> {
        self.table.add(rows.batch(generation, dims)?).execute().await?;
        Ok(())
    }

    /// Deletes the rows of these files that an older build wrote; all paths are looked at.
    pub async fn delete_older(&self, paths: &[String], generation: u64) -> Result<()> {
        for some in paths.chunks(DELETE_PATHS) {
            let list = some
                .iter()
                .map(|p| format!("'{}'", p.replace('\'', "''")))
                .collect::<Vec<_>>()
                .join(",");
            self.table
                .delete(format!("path IN ({list}) AND generation < {generation}").as_str())
                .await?;
        }
        Ok(())
    }

    /// Deletes rows by their ids, all of which are there. No other row is looked at.
    pub async fn delete_rows(&self, rows: &[u64]) -> Result<()> {
        for some in rows.chunks(DELETE_ROWS) {
            let list = some.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            self.table.delete(format!("_rowid IN ({list})").as_str()).await?;
        }
        Ok(())
    }

    /// Tells of every path that has rows, in the order of the rows: those of a file mostly
    /// lie together.
    pub async fn paths(&self, mut each: impl FnMut(&str)) -> Result<()> {
        let mut stream = self.table.query().select(Select::columns(&["path"])).execute().await?;
        while let Some(batch) = stream.try_next().await? {
            batch.column(0).as_string::<i32>().iter().flatten().for_each(&mut each);
        }
        Ok(())
    }

    async fn has_index(&self, name: &str) -> Result<bool> {
        Ok(self.table.list_indices().await?.iter().any(|i| i.name == name))
    }

    /// Makes the committed rows searchable fast: builds the full-text index, or adds to it.
    pub async fn index(&self, workers: usize) -> Result<()> {
        if self.has_index(WORDS).await? {
            if self.count().await? > CLOSED_INDEX_ROWS.0 && self.add_to_index(workers).await? {
                return Ok(());
            }
            self.table.optimize(OptimizeAction::Index(OptimizeOptions::append())).await?;
            return Ok(());
        }
        self.table
            .create_index(&["tokens"], Index::FTS(words_index(workers)))
            .name(WORDS.into())
            .execute()
            .await?;
        Ok(())
    }

    /// Indexes the rows that are in no delta as a delta of their own; false when they are few.
    /// LanceDB's way to do so opens all deltas there are, whose words in a large table are
    /// memory that grows with it.
    async fn add_to_index(&self, workers: usize) -> Result<bool> {
        let Some(wrapper) = self.table.dataset() else {
            return Err(lancedb::Error::Runtime { message: "not a local table".into() });
        };
        let mut dataset = wrapper.get().await?.as_ref().clone();
        let all = dataset.load_indices().await?;
        let covered = |fragment: u32| {
            let mut deltas = all.iter().filter(|index| index.name == WORDS);
            deltas.any(|d| d.fragment_bitmap.as_ref().is_some_and(|has| has.contains(fragment)))
        };
        let (mut bare, mut rows) = (Vec::new(), 0);
        for fragment in dataset.fragments().iter() {
            let Some(id) = u32::try_from(fragment.id).ok().filter(|id| !covered(*id)) else {
                continue;
            };
            bare.push(id);
            rows += fragment.physical_rows.unwrap_or(0) as u64;
        }
        if rows < CLOSED_INDEX_ROWS.1 {
            return Ok(false);
        }
        let params = words_index(workers);
        let delta =
            CreateIndexBuilder::new(&mut dataset, &["tokens"], IndexType::Inverted, &params)
                .name(WORDS.into())
                // Of nothing that is there: the commit keeps every delta of other rows.
                .replace(true)
                .fragments(bare)
                .execute_uncommitted()
                .await?;
        dataset.commit_existing_index_segments(WORDS, "tokens", vec![delta]).await?;
        wrapper.update(dataset);
        Ok(true)
    }

    /// Joins small fragments and index deltas. Old versions stay for those who read them
    /// until `prune`.
    pub async fn compact(&self) -> Result<()> {
        // Fragments of different index deltas are not joined: first the deltas.
        self.merge_indexes(self.small_fragments().await?).await?;
        // Only small fragments are joined: what a large build wrote stays where it is.
        let options = CompactionOptions {
            num_threads: Some(1),
            target_rows_per_fragment: SMALL_FRAGMENT_ROWS,
            ..CompactionOptions::default()
        };
        self.table.optimize(OptimizeAction::Compact { options, remap_options: None }).await?;
        Ok(())
    }

    /// Length of the vectors; None when the table has none.
    pub async fn dims(&self) -> Result<Option<usize>> {
        let schema = self.table.schema().await?;
        Ok(match schema.field_with_name("vector").map(arrow_schema::Field::data_type) {
            Ok(arrow_schema::DataType::FixedSizeList(_, dims)) => usize::try_from(*dims).ok(),
            _ => None,
        })
    }

    /// Joins the deltas of the indexes; in a large table only the last ones, as many as there
    /// are small fragments, so that the cost follows what changed.
    async fn merge_indexes(&self, small: usize) -> Result<()> {
        let deltas = self.table.index_stats(WORDS).await?.and_then(|s| s.num_indices).unwrap_or(1);
        let large = self.count().await? > LARGE_TABLE_ROWS;
        let most =
            if large { small.min((deltas as usize).saturating_sub(1)) } else { deltas as usize };
        self.table.optimize(OptimizeAction::Index(OptimizeOptions::merge(most.max(1)))).await?;
        Ok(())
    }

    /// Drops versions that no reader can still hold.
    pub async fn prune(&self) -> Result<()> {
        let older_than = lancedb::table::Duration::from_std(self.keep).ok();
        self.table
            .optimize(OptimizeAction::Prune {
                older_than,
                delete_unverified: Some(false),
                error_if_tagged_old_versions: Some(false),
            })
            .await?;
        Ok(())
    }

    /// Small fragments of the table: many mean that compaction is due.
    pub async fn small_fragments(&self) -> Result<usize> {
        let dataset = snapshot!(self);
        let rows = dataset.fragments().iter().map(|f| f.physical_rows.unwrap_or(0));
        Ok(rows.filter(|rows| *rows < SMALL_FRAGMENT_ROWS).count())
    }

    /// The best rows by BM25; with a question's vector, also their cosines to it.
    pub async fn lexical(
        &self,
        terms: &[String],
        vector: Option<&[i8]>,
        limit: usize,
    ) -> Result<Vec<Candidate>> {
        if terms.is_empty() || !self.searchable {
            return Ok(Vec::new());
        }
        let mut columns = [LIGHT, &["_score"]].concat();
        if vector.is_some() {
            columns.push("vector");
        }
        let dataset = snapshot!(self);
        let mut scan = dataset.scan();
        scan.full_text_search(words(terms))?;
        scan.limit(Some(limit as i64), None)?.project(&columns)?.with_row_id();
        let batch = scan.try_into_batch().await?;
        let scores = column(&batch, "_score")?.as_primitive::<Float32Type>();
        let vectors = if vector.is_some() {
            Some(column(&batch, "vector")?.as_fixed_size_list())
        } else {
            None
        };
        let mut out = Vec::new();
        candidates(&batch, &mut out, |candidate, at| {
            candidate.lexical = scores.value(at);
            if let (Some(vector), Some(vectors)) = (vector, vectors)
                && vectors.is_valid(at)
            {
                candidate.dense =
                    cosine(vector, vectors.value(at).as_primitive::<Int8Type>().values());
            }
        })?;
        best_first(&mut out);
        Ok(out)
    }

    /// What ranking needs of these rows; rows that are gone are left out.
    pub async fn rows(&self, near: &[(u64, f32)]) -> Result<Vec<Candidate>> {
        let mut out = Vec::new();
        if near.is_empty() {
            return Ok(out);
        }
        let dataset = snapshot!(self);
        let columns = dataset.schema().project(LIGHT)?;
        // The vectors may be older than the table (a build is under way, or was killed): a
        // fragment whose rows are all gone is gone itself, and asking for it is an error.
        let fragments: HashSet<u64> = dataset.fragments().iter().map(|f| f.id).collect();
        let near: Vec<_> = near.iter().filter(|n| fragments.contains(&(n.0 >> 32))).collect();
        if near.is_empty() {
            return Ok(out);
        }
        let ids: Vec<u64> = near.iter().map(|n| n.0).collect();
        let batch = dataset.take_rows(&ids, columns.clone()).await?;
        if batch.num_rows() == ids.len() {
            light(&batch, &mut out, |candidate, at| (candidate.row, candidate.dense) = *near[at])?;
            return Ok(out);
        }
        // Some were deleted since the vectors were written; which, only one by one shows.
        for row in near {
            let batch = dataset.take_rows(&[row.0], columns.clone()).await?;
            light(&batch, &mut out, |candidate, _| (candidate.row, candidate.dense) = *row)?;
        }
        Ok(out)
    }

    /// Which state of the table questions see.
    pub async fn version(&self) -> Result<u64> {
        Ok(snapshot!(self).version().version)
    }

    /// The code of these rows.
    pub async fn code(&self, rows: &[u64]) -> Result<HashMap<u64, String>> {
        let mut out = HashMap::new();
        if rows.is_empty() {
            return Ok(out);
        }
        let dataset = snapshot!(self);
        let batch = dataset.take_rows(rows, dataset.schema().project(&["code"])?).await?;
        let code = column(&batch, "code")?.as_string::<i32>();
        // Rows come back in the order asked for.
        out.extend(rows.iter().copied().zip(code.iter().flatten().map(ToString::to_string)));
        Ok(out)
    }
}

/// How words are indexed: as they are, `tokens` has split and stemmed them.
fn words_index(workers: usize) -> FtsIndexBuilder {
    FtsIndexBuilder::default()
        .base_tokenizer("whitespace".to_string())
        .lower_case(false)
        .stem(false)
        .remove_stop_words(false)
        .ascii_folding(false)
        .max_token_length(None)
        .with_position(false)
        .memory_limit_mb(FTS_MEMORY_MIB)
        .num_workers(workers)
}

/// By score; among equals by place, so that the order does not depend on the table's.
pub fn best_first(candidates: &mut [Candidate]) {
    candidates.sort_by(|a, b| {
        b.lexical
            .total_cmp(&a.lexical)
            .then_with(|| (&a.path, a.start_line).cmp(&(&b.path, b.start_line)))
    });
}

fn words(terms: &[String]) -> FullTextSearchQuery {
    let query = MatchQuery::new(terms.join(" ")).with_column(Some("tokens".into()));
    FullTextSearchQuery::new_query(query.into())
}

fn column<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b ArrayRef> {
    batch
        .column_by_name(name)
        .ok_or_else(|| lancedb::Error::Runtime { message: format!("no column {name}") })
}

/// Reads candidates that come with their row ids.
fn candidates(
    batch: &RecordBatch,
    out: &mut Vec<Candidate>,
    mut score: impl FnMut(&mut Candidate, usize),
) -> Result<()> {
    let ids = column(batch, "_rowid")?.as_primitive::<UInt64Type>();
    light(batch, out, |candidate, at| {
        candidate.row = ids.value(at);
        score(candidate, at);
    })
}

fn light(
    batch: &RecordBatch,
    out: &mut Vec<Candidate>,
    mut score: impl FnMut(&mut Candidate, usize),
) -> Result<()> {
    let text =
        |name: &str| Ok::<_, lancedb::Error>(column(batch, name)?.as_string::<i32>().clone());
    let (paths, symbols, kinds, crumbs) =
        (text("path")?, text("symbol")?, text("kind")?, text("crumb")?);
    let starts = column(batch, "start_line")?.as_primitive::<UInt32Type>();
    let ends = column(batch, "end_line")?.as_primitive::<UInt32Type>();
    let flags = column(batch, "flags")?.as_primitive::<UInt8Type>();
    for at in 0..batch.num_rows() {
        let mut candidate = Candidate {
            path: paths.value(at).to_string(),
            start_line: starts.value(at),
            end_line: ends.value(at),
            symbol: symbols.value(at).to_string(),
            kind: kinds.value(at).to_string(),
            crumb: crumbs.value(at).to_string(),
            flags: flags.value(at),
            ..Candidate::default()
        };
        score(&mut candidate, at);
        out.push(candidate);
    }
    Ok(())
}
