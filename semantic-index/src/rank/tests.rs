use super::*;

fn candidate(path: &str, symbol: &str, lexical: f32) -> Candidate {
    Candidate {
        path: path.into(),
        symbol: symbol.into(),
        lexical,
        flags: crate::sniff::flags_of(path, ""),
        ..Candidate::default()
    }
}

fn order(query: &str, candidates: &[Candidate]) -> Vec<String> {
    rank(&Query::parse(query), candidates, 10, &Weights::default())
        .into_iter()
        .map(|r| candidates[r.at].path.clone())
        .collect()
}

#[test]
fn kinds_of_queries() {
    assert_eq!(Query::parse("parse_config").kind, Kind::Symbol);
    assert_eq!(Query::parse("Router").kind, Kind::Symbol);
    let q = Query::parse("TcpStream::connect");
    assert_eq!(
        (q.kind, q.identifiers[0].as_str(), q.owner.as_deref()),
        (Kind::Symbol, "connect", Some("TcpStream"))
    );
    let q = Query::parse("how does TcpStream connect?");
    assert_eq!((q.kind, q.identifiers.as_slice()), (Kind::Words, &["TcpStream".to_string()][..]));
    assert_eq!(Query::parse("how are the routes matched").terms(), ["rout", "match"]);
}

#[test]
fn empty_and_hostile_queries() {
    for text in ["", "   ", "???", "the", &"x ".repeat(100_000), "\u{0}\u{feff}", "a::"] {
        let query = Query::parse(text);
        assert!(query.terms().len() <= crate::limits::MAX_QUERY_TOKENS);
        rank(&query, &[candidate("a.rs", "a", 1.0)], 10, &Weights::default());
    }
}

#[test]
fn the_definition_comes_before_uses() {
    let candidates =
        [candidate("src/use.rs", "main", 10.0), candidate("src/conf.rs", "parse_config", 7.0)];
    assert_eq!(order("parse_config", &candidates)[0], "src/conf.rs");
}

#[test]
fn the_file_of_that_name_rises_and_tests_sink() {
    let candidates = [
        candidate("tests/routing.rs", "routes", 10.0),
        candidate("src/other.rs", "x", 9.0),
        candidate("src/routing.rs", "x", 8.0),
    ];
    assert_eq!(order("how does routing work", &candidates)[0], "src/routing.rs");
    assert_eq!(order("routing tests", &candidates)[0], "tests/routing.rs");
}

#[test]
fn one_file_does_not_fill_the_page() {
    let mut candidates: Vec<_> =
        (0..5).map(|n| candidate("src/a.rs", "x", 10.0 - n as f32 * 0.1)).collect();
    candidates.push(candidate("src/b.rs", "x", 8.0));
    assert_eq!(order("some words here", &candidates)[1], "src/b.rs");
}

#[test]
fn a_score_explains_itself() {
    let candidates = [candidate("tests/a.rs", "parse", 1.0)];
    let ranked = rank(&Query::parse("parse"), &candidates, 1, &Weights::default());
    let why = ranked[0].why.to_string();
    assert!(
        why.starts_with("words 1.00")
            && why.contains("definition +1.00")
            && why.contains("test-or-generated ×0.40"),
        "{why}"
    );
}

#[test]
fn sentences_are_told_from_questions_and_changes() {
    for (text, kind) in [
        ("Returns the number of open sockets", Kind::Sentence),
        ("drops every entry that is older than the limit", Kind::Sentence),
        ("removes all listeners of one event", Kind::Sentence),
        ("Updates node positions after layout changes", Kind::Sentence),
        ("fixes wrong offsets after long lines", Kind::Words),
        ("headers that repeat in one reply", Kind::Sentence),
        ("routes with wildcards in their path", Kind::Sentence),
        ("tokens per second of one client", Kind::Words),
        ("how does the router find the handler", Kind::Words),
        ("Fix the handling of empty bodies", Kind::Words),
        ("Added the missing header to every reply", Kind::Words),
        ("retry with exponential backoff and jitter", Kind::Words),
        ("collecting the results of spawned tasks", Kind::Words),
        ("is the cache cleared on a reload?", Kind::Words),
    ] {
        assert_eq!(Query::parse(text).kind, kind, "{text}");
    }
}

