//! The languages: how a file is recognised, its grammar, and which nodes are definitions.
//!
//! One table. A grammar is a cargo feature; without it (or for unknown languages) a file
//! is cut by lines. Called by `chunk`.

use tree_sitter::Language;

/// One language. `defs` maps node kinds to what a hit calls them.
pub struct Lang {
    pub name: &'static str,
    pub extensions: &'static [&'static str],
    pub defs: &'static [(&'static str, &'static str)],
    pub grammar: fn() -> Option<Language>,
}

impl Lang {
    pub fn label(&self, kind: &str) -> Option<&'static str> {
        self.defs.iter().find(|(k, _)| *k == kind).map(|(_, label)| *label)
    }
}

impl std::fmt::Debug for Lang {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Labels whose members are chunks of their own when the whole is large.
pub fn is_container(label: &str) -> bool {
    !matches!(
        label,
        "function" | "method" | "macro" | "constant" | "variable" | "rule" | "signature" | "type"
    )
}

macro_rules! grammar {
    ($feature:literal, $lang:expr) => {
        || {
            #[cfg(feature = $feature)]
            {
                Some(Language::from($lang))
            }
            #[cfg(not(feature = $feature))]
            {
                None
            }
        }
    };
}

const JS_DEFS: &[(&str, &str)] = &[
    ("function_declaration", "function"),
    ("generator_function_declaration", "function"),
    ("class_declaration", "class"),
    ("abstract_class_declaration", "class"),
    ("class", "class"),
    ("method_definition", "method"),
    ("abstract_method_signature", "signature"),
    ("function_signature", "signature"),
    ("interface_declaration", "interface"),
    ("enum_declaration", "enum"),
    ("type_alias_declaration", "type"),
    ("internal_module", "namespace"),
    ("module", "module"),
];

const C_DEFS: &[(&str, &str)] = &[
    ("function_definition", "function"),
    ("class_specifier", "class"),
    ("struct_specifier", "struct"),
    ("union_specifier", "struct"),
    ("enum_specifier", "enum"),
    ("namespace_definition", "namespace"),
    ("type_definition", "type"),
    ("concept_definition", "type"),
    ("alias_declaration", "type"),
    ("preproc_function_def", "macro"),
    ("class_interface", "class"),
    ("class_implementation", "class"),
    ("protocol_declaration", "interface"),
    ("method_definition", "method"),
];

/// All languages with a grammar.
pub static LANGS: &[Lang] = &[
    Lang {
        name: "rust",
        extensions: &["rs"],
        defs: &[
            ("function_item", "function"),
            ("function_signature_item", "signature"),
            ("struct_item", "struct"),
            ("enum_item", "enum"),
            ("union_item", "struct"),
            ("trait_item", "trait"),
            ("impl_item", "impl"),
            ("mod_item", "module"),
            ("macro_definition", "macro"),
            ("type_item", "type"),
            ("const_item", "constant"),
            ("static_item", "constant"),
        ],
        grammar: grammar!("lang-rust", tree_sitter_rust::LANGUAGE),
    },
    Lang {
        name: "python",
        extensions: &["py", "pyi", "pyw"],
        defs: &[("function_definition", "function"), ("class_definition", "class")],
        grammar: grammar!("lang-python", tree_sitter_python::LANGUAGE),
    },
    Lang {
        name: "javascript",
        extensions: &["js", "jsx", "mjs", "cjs"],
        defs: JS_DEFS,
        grammar: grammar!("lang-javascript", tree_sitter_javascript::LANGUAGE),
    },
    Lang {
        name: "typescript",
        extensions: &["ts", "mts", "cts"],
        defs: JS_DEFS,
        grammar: grammar!("lang-typescript", tree_sitter_typescript::LANGUAGE_TYPESCRIPT),
    },
    Lang {
        name: "tsx",
        extensions: &["tsx"],
        defs: JS_DEFS,
        grammar: grammar!("lang-typescript", tree_sitter_typescript::LANGUAGE_TSX),
    },
    Lang {
        name: "go",
        extensions: &["go"],
        defs: &[
            ("function_declaration", "function"),
            ("method_declaration", "method"),
            ("type_spec", "type"),
            ("type_alias", "type"),
        ],
        grammar: grammar!("lang-go", tree_sitter_go::LANGUAGE),
    },
    Lang {
        name: "c",
        extensions: &["c"],
        defs: C_DEFS,
        grammar: grammar!("lang-c", tree_sitter_c::LANGUAGE),
    },
    Lang {
        name: "cpp",
        extensions: &[
            "cc", "cpp", "cxx", "c++", "h", "hh", "hpp", "hxx", "h++", "ipp", "inl", "cu", "cuh",
        ],
        defs: C_DEFS,
        grammar: grammar!("lang-cpp", tree_sitter_cpp::LANGUAGE),
    },
    Lang {
        name: "objc",
        extensions: &["m", "mm"],
        defs: C_DEFS,
        grammar: grammar!("lang-objc", tree_sitter_objc::LANGUAGE),
    },
    Lang {
        name: "java",
        extensions: &["java"],
        defs: &[
            ("class_declaration", "class"),
            ("interface_declaration", "interface"),
            ("annotation_type_declaration", "interface"),
            ("enum_declaration", "enum"),
            ("record_declaration", "class"),
            ("method_declaration", "method"),
            ("constructor_declaration", "method"),
            ("compact_constructor_declaration", "method"),
        ],
        grammar: grammar!("lang-java", tree_sitter_java::LANGUAGE),
    },
    Lang {
        name: "kotlin",
        extensions: &["kt", "kts"],
        defs: &[
            ("class_declaration", "class"),
            ("object_declaration", "object"),
            ("companion_object", "object"),
            ("function_declaration", "function"),
        ],
        grammar: grammar!("lang-kotlin", tree_sitter_kotlin_ng::LANGUAGE),
    },
    Lang {
        name: "scala",
        extensions: &["scala", "sc"],
        defs: &[
            ("class_definition", "class"),
            ("object_definition", "object"),
            ("trait_definition", "trait"),
            ("enum_definition", "enum"),
            ("given_definition", "object"),
            ("extension_definition", "extension"),
            ("function_definition", "function"),
            ("function_declaration", "signature"),
            ("type_definition", "type"),
        ],
        grammar: grammar!("lang-scala", tree_sitter_scala::LANGUAGE),
    },
    Lang {
        name: "csharp",
        extensions: &["cs"],
        defs: &[
            ("namespace_declaration", "namespace"),
            ("class_declaration", "class"),
            ("interface_declaration", "interface"),
            ("struct_declaration", "struct"),
            ("record_declaration", "class"),
            ("enum_declaration", "enum"),
            ("delegate_declaration", "type"),
            ("method_declaration", "method"),
            ("constructor_declaration", "method"),
            ("destructor_declaration", "method"),
            ("operator_declaration", "method"),
            ("local_function_statement", "function"),
            ("property_declaration", "variable"),
        ],
        grammar: grammar!("lang-csharp", tree_sitter_c_sharp::LANGUAGE),
    },
    Lang {
        name: "ruby",
        extensions: &["rb", "rake", "gemspec", "ru"],
        defs: &[
            ("method", "method"),
            ("singleton_method", "method"),
            ("class", "class"),
            ("module", "module"),
            ("singleton_class", "class"),
        ],
        grammar: grammar!("lang-ruby", tree_sitter_ruby::LANGUAGE),
    },
    Lang {
        name: "php",
        extensions: &["php", "phtml"],
        defs: &[
            ("class_declaration", "class"),
            ("interface_declaration", "interface"),
            ("trait_declaration", "trait"),
            ("enum_declaration", "enum"),
            ("function_definition", "function"),
            ("method_declaration", "method"),
            ("namespace_definition", "namespace"),
        ],
        grammar: grammar!("lang-php", tree_sitter_php::LANGUAGE_PHP),
    },
    Lang {
        name: "swift",
        extensions: &["swift"],
        defs: &[
            ("class_declaration", "class"),
            ("protocol_declaration", "interface"),
            ("function_declaration", "function"),
            ("init_declaration", "method"),
            ("deinit_declaration", "method"),
            ("subscript_declaration", "method"),
            ("typealias_declaration", "type"),
        ],
        grammar: grammar!("lang-swift", tree_sitter_swift::LANGUAGE),
    },
    Lang {
        name: "bash",
        extensions: &["sh", "bash", "zsh", "ksh"],
        defs: &[("function_definition", "function")],
        grammar: grammar!("lang-bash", tree_sitter_bash::LANGUAGE),
    },
    Lang {
        name: "lua",
        extensions: &["lua"],
        defs: &[("function_declaration", "function")],
        grammar: grammar!("lang-lua", tree_sitter_lua::LANGUAGE),
    },
    Lang {
        name: "haskell",
        extensions: &["hs"],
        defs: &[
            ("function", "function"),
            ("bind", "function"),
            ("class", "class"),
            ("instance", "impl"),
            ("data_type", "type"),
            ("newtype", "type"),
            ("type_synonym", "type"),
        ],
        grammar: grammar!("lang-haskell", tree_sitter_haskell::LANGUAGE),
    },
    Lang {
        name: "ocaml",
        extensions: &["ml"],
        defs: &[
            ("value_definition", "function"),
            ("module_definition", "module"),
            ("module_type_definition", "interface"),
            ("type_definition", "type"),
            ("class_definition", "class"),
            ("method_definition", "method"),
        ],
        grammar: grammar!("lang-ocaml", tree_sitter_ocaml::LANGUAGE_OCAML),
    },
    Lang {
        name: "elixir",
        extensions: &["ex", "exs"],
        // Definitions are calls; `chunk::names` knows `def`, `defmodule` and their kin.
        defs: &[("call", "call")],
        grammar: grammar!("lang-elixir", tree_sitter_elixir::LANGUAGE),
    },
    Lang {
        name: "erlang",
        extensions: &["erl", "hrl"],
        defs: &[("fun_decl", "function"), ("record_decl", "struct"), ("type_alias", "type")],
        grammar: grammar!("lang-erlang", tree_sitter_erlang::LANGUAGE),
    },
    Lang {
        name: "zig",
        extensions: &["zig"],
        defs: &[("function_declaration", "function"), ("test_declaration", "function")],
        grammar: grammar!("lang-zig", tree_sitter_zig::LANGUAGE),
    },
    Lang {
        name: "dart",
        extensions: &["dart"],
        defs: &[
            ("class_declaration", "class"),
            ("mixin_declaration", "class"),
            ("extension_declaration", "extension"),
            ("enum_declaration", "enum"),
            ("function_declaration", "function"),
            ("method_declaration", "method"),
            ("getter_declaration", "method"),
            ("setter_declaration", "method"),
        ],
        grammar: grammar!("lang-dart", tree_sitter_dart::LANGUAGE),
    },
    Lang {
        name: "julia",
        extensions: &["jl"],
        defs: &[
            ("module_definition", "module"),
            ("function_definition", "function"),
            ("macro_definition", "macro"),
            ("struct_definition", "struct"),
            ("abstract_definition", "type"),
        ],
        grammar: grammar!("lang-julia", tree_sitter_julia::LANGUAGE),
    },
    Lang {
        name: "r",
        extensions: &["r", "R"],
        // `name <- function` is a binary operator; `chunk::names` knows it.
        defs: &[],
        grammar: grammar!("lang-r", tree_sitter_r::LANGUAGE),
    },
    Lang {
        name: "css",
        extensions: &["css", "scss"],
        defs: &[("rule_set", "rule"), ("media_statement", "rule"), ("keyframes_statement", "rule")],
        grammar: grammar!("lang-css", tree_sitter_css::LANGUAGE),
    },
    Lang {
        name: "sql",
        extensions: &["sql"],
        defs: &[
            ("create_table", "struct"),
            ("create_view", "type"),
            ("create_materialized_view", "type"),
            ("create_function", "function"),
            ("create_trigger", "function"),
            ("create_index", "constant"),
            ("create_type", "type"),
        ],
        grammar: grammar!("lang-sql", tree_sitter_sequel::LANGUAGE),
    },
    Lang {
        name: "proto",
        extensions: &["proto"],
        defs: &[
            ("message", "struct"),
            ("enum", "enum"),
            ("service", "interface"),
            ("rpc", "method"),
        ],
        grammar: grammar!("lang-proto", tree_sitter_proto::LANGUAGE),
    },
    Lang {
        name: "nix",
        extensions: &["nix"],
        defs: &[("binding", "variable")],
        grammar: grammar!("lang-nix", tree_sitter_nix::LANGUAGE),
    },
    Lang {
        name: "hcl",
        extensions: &["tf", "hcl", "tfvars"],
        defs: &[("block", "block")],
        grammar: grammar!("lang-hcl", tree_sitter_hcl::LANGUAGE),
    },
    Lang {
        name: "solidity",
        extensions: &["sol"],
        defs: &[
            ("contract_declaration", "class"),
            ("interface_declaration", "interface"),
            ("library_declaration", "class"),
            ("function_definition", "function"),
            ("modifier_definition", "function"),
            ("constructor_definition", "method"),
            ("event_definition", "type"),
            ("struct_declaration", "struct"),
            ("enum_declaration", "enum"),
        ],
        grammar: grammar!("lang-solidity", tree_sitter_solidity::LANGUAGE),
    },
];

/// How a file is cut.
#[derive(Debug, Clone, Copy)]
pub enum Format {
    Code(&'static Lang),
    Markdown,
    /// TOML, YAML, INI: cut at tables or top-level keys.
    Config,
    Text,
}

/// Chooses by file name alone.
pub fn format_of(path: &str) -> Format {
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = match name.rsplit_once('.') {
        Some((stem, ext)) if !stem.is_empty() => ext,
        _ => match name {
            "Rakefile" | "Gemfile" | "Vagrantfile" => "rb",
            ".bashrc" | ".profile" | ".zshrc" => "sh",
            _ => "",
        },
    };
    let lower = extension.to_ascii_lowercase();
    match lower.as_str() {
        "md" | "mdx" | "markdown" | "rst" | "adoc" => return Format::Markdown,
        "toml" | "yaml" | "yml" | "ini" | "cfg" | "conf" | "properties" => return Format::Config,
        _ => {}
    }
    LANGS
        .iter()
        .find(|lang| lang.extensions.contains(&lower.as_str()))
        .map_or(Format::Text, Format::Code)
}

/// Two paths with the same label are cut in the same way.
pub fn format_label(path: &str) -> String {
    match format_of(path) {
        // Two dialects may share a name, not their extensions.
        Format::Code(lang) => format!("{}:{}", lang.name, lang.extensions.join(",")),
        Format::Markdown => ":markdown".into(),
        Format::Config => ":config".into(),
        Format::Text => ":text".into(),
    }
}

/// Name of the language of `path`, for the table and for prompts.
pub fn language_name(path: &str) -> &'static str {
    match format_of(path) {
        Format::Code(lang) => lang.name,
        Format::Markdown => "markdown",
        Format::Config => "config",
        Format::Text => "text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_grammar_loads_and_knows_its_node_kinds() {
        for lang in LANGS {
            let Some(grammar) = (lang.grammar)() else { continue };
            let mut parser = tree_sitter::Parser::new();
            parser.set_language(&grammar).unwrap_or_else(|e| panic!("{}: {e}", lang.name));
            // Shared tables (C, JS) name kinds of their dialects; a language must know one.
            let known = lang
                .defs
                .iter()
                .filter(|(kind, _)| grammar.id_for_node_kind(kind, true) != 0)
                .count();
            assert!(known > 0 || lang.defs.is_empty(), "{}: no known kind", lang.name);
            if !["javascript", "typescript", "tsx", "c", "cpp", "objc"].contains(&lang.name) {
                let unknown: Vec<_> = lang
                    .defs
                    .iter()
                    .filter(|(kind, _)| grammar.id_for_node_kind(kind, true) == 0)
                    .collect();
                assert!(unknown.is_empty(), "{}: no node kinds: {unknown:?}", lang.name);
            }
        }
    }

    #[test]
    fn files_find_their_language() {
        assert!(matches!(format_of("a/b.rs"), Format::Code(l) if l.name == "rust"));
        assert!(matches!(format_of("x.tsx"), Format::Code(l) if l.name == "tsx"));
        assert!(matches!(format_of("README.md"), Format::Markdown));
        assert!(matches!(format_of("Cargo.toml"), Format::Config));
        assert!(matches!(format_of("Makefile"), Format::Text));
        assert!(matches!(format_of(".gitignore"), Format::Text));
        assert!(
            LANGS.iter().filter(|l| (l.grammar)().is_some()).count() >= 25
                || cfg!(not(feature = "all-languages"))
        );
    }
}
