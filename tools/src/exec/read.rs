//! `read_file`.

use std::fmt::Write as _;
use std::io::Read as _;

use crate::call::ToolCall;
use crate::exec::files::Done;
use crate::exec::output;
use crate::exec::safe_fs::{Found, Tree, explain, seen, show};
use crate::limits::{
    PICTURE_BYTES, READ_MAX_BYTES, READ_MAX_FILES, READ_MAX_LINE_BYTES, READ_MAX_LINES,
    READ_PICTURES, SNIFF_BYTES, size,
};
use crate::native::range;
use crate::protocol::Report;

/// Files larger than this are mapped, not loaded.
const MAP_FROM: u64 = 1 << 20;
/// Pages of a mapped file are given back in pieces of this size and alignment: that of the
/// largest page, since the kernel maps a large page again as a whole when its rest is read.
const RELEASE_BYTES: usize = 2 << 20;
/// Files up to this size are remembered for conflict detection.
const REMEMBER_BYTES: u64 = crate::limits::EDIT_MAX_BYTES;

pub(crate) fn run(call: &ToolCall, tree: &Tree<'_>, report: &mut Report) -> Done {
    let wanted = wanted(call)?;
    if wanted.len() > READ_MAX_FILES {
        return Err(format!("{} files in one call; at most {READ_MAX_FILES}", wanted.len()));
    }
    let mut out = String::from("<files>\n");
    let mut failed = 0;
    let mut room = Room { bytes: READ_MAX_BYTES, pictures: READ_PICTURES };
    for (path, ranges) in &wanted {
        match one(path, ranges, tree, report, &mut room) {
            Ok(text) => out.push_str(&text),
            Err(error) => {
                failed += 1;
                let _ = write!(out, "<file><path>{path}</path>\n<error>{error}</error>\n</file>\n");
            }
        }
    }
    out.push_str("</files>");
    if failed == wanted.len() { Err(out) } else { Ok(out) }
}

/// What a call may still show.
struct Room {
    bytes: usize,
    pictures: usize,
}

type Wanted = (String, Vec<(u64, u64)>);

fn wanted(call: &ToolCall) -> Result<Vec<Wanted>, String> {
    if let Some(files) = call.params.get("args").and_then(|v| v.as_array()) {
        return Ok(files
            .iter()
            .map(|file| {
                let ranges = file["line_range"].as_array().into_iter().flatten();
                let ranges = ranges.filter_map(|r| range(r.as_str()?)).collect();
                (file["path"].as_str().unwrap_or_default().to_owned(), ranges)
            })
            .collect());
    }
    let from = call.number("start_line").unwrap_or(1);
    let to = call.number("end_line").unwrap_or(i64::MAX);
    if from < 1 || to < from {
        return Err(format!("lines {from} to {to} are not a range counted from 1"));
    }
    let given = call.has("start_line") || call.has("end_line");
    let ranges = if given { vec![(from as u64, to as u64)] } else { Vec::new() };
    Ok(vec![(call.text("path").to_owned(), ranges)])
}

