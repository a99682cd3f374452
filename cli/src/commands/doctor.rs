//! `lapce-ai doctor`: what works, and the next step for what does not.
//!
//! Every check stands alone: one that fails does not hide the others.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lapce_ai_ipc::launch::{self, ENGINE_PROGRAM};
use lapce_ai_ipc::paths::{self, Paths};
use lapce_ai_ipc::wire::engine::{McpServer, Status};
use lapce_ai_ipc::{EngineClient, env};
use serde::{Deserialize, Serialize};

use super::args::{self, Part};
use super::exit::{Code, Failure, Outcome};
use super::output::{Output, Style, count, kib, printable};
use super::session::{self, VERSION};
use super::status::ago;

/// A program that does not say its version in this time is broken.
const PATIENCE: Duration = Duration::from_secs(10);
/// Less free space than this is worth a word.
const FREE_BYTES: u64 = 1 << 30;
/// `sun_path` has 108 bytes, one of them for the end.
const SOCKET_PATH_MAX: usize = 107;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Works, with less.
    Warn,
    Fail,
}

/// One finding.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    state: State,
    detail: String,
    /// What to do about it, or empty.
    next: String,
}

impl Check {
    fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Ok, detail: detail.into(), next: String::new() }
    }

    fn warn(name: &str, detail: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Warn, detail: detail.into(), next: next.into() }
    }

    fn fail(name: &str, detail: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Fail, detail: detail.into(), next: next.into() }
    }
}

pub async fn run(args: args::Doctor, out: Output) -> Outcome {
    let checks = match args.part {
        Some(Part::Sandbox) => sandbox().await,
        None => everything().await,
    };
    if args.json.json {
        out.json(&checks)?;
    } else {
        for check in &checks {
            print(check, out)?;
        }
    }
    if checks.iter().any(|check| check.state == State::Fail) {
        return Err(Failure::Silent(Code::Failed));
    }
    Ok(())
}

fn print(check: &Check, out: Output) -> Outcome {
    let (style, mark) = match check.state {
        State::Ok => (Style::Good, "ok  "),
        State::Warn => (Style::Warn, "warn"),
        State::Fail => (Style::Bad, "FAIL"),
    };
    let detail = printable(&check.detail);
    out.line(&format!("{} {:<18} {detail}", out.paint(style, mark), check.name))?;
    if !check.next.is_empty() {
        out.line(&format!("{:24}next: {}", "", printable(&check.next)))?;
    }
    Ok(())
}

async fn everything() -> Vec<Check> {
    let paths = Paths::from_env();
    let mut checks = Vec::new();
    for (program, needed_for) in [
        (ENGINE_PROGRAM, "everything"),
        ("lapce-ai-index", "indexing and search"),
        ("lapce-ai-tool", "tools and agents"),
        ("lapce-ai-lsp", "the editor"),
    ] {
        checks.push(program_check(program, needed_for).await);
    }
    checks.push(runtime_folder(&paths));
    for (name, dir) in [("data folder", &paths.data), ("state folder", &paths.state)] {
        checks.push(folder(name, dir));
    }
    match engine(&paths).await {
        Ok((check, status)) => {
            checks.push(check);
            checks.push(model(&status, &paths));
            checks.push(embedder(&status));
            checks.push(index(&status));
            checks.extend(status.mcp.iter().map(mcp));
        }
        Err(check) => checks.push(check),
    }
    checks.extend(sandbox().await);
    checks
}

/// Is the program there, does it run, is it of our release?
async fn program_check(program: &str, needed_for: &str) -> Check {
    let Some(path) = paths::find_program(program) else {
        let next = format!(
            "{needed_for} needs it: install it beside lapce-ai, on PATH, or set {}",
            env::BIN_DIR
        );
        return Check::fail(program, "not found", next);
    };
    let shown = path.display();
    match output(&path, &["--version"]).await {
        Ok(text) => {
            let version = text.split_whitespace().last().unwrap_or_default();
            if version == VERSION {
                Check::ok(program, format!("{version} at {shown}"))
            } else {
                let detail = format!("{shown} is {version:?}, this program is {VERSION}");
                Check::fail(program, detail, "install all programs from one release")
            }
        }
        Err(error) => Check::fail(program, format!("{shown}: {error}"), "install it again"),
    }
}

