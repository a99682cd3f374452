use super::*;

fn chunks(path: &str, text: &str) -> Vec<(String, &'static str, String, u32, u32)> {
    Chunker::new()
        .chunk(path, text)
        .into_iter()
        .map(|c| (c.symbol, c.kind, c.crumb, c.start_line, c.end_line))
        .collect()
}

/// Every line with a word is in a chunk, and chunks neither overlap nor go backwards.
fn assert_covers(path: &str, text: &str) {
    let found = Chunker::new().chunk(path, text);
    let mut seen = vec![false; text.len()];
    let mut last = 0;
    for chunk in &found {
        assert!(
            chunk.start >= last && chunk.end > chunk.start,
            "{path}: {chunk:?} after byte {last}"
        );
        last = chunk.end;
        seen[chunk.start..chunk.end].fill(true);
    }
    for (at, c) in text.char_indices() {
        assert!(
            seen[at] || !c.is_alphanumeric(),
            "{path}: byte {at} {c:?} is in no chunk: {:?}",
            &text[at..ceil_char(text, at + 40)]
        );
    }
}

#[test]
fn rust_definitions_with_docs_and_breadcrumbs() {
    let filler = "        let x = 1; // fill the container\n".repeat(30);
    let text = format!(
        "use std::fmt;\n\n/// A greeter.\n#[derive(Debug)]\npub struct Greeter {{\n    name: String,\n    other: u8,\n}}\n\n\
         impl Greeter {{\n    /// Says hello.\n    pub fn hello(&self) {{\n{filler}    }}\n\n    fn bye(&self) {{\n        let y = 2;\n    }}\n}}\n"
    );
    let found = chunks("src/a.rs", &text);
    let names: Vec<_> = found.iter().map(|c| (c.0.as_str(), c.1, c.2.as_str())).collect();
    assert_eq!(
        names,
        [
            ("Greeter", "struct", ""),
            ("hello", "function", "Greeter"),
            ("bye", "function", "Greeter"),
        ]
    );
    assert_eq!(
        (found[0].3, found[0].4),
        (1, 8),
        "comment, attribute and a lone import belong to the struct"
    );
    assert_eq!(found[1].3, 10, "the impl's head and the doc comment belong to the first method");
    assert_covers("src/a.rs", &text);
}

#[test]
fn python_methods_and_decorators() {
    let body = "        value = compute(self)\n".repeat(50);
    let text = format!(
        "import os\n\nclass App:\n    \"\"\"Doc.\"\"\"\n\n    @property\n    def name(self):\n{body}\n\n    def run(self):\n        pass\n        return 1\n\n\ndef main():\n    app = App()\n    app.run()\n"
    );
    let names: Vec<_> = chunks("app.py", &text).into_iter().map(|c| (c.0, c.2)).collect();
    for wanted in [("name", "App"), ("run", "App"), ("main", "")] {
        assert!(names.contains(&(wanted.0.into(), wanted.1.into())), "{wanted:?} in {names:?}");
    }
    assert_covers("app.py", &text);
}

