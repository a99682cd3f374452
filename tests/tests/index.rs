//! Index and search over the real programs and real LanceDB: what a user sees, and what
//! happens when the repository is unkind or a process dies.

mod support;

use std::fs;
use std::os::unix::fs::symlink;

use lapce_ai_tests::{TestHome, kill, wait_for};
use support::{best, index, repository, search};

#[test]
fn words_find_the_definition_they_mean() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    let report = index(&home, &root);
    // Five sources, two ignore files; `secret/` and `build/` stay out.
    assert_eq!(report["files"], 7, "{report}");

    let hits = search(&home, &root, "exponential backoff between attempts");
    let hit = &hits[0];
    assert_eq!(hit["path"], "src/retry.rs");
    assert_eq!(hit["symbol"], "exponential_backoff");
    // The doc comment belongs to the chunk.
    assert!(hit["start_line"].as_u64() <= Some(3) && hit["end_line"].as_u64() >= Some(7), "{hit}");
    assert!(hit["code"].as_str().is_some_and(|code| code.contains("saturating_mul")), "{hit}");

    // Identifiers are split: these words stand in no file as they are.
    assert_eq!(best(&home, &root, "deliver message"), "lib/mailer.py");
    assert_eq!(best(&home, &root, "total price tax"), "web/cart.ts");
    assert_eq!(best(&home, &root, "settings parse"), "src/config.rs");
    assert_eq!(best(&home, &root, "deployment"), "README.md");
    home.assert_nothing_left();
}

#[test]
fn what_is_ignored_is_never_found() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    index(&home, &root);
    for words in ["forbidden by aiignore", "ignored by git"] {
        let hits = search(&home, &root, words);
        let paths: Vec<_> = hits.iter().map(|hit| hit["path"].as_str().unwrap()).collect();
        assert!(
            !paths.iter().any(|p| p.starts_with("secret/") || p.starts_with("build/")),
            "{paths:?}"
        );
    }
    home.assert_nothing_left();
}

#[test]
fn a_second_build_takes_only_what_changed() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    index(&home, &root);
    fs::write(root.join("src/retry.rs"), "pub fn jittered_pause() {}\n").unwrap();
    fs::write(root.join("src/queue.rs"), "pub fn drain_pending_jobs() {}\n").unwrap();
    fs::remove_file(root.join("web/cart.ts")).unwrap();
    let report = index(&home, &root);
    assert_eq!(
        (&report["files_added"], &report["files_changed"], &report["files_removed"]),
        (&1.into(), &1.into(), &1.into()),
        "{report}"
    );
    assert_eq!(best(&home, &root, "jittered pause"), "src/retry.rs");
    assert_eq!(best(&home, &root, "drain pending jobs"), "src/queue.rs");
    let gone = search(&home, &root, "total price with tax");
    assert!(gone.iter().all(|hit| hit["path"] != "web/cart.ts"), "{gone:?}");
    let stale = search(&home, &root, "exponential backoff");
    assert!(stale.iter().all(|hit| hit["symbol"] != "exponential_backoff"), "{stale:?}");

    let report = index(&home, &root);
    assert_eq!(
        (&report["files_added"], &report["files_changed"], &report["files_removed"]),
        (&0.into(), &0.into(), &0.into()),
        "{report}"
    );
    home.assert_nothing_left();
}

#[test]
fn search_before_an_index_names_the_command() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    let ran = home.cli_in(&root, ["search", "anything"]).exited(3);
    assert!(ran.stderr.contains("lapce-ai index"), "{ran}");
    home.assert_nothing_left();
}

#[test]
fn ask_without_a_model_shows_the_passages_and_one_line_on_how_to_get_one() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    index(&home, &root);
    // A local server on this machine would be found; a wrong default model is not searched for.
    let ran = home.cli_in(&root, ["ask", "how are the settings read?"]).ok();
    assert!(ran.stdout.contains("src/config.rs:"), "{ran}");
    assert!(format!("{ran}").contains("config.toml"), "{ran}");
    home.assert_nothing_left();
}

#[test]
fn a_killed_worker_is_replaced() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    index(&home, &root);
    assert_eq!(best(&home, &root, "deliver message"), "lib/mailer.py");
    let worker = |home: &TestHome| {
        home.processes().into_iter().find(|p| p.name.starts_with("lapce-ai-index"))
    };
    let first = worker(&home).expect("a worker after a search").pid;
    kill(first, libc::SIGKILL);
    wait_for("the worker to be gone", || worker(&home).is_none_or(|p| p.pid != first));
    assert_eq!(best(&home, &root, "deliver message"), "lib/mailer.py");
    home.assert_nothing_left();
}

