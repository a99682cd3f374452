use std::fmt::Write as _;
use std::fs;

use lapce_ai_ipc::wire::engine::RunState;
use serde_json::{Value, json};

use super::*;
use crate::agent::history::History;
use crate::provider::{Message, Part, Role};

struct Place {
    logs: Logs,
    root: Root,
    _dir: tempfile::TempDir,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("w");
    fs::create_dir(&root).unwrap();
    let root = Root::open(root.to_str().unwrap()).unwrap();
    let runs = dir.path().join("runs");
    fs::create_dir(&runs).unwrap();
    Place { logs: Logs { dir: runs, active: BTreeSet::new() }, root, _dir: dir }
}

const RUN: &str = "20260101-000000-aaaaaa";

impl Place {
    fn started(&self) -> Value {
        json!({"event": "started", "t": 5, "version": LOG_VERSION, "root": self.root.as_str(),
            "task": "the task\nmore", "model": "p/m", "mode": "code", "continues": ""})
    }

    fn write(&self, run: &str, entries: &[Value]) {
        let mut text = String::new();
        for entry in entries {
            writeln!(text, "{entry}").unwrap();
        }
        fs::write(self.logs.dir.join(format!("{run}.jsonl")), text).unwrap();
    }

    fn append(&self, run: &str, bytes: &[u8]) {
        use std::io::Write as _;
        let path = self.logs.dir.join(format!("{run}.jsonl"));
        fs::OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
    }

    fn read(&self) -> Past {
        self.logs.conversation(&self.root, "").unwrap()
    }
}

fn told(text: &str) -> Value {
    json!({"event": "told", "text": text})
}

fn said(ids: &[&str]) -> Value {
    let mut parts = vec![json!({"text": "Doing."})];
    parts.extend(ids.iter().map(|id| json!({"call": "read_file", "id": id, "args": "{}"})));
    let heads: Vec<String> =
        ids.iter().map(|id| format!("[read_file for '{id}'] Result:")).collect();
    json!({"event": "said", "parts": parts, "wanted": heads})
}

fn given(id: &str) -> Value {
    json!({"event": "given", "id": id, "name": "read_file", "ok": true, "text": format!("of {id}")})
}

/// What a provider insists on: roles alternate, and the results of an answer's calls follow it
/// in their order.
#[track_caller]
fn sound(messages: &[Message]) {
    for (at, message) in messages.iter().enumerate() {
        let role = if at % 2 == 0 { Role::User } else { Role::Assistant };
        assert_eq!(message.role, role, "{messages:#?}");
        let calls = |message: &Message| -> Vec<String> {
            let of = |p: &Part| match p {
                Part::Call { id, .. } | Part::CallResult { id, .. } => Some(id.clone()),
                _ => None,
            };
            message.parts.iter().filter_map(of).collect()
        };
        if role == Role::Assistant {
            let results = messages.get(at + 1).map(calls).unwrap_or_default();
            assert_eq!(calls(message), results, "{messages:#?}");
        }
    }
}

fn texts(messages: &[Message]) -> String {
    format!("{messages:?}")
}

#[test]
fn a_call_that_was_interrupted_has_a_result_that_says_so() {
    let place = place();
    let allowed = json!({"event": "allowed", "id": "b", "rule": "x"});
    let call = |id: &str| json!({"event": "call", "id": id, "tool": "read_file", "params": {}});
    let log = [
        place.started(),
        told("the task"),
        said(&["a", "b", "c"]),
        call("a"),
        given("a"),
        call("b"),
        allowed,
    ];
    place.write(RUN, &log);
    let past = place.read();
    sound(&past.messages);
    assert_eq!(past.info.state, RunState::Interrupted);
    let Part::CallResult { text, ok, .. } = &past.messages[2].parts[1] else { panic!() };
    assert!(text.starts_with("[read_file for 'b'] Result:") && text.contains("unknown"), "{text}");
    assert!(!ok);
    let Part::CallResult { text, .. } = &past.messages[2].parts[2] else { panic!() };
    assert!(text.contains("Not run"), "{text}");
    assert_eq!(past.missing, Vec::<String>::new());
}

