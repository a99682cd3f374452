//! `lapce-ai edit`: a piece of a file, written anew by the model, shown, then kept or not.
//!
//! The file is written by the same tool that the agent uses, so that `lapce-ai undo` takes the
//! edit back.

use std::path::{Path, PathBuf};

use lapce_ai_ipc::wire::engine::{Edit, EditReply, ToolCall};
use serde_json::json;

use super::args;
use super::exit::{Code, Failure, Outcome};
use super::output::{Output, Style, printable};
use super::question::Terminal;
use super::session;
use super::stream::Stream;
use crate::lines::{self, Lines};

/// Largest file that is edited.
const FILE_BYTES: u64 = 1 << 20;
/// Unchanged lines shown around a change.
const CONTEXT: usize = 3;

/// A line from 1, or the first and the last of several.
type Named = (usize, Option<usize>);

pub async fn run(args: args::Edit, out: Output) -> Outcome {
    let root = session::workspace(args.root.root.as_deref())?;
    let (named, wanted) = place(&args.place)?;
    let path = std::path::absolute(named).map_err(Failure::from)?;
    let text = read(&path)?;
    let file = inside(&path, &root)?;
    let piece = chosen(&text, wanted)?;
    // Asked before anything is paid for.
    let mut terminal = None;
    if !args.yes && !args.dry_run {
        terminal = Terminal::open();
        if terminal.is_none() {
            let message = "there is no terminal to ask on";
            return Err(Failure::new(Code::Usage, message, "give --yes or --dry-run"));
        }
    }
    let client = session::engine().await?;
    let (before, after) = lines::around(&text, piece);
    let mut stream = Stream::new(&client, out, false, false);
    stream.quiet = true;
    let call = client.edit(Edit {
        root: root.clone(),
        path: path.to_string_lossy().into_owned(),
        language: extension(&path),
        instruction: args.instruction.join(" "),
        before,
        piece: lines::cut(&text, piece),
        after,
        indent: String::new(),
        model: args.model,
    });
    let reply: EditReply = stream.follow(call).await?;
    let new = lines::replaced(&text, piece, &reply.text);
    if new == text {
        out.note("the model left everything as it is");
        return Ok(());
    }
    show(&text, &new, out)?;
    out.note(&out.paint_err(Style::Dim, &printable(&reply.model)));
    if args.dry_run {
        return Ok(());
    }
    if let Some(mut terminal) = terminal {
        out.note("write this? y (yes), anything else (no):");
        let answer = terminal.line().await.unwrap_or_default();
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Err(Failure::new(Code::Denied, "nothing was written", ""));
        }
    }
    if read(&path)? != text {
        let message = format!("{} was changed meanwhile; nothing was written", path.display());
        return Err(Failure::new(Code::Failed, message, "run the command again"));
    }
    let json = json!({ "path": file, "content": new }).to_string();
    let call = ToolCall { root, name: "write_to_file".to_owned(), json, approved: true };
    let reply = stream.follow(client.tool(call)).await?;
    if !reply.ok {
        return Err(Failure::new(Code::Failed, printable(reply.text.trim()), ""));
    }
    out.note(&out.paint_err(Style::Dim, "written; `lapce-ai undo` takes it back"));
    Ok(())
}

/// `FILE`, `FILE:LINE` or `FILE:FIRST-LAST`, lines from 1.
fn place(given: &str) -> Outcome<(&str, Option<Named>)> {
    let Some((file, numbers)) = given.rsplit_once(':') else { return Ok((given, None)) };
    let (first, last) = match numbers.split_once('-') {
        Some((first, last)) => (first, Some(last)),
        None => (numbers, None),
    };
    let number = |text: &str| text.parse::<usize>().ok().filter(|n| *n > 0);
    match (number(first), last.map(number)) {
        (Some(first), None) => Ok((file, Some((first, None)))),
        (Some(first), Some(Some(last))) if last >= first => Ok((file, Some((first, Some(last))))),
        // A file may have a colon in its name.
        (None, _) => Ok((given, None)),
        _ => Err(Failure::new(
            Code::Usage,
            format!("{given:?} names no lines"),
            "write FILE, FILE:LINE or FILE:FIRST-LAST",
        )),
    }
}

