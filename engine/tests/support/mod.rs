//! What the engine's tests share: a scripted model server (for tests only) and an engine
//! in this process, spoken to over a real ring.

#![expect(dead_code, reason = "each test program uses a part of it")]

pub mod scripted;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use lapce_ai_engine::dispatch::Dispatcher;
use lapce_ai_engine::state::{Engine, Options};
use lapce_ai_ipc::paths::Paths;
use lapce_ai_ipc::wire::engine::{Answer, Decision, Event};
use lapce_ai_ipc::{Client, EngineClient, EngineProtocol, Ident, serve};
use lapce_ai_tests::deadline::Deadline;
use tokio::net::UnixStream;

/// An engine, a client of it, and the folders of both.
pub struct Fixture {
    pub client: EngineClient,
    pub engine: Arc<Engine>,
    pub root: PathBuf,
    _home: tempfile::TempDir,
    _workspace: tempfile::TempDir,
    _deadline: Deadline,
}

impl Fixture {
    /// `config` is the text of `config.toml`.
    pub async fn new(config: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let workspace = tempfile::tempdir().unwrap();
        let dir = |name: &str| home.path().join(name);
        let paths = Paths {
            runtime: dir("run"),
            state: dir("state"),
            data: dir("data"),
            config: dir("config"),
        };
        std::fs::create_dir_all(&paths.state).unwrap();
        std::fs::create_dir_all(&paths.config).unwrap();
        std::fs::write(paths.config_file(), config).unwrap();
        let engine = Arc::new(Engine::new(paths, &Options::default(), dir("log")));
        let (ours, theirs) = UnixStream::pair().unwrap();
        let handler = Arc::new(Dispatcher { engine: engine.clone() });
        tokio::spawn(async move {
            let _ = serve::<EngineProtocol, _>(theirs, Ident::new("engine", "0"), handler).await;
        });
        let client = Client::<EngineProtocol>::over(ours, Ident::new("test", "0")).await.unwrap();
        let root = workspace.path().canonicalize().unwrap();
        Self {
            client: client.into(),
            engine,
            root,
            _home: home,
            _workspace: workspace,
            _deadline: Deadline::new(),
        }
    }

    /// Another client of the same engine.
    pub async fn client_named(&self, name: &str) -> EngineClient {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let handler = Arc::new(Dispatcher { engine: self.engine.clone() });
        tokio::spawn(async move {
            let _ = serve::<EngineProtocol, _>(theirs, Ident::new("engine", "0"), handler).await;
        });
        Client::<EngineProtocol>::over(ours, Ident::new(name, "0")).await.unwrap().into()
    }

    pub fn root(&self) -> String {
        self.root.display().to_string()
    }

    pub fn write(&self, path: &str, text: &str) {
        let file = self.root.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap()
    }

    /// Makes the workspace a git repository with a first commit.
    pub fn git(&self) {
        for args in [
            &["init", "-q"][..],
            &["add", "-A"],
            &[
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@example.org",
                "commit",
                "-q",
                "--allow-empty",
                "-m",
                "first",
            ],
        ] {
            let done = Command::new("git").args(args).current_dir(&self.root).status().unwrap();
            assert!(done.success(), "git {args:?}");
        }
    }

    /// The entries of the only journal.
    pub fn journal(&self) -> Vec<serde_json::Value> {
        let dir = self.engine.paths.state.join("runs");
        let files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        let text = std::fs::read_to_string(&files[0]).unwrap();
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    pub async fn answer(&self, approval_id: &str, decision: Decision, feedback: &str) {
        self.client
            .answer(Answer { approval_id: approval_id.into(), decision, feedback: feedback.into() })
            .await
            .unwrap();
    }
}

/// Fails when the helper that runs tools was not built: these tests run real tools.
pub fn need_tool_helper() {
    let found = lapce_ai_ipc::paths::find_program("lapce-ai-tool");
    assert!(
        found.is_some(),
        "lapce-ai-tool was not found: `cargo build -p lapce-ai-tools`, and set LAPCE_AI_BIN_DIR to its folder (cargo xtask test does)"
    );
}

/// Fails a test that hangs instead of letting it run for ever.
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(2), work).await.expect("the test hangs")
}

/// All words of some events.
pub fn text_of(events: &[Event]) -> String {
    events
        .iter()
        .filter_map(|e| if let Event::Text(t) = e { Some(t.as_str()) } else { None })
        .collect()
}

pub fn notices(events: &[Event]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|e| if let Event::Notice(t) = e { Some(t.as_str()) } else { None })
        .collect()
}

/// A configuration with one model at `base_url`.
pub fn config(base_url: &str, model_lines: &str) -> String {
    format!(
        "[models]\nchat = \"test/m\"\ndetect_local = false\n\n[providers.test]\nkind = \"openai\"\nbase_url = \"{base_url}\"\n\n[providers.test.models.m]\n{model_lines}\n"
    )
}

pub fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}
