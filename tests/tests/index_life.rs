//! The life of an index while an editor (here: `lapce-ai index --watch`) is open: changes are
//! found, branches come back cheaply, and everything that is said about it is true.

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use lapce_ai_tests::{TestHome, kill, wait_for};
use serde_json::Value;
use support::{best, git, index, repository, search};

/// `lapce-ai index --watch --json`, and what it has said.
struct Watch {
    child: Child,
    said: Arc<Mutex<Vec<Value>>>,
}

impl Watch {
    fn start(home: &TestHome, root: &Path) -> Self {
        let mut command: Command = home.command("lapce-ai");
        command.args(["index", "--watch", "--json"]).arg(root);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a watch");
        let said = Arc::<Mutex<Vec<Value>>>::default();
        let (out, to) = (child.stdout.take().expect("piped"), said.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Ok(value) = serde_json::from_str(&line) {
                    to.lock().unwrap().push(value);
                }
            }
        });
        let watch = Self { child, said };
        wait_for("the first index", || !watch.reports().is_empty());
        watch
    }

    /// The reports of its updates so far.
    fn reports(&self) -> Vec<Value> {
        let said = self.said.lock().unwrap();
        said.iter().map(|v| v["event"]["Indexed"].clone()).filter(|v| !v.is_null()).collect()
    }

    /// Sums over the updates after the first `seen`.
    fn sum(&self, seen: usize, field: &str) -> u64 {
        self.reports().iter().skip(seen).filter_map(|r| r[field].as_u64()).sum()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn status(home: &TestHome, root: &Path) -> Value {
    let status = home.cli(["status", "--json"]).ok().json();
    let root = root.canonicalize().unwrap();
    let indexes = status["indexes"].as_array().expect("indexes").clone();
    let found = indexes.into_iter().find(|i| i["root"].as_str() == root.to_str());
    found.unwrap_or_else(|| panic!("{} is not in {status}", root.display()))
}

fn settled(home: &TestHome, root: &Path) -> bool {
    let info = status(home, root);
    info["behind"] == 0 && info["building"] == false
}

#[test]
fn what_is_written_moved_or_deleted_is_searchable_without_being_asked_for() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    let watch = Watch::start(&home, &root);
    wait_for("the watch to be set", || status(&home, &root)["watch"] == "Watching");
    wait_for("the second look", || watch.reports().len() >= 2 && settled(&home, &root));

    fs::write(root.join("src/queue.rs"), "pub fn drain_pending_jobs() {\n    run();\n}\n").unwrap();
    wait_for("the new file", || best(&home, &root, "drain pending jobs") == "src/queue.rs");

    // A folder that appears with files in it, and a file in it later.
    fs::create_dir_all(root.join("new/deep")).unwrap();
    fs::write(root.join("new/deep/a.rs"), "pub fn brew_morning_coffee() {\n    x();\n}\n").unwrap();
    wait_for("the new folder", || best(&home, &root, "brew morning coffee") == "new/deep/a.rs");
    fs::write(root.join("new/deep/b.rs"), "pub fn wash_the_dishes() {\n    x();\n}\n").unwrap();
    wait_for("the later file", || best(&home, &root, "wash the dishes") == "new/deep/b.rs");

    fs::rename(root.join("new"), root.join("old")).unwrap();
    wait_for("the moved folder", || best(&home, &root, "wash the dishes") == "old/deep/b.rs");
    fs::remove_dir_all(root.join("old")).unwrap();
    wait_for("the deleted folder", || {
        search(&home, &root, "wash the dishes").iter().all(|h| h["path"] != "old/deep/b.rs")
    });

    // Ignored files start nothing; a new rule is followed.
    fs::write(root.join(".gitignore"), "build/\nlib/\n*.log\n").unwrap();
    wait_for("the new rule", || {
        search(&home, &root, "deliver message").iter().all(|h| h["path"] != "lib/mailer.py")
    });
    wait_for("quiet", || settled(&home, &root));
    fs::write(root.join("noise.log"), "one\n").unwrap();
    fs::write(root.join("marker.rs"), "pub fn first_marker() {\n    x();\n}\n").unwrap();
    wait_for("the marker", || best(&home, &root, "first marker") == "marker.rs");
    wait_for("quiet", || settled(&home, &root));
    let before = watch.reports().len();
    for n in 0..50 {
        fs::write(root.join("noise.log"), format!("{n}\n")).unwrap();
        fs::write(root.join("build/out.rs"), format!("fn build_{n}() {{}}\n")).unwrap();
    }
    fs::write(root.join("marker.rs"), "pub fn second_marker() {\n    x();\n}\n").unwrap();
    wait_for("the second marker", || best(&home, &root, "second marker") == "marker.rs");
    wait_for("quiet", || settled(&home, &root));
    assert_eq!(watch.sum(before, "files_added") + watch.sum(before, "files_changed"), 1);

    let info = status(&home, &root);
    assert_eq!((&info["watch"], &info["behind"]), (&"Watching".into(), &0.into()), "{info}");
    assert!(
        info["changed_at"].as_u64() > Some(0) && info["disk_bytes"].as_u64() > Some(0),
        "{info}"
    );
    let text = home.cli(["status"]).ok().stdout;
    assert!(text.contains("watching") && text.contains("up to date"), "{text}");
    drop(watch);
    wait_for("the watch to end", || status(&home, &root)["watch"] == "Off");
    home.assert_nothing_left();
}

