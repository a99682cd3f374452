//! Makes a test of symbol search from any repository: the first sentence of a function's
//! documentation must find the function in a copy of the code without comments.
//!
//! The split `hard` holds the sentences that share no word stem with the function, its
//! name or its path: what words alone cannot find.

use std::collections::HashSet;
use std::path::Path;

use tree_sitter::{Node, Parser};

use super::{Labelled, Target};
use crate::chunk::Chunker;
use crate::lang::{Format, format_of};
use crate::{doc, sniff, tokens, walk};

/// A repository without its comments, and the sentences taken out of it.
#[derive(Debug)]
pub struct Stripped {
    /// (path, text)
    pub files: Vec<(String, String)>,
    pub queries: Vec<Labelled>,
}

/// Reads `root`; at most `most` queries, the same ones each time.
pub fn strip(root: &Path, most: usize) -> Stripped {
    let mut out = Stripped { files: Vec::new(), queries: Vec::new() };
    let mut chunker = Chunker::new();
    let mut parser = Parser::new();
    let mut found: Vec<([u8; 16], Labelled)> = Vec::new();
    let mut seen = HashSet::new();
    for entry in walk::walk(root, 2).0 {
        let Ok(text) = std::fs::read(root.join(&entry.path))
            .map_err(|_| ())
            .and_then(|b| sniff::text_of(b).map_err(|_| ()))
        else {
            continue;
        };
        if !matches!(format_of(&entry.path), Format::Code(_)) {
            continue;
        }
        let Some(bare) = without_comments(&mut parser, &entry.path, &text) else { continue };
        let usable = sniff::flags_of(&entry.path, &text)
            & (sniff::flags::TEST | sniff::flags::GENERATED | sniff::flags::AUXILIARY)
            == 0;
        for chunk in chunker.chunk(&entry.path, &text).into_iter().filter(|_| usable) {
            if !matches!(chunk.kind, "function" | "method")
                || chunk.symbol.is_empty()
                || chunk.symbol.contains(", ")
            {
                continue;
            }
            let Some((sentence, line)) = documentation(&text[chunk.start..chunk.end]) else {
                continue;
            };
            if !seen.insert(sentence.clone()) {
                continue;
            }
            let kept = bare.get(chunk.start..chunk.end).unwrap_or_default();
            let words: HashSet<String> = doc::index_text(&entry.path, &chunk, kept)
                .split(' ')
                .map(ToString::to_string)
                .collect();
            let hard = !tokens::words(&sentence)
                .iter()
                .any(|w| !tokens::is_stop_word(w) && words.contains(tokens::stem(w)));
            let key = crate::manifest::hash(sentence.as_bytes());
            // What is left of the comment is blank: the definition starts after it.
            let lines = bare.lines().enumerate().skip((chunk.start_line + line) as usize - 1);
            let mut lines = lines.take_while(|(n, _)| *n < chunk.end_line as usize);
            let Some((line, _)) = lines.find(|(_, text)| !text.trim().is_empty()) else { continue };
            let line = line as u32 + 1;
            found.push((
                key,
                Labelled {
                    query: sentence,
                    relevant: vec![Target::Place {
                        path: entry.path.clone(),
                        line: Some(line),
                        start_line: None,
                        end_line: None,
                    }],
                    split: if hard { "hard".into() } else { "doc".into() },
                    secondary: Vec::new(),
                },
            ));
        }
        // A blanked comment's spaces are no text, for us or for another system (`--export`).
        let bare: Vec<&str> = bare.lines().map(str::trim_end).collect();
        out.files.push((entry.path, bare.join("\n") + "\n"));
    }
    found.sort_by_key(|f| f.0);
    out.queries = found.into_iter().take(most).map(|(_, q)| q).collect();
    out
}

/// The text with every comment and docstring blanked; lines stay where they are.
fn without_comments(parser: &mut Parser, path: &str, text: &str) -> Option<String> {
    let Format::Code(lang) = format_of(path) else { return None };
    parser.set_language(&(lang.grammar)()?).ok()?;
    let tree = parser.parse(text, None)?;
    let mut bytes = text.as_bytes().to_vec();
    let mut open = vec![tree.root_node()];
    while let Some(node) = open.pop() {
        if node.kind().contains("comment") || is_docstring(node) {
            for byte in &mut bytes[node.byte_range()] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
            continue;
        }
        let mut cursor = node.walk();
        open.extend(node.children(&mut cursor));
    }
    String::from_utf8(bytes).ok()
}

