//! The two arms, and the mapped copies beside the table.

use super::*;

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
        ("chunk/tree.rs", include_str!("../chunk/tree.rs")),
        ("chunk/names.rs", include_str!("../chunk/names.rs")),
        ("lang.rs", include_str!("../lang.rs")),
        ("walk.rs", include_str!("../walk.rs")),
        ("builder.rs", include_str!("../builder/mod.rs")),
        ("manifest.rs", include_str!("../manifest/mod.rs")),
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
