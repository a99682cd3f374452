"""The mean of tables that were trained from one start (the same seed): better than each of them.

    python soup.py OUT.npz MODEL.npz MODEL.npz …
"""
import sys

import numpy as np


def main():
    out, *sources = sys.argv[1:]
    models = [dict(np.load(path)) for path in sources]
    mean = {key: np.mean([m[key] for m in models], 0).astype(np.float32) for key in ("E", "place")}
    for key in ("wq", "wc"):
        mean[key] = np.exp(np.mean([np.log(m[key]) for m in models], 0)).astype(np.float32)
    np.savez(out, A=models[0]["A"], linear=0, **mean)


if __name__ == "__main__":
    main()
