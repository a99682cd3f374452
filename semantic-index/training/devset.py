"""NDCG@10 on the development set: BM25, BM25 with ranking, dense alone, hybrid.

    python devset.py MODEL.npz|TABLE.bin … [--weights '{"dense_words": 0.6}']

Chunks come from $TRAIN_DATA/chunks/NAME.jsonl (one JSON object a chunk: path, start, end, symbol, kind, crumb,
flags, code, tokens), written by the product's chunker. `rank` is a port of `semantic-index/src/rank`: a quick
instrument to choose between tables; the product's own figure comes from `lapce-ai-index eval`.
"""
import json
import math
import os
import re
import sys

import numpy as np

import common as c
from lexical import STOP, Bm25, stem
from prep import PREP

W = dict(dense_words=0.5, dense_symbol=0.15, coherence=0.55, definition=1.0, definition_embedded=0.5, symbol=0.2, file=1.0,
         folder=0.45, test=0.4, auxiliary=0.5, vendored=0.6, generated=0.5, barrel=0.6, prose=0.5, repeat=0.4, pool=150)
SET = os.environ.get("DEV_SET", "/work/shared/search-dev")
TEST, GENERATED, AUX, VENDORED, PROSE, BARREL = 1, 2, 4, 8, 16, 32


def matches(a, b):
    return a == b or len(a) >= 4 and b.startswith(a) or len(b) >= 4 and a.startswith(b)


def like_name(w):
    return len(w) >= 3 and re.fullmatch(r"\w+", w) and ("_" in w.strip("_") or any(a.islower() and b.isupper() for a, b in zip(w, w[1:])))


class Query:
    def __init__(self, text):
        self.idents, self.owner = [], None
        blanks = len(text.split())
        for word in text.split():
            word = word.strip("".join(ch for ch in word if not (ch.isalnum() or ch == "_")) or " ")
            pieces = [x for x in re.split(r"[:.#>\-/]", word) if x]
            qualified = len(pieces) > 1 and ("::" in word or "." in word or "->" in word or "#" in word)
            if not pieces:
                continue
            last = pieces.pop()
            if qualified or like_name(last) or blanks == 1:
                self.idents.append(last)
                if qualified and pieces:
                    self.owner = pieces[-1]
        self.symbol = blanks == 1 and bool(self.idents)
        seen = dict.fromkeys(stem(w) for w in c.parts(text) if w not in STOP and len(w) > 1)
        self.stems = list(seen)
        terms = {}
        for ident in c.WORD.findall(text):
            got = c.split_ident(ident)
            for w in ([ident.strip("_").lower()] if len(got) > 1 else []) + got:
                if w not in STOP:
                    terms[stem(w)] = 1
        self.terms = list(terms)[:48]

    def share(self, parts):
        if not parts or not self.stems:
            return 0.0
        hit = sum(any(matches(s, p) for s in self.stems) for p in parts)
        return hit / len(parts) * min(1.0, hit / min(4, len(self.stems)))

    def path(self, parts):
        if not self.stems:
            return 0.0
        hit = sum(any(matches(s, p) for p in parts) for s in self.stems)
        cov = sum(any(matches(s, p) for s in self.stems) for p in parts)
        return min(1.0, math.sqrt(hit / len(self.stems)) * cov / max(1, len(parts)))


class Repo:
    def __init__(self, name, chunk_dir):
        self.chunks = [json.loads(line) for line in open(f"{chunk_dir}/{name}.jsonl")]
        self.bm = Bm25([x["tokens"].split() for x in self.chunks])
        for x in self.chunks:
            folder, _, file = x["path"].rpartition("/")
            x["stem"] = [stem(w) for w in c.parts(file.split(".")[0])]
            x["near"] = [stem(w) for w in c.parts(folder.rsplit("/", 1)[-1])]
            x["names"] = [(n, re.split(r"[.: ]", n)[-1]) for n in x["symbol"].split(", ") if n]
            x["parts"] = [[stem(w) for w in c.parts(b)] for _, b in x["names"]]
            path = re.sub(r"\.\w+$", "", x["path"]).split("/")[-4:]
            x["place"] = " ".join([*path, x["crumb"], x["symbol"]])

    def rank(self, q, lex, dense, w, ranked=True, most=1.0):
        """Chunk numbers, best first. lex: BM25 scores; dense: cosines or None; most: what BM25 could give at best."""
        top = [i for i in np.argsort(-lex, kind="stable")[:w["pool"]] if lex[i] > 0] if lex is not None else []
        if dense is not None:
            top = list(dict.fromkeys([*top, *np.argsort(-dense, kind="stable")[:w["pool"]].tolist()]))
        if not top:
            return []
        top = np.array(top)
        dw = 0.0
        base = np.zeros(len(top))
        if lex is not None:
            base = lex[top] / max(lex[top].max(), 1e-9)
        if dense is not None:
            dw = 1.0 if lex is None else (w["dense_symbol"] if q.symbol else w["dense_words"])
            base = (1 - dw) * base + dw * np.maximum(dense[top], 0) / max(dense[top].max(), 1e-9)
            if w.get("abs") and lex is not None and not q.symbol:
                base = np.maximum(dense[top], 0) + w["abs"] * lex[top] / (most if w.get("cover") else 1.0)
                base /= max(base.max(), 1e-9)
        if not ranked:
            return top[np.argsort(-base, kind="stable")]
        sums, best = {}, {}
        for k, i in enumerate(top):
            p = self.chunks[i]["path"]
            sums[p] = sums.get(p, 0) + base[k]
            if p not in best or base[k] > base[best[p]]:
                best[p] = k
        top_sum = max(sums.values())
        score = base.copy()
        for k, i in enumerate(top):
            x = self.chunks[i]
            if best[x["path"]] == k:
                score[k] += w["coherence"] * sums[x["path"]] / top_sum
            definition = share = 0.0
            for (name, bare), parts in zip(x["names"], x["parts"]):
                for ident in q.idents:
                    s = 1.0 if ident in (bare, name) else 0.8 if ident.lower() == bare.lower() else 0
                    if s:
                        owner = q.owner and q.owner in x["crumb"]
                        definition = max(definition, s * (w["definition"] if q.symbol else w["definition_embedded"]) * (1.3 if owner else 1))
                share = max(share, q.share(parts))
            score[k] += definition + w["symbol"] * share + w["file"] * q.path(x["stem"]) + w["folder"] * q.path(x["near"])
            f = x["flags"]
            for flag, weight, said in ((TEST, w["test"], ("test", "spec", "fixtur")), (AUX, w["auxiliary"], ("exampl", "bench", "benchmark", "demo", "sampl", "mock", "fixtur")),
                                       (VENDORED, w["vendored"], ("vendor", "compat", "legaci", "deprecat")), (GENERATED, w["generated"], ("generat",)),
                                       (BARREL, w["barrel"], ()), (PROSE, w["prose"], ("doc", "readm", "guid", "config", "changelog", "tutorial", "workflow"))):
                if f & flag and not any(s in q.stems for s in said):
                    score[k] *= weight
        order = np.argsort(-score, kind="stable")
        seen = {}
        for k in order:
            p = self.chunks[top[k]]["path"]
            score[k] *= w["repeat"] ** seen.get(p, 0)
            seen[p] = seen.get(p, 0) + 1
        return top[np.argsort(-score, kind="stable")]