/// A string that is a statement of its own.
fn is_docstring(node: Node<'_>) -> bool {
    node.kind() == "expression_statement"
        && node.named_child_count() == 1
        && node.named_child(0).is_some_and(|c| c.kind() == "string")
}

/// The first sentence of a definition's comment or docstring, and how many lines into the
/// chunk the definition starts.
fn documentation(code: &str) -> Option<(String, u32)> {
    let mut prose = String::new();
    let mut line = 0;
    let mut in_doc = true;
    let mut docstring: Option<&str> = None;
    for text in code.lines() {
        let text = text.trim();
        if in_doc {
            let comment = ["///", "//!", "//", "/**", "/*", "*/", "*", "#:", "--", ";;"]
                .iter()
                .find_map(|m| text.strip_prefix(m))
                .or_else(|| text.strip_prefix("# "));
            if let Some(comment) = comment {
                prose.push_str(comment.trim_end_matches("*/").trim());
                prose.push(' ');
                line += 1;
                continue;
            }
            if text.starts_with("#[") || text.starts_with('@') || text.is_empty() {
                line += 1;
                continue;
            }
            in_doc = false;
            if prose.trim().is_empty() {
                docstring = Some("");
            } else {
                break;
            }
        } else if docstring.is_some() {
            let quoted = ["\"\"\"", "'''", "r\"\"\""].iter().find_map(|q| text.strip_prefix(q));
            if let Some(quoted) = quoted {
                prose.push_str(quoted.trim_end_matches("\"\"\"").trim_end_matches("'''"));
                docstring = None;
                if text.len() > 6 && (text.ends_with("\"\"\"") || text.ends_with("'''")) {
                    break;
                }
            }
        } else if text.is_empty() || text.ends_with("\"\"\"") {
            break;
        } else {
            prose.push(' ');
            prose.push_str(text);
        }
    }
    let prose = prose.trim();
    let end =
        prose.find(". ").or_else(|| prose.strip_suffix('.').map(str::len)).unwrap_or(prose.len());
    let sentence: Vec<&str> = prose[..end].split_whitespace().collect();
    let plain = sentence
        .iter()
        .filter(|w| w.chars().all(|c| c.is_alphabetic() || "'-,`".contains(c)))
        .count();
    ((5..=30).contains(&sentence.len()) && plain * 10 >= sentence.len() * 8)
        .then(|| (sentence.join(" "), line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_come_out_and_comments_go() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("a.rs"),
            "/// Drops the oldest entry of the cache. More.\n#[inline]\npub fn evict(&mut self) {\n    // inner\n    self.q.pop_front();\n}\n",
        )
        .unwrap();
        std::fs::write(
            dir.path().join("c.rb"),
            "# Opens the door of the house\n#\n# @param key [Key]\ndef unlock(key)\n  turn(key)\nend\n",
        )
        .unwrap();
        std::fs::write(
            dir.path().join("b.py"),
            "def load(path):\n    \"\"\"Read every record from the given file.\"\"\"\n    return open(path)\n",
        )
        .unwrap();
        let stripped = strip(dir.path(), 10);
        let mut queries: Vec<_> = stripped.queries.iter().map(|q| q.query.as_str()).collect();
        queries.sort_unstable();
        assert_eq!(
            queries,
            [
                "Drops the oldest entry of the cache",
                "Opens the door of the house",
                "Read every record from the given file"
            ]
        );
        let ruby = stripped.queries.iter().find(|q| q.query.starts_with("Opens")).unwrap();
        assert!(matches!(&ruby.relevant[0], Target::Place { line: Some(4), .. }), "{ruby:?}");
        let rust = stripped.queries.iter().find(|q| q.query.starts_with("Drops")).unwrap();
        assert!(matches!(&rust.relevant[0], Target::Place { line: Some(3), .. }), "{rust:?}");
        assert_eq!(rust.split, "hard");
        for (_, text) in &stripped.files {
            assert!(
                !text.contains("entry") && !text.contains("inner") && !text.contains("record"),
                "{text}"
            );
        }
    }
}
