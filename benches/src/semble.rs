//! The peer of index and search: `semble` from PyPI, with a local Model2Vec-format model.
//!
//! `cargo xtask bench` puts it into the cache folder and names it; without it the benches
//! say so and go on.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

#[derive(Args)]
pub struct Options {
    /// Python of an environment with `semble`.
    #[arg(long)]
    semble: Option<PathBuf>,
    /// Folder of its model.
    #[arg(long, requires = "semble")]
    semble_model: Option<PathBuf>,
}

pub struct Semble {
    python: PathBuf,
    model: PathBuf,
    /// Its cache, gone with the bench.
    home: tempfile::TempDir,
}

/// How long `semble` itself took, and for how many files.
pub struct Built {
    pub files: u64,
    pub took: Duration,
}

const BUILD: &str = "
import json, sys, time
from semble.index import SembleIndex
from semble.index.dense import load_model
from semble.types import ContentType
load_model()
start = time.perf_counter()
index = SembleIndex.from_path(sys.argv[1], content=list(ContentType))
print(json.dumps([index.stats.indexed_files, time.perf_counter() - start]))
";

impl Semble {
    pub fn new(options: &Options) -> Result<Option<Self>> {
        let (Some(python), Some(model)) = (&options.semble, &options.semble_model) else {
            return Ok(None);
        };
        let home = tempfile::Builder::new().prefix("semble-").tempdir()?;
        Ok(Some(Self { python: python.clone(), model: model.clone(), home }))
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("SEMBLE_MODEL_NAME", &self.model)
            // As its own command line has it.
            .env("SEMBLE_INDEX_WORKERS", "4")
            .env("HF_HUB_OFFLINE", "1")
            .env("HOME", self.home.path())
            .env("XDG_CACHE_HOME", self.home.path())
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Builds its index of everything in `root`; start of Python and loading of the model
    /// do not count.
    pub fn build(&self, root: &Path) -> Result<Built> {
        let output = self.command(&self.python).args(["-c", BUILD]).arg(root).output()?;
        ensure!(output.status.success(), "semble could not index {}", root.display());
        let (files, seconds): (u64, f64) = serde_json::from_slice(&output.stdout)?;
        Ok(Built { files, took: Duration::from_secs_f64(seconds) })
    }

    /// One question as a command of its own, answered from its saved index.
    pub fn ask(&self, root: &Path, query: &str) -> Result<Duration> {
        let started = Instant::now();
        let status = self
            .command(&self.python.with_file_name("semble"))
            .args(["search", query])
            .arg(root)
            .args(["--content", "all", "-k", "10"])
            .stdout(Stdio::null())
            .status()
            .context("failed to start semble")?;
        ensure!(status.success(), "semble could not answer");
        Ok(started.elapsed())
    }
}
