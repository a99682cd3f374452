//! The life of an index, from an empty folder to after a crash.

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

#[tokio::test]
async fn a_definition_is_found_with_its_place_and_reason() {
    let bench = Bench::new();
    bench.code("src/routing.rs", "find_route");
    bench.code("src/other.rs", "unrelated");
    let report = bench.build().await;
    assert_eq!((report.files, report.files_added, report.chunks), (2, 2, 2));
    let found = bench.search("find_route").await;
    let hit = &found.hits[0];
    assert_eq!(
        (hit.path.as_str(), hit.symbol.as_str(), hit.kind.as_str()),
        ("src/routing.rs", "find_route", "function")
    );
    assert_eq!((hit.start_line, hit.end_line), (1, 5));
    assert!(
        hit.code.starts_with("/// About find_route.") && hit.why.contains("definition"),
        "{hit:?}"
    );
    assert!(!found.hybrid);
    bench.assert_sound().await;
}

#[tokio::test]
async fn an_update_touches_only_what_changed() {
    let bench = Bench::new();
    for n in 0..20 {
        bench.code(&format!("src/f{n}.rs"), &format!("function_{n}"));
    }
    bench.build().await;
    let report = bench.build().await;
    assert_eq!((report.files_added, report.files_changed, report.files_removed), (0, 0, 0));

    bench.code("src/f3.rs", "renamed_function");
    fs::remove_file(bench.root.join("src/f4.rs")).unwrap();
    bench.code("src/new.rs", "brand_new");
    fs::rename(bench.root.join("src/f5.rs"), bench.root.join("src/moved.rs")).unwrap();
    let report = bench.build().await;
    assert_eq!((report.files_added, report.files_changed, report.files_removed), (2, 1, 2));
    assert_eq!(report.files, 20);
    assert_eq!(bench.paths("renamed_function").await[0], "src/f3.rs");
    assert_eq!(bench.paths("brand_new").await[0], "src/new.rs");
    assert_eq!(bench.paths("function_5").await[0], "src/moved.rs");
    assert!(!bench.paths("function_4").await.contains(&"src/f4.rs".to_string()));
    let store = Store::open(&bench.db(), &bench.session).await.unwrap();
    assert_eq!(store.count().await.unwrap(), 20);
    bench.assert_sound().await;
}

#[tokio::test]
async fn touched_files_keep_their_rows() {
    let bench = Bench::new();
    bench.code("a.rs", "alpha");
    bench.build().await;
    let file = fs::File::options().write(true).open(bench.root.join("a.rs")).unwrap();
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(1000)).unwrap();
    let report = bench.build().await;
    assert_eq!((report.files_added, report.files_changed), (0, 0));
    assert_eq!(bench.paths("alpha").await, ["a.rs"]);
    bench.assert_sound().await;
}

#[tokio::test]
async fn bad_workspaces_give_clear_errors() {
    let bench = Bench::new();
    let build = |root: PathBuf, dir: PathBuf| {
        let options = Options { root, dir, ..bench.options(false) };
        builder::build(options, Arc::clone(&bench.session), None, Arc::new(|_| {}), Arc::default())
    };
    let error = build(bench.root.join("absent"), bench.dir.clone()).await.unwrap_err();
    assert!(matches!(error, Error::NoRoot(_)), "{error}");
    bench.write("file", "x");
    let error = build(bench.root.join("file"), bench.dir.clone()).await.unwrap_err();
    assert!(matches!(error, Error::NotAFolder(_)), "{error}");
    let error = build(bench.root.clone(), bench.root.join("index")).await.unwrap_err();
    assert!(matches!(error, Error::DirInside(_)), "{error}");
    assert!(!bench.dir.join("meta.json").exists());
    let wire = WireError::from(Index::open(&bench.dir, "/repo", &bench.session).await.unwrap_err());
    assert_eq!(wire.kind, ErrorKind::NotFound);
    assert!(wire.hint.contains("lapce-ai index /repo"), "{wire:?}");
}

