"""Trains the table contrastively: one core, numpy and three C loops.

    python train.py OUT.npz [key=value …]     keys and defaults in DEFAULTS

Reads $TRAIN_DATA/prep; prints the loss, the validation MRR@10 per kind, and writes the float model.
"""
import ctypes
import json
import os
import subprocess
import sys
import time

import numpy as np
import scipy.sparse as sp

import common as c
from model import Model
from prep import PREP
from valid import Validation

DEFAULTS = dict(
    dims=256, steps=600, batch=1024, segment=256, lr=1e-2, lr_w=5e-3, tau=0.05, seed=1, warm=20, place=0.5, place_drop=0.3,
    # Factor of the symbol beside that of the place, how often it is left out, and whether its own vector counts, too.
    symbol=0.5, symbol_drop=0.3, name=0.0,
    # Vectors of all codes by an earlier table (`near.py`), and the share of segments that are one code's neighbours by them.
    near="", near_share=0.5,
    # Questions get vectors of their own.
    split=0,
    # Share of each kind in a batch.
    doc=0.40, names=0.17, inline=0.18, title=0.03, commit=0.22,
    # Steps between looks at the validation set; 0: none.
    evaluate=300, name_drop=0.0, linear=0, word_drop=0.0,
    # Where the rows start (teacher.py), how much of random noise is mixed in, and how strongly they are pulled back.
    init="", noise=0.0, pull=0.0,
    # Share of the batches whose logits hold the words in common, too: the table then learns what words cannot tell.
    lex=0.0,
)


def kernel():
    here = os.path.dirname(os.path.abspath(__file__))
    lib = f"{c.WORK}/kernel.so"
    if not os.path.exists(lib) or os.path.getmtime(lib) < os.path.getmtime(f"{here}/kernel.c"):
        subprocess.run(["cc", "-O3", "-march=native", "-ffast-math", "-shared", "-fPIC", "-o", lib, f"{here}/kernel.c", "-lm"], check=True)
    return ctypes.CDLL(lib)


K = kernel()
I64 = ctypes.c_int64
F = ctypes.c_float


def p(a):
    return a.ctypes.data_as(ctypes.c_void_p)


class Side:
    """The texts of one side as sparse rows."""

    def __init__(self, data, name):
        self.idx, self.amt, self.ptr = data[name + "_idx"], data[name + "_amt"], data[name + "_ptr"]

    def take(self, at):
        starts, ends = self.ptr[at], self.ptr[at + 1]
        lens = ends - starts
        ptr = np.concatenate([[0], np.cumsum(lens)])
        flat = np.repeat(starts - ptr[:-1], lens) + np.arange(ptr[-1])
        return ptr, self.idx[flat].astype(np.int32), self.amt[flat].astype(np.float32)


def join(a, b, factor, keep):
    """Rows of `a` with those of `b` after them, `b` scaled by factor where keep is set."""
    (ap, ai, aa), (bp, bi, ba) = a, b
    n = len(ap) - 1
    al, bl = np.diff(ap), np.diff(bp)
    ptr = np.concatenate([[0], np.cumsum(al + bl)])
    idx = np.empty(ptr[-1], np.int32)
    amt = np.empty(ptr[-1], np.float32)
    at = np.repeat(ptr[:-1] - ap[:-1], al) + np.arange(ap[-1])
    bt = np.repeat(ptr[:-1] + al - bp[:-1], bl) + np.arange(bp[-1])
    idx[at], amt[at] = ai, aa
    idx[bt], amt[bt] = bi, ba * np.repeat(factor * keep.astype(np.float32), bl)
    assert len(ptr) == n + 1
    return ptr, idx, amt


def pool(text, w, E):
    ptr, idx, amt = text
    out = np.empty((len(ptr) - 1, E.shape[1]), np.float32)
    K.pool(I64(len(ptr) - 1), p(ptr), p(idx), p(amt), p(w), p(E), I64(E.shape[1]), p(out))
    return out


def in_common(tq, tc, idf):
    """BM25 of every question against every code of the batch, as a share of what the question could get."""
    (qp, qi, _), (cp, ci, ca) = tq, tc
    n, rows = len(qp) - 1, len(idf)
    q = sp.csr_matrix((idf[qi], qi, qp), shape=(n, rows))
    tf = np.exp(ca - 1)
    lens = np.add.reduceat(tf, np.minimum(cp[:-1], len(tf) - 1))
    norm = np.repeat(1.2 * (0.25 + 0.75 * lens / lens.mean()), np.diff(cp))
    c = sp.csr_matrix((tf / (tf + norm), ci, cp), shape=(n, rows))
    most = np.maximum(np.asarray(q.sum(1)).ravel(), 1e-3)
    return (q @ c.T).toarray().astype(np.float32) / most[:, None].astype(np.float32)


def unit(v):
    n = np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-6)
    return v / n, n


def unit_back(u, n, g):
    return (g - u * (u * g).sum(1, keepdims=True)) / n


