//! `lapce-ai index`

use lapce_ai_ipc::EngineClient;
use lapce_ai_ipc::wire::engine::{BuildReport, Event, IndexBuild};

use super::args;
use super::exit::Outcome;
use super::output::{Output, count, duration, printable};
use super::progress::ProgressBar;
use super::session::{self, Interrupts};

pub async fn run(args: args::Index, out: Output) -> Outcome {
    let root = session::workspace(args.path.as_deref())?;
    let client = session::engine().await?;
    let mut interrupts = Interrupts::new()?;
    let report = build(&client, &root, args.force, args.json, &mut interrupts, out).await?;
    if args.json {
        return out.json_line(&serde_json::json!({"reply": report}));
    }
    for line in render(&root, &report) {
        out.line(&line)?;
    }
    Ok(())
}

/// Builds the index of `root`, showing progress; Ctrl-C cancels.
pub async fn build(
    client: &EngineClient,
    root: &str,
    force: bool,
    json: bool,
    interrupts: &mut Interrupts,
    out: Output,
) -> Outcome<BuildReport> {
    let mut call = client.index(IndexBuild { root: root.to_owned(), force });
    let mut bar = ProgressBar::new(out);
    let work = async {
        while let Some(event) = call.next().await {
            if json {
                out.json_line(&serde_json::json!({"event": event}))?;
                continue;
            }
            match event {
                Event::Progress(progress) => bar.show(&progress),
                Event::Notice(text) => bar.note(&printable(&text)),
                _ => {}
            }
        }
        bar.clear();
        Ok(call.finish().await?)
    };
    interrupts.or(work).await
}

fn render(root: &str, report: &BuildReport) -> Vec<String> {
    let mut lines = vec![format!(
        "{root}: {}, {} in {} ({} added, {} changed, {} removed)",
        count(report.files, "file"),
        count(report.chunks, "chunk"),
        duration(report.took_ms),
        report.files_added,
        report.files_changed,
        report.files_removed,
    )];
    for skipped in &report.skipped {
        let example = if skipped.example.is_empty() {
            String::new()
        } else {
            format!(", for example {}", printable(&skipped.example))
        };
        let files = count(skipped.files, "file");
        lines.push(format!("  left out: {files}, {}{example}", printable(&skipped.reason)));
    }
    lines
}