#[tokio::test]
async fn empty_and_useless_workspaces_are_fine() {
    let bench = Bench::new();
    let report = bench.build().await;
    assert_eq!((report.files, report.chunks), (0, 0));
    assert!(bench.search("anything").await.hits.is_empty());

    bench.write("a.bin", [0, 1, 2]);
    bench.write("elf", b"\x7fELF\0\0\0");
    bench.write(".env", "KEY=secret_value_here");
    bench.write("line.js", vec![b'x'; 50 << 20]);
    bench.write("min.js", vec![b'y'; 100_000]);
    bench.write("empty.rs", "");
    let report = bench.build().await;
    assert_eq!(report.chunks, 0);
    let reasons: Vec<_> = report.skipped.iter().map(|s| (s.reason.as_str(), s.files)).collect();
    assert_eq!(
        reasons,
        [("too large", 1), ("binary", 2), ("minified or data", 1), ("may hold secrets", 1)]
    );
    let again = bench.build().await;
    assert_eq!(again.skipped, report.skipped, "reasons are remembered");

    bench.write(
        "latin1.rs",
        b"// caf\xe9 au lait, some more words to be text\nfn latin() {\n    brew();\n}\n",
    );
    std::os::unix::fs::symlink(&bench.root, bench.root.join("loop")).unwrap();
    let report = bench.build().await;
    assert_eq!(report.files_added, 1);
    assert_eq!(bench.paths("latin brew").await, ["latin1.rs"]);
    assert!(bench.paths("secret_value_here").await.is_empty());
    bench.assert_sound().await;
}

#[tokio::test]
async fn strange_names_and_queries_do_no_harm() {
    let bench = Bench::new();
    for name in
        ["it's.rs", "a b.rs", "größe.rs", "x%20y.rs", "quote\"d.rs", "new\nline.rs", "semi;DROP.rs"]
    {
        bench.code(name, "shared_name");
    }
    bench.build().await;
    bench.code("it's.rs", "changed_name");
    fs::remove_file(bench.root.join("quote\"d.rs")).unwrap();
    bench.build().await;
    bench.assert_sound().await;
    assert_eq!(bench.paths("changed_name").await[0], "it's.rs");
    for query in
        ["'", "\"", "a AND b OR (", "%", "\\", "*", "~", "^2", &"word ".repeat(5000), "ß", "\u{0}"]
    {
        bench.search(query).await;
    }
}

#[tokio::test]
async fn one_build_at_a_time() {
    let bench = Bench::new();
    bench.code("a.rs", "alpha");
    fs::create_dir_all(&bench.dir).unwrap();
    let _lock = crate::manifest::Lock::acquire(&bench.dir).unwrap().unwrap();
    let error = bench.build_with(false, Arc::new(|_| {}), Arc::default()).await.unwrap_err();
    assert_eq!(WireError::from(error).kind, ErrorKind::Conflict);
}

#[tokio::test]
async fn a_cancelled_build_keeps_what_it_finished() {
    let bench = Bench::new();
    for n in 0..200 {
        bench.code(&format!("f{n:03}.rs"), &format!("function_{n}"));
    }
    let cancel = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancel);
    let progress: OnProgress = Arc::new(move |p| {
        if p.phase == Phase::Commit {
            flag.store(true, Ordering::Relaxed);
        }
    });
    let error = bench.build_with(false, progress, cancel).await.unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    let kept = Files::load(&bench.db()).unwrap();
    assert!(kept.dirty && !kept.is_empty() && kept.iter().count() < 200);
    let path = kept.iter().next().unwrap().0.to_owned();
    let name = format!("function_{}", path[1..4].parse::<u32>().unwrap());
    assert!(bench.paths(&name).await.contains(&path), "what was finished is searchable");
    let report = bench.build().await;
    assert_eq!(report.files, 200);
    bench.assert_sound().await;
}