def same_file(a, b):
    return a == b or a.endswith("/" + b) or b.endswith("/" + a)


def ndcg(repo, order, targets):
    hits = [repo.chunks[i] for i in order[:10]]
    dcg = ideal = 0.0
    for n, t in enumerate(targets):
        path = t if isinstance(t, str) else t["path"]
        s = None if isinstance(t, str) else (t.get("start_line") or t.get("line"))
        e = None if s is None else (t.get("end_line") or t.get("line") or s)
        if n < 10:
            ideal += 1 / math.log2(n + 2)
        for k, h in enumerate(hits):
            if same_file(path, h["path"]) and (s is None or h["start"] <= e and s <= h["end"]):
                dcg += 1 / math.log2(k + 2)
                break
    return dcg / ideal if ideal else 0.0


def load(path):
    from model import Model
    return Model.load(json.load(open(f"{PREP}/vocab.json")), path)


def main():
    args = sys.argv[1:]
    w = dict(W)
    if "--weights" in args:
        at = args.index("--weights")
        w.update(json.loads(args[at + 1]))
        del args[at:at + 2]
    models = {p: load(p) for p in args}
    names = [r["name"] for r in json.load(open(f"{SET}/repos.json"))]
    table = {}

    def add(key, value, category):
        table.setdefault(key, {}).setdefault("all", []).append(value)
        table[key].setdefault(category, []).append(value)
    for name in names:
        repo = Repo(name, f"{c.WORK}/chunks")
        labels = json.load(open(f"{SET}/labels/{name}.json"))
        queries = [Query(x["query"]) for x in labels]
        lex = [repo.bm.scores(q.terms) for q in queries]
        for x, q, s in zip(labels, queries, lex):
            t = [*x["relevant"], *x.get("secondary", [])]
            add("bm25", ndcg(repo, repo.rank(q, s, None, w, ranked=False), t), x["category"])
            add("bm25+rank", ndcg(repo, repo.rank(q, s, None, w), t), x["category"])
        for path, m in models.items():
            short = os.path.basename(path)
            vc = m.codes([x["code"] for x in repo.chunks], [x["place"] for x in repo.chunks])
            dense = m.queries([x["query"] for x in labels]) @ vc.T
            for x, q, s, d in zip(labels, queries, lex, dense):
                t = [*x["relevant"], *x.get("secondary", [])]
                add(short + " dense", ndcg(repo, repo.rank(q, None, d, w, ranked=False), t), x["category"])
                add(short + " dense+rank", ndcg(repo, repo.rank(q, None, d, w), t), x["category"])
                most = repo.bm.most(q.terms)
                for dw in (0.3, 0.5):
                    add(f"{short} hybrid {dw}", ndcg(repo, repo.rank(q, s, d, {**w, "dense_words": dw}), t), x["category"])
                for a in (0.015, 0.025, 0.04):
                    add(f"{short} cos+{a} BM25", ndcg(repo, repo.rank(q, s, d, {**w, "abs": a}), t), x["category"])
                for a in (0.7, 1.0, 1.5):
                    add(f"{short} cos+{a} cover", ndcg(repo, repo.rank(q, s, d, {**w, "abs": a, "cover": 1}, most=most), t), x["category"])
    for key, got in table.items():
        print(f"{key:28}", " ".join(f"{k} {np.mean(v):.4f} ({len(v)})" for k, v in sorted(got.items())))


if __name__ == "__main__":
    main()
