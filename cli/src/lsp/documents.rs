//! The open documents, as far as memory allows.
//!
//! Fed by didOpen, didChange, didSave and didClose; read by every handler that needs the
//! caret's surroundings. Lapce never closes a document, so the least recently used texts
//! are let go; such a document, or one whose edits do not fit, is unknown until it is
//! opened or saved again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::limits;
use super::text::{self, Encoding};
use super::types::{Change, OpenedDocument};
use super::uri;

#[derive(Debug)]
pub(super) struct Document {
    pub(super) path: PathBuf,
    pub(super) language: String,
    pub(super) version: i64,
    pub(super) text: String,
}

#[derive(Debug)]
struct Entry {
    document: Document,
    /// False while `document.text` is not what the editor shows.
    known: bool,
    used: u64,
}

#[derive(Debug, Default)]
pub(super) struct Documents {
    entries: HashMap<String, Entry>,
    bytes: usize,
    clock: u64,
    pub(super) encoding: Encoding,
}

impl Documents {
    pub(super) fn open(&mut self, opened: OpenedDocument) {
        let Some(path) = uri::to_path(&opened.uri) else { return };
        self.close(&opened.uri);
        self.clock += 1;
        let document = Document {
            path,
            language: opened.language_id,
            version: opened.version,
            text: String::new(),
        };
        let entry = Entry { document, known: false, used: self.clock };
        self.entries.insert(opened.uri.clone(), entry);
        self.set_text(&opened.uri, opened.text);
        self.evict();
    }

    pub(super) fn close(&mut self, uri: &str) {
        if let Some(entry) = self.entries.remove(uri) {
            self.bytes -= entry.document.text.len();
        }
    }

    pub(super) fn change(&mut self, uri: &str, version: i64, changes: Vec<Change>) {
        let encoding = self.encoding;
        self.clock += 1;
        let clock = self.clock;
        let Some(entry) = self.entries.get_mut(uri) else { return };
        entry.used = clock;
        // Versions only grow. An edit that is not newer fits another text than ours.
        let newer = version > entry.document.version;
        entry.document.version = entry.document.version.max(version);
        for change in changes {
            let Some(range) = change.range else {
                self.set_text(uri, change.text);
                continue;
            };
            let Some(entry) = self.entries.get_mut(uri) else { return };
            if !entry.known {
                continue;
            }
            let text = &mut entry.document.text;
            self.bytes -= text.len();
            let applied = newer && text::replace(text, range, &change.text, encoding);
            self.bytes += text.len();
            if !applied || text.len() > limits::DOCUMENT {
                self.forget(uri);
            }
        }
        self.evict();
    }

    /// The editor has written the document: a text that was let go is on disk now.
    pub(super) fn saved(&mut self, uri: &str) {
        let unknown = self.entries.get(uri).filter(|e| !e.known).map(|e| e.document.path.clone());
        if let Some(text) = unknown.and_then(|path| read(&path)) {
            self.set_text(uri, text);
            self.evict();
        }
    }

    /// The document, if its text is known.
    pub(super) fn get(&mut self, uri: &str) -> Option<&Document> {
        self.clock += 1;
        let entry = self.entries.get_mut(uri).filter(|entry| entry.known)?;
        entry.used = self.clock;
        Some(&entry.document)
    }

