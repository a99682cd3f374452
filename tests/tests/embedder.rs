//! An index whose vectors a provider makes, over the real programs: the engine asks a
//! scripted server, the index processes have no network.

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use lapce_ai_tests::TestHome;
use serde_json::{Value, json};
use support::{best, index, repository, search};

const DIMS: usize = 64;

/// A server of embeddings: a text is the set of its words, and `kangaroo` is the same word
/// as `backoff`.
struct Server {
    base_url: String,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    /// Texts of every request.
    asked: Vec<usize>,
    targets: Vec<String>,
    authorization: Vec<String>,
    /// Refuse once this many texts were embedded.
    refuse_after: Option<usize>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let log = Arc::<Mutex<Log>>::default();
        let shared = log.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = shared.clone();
                std::thread::spawn(move || while answer(&stream, &log).is_some() {});
            }
        });
        Self { base_url, log }
    }

    fn texts(&self) -> usize {
        self.log.lock().unwrap().asked.iter().sum()
    }
}

/// Answers one request; `None` at the connection's end.
fn answer(stream: &TcpStream, log: &Mutex<Log>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length, mut authorization) = (String::new(), 0, String::new());
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let target = line.split(' ').nth(1)?.to_owned();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        } else if lower.starts_with("authorization:") {
            line.trim().clone_into(&mut authorization);
        } else if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body: Value = serde_json::from_slice(&body).ok()?;
    let texts = body["input"].as_array()?;
    let refused = {
        let mut log = log.lock().unwrap();
        log.targets.push(target.clone());
        log.authorization.push(authorization);
        let refused = log
            .refuse_after
            .is_some_and(|most| log.asked.iter().sum::<usize>() + texts.len() > most);
        if !refused {
            log.asked.push(texts.len());
        }
        refused
    };
    let vectors = || texts.iter().map(|t| embedding(t.as_str().unwrap_or_default()));
    let (status, reply) = if refused {
        ("401 Unauthorized", json!({"error": {"message": "the key has expired"}}))
    } else if target.ends_with("/api/embed") {
        ("200 OK", json!({"embeddings": vectors().collect::<Vec<_>>()}))
    } else {
        let data: Vec<_> = vectors()
            .enumerate()
            .map(|(n, vector)| json!({"index": n, "embedding": vector}))
            .rev()
            .collect();
        ("200 OK", json!({"data": data}))
    };
    let reply = reply.to_string();
    let mut stream = stream;
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        reply.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(reply.as_bytes())).ok()
}

fn embedding(text: &str) -> Vec<f32> {
    let mut out = vec![0.01; DIMS];
    for word in text.to_lowercase().split(|c: char| !c.is_alphanumeric()) {
        let word = if word == "kangaroo" { "backoff" } else { word };
        let hash = word.bytes().fold(17_usize, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
        out[hash % DIMS] += 1.0;
    }
    out
}

fn config(kind: &str, url: &str, model: &str) -> String {
    format!(
        "[index]\nembedder = \"p/{model}\"\nprice_per_million_tokens = 2\n[providers.p]\nkind = \"{kind}\"\nbase_url = \"{url}\"\n"
    )
}

fn state(home: &TestHome) -> String {
    let root = home.paths().index_root();
    // Beside the index lies the cache of chunks.
    let found = std::fs::read_dir(root).unwrap().flatten().map(|e| e.path().join("meta.json"));
    let file = found.into_iter().find(|file| file.is_file()).unwrap();
    let meta: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    meta["embedder"].as_str().unwrap().to_owned()
}

#[test]
fn a_configured_embedder_makes_the_vectors_and_a_change_rebuilds() {
    let server = Server::start();
    let home = TestHome::new();
    let root = repository(&home, "shop");
    home.config(&config("openai", &server.base_url, "m"));
    let ran = home.cli([std::ffi::OsStr::new("index"), root.as_os_str(), "--json".as_ref()]).ok();
    let notices: Vec<String> = ran
        .json_lines()
        .iter()
        .filter_map(|line| line["event"]["Notice"].as_str().map(ToString::to_string))
        .collect();
    assert!(
        notices.iter().any(|n| n.starts_with(
            "the text of 7 files goes to p/m, but for what it was asked before: about 1 thousand tokens at most, about 0.00 at 2 per million"
        )),
        "{notices:?}"
    );
    assert_eq!(state(&home), format!("remote:p/m:{DIMS}"));
    // No file holds this word; only the server knows what it means.
    assert_eq!(best(&home, &root, "kangaroo"), "src/retry.rs");
    assert!(server.log.lock().unwrap().targets.iter().all(|t| t == "/v1/embeddings"));

    let doctor = home.cli(["doctor"]);
    let line = doctor.stdout.lines().find(|l| l.contains("embedder")).unwrap_or_default();
    assert!(line.contains(&format!("p/m at {}: all text", server.base_url)), "{doctor}");

    // Nothing changed: nothing is sent but the probe.
    let before = server.texts();
    index(&home, &root);
    assert_eq!(server.texts(), before + 1);

    // Another model, another wire: everything again.
    home.config(&config("ollama", &server.base_url, "n"));
    let report = index(&home, &root);
    assert_eq!(report["files_added"], 7, "{report}");
    assert_eq!(state(&home), format!("remote:p/n:{DIMS}"));
    assert_eq!(server.log.lock().unwrap().targets.last().unwrap(), "/api/embed");
    assert_eq!(best(&home, &root, "kangaroo"), "src/retry.rs");

    // And back to the table, which needs nobody.
    home.config("");
    let report = index(&home, &root);
    assert_eq!(report["files_added"], 7, "{report}");
    assert!(state(&home).starts_with("code-static-"), "{}", state(&home));
    let before = server.texts();
    assert_eq!(best(&home, &root, "exponential backoff"), "src/retry.rs");
    assert_eq!(server.texts(), before);
    home.assert_nothing_left();
}

#[test]
fn a_hit_says_what_it_is_and_why_it_is_there() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    index(&home, &root);
    let ask = "computes the pause before the next attempt";
    let reply = home.cli_in(&root, ["search", ask, "--explain", "--json"]).ok().json();
    let hit = &reply["hits"][0];
    assert_eq!(
        (hit["path"].as_str(), hit["symbol"].as_str(), hit["kind"].as_str()),
        (Some("src/retry.rs"), Some("exponential_backoff"), Some("function")),
        "{reply}"
    );
    assert!(hit["start_line"].as_u64() < hit["end_line"].as_u64(), "{hit}");
    assert!(hit["code"].as_str().is_some_and(|c| c.contains("saturating_mul")), "{hit}");
    let why = hit["why"].as_str().unwrap();
    for part in ["sentence query: words ", "meaning +", "function +"] {
        assert!(why.contains(part), "{why}");
    }
    home.assert_nothing_left();
}