/// Every beginning of a log, and the log without any one of its lines, gives a conversation that
/// a provider takes, or an error.
#[test]
fn a_cut_or_damaged_log_gives_what_is_whole() {
    let place = place();
    let log = [
        place.started(),
        told("the task"),
        said(&["a", "b"]),
        given("a"),
        given("b"),
        told("a reminder"),
        said(&["c"]),
        given("c"),
        json!({"event": "said", "parts": [{"text": "Done."}], "wanted": []}),
        json!({"event": "ended", "outcome": "Completed", "result": "Done.", "turns": 3}),
    ];
    place.write(RUN, &log);
    let whole = fs::read(place.logs.dir.join(format!("{RUN}.jsonl"))).unwrap();
    let past = place.read();
    assert_eq!((past.messages.len(), past.missing.len()), (6, 0), "{:?}", past.missing);
    sound(&past.messages);
    let mut read = 0;
    for end in 0..whole.len() {
        fs::write(place.logs.dir.join(format!("{RUN}.jsonl")), &whole[..end]).unwrap();
        if let Ok(past) = place.logs.conversation(&place.root, "") {
            sound(&past.messages);
            read += 1;
        }
    }
    assert!(read > whole.len() / 2, "{read} of {}", whole.len());
    for without in 1..log.len() {
        let mut damaged = log.to_vec();
        damaged[without] = json!("no entry");
        place.write(RUN, &damaged);
        let Ok(past) = place.logs.conversation(&place.root, "") else {
            assert_eq!(without, 1, "only the task is indispensable");
            continue;
        };
        sound(&past.messages);
        assert!(past.missing[0].contains("its log has 1 damaged line"), "{:?}", past.missing);
    }
}

#[test]
fn what_is_no_log_is_refused_and_bounded() {
    let place = place();
    let find = |name: &str| place.logs.conversation(&place.root, name).unwrap_err();
    assert_eq!(find("").kind, ErrorKind::NotFound);
    assert_eq!(find("../../etc/passwd").kind, ErrorKind::NotFound);
    // A symlink and a pipe are not followed and not waited for.
    let outside = place.root.path().join("outside.jsonl");
    fs::write(&outside, place.started().to_string()).unwrap();
    std::os::unix::fs::symlink(&outside, place.logs.dir.join("link.jsonl")).unwrap();
    let pipe = std::ffi::CString::new(
        place.logs.dir.join("pipe.jsonl").into_os_string().into_string().unwrap(),
    )
    .unwrap();
    // SAFETY: the path is a string that ends with a zero byte.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    fs::write(place.logs.dir.join("empty.jsonl"), "").unwrap();
    fs::write(place.logs.dir.join("bytes.jsonl"), [0, 255, b'\n', b'{', b'\n', 128]).unwrap();
    fs::write(place.logs.dir.join("deep.jsonl"), "[".repeat(100_000)).unwrap();
    for name in ["link", "pipe", "empty", "bytes", "deep"] {
        let error = find(name);
        assert_eq!(error.kind, ErrorKind::Invalid, "{name}: {error:?}");
        let shown = place.logs.show(name).unwrap();
        assert!(!shown.info.refused.is_empty(), "{name}");
    }
    assert_eq!(place.logs.list(place.root.as_str()), []);
    assert_eq!(place.logs.list("").len(), 5);
    // A line beyond the bound is skipped, and the next is read.
    place.write(RUN, &[place.started(), told("the task")]);
    place.append(RUN, &vec![b'x'; usize::try_from(limits::JOURNAL_LINE_BYTES).unwrap() + 5]);
    place.append(RUN, format!("\n{}\n", told("after")).as_bytes());
    let past = place.read();
    assert_eq!(past.messages[0].parts.len(), 2);
    assert!(past.missing[0].contains("damaged"));
}

#[test]
fn logs_of_older_versions_and_full_ones() {
    let place = place();
    let mut old = place.started();
    old.as_object_mut().unwrap().remove("version");
    place.write(RUN, &[old, told("x")]);
    let error = place.logs.conversation(&place.root, "").unwrap_err();
    assert!(error.message.contains("an older version"), "{error:?}");
    let full = json!({"event": "journal_full"});
    place.write(RUN, &[place.started(), told("the task"), said(&["a"]), full]);
    let past = place.read();
    sound(&past.messages);
    assert!(past.missing[0].contains("largest size"), "{:?}", past.missing);
    assert!(texts(&past.messages).contains("unknown"));
}

