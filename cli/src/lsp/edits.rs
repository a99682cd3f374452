//! Inline edits: a model rewrites a piece of an open document, the editor gets the change.
//!
//! The text goes on being typed in while the model writes, so the piece is looked for again
//! before the change is handed over; a piece that was changed meanwhile is left alone. One
//! edit a document at a time; it can be stopped, and it ends with the request that wants it.

use std::cell::RefCell;
use std::rc::Rc;

use lapce_ai_ipc::wire::engine::{Edit, EditReply, Event};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::client::Level;
use super::documents::Document;
use super::limits;
use super::piece::{self, Piece};
use super::rpc::{CONTENT_MODIFIED, Failure, REQUEST_CANCELLED};
use super::shell::Shell;
use crate::lines::{self, Lines};

#[derive(Default)]
pub(super) struct Edits {
    going: RefCell<Vec<Rc<Going>>>,
}

struct Going {
    uri: String,
    stop: Notify,
}

impl Edits {
    pub(super) fn under_way(&self, uri: &str) -> bool {
        self.going.borrow().iter().any(|going| going.uri == uri)
    }

    /// Stops the edit of a document, if there is one.
    pub(super) fn stop(&self, uri: &str) -> bool {
        let going = self.going.borrow().iter().find(|going| going.uri == uri).cloned();
        going.is_some_and(|going| {
            going.stop.notify_one();
            true
        })
    }
}

/// What is to be edited, and how.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) uri: String,
    pub(super) line: u32,
    pub(super) selected: Lines,
    pub(super) instruction: String,
}

/// Takes an edit off the list when its future ends, however it does.
struct Entry<'a> {
    edits: &'a Edits,
    going: Rc<Going>,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.edits.going.borrow_mut().retain(|going| !Rc::ptr_eq(going, &self.going));
    }
}

/// Has the piece rewritten. Returns the workspace edit; what goes wrong is also said, since
/// editors drop the errors of actions and renames silently.
pub(super) async fn make_and_say(shell: &Rc<Shell>, order: Order) -> Result<Value, Failure> {
    let outcome = make(shell, order).await;
    if let Err(failure) = &outcome
        && failure.code != REQUEST_CANCELLED
    {
        shell.editor.show(Level::Error, &format!("Lapce AI: {}", failure.message));
    }
    outcome
}

async fn make(shell: &Rc<Shell>, order: Order) -> Result<Value, Failure> {
    let uri = order.uri.as_str();
    let (piece, text, edit) = shell.with_document(uri, |document| {
        let found = piece::find(&document.text, order.line, order.selected, &document.language);
        let piece = found.ok_or_else(|| {
            Failure::declined("an edit begins on a comment or a blank line, or at selected lines")
        })?;
        let root = shell.root_of(Some(&document.path))?.to_string_lossy().into_owned();
        let edit = request(document, root, &piece, &order.instruction)?;
        Ok((piece, document.text.clone(), edit))
    })?;
    let going = Rc::new(Going { uri: uri.to_owned(), stop: Notify::new() });
    let entry = {
        let mut list = shell.edits.going.borrow_mut();
        if list.iter().any(|going| going.uri == uri) {
            let text = "this file is being edited already; wait for it, or stop it (Ctrl+.)";
            return Err(Failure::declined(text));
        }
        if list.len() >= limits::RUNS {
            let text = format!("{} edits are under way already", limits::RUNS);
            return Err(Failure::declined(text));
        }
        list.push(going.clone());
        Entry { edits: &shell.edits, going }
    };
    let reply = tokio::select! {
        reply = written(shell, edit) => reply?,
        () = entry.going.stop.notified() => {
            return Err(Failure::new(REQUEST_CANCELLED, "the edit was stopped"));
        }
    };
    let can = shell.editor.can();
    let encoding = shell.documents.borrow().encoding;
    shell.with_document(uri, |document| {
        let now = piece::moved(&text, piece.lines, &document.text).ok_or_else(|| {
            let text =
                "these lines were changed while the model wrote; nothing was edited, try again";
            Failure::new(CONTENT_MODIFIED, text)
        })?;
        let edit = piece::edit(&document.text, now, &reply.text, encoding)
            .ok_or_else(|| Failure::declined("the model left everything as it is"))?;
        Ok(if can.document_changes {
            let id = json!({ "uri": uri, "version": document.version });
            json!({ "documentChanges": [{ "textDocument": id, "edits": [edit] }] })
        } else {
            json!({ "changes": { (uri): [edit] } })
        })
    })
}

/// What the engine is asked.
fn request(
    document: &Document,
    root: String,
    piece: &Piece,
    instruction: &str,
) -> Result<Edit, Failure> {
    let code = lines::cut(&document.text, piece.code);
    if code.len() > lines::PIECE {
        return Err(Failure::declined(format!(
            "the {} lines below are more than the {} KB that are edited at once; give a smaller piece",
            piece.code.end - piece.code.first,
            lines::PIECE >> 10
        )));
    }
    let (before, after) = lines::around(&document.text, piece.lines);
    Ok(Edit {
        root,
        path: document.path.to_string_lossy().into_owned(),
        language: document.language.clone(),
        instruction: instruction.to_owned(),
        before,
        piece: code,
        after,
        indent: piece.indent.clone(),
        model: String::new(),
    })
}

/// The model's answer, with its growth in the status bar.
async fn written(shell: &Rc<Shell>, edit: Edit) -> Result<EditReply, Failure> {
    let engine = shell.link.engine().await?;
    let mut call = engine.edit(edit).await?;
    let mut progress = None;
    let mut lines = 0;
    while let Some(event) = call.next().await {
        match event {
            Event::Started { run_id, model, .. } => {
                let token = format!("lapce-ai/edit/{run_id}");
                progress =
                    shell.editor.progress(&token, "Lapce AI", &format!("{model} edits")).await;
            }
            Event::Text(text) => {
                lines += text.matches('\n').count();
                if let Some(progress) = &progress {
                    progress.report(&format!("editing: {lines} lines written"), None);
                }
            }
            Event::Notice(text) => {
                if let Some(progress) = &progress {
                    progress.report(text.lines().next().unwrap_or_default(), None);
                }
            }
            _ => {}
        }
    }
    Ok(call.finish().await?)
}
