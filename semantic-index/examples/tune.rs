use lapce_ai_index::eval::*;
use lapce_ai_index::rank::*;
fn main() {
    let repos: serde_json::Value = serde_json::from_str(
        &std::fs::read_to_string("/work/shared/search-dev/repos.json").unwrap(),
    )
    .unwrap();
    let mut all: Vec<(bool, Memory, Vec<Labelled>)> = vec![];
    for r in repos.as_array().unwrap() {
        let name = r["name"].as_str().unwrap().to_string();
        let root = format!("/work/corpora/{name}/{}", r["benchmark_root"].as_str().unwrap_or(""));
        let m = Memory::load(std::path::Path::new(&root), Weights::default()).unwrap();
        let q = load_queries(std::path::Path::new(&format!(
            "/work/shared/search-dev/labels/{name}.json"
        )))
        .unwrap();
        all.push((false, m, q));
        let s = docs::strip(std::path::Path::new(&root), 60);
        all.push((true, Memory::of(s.files, Weights::default()), s.queries));
    }
    let arm = std::env::args().nth(1).unwrap_or("lexical".into());
    for (_, m, _) in &mut all {
        m.arm = match arm.as_str() {
            "bm25" => Mode::Bm25,
            "lexical" => Mode::Lexical,
            "dense" => Mode::Dense,
            _ => Mode::Hybrid,
        };
    }
    // objective, ndcg set, mrr doc, mrr hard
    let mut eval = |w: &Weights| -> (f64, f64, f64, f64) {
        let (mut a, mut n) = (0.0, 0.0);
        let (mut d, mut dn) = (0.0, 0.0);
        let (mut h, mut hn) = (0.0, 0.0);
        for (doc, m, q) in all.iter_mut() {
            m.weights = w.clone();
            for q in q.iter() {
                let s = score(q, &m.search(&q.query, 10).unwrap());
                if !*doc {
                    a += s.ndcg10;
                    n += 1.0
                } else if q.split == "hard" {
                    h += s.mrr10_symbol;
                    hn += 1.0;
                    d += s.mrr10_symbol;
                    dn += 1.0
                } else {
                    d += s.mrr10_symbol;
                    dn += 1.0
                }
            }
        }
        let (a, d, h) = (a / n, d / dn, h / hn);
        (a + 0.7 * d + 0.15 * h, a, d, h)
    };
    let mut w: serde_json::Value = serde_json::to_value(Weights::default()).unwrap();
    if let Some(x) = std::env::args().nth(2) {
        for (k, v) in serde_json::from_str::<serde_json::Value>(&x).unwrap().as_object().unwrap() {
            w[k] = v.clone();
        }
    }
    let parse = |w: &serde_json::Value| serde_json::from_value::<Weights>(w.clone()).unwrap();
    let mut best = eval(&parse(&w));
    println!("start {best:.4?}");
    if std::env::args().nth(3).as_deref() == Some("once") {
        return;
    }
    let keys: Vec<String> = w
        .as_object()
        .unwrap()
        .keys()
        .filter(|k| {
            (arm != "lexical" || !k.starts_with("dense"))
                && !["auxiliary", "barrel", "generated", "vendored", "test"].contains(&k.as_str())
        })
        .cloned()
        .collect();
    for round in 0..2 {
        for k in &keys {
            let v0 = w[k].as_f64().unwrap();
            let mut line = format!("{k} {v0:.2}:");
            for f in [0.0, 0.5, 0.75, 1.33, 2.0] {
                let mut x = w.clone();
                x[k] = serde_json::json!(if f == 0.0 && v0 == 0.0 { 0.1 } else { v0 * f });
                let e = eval(&parse(&x));
                line += &format!(" {:.2}={:.3}/{:.3}/{:.3}", x[k].as_f64().unwrap(), e.1, e.2, e.3);
                if e.0 > best.0 + 0.0004 {
                    best = e;
                    w = x;
                }
            }
            println!("{line} -> {:.3} {:.4}", w[k].as_f64().unwrap(), best.0);
        }
        println!("round {round} {best:.4?} {w}");
    }
}
