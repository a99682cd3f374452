//! Which node is a definition, and what it is called.

use tree_sitter::Node;

use crate::lang::Lang;

/// A definition found at a node, perhaps inside a wrapper (`export`, a decorator, a template).
pub(super) struct Def<'t> {
    /// The node whose children are its members.
    pub node: Node<'t>,
    pub label: &'static str,
    pub name: String,
    /// An extra breadcrumb, such as a Go receiver or a C++ scope.
    pub scope: String,
}

/// Nodes that only wrap a definition.
const WRAPPERS: &[&str] = &[
    "export_statement",
    "decorated_definition",
    "template_declaration",
    "type_declaration",
    "ambient_declaration",
    "lexical_declaration",
    "variable_declaration",
    "variable_declarator",
    "expression_statement",
    "assignment_expression",
    "declaration",
    "linkage_specification",
    "pair",
    "public_field_definition",
    "field_definition",
    "top_level_item",
    "statement",
    "assignment_statement",
    "class_member",
    "class_member_definition",
    "declarations",
    "abstract_class_declaration",
    "const_declaration",
];

pub(super) fn definition<'t>(lang: &Lang, node: Node<'t>, text: &str) -> Option<Def<'t>> {
    find(lang, node, text, 0)
}

fn find<'t>(lang: &Lang, node: Node<'t>, text: &str, depth: usize) -> Option<Def<'t>> {
    let kind = node.kind();
    if let Some(label) = lang.label(kind) {
        return if lang.name == "elixir" {
            elixir(node, text)
        } else {
            named(lang, node, label, text)
        };
    }
    if lang.name == "r" && kind == "binary_operator" {
        let right = node.child_by_field_name("rhs")?;
        return (right.kind() == "function_definition").then(|| Def {
            node: right,
            label: "function",
            name: text_of(node.child_by_field_name("lhs"), text),
            scope: String::new(),
        });
    }
    if lang.name == "zig" && kind == "variable_declaration" {
        let inner = first_child(node, |k| {
            matches!(k, "struct_declaration" | "enum_declaration" | "union_declaration")
        })?;
        let name = first_child(node, |k| k == "identifier");
        return Some(Def {
            node: inner,
            label: "struct",
            name: text_of(name, text),
            scope: String::new(),
        });
    }
    if depth > 3 || !WRAPPERS.contains(&kind) {
        return None;
    }
    // `const f = () => …`, `exports.f = function …`, `{ f: () => … }`
    let value = node.child_by_field_name("value").or_else(|| node.child_by_field_name("right"));
    if let Some(value) = value {
        let label = match value.kind() {
            "arrow_function" | "function_expression" | "function" | "generator_function" => {
                "function"
            }
            "class" => "class",
            _ => return None,
        };
        let target =
            ["name", "left", "key", "property"].iter().find_map(|f| node.child_by_field_name(f));
        let full = text_of(target, text);
        let (scope, name) = match full.rsplit_once('.') {
            Some((scope, name)) => {
                (scope.trim_start_matches("module.").to_string(), name.to_string())
            }
            None => (String::new(), full),
        };
        return Some(Def { node: value, label, name, scope });
    }
    let mut cursor = node.walk();
    let mut found = None;
    for child in node.named_children(&mut cursor) {
        if let Some(def) = find(lang, child, text, depth + 1) {
            if found.is_some() {
                return None;
            }
            found = Some(def);
        }
    }
    found
}

