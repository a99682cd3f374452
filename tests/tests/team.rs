//! One index for a team, over the real programs and a folder that all of them see.

#[expect(dead_code, reason = "indexes are built with options of their own here")]
mod support;

use std::ffi::OsStr;
use std::process::Command;

use lapce_ai_tests::{TestHome, run};
use support::{best, repository};

#[test]
fn an_index_lies_on_the_shared_one_that_was_named_once() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    let (published, writer) = (home.folder("published"), home.folder("writer"));
    let uri = format!("file://{}", published.display());
    let mut publish = Command::new(home.bin_dir().join("lapce-ai-index"));
    publish.arg("build").arg("--root").arg(&root).arg("--dir").arg(&writer);
    publish.args(["--location", &uri, "--publish", "--json"]);
    run(publish, b"").ok();

    // The working tree differs in one file.
    std::fs::write(
        root.join("src/coupons.rs"),
        "/// Coupons.\npub fn redeem_coupon() -> u32 {\n    7\n}\n",
    )
    .unwrap();
    home.config("# mine\n[models]\ndetect_local = false\n");
    let index = |more: &[&str]| {
        let mut words: Vec<&OsStr> = vec!["index".as_ref(), root.as_os_str(), "--json".as_ref()];
        words.extend(more.iter().map(OsStr::new));
        home.cli(words).ok().json_lines().pop().unwrap()["reply"].clone()
    };
    let report = index(&["--location", &uri]);
    assert_eq!((&report["files"], &report["files_added"]), (&8.into(), &1.into()), "{report}");
    assert_eq!(best(&home, &root, "exponential backoff"), "src/retry.rs");
    assert_eq!(best(&home, &root, "redeem a coupon"), "src/coupons.rs");

    // It is remembered, in the user's own file and beside what was there.
    let config = std::fs::read_to_string(home.paths().config_file()).unwrap();
    assert!(config.starts_with("# mine\n") && config.contains(&uri), "{config}");
    let report = index(&[]);
    assert_eq!(report["files_added"], 0, "{report}");

    // A model of one's own does not fit on it.
    let mine = std::fs::read_to_string(home.paths().config_file()).unwrap();
    let tiny = std::env::current_dir().unwrap().join("../semantic-index/embed/tests/models/tiny");
    home.config(
        &mine.replace("[index]", &format!("[index]\nembedder = \"onnx:{}\"", tiny.display())),
    );
    let ran = home.cli(["index".as_ref(), root.as_os_str()]);
    assert!(ran.stderr.contains("take one of the two out of config.toml"), "{ran}");
    home.config(&mine);

    // And forgotten: everything is indexed here.
    let report = index(&["--location", "none"]);
    assert_eq!(report["files_added"], 8, "{report}");
    let config = std::fs::read_to_string(home.paths().config_file()).unwrap();
    assert!(!config.contains(&uri), "{config}");

    let ran = home.cli(["index", "--location", "http://host/index"]);
    assert!(ran.stderr.contains("\"http://host/index\" is no location of a shared index"), "{ran}");
    home.assert_nothing_left();
}
