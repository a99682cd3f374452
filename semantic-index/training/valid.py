"""MRR@10 on the held-out repositories, per kind of pair, dense alone, BM25 alone and fused.

A query is ranked among all code of its kind from its own repository. `hard_*` is the part of the queries
that share no word stem with the code, its name or its path.
"""
import pickle
import random

import numpy as np

from lexical import STOP, Bm25, lex_terms
from prep import PREP, place

class Validation:
    def __init__(self, meta, most=1000):
        self.sets = []
        for repo, pairs in sorted(pickle.load(open(f"{PREP}/valid.pkl", "rb")).items()):
            for kind in ("doc", "name", "inline", "commit"):
                chosen = [x for x in pairs if x[0] == kind]
                codes = {}
                for _, q, code, crumb, symbol in chosen:
                    codes.setdefault((code, crumb, symbol), len(codes))
                if len(codes) < 50:
                    continue
                rng = random.Random(repo + kind)
                ask = chosen if len(chosen) <= most else rng.sample(chosen, most)
                keys = list(codes)
                places = [(place(cr, ""), sy) for _, cr, sy in keys]
                terms = [lex_terms(" ".join([co, *pl])) for (co, _, _), pl in zip(keys, places)]
                queries = [x[1] for x in ask]
                right = np.array([codes[x[2:]] for x in ask])
                want = [[t for t in lex_terms(q) if t not in STOP] for q in queries]
                hard = np.array([not (set(w) & set(terms[r])) for w, r in zip(want, right)])
                bm = Bm25(terms)
                lex = np.stack([bm.scores(w) for w in want])
                self.sets.append((repo, kind, queries, [k[0] for k in keys], places, right, hard, lex))

    @staticmethod
    def mrr(scores, right):
        own = scores[np.arange(len(right)), right]
        rank = 1 + (scores > own[:, None]).sum(1) + 0.5 * ((scores == own[:, None]).sum(1) - 1)
        return np.where(rank <= 10, 1 / rank, 0.0)

    def gather(self, score):
        out = {}
        for s in self.sets:
            kind, right, hard = s[1], s[5], s[6]
            r = self.mrr(score(s), right)
            out.setdefault(kind, []).append(r.mean())
            if kind in ("doc", "inline"):
                out.setdefault("hard_" + kind, []).extend(r[hard])
        return {k: round(float(np.mean(v)), 4) for k, v in out.items()}

    def dense(self, model):
        return self.gather(lambda s: model.queries(s[2]) @ model.codes(s[3], s[4]).T)

    def lexical(self):
        return self.gather(lambda s: s[7])

    def fused(self, model, weight):
        def score(s):
            d = model.queries(s[2]) @ model.codes(s[3], s[4]).T
            lex = s[7] / np.maximum(s[7].max(1, keepdims=True), 1e-6)
            d /= np.maximum(d.max(1, keepdims=True), 1e-6)
            return (1 - weight) * lex + weight * d
        return self.gather(score)


if __name__ == "__main__":
    import json
    import sys
    from model import Model
    meta = json.load(open(f"{PREP}/vocab.json"))
    v = Validation(meta)
    print("queries", {k: sum(len(s[2]) for s in v.sets if s[1] == k) for k in ("doc", "name", "inline", "commit")}, "hard", {k: sum(int(s[6].sum()) for s in v.sets if s[1] == k) for k in ("doc", "inline")})
    print("BM25 ", json.dumps(v.lexical()))
    for path in sys.argv[1:]:
        m = Model.load(meta, path)
        print(path)
        print("dense", json.dumps(v.dense(m)))
        for w in (0.3, 0.5, 0.7):
            print("fused", w, json.dumps(v.fused(m, w)))
