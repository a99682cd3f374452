//! Undo without Git: what files were before tools changed them.
//!
//! The host writes it, one folder per workspace in the user's state: `objects/` holds
//! contents by their hash, `log.jsonl` one line per change, appended before the change is
//! made. A crash loses nothing that was changed: at worst the last line is torn and is
//! skipped. The oldest changes go when the journal grows past its cap.
//!
//! Contents are kept before anything names them, by helpers too. So whoever keeps or counts on
//! some holds the folder's lock ([`hold`]) until they are named, and what nothing names is
//! removed only while nobody does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::exec::restore::to_hex;
use crate::exec::snapshot::index;
use crate::limits::{COMMAND_MAX_TIMEOUT_S, JOURNAL_MAX_BYTES, JOURNAL_MAX_CHANGES};
use crate::protocol::{BeforeHead, Changed, State};
use crate::sandbox::sys;

/// The state of the workspace's files before the last command; written by the helper.
pub(crate) const SNAPSHOT: &str = "snapshot.bin";
/// How the names of such states begin that belong to commands under way.
pub(crate) const SNAPSHOT_OF: &str = "snapshot-";

/// A command that runs is at most this old, with room to spare.
const SNAPSHOT_LEFT_OVER: Duration = Duration::from_secs(2 * COMMAND_MAX_TIMEOUT_S);

/// One file, or symlink, or folder that stood in the way of one, as it was before one call. Its
/// mode tells which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub run: String,
    pub call: String,
    pub tool: String,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Workspace-relative.
    pub path: String,
    /// False when the call created the file.
    pub existed: bool,
    pub mode: u32,
    pub size: u64,
    /// Name of the content in `objects/`, empty when the file did not exist.
    pub hash: String,
}

/// How a call left its files.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct After {
    run: String,
    call: String,
    #[serde(rename = "after")]
    files: BTreeMap<String, State>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Change(Change),
    After(After),
}

/// What to undo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The last run, or single call without one, that changed something.
    Last,
    /// Every change of a run.
    Run(String),
    /// One call; the newest when several runs have one of that name.
    Call(String),
}

/// One call in the list of what can be undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Undoable {
    pub run: String,
    pub call: String,
    pub tool: String,
    pub at_ms: u64,
    pub files: Vec<String>,
}

/// A file to put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restore {
    pub(crate) change: Change,
    /// How the call left it.
    pub(crate) expect: State,
}

#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    max_bytes: u64,
}

