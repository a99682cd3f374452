//! `lapce-ai runs`: the agent's runs on record.

use lapce_ai_ipc::wire::engine::{PastRun, RunInfo, RunState};

use super::args::Runs;
use super::exit::Outcome;
use super::output::{Output, Style, count, printable};
use super::session;
use super::status::ago;

pub async fn run(args: Runs, out: Output) -> Outcome {
    match args {
        Runs::List { all, root, json } => {
            let root = if all { String::new() } else { session::workspace(root.root.as_deref())? };
            let runs = session::engine().await?.runs(root).await?;
            if json.json { out.json(&runs) } else { list(&runs, all, out) }
        }
        Runs::Show { id, json } => {
            let run = session::engine().await?.past_run(id).await?;
            if json.json { out.json(&run) } else { show(&run, out) }
        }
    }
}

fn list(runs: &[RunInfo], all: bool, out: Output) -> Outcome {
    for run in runs {
        out.line(&format!(
            "{}  {}  {}",
            out.paint(Style::Strong, &plain(&run.run)),
            state(run, out),
            plain(&run.task),
        ))?;
        let mut about = about(run);
        if all {
            about.push(plain(&run.root));
        }
        out.line(&format!("    {}", about.join(", ")))?;
        if !run.refused.is_empty() && run.state != RunState::Running {
            out.line(&format!("    cannot be continued: {}", plain(&run.refused)))?;
        }
    }
    if runs.is_empty() {
        out.note(
            "no run is on record here; `lapce-ai runs list --all` shows those of other workspaces",
        );
    }
    Ok(())
}

fn state(run: &RunInfo, out: Output) -> String {
    let (style, word) = match run.state {
        RunState::Running => (Style::Warn, "running"),
        RunState::Completed => (Style::Good, "completed"),
        RunState::TurnLimit => (Style::Warn, "turn limit"),
        RunState::Cancelled => (Style::Warn, "cancelled"),
        RunState::Failed => (Style::Bad, "failed"),
        RunState::Interrupted => (Style::Bad, "interrupted"),
    };
    out.paint(style, word)
}

fn about(run: &RunInfo) -> Vec<String> {
    let usage = &run.usage;
    let input = usage.input.saturating_add(usage.cache_read).saturating_add(usage.cache_write);
    let output = usage.output.saturating_add(usage.reasoning);
    let mut about = vec![
        ago(run.started_ms / 1000),
        plain(&run.model),
        plain(&run.mode),
        count(run.turns.into(), "turn"),
        format!("{input} tokens in, {output} out"),
    ];
    if !run.continues.is_empty() {
        about.push(format!("goes on with {}", plain(&run.continues)));
    }
    about.retain(|part| !part.is_empty());
    about
}

fn show(past: &PastRun, out: Output) -> Outcome {
    let run = &past.info;
    let title = format!("{}  {}", out.paint(Style::Strong, &plain(&run.run)), state(run, out));
    out.line(&title)?;
    out.line(&about(run).join(", "))?;
    for (what, text) in [
        ("workspace", &run.root),
        ("transcript", &past.transcript),
        ("damage", &past.damage),
        ("cannot be continued", &run.refused),
    ] {
        if !text.is_empty() {
            out.line(&format!("{what}: {}", plain(text)))?;
        }
    }
    for earlier in &past.chain {
        out.line(&format!(
            "went on with {}  {}  {}",
            plain(&earlier.run),
            state(earlier, out),
            plain(&earlier.task)
        ))?;
    }
    if !past.continued_by.is_empty() {
        let later = plain(&past.continued_by.join(", "));
        out.line(&format!("gone on with by {later}"))?;
    }
    block("Task", &past.task, out)?;
    if !past.steps.is_empty() {
        out.line("")?;
        if past.more_steps > 0 {
            out.line(&format!("({} before these)", count(past.more_steps.into(), "call")))?;
        }
        for step in &past.steps {
            let (mark, time) = match step.ok {
                Some(true) => ("✓", format!(" ({} ms)", step.wall_ms)),
                Some(false) => ("✗", format!(" ({} ms)", step.wall_ms)),
                None => ("…", " (no result)".to_owned()),
            };
            out.line(&format!("  {mark} {}{time}", plain(&step.what)))?;
        }
    }
    block("To-do list", &past.todos, out)?;
    block("Result", &past.result, out)
}

fn block(title: &str, text: &str, out: Output) -> Outcome {
    if text.trim().is_empty() {
        return Ok(());
    }
    out.line("")?;
    out.line(&out.paint(Style::Strong, title))?;
    out.line(printable(text).trim_end())
}

/// What a log says, on one line.
fn plain(text: &str) -> String {
    printable(text).replace('\n', " ")
}