#[test]
fn chains_are_followed_and_end() {
    let place = place();
    let (a, b) = ("20260101-000000-aaaaaa", "20260101-000001-bbbbbb");
    let after = |run: &str| {
        let mut started = place.started();
        started["continues"] = json!(run);
        started
    };
    place.write(a, &[after(b), told("x")]);
    place.write(b, &[after(a), told("y")]);
    let shown = place.logs.show("bbbbbb").unwrap();
    assert_eq!(shown.chain.iter().map(|i| i.run.as_str()).collect::<Vec<_>>(), [a]);
    assert_eq!(shown.continued_by, [a]);
    place.write(a, &[after("20250101-000000-cccccc"), told("x")]);
    let chain = place.logs.show(b).unwrap().chain;
    assert_eq!(chain.len(), 2);
    assert_eq!(chain[1].refused, "its log is gone or cannot be read");
    place.write(a, &[after("../../x"), told("x")]);
    assert_eq!(place.logs.show(b).unwrap().chain.len(), 1);
    assert!(place.logs.find("20260101").unwrap_err().message.contains("several"));
}

#[test]
fn files_outside_are_not_looked_at() {
    let place = place();
    let seen = json!({"mtime_ns": 1, "size": 2, "hash": "x"});
    let files = json!({"a.rs": seen, "/etc/passwd": seen, "../b": seen, "c/../../d": seen, "e": 5});
    let gone = json!(["f"]);
    place.write(
        RUN,
        &[place.started(), told("x"), json!({"event": "seen", "files": files, "gone": gone})],
    );
    let past = place.read();
    assert_eq!(past.seen.keys().collect::<Vec<_>>(), ["a.rs"]);
    assert_eq!(past.changed_since(place.root.path()), ["a.rs"]);
}

#[test]
fn a_conversation_is_the_same_after_being_written_and_read() {
    let place = place();
    let call = |id: &str, arguments: &str| Part::Call {
        id: id.into(),
        name: "read_file".into(),
        arguments: arguments.into(),
    };
    let result = |id: &str| Part::CallResult {
        id: id.into(),
        name: "read_file".into(),
        text: "text".into(),
        ok: true,
    };
    let messages = vec![
        Message::user("task"),
        Message {
            role: Role::Assistant,
            parts: vec![
                Part::Opaque { format: "anthropic", value: json!({"signature": "s"}) },
                Part::Text("words".into()),
                call("1", "{\"path\":\"a\"}"),
                call("2", "{}"),
            ],
        },
        Message { role: Role::User, parts: vec![result("1"), result("2"), Part::Text("t".into())] },
        Message::assistant("done"),
    ];
    let mut log = vec![place.started()];
    for (event, mut entry) in record::entries(&messages) {
        entry["event"] = json!(event);
        log.push(entry);
    }
    place.write(RUN, &log);
    let mut past = place.read();
    assert_eq!(past.messages, messages);
    past.for_another_model();
    assert_eq!(past.messages[1].parts.len(), 3);
    let mut plain = History::continued(past.messages, 1_000, "more".into());
    plain.write_calls_out();
    assert!(!texts(plain.messages()).contains("CallResult"));
    sound(plain.messages());
}

#[test]
fn pictures_and_long_parameters_are_left_out_with_a_sentence() {
    let place = place();
    let call = Part::Call {
        id: "1".into(),
        name: "write_to_file".into(),
        arguments: json!({"content": "x".repeat(limits::JOURNAL_TEXT_BYTES)}).to_string(),
    };
    let mut said = record::said(&[call], &["[write_to_file] Result:".to_owned()]);
    said["event"] = json!("said");
    let result = Part::CallResult {
        id: "1".into(),
        name: "write_to_file".into(),
        text: "written".into(),
        ok: true,
    };
    let mut given = record::given(&result, 2);
    given["event"] = json!("given");
    place.write(RUN, &[place.started(), told("the task"), said, given]);
    let past = place.read();
    sound(&past.messages);
    assert_eq!(past.missing, ["long parameters were not kept, in 1 answer"]);
    let Part::Call { arguments, .. } = &past.messages[1].parts[0] else { panic!() };
    assert_eq!(arguments, "{}");
    let Part::CallResult { text, .. } = &past.messages[2].parts[0] else { panic!() };
    assert_eq!(text, "written\n(the pictures of this result were left out)");
}
