"""A trained table in memory: text → unit vectors. The reference for the Rust encoder."""
import numpy as np
import scipy.sparse as sp

from prep import Encoder


class Model:
    def __init__(self, meta, E, wq, wc, A=None, place=(0.5, 0.5), D=None):
        self.enc = Encoder(meta["vocab"])
        self.E, self.wq, self.wc, self.A, self.place = E, wq, wc, A, place
        self.D = E if D is None else D

    @classmethod
    def load(cls, meta, path):
        z = np.load(path)
        return cls(meta, z["E"], z["wq"], z["wc"], z["A"] if z["linear"] else None, z["place"], z["D"] if "D" in z else None)

    def _pool(self, texts, w, E):
        idx, amt, ptr = [], [], [0]
        for r, a in texts:
            idx += r
            amt += a
            ptr.append(len(idx))
        m = sp.csr_matrix((np.array(amt, np.float32), np.array(idx, np.int32), np.array(ptr)), shape=(len(texts), len(self.E)))
        m.data *= w[m.indices]
        return np.asarray(m @ E)

    def queries(self, texts):
        v = self._pool([self.enc.encode(t) for t in texts], self.wq, self.D)
        if self.A is not None:
            v = v + v @ self.A
        return v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-6)

    def codes(self, texts, places):
        """`places`: (place, symbol) of each text."""
        rows = []
        for t, near in zip(texts, places):
            r, a = self.enc.encode(t)
            for text, factor in zip(near, self.place):
                pr, pa = self.enc.encode(text)
                r, a = r + pr, a + [x * factor for x in pa]
            rows.append((r, a))
        v = self._pool(rows, self.wc, self.E)
        return v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-6)
