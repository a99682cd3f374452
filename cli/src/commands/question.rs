//! An approval on the terminal: how it is shown, how an answer is read.

use std::fs::File;
use std::io::{BufRead as _, BufReader, IsTerminal as _};

use lapce_ai_ipc::wire::engine::{Approval, Decision};
use tokio::sync::mpsc;

use super::output::{Output, Style, printable};

/// Lines that the user types, read by a thread of its own: reading a terminal blocks.
pub struct Terminal {
    lines: mpsc::Receiver<String>,
}

impl Terminal {
    /// The controlling terminal, or nothing when there is none.
    pub fn open() -> Option<Self> {
        let file = File::open("/dev/tty").ok().filter(File::is_terminal)?;
        let (sender, lines) = mpsc::channel(1);
        std::thread::spawn(move || {
            for line in BufReader::new(file).lines() {
                let Ok(line) = line else { return };
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Some(Self { lines })
    }

    /// The next line; `None` when the terminal is gone.
    pub async fn line(&mut self) -> Option<String> {
        self.lines.recv().await
    }
}

/// Shows exactly what will run, where, and with which limits.
pub fn show(approval: &Approval, out: Output) {
    let strong = |text: &str| out.paint_err(Style::Strong, text);
    out.note(&format!("\n{} {}", strong("allow?"), printable(&approval.summary)));
    for line in printable(&approval.detail).lines() {
        out.note(&format!("  {line}"));
    }
    out.note(&format!("  in {}", printable(&approval.cwd)));
    if !approval.limits.is_empty() {
        out.note(&format!("  limits: {}", printable(&approval.limits)));
    }
    let time = approval.timeout_s;
    out.note(&format!(
        "{} yes, {} all alike in this run, {} no, or say what to do instead ({time} s):",
        strong("y"),
        strong("a"),
        strong("n"),
    ));
}

/// What the user typed, as a decision; `None` is not an answer.
pub fn parse(line: &str) -> Option<(Decision, String)> {
    let line = line.trim();
    let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match (first.to_ascii_lowercase().as_str(), rest.trim()) {
        ("", _) => None,
        ("y" | "yes", "") => Some((Decision::Allow, String::new())),
        ("a" | "all" | "always", "") => Some((Decision::AllowForRun, String::new())),
        ("n" | "no", words) => Some((Decision::Deny, words.to_owned())),
        // Anything else is an instruction, and so a no.
        _ => Some((Decision::Deny, line.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        assert_eq!(parse(" Y "), Some((Decision::Allow, String::new())));
        assert_eq!(parse("a"), Some((Decision::AllowForRun, String::new())));
        assert_eq!(parse("n"), Some((Decision::Deny, String::new())));
        assert_eq!(parse("no, use cargo"), Some((Decision::Deny, "no, use cargo".into())));
        assert_eq!(parse("n use cargo"), Some((Decision::Deny, "use cargo".into())));
        // Only a bare yes is a yes.
        assert_eq!(parse("yes but slowly").unwrap().0, Decision::Deny);
        assert_eq!(parse("  "), None);
    }
}
