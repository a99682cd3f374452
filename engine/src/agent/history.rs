//! The conversation of a run, kept within the model's context.
//!
//! What is given up first: results of tools, the oldest first; then whole old turns. The
//! task, and the newest exchange, always stay. A native call and its result stay together. In a
//! run that goes on with an earlier one the first task and the newest stay.

use super::{limits, tokens};
use crate::provider::{Message, Part, Role};

const ELIDED: &str = "(this result was taken out to save room; make the call again if you need it)";
const NO_PICTURE: &str = "(the picture was left out)";
const DROPPED: &str = "\n\n(earlier steps of this run were taken out to save room)";

#[derive(Debug, Default)]
pub struct History {
    messages: Vec<Message>,
    dropped: bool,
    /// The task, where it does not stand first: it moves there when its place is given up.
    task: Option<String>,
}

impl History {
    /// Begins with the task.
    pub fn new(task: String) -> Self {
        Self { messages: vec![Message::user(task)], ..Self::default() }
    }

    /// Begins with the conversation of an earlier run, brought below `budget` tokens, then the
    /// task.
    pub fn continued(earlier: Vec<Message>, budget: usize, task: String) -> Self {
        let mut history = Self { messages: earlier, ..Self::default() };
        history.fit(budget);
        history.push(Message::user(task.clone()));
        history.task = Some(task);
        history
    }

    pub fn push(&mut self, message: Message) {
        // Providers want the roles to alternate.
        match self.messages.last_mut() {
            Some(last) if last.role == message.role => last.parts.extend(message.parts),
            _ => self.messages.push(message),
        }
        self.keep_pictures(limits::PICTURES);
    }

    /// Leaves out all pictures but the newest `keep`. Whether there was one to leave out.
    pub fn keep_pictures(&mut self, keep: usize) -> bool {
        let parts = self.messages.iter_mut().flat_map(|m| &mut m.parts);
        let mut pictures: Vec<&mut Part> = parts.filter(|p| matches!(p, Part::Image(_))).collect();
        let older = pictures.len().saturating_sub(keep);
        for part in &mut pictures[..older] {
            **part = Part::Text(NO_PICTURE.to_owned());
        }
        older > 0
    }

    /// Calls and their results become text, for a model that takes no function calls.
    pub fn write_calls_out(&mut self) {
        for part in self.messages.iter_mut().flat_map(|message| &mut message.parts) {
            let text = match part {
                Part::Call { name, arguments, .. } => format!("(called {name} with {arguments})"),
                Part::CallResult { text, .. } => std::mem::take(text),
                _ => continue,
            };
            *part = Part::Text(text);
        }
    }

    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    fn tokens(&self) -> usize {
        self.messages.iter().map(tokens::message).sum()
    }

    /// Brings the conversation below `budget` tokens as far as can be. Returns whether
    /// anything was given up.
    pub fn fit(&mut self, budget: usize) -> bool {
        if self.tokens() <= budget {
            return false;
        }
        // The newest two messages are what the model works on.
        let newest = self.messages.len().saturating_sub(2);
        for at in 1..newest {
            for part in &mut self.messages[at].parts {
                elide(part);
            }
            if self.tokens() <= budget {
                return true;
            }
        }
        // Turns are pairs (the model's answer, our results) after the task.
        while self.tokens() > budget && self.messages.len() > 3 {
            let gone: Vec<Message> = self.messages.drain(1..3).collect();
            let mut parts = gone.into_iter().flat_map(|message| message.parts);
            if let Some(task) = &self.task
                && parts.any(|part| matches!(&part, Part::Text(text) if text == task))
            {
                self.messages[0].parts.extend(self.task.take().map(Part::Text));
            }
            if !std::mem::replace(&mut self.dropped, true) {
                self.messages[0].parts.push(Part::Text(DROPPED.trim().to_owned()));
            }
        }
        // Still too long: the newest results themselves are cut.
        if self.tokens() > budget {
            self.keep_pictures(0);
            let fixed: usize = self
                .messages
                .iter()
                .take(self.messages.len().saturating_sub(1))
                .map(tokens::message)
                .sum();
            if let Some(last) = self.messages.last_mut().filter(|m| m.role == Role::User) {
                let room = budget.saturating_sub(fixed) / last.parts.len().max(1);
                for part in &mut last.parts {
                    if let Part::Text(text) | Part::CallResult { text, .. } = part
                        && tokens::estimate(text) > room
                    {
                        *text = format!(
                            "{}\n(the rest was cut: there is no room)",
                            tokens::head(text, room.saturating_sub(16))
                        );
                    }
                }
            }
        }
        true
    }
}

