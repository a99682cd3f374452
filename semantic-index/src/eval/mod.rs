//! Measures search: NDCG@10, MRR@10, recall@10 by file and by symbol.
//!
//! Queries come from a JSONL file (`{"query", "relevant": [{"path", "line"?}], "split"?}`)
//! or from the development set's folder. `lapce-ai-index eval` prints the table; users can
//! run it on their own repository.

pub mod commits;
pub mod docs;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::bm25::Bm25;
use crate::chunk::Chunker;
use crate::embed::{self, Embedder, cosine, default_embedder};
use crate::rank::{self, Candidate, Query, Weights, rank};
use crate::{doc, limits, sniff, walk};

/// One labelled query.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Labelled {
    pub query: String,
    pub relevant: Vec<Target>,
    #[serde(default, alias = "category")]
    pub split: String,
    /// The development set keeps further targets here; they count the same.
    #[serde(default)]
    pub secondary: Vec<Target>,
}

/// A path, perhaps with the lines that matter.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Target {
    Path(String),
    Place {
        path: String,
        #[serde(default)]
        line: Option<u32>,
        #[serde(default)]
        start_line: Option<u32>,
        #[serde(default)]
        end_line: Option<u32>,
    },
}

impl Target {
    fn path(&self) -> &str {
        match self {
            Self::Path(path) | Self::Place { path, .. } => path,
        }
    }

    fn lines(&self) -> Option<(u32, u32)> {
        match self {
            Self::Path(_) => None,
            Self::Place { line, start_line, end_line, .. } => {
                let start = start_line.or(*line)?;
                Some((start, end_line.or(*line).unwrap_or(start)))
            }
        }
    }

    fn same_file(&self, path: &str) -> bool {
        let (a, b) = (self.path(), path);
        a == b || a.ends_with(&format!("/{b}")) || b.ends_with(&format!("/{a}"))
    }

    fn is_hit(&self, hit: &Place) -> bool {
        self.same_file(&hit.path)
            && self.lines().is_none_or(|(s, e)| hit.start_line <= e && s <= hit.end_line)
    }
}

/// Where a hit is.
#[derive(Debug, Clone)]
pub struct Place {
    pub path: String,
    pub start_line: u32,
    pub end_line: u32,
}

/// Means over the queries of a split.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Scores {
    pub queries: u32,
    pub ndcg10: f64,
    pub mrr10: f64,
    pub recall10_file: f64,
    pub mrr10_symbol: f64,
    pub recall10_symbol: f64,
}

impl Scores {
    fn add(&mut self, other: &Self) {
        self.queries += other.queries;
        self.ndcg10 += other.ndcg10;
        self.mrr10 += other.mrr10;
        self.recall10_file += other.recall10_file;
        self.mrr10_symbol += other.mrr10_symbol;
        self.recall10_symbol += other.recall10_symbol;
    }

    fn mean(mut self) -> Self {
        let n = f64::from(self.queries.max(1));
        for value in [
            &mut self.ndcg10,
            &mut self.mrr10,
            &mut self.recall10_file,
            &mut self.mrr10_symbol,
            &mut self.recall10_symbol,
        ] {
            *value /= n;
        }
        self
    }
}

/// The scores of one ranked list.
pub fn score(labelled: &Labelled, hits: &[Place]) -> Scores {
    let targets: Vec<&Target> = labelled.relevant.iter().chain(&labelled.secondary).collect();
    let hits = &hits[..hits.len().min(10)];
    let mut out = Scores { queries: 1, ..Scores::default() };
    if targets.is_empty() {
        return out;
    }
    let rank_of = |wanted: &dyn Fn(&Place) -> bool| hits.iter().position(wanted);
    let (mut dcg, mut ideal) = (0.0, 0.0);
    for (n, target) in targets.iter().enumerate() {
        if n < 10 {
            ideal += 1.0 / ((n + 2) as f64).log2();
        }
        if let Some(at) = rank_of(&|hit| target.is_hit(hit)) {
            dcg += 1.0 / ((at + 2) as f64).log2();
        }
        out.recall10_file +=
            f64::from(u8::from(rank_of(&|hit| target.same_file(&hit.path)).is_some()))
                / targets.len() as f64;
        out.recall10_symbol += f64::from(u8::from(rank_of(&|hit| target.is_hit(hit)).is_some()))
            / targets.len() as f64;
    }
    out.ndcg10 = dcg / ideal;
    if let Some(at) = rank_of(&|hit| targets.iter().any(|t| t.same_file(&hit.path))) {
        out.mrr10 = 1.0 / (at + 1) as f64;
    }
    if let Some(at) = rank_of(&|hit| targets.iter().any(|t| t.is_hit(hit))) {
        out.mrr10_symbol = 1.0 / (at + 1) as f64;
    }
    out
}

