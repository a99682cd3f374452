//! `dry-run` and `eval`.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use lapce_ai_index::embed::{self, Embedder, default_embedder};
use lapce_ai_index::eval::{self, Memory, Place, Searcher, Table};
use lapce_ai_index::rank::Weights;
use lapce_ai_index::{sniff, walk};

use crate::args::{Arm, Eval};

pub(crate) fn dry_run(root: &Path, json: bool) -> anyhow::Result<()> {
    anyhow::ensure!(root.is_dir(), "{} is not a folder", root.display());
    let (entries, mut skips) = walk::walk(root, 2);
    let (mut files, mut bytes) = (Vec::new(), 0_u64);
    for entry in &entries {
        let text = std::fs::read(root.join(&entry.path))
            .map_err(|_| sniff::Skip::Unreadable)
            .and_then(sniff::text_of);
        match text {
            Ok(text) => {
                bytes += text.len() as u64;
                files.push(entry.path.as_str());
            }
            Err(reason) => skips.add(reason, &entry.path),
        }
    }
    if json {
        let skipped: Vec<_> = skips
            .iter()
            .map(|(reason, files, example)| {
                serde_json::json!({"reason": reason.reason(), "files": files, "example": example})
            })
            .collect();
        println!("{}", serde_json::json!({"files": files, "bytes": bytes, "skipped": skipped}));
        return Ok(());
    }
    for path in &files {
        println!("{path}");
    }
    eprintln!("{} files, {bytes} bytes would be indexed", files.len());
    for (reason, count, example) in skips.iter() {
        eprintln!("{count:>8} left out: {} (e.g. {example})", reason.reason());
    }
    Ok(())
}

pub(crate) fn eval(args: &Eval) -> anyhow::Result<()> {
    let weights: Weights = args
        .weights
        .as_deref()
        .map(serde_json::from_str)
        .transpose()
        .context("--weights")?
        .unwrap_or_default();
    if let Some(folder) = &args.onnx {
        embed::measure(Arc::new(embed::Local::start(folder).context("--onnx")?));
    }
    let mut table = Table::default();
    match &args.set {
        Some(set) => {
            let corpora =
                args.corpus.as_deref().context("--corpus says where the repositories are")?;
            let repos: Vec<serde_json::Value> =
                serde_json::from_slice(&std::fs::read(set.join("repos.json"))?)?;
            for repo in &repos {
                let name = repo["name"].as_str().context("repos.json: name")?;
                let root =
                    corpora.join(name).join(repo["benchmark_root"].as_str().unwrap_or_default());
                let queries = if args.doc_sentences {
                    Vec::new()
                } else if args.commits {
                    let git = repo["git"].as_str().map_or_else(|| root.clone(), Into::into);
                    eval::commits::queries(&git, &root, COMMIT_QUERIES)?
                } else {
                    eval::load_queries(&set.join("labels").join(format!("{name}.json")))?
                };
                one(args, &root, &queries, &weights, &mut table, name)
                    .with_context(|| name.to_string())?;
            }
        }
        None if args.doc_sentences => {
            one(args, args.corpus.as_deref().context("--corpus")?, &[], &weights, &mut table, "")?;
        }
        None if args.commits => {
            let corpus = args.corpus.as_deref().context("--corpus")?;
            let queries = eval::commits::queries(corpus, corpus, COMMIT_QUERIES)?;
            one(args, corpus, &queries, &weights, &mut table, "")?;
        }
        None => {
            let (corpus, queries) = args
                .corpus
                .as_deref()
                .zip(args.queries.as_deref())
                .context("--corpus and --queries")?;
            one(args, corpus, &eval::load_queries(queries)?, &weights, &mut table, "")?;
        }
    }
    if args.dump.is_some() || args.export.is_some() {
        return Ok(());
    }
    let means = table.means();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&means)?);
        return Ok(());
    }
    println!(
        "{:<24} {:>7} {:>8} {:>8} {:>9} {:>11} {:>12}",
        "split", "queries", "NDCG@10", "MRR@10", "recall@10", "MRR@10 sym", "recall sym"
    );
    for (name, s) in &means {
        println!(
            "{name:<24} {:>7} {:>8.3} {:>8.3} {:>9.3} {:>11.3} {:>12.3}",
            s.queries, s.ndcg10, s.mrr10, s.recall10_file, s.mrr10_symbol, s.recall10_symbol
        );
    }
    Ok(())
}

