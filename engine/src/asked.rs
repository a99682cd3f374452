//! Conversations of questions: `<state>/asked/<id>.json`, for the user alone.
//!
//! Used by `handlers/ask.rs`, so that a question can follow another. A conversation belongs to
//! the workspace it was held in; the newest are kept.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use lapce_ai_ipc::paths::private_dir;
use serde::{Deserialize, Serialize};

use crate::agent::{limits, tokens};
use crate::ids;
use crate::past::is_name;
use crate::provider::Message;
use crate::workspace::Root;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    pub id: String,
    root: String,
    exchanges: Vec<Exchange>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Exchange {
    question: String,
    answer: String,
}

impl Conversation {
    pub fn new(id: &str, root: &Root) -> Self {
        Self { id: id.to_owned(), root: root.to_string(), exchanges: Vec::new() }
    }

    /// The conversation `id` of `root`, or its newest.
    pub fn open(state: &Path, root: &Root, id: &str) -> Option<Self> {
        let all = files(&folder(state));
        let mut read = all.iter().filter_map(|(_, path)| read(path));
        read.find(|c| c.root == root.as_str() && (id.is_empty() || c.id == id))
    }

    /// The question before.
    pub fn last_question(&self) -> Option<&str> {
        self.exchanges.last().map(|exchange| exchange.question.as_str())
    }

    /// What was said so far, the newest of it that takes at most `budget` tokens.
    pub fn messages(&self, budget: usize) -> Vec<Message> {
        let mut room = budget;
        let mut messages = Vec::new();
        for Exchange { question, answer } in self.exchanges.iter().rev() {
            let least = tokens::estimate(question) + 16;
            let Some(left) = room.checked_sub(least).filter(|left| *left > 0) else { break };
            let shown = tokens::head(answer, left);
            if shown.is_empty() {
                break;
            }
            room = left - tokens::estimate(shown).min(left);
            messages.push(Message::assistant(shown));
            messages.push(Message::user(question.as_str()));
            if shown.len() < answer.len() {
                break;
            }
        }
        messages.reverse();
        messages
    }

    pub fn add(&mut self, question: &str, answer: &str) {
        let cut = |text: &str, most: usize| text[..text.floor_char_boundary(most)].to_owned();
        self.exchanges.push(Exchange {
            question: cut(question.trim(), limits::ASKED_QUESTION_BYTES),
            answer: cut(answer.trim(), limits::ASKED_ANSWER_BYTES),
        });
        let surplus = self.exchanges.len().saturating_sub(limits::ASKED_EXCHANGES);
        self.exchanges.drain(..surplus);
    }

    /// Writes it in one step, and lets the oldest of all go.
    pub fn save(&self, state: &Path) -> io::Result<()> {
        let dir = folder(state);
        private_dir(&dir)?;
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        let fresh = dir.join(format!("{}.new", ids::approval_id()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        let written = file
            .write_all(&text)
            .and_then(|()| fs::rename(&fresh, dir.join(format!("{}.json", self.id))));
        if written.is_err() {
            let _ = fs::remove_file(&fresh);
        }
        for (_, path) in files(&dir).into_iter().skip(limits::ASKED) {
            let _ = fs::remove_file(path);
        }
        written
    }
}

fn folder(state: &Path) -> PathBuf {
    state.join("asked")
}

/// The files of conversations, the newest first.
fn files(dir: &Path) -> Vec<(SystemTime, PathBuf)> {
    let mut files: Vec<(SystemTime, PathBuf)> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| e.path().extension().is_some_and(|e| e == "json"))
        .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())))
        .collect();
    files.sort_unstable_by(|a, b| b.cmp(a));
    files
}

/// `None` for what is no conversation.
fn read(path: &Path) -> Option<Conversation> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    file.take(limits::ASKED_BYTES).read_to_end(&mut text).ok()?;
    let conversation: Conversation = serde_json::from_slice(&text).ok()?;
    let named = path.file_stem().is_some_and(|name| name == conversation.id.as_str());
    (named && is_name(&conversation.id)).then_some(conversation)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn conversations_are_kept_for_their_workspace_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let folder_of = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            Root::open(path.to_str().unwrap()).unwrap()
        };
        let (here, there) = (folder_of("a"), folder_of("b"));
        let state = dir.path().join("state");
        assert_eq!(Conversation::open(&state, &here, ""), None);
        let mut one = Conversation::new("20260101-000000-aaaaaa", &here);
        for n in 0..limits::ASKED_EXCHANGES + 3 {
            one.add(&format!("question {n}"), &"ä".repeat(limits::ASKED_ANSWER_BYTES));
        }
        assert_eq!(one.exchanges.len(), limits::ASKED_EXCHANGES);
        one.save(&state).unwrap();
        assert_eq!(Conversation::open(&state, &here, ""), Some(one.clone()));
        assert_eq!(Conversation::open(&state, &there, &one.id), None);
        assert_eq!(Conversation::open(&state, &there, ""), None);
        let file = state.join("asked/20260101-000000-aaaaaa.json");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::metadata(&file).unwrap().len() < limits::ASKED_BYTES);
        for n in 0..limits::ASKED + 4 {
            Conversation::new(&format!("20260102-000000-{n:06}"), &there).save(&state).unwrap();
        }
        assert_eq!(fs::read_dir(state.join("asked")).unwrap().count(), limits::ASKED);
        // Whatever else lies there.
        for (name, text) in [("x.json", "{"), ("y.json", "[[[["), ("z.json", "")] {
            fs::write(state.join("asked").join(name), text).unwrap();
        }
        std::os::unix::fs::symlink("/dev/zero", state.join("asked/w.json")).unwrap();
        assert!(Conversation::open(&state, &there, "").is_some());
    }

    #[test]
    fn the_newest_that_fits_goes_along() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path().to_str().unwrap()).unwrap();
        let mut talk = Conversation::new("a", &root);
        for n in 0..4 {
            talk.add(&format!("question {n}"), &format!("answer {n}\n").repeat(20));
        }
        assert_eq!(talk.last_question(), Some("question 3"));
        assert_eq!(talk.messages(10_000).len(), 8);
        assert_eq!(talk.messages(10_000)[0], Message::user("question 0"));
        for budget in [0, 10, 20, 40, 100, 200, 300] {
            let some = talk.messages(budget);
            let cost: usize = some.iter().map(tokens::message).sum();
            assert!(cost <= budget && some.len().is_multiple_of(2), "{cost} of {budget}");
        }
        let some = talk.messages(60);
        assert_eq!((some.len(), &some[0]), (2, &Message::user("question 3")));
    }
}
