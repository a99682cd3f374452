//! Has the engine keep the index of the workspace up to date, with progress in the status bar.
//!
//! Started once the editor is ready, if the setting `index.auto` is on; from then on the engine
//! watches the workspace until the editor ends. No model is called. A folder that is no
//! project (the home folder, `/`) is not indexed unasked.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use lapce_ai_ipc::CallError;
use lapce_ai_ipc::wire::engine::{BuildReport, Event, Watch};
use lapce_ai_ipc::wire::index::{Phase, Progress};
use tokio::sync::Notify;

use super::client::Level;
use super::limits;
use super::rpc::Failure;
use super::shell::Shell;

#[derive(Default)]
pub(super) struct Indexer {
    saved: Notify,
    started: Cell<bool>,
    /// The last failure, said once.
    said: RefCell<Option<String>>,
}

impl Indexer {
    /// A file was saved.
    pub(super) fn saved(&self) {
        self.saved.notify_one();
    }

    /// Starts the loop of this workspace.
    pub(super) fn start(shell: &Rc<Shell>) {
        if !shell.settings.borrow().index_auto || shell.indexer.started.replace(true) {
            return;
        }
        let Ok(root) = shell.root_of(None) else { return };
        if let Some(why) = unfit(&root, std::env::var_os("HOME").as_deref().map(Path::new)) {
            shell.editor.log(&format!("{} is not indexed by itself: {why}", root.display()));
            return;
        }
        let shell = shell.clone();
        tokio::task::spawn_local(async move {
            loop {
                // The next save is a reason to try again, and so is a new engine after a lost one.
                let saved = shell.indexer.saved.notified();
                match follow(&shell, &root).await {
                    Ok(()) => tokio::select! {
                        () = saved => {}
                        () = shell.link.connected() => {}
                    },
                    Err(failure) => {
                        shell.indexer.say(&shell, &root, &failure);
                        saved.await;
                    }
                }
                tokio::time::sleep(limits::INDEX_AGAIN).await;
            }
        });
    }

    fn say(&self, shell: &Shell, root: &Path, failure: &Failure) {
        let text = format!("Lapce AI could not index {}: {}", root.display(), failure.message);
        let mut said = self.said.borrow_mut();
        if said.as_deref() != Some(&text) {
            shell.editor.show(Level::Warning, &text);
            *said = Some(text);
        }
    }
}

/// Why a folder is not indexed without being asked to.
fn unfit(root: &Path, home: Option<&Path>) -> Option<&'static str> {
    if root.parent().is_none() {
        return Some("it is the whole file system");
    }
    if home.is_some_and(|home| home.starts_with(root)) {
        return Some("it holds the home folder");
    }
    None
}

/// Has the engine keep the index up to date for as long as all is well. Fails with what the
/// engine says: that there is none, or none any more, is the link's to say.
async fn follow(shell: &Rc<Shell>, root: &Path) -> Result<(), Failure> {
    let Ok(engine) = shell.link.engine().await else { return Ok(()) };
    let mut call = match engine.watch(Watch { root: root.to_string_lossy().into_owned() }).await {
        Ok(call) => call,
        Err(error) => return ours(error),
    };
    let mut shown = None;
    let mut began: Option<Instant> = None;
    let mut last: Option<Instant> = None;
    let mut first = true;
    while let Some(event) = call.next().await {
        match event {
            Event::Progress(progress) => {
                // A few saved files are no news.
                let began = *began.get_or_insert_with(Instant::now);
                let soon = !first && began.elapsed() < limits::PROGRESS_AFTER;
                if soon || last.is_some_and(|at| at.elapsed() < limits::PROGRESS) {
                    continue;
                }
                last = Some(Instant::now());
                let (message, percent) = describe(&progress);
                match &shown {
                    None => {
                        let title = "Lapce AI: indexing";
                        shown = shell.editor.progress("lapce-ai/index", title, &message).await;
                    }
                    Some(shown) => shown.report(&message, percent),
                }
            }
            Event::Indexed(report) => {
                (shown, began, last) = (None, None, None);
                let BuildReport { files, chunks, .. } = report;
                if first || report.files_added + report.files_changed + report.files_removed > 0 {
                    shell.editor.log(&format!("index: {files} files, {chunks} chunks"));
                }
                first = false;
                *shell.indexer.said.borrow_mut() = None;
            }
            Event::Notice(text) => shell.editor.log(&text),
            _ => {}
        }
    }
    call.finish().await.or_else(ours)
}

fn ours(error: CallError) -> Result<(), Failure> {
    match error {
        CallError::Disconnected(_) | CallError::EngineLost(_) | CallError::NoEngine(_) => Ok(()),
        other => Err(other.into()),
    }
}

/// `37% · 340 of 912 files`; the percentage is part of the text, Lapce shows no other.
fn describe(progress: &Progress) -> (String, Option<u32>) {
    let Progress { phase, files_done, files_total, .. } = progress;
    if *files_total == 0 {
        return (format!("{files_done} files found"), None);
    }
    let percent = (files_done.saturating_mul(100) / files_total).min(100) as u32;
    let text = match phase {
        Phase::Walk | Phase::Chunk => format!("{percent}% · {files_done} of {files_total} files"),
        Phase::Commit => format!("{percent}% · writing"),
        Phase::Optimize => format!("{percent}% · tidying up"),
    };
    (text, Some(percent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_are_no_projects_are_left_alone() {
        let home = Some(Path::new("/home/u"));
        for root in ["/", "/home", "/home/u"] {
            assert!(unfit(Path::new(root), home).is_some(), "{root}");
        }
        for root in ["/home/u/project", "/srv/project"] {
            assert_eq!(unfit(Path::new(root), home), None, "{root}");
        }
    }

    #[test]
    fn the_text_carries_the_percentage() {
        let progress = |phase, files_done, files_total| Progress {
            phase,
            files_done,
            files_total,
            chunks: 0,
            current: String::new(),
        };
        assert_eq!(
            describe(&progress(Phase::Chunk, 1, 3)),
            ("33% · 1 of 3 files".into(), Some(33))
        );
        assert_eq!(describe(&progress(Phase::Walk, 7, 0)), ("7 files found".into(), None));
        assert_eq!(describe(&progress(Phase::Commit, 9, 3)).1, Some(100));
        assert_eq!(describe(&progress(Phase::Chunk, u64::MAX, 1)).1, Some(100));
    }
}
