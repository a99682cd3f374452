//! The event log of a run: one JSON object a line, only ever appended to.
//!
//! `<state>/runs/<id>.jsonl`, for the user alone. It says what was asked, called, allowed
//! and answered, so that a run can be understood afterwards, and another can go on with its
//! conversation (`past/`, the only reader). Keys do not enter it.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use lapce_ai_ipc::paths::private_dir;
use serde_json::{Value, json};

use super::limits;
use crate::provider::keys::redact;
use crate::secret::Secret;

#[derive(Debug)]
pub struct Journal {
    file: Option<File>,
    path: PathBuf,
    written: usize,
    secrets: Vec<Secret>,
}

impl Journal {
    pub fn create(state: &Path, id: &str) -> io::Result<Self> {
        let dir = state.join("runs");
        private_dir(&dir)?;
        prune(&dir);
        let path = dir.join(format!("{id}.jsonl"));
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { file: Some(file), path, written: 0, secrets: Vec::new() })
    }

    /// Takes these out of everything that is written.
    pub fn keep_out(&mut self, secrets: Vec<Secret>) {
        self.secrets = secrets;
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one entry: `{"t": …, "event": name, …fields}`. A journal that cannot be
    /// written (a full disk) does not end a run.
    pub fn event(&mut self, name: &str, mut fields: Value) {
        let Some(file) = &mut self.file else { return };
        clean(&mut fields, &self.secrets);
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let mut entry = json!({"t": u64::try_from(millis).unwrap_or(0), "event": name});
        if let (Value::Object(entry), Value::Object(fields)) = (&mut entry, fields) {
            entry.extend(fields);
        }
        let mut line = entry.to_string();
        line.push('\n');
        self.written += line.len();
        let full = self.written > limits::JOURNAL_BYTES;
        if full {
            "{\"event\":\"journal_full\"}\n".clone_into(&mut line);
        }
        if let Err(error) = file.write_all(line.as_bytes()) {
            tracing::warn!(path = %self.path.display(), %error, "the journal of a run cannot be written");
            self.file = None;
        } else if full {
            self.file = None;
        }
    }
}

/// Takes keys out of all texts and cuts long ones, wherever they are.
fn clean(value: &mut Value, secrets: &[Secret]) {
    match value {
        Value::String(text) => {
            if !secrets.is_empty() {
                *text = redact(std::mem::take(text), secrets);
            }
            if text.len() > limits::JOURNAL_TEXT_BYTES {
                let cut = text.len() - limits::JOURNAL_TEXT_BYTES;
                text.truncate(text.floor_char_boundary(limits::JOURNAL_TEXT_BYTES));
                let _ = write!(text, "… ({cut} bytes cut)");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| clean(item, secrets)),
        Value::Object(map) => map.values_mut().for_each(|item| clean(item, secrets)),
        _ => {}
    }
}

/// Keeps the newest journals; names begin with the time.
fn prune(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut names: Vec<_> = entries
        .flatten()
        .map(|e| e.file_name())
        .filter(|name| Path::new(name).extension().is_some_and(|e| e == "jsonl"))
        .collect();
    names.sort();
    let surplus = (names.len() + 1).saturating_sub(limits::JOURNALS);
    for name in &names[..surplus.min(names.len())] {
        let _ = fs::remove_file(dir.join(name));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn entries_are_lines_of_json_for_the_user_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(dir.path(), "20260101-000000-abc").unwrap();
        journal.event("started", json!({"task": "a\nb"}));
        journal
            .event("long", json!({"deep": [{"text": "x".repeat(limits::JOURNAL_TEXT_BYTES + 5)}]}));
        let text = fs::read_to_string(journal.path()).unwrap();
        let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(
            (lines[0]["event"].as_str(), lines[0]["task"].as_str()),
            (Some("started"), Some("a\nb"))
        );
        assert!(lines[0]["t"].as_u64().unwrap() > 1_700_000_000_000);
        assert!(lines[1]["deep"][0]["text"].as_str().unwrap().ends_with("(5 bytes cut)"));
        assert_eq!(fs::metadata(journal.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Journal::create(dir.path(), "20260101-000000-abc").is_err());
    }

    #[test]
    fn old_journals_go() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..limits::JOURNALS + 3 {
            Journal::create(dir.path(), &format!("20260101-000000-{n:04}")).unwrap();
        }
        let count = fs::read_dir(dir.path().join("runs")).unwrap().count();
        assert_eq!(count, limits::JOURNALS);
        assert!(!dir.path().join("runs/20260101-000000-0000.jsonl").exists());
    }
}
