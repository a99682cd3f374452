//! Texts of the user's editors that are not saved: what file tools give for these files, and
//! files that no tool writes.
//!
//! An editor's shim sends a text while it differs from the file, and takes it back when it is
//! saved. What a connection has sent goes with its last `Follow`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lapce_ai_ipc::wire::{ErrorKind, WireError};

use crate::limits;
use crate::workspace::Root;

#[derive(Debug, Default)]
pub struct Buffers {
    sessions: Mutex<HashMap<String, Session>>,
}

#[derive(Debug, Default)]
struct Session {
    watches: usize,
    /// By absolute path.
    texts: BTreeMap<String, String>,
    bytes: usize,
}

impl Buffers {
    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the texts of a session until the guard is dropped.
    pub fn hold(&self, session: &str) -> Hold<'_> {
        self.sessions().entry(session.to_owned()).or_default().watches += 1;
        Hold { buffers: self, session: session.to_owned() }
    }

    /// A text of an editor as it is now, or `None` when the file holds it.
    pub fn set(&self, session: &str, path: &str, text: Option<String>) -> Result<(), WireError> {
        if !Path::new(path).is_absolute() || path.len() > limits::QUERY_BYTES {
            return Err(WireError::new(ErrorKind::Invalid, "a buffer needs an absolute path"));
        }
        let mut sessions = self.sessions();
        let Some(session) = sessions.get_mut(session) else {
            return Err(WireError::new(
                ErrorKind::Invalid,
                "texts are kept only for a client that follows",
            ));
        };
        if let Some(old) = session.texts.remove(path) {
            session.bytes -= old.len();
        }
        let Some(text) = text else { return Ok(()) };
        if text.len() > limits::BUFFER_BYTES
            || session.bytes + text.len() > limits::BUFFERS_BYTES
            || session.texts.len() >= limits::BUFFERS
        {
            return Err(WireError::new(
                ErrorKind::Limit,
                format!(
                    "{path} is not kept: unsaved texts are {} bytes together at most",
                    limits::BUFFERS_BYTES
                ),
            )
            .hint("save it; until then tools see the file as it is on disk"));
        }
        session.bytes += text.len();
        session.texts.insert(path.to_owned(), text);
        Ok(())
    }

    /// The texts below `root`, by workspace-relative path.
    pub fn below(&self, root: &Root) -> BTreeMap<String, String> {
        let sessions = self.sessions();
        let texts = sessions.values().flat_map(|session| &session.texts);
        texts
            .filter_map(|(path, text)| {
                let inner = path.strip_prefix(root.as_str())?.strip_prefix('/')?;
                let plain = !inner.is_empty() && inner.split('/').all(|part| part != "..");
                plain.then(|| (inner.to_owned(), text.clone()))
            })
            .collect()
    }
}

/// See [`Buffers::hold`].
pub struct Hold<'a> {
    buffers: &'a Buffers,
    session: String,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut sessions = self.buffers.sessions();
        if let Some(session) = sessions.get_mut(&self.session) {
            session.watches -= 1;
            if session.watches == 0 {
                sessions.remove(&self.session);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(dir: &tempfile::TempDir) -> Root {
        Root::open(dir.path().to_str().unwrap()).unwrap()
    }

    #[test]
    fn texts_go_with_their_session() {
        let dir = tempfile::tempdir().unwrap();
        let root = root(&dir);
        let (file, other) = (format!("{root}/src/a.rs"), "/elsewhere/b.rs".to_owned());
        let buffers = Buffers::default();
        assert!(buffers.set("s", &file, Some("x".into())).is_err(), "nobody watches");
        let first = buffers.hold("s");
        let second = buffers.hold("s");
        buffers.set("s", &file, Some("unsaved".into())).unwrap();
        buffers.set("s", &other, Some("y".into())).unwrap();
        buffers.set("s", &format!("{root}/../x"), Some("y".into())).unwrap();
        let texts = buffers.below(&root);
        assert_eq!(texts.into_iter().collect::<Vec<_>>(), [("src/a.rs".into(), "unsaved".into())]);
        drop(first);
        assert_eq!(buffers.below(&root).len(), 1);
        buffers.set("s", &file, None).unwrap();
        assert!(buffers.below(&root).is_empty());
        buffers.set("s", &file, Some("again".into())).unwrap();
        drop(second);
        assert!(buffers.below(&root).is_empty());
    }

    #[test]
    fn texts_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let root = root(&dir);
        let buffers = Buffers::default();
        let _hold = buffers.hold("s");
        let big = "x".repeat(limits::BUFFER_BYTES);
        assert!(buffers.set("s", "/w/a", Some(format!("{big}x"))).is_err());
        let fitting = limits::BUFFERS_BYTES / limits::BUFFER_BYTES;
        for n in 0..fitting {
            buffers.set("s", &format!("{root}/{n}"), Some(big.clone())).unwrap();
        }
        let error = buffers.set("s", "/w/more", Some("x".into())).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Limit);
        // The same file again takes no more room.
        buffers.set("s", &format!("{root}/0"), Some("small".into())).unwrap();
        for n in 0..limits::BUFFERS * 2 {
            let _ = buffers.set("s", &format!("/w/{n}"), Some("x".into()));
        }
        assert!(buffers.sessions()["s"].texts.len() <= limits::BUFFERS);
        assert!(buffers.set("s", "relative", None).is_err());
    }
}