#[test]
fn a_build_that_the_embedder_refuses_goes_on_where_it_stopped() {
    let server = Server::start();
    let home = TestHome::new();
    let root = repository(&home, "shop");
    for n in 0..700 {
        let code = format!("pub fn step_{n}() -> u32 {{\n    {n}\n}}\n");
        std::fs::write(root.join(format!("src/step_{n}.rs")), code).unwrap();
    }
    home.config(&config("openai", &server.base_url, "m"));
    server.log.lock().unwrap().refuse_after = Some(600);
    let ran = home.cli([std::ffi::OsStr::new("index"), root.as_os_str()]);
    assert_ne!(ran.code, Some(0), "{ran}");
    assert!(ran.stderr.contains("p: the key has expired"), "{ran}");
    assert!(ran.stderr.contains("what is done is kept"), "{ran}");

    server.log.lock().unwrap().refuse_after = None;
    let before = server.texts();
    let report = index(&home, &root);
    let again = server.texts() - before;
    assert!(report["files"].as_u64() >= Some(700), "{report}");
    // Of some 710 texts at most 600 came back: the rest, and the probe.
    assert!((100..150).contains(&again), "{again} texts were sent again");
    home.assert_nothing_left();
}

#[test]
fn no_text_is_paid_for_twice() {
    let server = Server::start();
    let home = TestHome::new();
    let root = repository(&home, "shop");
    let many = |word: &str| {
        for n in 40..60 {
            let code =
                format!("pub fn step_{n}() -> u32 {{\n    let {word} = {n};\n    {word}\n}}\n");
            std::fs::write(root.join(format!("src/step_{n}.rs")), code).unwrap();
        }
    };
    let sent = || {
        let before = server.texts();
        let report = index(&home, &root);
        // One asks how long a vector is.
        (server.texts() - before - 1, report)
    };
    many("here");
    home.config(&config("openai", &server.base_url, "m"));
    let (all, _) = sent();
    assert!(all >= 27, "{all}");

    // Another branch, and back.
    many("there");
    let (changed, report) = sent();
    assert_eq!((changed, &report["files_changed"]), (20, &20.into()), "{report}");
    many("here");
    let (again, report) = sent();
    assert_eq!((again, &report["files_changed"]), (0, &20.into()), "{report}");
    assert_eq!(best(&home, &root, "kangaroo"), "src/retry.rs");

    // One definition of a file with several.
    let two = "pub fn first_of_two() -> u32 {\n    let one = 1;\n    one\n}\n\npub fn second_of_two() -> u32 {\n    let two = 2;\n    two\n}\n";
    std::fs::write(root.join("src/two.rs"), two).unwrap();
    let (new, _) = sent();
    std::fs::write(root.join("src/two.rs"), two.replace("let two", "let deux")).unwrap();
    let (part, _) = sent();
    assert_eq!((new, part), (2, 1), "texts of two definitions, and of the changed one");

    // A whole new index, and a clone of the repository.
    home.cli([std::ffi::OsStr::new("index"), "rm".as_ref(), root.as_os_str()]).ok();
    let (again, report) = sent();
    assert_eq!((again, report["files"].as_u64()), (0, Some(28)), "{report}");

    // Another model makes other vectors.
    home.config(&config("openai", &server.base_url, "n"));
    assert!(sent().0 >= 27);
    home.assert_nothing_left();
}

