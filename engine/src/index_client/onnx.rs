//! A local ONNX model: one `lapce-ai-embed` in the sandbox of the tools.
//!
//! It is started by the first text, sees the model's folder and no network, has bounded memory,
//! answers one batch at a time, and ends when nobody has asked for a while, when it is slow, or
//! with the engine. Used by `embedding`; the protocol is `semantic-index/embed/src/serve.rs`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use lapce_ai_ipc::paths;
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_tools::host::ToolHost;
use lapce_ai_tools::limits::Limits;
use lapce_ai_tools::sandbox::network::Network;
use lapce_ai_tools::server::{Access, Process, Serve, Served, serve};
use lapce_ai_tools::workspace::Workspace;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::{limits, state};

const EMBED_PROGRAM: &str = "lapce-ai-embed";

/// The model in one folder.
pub(super) struct Onnx {
    folder: PathBuf,
    running: Mutex<Option<Running>>,
    /// Of the process that stands before the model; 0 while there is none.
    pid: AtomicU32,
    patience: Patience,
}

/// How long it may take to load and to answer, and how long it stays without being asked.
#[derive(Debug, Clone, Copy)]
struct Patience {
    load: Duration,
    batch: Duration,
    idle: Duration,
}

struct Running {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    process: Process,
    model: Hello,
    files: Files,
    used: Instant,
}

/// What the model is.
#[derive(Debug, Clone, Deserialize)]
struct Hello {
    id: String,
    dims: usize,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Reply {
    Hello(Hello),
    Vectors { vectors: Vec<Vec<i8>> },
    Error { error: String },
}

/// Size and time of the files that matter: another model is loaded anew.
type Files = Vec<Option<(u64, SystemTime)>>;

impl Onnx {
    pub(super) fn new(folder: PathBuf) -> Arc<Self> {
        let patience = Patience {
            load: limits::ONNX_LOAD,
            batch: limits::ONNX_BATCH,
            idle: limits::ONNX_IDLE,
        };
        Self::with(folder, patience)
    }

    fn with(folder: PathBuf, patience: Patience) -> Arc<Self> {
        Arc::new(Self { folder, running: Mutex::default(), pid: AtomicU32::new(0), patience })
    }

    pub(super) fn pid(&self) -> Option<u32> {
        Some(self.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    /// How an index names the model, and the length of its vectors.
    pub(super) async fn describe(self: &Arc<Self>) -> Result<(String, usize), WireError> {
        let ours = self.clone();
        self.apart(async move {
            let mut running = ours.running.lock().await;
            let model = ours.started(&mut running).await?.model.clone();
            Ok((format!("{}:{}", model.id, model.dims), model.dims))
        })
        .await
    }

    /// The vectors of `texts`, in their order.
    pub(super) async fn vectors(
        self: &Arc<Self>,
        texts: &[String],
        question: bool,
    ) -> Result<Vec<Vec<i8>>, WireError> {
        let (ours, count) = (self.clone(), texts.len());
        let mut line = json!({"texts": texts, "question": question}).to_string();
        line.push('\n');
        self.apart(async move {
            let mut slot = ours.running.lock().await;
            let running = ours.started(&mut slot).await?;
            let dims = running.model.dims;
            let asked = tokio::time::timeout(ours.patience.batch, running.ask(&line)).await;
            running.used = Instant::now();
            match asked {
                Ok(Ok(Reply::Vectors { vectors }))
                    if vectors.len() == count && vectors.iter().all(|v| v.len() == dims) =>
                {
                    Ok(vectors)
                }
                // It is whole; this batch is not.
                Ok(Ok(Reply::Error { error })) => Err(ours.unusable(&error)),
                Ok(Ok(_)) => Err(ours.give_up(&mut slot, "it answered something else").await),
                Ok(Err(error)) => Err(ours.give_up(&mut slot, &error.to_string()).await),
                Err(_) => {
                    let why = format!("it took longer than {:?} for a batch", ours.patience.batch);
                    Err(ours.give_up(&mut slot, &why).await)
                }
            }
        })
        .await
    }

    /// Runs `work` to its end even when nobody waits for it any more: a question that has been
    /// given up must not leave half an answer in the pipe.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, WireError>> + Send + 'static,
    ) -> Result<T, WireError> {
        tokio::spawn(work).await.unwrap_or_else(|e| Err(self.unusable(&e.to_string())))
    }

    /// The process, started unless it runs with the files as they are now.
    async fn started<'s>(
        self: &Arc<Self>,
        slot: &'s mut Option<Running>,
    ) -> Result<&'s mut Running, WireError> {
        let files = files(&self.folder);
        if slot.as_ref().is_some_and(|running| running.files != files) {
            self.stop(slot).await;
        }
        if slot.is_none() {
            let running = self.start(files).await?;
            self.pid.store(running.process.pid(), Ordering::Relaxed);
            tokio::spawn(end_when_idle(Arc::downgrade(self)));
            *slot = Some(running);
        }
        slot.as_mut().ok_or_else(|| self.unusable("it ended"))
    }