#[tokio::test]
async fn reads_while_it_builds() {
    let bench = Bench::new();
    for n in 0..60 {
        bench.code(&format!("f{n:03}.rs"), &format!("function_{n}"));
    }
    let seen = Arc::new(AtomicUsize::new(0));
    let (dir, count) = (bench.dir.clone(), Arc::clone(&seen));
    let progress: OnProgress = Arc::new(move |p| {
        if p.phase == Phase::Commit
            && let Some(state) = State::load(&dir)
        {
            assert_eq!(state.built_at, 0);
            count.store(state.files as usize, Ordering::Relaxed);
        }
    });
    bench.build_with(false, progress, Arc::default()).await.unwrap();
    let partial = seen.load(Ordering::Relaxed);
    assert!(partial > 0 && partial < 60, "{partial} files were readable during the build");
}

#[tokio::test]
async fn a_crash_between_commits_is_repaired() {
    let bench = Bench::new();
    for n in 0..12 {
        bench.code(&format!("f{n}.rs"), &format!("function_{n}"));
    }
    bench.build().await;
    // As after `kill -9` between adding new rows and remembering them: two files forgotten,
    // one of them deleted since, rows of both still there, and a row of an unlisted file.
    let mut files = Files::load(&bench.db()).unwrap();
    files.remove("f1.rs");
    files.remove("f2.rs");
    files.dirty = true;
    files.save(&bench.db()).unwrap();
    fs::remove_file(bench.root.join("f2.rs")).unwrap();
    let report = bench.build().await;
    assert_eq!(report.files, 11);
    bench.assert_sound().await;
    assert!(!bench.paths("function_2").await.contains(&"f2.rs".to_string()));
    assert_eq!(bench.paths("function_1").await.iter().filter(|p| *p == "f1.rs").count(), 1);
}

#[tokio::test]
async fn row_ids_of_a_fragment_that_is_gone_are_left_out() {
    let bench = Bench::new();
    let ids = |store: Store| async move {
        let found =
            store.lexical(crate::rank::Query::parse("compute").terms(), None, 10).await.unwrap();
        found.iter().map(|c| (c.row, 0.5)).collect::<Vec<_>>()
    };
    bench.code("a.rs", "first");
    bench.build().await;
    let old = ids(Store::open(&bench.db(), &bench.session).await.unwrap()).await;
    bench.code("a.rs", "second");
    bench.build().await;
    let store = Store::open(&bench.db(), &bench.session).await.unwrap();
    let new = ids(store.clone()).await;
    assert_ne!(old, new);
    let rows = store.rows(&[&old[..], &new[..]].concat()).await.unwrap();
    assert_eq!(rows.iter().map(|c| c.symbol.as_str()).collect::<Vec<_>>(), ["second"]);
}

#[tokio::test]
async fn damage_leads_to_a_new_index_not_to_an_error() {
    let bench = Bench::new();
    bench.code("a.rs", "alpha");
    bench.build().await;
    let files = bench.db().join("files.bin");
    fs::write(&files, b"garbage").unwrap();
    bench.build().await;
    assert_eq!(bench.paths("alpha").await, ["a.rs"]);
    fs::write(bench.dir.join("meta.json"), b"{").unwrap();
    assert!(Index::open(&bench.dir, "x", &bench.session).await.is_err());
    bench.build().await;
    assert_eq!(bench.paths("alpha").await, ["a.rs"]);
}

#[tokio::test]
async fn a_forced_build_that_is_stopped_leaves_the_whole_index() {
    let bench = Bench::new();
    for n in 0..60 {
        bench.code(&format!("f{n:03}.rs"), &format!("function_{n}"));
    }
    bench.build().await;
    let before = State::load(&bench.dir).unwrap();
    let cancel = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancel);
    let progress: OnProgress = Arc::new(move |p| {
        if p.chunks > 40 {
            flag.store(true, Ordering::Relaxed);
        }
    });
    let error = bench.build_with(true, progress, cancel).await.unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert_eq!(State::load(&bench.dir), Some(before.clone()));
    assert_eq!(bench.paths("function_59").await[0], "f059.rs");
    bench.build_with(true, Arc::new(|_| {}), Arc::default()).await.unwrap();
    assert_ne!(bench.db(), before.db_path(&bench.dir));
    bench.assert_sound().await;
    assert_eq!(bench.paths("function_59").await[0], "f059.rs");
}