#[test]
fn a_killed_engine_takes_its_children_along_and_the_next_command_starts_another() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    index(&home, &root);
    assert_eq!(best(&home, &root, "deliver message"), "lib/mailer.py");
    let engine = home.engine_pid().expect("an engine");
    kill(engine, libc::SIGKILL);
    wait_for("the children to follow", || home.processes().is_empty());
    assert_eq!(best(&home, &root, "deliver message"), "lib/mailer.py");
    assert_ne!(home.engine_pid(), Some(engine));
    home.assert_nothing_left();
}

#[test]
fn a_killed_build_leaves_the_index_readable() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    index(&home, &root);
    // Enough new files that the build is still at work when it is killed.
    for n in 0..1500 {
        let body = format!("pub fn generated_function_{n}() -> u32 {{\n    {n}\n}}\n").repeat(8);
        fs::write(root.join(format!("src/extra_{n}.rs")), body).unwrap();
    }
    let mut command = home.command("lapce-ai");
    command.arg("index").arg(&root);
    let build = std::thread::spawn(move || lapce_ai_tests::run(command, b""));
    let builder = |home: &TestHome| {
        home.processes()
            .into_iter()
            .find(|p| p.command.contains("lapce-ai-index") && p.command.contains("build"))
    };
    wait_for("the build process", || builder(&home).is_some());
    kill(builder(&home).expect("just seen").pid, libc::SIGKILL);
    let ran = build.join().unwrap();
    assert_ne!(ran.code, Some(0), "{ran}");
    assert!(ran.stderr.contains("index"), "{ran}");

    assert_eq!(best(&home, &root, "deliver message"), "lib/mailer.py");
    let report = index(&home, &root);
    assert_eq!(report["files"], 1507, "{report}");
    assert_eq!(best(&home, &root, "deliver message"), "lib/mailer.py");
    home.assert_nothing_left();
}

#[test]
fn an_unkind_repository_is_indexed_as_far_as_it_goes() {
    let home = TestHome::new();
    let root = home.workspace(
        "unkind",
        &[("good.rs", "pub fn the_one_good_function() {}\n"), ("empty.rs", "")],
    );
    fs::write(root.join("image.bin"), [0_u8, 1, 2, 255].repeat(1000)).unwrap();
    fs::write(root.join("latin1.py"), b"# caf\xe9\ndef brew_coffee():\n    pass\n").unwrap();
    fs::write(root.join("one_line.js"), "var x = 1; ".repeat(5 << 20)).unwrap();
    symlink(&root, root.join("loop")).unwrap();
    symlink("/etc/passwd", root.join("outside.txt")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    let report = index(&home, &root);
    assert_eq!(best(&home, &root, "the one good function"), "good.rs");
    let outside = search(&home, &root, "root daemon nobody");
    assert!(outside.iter().all(|hit| hit["path"] != "outside.txt"), "{outside:?}");
    let skipped = report["skipped"].as_array().expect("what was left out");
    for file in ["image.bin", "one_line.js"] {
        assert!(skipped.iter().any(|s| s["example"] == file), "{file} is not named in {report}");
    }
    home.assert_nothing_left();
}

#[test]
fn an_empty_repository_and_one_of_binaries_have_an_index_without_hits() {
    let home = TestHome::new();
    let empty = home.folder("empty");
    let binaries = home.folder("binaries");
    fs::write(binaries.join("a.bin"), [0_u8; 4096]).unwrap();
    for root in [&empty, &binaries] {
        let report = index(&home, root);
        assert_eq!(report["files"], 0, "{report}");
        assert!(search(&home, root, "anything at all").is_empty());
    }
    home.assert_nothing_left();
}

#[test]
fn a_path_that_does_not_exist_or_is_a_file_is_named() {
    let home = TestHome::new();
    let file = home.workspace("w", &[("a.txt", "x")]).join("a.txt");
    let ran = home.cli(["index", "/no/such/folder"]).exited(3);
    assert!(ran.stderr.contains("/no/such/folder"), "{ran}");
    let ran = home.cli([std::ffi::OsStr::new("index"), file.as_os_str()]);
    assert_ne!(ran.code, Some(0), "{ran}");
    assert!(ran.stderr.contains("a.txt"), "{ran}");
    home.assert_nothing_left();
}