    async fn start(&self, files: Files) -> Result<Running, WireError> {
        let program =
            paths::find_program(EMBED_PROGRAM).ok_or_else(|| state::missing(EMBED_PROGRAM))?;
        let helper = paths::find_program(state::TOOL_PROGRAM)
            .ok_or_else(|| state::missing(state::TOOL_PROGRAM))?;
        let program = program.canonicalize().map_err(|e| self.unusable(&e.to_string()))?;
        let workspace = Workspace::new(&self.folder).map_err(|e| self.unusable(&e.to_string()))?;
        let read: Vec<PathBuf> = [Some(workspace.root()), program.parent()]
            .into_iter()
            .flatten()
            .map(Into::into)
            .collect();
        let served = serve(
            &ToolHost::new(helper),
            &workspace,
            &Serve {
                command: &program.to_string_lossy(),
                args: &[workspace.root().to_string_lossy().into_owned()],
                env: &[],
                read: &read,
                write: &[],
                access: Access::None,
                host_network: false,
                network: Network::default(),
                limits: Limits {
                    memory_bytes: limits::ONNX_MEMORY_BYTES,
                    processes: limits::ONNX_PROCESSES,
                    file_bytes: 0,
                    ..Limits::SERVER
                },
            },
        )
        .await
        .map_err(|why| self.unusable(&why))?;
        let Served { stdin, stdout, mut process, layers, .. } = served;
        let mut stdout = BufReader::new(stdout);
        let hello = tokio::time::timeout(self.patience.load, line(&mut stdout)).await;
        let model = match hello {
            Ok(Ok(Reply::Hello(model))) => model,
            // Anything else is its end; what it said says why.
            other => {
                drop((stdin, stdout));
                let how = process.end().await;
                return Err(self.unusable(&match other {
                    Ok(Ok(Reply::Error { error })) => error,
                    Err(_) => format!("it took longer than {:?} to load", self.patience.load),
                    _ => how,
                }));
            }
        };
        tracing::info!(folder = %self.folder.display(), model = model.id, ?layers, "local embedder started");
        Ok(Running { stdin, stdout, process, model, files, used: Instant::now() })
    }

    /// Ends a process that cannot be trusted to be in step any more.
    async fn give_up(&self, slot: &mut Option<Running>, why: &str) -> WireError {
        let how = self.stop(slot).await;
        self.unusable(&format!("{why} ({how})"))
    }

    async fn stop(&self, slot: &mut Option<Running>) -> String {
        self.pid.store(0, Ordering::Relaxed);
        let Some(Running { stdin, stdout, mut process, .. }) = slot.take() else {
            return String::new();
        };
        drop((stdin, stdout));
        process.end().await
    }

    fn unusable(&self, why: &str) -> WireError {
        let what = format!("the model in {} cannot be used: {why}", self.folder.display());
        WireError::new(ErrorKind::Invalid, what).hint(
            "[index] embedder in config.toml names its folder; model.onnx and tokenizer.json must lie there (docs/index.md)",
        )
    }
}

impl Running {
    async fn ask(&mut self, request: &str) -> std::io::Result<Reply> {
        self.stdin.write_all(request.as_bytes()).await?;
        self.stdin.flush().await?;
        line(&mut self.stdout).await
    }
}

async fn line(from: &mut BufReader<ChildStdout>) -> std::io::Result<Reply> {
    let mut text = String::new();
    from.take(limits::ONNX_LINE_BYTES).read_line(&mut text).await?;
    if text.is_empty() {
        return Err(std::io::Error::other("it ended"));
    }
    serde_json::from_str(&text).map_err(std::io::Error::other)
}

fn files(folder: &Path) -> Files {
    ["model.onnx", "onnx/model.onnx", "tokenizer.json", "1_Pooling/config.json"]
        .iter()
        .map(|name| {
            let meta = folder.join(name).metadata().ok()?;
            Some((meta.len(), meta.modified().ok()?))
        })
        .collect()
}

