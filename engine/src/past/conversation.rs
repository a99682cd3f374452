//! The conversation of an earlier run, rebuilt so that a provider takes it: roles alternate, and
//! every call has its result, be it that there is none.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use lapce_ai_ipc::wire::engine::{RunInfo, RunState};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_tools::envelope;
use lapce_ai_tools::protocol::Seen;
use serde_json::Value;

use super::lines::{self, Lines};
use super::record;
use crate::agent::{limits, todo};
use crate::provider::{Message, Part, Role};

/// An earlier run, as the next one begins with it.
#[derive(Debug)]
pub struct Past {
    pub info: RunInfo,
    pub messages: Vec<Message>,
    pub todos: String,
    /// The files that it has read or written, as it left them.
    pub seen: BTreeMap<String, Seen>,
    /// What is missing, in sentences; empty when nothing is.
    pub missing: Vec<String>,
}

impl Past {
    /// Leaves out what only the model that wrote it can read.
    pub fn for_another_model(&mut self) {
        for message in &mut self.messages {
            message.parts.retain(|part| !matches!(part, Part::Opaque { .. }));
            if message.parts.is_empty() {
                message.parts.push(Part::Text("(no answer)".to_owned()));
            }
        }
    }

    /// Files that are not as the run left them, by size and time; a few of them by name.
    pub fn changed_since(&self, root: &Path) -> Vec<String> {
        let other = |path: &&String, seen: &Seen| {
            let Ok(meta) = root.join(path.as_str()).symlink_metadata() else { return true };
            let at = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
            meta.len() != seen.size || at != seen.mtime_ns
        };
        let changed = self.seen.iter().filter(|(path, seen)| other(path, seen));
        changed.map(|(path, _)| path.clone()).take(limits::CHANGED_NAMED).collect()
    }
}

/// Reads the log of the run that `info` tells of.
pub(super) fn read(dir: &Path, mut info: RunInfo) -> Result<Past, WireError> {
    let file = lines::open(dir, &info.run).map_err(|error| {
        let what = format!("the log of run {} cannot be read: {error}", info.run);
        WireError::new(ErrorKind::Unavailable, what)
    })?;
    let mut build = Build { completed: info.state == RunState::Completed, ..Build::default() };
    for entry in Lines::all(file) {
        match entry {
            Some(entry) => build.take(&entry),
            None => build.bad_lines += 1,
        }
    }
    build.close(true);
    if !build.mode.is_empty() {
        info.mode = std::mem::take(&mut build.mode);
    }
    let missing = build.missing();
    if build.messages.first().is_none_or(|first| first.role != Role::User) {
        let what = format!("the log of run {} holds no conversation that is whole", info.run);
        return Err(WireError::new(ErrorKind::Invalid, what).hint(super::LIST_HINT));
    }
    Ok(Past { info, messages: build.messages, todos: build.todos, seen: build.seen, missing })
}

/// A call that has no result yet.
struct Open {
    /// `None`: written as text.
    id: Option<String>,
    name: String,
    head: String,
}

#[derive(Default)]
struct Build {
    messages: Vec<Message>,
    open: VecDeque<Open>,
    /// Calls since the last answer that were begun, and those of them that were allowed.
    begun: HashSet<String>,
    allowed: HashSet<String>,
    completed: bool,
    todos: String,
    mode: String,
    seen: BTreeMap<String, Seen>,
    bad_lines: u32,
    full: bool,
    lost: u32,
    long: u32,
}

impl Build {
    fn take(&mut self, entry: &Value) {
        let text = |key: &str| entry[key].as_str().unwrap_or_default();
        match text("event") {
            "told" if !text("text").is_empty() => {
                self.close(false);
                self.push(Role::User, vec![Part::Text(text("text").to_owned())]);
            }
            "said" => {
                self.close(false);
                self.said(entry);
            }
            "given" => self.given(record::result(entry)),
            "call" | "subtask" => {
                self.begun.insert(text("id").to_owned());
                // Nobody is asked any more once a subtask has begun.
                if text("event") == "subtask" {
                    self.allowed.insert(text("id").to_owned());
                }
            }
            "allowed" => {
                self.allowed.insert(text("id").to_owned());
            }
            "decision"
                if text("answer").starts_with("allowed")
                    || text("answer").starts_with("changed and allowed") =>
            {
                self.allowed.insert(text("id").to_owned());
            }
            // A subtask has a list of its own.
            "todos" if entry["depth"].as_u64().unwrap_or(0) == 0 => {
                self.todos = todo::read(text("list")).unwrap_or_default();
            }
            "started" | "mode" if entry["depth"].as_u64().unwrap_or(0) == 0 => {
                text("mode").clone_into(&mut self.mode);
            }
            "seen" => self.files(entry),
            "journal_full" => self.full = true,
            _ => {}
        }
    }

