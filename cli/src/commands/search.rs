//! `lapce-ai search`

use lapce_ai_ipc::wire::engine::{Hit, Search, SearchMode, SearchReply, WatchState};

use super::args;
use super::exit::Outcome;
use super::index;
use super::output::{Output, Style, count, printable};
use super::session::{self, Interrupts};
use super::status::ago;

/// Lines of a passage that are shown.
const LINES_SHOWN: usize = 8;

pub async fn run(args: args::Search, out: Output) -> Outcome {
    let root = session::workspace(args.root.root.as_deref())?;
    let engine = session::lasting_engine();
    let client = engine.client().await?;
    let mut interrupts = Interrupts::new()?;
    if args.index {
        index::build(&client, &root, false, false, &mut interrupts, out).await?;
    }
    let request =
        Search { root, query: args.words.join(" "), limit: args.limit, explain: args.explain };
    let reply = interrupts.or(async { Ok(engine.search(request).await?) }).await?;
    if args.json.json {
        return out.json(&reply);
    }
    for hit in &reply.hits {
        print(hit, args.explain, out)?;
    }
    out.note(&out.paint_err(Style::Dim, &summary(&reply)));
    Ok(())
}

fn print(hit: &Hit, explain: bool, out: Output) -> Outcome {
    let place = format!("{}:{}-{}", printable(&hit.path), hit.start_line, hit.end_line);
    let name = match (hit.kind.as_str(), hit.symbol.as_str()) {
        ("", symbol) => symbol.to_owned(),
        (kind, "") => kind.to_owned(),
        (kind, symbol) => format!("{kind} {symbol}"),
    };
    out.line(&format!(
        "{}  {}  {}",
        out.paint(Style::Path, &place),
        out.paint(Style::Strong, &printable(&name)),
        out.paint(Style::Dim, &format!("{:.3}", hit.score)),
    ))?;
    if explain && !hit.why.is_empty() {
        out.line(&out.paint(Style::Dim, &format!("       why: {}", printable(&hit.why))))?;
    }
    let total = hit.code.lines().count();
    for (number, line) in (hit.start_line..).zip(hit.code.lines()).take(LINES_SHOWN) {
        let number = out.paint(Style::Dim, &format!("{number:>6}"));
        out.line(&format!("{number} {}", printable(line)))?;
    }
    if total > LINES_SHOWN {
        let more = count((total - LINES_SHOWN) as u64, "more line");
        out.line(&out.paint(Style::Dim, &format!("       … {more}")))?;
    }
    out.line("")
}

fn summary(reply: &SearchReply) -> String {
    let mode = match reply.mode {
        SearchMode::Lexical => "lexical search (no vectors in this index)",
        SearchMode::Hybrid => "search by words and meaning",
    };
    let took = format!("{}.{} ms", reply.took_us / 1000, reply.took_us % 1000 / 100);
    let mut text = format!(
        "{}; {mode} over {} in {took}",
        if reply.hits.is_empty() {
            "no hit".to_owned()
        } else {
            count(reply.hits.len() as u64, "hit")
        },
        count(reply.indexed_files, "file"),
    );
    if reply.partial {
        text.push_str("; partial results: the first index is still being built");
    }
    if reply.behind > 0 {
        text.push_str("; ");
        text.push_str(&count(reply.behind, "file"));
        text.push_str(" not indexed yet");
    } else if !reply.partial && reply.watch == WatchState::Off {
        text.push_str("; index from ");
        text.push_str(&ago(reply.built_at));
    }
    text
}