fn one(
    path: &str,
    ranges: &[(u64, u64)],
    tree: &Tree<'_>,
    report: &mut Report,
    room: &mut Room,
) -> Done {
    let found = tree.find(path)?;
    let shown = show(&found.path);
    let mut out = format!("<file><path>{path}</path>\n");
    if found.meta.is_dir() {
        return Err("is a folder; use list_files".into());
    }
    if let Some(text) = tree.request.buffers.get(&shown) {
        let _ = writeln!(out, "<notice>unsaved text from the user's editor</notice>");
        // What a later write is checked by is what was shown: the file once it is saved.
        if text.len() as u64 <= REMEMBER_BYTES {
            report.seen.insert(shown.clone(), seen(&found.meta, text.as_bytes()));
        }
        content(&mut out, text.as_bytes(), ranges, &mut room.bytes, &|_, _| {});
        out.push_str("</file>\n");
        return Ok(out);
    }
    let Found { mut file, meta, .. } = found;
    if meta.len() > MAP_FROM {
        // SAFETY: the mapping is private and read-only; if the file is cut short by
        // somebody meanwhile, this process alone dies, and the host says so.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| explain(&shown, &e))?;
        if meta.len() <= REMEMBER_BYTES {
            report.seen.insert(shown, seen(&meta, &map));
        }
        // Pages that were read are given back as the reading goes on, so that a large file
        // costs no more than a small one.
        let release = |from: usize, to: usize| {
            // SAFETY: the mapping is of a file and only read: pages that are asked for
            // again come from the file.
            let _ = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, from, to - from)
            };
        };
        if !picture(&mut out, &map, tree, room) {
            content(&mut out, &map, ranges, &mut room.bytes, &release);
        }
    } else {
        // A file that grows meanwhile is read to the size it had.
        let mut bytes = Vec::with_capacity(meta.len() as usize);
        file.by_ref().take(MAP_FROM).read_to_end(&mut bytes).map_err(|e| explain(&shown, &e))?;
        report.seen.insert(shown, seen(&meta, &bytes));
        if !picture(&mut out, &bytes, tree, room) {
            content(&mut out, &bytes, ranges, &mut room.bytes, &|_, _| {});
        }
    }
    out.push_str("</file>\n");
    Ok(out)
}

/// Sends an image to the host, where the model takes images. Whether it was sent.
fn picture(out: &mut String, bytes: &[u8], tree: &Tree<'_>, room: &mut Room) -> bool {
    if !tree.request.pictures || room.pictures == 0 || bytes.len() > PICTURE_BYTES {
        return false;
    }
    let Ok(image) = crate::image::check(bytes) else { return false };
    if output::picture(bytes).is_err() {
        return false;
    }
    room.pictures -= 1;
    let (width, height) = (image.width, image.height);
    let _ = writeln!(
        out,
        "<binary_file format=\"{}\">a picture of {width} x {height}, attached</binary_file>",
        image.format
    );
    true
}

/// Told of each piece of the content that is not looked at again.
type Release<'a> = &'a dyn Fn(usize, usize);

fn content(
    out: &mut String,
    bytes: &[u8],
    ranges: &[(u64, u64)],
    room: &mut usize,
    release: Release<'_>,
) {
    if bytes.is_empty() {
        out.push_str("<content/>\n<notice>the file is empty</notice>\n");
        return;
    }
    let sniff = &bytes[..bytes.len().min(SNIFF_BYTES)];
    if let Some(text) = utf16(bytes) {
        out.push_str("<notice>converted from UTF-16</notice>\n");
        return lines(out, text.as_bytes(), ranges, room, &|_, _| {});
    }
    if let Some(format) = binary(sniff) {
        let _ = writeln!(
            out,
            "<binary_file format=\"{format}\">not shown, {}</binary_file>",
            size(bytes.len() as u64)
        );
        return;
    }
    lines(out, bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes), ranges, room, release);
}