#[tokio::test]
async fn a_forced_build_leaves_readers_in_peace() {
    let bench = Bench::new();
    bench.code("a.rs", "alpha");
    bench.build().await;
    let mut reader = Index::open(&bench.dir, "x", &bench.session).await.unwrap();
    let old = bench.db();
    bench.code("b.rs", "beta");
    bench.build_with(true, Arc::new(|_| {}), Arc::default()).await.unwrap();
    assert_ne!(old, bench.db());
    let ask = |reader: Index| async move {
        let found = reader
            .search("alpha beta", 10, false, None, &Weights::default(), Arm::Lexical)
            .await
            .unwrap();
        found.hits.len()
    };
    assert_eq!(ask(reader.clone()).await, 1, "an open reader keeps its snapshot");
    reader.refresh("x", &bench.session).await.unwrap();
    assert_eq!(ask(reader).await, 2);
    bench.build().await;
    assert!(!Path::new(&old).exists(), "the old one goes with the next build");
}

#[tokio::test]
async fn meaning_finds_what_words_do_not() {
    let bench = Bench::new();
    bench.write("src/cache.rs", "pub fn evict(&mut self) {\n    let victim = self.queue.pop_front();\n    self.map.remove(&victim);\n}\n");
    bench.write("src/draw.rs", "pub fn triangle(canvas: &mut Canvas) {\n    canvas.line(a, b);\n    canvas.line(b, c);\n}\n");
    for n in 0..20 {
        bench.code(&format!("src/f{n}.rs"), &format!("function_{n}"));
    }
    let embedder = crate::embed::default_embedder().unwrap();
    let build = || {
        let embedder = Some(Arc::clone(&embedder));
        builder::build(
            bench.options(false),
            Arc::clone(&bench.session),
            embedder,
            Arc::new(|_| {}),
            Arc::default(),
        )
    };
    build().await.unwrap();
    let ask = |query: &'static str| {
        let (bench, embedder) = (&bench, &embedder);
        async move {
            let index = Index::open(&bench.dir, "x", &bench.session).await.unwrap();
            assert_eq!(index.stats().embedder, embedder.name());
            index
                .search(query, 3, true, Some(&**embedder), &Weights::default(), Arm::Hybrid)
                .await
                .unwrap()
        }
    };
    let found = ask("delete the oldest entry").await;
    assert!(found.hybrid);
    assert_eq!(found.hits[0].path, "src/cache.rs", "{:?}", found.hits);
    assert!(found.hits[0].why.contains("meaning"));

    // An update rewrites the vectors; rows that are gone are not found by them.
    fs::remove_file(bench.root.join("src/cache.rs")).unwrap();
    build().await.unwrap();
    assert!(ask("delete the oldest entry").await.hits.iter().all(|h| h.path != "src/cache.rs"));
    bench.assert_sound().await;

    // Another embedder means another index.
    let before = bench.db();
    bench.build().await;
    assert_ne!(before, bench.db());
    assert_eq!(State::load(&bench.dir).unwrap().embedder, "");
}

#[tokio::test]
async fn many_small_updates_stay_sound() {
    let bench = Bench::new();
    for n in 0..30 {
        bench.code(&format!("f{n}.rs"), &format!("function_{n}"));
    }
    bench.build().await;
    for round in 0..30 {
        bench.code(&format!("f{}.rs", round % 7), &format!("round_{round}"));
        if round % 10 == 9 {
            fs::remove_file(bench.root.join(format!("f{}.rs", 10 + round / 2))).unwrap();
        }
        bench.build().await;
        if round % 3 == 0 {
            bench.assert_copied(&["valu", "round", "function", "rs", "absent"]).await;
        }
    }
    bench.assert_sound().await;
    let files = fs::read_dir(bench.db()).unwrap().flatten();
    let words = files.filter(|f| f.file_name().to_string_lossy().starts_with("words-"));
    assert!(words.count() <= 6, "segments are folded together, and old ones are removed");
    assert_eq!(bench.paths("round_29").await[0], "f1.rs");
    let store = Store::open(&bench.db(), &bench.session).await.unwrap();
    assert!(store.small_fragments().await.unwrap() <= crate::limits::COMPACT_AFTER_FRAGMENTS + 1);
}