#[test]
fn what_changed_while_nobody_watched_is_found_at_the_next_start() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    let watch = Watch::start(&home, &root);
    let engine = home.engine_pid().expect("an engine");
    kill(engine, libc::SIGKILL);
    wait_for("everything to end with it", || home.processes().is_empty());
    drop(watch);
    fs::remove_file(root.join("lib/mailer.py")).unwrap();
    fs::rename(root.join("src/retry.rs"), root.join("src/again.rs")).unwrap();
    fs::write(root.join("src/queue.rs"), "pub fn drain_pending_jobs() {\n    run();\n}\n").unwrap();
    let watch = Watch::start(&home, &root);
    let first = watch.reports()[0].clone();
    let sums = ["files_added", "files_removed", "files_reused"].map(|name| first[name].as_u64());
    assert_eq!(sums, [Some(2), Some(2), Some(1)], "{first}");
    assert_eq!(best(&home, &root, "drain pending jobs"), "src/queue.rs");
    assert_eq!(best(&home, &root, "exponential backoff"), "src/again.rs");
    drop(watch);
    home.assert_nothing_left();
}

#[test]
fn a_branch_switch_is_followed_and_switching_back_cuts_nothing() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    let commit = |message: &str| {
        git(&root, &["add", "."]);
        let who = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"];
        git(&root, &[&who[..], &["commit", "--quiet", "-m", message]].concat());
    };
    let write = |branch: &str| {
        for n in 0..120 {
            let text = format!("/// About {branch} {n}.\npub fn {branch}_{n}() {{\n    x();\n}}\n");
            fs::write(root.join(format!("src/f{n}.rs")), text).unwrap();
        }
        commit(branch);
    };
    git(&root, &["branch", "-M", "trunk"]);
    write("trunk");
    git(&root, &["checkout", "--quiet", "-b", "feature"]);
    write("feature");
    let watch = Watch::start(&home, &root);
    wait_for("the second look", || watch.reports().len() >= 2 && settled(&home, &root));
    assert_eq!(status(&home, &root)["head"], "feature");

    let switch = |branch: &str| {
        let seen = watch.reports().len();
        git(&root, &["checkout", "--quiet", branch]);
        wait_for(branch, || {
            status(&home, &root)["head"] == branch
                && watch.sum(seen, "files_changed") >= 120
                && settled(&home, &root)
        });
        assert_eq!(best(&home, &root, &format!("{branch} 7")), "src/f7.rs");
        (watch.sum(seen, "files_changed"), watch.sum(seen, "files_reused"))
    };
    assert_eq!(switch("trunk"), (120, 0), "the first time every file is cut");
    assert_eq!(switch("feature"), (120, 120), "back again none is");
    assert_eq!(switch("trunk"), (120, 120));

    // Another work tree has an index of its own, and what is known is not cut for it.
    let tree = home.path().join("h/tree");
    git(&root, &["worktree", "add", "--quiet", "-b", "third", tree.to_str().unwrap()]);
    let report = index(&home, &tree);
    assert_eq!(report["files_added"], report["files_reused"], "{report}");
    assert_eq!(best(&home, &tree, "trunk 7"), "src/f7.rs");
    drop(watch);
    home.assert_nothing_left();
}

