//! The loop: one message in, at most one task started.
//!
//! Notifications are handled at once and in order, requests as tasks of their own on this
//! thread. Every request is answered exactly once, also when its handler panics or is
//! cancelled: the [`Responder`] sees to it. The loop ends with stdin, with stdout, with the
//! editor's process, or with `exit`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::rc::Rc;

use lapce_ai_ipc::Transport;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::client::Abilities;
use super::framing::Frame;
use super::handlers::{actions, completion, rename, search};
use super::index::Indexer;
use super::limits;
use super::parent::Watch;
use super::rpc::{self, Answer, Failure, Id, Incoming};
use super::settings::Settings;
use super::shell::Shell;
use super::text::Encoding;
use super::transport::Outbox;
use super::types::{Cancel, DidChange, DidOpen, Initialize, OfDocument};
use super::unsaved;
use super::uri;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Running,
    ShutDown,
}

/// Why the loop ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// `exit` after `shutdown`, or the editor went away.
    Clean,
    /// `exit` without `shutdown`.
    Unclean,
}

struct Server {
    shell: Rc<Shell>,
    out: Outbox,
    phase: Phase,
    in_flight: Rc<RefCell<HashMap<Id, AbortHandle>>>,
    /// The process that `initialize` names.
    process: Watch,
}

/// Serves until the editor is gone.
pub(super) async fn serve(
    mut frames: mpsc::Receiver<Frame>,
    out: Outbox,
    transport: Transport,
) -> End {
    let mut server = Server {
        shell: Shell::new(out.clone(), transport),
        out: out.clone(),
        phase: Phase::Waiting,
        in_flight: Rc::default(),
        process: Watch::nobody(),
    };
    let link = server.shell.link.clone();
    tokio::task::spawn_local(async move { link.watch().await });
    // SAFETY: getppid has no preconditions and cannot fail.
    let parent_id = unsafe { libc::getppid() };
    let parent = Watch::start(u32::try_from(parent_id).unwrap_or(0));
    loop {
        let frame = tokio::select! {
            frame = async { out.room().await; frames.recv().await } => frame,
            () = parent.ended() => return End::Clean,
            () = server.process.ended() => return End::Clean,
            () = out.broken() => return End::Clean,
        };
        match frame {
            Some(Frame::Message(body)) => {
                if let Some(end) = server.message(&body) {
                    return end;
                }
            }
            Some(Frame::TooLarge(bytes)) => {
                let text = format!(
                    "a message of {bytes} bytes was skipped; the limit is {}",
                    limits::MESSAGE
                );
                server.invalid(None, rpc::INVALID_REQUEST, text);
            }
            Some(Frame::BadHeader) => {
                server.invalid(
                    None,
                    rpc::PARSE_ERROR,
                    "a header without Content-Length was skipped".into(),
                );
            }
            Some(Frame::Eof) | None => return End::Clean,
        }
    }
}

impl Server {
    /// Takes a message in; says when it was the last.
    fn message(&mut self, body: &[u8]) -> Option<End> {
        match rpc::parse(body) {
            Incoming::Request { id, method, params } => {
                self.request(id, &method, params.as_deref());
            }
            Incoming::Notification { method, params } => {
                if method == "exit" {
                    let clean = self.phase == Phase::ShutDown;
                    return Some(if clean { End::Clean } else { End::Unclean });
                }
                // A panic here must not take the editor's session down.
                let handled = std::panic::catch_unwind(AssertUnwindSafe(|| {
                    self.notification(&method, params.as_deref())
                }));
                match handled {
                    Ok(Ok(())) => {}
                    Ok(Err(failure)) => {
                        self.shell.editor.log(&format!("{method}: {}", failure.message));
                    }
                    Err(_) => self.shell.editor.log(&format!("{method}: internal error")),
                }
            }
            Incoming::Response { id, ok } => self.shell.editor.answered(&id, ok),
            Incoming::Invalid { id, code, message } => self.invalid(id.as_ref(), code, message),
        }
        None
    }

    fn invalid(&self, id: Option<&Id>, code: i32, message: String) {
        self.out.push(rpc::response(id, &Err(Failure { code, message })));
    }