fn named<'t>(lang: &Lang, node: Node<'t>, label: &'static str, text: &str) -> Option<Def<'t>> {
    let mut def = Def { node, label, name: String::new(), scope: String::new() };
    match (lang.name, node.kind()) {
        ("rust", "impl_item") => {
            def.name = bare_type(&text_of(node.child_by_field_name("type"), text)).to_string();
            if let Some(of) = node.child_by_field_name("trait") {
                def.scope = bare_type(&text_of(Some(of), text)).to_string();
            }
        }
        ("go", "method_declaration") => {
            def.name = text_of(node.child_by_field_name("name"), text);
            let receiver = text_of(node.child_by_field_name("receiver"), text);
            let receiver =
                receiver.trim_matches(['(', ')']).rsplit([' ', '*']).next().unwrap_or_default();
            def.scope = bare_type(receiver).to_string();
        }
        ("go", "type_spec") => {
            def.name = text_of(node.child_by_field_name("name"), text);
            match node.child_by_field_name("type").map(|n| n.kind()) {
                Some("struct_type") => def.label = "struct",
                Some("interface_type") => def.label = "interface",
                _ => {}
            }
        }
        (
            "c" | "cpp" | "objc",
            "struct_specifier" | "class_specifier" | "union_specifier" | "enum_specifier",
        ) => {
            node.child_by_field_name("body")?;
            def.name = text_of(node.child_by_field_name("name"), text);
        }
        ("c" | "cpp" | "objc", "type_definition") => {
            def.name = text_of(node.child_by_field_name("declarator"), text);
        }
        ("css", _) => {
            let head = text_of(Some(node), text);
            def.name =
                super::cut(head.split('{').next().unwrap_or_default().trim(), 60).to_string();
        }
        ("hcl", _) => {
            let head = text_of(Some(node), text);
            def.name = head
                .split('{')
                .next()
                .unwrap_or_default()
                .split_whitespace()
                .map(|w| w.trim_matches('"'))
                .collect::<Vec<_>>()
                .join(".");
        }
        ("solidity", "constructor_definition") => def.name = "constructor".into(),
        _ => {
            let name = node
                .child_by_field_name("name")
                .or_else(|| declarator(node))
                .or_else(|| identifier_in(node, 0));
            let full = text_of(name, text);
            match full.rsplit_once("::") {
                Some((scope, last)) if matches!(lang.name, "cpp" | "c") => {
                    def.scope = scope.to_string();
                    def.name = last.to_string();
                }
                _ => def.name = full,
            }
        }
    }
    Some(def)
}

/// `def name(…) do`, `defmodule Name do` and their kin are calls in Elixir.
fn elixir<'t>(node: Node<'t>, text: &str) -> Option<Def<'t>> {
    let target = text_of(node.child_by_field_name("target"), text);
    let label = match target.as_str() {
        "defmodule" | "defprotocol" | "defimpl" => "module",
        "def" | "defp" | "defdelegate" | "defguard" => "function",
        "defmacro" | "defmacrop" => "macro",
        _ => return None,
    };
    let arguments = first_child(node, |k| k == "arguments")?;
    let head = text_of(Some(arguments), text);
    let name = head.split(['(', ' ', ',', '\n']).next().unwrap_or_default().to_string();
    Some(Def { node, label, name, scope: String::new() })
}

/// The innermost name under nested C declarators.
fn declarator(node: Node<'_>) -> Option<Node<'_>> {
    let mut at = node.child_by_field_name("declarator")?;
    for _ in 0..8 {
        match at.child_by_field_name("declarator") {
            Some(inner) => at = inner,
            None => break,
        }
    }
    if at.kind().ends_with("identifier") || at.kind().contains("name") {
        Some(at)
    } else {
        identifier_in(at, 0)
    }
}

fn identifier_in(node: Node<'_>, depth: usize) -> Option<Node<'_>> {
    let mut cursor = node.walk();
    let mut nested = None;
    for child in node.named_children(&mut cursor).take(12) {
        let kind = child.kind();
        if kind.contains("identifier")
            || kind.ends_with("name")
            || kind == "word"
            || kind == "constant"
            || kind == "atom"
        {
            return Some(child);
        }
        if nested.is_none()
            && depth < 3
            && !kind.contains("body")
            && !kind.contains("block")
            && !kind.contains("comment")
        {
            nested = identifier_in(child, depth + 1);
        }
    }
    nested
}

fn first_child(node: Node<'_>, wanted: impl Fn(&str) -> bool) -> Option<Node<'_>> {
    let mut cursor = node.walk();
    node.named_children(&mut cursor).find(|child| wanted(child.kind()))
}

fn text_of(node: Option<Node<'_>>, text: &str) -> String {
    let Some(node) = node else { return String::new() };
    let full = text.get(node.byte_range()).unwrap_or_default();
    super::cut(full.lines().next().unwrap_or_default().trim(), crate::limits::MAX_SYMBOL_BYTES)
        .to_string()
}

/// `std::fmt::Display<T>` → `Display`, `&'a mut Foo<'a>` → `Foo`.
fn bare_type(full: &str) -> &str {
    let full = full.split(['<', '[']).next().unwrap_or(full).trim();
    full.rsplit([':', ' ', '&', '.', '*']).next().unwrap_or(full)
}