#[test]
fn a_question_without_its_vector_is_answered_by_words() {
    let server = Server::start();
    let home = TestHome::new();
    let root = repository(&home, "shop");
    home.config(&config("openai", &server.base_url, "m"));
    index(&home, &root);
    server.log.lock().unwrap().refuse_after = Some(0);
    let reply = home.cli_in(&root, ["search", "exponential backoff", "--json"]).ok().json();
    assert_eq!(reply["hits"][0]["path"], "src/retry.rs");
    assert_eq!(reply["mode"], "Lexical", "{reply}");
    assert!(search(&home, &root, "kangaroo").is_empty());
    home.assert_nothing_left();
}

#[test]
fn an_embedder_that_cannot_embed_is_named_before_anything_starts() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    home.config("[index]\nembedder = \"a/m\"\n[providers.a]\nkind = \"anthropic\"\n");
    let ran = home.cli([std::ffi::OsStr::new("index"), root.as_os_str()]);
    assert!(ran.stderr.contains("a speaks a format without embeddings"), "{ran}");
    home.config(&config("openai", "http://127.0.0.1:9/v1", "m"));
    let ran = home.cli([std::ffi::OsStr::new("index"), root.as_os_str()]);
    assert!(ran.stderr.contains("cannot be reached"), "{ran}");
    home.assert_nothing_left();
}

/// The small model of `semantic-index/embed/tests`: `kangaroo` is the same word as `backoff`.
fn small_model(home: &TestHome) -> std::path::PathBuf {
    let models = std::env::current_dir().unwrap().join("../semantic-index/embed/tests/models");
    let folder = home.folder("a model");
    for name in ["model.onnx", "tokenizer.json"] {
        std::fs::copy(models.join("tiny").join(name), folder.join(name)).unwrap();
    }
    folder
}

#[test]
fn a_local_model_makes_the_vectors_and_a_changed_one_rebuilds() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    let folder = small_model(&home);
    home.config(&format!("[index]\nembedder = \"onnx:{}\"\n", folder.display()));
    let ran = home.cli([std::ffi::OsStr::new("index"), root.as_os_str(), "--json".as_ref()]).ok();
    let notices: Vec<String> = ran
        .json_lines()
        .iter()
        .filter_map(|line| line["event"]["Notice"].as_str().map(ToString::to_string))
        .collect();
    assert!(
        notices.iter().any(|n| n.starts_with("a model on this machine reads 7 files")),
        "{notices:?}"
    );
    let made = state(&home);
    assert!(made.starts_with("onnx:") && made.ends_with(":16"), "{made}");
    assert_eq!(best(&home, &root, "kangaroo"), "src/retry.rs");

    let doctor = home.cli(["doctor"]);
    let line = doctor.stdout.lines().find(|l| l.contains("embedder")).unwrap_or_default();
    let says = format!("the ONNX model in {}, on this machine", folder.display());
    assert!(line.contains(&says), "{doctor}");
    let status = home.cli(["status", "--json"]).ok().json();
    assert!(status.to_string().contains("lapce-ai-tool embed"), "{status}");

    let report = index(&home, &root);
    assert_eq!(report["files_added"], 0, "{report}");
    let tokenizer = folder.join("tokenizer.json");
    let text = std::fs::read_to_string(&tokenizer).unwrap();
    std::fs::write(&tokenizer, text.replace("\"lowercase\": true", "\"lowercase\": false"))
        .unwrap();
    let report = index(&home, &root);
    assert_eq!(report["files_added"], 7, "{report}");
    assert_ne!(state(&home), made);
    assert_eq!(best(&home, &root, "kangaroo"), "src/retry.rs");

    // Gone: the next build says so, a question is answered by words.
    std::fs::remove_file(&tokenizer).unwrap();
    let ran = home.cli([std::ffi::OsStr::new("index"), root.as_os_str()]);
    assert_ne!(ran.code, Some(0), "{ran}");
    assert!(ran.stderr.contains("tokenizer.json is missing"), "{ran}");
    assert_eq!(best(&home, &root, "exponential backoff"), "src/retry.rs");
    let doctor = home.cli(["doctor"]);
    assert!(doctor.stdout.contains("put tokenizer.json there, or correct"), "{doctor}");
    home.assert_nothing_left();
}

#[test]
fn a_folder_that_is_not_absolute_is_named_with_its_line() {
    let home = TestHome::new();
    let root = repository(&home, "shop");
    home.config("[index]\nembedder = \"onnx:models/minilm\"\n");
    let ran = home.cli([std::ffi::OsStr::new("index"), root.as_os_str()]);
    assert!(ran.stderr.contains("\"onnx:models/minilm\" names no absolute folder"), "{ran}");
    home.assert_nothing_left();
}