/// Takes a long result out. XML runs hold results as user text.
fn elide(part: &mut Part) {
    match part {
        Part::CallResult { text, .. } if text.len() > 2 * ELIDED.len() => {
            let head = text.lines().next().unwrap_or_default().to_owned();
            *text = format!("{head}\n{ELIDED}");
        }
        Part::Image(_) => *part = Part::Text(NO_PICTURE.to_owned()),
        Part::Text(text) if text.starts_with('[') && text.len() > 2 * ELIDED.len() => {
            let head = text.lines().next().unwrap_or_default().to_owned();
            *text = format!("{head}\n{ELIDED}");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Picture;

    fn call(n: usize) -> Message {
        let part = Part::Call {
            id: n.to_string(),
            name: "read_file".into(),
            arguments: format!("{{\"path\":\"{n}\"}}"),
        };
        Message { role: Role::Assistant, parts: vec![Part::Text("Reading.".into()), part] }
    }

    fn result(n: usize, len: usize) -> Message {
        let text = format!("[read_file for '{n}'] Result:\n{}", "x ".repeat(len / 2));
        Message {
            role: Role::User,
            parts: vec![Part::CallResult {
                id: n.to_string(),
                name: "read_file".into(),
                text,
                ok: true,
            }],
        }
    }

    fn long(turns: usize, len: usize) -> History {
        let mut history = History::new("the task".into());
        for n in 0..turns {
            history.push(call(n));
            history.push(result(n, len));
        }
        history
    }

    #[test]
    fn old_results_go_first() {
        let mut history = long(6, 3000);
        assert!(!history.fit(100_000));
        let before = history.messages.len();
        assert!(history.fit(3_500));
        assert!(history.tokens() <= 3_500);
        assert_eq!(history.messages.len(), before, "no turn is lost");
        let text = |at: usize| match &history.messages[at].parts[0] {
            Part::CallResult { text, .. } => text.clone(),
            other => panic!("{other:?}"),
        };
        assert!(text(2).starts_with("[read_file for '0'] Result:\n(this result was taken out"));
        assert!(text(12).contains("x x x"), "the newest stays");
    }

    #[test]
    fn then_whole_turns_and_pairs_stay_together() {
        let mut history = long(40, 300);
        assert!(history.fit(600));
        assert!(history.tokens() <= 600);
        assert_eq!(history.messages[0].parts[0], Part::Text("the task".into()));
        assert!(matches!(&history.messages[0].parts[1], Part::Text(t) if t.contains("taken out")));
        for pair in history.messages[1..].chunks(2) {
            let Part::Call { id: a, .. } = &pair[0].parts[1] else { panic!() };
            let Part::CallResult { id: b, .. } = &pair[1].parts[0] else { panic!() };
            assert_eq!(a, b);
        }
    }

    #[test]
    fn the_newest_pictures_stay() {
        let picture = || Message {
            role: Role::User,
            parts: vec![
                Part::Text("[browser_action for 'click'] Result:".into()),
                Part::Image(Picture { media: "image/png", base64: "AA==".into() }),
            ],
        };
        let mut history = History::new("task".into());
        for n in 0..4 {
            history.push(call(n));
            history.push(picture());
        }
        let at = |history: &History| {
            let seen = |m: &Message| m.parts.iter().any(|p| matches!(p, Part::Image(_)));
            history.messages.iter().map(seen).collect::<Vec<_>>()
        };
        assert_eq!(at(&history), [false, false, false, false, false, false, true, false, true]);
        assert!(history.fit(2_500));
        assert_eq!(at(&history).iter().filter(|p| **p).count(), 1, "old ones go first");
        assert!(history.keep_pictures(0) && !history.keep_pictures(0));
    }

    #[test]
    fn the_task_of_a_run_that_goes_on_stays() {
        let earlier = long(20, 300).messages;
        let mut history = History::continued(earlier, 1_500, "go on".into());
        assert!(history.tokens() <= 1_600, "{}", history.tokens());
        assert_eq!(
            history.messages.last().unwrap().parts.last(),
            Some(&Part::Text("go on".into()))
        );
        for n in 0..40 {
            history.push(call(n));
            history.push(result(n, 300));
        }
        history.fit(900);
        let texts: Vec<&Part> = history.messages.iter().flat_map(|m| &m.parts).collect();
        assert_eq!(texts.iter().filter(|p| ***p == Part::Text("go on".into())).count(), 1);
        assert!(history.messages[0].parts.contains(&Part::Text("go on".into())));
        assert_eq!(history.messages[0].parts[0], Part::Text("the task".into()));
    }

    #[test]
    fn one_huge_result_is_cut() {
        let mut history = long(1, 60_000);
        assert!(history.fit(2_000));
        assert!(history.tokens() <= 2_000, "{}", history.tokens());
    }

    #[test]
    fn roles_alternate() {
        let mut history = History::new("task".into());
        history.push(Message::user("more"));
        assert_eq!(history.messages().len(), 1);
    }
}
