//! Arguments of `index`, `search` and `eval`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Json, Root};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Index {
    #[command(subcommand)]
    pub action: Option<IndexAction>,
    /// The workspace [default: the folder around this one that has a .git or .lapce]
    pub path: Option<PathBuf>,
    /// Start from nothing instead of updating
    #[arg(long)]
    pub force: bool,
    /// List what would be indexed, and why the rest is not; builds nothing
    #[arg(long, conflicts_with_all = ["force", "watch"])]
    pub dry_run: bool,
    /// Keep the index up to date until Ctrl-C
    #[arg(long, conflicts_with = "force")]
    pub watch: bool,
    /// Lie on the shared index there, `s3://bucket/prefix` or `file:///folder`: only files that differ
    /// are indexed here. Kept in config.toml for this workspace; `none` forgets it
    #[arg(long, value_name = "URI", conflicts_with = "dry_run")]
    pub location: Option<String>,
    /// Print progress and result as JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum IndexAction {
    /// Delete the index of a workspace; the workspace itself is not touched
    Rm(IndexPath),
    /// Compare an index with its own list of files
    Verify(IndexPath),
    /// Join what updates have left in pieces, drop old versions; runs by itself too
    Gc(IndexPath),
}

#[derive(Debug, Args)]
pub struct IndexPath {
    /// The workspace [default: the folder around this one that has a .git or .lapce]
    pub path: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Eval {
    /// Ask labelled queries and print NDCG@10, MRR@10 and recall@10, by file and by symbol
    #[command(
        long_about = "\
Ask labelled queries and print NDCG@10, MRR@10 and recall@10, by file and by symbol, over all and \
for each split. A line of the file is {\"query\", \"relevant\": [{\"path\", \"line\"?}], \"split\"?}: \
paths relative to the corpus; a hit counts by symbol when its lines cover `line`. The corpus is \
indexed in memory for this; nothing is written.",
        after_help = "\
Examples:
  lapce-ai eval search --corpus . --queries queries.jsonl
  lapce-ai eval search --corpus . --queries queries.jsonl --arm lexical --json"
    )]
    Search(EvalSearch),
}

#[derive(Debug, Args)]
pub struct EvalSearch {
    /// The files to search
    #[arg(long, value_name = "DIR")]
    pub corpus: PathBuf,
    /// Labelled queries, JSON lines
    #[arg(long, value_name = "FILE")]
    pub queries: PathBuf,
    /// What takes part: `bm25` is words without ranking, `lexical` with it, `dense` vectors with it
    #[arg(long, value_enum, default_value_t = Arm::Hybrid)]
    pub arm: Arm,
    /// Measure an index built for this in a temporary folder, not one in memory
    #[arg(long)]
    pub store: bool,
    /// Also print the queries whose NDCG@10 is below this
    #[arg(long, value_name = "SCORE")]
    pub misses: Option<f64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Arm {
    Bm25,
    Lexical,
    Dense,
    Hybrid,
}

#[derive(Debug, Args)]
pub struct Search {
    /// What to look for
    #[arg(required = true)]
    pub words: Vec<String>,
    /// At most this many hits
    #[arg(short = 'k', long = "limit", value_name = "N", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    pub limit: u32,
    /// Say why each hit ranks where it does
    #[arg(long)]
    pub explain: bool,
    /// Index the workspace first
    #[arg(long)]
    pub index: bool,
    #[command(flatten)]
    pub root: Root,
    #[command(flatten)]
    pub json: Json,
}
