//! Builds from nothing, their ends, and what a crash leaves.

use super::*;

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
