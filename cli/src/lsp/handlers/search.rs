//! Semantic search in the palette (`workspace/symbol`) and in the References panel.
//!
//! Lapce filters the palette's entries by name and container with its own fuzzy matcher and
//! sorts by that score, then by text. So every entry repeats the query's words in its
//! container, each after a `/`, where a match scores as high as it can: all entries score
//! the same. And every name begins with a numeral, so that the text order is ours.

use std::path::Path;
use std::rc::Rc;

use lapce_ai_ipc::wire::engine::{Hit, Search, SearchReply};
use serde_json::{Value, json};

use super::super::limits;
use super::super::rpc::{Answer, Failure};
use super::super::shell::{self, Shell};
use super::super::text::{self, Line};
use super::super::types::{DocumentPosition, WorkspaceSymbol};
use super::super::uri;

pub(in super::super) async fn symbols(shell: Rc<Shell>, params: WorkspaceSymbol) -> Answer {
    // Other editors tell the answers apart, and may ask for more than one thing at a time.
    if !shell.editor.can().lapce {
        return found(&shell, &params.query).await;
    }
    shell.palette.answer(found(&shell, &params.query)).await
}

async fn found(shell: &Rc<Shell>, query: &str) -> Answer {
    let query = query.trim();
    if query.chars().count() < limits::QUERY_MIN {
        return Err(Failure::declined("type at least two characters"));
    }
    let root = shell.root_of(None)?;
    let limit = shell.settings.borrow().search_limit;
    let reply = search(shell, &root, query, limit).await?;
    if reply.hits.is_empty() {
        return Err(Failure::declined(format!("nothing found for \"{}\"", text::cut(query, 80))));
    }
    let entries: Vec<Value> = reply
        .hits
        .iter()
        .take(limit as usize)
        .enumerate()
        .map(|(rank, hit)| symbol(&root, query, rank, hit))
        .collect();
    Ok(entries.into())
}

/// On a query comment (`// ai: …`, `// ? …`), what answers it.
pub(in super::super) async fn references(shell: Rc<Shell>, params: DocumentPosition) -> Answer {
    let (query, root) = shell.with_document(&params.text_document.uri, |document| {
        let query = match shell::ours(document, params.position.line)? {
            Line::Comment(comment) => text::query(comment),
            Line::Blank | Line::Code => None,
        };
        let query = query.ok_or_else(|| Failure::declined("no `ai:` or `?` comment here"))?;
        Ok((query.to_owned(), shell.root_of(Some(&document.path))?))
    })?;
    let limit = shell.settings.borrow().references_limit;
    let reply = search(&shell, &root, &query, limit).await?;
    if reply.hits.is_empty() {
        return Err(Failure::declined("nothing found"));
    }
    Ok(reply.hits.iter().take(limit as usize).map(|hit| location(&root, hit)).collect())
}

async fn search(
    shell: &Rc<Shell>,
    root: &Path,
    query: &str,
    limit: u32,
) -> Result<SearchReply, Failure> {
    let engine = shell.link.engine().await?;
    let search = Search {
        root: root.to_string_lossy().into_owned(),
        query: text::cut(query, limits::QUERY).to_owned(),
        limit,
        explain: false,
    };
    Ok(engine.search(search).await?)
}

fn symbol(root: &Path, query: &str, rank: usize, hit: &Hit) -> Value {
    json!({
        "name": name(rank, hit),
        "kind": kind(&hit.kind),
        "location": location(root, hit),
        "containerName": container(query),
    })
}

fn location(root: &Path, hit: &Hit) -> Value {
    let start = hit.start_line.saturating_sub(1);
    let end = hit.end_line.saturating_sub(1).max(start);
    json!({
        "uri": uri::from_path(&root.join(&hit.path)),
        "range": {
            "start": { "line": start, "character": 0 },
            "end": { "line": end, "character": 0 },
        },
    })
}

/// `① parse_header  fn parse_header(line: &str) -> …`
fn name(rank: usize, hit: &Hit) -> String {
    let code = hit.code.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let snippet: String = code.chars().take(limits::SNIPPET).collect();
    let numeral = numeral(rank);
    match (hit.symbol.as_str(), snippet.as_str()) {
        ("", "") => format!("{numeral} {}:{}", hit.path, hit.start_line),
        ("", snippet) => format!("{numeral} {snippet}"),
        (symbol, "") => format!("{numeral} {symbol}"),
        (symbol, snippet) => format!("{numeral} {symbol}  {snippet}"),
    }
}

