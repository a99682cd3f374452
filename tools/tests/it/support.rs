//! A workspace in a temporary folder, and calls into it through the real helper.

use std::path::{Path, PathBuf};

use lapce_ai_tools::call::ToolCall;
use lapce_ai_tools::host::{Invocation, Outcome, ToolHost};
use lapce_ai_tools::workspace::Workspace;
use serde_json::Value;

use deadline::Deadline;

// Shared with the tests of other packages; none of them is a dependency of these.
#[path = "../../../tests/src/deadline.rs"]
mod deadline;

/// The helper as it is released, where CI has built it; else the one that cargo made for these
/// tests, which loads libraries.
pub fn helper() -> PathBuf {
    let given = std::env::var_os("LAPCE_AI_BIN_DIR").map(PathBuf::from);
    let released = given.map(|dir| dir.join("lapce-ai-tool")).filter(|p| p.is_file());
    released.unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_lapce-ai-tool")))
}

/// The program that knows the grammars; CI builds it before these tests run.
pub fn outliner() -> PathBuf {
    let given = std::env::var_os("LAPCE_AI_BIN_DIR").map(PathBuf::from);
    let folders = given.into_iter().chain(helper().parent().map(Path::to_path_buf));
    let program = folders.map(|dir| dir.join("lapce-ai-index")).find(|p| p.is_file());
    program.expect(
        "lapce-ai-index was not found: build it, and set LAPCE_AI_BIN_DIR to its folder (cargo xtask test does)",
    )
}

pub struct Bench {
    pub dir: tempfile::TempDir,
    pub host: ToolHost,
    pub workspace: Workspace,
    _deadline: Deadline,
}

impl Bench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("ws");
        std::fs::create_dir(&root).unwrap();
        let workspace = Workspace::new(&root).unwrap();
        Self { host: ToolHost::new(helper()), workspace, dir, _deadline: Deadline::new() }
    }

    /// The same workspace without some layers of the sandbox.
    pub fn without(&self, layers: &[&str]) -> Bench {
        let workspace =
            layers.iter().fold(self.workspace.clone(), |w, layer| w.without_layer(layer));
        Bench {
            dir: tempfile::tempdir().unwrap(),
            host: ToolHost::new(helper()),
            workspace,
            _deadline: Deadline::new(),
        }
    }

    pub fn at(root: &Path) -> Self {
        let workspace = Workspace::new(root).unwrap();
        Self {
            dir: tempfile::tempdir().unwrap(),
            host: ToolHost::new(helper()),
            workspace,
            _deadline: Deadline::new(),
        }
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.workspace.root().join(relative)
    }

    pub fn write(&self, relative: &str, content: impl AsRef<[u8]>) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn read(&self, relative: &str) -> String {
        std::fs::read_to_string(self.path(relative)).unwrap()
    }

    pub fn invocation(&self, name: &str, params: Value) -> Invocation {
        let Value::Object(params) = params else { panic!("parameters are an object") };
        let call = ToolCall { id: "t".into(), name: name.into(), params };
        Invocation::new(call, self.workspace.clone())
    }

    pub async fn call(&self, name: &str, params: Value) -> Outcome {
        self.host.run(self.invocation(name, params)).await
    }

    /// Runs a command and returns the outcome.
    pub async fn sh(&self, command: &str) -> Outcome {
        self.call("execute_command", serde_json::json!({"command": command})).await
    }
}

pub fn alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