fn one(
    args: &Eval,
    root: &Path,
    queries: &[eval::Labelled],
    weights: &Weights,
    table: &mut Table,
    name: &str,
) -> anyhow::Result<()> {
    let mut own = Vec::new();
    let searcher: Box<dyn Searcher> = if args.store {
        #[cfg(feature = "lance")]
        {
            Box::new(crate::local::Built::new(root, weights.clone(), args.arm)?)
        }
        #[cfg(not(feature = "lance"))]
        anyhow::bail!("--store needs the feature `lance`")
    } else {
        let files = if args.doc_sentences {
            let stripped = eval::docs::strip(root, DOC_QUERIES);
            own = stripped.queries;
            stripped.files
        } else {
            eval::files(root)?.collect()
        };
        if let Some(folder) = &args.dump {
            std::fs::create_dir_all(folder)?;
            let name = if name.is_empty() { "corpus" } else { name };
            let file = std::fs::File::create(folder.join(format!("{name}.jsonl")))?;
            let queries = if args.doc_sentences { &own } else { queries };
            return eval::dump(&files, queries, &mut std::io::BufWriter::new(file));
        }
        if let Some(folder) = &args.export {
            let queries = if args.doc_sentences { &own } else { queries };
            return eval::export(&files, queries, &folder.join(name));
        }
        let embedder = match &args.table {
            Some(file) => Some(table_of(file)?),
            None => default_embedder(),
        };
        let mut memory = Memory::of(files, weights.clone(), embedder);
        memory.arm = mode(args.arm);
        let (chunks, took) = (memory.chunks(), memory.embedding.as_secs_f64() * 1e3);
        eprintln!("{name} {chunks} chunks, {:.3} ms each for vectors", took / chunks.max(1) as f64);
        Box::new(memory)
    };
    for labelled in queries.iter().chain(&own) {
        let hits = searcher.search(&labelled.query, 10)?;
        let scores = eval::score(labelled, &hits);
        table.add(&labelled.split, &scores);
        if !name.is_empty() {
            table.add_only(&format!("repo:{name}"), &scores);
        }
        if args.misses.is_some_and(|below| scores.ndcg10 < below) {
            let show = |p: &Place| format!("{}:{}", p.path, p.start_line);
            println!(
                "{:.2} {name} [{}] {:?}\n     want {:?}\n     got  {:?}",
                scores.ndcg10,
                labelled.split,
                labelled.query,
                labelled.relevant,
                hits.iter().map(show).collect::<Vec<_>>()
            );
        }
    }
    Ok(())
}

/// Queries taken from one repository's documentation.
const DOC_QUERIES: usize = 200;
/// Queries taken from one repository's history.
const COMMIT_QUERIES: usize = 200;

/// A table that is to be tried; it stays for as long as the process does.
fn table_of(file: &Path) -> anyhow::Result<Arc<dyn Embedder>> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    let table = embed::Table::new(bytes.leak()).with_context(|| file.display().to_string())?;
    Ok(Arc::new(table))
}

fn mode(arm: Arm) -> eval::Mode {
    match arm {
        Arm::Bm25 => eval::Mode::Bm25,
        Arm::Lexical => eval::Mode::Lexical,
        Arm::Dense => eval::Mode::Dense,
        Arm::Hybrid => eval::Mode::Hybrid,
    }
}