/// Sums by split, and over all under `all`.
#[derive(Debug, Default)]
pub struct Table(BTreeMap<String, Scores>);

impl Table {
    pub fn add(&mut self, split: &str, scores: &Scores) {
        for name in ["all", split] {
            if !name.is_empty() {
                self.0.entry(name.to_string()).or_default().add(scores);
            }
        }
    }

    /// Without counting in `all` again.
    pub fn add_only(&mut self, split: &str, scores: &Scores) {
        self.0.entry(split.to_string()).or_default().add(scores);
    }

    pub fn means(&self) -> BTreeMap<String, Scores> {
        self.0.iter().map(|(name, sum)| (name.clone(), sum.mean())).collect()
    }
}

/// Something that answers queries.
pub trait Searcher {
    fn search(&self, query: &str, limit: usize) -> anyhow::Result<Vec<Place>>;
}

/// A whole corpus in memory: the product's chunks and ranking without a store.
pub struct Memory {
    candidates: Vec<Candidate>,
    vectors: Vec<Option<Vec<i8>>>,
    index: Bm25,
    embedder: Option<Arc<dyn Embedder>>,
    pub weights: Weights,
    pub arm: Mode,
    /// What the vectors of all chunks took.
    pub embedding: std::time::Duration,
}

/// What takes part in a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// BM25 alone, without ranking.
    Bm25,
    Lexical,
    Dense,
    Hybrid,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memory({} chunks)", self.candidates.len())
    }
}

impl Memory {
    pub fn load(root: &Path, weights: Weights) -> anyhow::Result<Self> {
        Ok(Self::of(files(root)?, weights, default_embedder()))
    }

    /// Over files given as (path, text).
    pub fn of(
        files: impl IntoIterator<Item = (String, String)>,
        weights: Weights,
        embedder: Option<Arc<dyn Embedder>>,
    ) -> Self {
        let mut out = Self {
            candidates: Vec::new(),
            vectors: Vec::new(),
            index: Bm25::default(),
            embedder,
            weights,
            arm: Mode::Hybrid,
            embedding: std::time::Duration::ZERO,
        };
        let mut chunker = Chunker::new();
        for (path, text) in files {
            let flags = sniff::flags_of(&path, &text);
            for chunk in chunker.chunk(&path, &text) {
                let code = &text[chunk.start..chunk.end];
                let place = embed::place(&path, &chunk.crumb, &chunk.symbol);
                let started = std::time::Instant::now();
                out.vectors.push(out.embedder.as_ref().and_then(|e| e.chunk(&place, code)));
                out.embedding += started.elapsed();
                out.index.add(&doc::index_text(&path, &chunk, code));
                out.candidates.push(Candidate {
                    row: out.candidates.len() as u64,
                    path: path.clone(),
                    start_line: chunk.start_line,
                    end_line: chunk.end_line,
                    symbol: chunk.symbol,
                    kind: chunk.kind.to_string(),
                    crumb: chunk.crumb,
                    flags,
                    ..Candidate::default()
                });
            }
        }
        out
    }

    pub fn chunks(&self) -> usize {
        self.candidates.len()
    }

    /// What may become a hit of `query`, from the arms that take part.
    fn candidates(&self, query: &Query) -> Vec<Candidate> {
        let mut found: Vec<(u32, f32)> = match self.arm {
            Mode::Dense => Vec::new(),
            _ => self.index.search(query.terms(), limits::CANDIDATES),
        };
        let vector = match self.arm {
            Mode::Dense | Mode::Hybrid => self.embedder.as_ref().and_then(|e| e.query(&query.text)),
            Mode::Bm25 | Mode::Lexical => None,
        };
        let similarity = |id: u32| match (&vector, &self.vectors[id as usize]) {
            (Some(a), Some(b)) => cosine(a, b),
            _ => 0.0,
        };
        if vector.is_some() {
            let mut near: Vec<(u32, f32)> =
                (0..self.vectors.len() as u32).map(|id| (id, similarity(id))).collect();
            near.sort_by(|a, b| b.1.total_cmp(&a.1));
            near.truncate(limits::CANDIDATES);
            let known: std::collections::HashSet<u32> = found.iter().map(|f| f.0).collect();
            near.retain(|(id, _)| !known.contains(id));
            if self.arm == Mode::Hybrid {
                near.truncate(limits::DENSE_CANDIDATES);
            }
            found.extend(near.into_iter().map(|(id, _)| (id, 0.0)));
        }
        let mut candidates: Vec<Candidate> = found
            .into_iter()
            .map(|(id, lexical)| Candidate {
                lexical,
                dense: similarity(id),
                ..self.candidates[id as usize].clone()
            })
            .collect();
        if vector.is_some() {
            rank::cover(&mut candidates, |c| self.index.cover(query.terms(), c.row as u32));
        }
        if let Some((vector, embedder)) = vector.as_deref().zip(self.embedder.as_deref()) {
            if !embedder.calibrated() {
                embed::calibrate(&mut candidates);
            }
            embed::add_names(query, vector, embedder, &mut candidates, &self.weights);
        }
        candidates
    }
}

