//! The command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

#[derive(Debug, Parser)]
#[command(
    name = "lapce-ai-index",
    version,
    about = "The index process of Lapce AI. The engine starts it; by hand it builds, searches and measures one index."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer searches of the engine on the socket FD until it closes.
    Worker {
        #[arg(long)]
        fd: i32,
    },
    /// Bring one index up to date: for the engine on the socket FD, or by hand.
    Build {
        #[arg(long, conflicts_with_all = ["root", "dir"])]
        fd: Option<i32>,
        /// The workspace.
        #[arg(long, required_unless_present = "fd")]
        root: Option<PathBuf>,
        /// The index folder, outside the workspace.
        #[arg(long, required_unless_present = "fd")]
        dir: Option<PathBuf>,
        /// Start from nothing.
        #[arg(long)]
        force: bool,
        /// Only this file or folder, as the workspace has it, may have changed; repeatable.
        #[arg(long, value_name = "PATH", conflicts_with_all = ["fd", "force"])]
        only: Vec<String>,
        /// Keep chunks of earlier contents here, and look for them.
        #[arg(long)]
        cache: Option<PathBuf>,
        /// Lie on the shared index there (`s3://bucket/prefix` or `file:///folder`): only files
        /// that differ are indexed here.
        #[arg(long, conflicts_with = "fd")]
        location: Option<String>,
        /// Write the shared index there; for CI.
        #[arg(long, requires = "location")]
        publish: bool,
        /// Print the report as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Search one index.
    Search {
        #[arg(long)]
        dir: PathBuf,
        query: String,
        #[arg(short = 'k', long, default_value_t = 10)]
        limit: u32,
        /// Say why each hit ranks where it does.
        #[arg(long)]
        explain: bool,
        #[arg(long)]
        json: bool,
        #[arg(long, value_enum, default_value_t = Arm::Hybrid)]
        arm: Arm,
        /// Ask this many times and print the times instead.
        #[arg(long)]
        repeat: Option<u32>,
    },
    /// List what would be indexed, and why the rest is not.
    DryRun {
        #[arg(long)]
        root: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the definitions of files that standard input holds; for `lapce-ai-tool`.
    #[command(hide = true)]
    Outline,
    /// Print the sums of one index.
    Stats {
        #[arg(long)]
        dir: PathBuf,
    },
    /// Compare an index with its own list of files.
    Verify(Which),
    /// Join small fragments and drop old versions.
    Gc(Which),
    /// Delete one index.
    Rm(Which),
    /// Measure search quality on labelled queries.
    Eval(Eval),
}

/// One index: by its folder, or by its workspace among all indexes of a user.
#[derive(Debug, ClapArgs)]
pub(crate) struct Which {
    #[arg(long, required_unless_present = "root")]
    dir: Option<PathBuf>,
    /// The workspace.
    #[arg(long, requires = "indexes", conflicts_with = "dir")]
    root: Option<PathBuf>,
    /// The folder with all indexes.
    #[arg(long)]
    indexes: Option<PathBuf>,
}

impl Which {
    #[cfg_attr(not(feature = "lance"), expect(dead_code, reason = "there is no index then"))]
    pub(crate) fn dir(self) -> PathBuf {
        match (self.dir, self.root, self.indexes) {
            (None, Some(root), Some(indexes)) => {
                // A workspace that is gone may still have an index.
                let root = root.canonicalize().unwrap_or(root);
                lapce_ai_index::manifest::dir_of(&indexes, &root.to_string_lossy())
            }
            (dir, ..) => dir.unwrap_or_default(),
        }
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Eval {
    /// The files to search.
    #[arg(long, required_unless_present = "set")]
    pub(crate) corpus: Option<PathBuf>,
    /// JSONL: {"query", "relevant": [{"path", "line"?}], "split"?}
    #[arg(long, required_unless_present_any = ["set", "doc_sentences", "commits"])]
    pub(crate) queries: Option<PathBuf>,
    /// A folder with repos.json and labels/, evaluated repository by repository; the
    /// repositories lie under --corpus as NAME.
    #[arg(long)]
    pub(crate) set: Option<PathBuf>,
    /// Take the queries from the corpus itself: the first sentence of each documented
    /// function must find it in a copy without comments.
    #[arg(long, conflicts_with_all = ["queries", "store"])]
    pub(crate) doc_sentences: bool,
    /// Take the queries from the history: a commit's subject must find the files it
    /// changed. The repository is the corpus, or what repos.json calls `git`.
    #[arg(long, conflicts_with_all = ["queries", "doc_sentences"])]
    pub(crate) commits: bool,
    #[arg(long, value_enum, default_value_t = Arm::Hybrid)]
    pub(crate) arm: Arm,
    /// Measure the local ONNX model in this folder in place of the table.
    #[arg(long)]
    pub(crate) onnx: Option<PathBuf>,
    /// Ranking weights as JSON, to try others than the product's.
    #[arg(long)]
    pub(crate) weights: Option<String>,
    /// Search a LanceDB index built for this, not the copy in memory.
    #[arg(long)]
    pub(crate) store: bool,
    /// Print the queries that score below this.
    #[arg(long)]
    pub(crate) misses: Option<f64>,
    /// Use this table of words instead of the product's.
    #[arg(long, conflicts_with = "store")]
    pub(crate) table: Option<PathBuf>,
    /// Write chunks and queries to this folder as JSON lines and measure nothing.
    #[arg(long, conflicts_with = "store")]
    pub(crate) dump: Option<PathBuf>,
    /// Write the files that are searched and the queries (`queries.jsonl`) to this new folder,
    /// so that another program can be measured on the same, and measure nothing.
    #[arg(long, conflicts_with_all = ["store", "dump"])]
    pub(crate) export: Option<PathBuf>,
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arm {
    /// BM25 alone, without ranking.
    Bm25,
    /// BM25 and ranking.
    Lexical,
    /// Vectors and ranking.
    Dense,
    /// Everything, as the product searches.
    Hybrid,
}