impl Journal {
    /// The journal of the workspace `root`, below the user's state folder.
    pub fn open(state: &Path, root: &Path) -> io::Result<Self> {
        use std::os::unix::ffi::OsStrExt as _;
        let dir = Self::folder(state, root);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir.join("objects"))?;
        // Which workspace it is, for people.
        let note = dir.join("workspace");
        if !note.exists() {
            fs::write(note, root.as_os_str().as_bytes())?;
        }
        Ok(Self { dir, max_bytes: JOURNAL_MAX_BYTES })
    }

    /// Where the journal of a workspace lies.
    pub(crate) fn folder(state: &Path, root: &Path) -> PathBuf {
        use std::os::unix::ffi::OsStrExt as _;
        let name = blake3::hash(root.as_os_str().as_bytes()).to_hex();
        state.join("journal").join(&name.as_str()[..32])
    }

    #[cfg(test)]
    fn with_max_bytes(mut self, max: u64) -> Self {
        self.max_bytes = max;
        self
    }

    /// Keeps one file's state. When this returns, the change may be made.
    pub(crate) fn before(
        &self,
        run: &str,
        call: &str,
        tool: &str,
        head: &BeforeHead,
        content: &[u8],
    ) -> io::Result<()> {
        let _held = hold(&self.dir)?;
        let hash = if head.existed { keep(&self.dir, content)?.to_string() } else { String::new() };
        self.append(&Line::Change(Change {
            run: run.into(),
            call: call.into(),
            tool: tool.into(),
            at_ms: now_ms(),
            path: head.path.clone(),
            existed: head.existed,
            mode: head.mode,
            size: content.len() as u64,
            hash,
        }))
    }

    /// Notes what a command changed; the contents are in the journal already.
    pub(crate) fn command(&self, run: &str, call: &str, changed: &[Changed]) -> io::Result<()> {
        for change in changed {
            self.append(&Line::Change(Change {
                run: run.into(),
                call: call.into(),
                tool: "execute_command".into(),
                at_ms: now_ms(),
                path: change.path.clone(),
                existed: change.existed,
                mode: change.mode,
                size: change.size,
                hash: change.before.clone(),
            }))?;
        }
        let after = changed.iter().map(|c| (c.path.clone(), c.after.clone())).collect();
        self.after(run, call, after)
    }

    /// How other calls left files since a time.
    pub(crate) fn left_by_others(
        &self,
        since_ms: u64,
        run: &str,
        call: &str,
    ) -> io::Result<BTreeMap<String, State>> {
        let (changes, afters) = self.read()?;
        let others: BTreeSet<(String, String)> = changes
            .into_iter()
            .filter(|c| c.at_ms >= since_ms && (c.run != run || c.call != call))
            .map(|c| (c.run, c.call))
            .collect();
        let theirs =
            afters.into_iter().filter(|a| others.contains(&(a.run.clone(), a.call.clone())));
        Ok(theirs.flat_map(|a| a.files).collect())
    }

    /// The folder, for the helper.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Notes how a call left its files, so that an undo can tell whether somebody changed
    /// them since.
    pub(crate) fn after(
        &self,
        run: &str,
        call: &str,
        after: BTreeMap<String, State>,
    ) -> io::Result<()> {
        if after.is_empty() {
            return Ok(());
        }
        self.append(&Line::After(After { run: run.into(), call: call.into(), files: after }))?;
        self.trim()
    }

    /// What can be undone, oldest first.
    pub fn list(&self) -> io::Result<Vec<Undoable>> {
        let mut list: Vec<Undoable> = Vec::new();
        for change in self.read()?.0 {
            match list.last_mut().filter(|u| u.run == change.run && u.call == change.call) {
                Some(last) => last.files.push(change.path),
                None => list.push(Undoable {
                    run: change.run,
                    call: change.call,
                    tool: change.tool,
                    at_ms: change.at_ms,
                    files: vec![change.path],
                }),
            }
        }
        for entry in &mut list {
            entry.files.sort();
            entry.files.dedup();
        }
        Ok(list)
    }

    /// The files to put back: each as it was before the first change selected.
    pub(crate) fn select(&self, selector: &Selector) -> io::Result<Vec<Restore>> {
        let (changes, afters) = self.read()?;
        let key = |c: &Change| (c.run.clone(), c.call.clone());
        let last = changes.last().map(key);
        // Calls are numbered within their run: the newest of that name is meant.
        let named = match selector {
            Selector::Call(call) => changes.iter().rev().find(|c| c.call == *call).map(key),
            _ => None,
        };
        let chosen = |c: &Change| match selector {
            Selector::Run(run) => c.run == *run,
            Selector::Call(_) => named.as_ref() == Some(&key(c)),
            Selector::Last => last.as_ref().is_some_and(|(run, call)| {
                if run.is_empty() { c.run.is_empty() && c.call == *call } else { c.run == *run }
            }),
        };
        let mut calls: BTreeSet<(String, String)> = BTreeSet::new();
        let mut files: BTreeMap<String, Restore> = BTreeMap::new();
        for change in changes.into_iter().filter(chosen) {
            calls.insert(key(&change));
            files.entry(change.path.clone()).or_insert(Restore { change, expect: State::Unknown });
        }
        for after in afters {
            if !calls.contains(&(after.run.clone(), after.call.clone())) {
                continue;
            }
            for (path, state) in after.files {
                if let Some(restore) = files.get_mut(&path) {
                    restore.expect = state;
                }
            }
        }
        Ok(files.into_values().collect())
    }

    /// A kept content, checked against its name.
    pub(crate) fn content(&self, hash: &str) -> io::Result<Vec<u8>> {
        let bytes = fs::read(self.object(hash)?)?;
        if blake3::hash(&bytes).to_hex().as_str() != hash {
            return Err(io::Error::other("a kept content is damaged"));
        }
        Ok(bytes)
    }

    fn object(&self, hash: &str) -> io::Result<PathBuf> {
        if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(io::Error::other("a name in the journal is damaged"));
        }
        Ok(self.dir.join("objects").join(hash))
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log.jsonl")
    }

    fn append(&self, line: &Line) -> io::Result<()> {
        // A torn line of an earlier crash must not swallow this one.
        let mut text = String::from("\n");
        text.push_str(&serde_json::to_string(line)?);
        text.push('\n');
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(self.log())?
            .write_all(text.as_bytes())
    }

    fn read(&self) -> io::Result<(Vec<Change>, Vec<After>)> {
        let text = match fs::read(self.log()) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
            Err(e) => return Err(e),
        };
        let (mut changes, mut afters) = (Vec::new(), Vec::new());
        for line in text.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(Line::Change(change)) => changes.push(change),
                Ok(Line::After(after)) => afters.push(after),
                Err(_) => {}
            }
        }
        Ok((changes, afters))
    }

    /// Drops the oldest changes past the cap, and contents that nothing names. While somebody
    /// keeps some, the next call does it.
    fn trim(&self) -> io::Result<()> {
        let lock = lock_file(&self.dir)?;
        if sys::lock(lock.as_fd(), true).is_err() {
            return Ok(());
        }
        let (changes, afters) = self.read()?;
        let mut known = BTreeSet::new();
        let mut total = 0u64;
        let mut first = 0;
        for (i, change) in changes.iter().enumerate().rev() {
            if known.insert(change.hash.as_str()) {
                total += change.size;
            }
            if total > self.max_bytes || changes.len() - i > JOURNAL_MAX_CHANGES {
                first = i + 1;
                break;
            }
        }
        if first == 0 {
            return Ok(());
        }
        let kept = &changes[first..];
        let mut text = String::new();
        for change in kept {
            text.push_str(&serde_json::to_string(change)?);
            text.push('\n');
        }
        for after in &afters {
            if kept.iter().any(|c| c.run == after.run && c.call == after.call) {
                text.push_str(&serde_json::to_string(after)?);
                text.push('\n');
            }
        }
        let temporary = self.dir.join("log.jsonl.new");
        fs::write(&temporary, text)?;
        fs::rename(&temporary, self.log())?;
        let mut named: BTreeSet<&str> = kept.iter().map(|c| c.hash.as_str()).collect();
        // What commands under way may yet need stays, and what the next one will not read again.
        let in_snapshots = self.in_snapshots();
        named.extend(in_snapshots.iter().map(String::as_str));
        for entry in fs::read_dir(self.dir.join("objects"))?.flatten() {
            if entry.file_name().to_str().is_none_or(|name| !named.contains(name)) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}

impl Journal {
    /// The contents that snapshots name. Those of commands that an engine left behind when it
    /// died are removed.
    fn in_snapshots(&self) -> Vec<String> {
        let mut named = Vec::new();
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with(SNAPSHOT_OF) && name != SNAPSHOT {
                continue;
            }
            let age = entry.metadata().ok().and_then(|m| m.modified().ok()?.elapsed().ok());
            if name != SNAPSHOT && age.is_some_and(|age| age > SNAPSHOT_LEFT_OVER) {
                let _ = fs::remove_file(entry.path());
                continue;
            }
            named.extend(index::hashes(&entry.path()).iter().map(|hash| to_hex(hash)));
        }
        named
    }
}

