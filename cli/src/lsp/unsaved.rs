//! Texts that the editor shows and has not saved: the engine is told of them, so that tools
//! read what the user sees, and write over none of it. And the other way round, what waits for
//! the user anywhere in the workspace is heard of here.
//!
//! Both hang on one `Follow` of the connection: it begins when there is an engine, and never
//! starts one. A text counts as unsaved when it differs from the file; an editor that reloads a
//! file sends a change for it too.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;
use std::rc::Rc;

use lapce_ai_ipc::wire::engine::Event;
use lapce_ai_ipc::{EngineClient, Followed};
use tokio::sync::Notify;

use super::documents;
use super::limits;
use super::shell::Shell;

#[derive(Default)]
pub(super) struct Unsaved {
    /// Documents (by URI) to be looked at.
    touched: RefCell<HashSet<String>>,
    /// Paths whose text the engine holds.
    held: RefCell<HashSet<String>>,
    wake: Notify,
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
}

impl Unsaved {
    /// A document was changed or saved.
    pub(super) fn touched(&self, uri: &str) {
        let mut touched = self.touched.borrow_mut();
        if touched.len() < limits::DOCUMENT_COUNT {
            touched.insert(uri.to_owned());
        }
        self.wake.notify_one();
    }
}

/// Starts the loops of this editor.
pub(super) fn start(shell: &Rc<Shell>) {
    tokio::task::spawn_local(follow(shell.clone()));
    let shell = shell.clone();
    tokio::task::spawn_local(async move {
        loop {
            shell.unsaved.wake.notified().await;
            tokio::time::sleep(limits::UNSAVED_DEBOUNCE).await;
            flush(&shell).await;
        }
    });
}

/// Follows one engine after the other.
async fn follow(shell: Rc<Shell>) {
    let mut following = shell.link.follow();
    loop {
        match following.next().await {
            // A new engine knows none of the texts.
            Followed::Began(_) => {
                shell.unsaved.held.borrow_mut().clear();
                for uri in shell.documents.borrow().uris() {
                    shell.unsaved.touched(&uri);
                }
            }
            Followed::Event(Event::Approval(approval)) if shell.is_root(&approval.root) => {
                shell.runs.waits(approval);
            }
            Followed::Event(Event::Answered { approval_id, .. }) => {
                shell.runs.decided(&approval_id);
            }
            Followed::Event(_) => {}
            Followed::Ended => shell.runs.forget_waiting(),
        }
    }
}

/// Tells the engine of every text that has come to differ from its file, or no longer does.
/// Done before a run starts, and a little after each change.
pub(super) async fn flush(shell: &Rc<Shell>) {
    let Some(client) = shell.link.alive() else { return };
    let _looking = shell.unsaved.looking.lock().await;
    let touched: Vec<String> = shell.unsaved.touched.borrow_mut().drain().collect();
    for uri in touched {
        let found = shell.documents.borrow().text_of(&uri);
        let Some((path, text)) = found else { continue };
        let Some(name) = path.to_str().map(str::to_owned) else { continue };
        let unsaved = text.filter(|text| differs(&path, text));
        let held = shell.unsaved.held.borrow().contains(&name);
        if unsaved.is_none() && !held {
            continue;
        }
        if tell(shell, &client, name, unsaved).await.is_err() {
            // No engine any more; the next one is told everything.
            return;
        }
    }
}

async fn tell(
    shell: &Shell,
    client: &EngineClient,
    name: String,
    text: Option<String>,
) -> Result<(), ()> {
    let unsaved = text.is_some();
    match client.buffer(name.clone(), text).await {
        Ok(()) => {
            let mut held = shell.unsaved.held.borrow_mut();
            if unsaved {
                held.insert(name)
            } else {
                held.remove(&name)
            };
            Ok(())
        }
        Err(error) => {
            // Whatever it held of this file it has let go.
            shell.unsaved.held.borrow_mut().remove(&name);
            shell.editor.log(&format!("{name}: tools see the file as it is on disk: {error}"));
            if client.0.is_closed() { Err(()) } else { Ok(()) }
        }
    }
}

/// Whether the file holds something else than `text`; also when there is no such file.
fn differs(path: &Path, text: &str) -> bool {
    documents::read(path).is_none_or(|on_disk| on_disk != text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsaved_is_what_differs_from_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.rs");
        std::fs::write(&file, "x\n").unwrap();
        assert!(!differs(&file, "x\n"));
        assert!(differs(&file, "y\n"));
        assert!(differs(&dir.path().join("new.rs"), ""));
    }
}