#[tokio::test]
async fn copies_that_are_lost_or_damaged_are_made_again() {
    let bench = Bench::new();
    for n in 0..10 {
        bench.code(&format!("f{n}.rs"), &format!("function_{n}"));
    }
    bench.build().await;
    let copies = || {
        let files = fs::read_dir(bench.db()).unwrap().flatten().map(|f| f.path());
        files.filter(|p| store::copies::is_copy(&p.file_name().unwrap().to_string_lossy()))
    };
    for damage in [(|path| fs::remove_file(path).unwrap()) as fn(PathBuf), |path| {
        fs::write(path, b"LAI").unwrap();
    }] {
        copies().for_each(damage);
        // Until then the table answers.
        assert_eq!(bench.paths("function_7").await[0], "f7.rs");
        bench.build().await;
        bench.assert_copied(&["function", "valu"]).await;
    }
    // A view that is whole, but of other segments than there are.
    let view = State::load(&bench.dir).unwrap().view;
    let mut wrong = store::copies::View::load(&bench.db().join(&view)).unwrap();
    wrong.segments[0].dead = vec![0; 99];
    wrong.save(&bench.db().join(&view)).unwrap();
    assert!(Copies::open(&bench.db(), &view).is_none());
    bench.build().await;
    bench.assert_copied(&["function", "valu"]).await;
}

#[tokio::test]
async fn lancedb_ranks_as_the_copy_in_memory_does() {
    use crate::eval::{Memory, Mode, Searcher};
    let mut bench = Bench::new();
    bench.batch_rows = 10_000;
    for (path, text) in [
        ("chunk/tree.rs", include_str!("chunk/tree.rs")),
        ("chunk/names.rs", include_str!("chunk/names.rs")),
        ("lang.rs", include_str!("lang.rs")),
        ("walk.rs", include_str!("walk.rs")),
        ("builder.rs", include_str!("builder/mod.rs")),
        ("manifest.rs", include_str!("manifest/mod.rs")),
    ] {
        bench.write(path, text);
    }
    bench.build().await;
    let mut memory = Memory::load(&bench.root, Weights::default()).unwrap();
    memory.arm = Mode::Lexical;
    for query in [
        "how are definitions named",
        "git ignore rules",
        "Lock",
        "crash between commits",
        "parse timeout",
    ] {
        let ours: Vec<_> =
            memory.search(query, 10).unwrap().into_iter().map(|p| (p.path, p.start_line)).collect();
        let found = bench.search(query).await;
        let theirs: Vec<_> = found.hits.into_iter().map(|h| (h.path, h.start_line)).collect();
        assert_eq!(ours, theirs, "{query}");
    }
}

impl Bench {
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
}

#[tokio::test]
async fn a_branch_that_comes_back_is_not_cut_again() {
    let bench = Bench::new();
    for n in 0..40 {
        bench.code(&format!("src/f{n}.rs"), &format!("function_{n}"));
    }
    let report = bench.told(bench.cached(&[])).await.report;
    assert_eq!((report.files_added, report.files_reused), (40, 0));
    for n in 0..25 {
        bench.code(&format!("src/f{n}.rs"), &format!("on_branch_{n}"));
    }
    let report = bench.told(bench.cached(&[])).await.report;
    assert_eq!((report.files_changed, report.files_reused), (25, 0), "the first time costs");
    for name in ["function", "on_branch", "function"] {
        for n in 0..25 {
            bench.code(&format!("src/f{n}.rs"), &format!("{name}_{n}"));
        }
        let report = bench.told(bench.cached(&[])).await.report;
        assert_eq!((report.files_changed, report.files_reused), (25, 25), "nothing is cut");
        assert_eq!(bench.paths(&format!("{name}_7")).await[0], "src/f7.rs");
    }
    bench.assert_sound().await;
}

