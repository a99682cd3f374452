//! What every handler is given: the editor, the engine, the documents, the settings.
//!
//! One per process, on one thread. A `RefCell` here must not stay borrowed across an
//! `await`.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use lapce_ai_ipc::Transport;
use lapce_ai_ipc::paths::Paths;
use lapce_ai_ipc::wire::engine::EditorContext;

use super::client::Editor;
use super::documents::{Document, Documents};
use super::edits::Edits;
use super::index::Indexer;
use super::latest::Latest;
use super::link::Link;
use super::rpc::Failure;
use super::runs::Runs;
use super::settings::Settings;
use super::text::{self, Line};
use super::transport::Outbox;
use super::unsaved::Unsaved;

pub(super) struct Shell {
    pub(super) editor: Rc<Editor>,
    pub(super) link: Rc<Link>,
    pub(super) documents: RefCell<Documents>,
    pub(super) settings: RefCell<Settings>,
    /// Canonical paths of the workspace folders, the main one first.
    pub(super) roots: RefCell<Vec<PathBuf>>,
    pub(super) indexer: Indexer,
    pub(super) runs: Runs,
    pub(super) edits: Edits,
    pub(super) unsaved: Unsaved,
    /// The palette's searches.
    pub(super) palette: Latest,
}

impl Shell {
    pub(super) fn new(out: Outbox, transport: Transport) -> Rc<Self> {
        let editor = Rc::new(Editor::new(out));
        Rc::new(Self {
            link: Rc::new(Link::new(Paths::from_env(), transport, editor.clone())),
            editor,
            documents: RefCell::default(),
            settings: RefCell::new(Settings::read(None)),
            roots: RefCell::default(),
            indexer: Indexer::default(),
            runs: Runs::default(),
            edits: Edits::default(),
            unsaved: Unsaved::default(),
            palette: Latest::default(),
        })
    }

    /// The workspace folder that `path` lies in, or the main one.
    pub(super) fn root_of(&self, path: Option<&Path>) -> Result<PathBuf, Failure> {
        let roots = self.roots.borrow();
        path.and_then(|path| {
            roots
                .iter()
                .filter(|root| path.starts_with(root))
                .max_by_key(|root| root.as_os_str().len())
        })
        .or(roots.first())
        .cloned()
        .ok_or_else(|| Failure::declined("no folder is open; open one to use Lapce AI"))
    }

    /// Whether this is one of the workspace folders.
    pub(super) fn is_root(&self, root: &str) -> bool {
        self.roots.borrow().iter().any(|known| known.to_str() == Some(root))
    }

    /// Runs `look` on an open document.
    pub(super) fn with_document<R>(
        &self,
        uri: &str,
        look: impl FnOnce(&Document) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let mut documents = self.documents.borrow_mut();
        let document = documents.get(uri).ok_or_else(|| {
            Failure::declined(
                "this document is not open here, or too large; save it to have it read again",
            )
        })?;
        look(document)
    }
}

/// Declines unless the line is blank or a comment: everything else belongs to the
/// language's own server.
pub(super) fn ours(document: &Document, line: u32) -> Result<Line<'_>, Failure> {
    match text::classify(&document.text, line, &document.language) {
        Some(Line::Code) => Err(Failure::declined("not a comment or blank line")),
        Some(line) => Ok(line),
        None => Err(Failure::declined("there is no such line")),
    }
}

/// What goes along with a question that is asked at a line.
pub(super) fn context(document: &Document, line: u32) -> EditorContext {
    let (text, text_start_line) = text::around(&document.text, line);
    EditorContext {
        path: document.path.to_string_lossy().into_owned(),
        line,
        text: text.to_owned(),
        text_start_line,
    }
}
