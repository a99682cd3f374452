//! What a typed line means. Pure.

use super::app::Mode;
use crate::commands::run::may_name_a_run;

pub const HELP: &str = "\
A line is a question about the workspace, or after Tab a task for the agent.
  /ask QUESTION    ask, whatever Tab says
  /run TASK        let the agent work on it; it goes on with the run before it here
  /continue [ID] [WORDS]  go on with an earlier run of this workspace, the newest without ID
  /search WORDS    passages that fit the words, without a model
  /undo            put files back as they were before the last run or call
  /model NAME      the model from now on, as PROVIDER/MODEL; none for the configured one
  /new             begin a new conversation: the next task starts a run of its own
  /quit            leave (Ctrl-D)
Ctrl-C or Esc stops what is under way; a line that is typed meanwhile is done after it.
Alt-Enter begins a new line, ↑ and ↓ bring earlier ones.
When something is asked of you, what you type is the answer; at an approval, edit opens what would
be written or run in your editor, and what you leave there is what happens.";

const NAMES: &[&str] = &[
    "/ask",
    "/run",
    "/continue",
    "/search",
    "/undo",
    "/model",
    "/new",
    "/help",
    "/?",
    "/quit",
    "/exit",
    "/q",
];

#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Ask(String),
    Run(String),
    /// The run to go on with, or nothing for the newest, and what is to be done.
    Continue(String, String),
    Search(String),
    Undo,
    Model(String),
    New,
    Help,
    Quit,
}

/// Reads a line; an error says what is wrong with it.
pub fn read(text: &str, mode: Mode) -> Result<Command, String> {
    let text = text.trim();
    // A prompt of an MCP server is part of a question or task.
    let Some(rest) = text.strip_prefix('/').filter(|rest| !rest.starts_with("mcp:")) else {
        return Ok(match mode {
            Mode::Ask => Command::Ask(text.to_owned()),
            Mode::Run => Command::Run(text.to_owned()),
        });
    };
    let (name, words) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let words = words.trim();
    let needed = |what: &str| match words {
        "" => Err(format!("/{name} needs {what} behind it")),
        words => Ok(words.to_owned()),
    };
    match name {
        "ask" => needed("a question").map(Command::Ask),
        "run" => needed("a task").map(Command::Run),
        "continue" => Ok(continued(words)),
        "search" => needed("words").map(Command::Search),
        "undo" => Ok(Command::Undo),
        "model" => Ok(Command::Model(words.to_owned())),
        "new" => Ok(Command::New),
        "help" | "?" => Ok(Command::Help),
        "quit" | "exit" | "q" => Ok(Command::Quit),
        _ => Err(format!("there is no command /{name}; /help names all")),
    }
}

/// The first word is a run's name if it can be one.
fn continued(words: &str) -> Command {
    let (first, rest) = words.split_once(char::is_whitespace).unwrap_or((words, ""));
    if may_name_a_run(first) {
        Command::Continue(first.to_owned(), rest.trim().to_owned())
    } else {
        Command::Continue(String::new(), words.to_owned())
    }
}

/// Whether a line is meant for us, also while a question waits for an answer.
pub fn is_one(text: &str) -> bool {
    let name = text.split_whitespace().next().unwrap_or_default();
    NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands_or_what_the_mode_says() {
        let ask = |text: &str| read(text, Mode::Ask);
        assert_eq!(ask("why?"), Ok(Command::Ask("why?".into())));
        assert_eq!(read("do it", Mode::Run), Ok(Command::Run("do it".into())));
        assert_eq!(ask("/run  fix it "), Ok(Command::Run("fix it".into())));
        assert_eq!(ask("/search a b"), Ok(Command::Search("a b".into())));
        assert_eq!(ask("/model"), Ok(Command::Model(String::new())));
        assert_eq!(ask("/q"), Ok(Command::Quit));
        assert_eq!(ask("/mcp:git:log x"), Ok(Command::Ask("/mcp:git:log x".into())));
        let go_on = |id: &str, words: &str| Ok(Command::Continue(id.into(), words.into()));
        assert_eq!(ask("/continue"), go_on("", ""));
        assert_eq!(ask("/continue and then?"), go_on("", "and then?"));
        assert_eq!(ask("/continue 3fa1c2  and then?"), go_on("3fa1c2", "and then?"));
        assert!(ask("/run").unwrap_err().contains("needs a task"));
        assert!(ask("/rm -rf").unwrap_err().contains("no command /rm"));
    }

    #[test]
    fn help_names_every_command() {
        for name in NAMES.iter().filter(|name| !matches!(**name, "/?" | "/exit" | "/q" | "/help")) {
            assert!(HELP.contains(name), "{name}");
        }
        for name in NAMES {
            assert!(is_one(name) && read(&format!("{name} x"), Mode::Ask).is_ok(), "{name}");
        }
        assert!(!is_one("/tmp is better") && !is_one("y"));
    }
}
