//! The lines of an event log, however long, damaged or foreign the file is.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::agent::limits;

/// Opens the log of a run: a plain file and nothing else.
pub(super) fn open(dir: &Path, run: &str) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(dir.join(format!("{run}.jsonl")))?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no plain file")) }
}

/// Entries one after the other; `None` for a line that is none.
pub(super) struct Lines {
    reader: BufReader<io::Take<File>>,
    line: Vec<u8>,
}

impl Lines {
    /// All of a log, up to the largest that is written.
    pub(super) fn all(file: File) -> Self {
        Self::new(file, limits::JOURNAL_READ_BYTES)
    }

    /// The last part of it, from the first whole line on.
    pub(super) fn tail(mut file: File) -> io::Result<Self> {
        let from = file.metadata()?.len().saturating_sub(limits::JOURNAL_TAIL_BYTES);
        file.seek(SeekFrom::Start(from))?;
        let mut lines = Self::new(file, limits::JOURNAL_TAIL_BYTES);
        if from > 0 {
            lines.next();
        }
        Ok(lines)
    }

    fn new(file: File, most: u64) -> Self {
        Self { reader: BufReader::new(file.take(most)), line: Vec::new() }
    }
}

impl Iterator for Lines {
    type Item = Option<Value>;

    fn next(&mut self) -> Option<Self::Item> {
        let most = limits::JOURNAL_LINE_BYTES;
        self.line.clear();
        // An error while reading is an end; what is missing then is noticed by the reader.
        let got = self.reader.by_ref().take(most).read_until(b'\n', &mut self.line).ok()?;
        if got == 0 {
            return None;
        }
        if got as u64 == most && self.line.last() != Some(&b'\n') {
            while let Ok(n @ 1..) = {
                self.line.clear();
                self.reader.by_ref().take(most).read_until(b'\n', &mut self.line)
            } {
                if self.line.last() == Some(&b'\n') || (n as u64) < most {
                    break;
                }
            }
            return Some(None);
        }
        if self.line.trim_ascii().is_empty() {
            return Some(None);
        }
        let entry = serde_json::from_slice::<Value>(&self.line).ok();
        Some(entry.filter(|entry| entry["event"].is_string()))
    }
}
