//! `search_files`.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use grep_matcher::Matcher as _;
use grep_regex::RegexMatcherBuilder;
use grep_searcher::{
    BinaryDetection, MmapChoice, Searcher, SearcherBuilder, Sink, SinkContext, SinkMatch,
};
use ignore::WalkState;

use crate::call::ToolCall;
use crate::exec::files::Done;
use crate::exec::list::{closed, open_walker};
use crate::exec::safe_fs::{Tree, show};
use crate::limits::{
    REGEX_MAX_BYTES, REGEX_SIZE_LIMIT, SEARCH_CONTEXT, SEARCH_MAX_BYTES, SEARCH_MAX_HITS,
    SEARCH_MAX_LINE_BYTES,
};

/// Hits after which the walk stops; more than are shown, so that what is shown does not
/// depend on which thread was first.
const GATHER_HITS: usize = 20 * SEARCH_MAX_HITS;
/// Longest line the searcher holds, and with it its memory per thread.
const SEARCHER_HEAP: usize = 8 << 20;
/// Files smaller than this are read at once and looked through in one go; nearly all have
/// no hit, and for those nothing more is done.
const WHOLE_FILE: usize = 64 << 10;

/// The hits of one file.
struct FileHits {
    path: String,
    /// Groups of neighbouring lines.
    groups: Vec<String>,
    hits: usize,
}

pub(crate) fn run(call: &ToolCall, tree: &Tree<'_>) -> Done {
    let regex = call.text("regex");
    if regex.len() > REGEX_MAX_BYTES {
        return Err(format!("the regex is {} bytes long; at most {REGEX_MAX_BYTES}", regex.len()));
    }
    let matcher = RegexMatcherBuilder::new()
        .size_limit(REGEX_SIZE_LIMIT)
        .dfa_size_limit(REGEX_SIZE_LIMIT)
        .line_terminator(Some(b'\n'))
        .multi_line(true)
        .build(regex)
        .map_err(|e| format!("the regex is not valid (Rust syntax): {e}"))?;
    let found = tree.find(call.text("path"))?;
    let start = tree.root.join(&found.path);
    let pattern = glob(call.text("file_pattern"))?;

    let results: Mutex<Vec<FileHits>> = Mutex::new(Vec::new());
    let problem: Mutex<Option<String>> = Mutex::new(None);
    let total = AtomicUsize::new(0);
    let stopped = AtomicBool::new(false);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
    let (mut walk, left_out) = open_walker(tree, &start);
    walk.threads(threads).build_parallel().run(|| {
        let mut searcher = searcher();
        let mut buffer = vec![0; WHOLE_FILE];
        let (matcher, results, problem) = (matcher.clone(), &results, &problem);
        let (total, stopped, pattern) = (&total, &stopped, &pattern);
        Box::new(move |entry| {
            let Ok(entry) = entry else { return WalkState::Continue };
            if let Some(Err(text)) = entry.error().map(closed) {
                *problem.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(text);
                return WalkState::Quit;
            }
            if !entry.file_type().is_some_and(|k| k.is_file()) {
                return WalkState::Continue;
            }
            let relative = entry.path().strip_prefix(&tree.root).unwrap_or(entry.path());
            if pattern.as_ref().is_some_and(|p| !p.is_match(relative)) {
                return WalkState::Continue;
            }
            if let Some(hits) = one(&mut searcher, &mut buffer, &matcher, tree, relative) {
                let before = total.fetch_add(hits.hits, Ordering::Relaxed);
                results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(hits);
                if before > GATHER_HITS {
                    stopped.store(true, Ordering::Relaxed);
                    return WalkState::Quit;
                }
            }
            WalkState::Continue
        })
    });
    if let Some(text) = problem.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        return Err(text);
    }
    let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(render(results, stopped.into_inner(), left_out.note()))
}

/// A glob without a slash matches names in any folder, as in `.gitignore`.
fn glob(pattern: &str) -> Result<Option<globset::GlobSet>, String> {
    let pattern = pattern.trim();
    if pattern.is_empty() || pattern == "*" {
        return Ok(None);
    }
    let bad = |e: globset::Error| format!("file_pattern is not a valid glob: {e}");
    let mut set = globset::GlobSetBuilder::new();
    for part in
        pattern.split(',').map(str::trim).filter(|p| !p.is_empty() && !pattern.contains('{'))
    {
        set.add(one_glob(part).map_err(bad)?);
    }
    if pattern.contains('{') {
        set.add(one_glob(pattern).map_err(bad)?);
    }
    set.build().map(Some).map_err(bad)
}

fn one_glob(part: &str) -> Result<globset::Glob, globset::Error> {
    let part = part.strip_prefix("./").unwrap_or(part);
    let anywhere = if part.contains('/') { part.to_owned() } else { format!("**/{part}") };
    globset::GlobBuilder::new(&anywhere).literal_separator(true).build()
}