#[test]
fn functions_in_many_languages() {
    let cases: &[(&str, &str, &str)] = &[
        (
            "a.go",
            "package a\n\nfunc (s *Server) Serve(x int) error {\n\ty := x\n\treturn nil\n}\n",
            "Serve",
        ),
        (
            "a.ts",
            "export const parse = (a: string) => {\n  const b = a;\n  return b;\n};\n",
            "parse",
        ),
        ("a.js", "exports.render = function (a) {\n  const b = a;\n  return b;\n};\n", "render"),
        ("a.tsx", "export function App() {\n  const x = 1;\n  return <div>{x}</div>;\n}\n", "App"),
        ("a.c", "static int uv_start(int a)\n{\n  int b = a;\n  return b;\n}\n", "uv_start"),
        ("a.cpp", "int Foo::bar(int a) {\n  int b = a;\n  return b;\n}\n", "bar"),
        ("A.java", "class A {\n  int size() {\n    int a = 1;\n    return a;\n  }\n}\n", "A"),
        ("a.rb", "def call(env)\n  x = env\n  x\nend\n", "call"),
        ("a.php", "<?php\nfunction route($a) {\n  $b = $a;\n  return $b;\n}\n", "route"),
        ("a.cs", "class A {\n  int Size() {\n    int a = 1;\n    return a;\n  }\n}\n", "A"),
        ("a.swift", "func load(a: Int) -> Int {\n  let b = a\n  return b\n}\n", "load"),
        ("a.kt", "fun load(a: Int): Int {\n  val b = a\n  return b\n}\n", "load"),
        ("a.scala", "object Main {\n  def run(a: Int): Int = {\n    a\n  }\n}\n", "Main"),
        ("a.sh", "deploy() {\n  echo one\n  echo two\n}\n", "deploy"),
        ("a.lua", "function load(a)\n  local b = a\n  return b\nend\n", "load"),
        ("a.ex", "defmodule Foo.Bar do\n  def run(a) do\n    a\n  end\nend\n", "Foo.Bar"),
        ("a.zig", "pub fn load(a: u8) u8 {\n    const b = a;\n    return b;\n}\n", "load"),
        ("a.jl", "function load(a)\n  b = a\n  return b\nend\n", "load"),
        ("a.r", "load <- function(a) {\n  b <- a\n  b\n}\n", "load"),
        ("a.hs", "module A where\n\nload :: Int -> Int\nload a =\n  let b = a\n  in b\n", "load"),
        ("a.ml", "let load a =\n  let b = a in\n  b + 1\n", "load"),
        ("a.erl", "load(A) ->\n  B = A,\n  B.\n", "load"),
        ("a.dart", "int load(int a) {\n  var b = a;\n  return b;\n}\n", "load"),
        ("a.sol", "contract Token {\n  function pay(uint a) public {\n    a;\n  }\n}\n", "Token"),
        ("a.sql", "CREATE TABLE users (\n  id INT,\n  name TEXT\n);\n", "users"),
        ("a.proto", "message User {\n  string name = 1;\n  string mail = 2;\n}\n", "User"),
        (
            "a.tf",
            "resource \"aws_s3\" \"logs\" {\n  bucket = \"x\"\n  acl = \"y\"\n}\n",
            "resource.aws_s3.logs",
        ),
        ("a.css", ".button:hover {\n  color: red;\n  margin: 0;\n}\n", ".button:hover"),
        ("a.m", "@implementation Foo\n- (void)run {\n  int a = 1;\n  a++;\n}\n@end\n", "Foo"),
    ];
    for (path, text, symbol) in cases {
        let found = chunks(path, text);
        assert!(found.iter().any(|c| c.0 == *symbol), "{path}: no {symbol} in {found:?}");
        assert_covers(path, text);
    }
}

#[test]
fn an_oversize_function_is_split_and_keeps_its_name() {
    let body = "    let value = compute(1, 2, 3);\n".repeat(400);
    let text = format!("fn big() {{\n{body}}}\n");
    let found = chunks("a.rs", &text);
    assert!(found.len() > 4);
    assert!(found.iter().all(|c| c.0 == "big" && c.1 == "function"));
    assert_covers("a.rs", &text);
}

#[test]
fn markdown_sections_carry_their_headings() {
    let text = "Intro text\n\n# Guide\n\nText\n\n## Install\n\n```sh\n# no heading\n```\n\n## Use\n\nMore\n";
    let found: Vec<_> = chunks("README.md", text).into_iter().map(|c| (c.0, c.2)).collect();
    let wanted: Vec<(String, String)> =
        [("", ""), ("Guide", ""), ("Install", "Guide"), ("Use", "Guide")]
            .map(|(a, b)| (a.into(), b.into()))
            .into();
    assert_eq!(found, wanted);
    assert_covers("README.md", text);
}

#[test]
fn config_is_cut_at_tables() {
    let big = "key = \"some value that takes room\"\n".repeat(40);
    let text = format!("[package]\nname = \"x\"\n\n[dependencies]\n{big}\n[features]\n{big}");
    let symbols: Vec<_> = chunks("Cargo.toml", &text).into_iter().map(|c| c.0).collect();
    assert!(
        symbols.contains(&"package".into()) && symbols.contains(&"features".into()),
        "{symbols:?}"
    );
    assert_covers("Cargo.toml", &text);
}

#[test]
fn hostile_files_stay_bounded() {
    let line = "x".repeat(1_400_000);
    assert!(Chunker::new().chunk("a.txt", &line).len() <= MAX_CHUNKS_PER_FILE);
    assert!(!Chunker::new().chunk("a.js", &line).is_empty());
    let deep = format!("fn f() {{ {} }}", "(".repeat(40_000));
    assert_covers("a.rs", &deep);
    let deep = format!("{}{}", "{".repeat(20_000), "}".repeat(20_000));
    Chunker::new().chunk("a.js", &deep);
    let arrays = format!("x = {}1{}", "[".repeat(50_000), "]".repeat(50_000));
    assert_covers("a.py", &arrays);
    for path in ["a.rs", "a.py", "a.md", "a.toml", "a.txt", "a.go"] {
        assert!(Chunker::new().chunk(path, "").is_empty());
        assert_covers(path, "\u{feff}fn größe() {}\r\n\r\nπ = 3\r\n");
    }
}

#[test]
fn own_sources_are_covered() {
    for (path, text) in [
        ("tree.rs", include_str!("tree.rs")),
        ("names.rs", include_str!("names.rs")),
        ("mod.rs", include_str!("mod.rs")),
        ("lang.rs", include_str!("../lang.rs")),
    ] {
        assert_covers(path, text);
    }
}
