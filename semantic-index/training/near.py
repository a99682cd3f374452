"""Vectors of all codes by a trained table, 64 numbers each: whose neighbours `train.py near=…` puts into one batch.

    python near.py MODEL.npz OUT.npz
"""
import sys

import numpy as np

from prep import PREP
from train import Side, join, pool, unit

DIMS = 64
BLOCK = 20_000


def main():
    source, out = sys.argv[1:]
    z = np.load(source)
    data = dict(np.load(f"{PREP}/train.npz"))
    T, P, S = Side(data, "t"), Side(data, "p"), Side(data, "s")
    E, w, (place, symbol) = z["E"], z["wc"], z["place"]
    n = len(data["kind"])
    axes, V = None, np.empty((n, DIMS), np.float16)
    for at in range(0, n, BLOCK):
        rows = np.arange(at, min(n, at + BLOCK))
        keep = np.ones(len(rows), bool)
        text = join(join(T.take(rows), P.take(rows), float(place), keep), S.take(rows), float(symbol), keep)
        v, _ = unit(pool(text, w, E))
        if axes is None:
            axes = np.linalg.svd(v[::4], full_matrices=False)[2][:DIMS].T
        V[rows] = v @ axes
    np.savez(out, V=V)


if __name__ == "__main__":
    main()
