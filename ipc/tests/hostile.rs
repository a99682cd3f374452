//! The bounded run of the hostile peer: the kept corpus, then seeded random scripts.
//! The same code under a real fuzzer: `ipc/fuzz`.

use std::collections::BTreeMap;
use std::ffi::OsString;

use lapce_ai_ipc::hostile::{Verdict, play};

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A reason without its numbers: one class of attack.
fn class(reason: &str) -> String {
    let letters: String =
        reason.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect();
    let mut short = letters.replace("##", "#");
    while short.contains("##") {
        short = short.replace("##", "#");
    }
    short
}

fn script(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let len = 8 + random(&mut state) % 200;
    (0..len).map(|_| (random(&mut state) >> 24) as u8).collect()
}

fn side(bytes: &[u8]) -> Verdict {
    match bytes.split_first() {
        Some((side, script)) => play(script, side & 1 == 1),
        None => Verdict::Tolerated { messages: 0 },
    }
}

/// What a fuzzer has found: `LAPCE_AI_TEST_KEEP_CORPUS=ITS_FOLDER cargo test -p lapce-ai-ipc
/// --test hostile` renews the kept corpus with the shortest script of each class.
fn found(folder: &OsString) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap();
    files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

#[test]
fn the_corpus_ends_as_it_did_when_it_was_kept() {
    let folder = std::env::current_dir().unwrap().join("fuzz/corpus/hostile_peer");
    let mut classes = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if let Verdict::Closed(reason) = side(&std::fs::read(&path).unwrap()) {
            classes.insert(class(&reason), path);
        }
    }
    assert!(classes.len() >= 15, "the corpus has lost its bite: {classes:#?}");
}

#[test]
fn thousands_of_random_attacks_find_no_panic_and_are_caught() {
    let mut classes: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let (mut closed, mut tolerated, mut messages_seen) = (0, 0, 0);
    let keep = std::env::var_os("LAPCE_AI_TEST_KEEP_CORPUS");
    for script in (0..40_000).map(script).chain(keep.iter().flat_map(found)) {
        match side(&script) {
            Verdict::Closed(reason) => {
                closed += 1;
                let kept = classes.entry(class(&reason)).or_insert_with(|| script.clone());
                if script.len() < kept.len() {
                    *kept = script;
                }
            }
            Verdict::Tolerated { messages } => {
                tolerated += 1;
                messages_seen += messages;
            }
        }
    }
    assert!(closed > 5000 && classes.len() >= 15, "{closed} closed: {:#?}", classes.keys());
    assert!(messages_seen > 0, "{tolerated} scripts, and nothing ever got through");
    if keep.is_some() {
        let folder = std::env::current_dir().unwrap().join("fuzz/corpus/hostile_peer");
        for (n, script) in classes.values().enumerate() {
            std::fs::write(folder.join(format!("attack-{n:02}")), script).unwrap();
        }
    }
}
