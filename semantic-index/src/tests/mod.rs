//! The life of an index, from an empty folder to after a crash.

mod build;
mod copies;
mod updates;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lancedb::Session;
use lapce_ai_ipc::wire::index::{BuildReport, Found, Phase};
use lapce_ai_ipc::wire::{ErrorKind, WireError};

use crate::builder::{self, OnProgress, Options};
use crate::error::Error;
use crate::manifest::{Files, State};
use crate::rank::Weights;
use crate::search::{Arm, Index};
use crate::store::{self, Copies, Store};

struct Bench {
    home: tempfile::TempDir,
    root: PathBuf,
    dir: PathBuf,
    session: Arc<Session>,
    batch_rows: usize,
}

impl Bench {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("repo");
        fs::create_dir(&root).unwrap();
        let dir = home.path().join("index");
        Self { root, dir, session: store::session(1 << 20, 1 << 20), batch_rows: 4, home }
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let file = self.root.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    fn code(&self, path: &str, name: &str) {
        self.write(
            path,
            format!(
                "/// About {name}.\nfn {name}() {{\n    let value = compute();\n    value\n}}\n"
            ),
        );
    }

    fn options(&self, force: bool) -> Options {
        Options {
            root: self.root.clone(),
            dir: self.dir.clone(),
            force,
            threads: 2,
            batch_rows: self.batch_rows,
            only: None,
            cache: None,
            max_bytes: 0,
            location: None,
            layer: None,
        }
    }

    async fn build_with(
        &self,
        force: bool,
        progress: OnProgress,
        cancel: Arc<AtomicBool>,
    ) -> Result<BuildReport, Error> {
        builder::build(self.options(force), Arc::clone(&self.session), None, progress, cancel).await
    }

    async fn build(&self) -> BuildReport {
        self.build_with(false, Arc::new(|_| {}), Arc::default()).await.unwrap()
    }

    async fn search(&self, query: &str) -> Found {
        let index = Index::open(&self.dir, "x", &self.session).await.unwrap();
        index.search(query, 10, true, None, &Weights::default(), Arm::Lexical).await.unwrap()
    }

    async fn paths(&self, query: &str) -> Vec<String> {
        self.search(query).await.hits.into_iter().map(|h| h.path).collect()
    }

    fn db(&self) -> PathBuf {
        State::load(&self.dir).unwrap().db_path(&self.dir)
    }

    fn cached(&self, only: &[&str]) -> Options {
        let only = (!only.is_empty())
            .then(|| crate::walk::Only::new(only.iter().map(ToString::to_string)));
        let cache = Some(self.home.path().join("cache"));
        Options { only, cache, ..self.options(false) }
    }

    async fn told(&self, options: Options) -> builder::Built {
        let embedder = crate::embed::default_embedder();
        let session = Arc::clone(&self.session);
        builder::run(options, session, embedder, Arc::new(|_| {}), Arc::default()).await.unwrap()
    }

    /// The mapped copies hold the rows of the table, and the same words find the same rows.
    async fn assert_copied(&self, words: &[&str]) {
        let state = State::load(&self.dir).unwrap();
        let store = Store::open(&self.db(), &self.session).await.unwrap();
        let copies = Copies::open(&self.db(), &state.view).unwrap();
        assert_eq!(copies.version(), store.version().await.unwrap());
        assert_eq!(copies.rows(), store.count().await.unwrap());
        let mut rows = HashSet::new();
        for path in stored_paths(&store).await {
            let here = copies.rows_of(&path);
            assert!(!here.is_empty(), "{path}");
            let found = store.rows(&here.iter().map(|row| (*row, 0.5)).collect::<Vec<_>>()).await;
            assert!(found.unwrap().iter().all(|c| c.path == path && rows.insert(c.row)), "{path}");
        }
        assert_eq!(rows.len() as u64, copies.rows());
        for word in words {
            let terms = [(*word).to_string()];
            let mut table: Vec<_> = store.lexical(&terms, None, 10_000).await.unwrap();
            let mut mapped: Vec<_> = copies
                .scores(&copies.ask(&terms), 10_000)
                .into_iter()
                .map(|(at, _)| copies.candidate(at).unwrap())
                .collect();
            for list in [&mut table, &mut mapped] {
                list.sort_by_key(|c| c.row);
            }
            assert_eq!(table.len(), mapped.len(), "{word}");
            for (a, b) in table.iter().zip(&mapped) {
                assert_eq!((a.row, &a.path, a.start_line), (b.row, &b.path, b.start_line));
                assert_eq!((&a.symbol, &a.kind, &a.crumb), (&b.symbol, &b.kind, &b.crumb));
            }
        }
    }

    /// The table and the list of files agree, and no row is there twice.
    async fn assert_sound(&self) {
        let files = Files::load(&self.db()).unwrap();
        assert!(!files.dirty);
        let store = Store::open(&self.db(), &self.session).await.unwrap();
        assert_eq!(store.count().await.unwrap(), files.chunks());
        let stored = stored_paths(&store).await;
        let listed = files.iter().filter(|(_, r)| r.chunks > 0).map(|(p, _)| p.to_owned());
        assert_eq!(stored, listed.collect());
    }
}

async fn stored_paths(store: &Store) -> std::collections::BTreeSet<String> {
    let mut paths = std::collections::BTreeSet::new();
    store.paths(|path| paths.extend([path.to_owned()])).await.unwrap();
    paths
}
