"""MRR@10 on the held-out repositories, per kind of pair, dense alone, BM25 alone and fused.

A query is ranked among all code of its kind from its own repository. `hard` is the part of the doc queries
that share no word stem with the code, its name or its path.
"""
import pickle
import random

import numpy as np
import scipy.sparse as sp

import common as c
from prep import place

STOP = set("a an and are as at be been being but by can could did do does for from had has have how i if in into is it its me my not of "
           "on or our should so such than that the their them then there these they this those to too via was we were what when where which "
           "while who why will with would you your".split())
ENDS = [("ies", 3), ("ations", 4), ("ation", 4), ("ings", 4), ("ing", 4), ("ers", 4), ("ed", 4), ("er", 4), ("es", 4), ("ors", 4), ("or", 4)]


def stem(word):
    if len(word) < 4 or not (word.isascii() and word.isalpha() and word.islower()):
        return word
    base = None
    for end, keep in ENDS:
        if word.endswith(end) and len(word) - len(end) >= keep:
            base = word[:-len(end)]
            break
    if base is None:
        if not word.endswith("ss") and word.endswith("s") and len(word) >= 4:
            base = word[:-1]
        elif word.endswith("y") and len(word) >= 4:
            base = word[:-1]
        else:
            base = word
    if base.endswith("e") and len(base) >= 4:
        base = base[:-1]
    if len(base) > 3 and base[-1] == base[-2] and base[-1] not in "aeiouls":
        base = base[:-1]
    return base


def lex_terms(text):
    """The words of the full-text index: whole identifiers and their parts, stemmed."""
    out = []
    for ident in c.WORD.findall(text):
        got = c.split_ident(ident)
        if len(got) > 1:
            out.append(ident.strip("_").lower())
        out.extend(stem(w) for w in got)
    return out


class Bm25:
    def __init__(self, docs):
        self.vocab = {}
        rows, cols, vals, lens = [], [], [], []
        for i, doc in enumerate(docs):
            n = {}
            for w in doc:
                k = self.vocab.setdefault(w, len(self.vocab))
                n[k] = n.get(k, 0) + 1
            rows += [i] * len(n)
            cols += n.keys()
            vals += n.values()
            lens.append(len(doc))
        tf = sp.csr_matrix((np.array(vals, np.float32), (rows, cols)), shape=(len(docs), max(1, len(self.vocab))))
        df = np.bincount(tf.indices, minlength=tf.shape[1])
        idf = np.log((len(docs) - df + 0.5) / (df + 0.5) + 1)
        lens = np.array(lens, np.float32)
        norm = 1.2 * (1 - 0.75 + 0.75 * lens / max(lens.mean(), 1))
        coo = tf.tocoo()
        val = idf[coo.col] * coo.data * 2.2 / (coo.data + norm[coo.row])
        self.m = sp.csc_matrix((val, (coo.row, coo.col)), shape=tf.shape)

    def scores(self, terms):
        out = np.zeros(self.m.shape[0], np.float32)
        for w in set(terms):
            k = self.vocab.get(w)
            if k is not None:
                s = slice(self.m.indptr[k], self.m.indptr[k + 1])
                out[self.m.indices[s]] += self.m.data[s]
        return out


class Validation:
    def __init__(self, meta, most=250):
        self.sets = []
        for repo, pairs in sorted(pickle.load(open(f"{c.WORK}/prep/valid.pkl", "rb")).items()):
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
                places = [place(cr, sy) for _, cr, sy in keys]
                terms = [lex_terms(co + " " + pl) for (co, _, _), pl in zip(keys, places)]
                queries = [x[1] for x in ask]
                right = np.array([codes[x[2:]] for x in ask])
                want = [[t for t in lex_terms(q) if t not in STOP] for q in queries]
                hard = np.array([not (set(w) & set(terms[r])) for w, r in zip(want, right)])
                self.sets.append((repo, kind, queries, [k[0] for k in keys], places, right, hard, want, terms))

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
            if kind == "doc":
                out.setdefault("hard", []).extend(r[hard])
        return {k: round(float(np.mean(v)), 4) for k, v in out.items()}

    def dense(self, model):
        return self.gather(lambda s: model.queries(s[2]) @ model.codes(s[3], s[4]).T)

    def lexical(self):
        return self.gather(lambda s: np.stack([Bm25.scores(b, w) for b in [Bm25(s[8])] for w in s[7]]))

    def fused(self, model, weight):
        def score(s):
            d = model.queries(s[2]) @ model.codes(s[3], s[4]).T
            b = Bm25(s[8])
            lex = np.stack([b.scores(w) for w in s[7]])
            lex /= np.maximum(lex.max(1, keepdims=True), 1e-6)
            d /= np.maximum(d.max(1, keepdims=True), 1e-6)
            return (1 - weight) * lex + weight * d
        return self.gather(score)


if __name__ == "__main__":
    import json
    import sys
    from model import Model
    meta = json.load(open(f"{c.WORK}/prep/vocab.json"))
    v = Validation(meta)
    print("queries", {k: sum(len(s[2]) for s in v.sets if s[1] == k) for k in ("doc", "name", "inline", "commit")}, "hard", sum(int(s[6].sum()) for s in v.sets if s[1] == "doc"))
    print("BM25 ", json.dumps(v.lexical()))
    for path in sys.argv[1:]:
        m = Model.load(meta, path)
        print(path)
        print("dense", json.dumps(v.dense(m)))
        for w in (0.3, 0.5, 0.7):
            print("fused", w, json.dumps(v.fused(m, w)))
