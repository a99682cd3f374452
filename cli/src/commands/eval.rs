//! `lapce-ai eval`: measured by `lapce-ai-index`, which has the chunks and the ranking.

use std::ffi::OsString;

use clap::ValueEnum as _;

use super::args::{Eval, EvalSearch};
use super::exit::Outcome;
use super::index_program;

pub fn run(args: Eval) -> Outcome {
    let Eval::Search(args) = args;
    index_program::become_it(words(args))
}

fn words(args: EvalSearch) -> Vec<OsString> {
    let arm = args.arm.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
    let mut words: Vec<OsString> = vec![
        "eval".into(),
        "--corpus".into(),
        args.corpus.into(),
        "--queries".into(),
        args.queries.into(),
        "--arm".into(),
        arm.into(),
    ];
    if let Some(below) = args.misses {
        words.extend(["--misses".into(), below.to_string().into()]);
    }
    for (wanted, word) in [(args.store, "--store"), (args.json, "--json")] {
        if wanted {
            words.push(word.into());
        }
    }
    words
}