fn lock_file(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).open(folder.join("lock"))
}

/// While the result lives, no content is removed from the journal in `folder`.
pub(crate) fn hold(folder: &Path) -> io::Result<File> {
    let file = lock_file(folder)?;
    sys::lock(file.as_fd(), false)?;
    Ok(file)
}

/// Puts a content into the journal in `folder` under its hash. The caller holds it.
pub(crate) fn keep(folder: &Path, content: &[u8]) -> io::Result<blake3::Hash> {
    let hash = blake3::hash(content);
    let object = folder.join("objects").join(hash.to_hex().as_str());
    // One that a crash of the machine cut short is written again.
    if !object.metadata().is_ok_and(|m| m.len() == content.len() as u64) {
        let (temporary, mut file) = unfinished(&object)?;
        file.write_all(content)?;
        fs::rename(&temporary, &object)?;
    }
    Ok(hash)
}

/// A file beside `object` that nobody else writes. Process numbers would not do: every helper
/// is the first process of its own namespace.
fn unfinished(object: &Path) -> io::Result<(PathBuf, File)> {
    let mut n = 0u32;
    loop {
        let name = object.with_extension(format!("{n}.new"));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&name) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && n < u32::MAX => n += 1,
            file => return Ok((name, file?)),
        }
    }
}