fn searcher() -> Searcher {
    SearcherBuilder::new()
        .line_number(true)
        .before_context(SEARCH_CONTEXT)
        .after_context(SEARCH_CONTEXT)
        .binary_detection(BinaryDetection::quit(0))
        .memory_map(MmapChoice::never())
        .heap_limit(Some(SEARCHER_HEAP))
        .build()
}

fn one(
    searcher: &mut Searcher,
    buffer: &mut [u8],
    matcher: &grep_regex::RegexMatcher,
    tree: &Tree<'_>,
    relative: &Path,
) -> Option<FileHits> {
    let buffers = &tree.request.buffers;
    let unsaved = if buffers.is_empty() { None } else { buffers.get(&show(relative)) };
    let mut sink = Gather { hits: 0, groups: vec![String::new()], binary: false };
    let searched = if let Some(text) = unsaved {
        searcher.search_slice(matcher, text.as_bytes(), &mut sink)
    } else {
        let file = tree.open_walked(relative).ok()?;
        let (read, whole) = fill(&file, buffer).ok()?;
        let start = &buffer[..read];
        if whole {
            // No line of it can match: most files end here.
            if matches!(matcher.find_candidate_line(start), Ok(None)) {
                return None;
            }
            searcher.search_slice(matcher, start, &mut sink)
        } else {
            searcher.search_reader(matcher, start.chain(file), &mut sink)
        }
    };
    let path = show(relative);
    if let Err(e) = searched {
        // Most of all a line longer than the heap: said, not lost.
        if sink.hits == 0 && !sink.binary {
            sink.groups = vec![format!("  (not searched to its end: {e})\n")];
            return Some(FileHits { path, groups: sink.groups, hits: 0 });
        }
    }
    sink.groups.retain(|g| !g.is_empty());
    (sink.hits > 0).then_some(FileHits { path, groups: sink.groups, hits: sink.hits })
}

/// Reads until `buffer` is full or the file ends; returns how much, and whether that is all.
fn fill(mut file: &File, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read(&mut buffer[read..]) {
            Ok(0) => return Ok((read, true)),
            Ok(n) => read += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok((read, false))
}

/// Collects numbered lines.
struct Gather {
    hits: usize,
    groups: Vec<String>,
    binary: bool,
}

impl Gather {
    fn line(&mut self, number: Option<u64>, bytes: &[u8]) {
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let part = &line[..line.len().min(SEARCH_MAX_LINE_BYTES)];
        let text = String::from_utf8_lossy(part);
        let Some(group) = self.groups.last_mut() else { return };
        let _ = write!(group, "{:>5} | {}", number.unwrap_or(0), text);
        if line.len() > part.len() {
            let _ = write!(group, "… [{} bytes more]", line.len() - part.len());
        }
        group.push('\n');
    }
}

impl Sink for Gather {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> io::Result<bool> {
        self.hits += 1;
        self.line(found.line_number(), found.bytes());
        Ok(self.hits < SEARCH_MAX_HITS)
    }

    fn context(&mut self, _: &Searcher, context: &SinkContext<'_>) -> io::Result<bool> {
        self.line(context.line_number(), context.bytes());
        Ok(true)
    }

    fn context_break(&mut self, _: &Searcher) -> io::Result<bool> {
        self.groups.push(String::new());
        Ok(true)
    }

    fn binary_data(&mut self, _: &Searcher, _: u64) -> io::Result<bool> {
        self.binary = true;
        // A file found to be binary half-way has no lines to show.
        self.hits = 0;
        self.groups = vec![String::new()];
        Ok(false)
    }
}

fn render(mut results: Vec<FileHits>, stopped: bool, note: Option<String>) -> String {
    results.sort_by(|a, b| a.path.cmp(&b.path));
    let total: usize = results.iter().map(|r| r.hits).sum();
    let mut body = String::new();
    let mut shown = 0;
    let mut files_left = 0;
    for result in &results {
        let size: usize = result.groups.iter().map(|g| g.len() + 8).sum();
        let fits = shown + result.hits <= SEARCH_MAX_HITS || shown == 0;
        if !fits || body.len() + size > SEARCH_MAX_BYTES + SEARCH_MAX_BYTES / 4 {
            files_left += 1;
            continue;
        }
        shown += result.hits;
        let _ = write!(body, "\n# {}\n", result.path);
        for group in &result.groups {
            body.push_str(group);
            body.push_str("----\n");
        }
    }
    let plus = if stopped { "more than " } else { "" };
    let mut out = match total {
        1 => "Found 1 result.\n".to_owned(),
        n => format!("Found {plus}{n} results.\n"),
    };
    if files_left > 0 {
        let _ = writeln!(
            out,
            "Showing {shown} of them; those in {files_left} more files are left out. Narrow the \
             search to see them."
        );
    }
    if let Some(note) = note {
        let _ = writeln!(out, "[{note}]");
    }
    out.push_str(&body);
    out
}
