//! Puts candidates in the order a reader wants them.
//!
//! Input: chunks with a lexical score (BM25), a dense score (cosine), or both. The kind of
//! query decides how much each counts. Then definitions, file and symbol names and files
//! with several matches rise; tests, generated and auxiliary code sink; and the second
//! chunk of a file waits for other files. Pure; called by `search` and `eval`.

mod query;
mod weights;

use std::collections::HashMap;

pub use query::{Kind, Query};
pub use weights::{Profile, Weights};

use crate::limits::COVER_HITS;
use crate::sniff::flags;
use crate::tokens;

/// A chunk that may become a hit.
#[derive(Debug, Clone, Default)]
pub struct Candidate {
    /// Row in the store.
    pub row: u64,
    /// Where the store's copies have it; no matter of ranking.
    pub place: u64,
    pub path: String,
    pub start_line: u32,
    pub end_line: u32,
    pub symbol: String,
    pub kind: String,
    pub crumb: String,
    pub flags: u8,
    /// BM25, 0 when the words did not match.
    pub lexical: f32,
    /// Cosine with the query, 0 when the dense arm did not find it.
    pub dense: f32,
    /// Cosine of the symbol alone with the query, where the kind of query asks for it.
    pub name: f32,
    /// Which share of the query's words stands here, each by its weight; None: not known.
    pub cover: Option<f32>,
}

/// A candidate in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// Index into the candidates.
    pub at: usize,
    pub score: f32,
    pub why: Why,
}

/// What a score is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Why {
    pub lexical: f32,
    pub dense: f32,
    pub name: f32,
    pub coherence: f32,
    pub definition: f32,
    pub symbol: f32,
    pub file: f32,
    pub function: f32,
    pub penalty: f32,
    pub repeat: f32,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut first = true;
        let mut part = |f: &mut std::fmt::Formatter<'_>, name: &str, value: f32, sign: &str| {
            let sep = if std::mem::take(&mut first) { "" } else { " " };
            write!(f, "{sep}{name} {sign}{value:.2}")
        };
        part(f, "words", self.lexical, "")?;
        for (name, value) in [
            ("meaning", self.dense),
            ("name-meaning", self.name),
            ("file-matches", self.coherence),
            ("definition", self.definition),
            ("symbol", self.symbol),
            ("file-name", self.file),
            ("function", self.function),
        ] {
            if value > 0.005 {
                part(f, name, value, "+")?;
            }
        }
        if self.penalty < 1.0 {
            part(f, "test-or-generated", self.penalty, "×")?;
        }
        if self.repeat < 1.0 {
            part(f, "same-file", self.repeat, "×")?;
        }
        Ok(())
    }
}

/// The best `limit` candidates, best first.
pub fn rank(
    query: &Query,
    candidates: &[Candidate],
    limit: usize,
    weights: &Weights,
) -> Vec<Ranked> {
    let gate = Gate::of(query, candidates, weights);
    let profile = &gate.profile;
    // Not each arm by its own best: a weak best BM25 stays weak, so that meaning can win
    // where no word matches.
    let parts_of = |c: &Candidate| {
        let [lexical, dense, name] = [c.lexical.max(0.0) / profile.bm25, c.dense, c.name];
        let lexical = gate.lexical * lexical.powf(profile.power);
        [lexical, profile.dense * dense.max(0.0), profile.name * name.max(0.0)]
    };
    let top = candidates.iter().map(|c| parts_of(c).iter().sum()).fold(0.0, f32::max);
    let top = top.max(f32::MIN_POSITIVE);
    let mut file_sums: HashMap<&str, (f32, usize)> = HashMap::new();
    let mut whys: Vec<(f32, Why)> = Vec::with_capacity(candidates.len());
    for (at, candidate) in candidates.iter().enumerate() {
        let [lexical, dense, name] = parts_of(candidate).map(|part| part / top);
        let base = lexical + dense + name;
        let slot = file_sums.entry(&candidate.path).or_insert((0.0, at));
        slot.0 += base;
        if base > whys.get(slot.1).map_or(f32::MIN, |w: &(f32, Why)| w.0) {
            slot.1 = at;
        }
        let why = Why { lexical, dense, name, penalty: 1.0, repeat: 1.0, ..Why::default() };
        whys.push((base, why));
    }
    let top_sum = file_sums.values().map(|s| s.0).fold(0.0, f32::max).max(f32::MIN_POSITIVE);
    let mut files: HashMap<&str, (f32, f32)> = HashMap::new();
    for (at, candidate) in candidates.iter().enumerate() {
        let (base, why) = &mut whys[at];
        let (sum, best) = file_sums[candidate.path.as_str()];
        if best == at {
            why.coherence = profile.coherence * sum / top_sum;
        }
        (why.definition, why.symbol) = symbol_boost(query, candidate, profile);
        let (stem, folder) =
            *files.entry(&candidate.path).or_insert_with(|| query.match_path(&candidate.path));
        why.file = profile.file * stem + profile.folder * folder;
        why.function = profile.function * definition_share(&candidate.kind);
        why.penalty = penalty(query, candidate, weights);
        let boosts = why.coherence + why.definition + why.symbol + why.file + why.function;
        *base = (*base + boosts) * why.penalty;
    }
    select(candidates, &mut whys, limit, profile.repeat)
}

