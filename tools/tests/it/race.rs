//! A name that is a folder one moment and a symlink out of the workspace the next, under every
//! tool that takes a path: nothing is read there, nothing changed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use lapce_ai_tools::host::{Invocation, Outcome};
use lapce_ai_tools::journal::Selector;
use lapce_ai_tools::spec::{self, Class, Runs};
use serde_json::{Value, json};

use crate::support::{Bench, outliner};

/// The file outside; that inside has its first line, so that every edit fits both.
const OUTSIDE: &str = "fn one() {}\nfn secret_two() {}\n";
const DIFF: &str = "<<<<<<< SEARCH\nfn one() {}\n=======\nevil\n>>>>>>> REPLACE\n";

/// Swaps `real` and a symlink until it is dropped.
struct Racer(Child);

impl Racer {
    fn start(b: &Bench, target: &Path) -> Self {
        // Each round starts anew: a write may have made `real` while it was away.
        let script = format!(
            "while true; do rm -rf real tmp1 swap; ln -s {} swap; mkdir real; \
             printf 'fn one() {{}}\\n' > real/f.rs; for i in 1 2 3 4 5 6 7 8; do \
             mv -T real tmp1 && mv -T swap real && mv -T real swap && mv -T tmp1 real; done; done",
            target.display()
        );
        let racer = Command::new("/bin/bash")
            .args(["-c", &script])
            .current_dir(b.workspace.root())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(racer)
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One call of each tool that names the path that changes, with content that says which.
fn calls() -> Vec<(&'static str, Value)> {
    let f = "real/f.rs";
    vec![
        ("read_file", json!({"path": f})),
        ("list_files", json!({"path": "real", "recursive": true})),
        ("search_files", json!({"path": ".", "regex": "fn [a-z_]+"})),
        ("list_code_definition_names", json!({"path": "real"})),
        ("write_to_file", json!({"path": "real/g", "content": "evil"})),
        ("apply_diff", json!({"path": f, "diff": DIFF})),
        ("insert_content", json!({"path": f, "line": 0, "content": "evil"})),
        ("search_and_replace", json!({"path": f, "search": "fn", "replace": "evil"})),
        ("append_to_file", json!({"path": f, "content": "evil"})),
        ("edit", json!({"file_path": f, "old_string": "one", "new_string": "evil"})),
        ("search_replace", json!({"file_path": f, "old_string": "one", "new_string": "evil"})),
        ("edit_file", json!({"file_path": f, "old_string": "one", "new_string": "evil"})),
        (
            "apply_patch",
            json!({"patch": "*** Begin Patch\n*** Add File: real/h\n+evil\n*** Delete File: real/f.rs\n*** End Patch"}),
        ),
        ("generate_image", json!({"path": "real/i.png", "prompt": "x"})),
        ("delete_file", json!({"path": f})),
    ]
}

#[tokio::test]
async fn a_rename_race_leads_no_tool_out() {
    let mut b = Bench::new();
    b.host = b.host.with_outliner(Some(outliner())).with_state(b.dir.path().join("state"));
    let secret = b.dir.path().join("secretdir");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("f.rs"), OUTSIDE).unwrap();
    let covered: BTreeSet<&str> = calls().iter().map(|(tool, _)| *tool).collect();
    let file_tools = spec::offered().filter(|s| {
        matches!(s.class, Class::Read | Class::Write)
            && (s.runs == Runs::Helper || s.name == "generate_image")
            && s.name != "read_command_output"
    });
    let file_tools: BTreeSet<&str> = file_tools.map(|s| s.name).collect();
    assert_eq!(covered, file_tools, "every tool that takes a path is here");

    let racer = Racer::start(&b, &secret);
    let mut worked: BTreeSet<&str> = BTreeSet::new();
    for round in 0..100 {
        if round >= 6 && worked.len() >= 8 {
            break;
        }
        for (tool, params) in calls() {
            let out = one(&b, tool, params).await;
            assert!(!out.envelope.contains("secret_two"), "{tool}: {}", out.envelope);
            if out.ok {
                worked.insert(tool);
            }
            let names: Vec<_> =
                std::fs::read_dir(&secret).unwrap().flatten().map(|e| e.file_name()).collect();
            assert_eq!(names, ["f.rs"], "{tool} changed the folder outside");
            let text = std::fs::read_to_string(secret.join("f.rs")).unwrap();
            assert_eq!(text, OUTSIDE, "{tool} changed the file outside");
        }
        // An undo writes as well.
        let _ = b.host.undo(&b.workspace, &Selector::Last).await;
        let text = std::fs::read_to_string(secret.join("f.rs")).unwrap();
        assert_eq!(text, OUTSIDE, "undo changed the file outside");
    }
    drop(racer);
    assert!(worked.len() >= 8, "the race let too little through: {worked:?}");
}

async fn one(b: &Bench, tool: &str, params: Value) -> Outcome {
    let mut invocation: Invocation = b.invocation(tool, params);
    if tool == "generate_image" {
        invocation.payload = Some(crate::outline::PIXEL.to_vec());
    }
    b.host.run(invocation).await
}
