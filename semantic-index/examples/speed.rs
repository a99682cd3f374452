use std::time::Instant;
fn main() {
    let root = std::env::args().nth(1).unwrap();
    let root = std::path::Path::new(&root);
    let t = Instant::now();
    let f = lapce_ai_index::walk::walk(root, 2, &Default::default(), |_| {});
    println!("walk {} {:?}", f.entries.len(), t.elapsed());
    let mut c = lapce_ai_index::chunk::Chunker::new();
    let (mut tc, mut tt, mut tr, mut n, mut b, mut tb) = (0u128, 0u128, 0u128, 0, 0, 0);
    let mut tf = 0u128;
    let mut te = 0u128;
    let em = lapce_ai_index::embed::default_embedder();
    let mut by = std::collections::BTreeMap::new();
    for e in &f.entries {
        let t = Instant::now();
        let Ok(x) = std::fs::read(root.join(&e.path)) else { continue };
        let _h = blake3::hash(&x);
        let Ok(x) = lapce_ai_index::sniff::text_of(x) else { continue };
        tr += t.elapsed().as_micros();
        let t = Instant::now();
        let _ = lapce_ai_index::sniff::flags_of(&e.path, &x);
        tf += t.elapsed().as_micros();
        let t = Instant::now();
        let ch = c.chunk(&e.path, &x);
        let d = t.elapsed().as_micros();
        tc += d;
        let s = by.entry(lapce_ai_index::lang::language_name(&e.path)).or_insert((0, 0, 0, 0));
        s.0 += 1;
        s.1 += x.len();
        s.2 += d;
        s.3 += ch.len();
        let t = Instant::now();
        for k in &ch {
            tb += lapce_ai_index::doc::index_text(&e.path, k, &x[k.start..k.end]).len();
        }
        tt += t.elapsed().as_micros();
        let t = Instant::now();
        if let Some(em) = &em {
            for k in &ch {
                let pl = lapce_ai_index::embed::place(&e.path, &k.crumb, &k.symbol);
                em.chunk(&pl, &x[k.start..k.end]);
            }
        }
        te += t.elapsed().as_micros();
        n += ch.len();
        b += x.len();
    }
    println!(
        "read {tr} flags {tf} chunk {tc} tokens {tt} embed {te} us; {n} chunks {b} bytes, {tb} token bytes"
    );
    for (k, v) in by {
        println!(
            "{k:12} files {} bytes {} us {} ({:.1} MB/s) chunks {}",
            v.0,
            v.1,
            v.2,
            v.1 as f64 / v.2 as f64,
            v.3
        );
    }
}