/// Asks of those that [`rank`] wants to know it of, which share of the query's words they have:
/// the best of the words, which come first, and the nearest by meaning.
pub fn cover(candidates: &mut [Candidate], ask: impl Fn(&Candidate) -> f32) {
    let nearest =
        (0..candidates.len()).max_by(|a, b| candidates[*a].dense.total_cmp(&candidates[*b].dense));
    for at in (0..candidates.len().min(COVER_HITS)).chain(nearest) {
        candidates[at].cover = Some(ask(&candidates[at]));
    }
}

/// What the words of a query are worth here.
struct Gate {
    profile: Profile,
    /// Factor of BM25.
    lexical: f32,
}

impl Gate {
    /// Where even the best hits of the words have few of them, the words are not those of the
    /// code: the query is ranked as a sentence is, the less they have the more. Where the
    /// nearest by meaning has none of them, words would only push it down.
    fn of(query: &Query, candidates: &[Candidate], weights: &Weights) -> Self {
        let profile = *weights.of(query.kind);
        if query.kind == Kind::Symbol {
            return Self { profile, lexical: 1.0 };
        }
        let nearest = candidates.iter().max_by(|a, b| a.dense.total_cmp(&b.dense));
        let nearest = nearest.filter(|c| c.dense > 0.0).and_then(|c| c.cover);
        let lexical = nearest.map_or(1.0, |cover| (cover / weights.near_cover).clamp(0.0, 1.0));
        let best = candidates.iter().filter_map(|c| c.cover.filter(|_| c.lexical > 0.0));
        let best = best.reduce(f32::max).unwrap_or(1.0);
        let [least, most] = weights.best_cover;
        let known = ((best - least) / (most - least)).clamp(0.0, 1.0);
        let profile = if query.kind == Kind::Words && nearest.is_some() {
            profile.mixed(&weights.sentence, 1.0 - known)
        } else {
            profile
        };
        Self { profile, lexical }
    }
}

/// How much a kind of chunk is what a sentence describes.
fn definition_share(kind: &str) -> f32 {
    match kind {
        "function" | "method" | "macro" => 1.0,
        "class" | "struct" | "interface" | "trait" | "enum" | "type" | "object" => 0.5,
        _ => 0.0,
    }
}

/// Greedy choice: each further chunk of a file counts less.
fn select(
    candidates: &[Candidate],
    whys: &mut [(f32, Why)],
    limit: usize,
    repeat: f32,
) -> Vec<Ranked> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by(|a, b| whys[*b].0.total_cmp(&whys[*a].0).then(a.cmp(b)));
    let mut seen: HashMap<&str, i32> = HashMap::new();
    for &at in &order {
        let count = seen.entry(&candidates[at].path).or_default();
        whys[at].1.repeat = repeat.powi(*count);
        whys[at].0 *= whys[at].1.repeat;
        *count += 1;
    }
    order.sort_by(|a, b| whys[*b].0.total_cmp(&whys[*a].0).then(a.cmp(b)));
    order.truncate(limit);
    order.into_iter().map(|at| Ranked { at, score: whys[at].0, why: whys[at].1 }).collect()
}

/// (the query names what is defined here, share of the query's words in the names here)
fn symbol_boost(query: &Query, candidate: &Candidate, profile: &Profile) -> (f32, f32) {
    let mut definition: f32 = 0.0;
    let mut share: f32 = 0.0;
    for name in candidate.symbol.split(", ").filter(|n| !n.is_empty()) {
        let bare = name.rsplit(['.', ':', ' ']).next().unwrap_or(name);
        for ident in &query.identifiers {
            let strength = if ident == bare || ident == name {
                1.0
            } else if ident.eq_ignore_ascii_case(bare) {
                0.8
            } else {
                continue;
            };
            let owner = query.owner.as_ref().is_some_and(|o| candidate.crumb.contains(o.as_str()));
            let strength = strength * if owner { 1.3 } else { 1.0 };
            definition = definition.max(profile.definition * strength);
        }
        share = share.max(query.share(bare));
    }
    (definition, profile.symbol * share)
}

fn penalty(query: &Query, candidate: &Candidate, weights: &Weights) -> f32 {
    let mut factor = 1.0;
    let mut apply = |flag: u8, weight: f32, wanted: bool| {
        if candidate.flags & flag != 0 && !wanted {
            factor *= weight;
        }
    };
    apply(flags::TEST, weights.test, query.mentions(&["test", "spec", "fixtur"]));
    apply(
        flags::AUXILIARY,
        weights.auxiliary,
        query.mentions(&["exampl", "bench", "benchmark", "demo", "sampl", "mock", "fixtur"]),
    );
    apply(
        flags::VENDORED,
        weights.vendored,
        query.mentions(&["vendor", "compat", "legaci", "deprecat"]),
    );
    apply(flags::GENERATED, weights.generated, query.mentions(&["generat"]));
    apply(flags::BARREL, weights.barrel, false);
    apply(
        flags::PROSE,
        weights.prose,
        query.mentions(&["doc", "readm", "guid", "config", "changelog", "tutorial", "workflow"]),
    );
    factor
}

/// Stems of the parts of a name.
fn part_stems(name: &str) -> Vec<String> {
    let mut out = Vec::new();
    tokens::parts(name, |part| out.push(tokens::stem(part).to_string()));
    out
}

#[cfg(test)]
mod tests;