/// The lines to be edited: those named, the block that begins at the one named, or all.
fn chosen(text: &str, wanted: Option<Named>) -> Outcome<Lines> {
    let count = text.lines().count();
    let lines = match wanted {
        None => Lines { first: 0, end: count },
        Some((first, last)) if first > count || last.is_some_and(|last| last > count) => {
            let message = format!("the file has {count} lines, not {}", last.unwrap_or(first));
            return Err(Failure::new(Code::NotFound, message, ""));
        }
        Some((first, Some(last))) => Lines { first: first - 1, end: last },
        Some((first, None)) => lines::block_at(text, first - 1),
    };
    if lines::cut(text, lines).len() > lines::PIECE {
        let message = format!(
            "{} lines are more than the {} KB that are edited at once",
            lines.end - lines.first,
            lines::PIECE >> 10
        );
        return Err(Failure::new(Code::Limit, message, "name lines: FILE:FIRST-LAST"));
    }
    Ok(lines)
}

/// The path in the workspace. The tool that writes refuses what is outside; that is said before
/// a model is paid.
fn inside(path: &Path, root: &str) -> Outcome<PathBuf> {
    let (path, root) = (path.canonicalize()?, Path::new(root).canonicalize()?);
    if let Ok(inside) = path.strip_prefix(&root) {
        return Ok(inside.to_owned());
    }
    let message = format!("{} is outside the workspace {}", path.display(), root.display());
    Err(Failure::new(Code::Denied, message, "give its workspace with --root"))
}

fn read(path: &Path) -> Outcome<String> {
    let fail = |code, what: &str, next: &str| {
        Failure::new(code, format!("cannot edit {}: {what}", path.display()), next)
    };
    let meta = std::fs::metadata(path).map_err(|e| fail(Code::NotFound, &e.to_string(), ""))?;
    if !meta.is_file() {
        return Err(fail(Code::Usage, "it is no file", "name a file of the workspace"));
    }
    if meta.len() > FILE_BYTES {
        return Err(fail(Code::Limit, "it has more than 1 MiB", "use `lapce-ai run`"));
    }
    let bytes = std::fs::read(path).map_err(|e| fail(Code::NotFound, &e.to_string(), ""))?;
    String::from_utf8(bytes).map_err(|_| fail(Code::Usage, "it is not UTF-8", ""))
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().into_owned()
}

/// The lines that differ, with some around them.
fn show(old: &str, new: &str, out: Output) -> Outcome {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - same;
    let tail = old.iter().rev().zip(new.iter().rev()).take(rest);
    let tail = tail.take_while(|(a, b)| a == b).count();
    let from = same.saturating_sub(CONTEXT);
    let to = (old.len() - tail + CONTEXT).min(old.len());
    out.line(&out.paint(Style::Path, &format!("@@ line {} @@", from + 1)))?;
    for line in &old[from..same] {
        out.line(&format!("  {}", printable(line)))?;
    }
    for line in &old[same..old.len() - tail] {
        out.line(&out.paint(Style::Bad, &format!("- {}", printable(line))))?;
    }
    for line in &new[same..new.len() - tail] {
        out.line(&out.paint(Style::Good, &format!("+ {}", printable(line))))?;
    }
    for line in &old[old.len() - tail..to] {
        out.line(&format!("  {}", printable(line)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_file_with_or_without_lines() {
        assert_eq!(place("a.rs").unwrap(), ("a.rs", None));
        assert_eq!(place("a.rs:3").unwrap(), ("a.rs", Some((3, None))));
        assert_eq!(place("d/a.rs:3-7").unwrap(), ("d/a.rs", Some((3, Some(7)))));
        assert_eq!(place("od:d").unwrap(), ("od:d", None));
        assert!(place("a.rs:7-3").is_err());
        assert!(place("a.rs:3-x").is_err());
        assert_eq!(place("a.rs:0").unwrap(), ("a.rs:0", None));
    }

    #[test]
    fn lines_are_checked_against_the_file() {
        let text = "fn a() {\n    b();\n}\n\nfn c() {}\n";
        assert_eq!(chosen(text, None).unwrap(), Lines { first: 0, end: 5 });
        assert_eq!(chosen(text, Some((1, None))).unwrap(), Lines { first: 0, end: 3 });
        assert_eq!(chosen(text, Some((2, Some(2)))).unwrap(), Lines { first: 1, end: 2 });
        assert!(
            chosen(text, Some((6, None))).is_err() && chosen(text, Some((1, Some(6)))).is_err()
        );
        assert!(chosen(&"long line of text\n".repeat(4000), None).is_err());
    }
}