#[test]
fn a_sentence_may_find_two_definitions_of_one_file() {
    let function = |path: &str, symbol: &str, lexical: f32| Candidate {
        kind: "function".into(),
        ..candidate(path, symbol, lexical)
    };
    let candidates = [
        function("src/a.rs", "open", 9.0),
        function("src/a.rs", "close", 8.0),
        function("src/b.rs", "shut", 7.0),
    ];
    let sentence = "closes the file that was opened";
    assert_eq!(order(sentence, &candidates), ["src/a.rs", "src/a.rs", "src/b.rs"]);
    assert_eq!(order("close opened file", &candidates)[1], "src/b.rs");
}

#[test]
fn meaning_alone_wins_where_words_match_by_chance() {
    let mut candidates =
        [candidate("src/chance.rs", "f", 6.0), candidate("src/meant.rs", "g", 0.0)];
    (candidates[0].dense, candidates[1].dense) = (0.1, 0.4);
    assert_eq!(order("evicts the oldest of the kept values", &candidates)[0], "src/meant.rs");
}

/// (path, BM25, cosine, share of the query's words)
fn covered(path: &str, lexical: f32, dense: f32, cover: f32) -> Candidate {
    Candidate { dense, cover: Some(cover), ..candidate(path, "x", lexical) }
}

#[test]
fn where_the_nearest_has_none_of_the_words_meaning_decides() {
    for query in ["drops the oldest entry of it", "eviction of old entries"] {
        let other = covered("src/words.rs", 16.0, 0.3, 0.4);
        let none = [other.clone(), covered("src/meaning.rs", 0.0, 0.5, 0.0)];
        assert_eq!(order(query, &none)[0], "src/meaning.rs", "{query}");
        let some = [other.clone(), covered("src/meaning.rs", 0.0, 0.5, 0.3)];
        assert_eq!(order(query, &some)[0], "src/words.rs", "{query}");
        // While a build is under way it is not known.
        let mut unknown = none;
        for candidate in &mut unknown {
            candidate.cover = None;
        }
        assert_eq!(order(query, &unknown)[0], "src/words.rs", "{query}");
    }
    // A name that is there is what was asked for, whatever is near.
    let symbol = [candidate("src/a.rs", "evict", 5.0), covered("src/meaning.rs", 0.0, 0.9, 0.0)];
    assert_eq!(order("evict", &symbol)[0], "src/a.rs");
}

#[test]
fn words_that_no_hit_has_are_ranked_as_a_sentence() {
    let weights = Weights::default();
    let gate = |cover| {
        let candidates = [covered("a.rs", 9.0, 0.4, cover)];
        Gate::of(&Query::parse("eviction of old entries"), &candidates, &weights).profile
    };
    assert!((gate(0.9).coherence - weights.words.coherence).abs() < 1e-6);
    assert!((gate(0.1).function - weights.sentence.function).abs() < 1e-6);
    let between = gate(0.3).power;
    assert!(between > weights.words.power && between < weights.sentence.power);
}

#[test]
fn it_is_asked_of_the_best_and_the_nearest_alone() {
    let mut all: Vec<_> = (0..30).map(|n| candidate("a.rs", "a", 30.0 - n as f32)).collect();
    all[20].dense = 0.7;
    cover(&mut all, |_| 0.5);
    let asked: Vec<_> = (0..30).filter(|n| all[*n].cover.is_some()).collect();
    assert_eq!(asked, (0..COVER_HITS).chain([20]).collect::<Vec<_>>());
    cover(&mut [], |_| 0.5);
}