#[tokio::test]
async fn another_work_tree_takes_over_and_a_moved_file_is_not_cut_again() {
    let bench = Bench::new();
    for n in 0..30 {
        bench.code(&format!("src/f{n}.rs"), &format!("function_{n}"));
    }
    bench.told(bench.cached(&[])).await;
    // A second work tree of the same repository, with an index of its own.
    let tree = bench.home.path().join("tree");
    for n in 0..30 {
        let path = format!("src/f{n}.rs");
        fs::create_dir_all(tree.join("src")).unwrap();
        fs::copy(bench.root.join(&path), tree.join(&path)).unwrap();
    }
    let dir = bench.home.path().join("index-2");
    let second = Options { root: tree.clone(), dir: dir.clone(), ..bench.cached(&[]) };
    let report = bench.told(second.clone()).await.report;
    assert_eq!((report.files_added, report.files_reused), (30, 30));
    // The vectors are those that a build without the cache makes.
    let alone = Options { cache: None, force: true, ..second.clone() };
    let near = async || {
        let index = Index::open(&dir, "x", &bench.session).await.unwrap();
        let embedder = crate::embed::default_embedder();
        let mut all = Vec::new();
        for query in ["function 7 compute", "value of the last one", "about nothing"] {
            let weights = Weights::default();
            let found = index.search(query, 30, false, embedder.as_deref(), &weights, Arm::Dense);
            let hits = found.await.unwrap().hits;
            all.extend(hits.into_iter().map(|hit| (hit.path, hit.score.to_bits())));
        }
        all
    };
    let reused = near().await;
    assert!(reused.len() > 30);
    bench.told(alone).await;
    assert_eq!(reused, near().await);

    fs::create_dir(bench.root.join("moved")).unwrap();
    fs::rename(bench.root.join("src/f3.rs"), bench.root.join("moved/renamed.rs")).unwrap();
    let report = bench.told(bench.cached(&["src/f3.rs", "moved"])).await.report;
    let sums = (report.files_added, report.files_removed, report.files_reused);
    assert_eq!(sums, (1, 1, 1));
    assert_eq!(bench.paths("function_3").await[0], "moved/renamed.rs");
    bench.assert_sound().await;
}

#[tokio::test]
async fn an_update_by_name_looks_nowhere_else_and_keeps_to_the_rules() {
    let bench = Bench::new();
    bench.write(".gitignore", "*.log\n");
    for n in 0..10 {
        bench.code(&format!("src/f{n}.rs"), &format!("function_{n}"));
    }
    let told = bench.told(bench.cached(&[])).await;
    assert_eq!(told.folders.len(), 2, "{:?}", told.folders);
    bench.code("src/f1.rs", "hinted");
    bench.code("src/f2.rs", "not_hinted");
    bench.code("src/new/deep.rs", "new_and_deep");
    bench.write("src/a.log", "ignored text of a log");
    fs::remove_file(bench.root.join("src/f3.rs")).unwrap();
    fs::remove_file(bench.root.join("src/f4.rs")).unwrap();
    let only = ["src/f1.rs", "src/new", "src/f3.rs", "src/a.log", "../../etc/passwd"];
    let told = bench.told(bench.cached(&only)).await;
    let report = &told.report;
    let sums = (report.files_added, report.files_changed, report.files_removed);
    assert_eq!(sums, (1, 1, 1));
    assert_eq!(told.ignored, ["src/a.log"]);
    assert!(told.folders.contains(&"src/new".into()), "{:?}", told.folders);
    assert_eq!(bench.paths("hinted").await[0], "src/f1.rs");
    assert_eq!(bench.paths("new_and_deep").await[0], "src/new/deep.rs");
    assert!(!bench.paths("function_3").await.contains(&"src/f3.rs".to_string()));
    assert!(bench.paths("function_4").await.contains(&"src/f4.rs".to_string()), "not named");
    bench.assert_sound().await;
    // A folder that goes takes its files along.
    fs::remove_dir_all(bench.root.join("src")).unwrap();
    let report = bench.told(bench.cached(&["src"])).await.report;
    assert_eq!((report.files_removed, report.files), (10, 1));
    bench.assert_sound().await;
}

