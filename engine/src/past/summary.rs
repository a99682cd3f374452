//! What is listed and shown of a run.

use std::collections::VecDeque;
use std::path::Path;

use lapce_ai_ipc::wire::engine::{PastRun, RunInfo, RunOutcome, RunState, RunStep, Usage};
use lapce_ai_tools::call::ToolCall;
use serde_json::Value;

use super::lines::{self, Lines};
use super::{LOG_VERSION, first_line};
use crate::agent::limits;

/// The line of a run in a list, from the beginning and the end of its log.
pub(super) fn brief(dir: &Path, run: &str, running: bool) -> RunInfo {
    let mut read = Reading::new(run);
    let opened = lines::open(dir, run).and_then(|head| Ok((head, lines::open(dir, run)?)));
    let Ok((head, tail)) = opened else {
        return read.info(running, "its log is gone or cannot be read");
    };
    if let Some(Some(first)) = Lines::all(head).next() {
        read.take(&first);
    }
    for entry in Lines::tail(tail).into_iter().flatten().flatten() {
        read.take(&entry);
    }
    read.info(running, "")
}

/// Everything that its log tells.
pub(super) fn whole(dir: &Path, run: &str, running: bool) -> PastRun {
    let mut read = Reading::new(run);
    let mut damage = String::new();
    let mut bad = 0_u32;
    match lines::open(dir, run) {
        Ok(file) => {
            for entry in Lines::all(file) {
                match entry {
                    Some(entry) => {
                        read.take(&entry);
                        read.step(&entry);
                    }
                    None => bad += 1,
                }
            }
        }
        Err(error) => damage = format!("its log cannot be read: {error}"),
    }
    if bad > 0 {
        damage = format!("its log has damaged lines: {bad}");
    } else if read.full {
        "its log reached its largest size; the last steps are missing".clone_into(&mut damage);
    }
    let info = read.info(running, &damage_of_start(&damage, &read));
    PastRun {
        transcript: super::transcript(&info.root, run),
        task: read.task,
        result: read.result,
        todos: read.todos,
        chain: Vec::new(),
        continued_by: Vec::new(),
        more_steps: read.more_steps,
        steps: read.steps.into_iter().map(|(_, step)| step).collect(),
        damage,
        info,
    }
}

fn damage_of_start(damage: &str, read: &Reading) -> String {
    if read.begun { String::new() } else { damage.to_owned() }
}

struct Reading {
    run: String,
    root: String,
    started_ms: u64,
    task: String,
    result: String,
    mode: String,
    model: String,
    todos: String,
    continues: String,
    turns: u32,
    usage: Usage,
    ended: Option<RunState>,
    version: u64,
    begun: bool,
    full: bool,
    steps: VecDeque<(String, RunStep)>,
    more_steps: u32,
}

impl Reading {
    fn new(run: &str) -> Self {
        Self {
            run: run.to_owned(),
            root: String::new(),
            started_ms: 0,
            task: String::new(),
            result: String::new(),
            mode: String::new(),
            model: String::new(),
            todos: String::new(),
            continues: String::new(),
            turns: 0,
            usage: Usage::default(),
            ended: None,
            version: 0,
            begun: false,
            full: false,
            steps: VecDeque::new(),
            more_steps: 0,
        }
    }

    fn take(&mut self, entry: &Value) {
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let top = entry["depth"].as_u64().unwrap_or(0) == 0;
        match entry["event"].as_str().unwrap_or_default() {
            "started" if !self.begun => {
                self.begun = true;
                self.root = text("root");
                self.started_ms = entry["t"].as_u64().unwrap_or(0);
                self.task = text("task");
                self.mode = text("mode");
                self.model = text("model");
                self.continues = text("continues");
                self.version = entry["version"].as_u64().unwrap_or(1);
            }
            "request" if top => self.turns = number(&entry["turn"]).max(self.turns),
            "answer" if top => self.usage = usage(&entry["total"]),
            "mode" if top => self.mode = text("mode"),
            "todos" if top => self.todos = text("list"),
            "failed" => {
                self.ended = Some(RunState::Failed);
                self.result = text("error");
            }
            "ended" => {
                let outcome = serde_json::from_value::<RunOutcome>(entry["outcome"].clone());
                self.ended = Some(match outcome {
                    Ok(RunOutcome::Completed) => RunState::Completed,
                    Ok(RunOutcome::TurnLimit) => RunState::TurnLimit,
                    Ok(RunOutcome::Cancelled) => RunState::Cancelled,
                    Ok(RunOutcome::Failed) | Err(_) => RunState::Failed,
                });
                self.result = text("result");
                self.turns = number(&entry["turns"]);
                self.usage = usage(&entry["usage"]);
                if !text("mode").is_empty() {
                    self.mode = text("mode");
                }
            }
            "journal_full" => self.full = true,
            _ => {}
        }
    }

    fn step(&mut self, entry: &Value) {
        let text = |key: &str| entry[key].as_str().unwrap_or_default();
        match text("event") {
            "call" => {
                let mut call = ToolCall::new(text("id"), text("tool"));
                call.params = entry["params"].as_object().cloned().unwrap_or_default();
                if self.steps.len() == limits::STEPS_SHOWN {
                    self.steps.pop_front();
                    self.more_steps += 1;
                }
                let step = RunStep { what: call.summary(), ok: None, wall_ms: 0 };
                self.steps.push_back((text("id").to_owned(), step));
            }
            "result" => {
                let open = self.steps.iter_mut().rev();
                let mut open = open.filter(|(id, step)| id == text("id") && step.ok.is_none());
                if let Some((_, step)) = open.next() {
                    step.ok = entry["ok"].as_bool();
                    step.wall_ms = entry["wall_ms"].as_u64().unwrap_or(0);
                }
            }
            _ => {}
        }
    }

    fn info(&self, running: bool, damage: &str) -> RunInfo {
        let refused = if !damage.is_empty() {
            damage
        } else if running {
            "it is under way"
        } else if !self.begun {
            "the beginning of its log is damaged"
        } else if self.version < LOG_VERSION {
            "its log is of an older version, which kept no conversation"
        } else {
            ""
        };
        RunInfo {
            run: self.run.clone(),
            root: self.root.clone(),
            started_ms: self.started_ms,
            state: match self.ended {
                Some(state) => state,
                None if running => RunState::Running,
                None => RunState::Interrupted,
            },
            task: first_line(&self.task),
            result: first_line(&self.result),
            mode: self.mode.clone(),
            model: self.model.clone(),
            turns: self.turns,
            usage: self.usage.clone(),
            continues: self.continues.clone(),
            refused: refused.to_owned(),
        }
    }
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap_or(0)).unwrap_or(u32::MAX)
}

fn usage(value: &Value) -> Usage {
    serde_json::from_value(value.clone()).unwrap_or_default()
}