/// ① … ㊿, which sort as they count.
fn numeral(rank: usize) -> char {
    let rank = u32::try_from(rank).unwrap_or(u32::MAX).min(limits::HITS - 1);
    let code = match rank {
        0..20 => 0x2460 + rank,
        20..35 => 0x3251 + rank - 20,
        _ => 0x32b1 + rank - 35,
    };
    char::from_u32(code).unwrap_or('?')
}

/// The query's words as `/w1/w2/`. Words that the matcher reads as conditions are left out
/// (`!word`) or stripped of their marks (`'word`, `^word`, `word$`).
fn container(query: &str) -> String {
    let words = query
        .split_whitespace()
        .filter(|word| !word.starts_with('!'))
        .map(|word| word.trim_start_matches(['\'', '^']).trim_end_matches('$'))
        .filter(|word| !word.is_empty());
    words.fold(String::from("/"), |all, word| all + word + "/")
}

/// LSP's number for what the index calls a chunk.
fn kind(kind: &str) -> u8 {
    match kind {
        "module" | "namespace" | "package" | "mod" => 2,
        "class" | "impl" => 5,
        "method" => 6,
        "property" | "field" => 8,
        "constructor" => 9,
        "enum" => 10,
        "interface" | "trait" => 11,
        "function" | "fn" | "macro" => 12,
        "variable" | "static" => 13,
        "constant" | "const" => 14,
        "struct" | "union" => 23,
        "type" | "typedef" => 26,
        // A file: its lines.
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(path: &str, symbol: &str, code: &str) -> Hit {
        Hit {
            path: path.into(),
            start_line: 3,
            end_line: 9,
            symbol: symbol.into(),
            kind: "function".into(),
            score: 0.0,
            code: code.into(),
            why: String::new(),
        }
    }

    #[test]
    fn numerals_sort_as_they_count() {
        let all: Vec<char> = (0..limits::HITS as usize).map(numeral).collect();
        assert_eq!(
            (all[0], all[19], all[20], all[34], all[35], all[49]),
            ('①', '⑳', '㉑', '㉟', '㊱', '㊿')
        );
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn entries_name_place_and_query() {
        let entry = symbol(
            Path::new("/w s"),
            "parse header",
            1,
            &hit("src/a.rs", "parse", "\n  fn parse() {}\n"),
        );
        assert_eq!(
            entry,
            json!({
                "name": "② parse  fn parse() {}",
                "kind": 12,
                "location": {
                    "uri": "file:///w%20s/src/a.rs",
                    "range": { "start": { "line": 2, "character": 0 }, "end": { "line": 8, "character": 0 } },
                },
                "containerName": "/parse/header/",
            })
        );
        assert_eq!(name(0, &hit("a", "", "")), "① a:3");
        assert_eq!(name(0, &hit("a", "", "x")), "① x");
        assert_eq!(name(0, &hit("a", "s", " ")), "① s");
    }

    /// Lapce's own matcher, as the palette uses it, keeps our order, whatever the names hold.
    #[test]
    fn lapces_matcher_keeps_the_order() {
        use nucleo_matcher::pattern::{CaseMatching, Normalization, Pattern};
        use nucleo_matcher::{Config, Matcher, Utf32Str};

        let codes = [
            ("README.md", "", "Config, header, parse"),
            ("src/parse/header.rs", "parse_header", "fn parse_header(config: &Config)"),
            ("a/b.rs", "zzz", "parse header parse header"),
            ("x.py", "HeaderParser", "class HeaderParser:"),
            ("q.c", "", "/parse/header/ /parse/header/"),
        ];
        for query in ["parse header", "Parse", "header !nothing", "hdr", "PARSE config", "ü", "a/b"]
        {
            let entries: Vec<String> = (0..limits::HITS as usize)
                .map(|rank| {
                    let (path, symbol_name, code) = codes[rank % codes.len()];
                    let entry = symbol(Path::new("/w"), query, rank, &hit(path, symbol_name, code));
                    format!(
                        "{}{}",
                        entry["name"].as_str().unwrap(),
                        entry["containerName"].as_str().unwrap()
                    )
                })
                .collect();
            let mut matcher = Matcher::new(Config::DEFAULT.match_paths());
            let pattern = Pattern::parse(query, CaseMatching::Ignore, Normalization::Smart);
            let mut kept: Vec<(u32, &String)> = entries
                .iter()
                .filter_map(|text| {
                    let mut buffer = Vec::new();
                    let score = pattern.score(Utf32Str::new(text, &mut buffer), &mut matcher)?;
                    Some((score, text))
                })
                .collect();
            kept.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
            let shown: Vec<&String> = kept.into_iter().map(|(_, text)| text).collect();
            assert_eq!(shown, entries.iter().collect::<Vec<_>>(), "{query}");
        }
    }
}