#[tokio::test]
async fn nothing_changed_costs_no_commit() {
    let bench = Bench::new();
    bench.code("a.rs", "alpha");
    bench.told(bench.cached(&[])).await;
    // A file just written is looked at again; the second look settles it.
    std::thread::sleep(std::time::Duration::from_millis(40));
    bench.told(bench.cached(&[])).await;
    let before = State::load(&bench.dir).unwrap();
    let report = bench.told(bench.cached(&[])).await.report;
    assert_eq!((report.files_changed, report.files_added), (0, 0));
    let after = State::load(&bench.dir).unwrap();
    assert_eq!((before.generation, before.view), (after.generation, after.view));
    assert_eq!(before.changed_at, after.changed_at);
}

#[tokio::test]
async fn tidying_keeps_every_hit_of_both_arms() {
    let bench = Bench::new();
    bench.write("src/cache.rs", "pub fn evict(&mut self) {\n    let victim = self.queue.pop_front();\n    self.map.remove(&victim);\n}\n");
    bench.told(bench.cached(&[])).await;
    let mut due = false;
    for n in 0..12 {
        bench.code(&format!("f{n}.rs"), &format!("round_{n}"));
        due |= bench.told(bench.cached(&[])).await.report.tidy;
    }
    assert!(due, "many small updates make tidying due");
    let mut reader = Index::open(&bench.dir, "x", &bench.session).await.unwrap();
    let embedder = crate::embed::default_embedder().unwrap();
    let ask = |reader: Index, query: &'static str| {
        let embedder = Arc::clone(&embedder);
        async move {
            reader
                .search(query, 3, false, Some(&*embedder), &Weights::default(), Arm::Dense)
                .await
                .unwrap()
                .hits
        }
    };
    let before = ask(reader.clone(), "delete the oldest entry").await;
    builder::tidy(&bench.dir, Arc::clone(&bench.session)).await.unwrap();
    assert_eq!(ask(reader.clone(), "delete the oldest entry").await, before, "an open reader");
    reader.refresh("x", &bench.session).await.unwrap();
    assert_eq!(ask(reader, "delete the oldest entry").await, before);
    assert_eq!(bench.paths("round_11").await[0], "f11.rs");
    let store = Store::open(&bench.db(), &bench.session).await.unwrap();
    assert_eq!(store.small_fragments().await.unwrap(), 1);
    bench.assert_sound().await;
}

#[tokio::test]
async fn an_index_at_its_bound_says_so_and_stays() {
    let bench = Bench::new();
    bench.code("a.rs", "alpha");
    bench.build().await;
    for n in 0..50 {
        bench.code(&format!("b{n}.rs"), &format!("function_{n}"));
    }
    let options = Options { max_bytes: builder::disk_bytes(&bench.dir), ..bench.options(false) };
    let error =
        builder::build(options, Arc::clone(&bench.session), None, Arc::new(|_| {}), Arc::default())
            .await
            .unwrap_err();
    assert!(matches!(error, Error::DiskCap(_)), "{error}");
    let wire = WireError::from(error);
    assert_eq!(wire.kind, ErrorKind::Limit);
    assert!(wire.hint.contains("lapce-ai index rm"), "{wire:?}");
    assert_eq!(bench.paths("alpha").await, ["a.rs"]);
    bench.build().await;
    bench.assert_sound().await;
}

#[tokio::test]
async fn an_update_by_name_with_another_embedder_makes_a_whole_index() {
    let bench = Bench::new();
    for n in 0..5 {
        bench.code(&format!("src/{n}.rs"), &format!("name_{n}"));
    }
    bench.build().await;
    bench.code("src/0.rs", "renamed");
    // The bench's own builds have no embedder; `told` has the table.
    let built = bench.told(bench.cached(&["src/0.rs"])).await;
    assert_eq!((built.report.files, built.report.files_added), (5, 5));
}