    fn request(&mut self, id: Id, method: &str, params: Option<&RawValue>) {
        match (method, self.phase) {
            ("initialize", Phase::Waiting) => {
                let initialize = match rpc::params::<Initialize>(params) {
                    Ok(initialize) => initialize,
                    Err(failure) => {
                        return self.out.push(rpc::response(Some(&id), &Err(failure)));
                    }
                };
                self.phase = Phase::Running;
                // The editor's own process; a wrapper may stand between it and us.
                if let Some(pid) = initialize.process_id.and_then(|pid| u32::try_from(pid).ok()) {
                    self.process = Watch::start(pid);
                }
                let result = self.initialize(&initialize);
                self.out.push(rpc::response(Some(&id), &Ok(result)));
            }
            ("initialize", _) => {
                self.invalid(Some(&id), rpc::INVALID_REQUEST, "initialized already".into());
            }
            (_, Phase::Waiting) => {
                self.invalid(Some(&id), rpc::NOT_INITIALIZED, "`initialize` comes first".into());
            }
            ("shutdown", _) => {
                self.phase = Phase::ShutDown;
                self.out.push(rpc::response(Some(&id), &Ok(Value::Null)));
            }
            (_, Phase::ShutDown) => {
                self.invalid(Some(&id), rpc::INVALID_REQUEST, "shut down already".into());
            }
            (_, Phase::Running) => self.dispatch(id, method, params),
        }
    }

    /// Starts the handler of a request.
    fn dispatch(&self, id: Id, method: &str, params: Option<&RawValue>) {
        match method {
            "workspace/symbol" => self.spawn(id, params, search::symbols),
            "textDocument/references" => self.spawn(id, params, search::references),
            "textDocument/prepareRename" => self.spawn(id, params, rename::prepare),
            "textDocument/rename" => self.spawn(id, params, rename::rename),
            "textDocument/codeAction" => self.spawn(id, params, actions::list),
            "codeAction/resolve" => self.spawn(id, params, actions::resolve),
            "workspace/executeCommand" => self.spawn(id, params, actions::execute),
            "textDocument/inlineCompletion" => self.spawn(id, params, completion::inline),
            _ => {
                self.invalid(
                    Some(&id),
                    rpc::METHOD_NOT_FOUND,
                    format!("{method} is not supported"),
                );
            }
        }
    }

    fn spawn<P, F>(&self, id: Id, params: Option<&RawValue>, handler: fn(Rc<Shell>, P) -> F)
    where
        P: for<'de> Deserialize<'de>,
        F: Future<Output = Answer> + 'static,
    {
        let params = match rpc::params::<P>(params) {
            Ok(params) => params,
            Err(failure) => return self.invalid(Some(&id), failure.code, failure.message),
        };
        let mut in_flight = self.in_flight.borrow_mut();
        if in_flight.len() >= limits::IN_FLIGHT {
            let text = format!("{} requests are in work already", limits::IN_FLIGHT);
            return self.invalid(Some(&id), rpc::REQUEST_FAILED, text);
        }
        if in_flight.contains_key(&id) {
            return self.invalid(Some(&id), rpc::INVALID_REQUEST, "this id is in use".into());
        }
        let responder = Responder {
            id: id.clone(),
            out: self.out.clone(),
            in_flight: self.in_flight.clone(),
            done: false,
        };
        let work = handler(self.shell.clone(), params);
        // The task runs only after this function: its entry is there before it is removed.
        let task = tokio::task::spawn_local(async move {
            let mut responder = responder;
            let answer = work.await;
            responder.send(&answer);
        });
        in_flight.insert(id, task.abort_handle());
    }

    fn initialize(&self, initialize: &Initialize) -> Value {
        let shell = &self.shell;
        let can = Abilities::read(initialize);
        let encoding = if can.utf8 { Encoding::Utf8 } else { Encoding::Utf16 };
        let settings = Settings::read(initialize.initialization_options.as_ref());
        *shell.roots.borrow_mut() = roots(initialize);
        shell.documents.borrow_mut().encoding = encoding;
        let result = capabilities(&settings, &can, encoding);
        *shell.settings.borrow_mut() = settings;
        *shell.editor.abilities.borrow_mut() = can;
        result
    }

