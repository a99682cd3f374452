//! Cuts code by its syntax tree.
//!
//! A definition up to `CHUNK_BYTES` is one chunk, with the comments and attributes right
//! above it. A larger one, or a large container, gives its members chunks of their own;
//! what lies between becomes runs of leftovers that carry the container's name.

use std::ops::ControlFlow;
use std::time::Instant;

use tree_sitter::{Node, ParseOptions, Parser, Tree};

use super::{Named, Out, names};
use crate::lang::{Lang, is_container};
use crate::limits::{
    CHUNK_BYTES, CONTAINER_WHOLE_BYTES, HEAD_BYTES, MAX_DEPTH, PARSE_TIMEOUT, SMALL_DEF_LINES,
};

/// Fills `out`; false when the grammar is missing or the parse took too long.
pub(super) fn cut(parser: &mut Parser, lang: &'static Lang, out: &mut Out<'_>) -> bool {
    let Some(tree) = parse(parser, lang, out.text) else { return false };
    let end = out.text.len();
    let mut walk = Walk { lang, out, owner: Owner::default(), named: Vec::new() };
    let rest = walk.siblings(tree.root_node(), 0, 0);
    walk.leftover(rest, end);
    true
}

/// None when the grammar is missing or the parse took too long.
pub(super) fn parse(parser: &mut Parser, lang: &'static Lang, text: &str) -> Option<Tree> {
    parser.set_language(&(lang.grammar)()?).ok()?;
    let started = Instant::now();
    let mut stop = |_: &tree_sitter::ParseState| {
        if started.elapsed() > PARSE_TIMEOUT {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let tree = parser.parse_with_options(
        &mut |at, _| text.as_bytes().get(at..).unwrap_or_default(),
        None,
        Some(ParseOptions::new().progress_callback(&mut stop)),
    );
    if tree.is_none() {
        parser.reset();
    }
    tree
}

/// The definition whose members are being walked.
#[derive(Clone, Default)]
struct Owner {
    symbol: String,
    label: &'static str,
    /// Everything around it.
    outer: String,
    /// Everything around its members.
    inner: String,
}

struct Walk<'w, 't> {
    lang: &'static Lang,
    out: &'w mut Out<'t>,
    owner: Owner,
    named: Vec<Named>,
}

impl Walk<'_, '_> {
    /// Cuts what stands under `node`, given that everything before `from` is cut already;
    /// returns where the uncut text starts.
    fn siblings(&mut self, node: Node<'_>, from: usize, depth: usize) -> usize {
        let mut from = from;
        if depth > MAX_DEPTH || self.out.full() {
            return from;
        }
        // Start and last line of the comments right above the next node.
        let mut doc: Option<(usize, usize)> = None;
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.children(&mut cursor).collect();
        for child in children {
            if child.end_byte() <= from {
                continue;
            }
            let (top, bottom) = (child.start_position().row, child.end_position().row);
            if self.is_prefix(child) {
                doc = match doc {
                    Some((start, last)) if top <= last + 1 => Some((start, bottom)),
                    _ => Some((child.start_byte(), bottom)),
                };
                // Some grammars end a line comment after its newline.
                if child.end_position().column == 0 && bottom > top {
                    doc = doc.map(|(start, _)| (start, bottom - 1));
                }
                continue;
            }
            let above = doc.take().filter(|(_, last)| top <= last + 1).map(|(start, _)| start);
            if let Some(def) = names::definition(self.lang, child, self.out.text) {
                let mut start = self.out.line_start(above.unwrap_or(child.start_byte())).max(from);
                if start < from {
                    start = from;
                }
                let end = child.end_byte();
                if bottom - top < SMALL_DEF_LINES && end - start < CHUNK_BYTES {
                    self.named.push(Named {
                        at: child.start_byte(),
                        name: def.name,
                        label: def.label,
                    });
                    continue;
                }
                if self.is_head(from, start) {
                    start = from
                        + (self.out.text[from..start].len()
                            - self.out.text[from..start].trim_start().len());
                }
                self.leftover(from, start);
                self.definition(&def, start, end, depth);
                from = end;
            } else if child.end_byte() - child.start_byte() > CHUNK_BYTES || is_body(child.kind()) {
                from = self.siblings(child, from, depth + 1);
            }
        }
        from
    }

    fn definition(&mut self, def: &names::Def<'_>, start: usize, end: usize, depth: usize) {
        let mut crumb = self.owner.inner.clone();
        append(&mut crumb, &def.scope);
        let size = end - start;
        let whole =
            size <= if is_container(def.label) { CONTAINER_WHOLE_BYTES } else { CHUNK_BYTES };
        if whole {
            self.out.push(start, end, &def.name, def.label, &crumb);
            self.named.clear();
            return;
        }
        let mut inner = crumb.clone();
        append(&mut inner, &def.name);
        let owner = Owner { symbol: def.name.clone(), label: def.label, outer: crumb, inner };
        let outer = std::mem::replace(&mut self.owner, owner);
        let from = self.siblings(def.node, start, depth + 1);
        self.leftover(from, end);
        self.owner = outer;
    }

    /// A line or two that only open what follows (`impl Foo {`): no chunk of their own.
    fn is_head(&self, from: usize, to: usize) -> bool {
        let text = self.out.text[from..to].trim();
        text.len() <= HEAD_BYTES
            && text.lines().count() <= 2
            && self.named.is_empty()
            && text.chars().any(char::is_alphanumeric)
    }

    fn leftover(&mut self, from: usize, to: usize) {
        if from < to {
            let kind = if self.owner.label.is_empty() { "code" } else { self.owner.label };
            let owner = self.owner.clone();
            // Inside a container the members named here matter more than its own name.
            let members =
                is_container(owner.label) && !self.named.is_empty() && !owner.symbol.is_empty();
            if members
                && self
                    .out
                    .chunks
                    .last()
                    .is_some_and(|c| c.crumb.starts_with(&owner.inner) || c.symbol == owner.symbol)
            {
                self.out.run(from, to, "", kind, &owner.inner, &self.named);
            } else {
                self.out.run(from, to, &owner.symbol, kind, &owner.outer, &self.named);
            }
        }
        self.named.clear();
    }

    /// Comments and attributes, which belong to the definition below them.
    fn is_prefix(&self, node: Node<'_>) -> bool {
        let kind = node.kind();
        kind.contains("comment")
            || matches!(
                kind,
                "attribute_item"
                    | "decorator"
                    | "annotation"
                    | "attribute_list"
                    | "spec"
                    | "pragma"
            )
            || (self.lang.name == "haskell" && kind == "signature")
            || (self.lang.name == "elixir" && kind == "unary_operator" && self.starts_with_at(node))
    }

    fn starts_with_at(&self, node: Node<'_>) -> bool {
        let text = &self.out.text[node.start_byte()..];
        ["@doc", "@spec", "@impl"].iter().any(|a| text.starts_with(a))
    }
}

/// The part of a definition that holds its members.
fn is_body(kind: &str) -> bool {
    kind.contains("body")
        || kind.contains("block")
        || kind.ends_with("declaration_list")
        || kind == "declarations"
        || kind.ends_with("_list") && kind.contains("member")
        || kind == "structure"
        || kind == "enum_assignment"
}

fn append(crumb: &mut String, name: &str) {
    if name.is_empty() {
        return;
    }
    if !crumb.is_empty() {
        crumb.push_str(" > ");
    }
    crumb.push_str(name);
}