pub(crate) fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(path: &str, existed: bool) -> BeforeHead {
        BeforeHead { path: path.into(), existed, mode: 0o644 }
    }

    #[test]
    fn a_content_that_another_is_about_to_keep_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("objects")).unwrap();
        let hash = blake3::hash(b"one").to_hex().to_string();
        let (other, _file) = unfinished(&dir.path().join("objects").join(&hash)).unwrap();
        assert_eq!(keep(dir.path(), b"one").unwrap().to_string(), hash);
        assert_eq!(fs::read(dir.path().join("objects").join(&hash)).unwrap(), b"one");
        assert!(other.exists(), "what another writes is left alone");
    }

    #[test]
    fn the_oldest_state_of_a_selection_is_what_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), Path::new("/w")).unwrap();
        journal.before("r1", "c1", "edit", &head("a", true), b"one").unwrap();
        journal.before("r1", "c2", "edit", &head("a", true), b"two").unwrap();
        journal.before("r1", "c2", "edit", &head("b", false), b"").unwrap();
        journal.after("r1", "c2", BTreeMap::from([("a".into(), State::File("h".into()))])).unwrap();
        let all = journal.select(&Selector::Last).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(journal.content(&all[0].change.hash).unwrap(), b"one");
        assert_eq!(all[0].expect, State::File("h".into()));
        assert!(!all[1].change.existed);
        let one = journal.select(&Selector::Call("c2".into())).unwrap();
        assert_eq!(journal.content(&one[0].change.hash).unwrap(), b"two");
        assert!(journal.select(&Selector::Run("none".into())).unwrap().is_empty());
        assert_eq!(journal.list().unwrap().len(), 2);
    }

    #[test]
    fn what_a_call_left_is_a_text_or_null() {
        let line = r#"{"run":"r","call":"c","after":{"a":null,"b":"ff","c":"link:ff","d":"folder","e":"unknown"}}"#;
        let after: After = serde_json::from_str(line).unwrap();
        let want = [
            State::Gone,
            State::File("ff".into()),
            State::Link("ff".into()),
            State::Folder,
            State::Unknown,
        ];
        assert!(after.files.values().eq(&want));
        assert_eq!(serde_json::to_string(&after).unwrap(), line);
    }

    #[test]
    fn a_torn_line_loses_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), Path::new("/w")).unwrap();
        journal.before("r", "c1", "edit", &head("a", true), b"one").unwrap();
        let log = journal.log();
        let mut text = fs::read(&log).unwrap();
        text.extend_from_slice(b"{\"run\":\"r\",\"call\":\"c2\",\"pa");
        fs::write(&log, text).unwrap();
        journal.before("r", "c3", "edit", &head("b", true), b"two").unwrap();
        let calls: Vec<_> = journal.list().unwrap().into_iter().map(|u| u.call).collect();
        assert_eq!(calls, ["c1", "c3"]);
    }

    #[test]
    fn the_oldest_go_past_the_cap() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), Path::new("/w")).unwrap().with_max_bytes(2_500);
        for i in 0..5u8 {
            let call = format!("c{i}");
            journal.before("r", &call, "edit", &head("a", true), &[i; 1_000]).unwrap();
            journal.after("r", &call, BTreeMap::from([("a".into(), State::Gone)])).unwrap();
        }
        let calls: Vec<_> = journal.list().unwrap().into_iter().map(|u| u.call).collect();
        assert_eq!(calls, ["c3", "c4"]);
        assert_eq!(fs::read_dir(journal.dir.join("objects")).unwrap().count(), 2);
    }

    #[test]
    fn what_other_calls_left_is_theirs_and_a_command_under_way_keeps_its_contents() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), Path::new("/w")).unwrap().with_max_bytes(1_500);
        let since = now_ms();
        for (call, left) in [("mine", "1"), ("other", "2")] {
            journal.before("r", call, "edit", &head("a", true), b"x").unwrap();
            let left = State::File(left.into());
            journal.after("r", call, BTreeMap::from([("a".into(), left)])).unwrap();
        }
        let theirs = journal.left_by_others(since, "r", "mine").unwrap();
        assert_eq!(theirs, BTreeMap::from([("a".to_owned(), State::File("2".to_owned()))]));
        assert!(journal.left_by_others(now_ms() + 1, "r", "mine").unwrap().is_empty());
        let keep = |content: &[u8]| keep(&journal.dir, content).unwrap();
        let (kept, last, lost) = (keep(b"kept"), keep(b"last"), keep(b"no"));
        for (name, hash) in [(&format!("{SNAPSHOT_OF}c.bin")[..], kept), (SNAPSHOT, last)] {
            index::tests::naming(&hash).save(&journal.dir.join(name)).unwrap();
        }
        overflow(&journal);
        assert!(journal.content(&kept.to_hex()).is_ok() && journal.content(&last.to_hex()).is_ok());
        assert!(journal.content(&lost.to_hex()).is_err());
    }

    /// Changes past the cap.
    fn overflow(journal: &Journal) {
        for i in 0..3u8 {
            journal.before("r", "c", "edit", &head("b", true), &[i; 1_000]).unwrap();
        }
        journal.after("r", "c", BTreeMap::from([("b".into(), State::Gone)])).unwrap();
    }

    #[test]
    fn what_is_being_kept_is_not_collected_before_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), Path::new("/w")).unwrap().with_max_bytes(1_500);
        let found = keep(&journal.dir, b"found").unwrap();
        // A helper that looks at the files: it has found one content and kept another.
        let held = hold(&journal.dir).unwrap();
        let kept = keep(&journal.dir, b"kept").unwrap();
        overflow(&journal);
        for hash in [found, kept] {
            assert!(journal.content(&hash.to_hex()).is_ok());
        }
        // It ended without naming them.
        drop(held);
        overflow(&journal);
        for hash in [found, kept] {
            assert!(journal.content(&hash.to_hex()).is_err());
        }
    }

    #[test]
    fn damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), Path::new("/w")).unwrap();
        journal.before("r", "c", "edit", &head("a", true), b"one").unwrap();
        let hash = journal.select(&Selector::Last).unwrap()[0].change.hash.clone();
        fs::write(journal.object(&hash).unwrap(), "other").unwrap();
        assert!(journal.content(&hash).is_err());
        assert!(journal.content("../log.jsonl").is_err());
    }
}