/// What a program prints, within bounds.
async fn output(program: &Path, args: &[&str]) -> Result<String, String> {
    let run = tokio::process::Command::new(program)
        .args(args)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, run)
        .await
        .map_err(|_| format!("no answer within {PATIENCE:?}"))?
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.lines().last().unwrap_or_default();
        return Err(format!("{}: {last}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn runtime_folder(paths: &Paths) -> Check {
    let name = "runtime folder";
    let dir = paths.runtime.display();
    if let Err(error) = paths::private_dir(&paths.runtime) {
        return Check::fail(name, format!("{dir}: {error}"), "make it a folder of yours alone");
    }
    let length = paths.engine_socket().as_os_str().len();
    if length > SOCKET_PATH_MAX {
        let next = format!("set {} or XDG_RUNTIME_DIR to a shorter path", env::HOME);
        return Check::fail(name, format!("{dir} is too long for a socket"), next);
    }
    if !writable(&paths.runtime) {
        return Check::fail(name, format!("{dir} is not writable"), "check its file system");
    }
    Check::ok(name, format!("{dir}, private"))
}

fn folder(name: &str, dir: &Path) -> Check {
    let shown = dir.display();
    if let Err(error) = paths::private_dir(dir) {
        return Check::fail(name, format!("{shown}: {error}"), "make it a folder of yours");
    }
    if !writable(dir) {
        let next = "check permissions and free space";
        return Check::fail(name, format!("{shown} cannot be written"), next);
    }
    match free_bytes(dir) {
        Some(free) if free < FREE_BYTES => {
            let detail = format!("{shown}, only {} free", kib(free / 1024));
            Check::warn(name, detail, "make room; an index takes about as much as the code")
        }
        Some(free) => Check::ok(name, format!("{shown}, {} free", kib(free / 1024))),
        None => Check::ok(name, shown.to_string()),
    }
}

fn writable(dir: &Path) -> bool {
    let file = dir.join(format!(".doctor-{}", std::process::id()));
    let written = std::fs::write(&file, b"x").is_ok();
    let _ = std::fs::remove_file(&file);
    written
}

fn free_bytes(dir: &Path) -> Option<u64> {
    let path = CString::new(dir.as_os_str().as_bytes()).ok()?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `path` is NUL-terminated and `stat` has room for what statvfs fills in.
    let got = unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) };
    // SAFETY: zeroed is a valid statvfs, and statvfs only ever writes valid ones.
    let stat = unsafe { stat.assume_init() };
    (got == 0).then(|| stat.f_bavail.saturating_mul(stat.f_frsize))
}

async fn engine(paths: &Paths) -> Result<(Check, Status), Check> {
    let name = "engine";
    let client = launch::connect_or_start(paths, session::ident())
        .await
        .map_err(|error| Check::fail(name, error.to_string(), error.hint()))?;
    let status = EngineClient(client).status().await.map_err(|error| {
        Check::fail(name, error.to_string(), "run `lapce-ai stop`, then try again")
    })?;
    let memory = status.processes.first().map(|process| process.memory).unwrap_or_default();
    let detail = format!(
        "{}, process {}, {} resident; log {}",
        status.version,
        status.pid,
        kib(memory.rss_kib),
        status.log_file
    );
    Ok((Check::ok(name, detail), status))
}

fn model(status: &Status, paths: &Paths) -> Check {
    if status.chat_model.is_empty() {
        let next = if status.model_hint.is_empty() {
            format!("name one in {}", paths.config_file().display())
        } else {
            status.model_hint.clone()
        };
        return Check::warn("model", "none; ask shows passages only", next);
    }
    if status.model_hint.is_empty() {
        Check::ok("model", status.chat_model.clone())
    } else {
        Check::warn("model", status.chat_model.clone(), status.model_hint.clone())
    }
}

