//! The bounded run of the fuzzer of calls in XML: the kept corpus, then seeded changes of it.
//! After a new kind of trap run with `UPDATE_CORPUS=1`; a finding of the fuzzer is kept by
//! putting its file beside the others.

use std::collections::BTreeSet;
use std::path::PathBuf;

use lapce_ai_tools::{hostile, spec};

/// Changed scripts that are played.
const ROUNDS: usize = 4_000;
/// Longest of them.
const LONGEST: usize = 2_000;

fn folder() -> PathBuf {
    std::env::current_dir().unwrap().join("fuzz/corpus/xml_calls")
}

/// The examples of all tools, and what once went wrong somewhere.
fn seeds() -> Vec<(String, String)> {
    let mut seeds: Vec<(String, String)> =
        spec::all().iter().map(|s| (format!("example-{}", s.name), s.example.into())).collect();
    let write = |content: &str| {
        format!("<write_to_file>\n<path>f</path>\n<content>{content}</content>\n</write_to_file>")
    };
    let traps = [
        write("\n  kept \n\n"),
        write("\n</content> inside\n"),
        write("\n<![CDATA[ x ]]> &lt;b&gt;\n"),
        write(&write("inner")),
        write("</content></write_to_file"),
        write("\n<read_file>\n<path>x</path>\n</read_file>\n"),
        "<read_file>\n<path>a</path>".into(),
        "words <read_file> words </read_file> <".into(),
        "<write_to_file><path>a</path> words <content>x</content></write_to_file>".into(),
        "<write_to_file><path>a</path></write_to_file>".into(),
        "<list_files></list_files>".into(),
        "<read_file><args><file><path>a</path><line_range>9-1</line_range></file></args></read_file>"
            .into(),
        "<read_file>\n<path>a</path>\n</read_file><read_file>\n<path>b</path>\n</read_file>".into(),
        "h\u{e9}llo \u{1d11e} <read_file>\n<path>\u{fc}</path>\n</read_file>".into(),
        "<edit><file_path>a</file_path><old_string></old_string><new_string></edit>".into(),
    ];
    seeds.extend(traps.into_iter().enumerate().map(|(n, t)| (format!("trap-{n:02}"), t)));
    seeds
}

fn corpus() -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn the_corpus_holds_and_bites() {
    if std::env::var_os("UPDATE_CORPUS").is_some() {
        std::fs::create_dir_all(folder()).unwrap();
        for (n, (name, text)) in seeds().into_iter().enumerate() {
            let script = [&[n as u8][..], text.as_bytes()].concat();
            std::fs::write(folder().join(name), script).unwrap();
        }
    }
    let corpus = corpus();
    assert!(corpus.len() >= 40, "{} files", corpus.len());
    let classes: BTreeSet<&str> = corpus.iter().map(|(_, script)| hostile::parse(script)).collect();
    for class in ["call", "calls", "cut", "invalid", "malformed", "text"] {
        assert!(classes.contains(class), "no {class} in {classes:?}");
    }
    for spec in spec::all() {
        let name = format!("example-{}", spec.name);
        assert!(corpus.iter().any(|(n, _)| *n == name), "{name} is not in the corpus");
    }
}

/// xorshift: the same scripts in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n.max(1) as u64) as usize
    }
}

#[test]
fn changed_scripts_hold() {
    let corpus = corpus();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut seen = BTreeSet::new();
    for _ in 0..ROUNDS {
        let mut script = corpus[dice.below(corpus.len())].1.clone();
        for _ in 0..=dice.below(4) {
            let at = dice.below(script.len());
            match dice.below(5) {
                0 => script[at] = b"<>/\n aeq\xff\xc3"[dice.below(10)],
                1 => script.truncate(at.max(1)),
                2 => {
                    let other = &corpus[dice.below(corpus.len())].1;
                    let from = dice.below(other.len());
                    let part = other[from..].iter().copied().take(dice.below(200));
                    script.splice(at..at, part.collect::<Vec<_>>());
                }
                3 => {
                    let end = (at + dice.below(40)).min(script.len());
                    script.drain(at..end);
                }
                _ => {
                    let end = (at + dice.below(80)).min(script.len());
                    let part = script[at..end].to_vec();
                    script.extend(part);
                }
            }
            if script.is_empty() {
                script.push(0);
            }
        }
        script.truncate(LONGEST);
        seen.insert(hostile::parse(&script));
    }
    assert!(seen.len() >= 5, "the changes reach too little: {seen:?}");
}