class Adam:
    def __init__(self, x, lr):
        self.x, self.lr = x, lr
        self.m, self.v = np.zeros_like(x), np.zeros_like(x)

    def step(self, g, t, scale):
        self.m += 0.1 * (g - self.m)
        self.v += 0.01 * (g * g - self.v)
        self.x -= scale * self.lr * (self.m / (1 - 0.9**t)) / (np.sqrt(self.v / (1 - 0.99**t)) + 1e-8)


def main():
    out, *args = sys.argv[1:]
    o = dict(DEFAULTS)
    for a in args:
        k, v = a.split("=")
        o[k] = type(DEFAULTS[k])(v)
    print(o, flush=True)
    rng = np.random.default_rng(o["seed"])
    meta = json.load(open(f"{PREP}/vocab.json"))
    data = dict(np.load(f"{PREP}/train.npz"))
    Q, T, P, S = Side(data, "q"), Side(data, "t"), Side(data, "p"), Side(data, "s")
    kind, repo = data["kind"], data["repo"]
    usable = (np.diff(Q.ptr) >= 2) & (np.diff(T.ptr) >= 5)
    rows, d = len(meta["idf"]), o["dims"]
    idf = np.array(meta["idf"], np.float32)
    E = rng.standard_normal((rows, d), np.float32) / np.float32(np.sqrt(d))
    if o["init"]:
        E = (np.load(o["init"])["E"] + np.float32(o["noise"]) * E).astype(np.float32)
    start = E.copy()
    near = np.load(o["near"])["V"] if o["near"] else None
    if o["split"]:
        D = E.copy()
        mD, vD, gD, touched_d = np.zeros_like(E), np.zeros_like(E), np.zeros_like(E), np.zeros(rows, np.uint8)
    else:
        D, gD, touched_d = E, None, None
    sq = np.log(idf / idf.mean()).astype(np.float32)
    sc = sq.copy()
    A = np.zeros((d, d), np.float32)
    mE, vE = np.zeros_like(E), np.zeros_like(E)
    gE, touched = np.zeros_like(E), np.zeros(rows, np.uint8)
    temp = np.array([np.log(1 / o["tau"])], np.float32)
    place = np.array([o["place"], o["symbol"]], np.float32)
    name_scale = np.array([np.log(max(o["name"], 1e-3))], np.float32)
    lex_scale = np.array([np.log(8.0)], np.float32)
    lex_idf = np.array([0.0 if " " in w else x for w, x in zip(meta["vocab"], meta["idf"])] + [0.0] * meta["buckets"], np.float32)
    opt_l = Adam(lex_scale, 2e-3)
    opt_p, opt_n = Adam(place, 2e-3), Adam(name_scale, 5e-3)
    opt_q, opt_c, opt_a, opt_t = Adam(sq, o["lr_w"]), Adam(sc, o["lr_w"]), Adam(A, 1e-3), Adam(temp, 2e-3)
    # Pools: for each repository and kind, the pairs.
    names = ["doc", "name", "inline", "title", "commit"]
    groups = []
    for k, name in enumerate(names):
        at = np.flatnonzero((kind == k) & usable)
        order = at[np.argsort(repo[at], kind="stable")]
        cuts = np.flatnonzero(np.diff(repo[order])) + 1
        groups.append([g for g in np.split(order, cuts) if len(g) >= 64])
    share = np.array([o[{"name": "names"}.get(n, n)] for n in names])
    share = share / share.sum()
    chance = []
    for g in groups:
        size = np.array([len(x) for x in g], float) ** 0.7
        chance.append(size / size.sum() if len(g) else size)
    print({n: sum(map(len, g)) for n, g in zip(names, groups)}, flush=True)
    valid = Validation(meta) if o["evaluate"] else None
    B, segments = o["batch"], o["batch"] // o["segment"]
    began, losses = time.time(), []
    cpu = time.process_time()
    for step in range(1, o["steps"] + 1):
        picks = []
        for _ in range(segments):
            k = rng.choice(len(names), p=share)
            g = groups[k][rng.choice(len(groups[k]), p=chance[k])]
            if near is not None and len(g) > o["segment"] and rng.random() < o["near_share"]:
                to = near[g].astype(np.float32) @ near[rng.choice(g)].astype(np.float32)
                picks.append(g[np.argpartition(-to, o["segment"] - 1)[:o["segment"]]])
            else:
                picks.append(rng.choice(g, o["segment"], replace=len(g) < o["segment"]))
        at = np.concatenate(picks)
        tq, tt, tp, ts = Q.take(at), T.take(at), P.take(at), S.take(at)
        keep, keep_s = rng.random(B) >= o["place_drop"], rng.random(B) >= o["symbol_drop"]
        if o["word_drop"]:
            tq[2][rng.random(len(tq[2])) < o["word_drop"]] = 0
            tt[2][rng.random(len(tt[2])) < o["word_drop"]] = 0
        tc = join(join(tt, tp, float(place[0]), keep), ts, float(place[1]), keep_s)
        wq, wc = np.exp(sq), np.exp(sc)
        vq0, vc0 = pool(tq, wq, D), pool(tc, wc, E)
        vq = vq0 + vq0 @ A if o["linear"] else vq0
        uq, nq = unit(vq)
        uc, nc = unit(vc0)
        scale = float(np.exp(temp[0]))
        sim = uq @ uc.T
        logits = scale * sim
        if o["name"]:
            # A symbol's own vector, where a sentence asks for a definition.
            vn0 = pool(ts, wc, E)
            un, nn = unit(vn0)
            named = ((kind[at] == 0) & (np.diff(ts[0]) > 0)).astype(np.float32)
            sim_n = (uq @ un.T) * named
            logits = logits + float(np.exp(name_scale[0])) * sim_n
        with_lex = rng.random() < o["lex"]
        if with_lex:
            common = in_common(tq, tc, lex_idf)
            logits += float(np.exp(lex_scale[0])) * common
        qh, th = data["qhash"][at], data["thash"][at]
        same = (qh[:, None] == qh[None, :]) | (th[:, None] == th[None, :])
        np.fill_diagonal(same, False)
        logits[same] = -1e4
        logits -= logits.max()
        ex = np.exp(np.maximum(logits, -80))
        pr, pc = ex / ex.sum(1, keepdims=True), ex / ex.sum(0, keepdims=True)
        diag = np.arange(B)
        losses.append(float(-(np.log(pr[diag, diag] + 1e-20).mean() + np.log(pc[diag, diag] + 1e-20).mean()) / 2))
        g = (pr + pc) * (0.5 / B)
        g[diag, diag] -= 1.0 / B
        g[same] = 0
        gt = np.array([scale * (g * sim).sum()], np.float32)
        if with_lex:
            opt_l.step(np.array([float(np.exp(lex_scale[0])) * (g * common).sum()], np.float32), step, 1.0)
        by_name = (g * named * float(np.exp(name_scale[0]))).astype(np.float32) if o["name"] else None
        if o["name"]:
            opt_n.step(np.array([float(np.exp(name_scale[0])) * (g * sim_n).sum()], np.float32), step, 1.0)
        g *= scale
        g = g.astype(np.float32)
        to_q = g @ uc if by_name is None else g @ uc + by_name @ un
        dq = unit_back(uq, nq, to_q)
        dc = unit_back(uc, nc, g.T @ uq)
        if o["linear"]:
            gA = vq0.T @ dq
            dq = dq + dq @ A.T
        gq, gc = np.zeros(rows, np.float32), np.zeros(rows, np.float32)
        # Factors of place and symbol: the gradient of a vector along what the part adds to it.
        gp = [float((dc * pool(t, wc, E) * k[:, None]).sum()) for t, k in ((tp, keep), (ts, keep_s))]
        backs = [(tq, wq, dq, gq, D, gE if gD is None else gD, touched if gD is None else touched_d), (tc, wc, dc, gc, E, gE, touched)]
        if o["name"]:
            backs.append((ts, wc, unit_back(un, nn, by_name.T @ uq), gc, E, gE, touched))
        for text, w, grad, gw, table, gt_, seen in backs:
            grad = np.ascontiguousarray(grad, np.float32)
            K.pool_back(I64(B), p(text[0]), p(text[1]), p(text[2]), p(w), p(table), I64(d), p(grad), p(gt_), p(gw), p(seen))
        decay = 0.5 * (1 + np.cos(np.pi * step / o["steps"])) * min(1.0, step / o["warm"])
        K.adam_rows(I64(rows), I64(d), p(E), p(start), p(gE), p(mE), p(vE), p(touched), F(o["lr"] * decay), F(o["pull"]), F(0.9), F(0.99), F(1 - 0.9**step), F(1 - 0.99**step))
        if o["split"]:
            K.adam_rows(I64(rows), I64(d), p(D), p(start), p(gD), p(mD), p(vD), p(touched_d), F(o["lr"] * decay), F(o["pull"]), F(0.9), F(0.99), F(1 - 0.9**step), F(1 - 0.99**step))
        opt_p.step(np.array(gp, np.float32), step, decay)
        opt_q.step(gq * wq, step, decay)
        opt_c.step(gc * wc, step, decay)
        opt_t.step(gt, step, decay)
        if o["linear"]:
            opt_a.step(gA, step, decay)
        if step % 50 == 0:
            print(f"step {step} loss {np.mean(losses[-50:]):.4f} tau {np.exp(-temp[0]):.4f} lex {np.exp(lex_scale[0]):.2f} place {place.round(2)} name {np.exp(name_scale[0]):.1f} wall {time.time() - began:.0f}s cpu {time.process_time() - cpu:.0f}s", flush=True)
        if valid and (step % o["evaluate"] == 0 or step == o["steps"]):
            m = Model(meta, E, np.exp(sq), np.exp(sc), A if o["linear"] else None, place, D)
            print("dense", json.dumps(valid.dense(m)), flush=True)
            print("fused", json.dumps(valid.fused(m, 0.5)), flush=True)
    np.savez(out, E=E, wq=np.exp(sq), wc=np.exp(sc), A=A, place=place, linear=o["linear"], **({"D": D} if o["split"] else {}))


if __name__ == "__main__":
    main()
