//! `lapce-ai index`

use std::ffi::OsString;

use lapce_ai_ipc::EngineClient;
use lapce_ai_ipc::paths::Paths;
use lapce_ai_ipc::wire::engine::{BuildReport, Event, IndexBuild, Watch};

use super::args::{self, IndexAction};
use super::exit::{Code, Failure, Outcome};
use super::index_program::become_it;
use super::output::{Output, count, duration, printable};
use super::progress::ProgressBar;
use super::session::{self, Interrupts};
use super::user_file;

pub async fn run(args: args::Index, out: Output) -> Outcome {
    if let Some(action) = args.action {
        let (what, path) = match action {
            IndexAction::Rm(given) => ("rm", given.path),
            IndexAction::Verify(given) => ("verify", given.path),
            IndexAction::Gc(given) => ("gc", given.path),
        };
        let root = session::workspace(path.as_deref())?;
        let indexes = Paths::from_env().index_root();
        let words = [what.into(), "--root".into(), root.into(), "--indexes".into()];
        return become_it(words.into_iter().chain([indexes.into_os_string()]));
    }
    let root = session::workspace(args.path.as_deref())?;
    if args.dry_run {
        let words = ["dry-run".into(), "--root".into(), OsString::from(root)];
        return become_it(words.into_iter().chain(args.json.then(|| "--json".into())));
    }
    if let Some(location) = &args.location {
        remember(&root, location)?;
    }
    let client = session::engine().await?;
    let mut interrupts = Interrupts::new()?;
    if args.watch {
        return watch(&client, &root, args.json, &mut interrupts, out).await;
    }
    let report = build(&client, &root, args.force, args.json, &mut interrupts, out).await?;
    if args.json {
        return out.json_line(&serde_json::json!({"reply": report}));
    }
    for line in render(&root, &report) {
        out.line(&line)?;
    }
    Ok(())
}

/// Writes where the shared index of `root` lies into the user's own file: every later update needs it.
fn remember(root: &str, location: &str) -> Outcome {
    let known = ["s3://", "file:///"].iter().any(|scheme| location.starts_with(scheme));
    if !known && location != "none" {
        let message = format!("{location:?} is no location of a shared index");
        let hint = "write s3://bucket/prefix, file:///folder, or none; docs/team-index.md";
        return Err(Failure::new(Code::Usage, message, hint));
    }
    let folder = std::path::Path::new(root).canonicalize();
    let folder = folder.map_err(|error| {
        Failure::new(Code::NotFound, format!("{root}: {error}"), "give the path of a folder")
    })?;
    let folder = folder.to_string_lossy();
    user_file::config(|document| {
        let odd = || {
            let message = "[index] in config.toml is written in a way that this cannot edit";
            Failure::new(
                Code::Failed,
                message,
                "edit the file by hand; docs/team-index.md shows how",
            )
        };
        let empty = || toml_edit::Item::Table(toml_edit::Table::new());
        let index = document.entry("index").or_insert_with(empty).as_table_mut().ok_or_else(odd)?;
        let shared = index.entry("shared").or_insert_with(empty).as_table_like_mut();
        let shared = shared.ok_or_else(odd)?;
        if location == "none" {
            shared.remove(&folder);
        } else {
            shared.insert(&folder, toml_edit::value(location));
        }
        Ok(())
    })
}

/// Says what each update did, until Ctrl-C.
async fn watch(
    client: &EngineClient,
    root: &str,
    json: bool,
    interrupts: &mut Interrupts,
    out: Output,
) -> Outcome {
    let mut call = client.watch(Watch { root: root.to_owned() });
    let mut bar = ProgressBar::new(out);
    let mut first = true;
    let work = async {
        while let Some(event) = call.next().await {
            if json {
                out.json_line(&serde_json::json!({"event": event}))?;
                continue;
            }
            match event {
                Event::Progress(progress) => bar.show(&progress),
                Event::Notice(text) => bar.note(&printable(&text)),
                Event::Indexed(report) => {
                    bar.clear();
                    let news = report.files_added + report.files_changed + report.files_removed;
                    if news > 0 || first {
                        out.line(&render(root, &report)[0])?;
                    }
                    first = false;
                }
                _ => {}
            }
        }
        bar.clear();
        Ok(call.finish().await?)
    };
    interrupts.or(work).await
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
