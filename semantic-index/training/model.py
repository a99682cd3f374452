"""A trained table in memory: text → unit vectors. The reference for the Rust encoder."""
import numpy as np
import scipy.sparse as sp

from prep import Encoder


class Model:
    def __init__(self, meta, E, wq, wc, A=None, place=0.5):
        self.enc = Encoder(meta["vocab"])
        self.E, self.wq, self.wc, self.A, self.place = E, wq, wc, A, place

    @classmethod
    def load(cls, meta, path):
        z = np.load(path)
        return cls(meta, z["E"], z["wq"], z["wc"], z["A"] if z["linear"] else None, float(z["place"][0]))

    def _pool(self, texts, w):
        idx, amt, ptr = [], [], [0]
        for r, a in texts:
            idx += r
            amt += a
            ptr.append(len(idx))
        m = sp.csr_matrix((np.array(amt, np.float32), np.array(idx, np.int32), np.array(ptr)), shape=(len(texts), len(self.E)))
        m.data *= w[m.indices]
        return np.asarray(m @ self.E)

    def queries(self, texts):
        v = self._pool([self.enc.encode(t) for t in texts], self.wq)
        if self.A is not None:
            v = v + v @ self.A
        return v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-6)

    def codes(self, texts, places):
        rows = []
        for t, pl in zip(texts, places):
            r, a = self.enc.encode(t)
            pr, pa = self.enc.encode(pl)
            rows.append((r + pr, a + [x * self.place for x in pa]))
        v = self._pool(rows, self.wc)
        return v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-6)
