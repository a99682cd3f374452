//! Updates: what is not cut again, what is not looked at.

use super::*;

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