/// One such task for each process.
async fn end_when_idle(model: Weak<Onnx>) {
    let Some(mut rest) = model.upgrade().map(|model| model.patience.idle) else { return };
    loop {
        tokio::time::sleep(rest).await;
        let Some(model) = model.upgrade() else { return };
        let mut slot = model.running.lock().await;
        let Some(idle) = slot.as_ref().map(|running| running.used.elapsed()) else { return };
        if idle >= model.patience.idle {
            let how = model.stop(&mut slot).await;
            tracing::info!(%how, "local embedder ended: idle");
            return;
        }
        rest = model.patience.idle.saturating_sub(idle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENT: Patience =
        Patience { load: limits::ONNX_LOAD, batch: limits::ONNX_BATCH, idle: limits::ONNX_IDLE };

    fn model(name: &str, patience: Patience) -> Arc<Onnx> {
        let models = std::env::current_dir().unwrap().join("../semantic-index/embed/tests/models");
        Onnx::with(models.join(name).canonicalize().unwrap(), patience)
    }

    fn texts(some: &[&str]) -> Vec<String> {
        some.iter().map(|text| (*text).to_owned()).collect()
    }

    async fn gone(pid: u32) {
        while crate::process::memory(pid).rss_kib > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_model_answers_in_a_process_that_ends_when_it_is_idle() {
        let model = model("tiny", Patience { idle: Duration::from_secs(2), ..PATIENT });
        assert_eq!(model.pid(), None, "nothing runs before it is asked");
        let (name, dims) = model.describe().await.unwrap();
        assert!(name.starts_with("onnx:") && name.ends_with(":16"), "{name}");
        assert_eq!(dims, 16);
        let pid = model.pid().unwrap();
        let made = model.vectors(&texts(&["backoff", "kangaroo", "config"]), false).await.unwrap();
        assert_eq!(made[0], made[1]);
        assert_ne!(made[0], made[2]);
        while model.pid().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gone(pid).await;
        // And comes back.
        assert_eq!(model.vectors(&texts(&["backoff"]), true).await.unwrap()[0], made[0]);
    }

    #[tokio::test]
    async fn an_answer_that_nobody_waits_for_leaves_the_pipe_in_step() {
        let model = model("tiny", PATIENT);
        model.describe().await.unwrap();
        let many = vec!["backoff retry config ".repeat(100); 32];
        let given_up = tokio::time::timeout(Duration::ZERO, model.vectors(&many, false)).await;
        assert!(given_up.is_err());
        let config = model.vectors(&texts(&["config"]), false).await.unwrap();
        assert_eq!(config.len(), 1);
        assert_eq!(config, model.vectors(&texts(&["config"]), false).await.unwrap());
    }

    #[tokio::test]
    async fn a_model_that_never_ends_is_ended() {
        let model = model("endless", Patience { load: Duration::from_millis(700), ..PATIENT });
        let error = model.describe().await.unwrap_err();
        assert!(error.message.contains("it took longer than 700ms to load"), "{error}");
        assert_eq!((model.pid(), error.kind), (None, ErrorKind::Invalid));
    }

    #[tokio::test]
    async fn a_model_that_wants_all_memory_ends_alone() {
        let error = model("bomb", PATIENT).describe().await.unwrap_err();
        assert!(
            error.message.contains("semantic-index/embed/tests/models/bomb cannot be used"),
            "{error}"
        );
        assert!(error.message.contains("memory"), "{error}");
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_model_is_said() {
        let error = model("images", PATIENT).describe().await.unwrap_err();
        assert!(error.message.contains("it wants an input \"pixels\""), "{error}");
        assert!(error.hint.contains("tokenizer.json"), "{}", error.hint);
        let nowhere = Onnx::new("/nowhere/model".into()).describe().await.unwrap_err();
        assert!(nowhere.message.contains("No such file"), "{nowhere}");
    }

    #[tokio::test]
    async fn another_model_in_the_folder_is_loaded_anew() {
        let dir = tempfile::tempdir().unwrap();
        let tiny =
            std::env::current_dir().unwrap().join("../semantic-index/embed/tests/models/tiny");
        for name in ["model.onnx", "tokenizer.json"] {
            std::fs::copy(tiny.join(name), dir.path().join(name)).unwrap();
        }
        let model = Onnx::with(dir.path().canonicalize().unwrap(), PATIENT);
        let (first, _) = model.describe().await.unwrap();
        let pid = model.pid();
        assert_eq!(model.describe().await.unwrap().0, first);
        assert_eq!(model.pid(), pid, "the same process");
        std::fs::create_dir(dir.path().join("1_Pooling")).unwrap();
        let pooling = dir.path().join("1_Pooling/config.json");
        std::fs::write(pooling, r#"{"pooling_mode_cls_token": true}"#).unwrap();
        assert_ne!(model.describe().await.unwrap().0, first);
        assert_ne!(model.pid(), pid);
    }
}