impl Searcher for Memory {
    fn search(&self, text: &str, limit: usize) -> anyhow::Result<Vec<Place>> {
        let query = Query::parse(text);
        let candidates = self.candidates(&query);
        let order: Vec<usize> = if self.arm == Mode::Bm25 {
            (0..candidates.len().min(limit)).collect()
        } else {
            rank(&query, &candidates, limit, &self.weights).into_iter().map(|r| r.at).collect()
        };
        Ok(order
            .into_iter()
            .map(|at| {
                let c = &candidates[at];
                Place { path: c.path.clone(), start_line: c.start_line, end_line: c.end_line }
            })
            .collect())
    }
}

/// (path, text) of every file that would be indexed.
pub fn files(root: &Path) -> anyhow::Result<impl Iterator<Item = (String, String)>> {
    anyhow::ensure!(root.is_dir(), "{} is not a folder", root.display());
    let (entries, _) = walk::walk(root, 2);
    let root = root.to_path_buf();
    Ok(entries.into_iter().filter_map(move |entry| {
        let text = sniff::text_of(std::fs::read(root.join(&entry.path)).ok()?).ok()?;
        Some((entry.path, text))
    }))
}

/// Writes chunks and queries as JSON lines: what `training/` fits tables and weights to.
pub fn dump(
    files: &[(String, String)],
    queries: &[Labelled],
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut chunker = Chunker::new();
    for (path, text) in files {
        let flags = sniff::flags_of(path, text);
        for chunk in chunker.chunk(path, text) {
            let line = serde_json::json!({
                "path": path, "start": chunk.start_line, "end": chunk.end_line,
                "symbol": chunk.symbol, "kind": chunk.kind, "crumb": chunk.crumb,
                "flags": flags, "code": &text[chunk.start..chunk.end],
            });
            writeln!(out, "{line}")?;
        }
    }
    for labelled in queries {
        let targets: Vec<_> = labelled
            .relevant
            .iter()
            .chain(&labelled.secondary)
            .map(|t| serde_json::json!({"path": t.path(), "lines": t.lines()}))
            .collect();
        let line = serde_json::json!({
            "query": labelled.query, "split": labelled.split, "targets": targets,
        });
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Writes files and queries as another program can take them: the files below
/// `folder/corpus`, the queries as `eval --queries` reads them.
pub fn export(
    files: &[(String, String)],
    queries: &[Labelled],
    folder: &Path,
) -> anyhow::Result<()> {
    anyhow::ensure!(!folder.exists(), "{} exists", folder.display());
    let corpus = folder.join("corpus");
    std::fs::create_dir_all(&corpus)?;
    for (path, text) in files {
        let file = corpus.join(path);
        std::fs::create_dir_all(file.parent().unwrap_or(&corpus))?;
        std::fs::write(file, text)?;
    }
    let mut out = std::io::BufWriter::new(std::fs::File::create(folder.join("queries.jsonl"))?);
    for labelled in queries {
        writeln!(out, "{}", serde_json::to_string(labelled)?)?;
    }
    Ok(out.flush()?)
}

/// Reads queries: a JSONL file, or a JSON array as the development set has it. A line that
/// asks nothing or names nothing would only lower the score: it is an error, with its number.
pub fn load_queries(file: &Path) -> anyhow::Result<Vec<Labelled>> {
    let name = file.display();
    let size = std::fs::metadata(file).map_err(|e| anyhow::anyhow!("cannot read {name}: {e}"))?;
    anyhow::ensure!(
        size.len() <= limits::MAX_QUERY_FILE_BYTES,
        "{name} has more than {} MB",
        limits::MAX_QUERY_FILE_BYTES >> 20
    );
    let text =
        std::fs::read_to_string(file).map_err(|e| anyhow::anyhow!("cannot read {name}: {e}"))?;
    if text.trim_start().starts_with('[') {
        return Ok(serde_json::from_str(&text)?);
    }
    let mut queries = Vec::new();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let n = n + 1;
        let labelled: Labelled =
            serde_json::from_str(line).map_err(|e| anyhow::anyhow!("{name} line {n}: {e}"))?;
        anyhow::ensure!(!labelled.query.trim().is_empty(), "{name} line {n}: the query is empty");
        anyhow::ensure!(
            !labelled.relevant.is_empty(),
            "{name} line {n}: `relevant` names no path, so that no hit could count"
        );
        queries.push(labelled);
    }
    anyhow::ensure!(!queries.is_empty(), "{name} holds no query");
    Ok(queries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str, start_line: u32, end_line: u32) -> Place {
        Place { path: path.into(), start_line, end_line }
    }

    #[test]
    fn scores_follow_their_definitions() {
        let labelled: Labelled = serde_json::from_str(
            r#"{"query":"q","relevant":["src/a.rs",{"path":"src/b.rs","line":7}]}"#,
        )
        .unwrap();
        let perfect = score(&labelled, &[place("a.rs", 1, 2), place("src/b.rs", 5, 9)]);
        assert!((perfect.ndcg10 - 1.0).abs() < 1e-9 && (perfect.mrr10 - 1.0).abs() < 1e-9);
        let wrong_lines = score(&labelled, &[place("src/b.rs", 1, 2), place("x/src/a.rs", 1, 2)]);
        assert!((wrong_lines.recall10_file - 1.0).abs() < 1e-9);
        assert!((wrong_lines.recall10_symbol - 0.5).abs() < 1e-9);
        assert!((wrong_lines.mrr10_symbol - 0.5).abs() < 1e-9);
        assert!(
            score(&labelled, &[place("data.rs", 1, 2)]).ndcg10 < 1e-9,
            "a suffix counts only at a slash"
        );
    }

    #[test]
    fn bad_lines_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("q.jsonl");
        let good = r#"{"query":"q","relevant":["a.rs"]}"#;
        for (bad, why) in [
            ("{\"query\":", "line 3: EOF"),
            (r#"{"query":"q"}"#, "line 3: missing field `relevant`"),
            (r#"{"query":" ","relevant":["a.rs"]}"#, "line 3: the query is empty"),
            (r#"{"query":"q","relevant":[]}"#, "line 3: `relevant` names no path"),
            (r#"{"query":"q","relevant":[{"line":3}]}"#, "line 3: "),
        ] {
            std::fs::write(&file, format!("{good}\n\n{bad}\n{good}\n")).unwrap();
            let error = load_queries(&file).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
        std::fs::write(&file, "\n").unwrap();
        assert!(load_queries(&file).unwrap_err().to_string().contains("holds no query"));
        std::fs::write(&file, format!("{good}\n{good}")).unwrap();
        assert_eq!(load_queries(&file).unwrap().len(), 2);
    }

    #[test]
    fn what_is_exported_can_be_measured() {
        let dir = tempfile::tempdir().unwrap();
        let labelled: Labelled = serde_json::from_str(
            r#"{"query":"q","relevant":[{"path":"src/b.rs","line":7}],"split":"hard"}"#,
        )
        .unwrap();
        let files = [("src/b.rs".to_owned(), "fn b() {}\n".to_owned())];
        let folder = dir.path().join("b");
        export(&files, std::slice::from_ref(&labelled), &folder).unwrap();
        assert_eq!(super::files(&folder.join("corpus")).unwrap().next(), Some(files[0].clone()));
        let back = load_queries(&folder.join("queries.jsonl")).unwrap().remove(0);
        assert_eq!((back.query.as_str(), back.split.as_str()), ("q", "hard"));
        assert_eq!(back.relevant[0].lines(), Some((7, 7)));
        assert!(export(&files, &[], &folder).is_err(), "nothing is written over");
    }

    #[test]
    fn a_corpus_in_memory_answers() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("routing.rs"),
            "/// Finds the route of a request.\nfn find_route() {\n    todo();\n}\n",
        )
        .unwrap();
        std::fs::write(dir.path().join("other.rs"), "fn unrelated() {\n    let x = 1;\n}\n")
            .unwrap();
        let memory = Memory::load(dir.path(), Weights::default()).unwrap();
        assert_eq!(memory.search("how are routes found", 5).unwrap()[0].path, "routing.rs");
    }
}
