//! An approval on the terminal: how it is shown, how an answer is read.

use std::fs::File;
use std::io::{BufRead as _, BufReader, IsTerminal as _};

use lapce_ai_ipc::wire::engine::{Approval, Decision, Wanted};
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
    let head = match approval.wanted {
        Wanted::Approval => "allow?",
        Wanted::Question => "question:",
        Wanted::Review => "done?",
    };
    out.note(&format!("\n{} {}", strong(head), printable(&approval.summary)));
    for line in printable(&approval.detail).lines() {
        out.note(&format!("  {line}"));
    }
    if approval.wanted == Wanted::Approval {
        out.note(&format!("  in {}", printable(&approval.cwd)));
    }
    if !approval.limits.is_empty() {
        out.note(&format!("  limits: {}", printable(&approval.limits)));
    }
    out.note(&format!("{} ({} s):", choices(approval), approval.timeout_s));
}

/// What can be answered, in a sentence.
pub fn choices(approval: &Approval) -> String {
    match approval.wanted {
        Wanted::Question => {
            let numbered = (1..).zip(&approval.suggestions);
            let list: Vec<_> = numbered.map(|(n, s)| format!("{n} {}", printable(s))).collect();
            if list.is_empty() {
                "write the answer".to_owned()
            } else {
                format!("{}, or write another answer", list.join(", "))
            }
        }
        Wanted::Review => "y to accept, or say what is still to be done".to_owned(),
        Wanted::Approval => {
            let mut words = vec!["y yes"];
            for scope in &approval.scopes {
                words.push(match scope {
                    Decision::AllowForRun => "a all alike in this run",
                    Decision::AllowInWorkspace => "w always in this workspace",
                    Decision::AllowAlways => "e everywhere, always",
                    Decision::Allow | Decision::Deny | Decision::AllowChanged => continue,
                });
            }
            format!("{}, n no, or say what to do instead", words.join(", "))
        }
    }
}

/// What was typed at this question.
pub fn parse_for(approval: &Approval, line: &str) -> Option<(Decision, String)> {
    let line = line.trim();
    match approval.wanted {
        _ if line.is_empty() => None,
        Wanted::Approval => parse(line),
        Wanted::Question => {
            let chosen = line.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
            let chosen = chosen.and_then(|n| approval.suggestions.get(n));
            Some((Decision::Allow, chosen.cloned().unwrap_or_else(|| line.to_owned())))
        }
        Wanted::Review => match line.to_ascii_lowercase().as_str() {
            "y" | "yes" => Some((Decision::Allow, String::new())),
            _ => Some((Decision::Deny, line.to_owned())),
        },
    }
}

/// What the user typed, as a decision; `None` is not an answer.
pub fn parse(line: &str) -> Option<(Decision, String)> {
    let line = line.trim();
    let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match (first.to_ascii_lowercase().as_str(), rest.trim()) {
        ("", _) => None,
        ("y" | "yes", "") => Some((Decision::Allow, String::new())),
        ("a" | "all", "") => Some((Decision::AllowForRun, String::new())),
        ("w" | "workspace", "") => Some((Decision::AllowInWorkspace, String::new())),
        ("e" | "everywhere" | "always", "") => Some((Decision::AllowAlways, String::new())),
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
        assert_eq!(parse("w"), Some((Decision::AllowInWorkspace, String::new())));
        assert_eq!(parse("e"), Some((Decision::AllowAlways, String::new())));
        assert_eq!(parse("n"), Some((Decision::Deny, String::new())));
        assert_eq!(parse("no, use cargo"), Some((Decision::Deny, "no, use cargo".into())));
        assert_eq!(parse("n use cargo"), Some((Decision::Deny, "use cargo".into())));
        // Only a bare yes is a yes.
        assert_eq!(parse("yes but slowly").unwrap().0, Decision::Deny);
        assert_eq!(parse("  "), None);
    }

    #[test]
    fn answers_to_a_question_and_to_a_result() {
        let question = Approval {
            wanted: Wanted::Question,
            suggestions: vec!["8080".into(), "3000".into()],
            ..Approval::default()
        };
        assert_eq!(choices(&question), "1 8080, 2 3000, or write another answer");
        assert_eq!(parse_for(&question, "2"), Some((Decision::Allow, "3000".into())));
        assert_eq!(parse_for(&question, "9"), Some((Decision::Allow, "9".into())));
        assert_eq!(parse_for(&question, "no"), Some((Decision::Allow, "no".into())));
        assert_eq!(parse_for(&question, " "), None);
        let review = Approval { wanted: Wanted::Review, ..Approval::default() };
        assert_eq!(parse_for(&review, "Y"), Some((Decision::Allow, String::new())));
        assert_eq!(parse_for(&review, "add a test"), Some((Decision::Deny, "add a test".into())));
    }

    #[test]
    fn only_what_was_offered_is_named() {
        let mut approval = Approval::default();
        assert_eq!(choices(&approval), "y yes, n no, or say what to do instead");
        approval.scopes = vec![Decision::AllowForRun, Decision::AllowInWorkspace];
        assert_eq!(
            choices(&approval),
            "y yes, a all alike in this run, w always in this workspace, n no, or say what to do instead"
        );
    }
}