    fn push(&mut self, role: Role, parts: Vec<Part>) {
        match self.messages.last_mut() {
            Some(last) if last.role == role => last.parts.extend(parts),
            _ => self.messages.push(Message { role, parts }),
        }
    }

    fn said(&mut self, entry: &Value) {
        let (parts, cut) = record::parts(entry);
        self.long += u32::from(cut);
        let heads = entry["wanted"].as_array().into_iter().flatten();
        let mut heads = heads.map(|head| head.as_str().unwrap_or_default().to_owned());
        for part in &parts {
            if let Part::Call { id, name, .. } = part {
                let head = heads.next().unwrap_or_else(|| record::head(name));
                self.open.push_back(Open { id: Some(id.clone()), name: name.clone(), head });
            }
        }
        // A call in the text.
        if self.open.is_empty()
            && let Some(head) = heads.next()
        {
            let name = head.trim_start_matches('[').split([' ', ']']).next().unwrap_or_default();
            self.open.push_back(Open { id: None, name: name.to_owned(), head });
        }
        self.begun.clear();
        self.allowed.clear();
        self.push(Role::Assistant, parts);
    }

    fn given(&mut self, result: Part) {
        let id = match &result {
            Part::CallResult { id, .. } => Some(id.clone()),
            _ => None,
        };
        let Some(at) = self.open.iter().position(|open| open.id == id) else {
            // The answer that it belongs to is not in the log.
            self.lost += 1;
            return;
        };
        for open in self.open.drain(..at).collect::<Vec<_>>() {
            self.lost += 1;
            self.fill(&open, lost(&open.head));
        }
        self.open.pop_front();
        self.push(Role::User, vec![result]);
    }

    /// Gives every open call a result. `end`: the log is over, so the run was.
    fn close(&mut self, end: bool) {
        for open in std::mem::take(&mut self.open) {
            let id = open.id.as_deref().unwrap_or(XML_ID);
            let allowed =
                self.allowed.contains(id) || open.id.is_none() && !self.allowed.is_empty();
            let damaged = self.bad_lines > 0 || self.full;
            let text = if !end {
                self.lost += 1;
                lost(&open.head)
            } else if open.name == "attempt_completion" && self.completed {
                envelope::accepted(&open.head)
            } else if allowed || damaged {
                envelope::interrupted(&open.head)
            } else {
                envelope::not_begun(&open.head)
            };
            self.fill(&open, text);
        }
    }

    fn fill(&mut self, open: &Open, text: String) {
        let part = match &open.id {
            Some(id) => {
                Part::CallResult { id: id.clone(), name: open.name.clone(), text, ok: false }
            }
            None => Part::Text(text),
        };
        self.push(Role::User, vec![part]);
    }

    fn files(&mut self, entry: &Value) {
        for path in entry["gone"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            self.seen.remove(path);
        }
        for (path, seen) in entry["files"].as_object().into_iter().flatten() {
            let inside = !path.starts_with('/') && path.split('/').all(|part| part != "..");
            if let Ok(seen) = serde_json::from_value::<Seen>(seen.clone())
                && inside
                && (self.seen.len() < limits::FILES_SEEN || self.seen.contains_key(path))
            {
                self.seen.insert(path.clone(), seen);
            }
        }
    }

    fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if self.full {
            missing.push("its log reached its largest size, so its last steps are missing".into());
        }
        let several = |n: u32, one: &str| {
            if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
        };
        if self.bad_lines > 0 {
            missing.push(format!("its log has {}", several(self.bad_lines, "damaged line")));
        }
        if self.lost > 0 {
            missing.push(format!("{} of calls could not be read", several(self.lost, "result")));
        }
        if self.long > 0 {
            let answers = several(self.long, "answer");
            missing.push(format!("long parameters were not kept, in {answers}"));
        }
        missing
    }
}

/// What a call in XML may be called.
const XML_ID: &str = "xml";

fn lost(head: &str) -> String {
    format!("{head}\n(this result is missing in the log; make the call again if you need it)")
}