#[test]
fn an_index_is_checked_tidied_and_removed_by_the_name_of_its_workspace() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    let absent = home.cli_in(&root, ["index", "verify"]).exited(3);
    assert!(absent.stderr.contains("no index"), "{absent}");
    let dry = home.cli_in(&root, ["index", "--dry-run", "--json"]).ok().json();
    assert_eq!(dry["files"].as_array().map(Vec::len), Some(7), "{dry}");
    let dry = home.cli_in(&root, ["index", "--dry-run"]).ok();
    assert!(
        dry.stdout.contains("src/retry.rs\n") && dry.stderr.contains("would be indexed"),
        "{dry}"
    );
    index(&home, &root);
    assert!(home.cli_in(&root, ["index", "verify"]).ok().stdout.contains("ok"));
    home.cli_in(&root, ["index", "gc"]).ok();
    home.cli_in(&root, ["index", "verify"]).ok();
    assert_eq!(best(&home, &root, "deliver message"), "lib/mailer.py");
    home.cli_in(&root, ["index", "rm"]).ok();
    home.cli_in(&root, ["search", "anything"]).exited(3);
    assert!(root.join("src/retry.rs").exists());
    home.assert_nothing_left();
}

#[test]
fn a_full_disk_budget_names_the_oldest_index_and_how_to_remove_it() {
    let home = TestHome::new();
    let (first, second) = (repository(&home, "first"), repository(&home, "second"));
    index(&home, &first);
    home.config("[index]\ndisk_mb = 0\n");
    let ran = home.cli([std::ffi::OsStr::new("index"), second.as_os_str()]).exited(7);
    assert!(ran.stderr.contains("index.disk_mb"), "{ran}");
    let command = format!("lapce-ai index rm {}", first.canonicalize().unwrap().display());
    assert!(ran.stderr.contains(&command), "{ran}");
    assert_eq!(best(&home, &first, "deliver message"), "lib/mailer.py");
    home.assert_nothing_left();
}

#[test]
fn search_quality_is_measured_by_the_main_program() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    let file = home.path().join("h/queries.jsonl");
    fs::write(
        &file,
        "{\"query\":\"exponential backoff\",\"relevant\":[{\"path\":\"src/retry.rs\",\"line\":4}],\"split\":\"easy\"}\n\n\
         {\"query\":\"deliver message\",\"relevant\":[\"lib/mailer.py\"]}\n",
    )
    .unwrap();
    let args = |more: &[&str]| {
        let all = ["eval", "search", "--corpus", root.to_str().unwrap(), "--queries"];
        let all = all.iter().copied().chain([file.to_str().unwrap()]).chain(more.iter().copied());
        all.map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    for arm in ["bm25", "lexical", "dense", "hybrid"] {
        let means = home.cli(args(&["--json", "--arm", arm])).ok().json();
        assert_eq!(means["all"]["queries"], 2, "{arm}: {means}");
        assert_eq!(means["easy"]["queries"], 1, "{arm}: {means}");
        assert!(means["all"]["ndcg10"].as_f64() > Some(0.5), "{arm}: {means}");
        assert!(means["easy"]["mrr10_symbol"].is_number(), "{arm}: {means}");
    }
    let text = home.cli(args(&[])).ok().stdout;
    assert!(text.contains("NDCG@10") && text.contains("easy"), "{text}");
    fs::write(&file, "{\"query\":\"a\",\"relevant\":[\"b\"]}\n{\"query\":\n").unwrap();
    let ran = home.cli(args(&[]));
    assert_ne!(ran.code, Some(0), "{ran}");
    assert!(ran.stderr.contains("line 2"), "{ran}");
    home.assert_nothing_left();
}
