//! The definitions of one file, in order and with their lines. Pure; called by the
//! subcommand `outline`.

use tree_sitter::{Node, Parser};

use super::names;
use crate::lang::{Format, Lang, format_of, is_container};
use crate::limits::{MAX_DEPTH, OUTLINE_LINE_BYTES, OUTLINE_MAX_ITEMS};

/// A definition or a heading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// One-based, inclusive.
    pub start_line: usize,
    pub end_line: usize,
    /// Its first line, without the end of that line.
    pub head: String,
}

/// The definitions in `text`, of which `path` names the language; `None` when there is no
/// grammar for it, or when the text could not be parsed in time.
pub fn outline(parser: &mut Parser, path: &str, text: &str) -> Option<Vec<Item>> {
    match format_of(path) {
        Format::Code(lang) => code(parser, lang, text),
        Format::Markdown => Some(headings(text)),
        Format::Config | Format::Text => None,
    }
}

fn code(parser: &mut Parser, lang: &'static Lang, text: &str) -> Option<Vec<Item>> {
    let tree = super::tree::parse(parser, lang, text)?;
    let mut walk = Walk { lang, text, items: Vec::new() };
    walk.below(tree.root_node(), 0);
    Some(walk.items)
}

struct Walk<'t> {
    lang: &'static Lang,
    text: &'t str,
    items: Vec<Item>,
}

impl Walk<'_> {
    fn below(&mut self, node: Node<'_>, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        let mut cursor = node.walk();
        for child in node.named_children(&mut cursor) {
            if self.items.len() >= OUTLINE_MAX_ITEMS {
                return;
            }
            match names::definition(self.lang, child, self.text) {
                Some(def) => {
                    self.item(child);
                    // What a function defines inside is its own affair.
                    if is_container(def.label) {
                        self.below(def.node, depth + 1);
                    }
                }
                None => self.below(child, depth + 1),
            }
        }
    }

    fn item(&mut self, node: Node<'_>) {
        let start = node.start_byte();
        let line = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let first = self.text[line..].lines().next().unwrap_or_default().trim_end();
        // Some grammars end a node after its newline.
        let end = node.start_byte() + self.text[node.byte_range()].trim_end().len();
        self.items.push(Item {
            start_line: node.start_position().row + 1,
            end_line: self.text[start..end].matches('\n').count() + node.start_position().row + 1,
            head: super::cut(first, OUTLINE_LINE_BYTES).to_owned(),
        });
    }
}

/// The sections of a Markdown text, each to the line before the next heading of its level
/// or above.
fn headings(text: &str) -> Vec<Item> {
    let mut found: Vec<(usize, Item)> = Vec::new();
    let mut fenced = false;
    let mut lines = 0;
    for (n, line) in text.lines().enumerate() {
        lines = n + 1;
        let trimmed = line.trim_start();
        if trimmed.starts_with("```") || trimmed.starts_with("~~~") {
            fenced = !fenced;
        }
        let level = line.bytes().take_while(|b| *b == b'#').count();
        let heading = !fenced && (1..=6).contains(&level) && line[level..].starts_with(' ');
        if heading && found.len() < OUTLINE_MAX_ITEMS {
            let head = super::cut(line.trim_end(), OUTLINE_LINE_BYTES).to_owned();
            found.push((level, Item { start_line: n + 1, end_line: 0, head }));
        }
    }
    for at in 0..found.len() {
        let level = found[at].0;
        let next = found[at + 1..].iter().find(|(other, _)| *other <= level);
        found[at].1.end_line = next.map_or(lines, |(_, item)| item.start_line - 1);
    }
    found.into_iter().map(|(_, item)| item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(path: &str, text: &str) -> Vec<String> {
        outline(&mut Parser::new(), path, text)
            .unwrap_or_default()
            .into_iter()
            .map(|i| format!("{}--{} | {}", i.start_line, i.end_line, i.head))
            .collect()
    }

    #[test]
    fn definitions_with_their_lines() {
        let rust = "use std::fs;\n\n/// Doc.\npub struct Point {\n    x: i32,\n}\n\nimpl Point {\n    fn new() -> Self {\n        fn inner() {}\n        Point { x: 1 }\n    }\n}\n";
        assert_eq!(
            shown("a.rs", rust),
            ["4--6 | pub struct Point {", "8--13 | impl Point {", "9--12 |     fn new() -> Self {"]
        );
        let python =
            "class A:\n    @property\n    def f(self):\n        return 1\n\n\ndef g():\n    pass\n";
        assert_eq!(
            shown("a.py", python),
            ["1--4 | class A:", "2--4 |     @property", "7--8 | def g():"]
        );
        let script = "export const f = () => {\n  return 1;\n};\n";
        assert_eq!(shown("a.ts", script), ["1--3 | export const f = () => {"]);
    }

    #[test]
    fn headings_of_a_text() {
        let text = "# One\ntext\n## Two\n```\n# no heading\n```\n# Three\n";
        assert_eq!(shown("a.md", text), ["1--6 | # One", "3--6 | ## Two", "7--7 | # Three"]);
    }

    #[test]
    fn hostile_texts_end() {
        assert!(outline(&mut Parser::new(), "a.bin", "fn x() {}").is_none());
        shown("a.rs", &"mod a {".repeat(20_000));
        shown("a.js", &"(".repeat(100_000));
        assert_eq!(shown("a.rs", "fn ü"), Vec::<String>::new());
        let long = format!("fn {}() {{}}", "x".repeat(10_000));
        assert!(shown("a.rs", &long)[0].len() < OUTLINE_LINE_BYTES + 20);
        let many = "fn f() {}\n".repeat(OUTLINE_MAX_ITEMS + 5);
        assert_eq!(shown("a.rs", &many).len(), OUTLINE_MAX_ITEMS);
    }
}