    fn notification(&self, method: &str, params: Option<&RawValue>) -> Result<(), Failure> {
        let shell = &self.shell;
        if self.phase != Phase::Running {
            return Ok(());
        }
        match method {
            "initialized" => {
                unsaved::start(shell);
                Indexer::start(shell);
            }
            "textDocument/didOpen" => {
                let DidOpen { text_document } = rpc::params(params)?;
                shell.documents.borrow_mut().open(text_document);
            }
            "textDocument/didChange" => {
                let DidChange { text_document, content_changes } = rpc::params(params)?;
                let mut documents = shell.documents.borrow_mut();
                documents.change(&text_document.uri, text_document.version, content_changes);
                shell.unsaved.touched(&text_document.uri);
            }
            "textDocument/didClose" => {
                let OfDocument { text_document } = rpc::params(params)?;
                shell.documents.borrow_mut().close(&text_document.uri);
            }
            "textDocument/didSave" => {
                let OfDocument { text_document } = rpc::params(params)?;
                shell.documents.borrow_mut().saved(&text_document.uri);
                shell.unsaved.touched(&text_document.uri);
                shell.indexer.saved();
            }
            "$/cancelRequest" => {
                let Cancel { id } = rpc::params(params)?;
                // The task's responder answers as it is dropped.
                let task = self.in_flight.borrow().get(&id).cloned();
                if let Some(task) = task {
                    task.abort();
                }
            }
            // `$/setTrace` and whatever else there is.
            _ => {}
        }
        Ok(())
    }
}

/// Answers a request exactly once.
struct Responder {
    id: Id,
    out: Outbox,
    in_flight: Rc<RefCell<HashMap<Id, AbortHandle>>>,
    done: bool,
}

impl Responder {
    fn send(&mut self, answer: &Answer) {
        self.done = true;
        self.in_flight.borrow_mut().remove(&self.id);
        self.out.push(rpc::response(Some(&self.id), answer));
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let failure = if std::thread::panicking() {
            Failure::new(rpc::INTERNAL_ERROR, "internal error in lapce-ai-lsp")
        } else {
            Failure::new(rpc::REQUEST_CANCELLED, "cancelled")
        };
        self.send(&Err(failure));
    }
}

/// The workspace folders, as the index knows them: canonical, and only those there are.
fn roots(initialize: &Initialize) -> Vec<PathBuf> {
    let folders = initialize.workspace_folders.iter().flatten().map(|folder| folder.uri.as_str());
    let mut roots: Vec<PathBuf> = Vec::new();
    for uri in folders.chain(initialize.root_uri.as_deref()).take(limits::ROOTS) {
        let root = uri::to_path(uri).and_then(|path| path.canonicalize().ok());
        if let Some(root) = root.filter(|root| root.is_dir() && root.to_str().is_some())
            && !roots.contains(&root)
        {
            roots.push(root);
        }
    }
    roots
}

fn capabilities(settings: &Settings, can: &Abilities, encoding: Encoding) -> Value {
    let mut capabilities = json!({
        "positionEncoding": match encoding {
            Encoding::Utf16 => "utf-16",
            Encoding::Utf8 => "utf-8",
        },
        // Incremental; saves without their text.
        "textDocumentSync": { "openClose": true, "change": 2, "save": { "includeText": false } },
        "referencesProvider": settings.search,
        "workspaceSymbolProvider": settings.search,
        // Also for the actions of a transcript, which answer approvals.
        "codeActionProvider": { "codeActionKinds": ["quickfix", "refactor"], "resolveProvider": true },
    });
    if settings.ask {
        capabilities["renameProvider"] = json!({ "prepareProvider": true });
    }
    if settings.completion {
        capabilities["inlineCompletionProvider"] = json!(true);
    }
    if !can.lapce {
        capabilities["executeCommandProvider"] = json!({ "commands": [actions::COMMAND] });
    }
    json!({
        "capabilities": capabilities,
        "serverInfo": { "name": "lapce-ai-lsp", "version": env!("CARGO_PKG_VERSION") },
    })
}
