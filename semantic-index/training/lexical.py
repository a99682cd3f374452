"""BM25 with the product's constants and word rules (`semantic-index/src/{bm25,tokens,doc}.rs`)."""
import numpy as np
import scipy.sparse as sp

import common as c

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
        self.idf = idf
        self.m = sp.csc_matrix((val, (coo.row, coo.col)), shape=tf.shape)

    def scores(self, terms):
        out = np.zeros(self.m.shape[0], np.float32)
        for w in set(terms):
            k = self.vocab.get(w)
            if k is not None:
                s = slice(self.m.indptr[k], self.m.indptr[k + 1])
                out[self.m.indices[s]] += self.m.data[s]
        return out

    def most(self, terms):
        """What a document could get at best; words the corpus lacks count as its rarest."""
        n = self.m.shape[0]
        return max(2.2 * sum(float(self.idf[self.vocab[t]]) if t in self.vocab else np.log(2 * n + 2) for t in set(terms)), 1e-6)
