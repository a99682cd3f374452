//! Progress of an index build: one line that moves on a terminal, a few lines elsewhere.

use std::io::Write as _;
use std::time::{Duration, Instant};

use lapce_ai_ipc::wire::engine::Progress;
use lapce_ai_ipc::wire::index::Phase;

use super::output::{Output, count, printable};

/// Pause between two pictures of the moving line.
const FRAME: Duration = Duration::from_millis(80);
/// Pause between two lines where nothing can move.
const LINE: Duration = Duration::from_secs(5);
const BAR_CELLS: u64 = 24;

pub struct ProgressBar {
    out: Output,
    last: Option<(Phase, Instant)>,
    shown: bool,
}

impl ProgressBar {
    pub fn new(out: Output) -> Self {
        Self { out, last: None, shown: false }
    }

    pub fn show(&mut self, progress: &Progress) {
        let pause = if self.out.err_is_terminal { FRAME } else { LINE };
        let now = Instant::now();
        if self.last.as_ref().is_some_and(|(p, at)| *p == progress.phase && now - *at < pause) {
            return;
        }
        self.last = Some((progress.phase.clone(), now));
        if self.out.err_is_terminal {
            self.shown = true;
            let line = fit(&picture(progress), terminal_width());
            let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
        } else {
            self.out.note(&words(progress));
        }
    }

    /// A remark above the moving line.
    pub fn note(&mut self, text: &str) {
        self.clear();
        self.out.note(text);
    }

    /// Takes the moving line off the terminal.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for ProgressBar {
    fn drop(&mut self) {
        self.clear();
    }
}

fn phase(phase: &Phase) -> &'static str {
    match phase {
        Phase::Walk => "looking for files",
        Phase::Chunk => "reading",
        Phase::Commit => "writing",
        Phase::Optimize => "finishing",
    }
}

fn words(progress: &Progress) -> String {
    let files = match progress.files_total {
        0 => count(progress.files_done, "file"),
        total => format!("{} of {}", progress.files_done, count(total, "file")),
    };
    format!("{}: {files}, {}", phase(&progress.phase), count(progress.chunks, "chunk"))
}

fn picture(progress: &Progress) -> String {
    let bar = match progress.files_total {
        0 => String::new(),
        total => {
            let full = (BAR_CELLS * progress.files_done.min(total) / total) as usize;
            format!("[{}{}] ", "#".repeat(full), "·".repeat(BAR_CELLS as usize - full))
        }
    };
    format!("{bar}{}  {}", words(progress), printable(&progress.current))
}

/// `text` cut to `width` characters.
fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut + "…"
}

fn terminal_width() -> usize {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ fills the winsize that the pointer names.
    let got = unsafe { libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    if got == 0 && size.ws_col > 0 { usize::from(size.ws_col) } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_in_words_and_pictures() {
        let mut progress = Progress {
            phase: Phase::Chunk,
            files_done: 50,
            files_total: 200,
            chunks: 1234,
            current: "src/a.rs".into(),
        };
        assert_eq!(words(&progress), "reading: 50 of 200 files, 1,234 chunks");
        assert_eq!(
            picture(&progress),
            "[######··················] reading: 50 of 200 files, 1,234 chunks  src/a.rs"
        );
        progress.files_done = 999;
        assert!(picture(&progress).starts_with("[########################]"));
        progress.files_total = 0;
        assert!(picture(&progress).starts_with("reading: 999 files"));
        assert_eq!(fit("abcdef", 4), "abc…");
    }
}