fn embedder(status: &Status) -> Check {
    let name = "embedder";
    if status.embedder.is_empty() {
        return Check::ok(name, "the built-in table, offline");
    }
    if let Some(folder) = status.embedder.strip_prefix("onnx:") {
        return local_embedder(name, Path::new(folder));
    }
    Check::ok(name, format!("{}: all text that is indexed goes there", status.embedder))
}

/// A model in a folder of this machine. It is not started here: a build or a question does.
fn local_embedder(name: &'static str, folder: &Path) -> Check {
    let detail = format!("the ONNX model in {}, on this machine", folder.display());
    let has = |file: &str| folder.join(file).is_file();
    let missing = if !has("model.onnx") && !has("onnx/model.onnx") {
        Some("model.onnx")
    } else if !has("tokenizer.json") {
        Some("tokenizer.json")
    } else {
        None
    };
    if let Some(file) = missing {
        let next = format!("put {file} there, or correct [index] embedder in config.toml");
        return Check::warn(name, format!("{detail}: {file} is missing"), next);
    }
    if paths::find_program("lapce-ai-embed").is_none() {
        let next = "build it with `cargo xtask build` and keep it beside lapce-ai-engine";
        return Check::warn(name, format!("{detail}: the program lapce-ai-embed is missing"), next);
    }
    Check::ok(name, detail)
}

fn index(status: &Status) -> Check {
    let name = "index";
    let here = session::workspace(None).unwrap_or_default();
    let here = PathBuf::from(&here).canonicalize().unwrap_or_else(|_| PathBuf::from(&here));
    match status.indexes.iter().find(|index| Path::new(&index.root) == here) {
        Some(index) if index.building => Check::ok(name, format!("{} is being built", index.root)),
        Some(index) => {
            let (files, chunks) = (count(index.files, "file"), count(index.chunks, "chunk"));
            let built = ago(index.built_at);
            Check::ok(name, format!("{}: {files}, {chunks}, built {built}", index.root))
        }
        None => {
            let detail = format!("{} is not indexed", here.display());
            Check::warn(name, detail, "run `lapce-ai index` there")
        }
    }
}

/// A server of the user's configuration, as far as it is known without starting it.
fn mcp(server: &McpServer) -> Check {
    let name = format!("mcp {}", server.name);
    let detail = format!("{}; {}; {}", server.state, server.starts, server.network);
    if server.state == "failed" {
        let next = format!("{}; see `lapce-ai mcp test {}`", server.problem, server.name);
        return Check::warn(&name, detail, next);
    }
    Check::ok(&name, detail)
}

/// A layer of the sandbox, as `lapce-ai-tool --doctor` reports it.
#[derive(Debug, Deserialize)]
struct Layer {
    name: String,
    active: bool,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    next: String,
}

async fn sandbox() -> Vec<Check> {
    let name = "sandbox";
    let Some(program) = paths::find_program("lapce-ai-tool") else {
        return vec![Check::fail(
            name,
            "lapce-ai-tool was not found",
            "install it beside lapce-ai",
        )];
    };
    let text = match output(&program, &["--doctor"]).await {
        Ok(text) => text,
        Err(error) => {
            return vec![Check::fail(name, error, "run it by hand: lapce-ai-tool --doctor")];
        }
    };
    match serde_json::from_str::<Vec<Layer>>(&text) {
        Ok(layers) if layers.is_empty() => {
            vec![Check::fail(name, "no layer works here", "tools will not run on this system")]
        }
        Ok(layers) => layers
            .into_iter()
            .map(|layer| {
                let name = format!("sandbox {}", layer.name);
                if layer.active {
                    Check::ok(&name, layer.detail)
                } else {
                    Check::warn(&name, layer.detail, layer.next)
                }
            })
            .collect(),
        Err(error) => {
            vec![Check::fail(name, format!("unreadable report: {error}"), "install it again")]
        }
    }
}