    /// Every document that the editor has opened.
    pub(super) fn uris(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    /// Path and text of a document; no text when it is not known.
    pub(super) fn text_of(&self, uri: &str) -> Option<(PathBuf, Option<String>)> {
        let entry = self.entries.get(uri)?;
        let text = entry.known.then(|| entry.document.text.clone());
        Some((entry.document.path.clone(), text))
    }

    fn set_text(&mut self, uri: &str, text: String) {
        if text.len() > limits::DOCUMENT {
            self.forget(uri);
            return;
        }
        if let Some(entry) = self.entries.get_mut(uri) {
            self.bytes = self.bytes - entry.document.text.len() + text.len();
            entry.document.text = text;
            entry.known = true;
        }
    }

    fn forget(&mut self, uri: &str) {
        if let Some(entry) = self.entries.get_mut(uri) {
            self.bytes -= entry.document.text.len();
            entry.document.text = String::new();
            entry.known = false;
        }
    }

    fn evict(&mut self) {
        while self.bytes > limits::DOCUMENTS {
            let oldest = self.entries.iter().filter(|(_, e)| e.known).min_by_key(|(_, e)| e.used);
            let Some(uri) = oldest.map(|(uri, _)| uri.clone()) else { break };
            self.forget(&uri);
        }
        while self.entries.len() > limits::DOCUMENT_COUNT {
            let oldest = self.entries.iter().min_by_key(|(_, e)| e.used);
            let Some(uri) = oldest.map(|(uri, _)| uri.clone()) else { break };
            self.close(&uri);
        }
    }
}

/// A file as a document would be kept: whole, text, and not too long.
pub(super) fn read(path: &Path) -> Option<String> {
    use std::io::Read as _;
    // A pipe or device under the name of a document must not block the loop.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(limits::DOCUMENT as u64 + 1).read_to_string(&mut text).ok()?;
    (text.len() <= limits::DOCUMENT).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::super::types::{Position, Range};
    use super::*;

    fn open(documents: &mut Documents, name: &str, text: &str) -> String {
        let uri = format!("file:///w/{name}");
        documents.open(OpenedDocument {
            uri: uri.clone(),
            language_id: "rust".into(),
            version: 1,
            text: text.into(),
        });
        uri
    }

    fn insert(line: u32, character: u32, text: &str) -> Vec<Change> {
        let at = Position { line, character };
        vec![Change { range: Some(Range { start: at, end: at }), text: text.into() }]
    }

    fn text<'a>(documents: &'a mut Documents, uri: &str) -> Option<&'a str> {
        documents.get(uri).map(|d| d.text.as_str())
    }

    #[test]
    fn edits_in_order() {
        let mut documents = Documents::default();
        let uri = open(&mut documents, "a.rs", "ab");
        documents.change(&uri, 2, insert(0, 1, "X"));
        documents.change(&uri, 3, vec![Change { range: None, text: "new".into() }]);
        documents.change(&uri, 4, insert(0, 3, "!"));
        assert_eq!(text(&mut documents, &uri), Some("new!"));
        assert_eq!(documents.get(&uri).unwrap().version, 4);
        assert_eq!(documents.bytes, 4);
        documents.close(&uri);
        assert_eq!(text(&mut documents, &uri), None);
        assert_eq!(documents.bytes, 0);
    }

    #[test]
    fn an_edit_of_an_old_version_makes_the_text_unknown_until_a_full_one() {
        let mut documents = Documents::default();
        let uri = open(&mut documents, "a.rs", "ab");
        documents.change(&uri, 1, insert(0, 1, "X"));
        assert_eq!(text(&mut documents, &uri), None);
        documents.change(&uri, 5, insert(0, 1, "X"));
        assert_eq!(text(&mut documents, &uri), None);
        documents.change(&uri, 6, vec![Change { range: None, text: "whole".into() }]);
        assert_eq!(text(&mut documents, &uri), Some("whole"));
    }

    #[test]
    fn texts_are_bounded_and_the_least_recently_used_go_first() {
        let mut documents = Documents::default();
        let big = "x".repeat(limits::DOCUMENT);
        let uris: Vec<_> = (0..6).map(|n| open(&mut documents, &format!("{n}.rs"), &big)).collect();
        assert!(documents.bytes <= limits::DOCUMENTS);
        assert!(text(&mut documents, &uris[0]).is_none());
        assert!(text(&mut documents, &uris[5]).is_some());
        // One byte more than allowed, by an edit.
        documents.change(&uris[5], 2, insert(0, 0, "y"));
        assert!(text(&mut documents, &uris[5]).is_none());
        let huge = open(&mut documents, "huge.rs", &format!("{big}x"));
        assert!(text(&mut documents, &huge).is_none());
        for n in 0..2 * limits::DOCUMENT_COUNT {
            open(&mut documents, &format!("small{n}.rs"), "x");
        }
        assert!(documents.entries.len() <= limits::DOCUMENT_COUNT);
        let counted: usize = documents.entries.values().map(|e| e.document.text.len()).sum();
        assert_eq!(documents.bytes, counted);
    }

    #[test]
    fn a_save_brings_a_lost_text_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.rs");
        std::fs::write(&file, "on disk").unwrap();
        let mut documents = Documents::default();
        let uri = uri::from_path(&file);
        documents.open(OpenedDocument {
            uri: uri.clone(),
            language_id: String::new(),
            version: 3,
            text: "old".into(),
        });
        documents.change(&uri, 2, insert(0, 0, "x"));
        assert_eq!(text(&mut documents, &uri), None);
        documents.saved(&uri);
        assert_eq!(text(&mut documents, &uri), Some("on disk"));
    }

    #[test]
    fn documents_that_are_no_files_are_ignored() {
        let mut documents = Documents::default();
        for uri in ["untitled:1", "http://x/y", ""] {
            documents.open(OpenedDocument {
                uri: uri.into(),
                language_id: String::new(),
                version: 1,
                text: "x".into(),
            });
            documents.change(uri, 2, insert(0, 0, "x"));
            documents.saved(uri);
            documents.close(uri);
        }
        assert!(documents.entries.is_empty());
    }
}