/// Writes the wanted lines, numbered.
fn lines(
    out: &mut String,
    bytes: &[u8],
    ranges: &[(u64, u64)],
    room: &mut usize,
    release: Release<'_>,
) {
    let whole = [(1, u64::MAX)];
    let given = !ranges.is_empty();
    let mut ranges = if given { ranges.to_vec() } else { whole.to_vec() };
    ranges.sort_unstable();
    let mut lossy = false;
    let mut total = 0u64;
    let last_wanted = ranges.iter().map(|(_, to)| *to).max().unwrap_or(0);
    let mut shown: Vec<(u64, String)> = Vec::new();
    let mut stopped = None;
    let mut rest = bytes;
    let mut released = 0;
    while !rest.is_empty() {
        let consumed = (bytes.len() - rest.len()) / RELEASE_BYTES * RELEASE_BYTES;
        if consumed > released {
            release(released, consumed);
            released = consumed;
        }
        let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let (line, after) = rest.split_at(end);
        rest = after;
        total += 1;
        if stopped.is_some() || total > last_wanted {
            // Only counted from here.
            let mut at = bytes.len() - rest.len();
            while at < bytes.len() {
                let end = (released + RELEASE_BYTES).clamp(at, bytes.len());
                total += memchr::memchr_iter(b'\n', &bytes[at..end]).count() as u64;
                release(released, end);
                (at, released) = (end, end);
            }
            total += u64::from(rest.last().is_some_and(|b| *b != b'\n'));
            break;
        }
        if !ranges.iter().any(|(from, to)| (*from..=*to).contains(&total)) {
            continue;
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let cut = line.len() > READ_MAX_LINE_BYTES;
        let part = &line[..line.len().min(READ_MAX_LINE_BYTES)];
        let text = String::from_utf8_lossy(part);
        lossy |= !cut && matches!(text, std::borrow::Cow::Owned(_));
        let mut text = text.into_owned();
        if cut {
            let _ = write!(text, "… [{} bytes more]", line.len() - part.len());
        }
        let too_many = !given && shown.len() >= READ_MAX_LINES;
        if too_many || text.len() + 8 > *room {
            stopped = Some(total - 1);
            continue;
        }
        *room -= text.len() + 8;
        shown.push((total, text));
    }
    if lossy {
        out.push_str(
            "<notice>not valid UTF-8: \u{fffd} stands for the bytes that are not</notice>\n",
        );
    }
    let width = shown.last().map_or(1, |(n, _)| n.to_string().len());
    let mut at = 0;
    while at < shown.len() {
        let mut to = at;
        while to + 1 < shown.len() && shown[to + 1].0 == shown[to].0 + 1 {
            to += 1;
        }
        let _ = writeln!(out, "<content lines=\"{}-{}\">", shown[at].0, shown[to].0);
        for (n, text) in &shown[at..=to] {
            let _ = writeln!(out, "{n:>width$} | {text}");
        }
        out.push_str("</content>\n");
        at = to + 1;
    }
    if let Some(after) = stopped {
        let _ = writeln!(
            out,
            "<notice>cut after line {after} of {total}; name a line range to read on</notice>"
        );
    } else if shown.is_empty() {
        let _ = writeln!(out, "<notice>the file has {total} lines; none is in the range</notice>");
    } else if given && last_wanted < total {
        let _ = writeln!(out, "<notice>the file has {total} lines</notice>");
    }
}

fn utf16(bytes: &[u8]) -> Option<String> {
    let unit: fn([u8; 2]) -> u16 = match bytes {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        _ => return None,
    };
    if bytes.len() as u64 > MAP_FROM {
        return None;
    }
    let units = bytes[2..].as_chunks::<2>().0.iter().map(|pair| unit(*pair));
    char::decode_utf16(units).collect::<Result<String, _>>().ok()
}

/// The format of a binary file by its first bytes, `unknown` when it has no name.
pub(crate) fn binary(head: &[u8]) -> Option<&'static str> {
    const MAGIC: &[(&[u8], &str)] = &[
        (b"\x89PNG\r\n", "png"),
        (b"\xff\xd8\xff", "jpeg"),
        (b"GIF8", "gif"),
        (b"%PDF-", "pdf"),
        (b"\x7fELF", "elf"),
        (b"PK\x03\x04", "zip"),
        (b"\x1f\x8b", "gzip"),
        (b"\xfd7zXZ", "xz"),
        (b"(\xb5/\xfd", "zstd"),
        (b"\0asm", "wasm"),
        (b"SQLite format 3", "sqlite"),
        (b"RIFF", "riff"),
    ];
    let named = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, name)| *name);
    // "RIFF" and "GIF8" may begin a text.
    if named.is_some_and(|name| !matches!(name, "riff" | "gif") || head.contains(&0)) {
        return named;
    }
    head.contains(&0).then_some("unknown")
}
