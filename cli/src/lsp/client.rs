//! What the editor can do, and the messages that go to it on our own initiative.
//!
//! Requests to the editor are few: Lapce handles one at a time inside its reader and knows
//! only two of them. Used by everything that has to tell the user something.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::limits;
use super::rpc::{self, Id};
use super::transport::Outbox;
use super::types::Initialize;
use super::uri;

/// Kinds of `window/showMessage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Error = 1,
    Warning = 2,
    Info = 3,
}

/// What the editor said about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Abilities {
    /// Lapce: a code action is started by resolving it, and an empty edit opens a file.
    pub(super) lapce: bool,
    pub(super) progress: bool,
    pub(super) show_document: bool,
    /// Runs `rust-analyzer.runSingle` in a terminal.
    pub(super) run_single: bool,
    pub(super) utf8: bool,
    /// Takes edits that name the version they are for.
    pub(super) document_changes: bool,
}

impl Abilities {
    pub(super) fn read(initialize: &Initialize) -> Self {
        let capabilities = &initialize.capabilities;
        let yes = |pointer: &str| capabilities.pointer(pointer) == Some(&Value::Bool(true));
        let lists = |pointer: &str, item: &str| {
            let list = capabilities.pointer(pointer).and_then(Value::as_array);
            list.is_some_and(|list| list.iter().any(|entry| entry == item))
        };
        Self {
            lapce: initialize
                .client_info
                .as_ref()
                .is_some_and(|info| info.name.starts_with("Lapce")),
            progress: yes("/window/workDoneProgress"),
            show_document: yes("/window/showDocument/support"),
            run_single: lists("/experimental/commands/commands", "rust-analyzer.runSingle"),
            utf8: lists("/general/positionEncodings", "utf-8"),
            document_changes: yes("/workspace/workspaceEdit/documentChanges"),
        }
    }
}

/// The way to the editor.
pub(super) struct Editor {
    pub(super) out: Outbox,
    pub(super) abilities: RefCell<Abilities>,
    next_id: Cell<u32>,
    waiting: RefCell<HashMap<Id, oneshot::Sender<bool>>>,
}

impl Editor {
    pub(super) fn new(out: Outbox) -> Self {
        Self {
            out,
            abilities: RefCell::default(),
            next_id: Cell::new(1),
            waiting: RefCell::default(),
        }
    }

    pub(super) fn can(&self) -> Abilities {
        self.abilities.borrow().clone()
    }

    /// A popup; it stays until the user closes it, so it has to be worth that.
    pub(super) fn show(&self, level: Level, text: &str) {
        let params = json!({ "type": level as u8, "message": text });
        self.out.push(rpc::notification("window/showMessage", &params));
    }

    pub(super) fn log(&self, text: &str) {
        let params = json!({ "type": Level::Info as u8, "message": text });
        self.out.push_if_idle(rpc::notification("window/logMessage", &params));
    }

    fn request(&self, method: &str, params: &Value) -> oneshot::Receiver<bool> {
        let id = Id::Text(format!("lapce-ai/{}", self.next_id.get()));
        self.next_id.set(self.next_id.get().wrapping_add(1));
        let (tx, rx) = oneshot::channel();
        let mut waiting = self.waiting.borrow_mut();
        waiting.retain(|_, waiter| !waiter.is_closed());
        waiting.insert(id.clone(), tx);
        self.out.push(rpc::request(&id, method, params));
        rx
    }

    /// The editor's answer to one of our requests.
    pub(super) fn answered(&self, id: &Id, ok: bool) {
        if let Some(waiter) = self.waiting.borrow_mut().remove(id) {
            let _ = waiter.send(ok);
        }
    }

    /// Has the editor apply a workspace edit; whether it did.
    pub(super) async fn apply(&self, label: &str, edit: &Value) -> bool {
        let params = json!({ "label": label, "edit": edit });
        self.request("workspace/applyEdit", &params).await.unwrap_or(false)
    }

    /// Shows `path` in an editor that does not do so for an empty edit. The request is not
    /// waited for: nothing follows from its answer.
    pub(super) fn open(&self, path: &Path) {
        let can = self.can();
        if can.lapce {
            return;
        }
        if can.show_document {
            let params = json!({ "uri": uri::from_path(path), "takeFocus": true });
            drop(self.request("window/showDocument", &params));
        } else {
            self.show(Level::Info, &format!("Lapce AI writes to {}", path.display()));
        }
    }

    /// Starts a progress display; `None` when the editor has none.
    pub(super) async fn progress(
        &self,
        token: &str,
        title: &str,
        message: &str,
    ) -> Option<Progress> {
        if !self.can().progress {
            return None;
        }
        let created = self.request("window/workDoneProgress/create", &json!({ "token": token }));
        let created = tokio::time::timeout(limits::PROGRESS_CREATE, created).await;
        if !matches!(created, Ok(Ok(true))) {
            return None;
        }
        let progress = Progress { out: self.out.clone(), token: token.to_owned() };
        let value =
            json!({ "kind": "begin", "title": title, "message": message, "cancellable": false });
        self.out.push(progress.message(&value));
        Some(progress)
    }
}

/// One progress display. Dropping it takes it away.
pub(super) struct Progress {
    out: Outbox,
    token: String,
}

impl Progress {
    fn message(&self, value: &Value) -> Vec<u8> {
        rpc::notification("$/progress", &json!({ "token": self.token, "value": value }))
    }

    /// Lapce shows the message alone, so a percentage has to be part of it.
    pub(super) fn report(&self, message: &str, percentage: Option<u32>) {
        let mut value = json!({ "kind": "report", "message": message });
        if let Some(percentage) = percentage {
            value["percentage"] = percentage.into();
        }
        self.out.push_if_idle(self.message(&value));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.out.push(self.message(&json!({ "kind": "end" })));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abilities_are_read_from_what_lapce_sends() {
        let initialize: Initialize = serde_json::from_value(json!({
            "clientInfo": { "name": "Lapce-Stable", "version": "0.4.6" },
            "capabilities": {
                "window": { "workDoneProgress": true, "showMessage": {} },
                "experimental": { "commands": { "commands": ["rust-analyzer.runSingle"] } },
            },
        }))
        .unwrap();
        let expected = Abilities {
            lapce: true,
            progress: true,
            show_document: false,
            run_single: true,
            utf8: false,
            document_changes: false,
        };
        assert_eq!(Abilities::read(&initialize), expected);
        for odd in
            [json!({}), json!({ "capabilities": [1] }), json!({ "capabilities": { "window": 3 } })]
        {
            let initialize: Initialize = serde_json::from_value(odd).unwrap();
            assert_eq!(Abilities::read(&initialize), Abilities::default());
        }
    }
}
