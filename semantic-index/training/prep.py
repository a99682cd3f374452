"""Turns the mined pairs into arrays: the vocabulary, and each text as table rows with amounts.

    python prep.py        reads $TRAIN_DATA/pairs, writes $TRAIN_DATA/prep/{vocab.json,train.npz,valid.pkl}

A word of the vocabulary is one row, and so is each phrase (two words that often follow one another). Any other word is the mean of the rows of its hashed character 4-grams.
The amount of a word is 1 + ln(times it occurs).
"""
import collections
import glob
import json
import math
import os
import pickle
import random

import numpy as np

import common as c
from lexical import STOP
from mine import Seen

WORDS = int(os.environ.get("WORDS", 25_000))
PHRASES = int(os.environ.get("PHRASES", 7_500))
PREP = os.environ.get("PREP", f"{c.WORK}/prep")
BUCKETS = 4_096
MAX_WORD = 32
MAX_TOKENS = 450
KINDS = ["doc", "name", "inline", "title", "commit"]


def fnv(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = ((h ^ b) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h ^ (h >> 32)


def usable(word):
    return len(word.encode()) <= MAX_WORD and any(ch.isalpha() for ch in word)


def grams(word):
    """Bucket numbers of a word's character 4-grams, `<` and `>` marking its ends."""
    marked = "<" + word + ">"
    return [fnv(marked[i:i + 4].encode()) % BUCKETS for i in range(max(1, len(marked) - 3))]


class Encoder:
    """Text → (rows, amounts)."""

    def __init__(self, vocab):
        self.row = {w: i for i, w in enumerate(vocab)}
        self.words = len(vocab)
        self.phrases = any(" " in w for w in vocab)
        self.cache = {}

    def rows_of(self, word):
        got = self.cache.get(word)
        if got is None:
            at = self.row.get(word)
            if at is not None:
                got = ((at, 1.0),)
            elif usable(word):
                g = grams(word)
                got = tuple((self.words + b, 1.0 / len(g)) for b in g)
            else:
                got = ()
            self.cache[word] = got
        return got

    def encode(self, text):
        return self.encode_words(c.parts(text)[:MAX_TOKENS])

    def encode_words(self, words):
        rows = {}
        if self.phrases:
            words = words + [x for x in map(" ".join, zip(words, words[1:])) if x in self.row]
        for word, n in collections.Counter(words).items():
            amount = 1.0 + math.log(n)
            for row, share in self.rows_of(word):
                rows[row] = rows.get(row, 0.0) + amount * share
        return list(rows.keys()), list(rows.values())


def place(crumb, symbol):
    """The words of a chunk's place: last three folders, file name, enclosing names, own name."""
    path, *names = crumb.split(" ") if crumb else [""]
    return " ".join([*path.split("/")[-4:], *names, symbol])


def load():
    seen = Seen()
    for path in sorted(glob.glob(f"{c.WORK}/pairs/defs/*.pkl")):
        repo = os.path.basename(path)[:-4].replace("+", "/", 1)
        pairs = pickle.load(open(path, "rb"))
        commits = path.replace("/defs/", "/commits/")
        if os.path.exists(commits):
            pairs += pickle.load(open(commits, "rb"))
        if repo in c.excluded():
            continue
        if repo not in c.VALIDATION:
            pairs = [x for x in pairs if not seen.copy(x[2])]
        yield repo, pairs


def main():
    os.makedirs(PREP, exist_ok=True)
    df = collections.Counter()
    repos = collections.Counter()
    total = 0
    pair_df, pair_repos, sampled = collections.Counter(), collections.Counter(), 0
    tokenised = []
    valid = {}
    for number, (repo, pairs) in enumerate(load()):
        if repo in c.VALIDATION:
            valid[repo] = pairs
            continue
        here = set()
        rows = []
        for kind, query, code, crumb, symbol in pairs:
            q, t, p = c.parts(query), c.parts(code)[:MAX_TOKENS], c.parts(place(crumb, ""))
            rows.append((KINDS.index(kind), q, t, p, c.parts(symbol)))
            for side in (q, t):
                seen = set(side)
                df.update(seen)
                here |= seen
            total += 2
        repos.update(here)
        if PHRASES:
            here = set()
            for _, q, t, *_ in rows[::4]:
                for side in (q, t):
                    seen = {x for x in zip(side, side[1:]) if x[0] != x[1]}
                    pair_df.update(seen)
                    here |= seen
                    sampled += 1
            pair_repos.update(here)
        tokenised.append((repo, rows))
    # A word that only one repository uses teaches nothing elsewhere.
    ranked = sorted((w for w in df if usable(w) and repos[w] >= 3), key=lambda w: -df[w] * math.log(1 + repos[w]))
    phrases = []
    if PHRASES:
        known = set(ranked[:WORDS])
        for (a, b), n in pair_df.items():
            if n >= 12 and pair_repos[a, b] >= 6 and a in known and b in known and len(a) > 1 and len(b) > 1 and not {a, b} & STOP:
                lift = math.log(n / sampled / (df[a] / total) / (df[b] / total))
                if lift > 1:
                    phrases.append((n * lift, f"{a} {b}", 4 * n))
        phrases.sort(reverse=True)
        for _, phrase, n in phrases[:PHRASES]:
            df[phrase] = n
    vocab = sorted([*ranked[:WORDS], *(x for _, x, _ in phrases[:PHRASES])], key=lambda w: w.encode())
    print([x for _, x, _ in phrases[:PHRASES:50]][:120])
    print(f"{len(df)} words, {len(vocab)} kept (df of the last {df[ranked[min(WORDS, len(ranked)) - 1]]}), {total // 2} pairs")
    enc = Encoder(vocab)
    idf = [math.log((total + 1) / (df[w] + 1)) for w in vocab] + [math.log(total / 20)] * BUCKETS
    json.dump({"vocab": vocab, "buckets": BUCKETS, "idf": idf}, open(f"{PREP}/vocab.json", "w"))
    arrays = {s: ([], [], [0]) for s in "qtps"}
    kinds, repo_of, qhash, thash = [], [], [], []
    names = []
    for repo, rows in tokenised:
        names.append(repo)
        for kind, *sides in rows:
            kinds.append(kind)
            repo_of.append(len(names) - 1)
            qhash.append(hash(tuple(sides[0])))
            thash.append(hash(tuple(sides[1])))
            for s, words in zip("qtps", sides):
                r, a = enc.encode_words(words)
                arrays[s][0].append(np.array(r, np.uint16))
                arrays[s][1].append(np.array(a, np.float16))
                arrays[s][2].append(len(r))
        rows.clear()
    out = {"kind": np.array(kinds, np.uint8), "repo": np.array(repo_of, np.int16), "qhash": np.array(qhash), "thash": np.array(thash)}
    for s, (r, a, n) in arrays.items():
        out[s + "_idx"] = np.concatenate(r)
        out[s + "_amt"] = np.concatenate(a)
        out[s + "_ptr"] = np.cumsum(n)
    np.savez(f"{PREP}/train.npz", **out)
    json.dump(names, open(f"{PREP}/repos.json", "w"))
    pickle.dump(valid, open(f"{PREP}/valid.pkl", "wb"))
    print({k: int((out["kind"] == i).sum()) for i, k in enumerate(KINDS)}, "train repositories", len(names), "validation", list(valid))


if __name__ == "__main__":
    main()
