"""The shipped file: writing it, and a plain reader that is the reference for the Rust encoder.

    python table.py write MODEL.npz OUT.bin      quantise and write
    python table.py vectors TABLE.bin OUT.json   test vectors from the written file

The format is described in `semantic-index/model/README.md`.
"""
import collections
import hashlib
import json
import math
import struct
import sys

import numpy as np

import common as c
from prep import PREP, fnv, usable

MAGIC = b"LAPSEM01"
VERSION = 2
HEAD = struct.Struct("<8sIIIIIIfIHHfQQ")  # 64 bytes
ALIGN = 64
EMPTY = 0xFFFF
MAX_WORD, MAX_TOKENS, GRAM = 32, 450, 4
MAX_BYTES = 10_000_000


def align(n):
    return -n % ALIGN


def write(model, out):
    meta = json.load(open(f"{PREP}/vocab.json"))
    z = np.load(model)
    E, wq, wc = z["E"].astype(np.float32), z["wq"].astype(np.float32), z["wc"].astype(np.float32)
    assert not z["linear"], "the format holds no query matrix"
    vocab, buckets = meta["vocab"], meta["buckets"]
    rows, dims = E.shape
    # A row costs its vector, two scales and its string: the rarest phrases go first.
    over = 64 * 8 + 2 * 65_536 + sum(dims + 12 + len(w.encode()) for w in vocab) + buckets * (dims + 8) - MAX_BYTES
    dropped = set()
    for i in sorted((i for i, w in enumerate(vocab) if " " in w), key=lambda i: -meta["idf"][i]):
        if over <= 0:
            break
        dropped.add(i)
        over -= dims + 12 + len(vocab[i].encode())
    kept = [i for i in range(rows) if i not in dropped]
    vocab, E, wq, wc = [w for i, w in enumerate(vocab) if i not in dropped], E[kept], wq[kept], wc[kept]
    rows = len(E)
    assert rows == len(vocab) + buckets and rows < EMPTY and vocab == sorted(vocab, key=lambda w: w.encode())
    scale = np.maximum(np.abs(E).max(1), 1e-12) / 127
    ints = np.clip(np.rint(E / scale[:, None]), -127, 127).astype(np.int8)
    # One factor for both sides keeps sums near one; cosine does not see it.
    strings = [w.encode() for w in vocab]
    starts = np.cumsum([0] + [len(s) for s in strings]).astype("<u4")
    slots = 65_536
    table = np.full(slots, EMPTY, "<u2")
    for i, s in enumerate(strings):
        at = fnv(s) & (slots - 1)
        while table[at] != EMPTY:
            at = (at + 1) & (slots - 1)
        table[at] = i
    sections = [(scale * wq).astype("<f4").tobytes(), (scale * wc).astype("<f4").tobytes(), starts.tobytes(), table.tobytes(),
                b"".join(strings), ints.tobytes()]
    body = b""
    for s in sections:
        body += s + b"\0" * align(len(s))
    revision = int.from_bytes(hashlib.sha256(body).digest()[:8], "little")
    flags = int(any(" " in w for w in vocab))
    head = HEAD.pack(MAGIC, VERSION, dims, len(vocab), buckets, slots, GRAM, float(z["place"][0]), flags, MAX_WORD, MAX_TOKENS, float(z["place"][1]), 64 + len(body), revision)
    open(out, "wb").write(head + body)
    print(out, 64 + len(body), "bytes", rows, "rows", dims, "dims", f"revision {revision:016x}")


class Table:
    def __init__(self, path):
        data = np.memmap(path, np.uint8, "r")
        (magic, version, self.dims, self.words, self.buckets, self.slots, self.gram, self.place, self.flags, self.max_word,
         self.max_tokens, self.symbol, size, self.revision) = HEAD.unpack(data[:64].tobytes())
        assert magic == MAGIC and version == VERSION and size == len(data) and self.gram == GRAM
        rows = self.words + self.buckets
        at = 64

        def section(dtype, n):
            nonlocal at
            size = np.dtype(dtype).itemsize * n
            got = data[at:at + size].view(dtype)
            at += size + align(size)
            return got
        self.query_scale = section("<f4", rows)
        self.code_scale = section("<f4", rows)
        self.starts = section("<u4", self.words + 1)
        self.table = section("<u2", self.slots)
        self.strings = section("u1", int(self.starts[-1]))
        self.rows = section("i1", rows * self.dims).reshape(rows, self.dims)

    def find(self, word):
        key = word.encode()
        at = fnv(key) & (self.slots - 1)
        while (row := int(self.table[at])) != EMPTY:
            if self.strings[self.starts[row]:self.starts[row + 1]].tobytes() == key:
                return row
            at = (at + 1) & (self.slots - 1)
        return None

    def amounts(self, text):
        """{row: amount}: the words of the text, its phrases, the 4-grams of unknown words."""
        words = c.parts(text)[:self.max_tokens]
        if self.flags & 1:
            words = words + [x for x in map(" ".join, zip(words, words[1:])) if self.find(x) is not None]
        out = {}
        for word, n in collections.Counter(words).items():
            amount = 1 + math.log(n)
            row = self.find(word)
            if row is not None:
                out[row] = out.get(row, 0.0) + amount
            elif usable(word):
                marked = "<" + word + ">"
                grams = [marked[i:i + 4] for i in range(max(1, len(marked) - 3))]
                for g in grams:
                    row = self.words + fnv(g.encode()) % self.buckets
                    out[row] = out.get(row, 0.0) + amount / len(grams)
        return out

    def sum(self, amounts, scales):
        v = np.zeros(self.dims, np.float64)
        for row, amount in amounts.items():
            v += amount * float(scales[row]) * self.rows[row].astype(np.float64)
        return v

    def query(self, text):
        return self.unit(self.sum(self.amounts(text), self.query_scale))

    def code(self, place, text):
        near, _, symbol = place.partition("\n")
        parts = [(1.0, text), (self.place, near), (self.symbol, symbol)]
        return self.unit(sum(factor * self.sum(self.amounts(part), self.code_scale) for factor, part in parts))

    @staticmethod
    def unit(v):
        n = np.linalg.norm(v)
        return v / n if n > 1e-9 else None


VECTORS = [
    ("query", "", "how to parse an HTTP request"), ("query", "", "parseHTTPRequest_v2"), ("query", "", "evict the least recently used entry"),
    ("query", "", "Flüsse größer"), ("query", "", "zzyzxqwv frobnicatorium"), ("query", "", "open open open file"), ("query", "", ""),
    ("query", "", "12345 0x7f"), ("query", "", "___"), ("query", "", "event loop"), ("query", "", "utf8Decoder"), ("query", "", "a"),
    ("code", "src net tcp_listener TcpListener\nbind", "pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> { let s = socket(addr)?; s.listen(128)?; Ok(TcpListener { s }) }"),
    ("code", "", "def add(a, b):\n    return a + b\n"),
    ("code", "lib cache LruCache\nget", "get(key) { const node = this.map.get(key); if (!node) return undefined; this.moveToFront(node); return node.value; }"),
    ("code", "cmd main\nmain", "func main() { if err := run(os.Args[1:]); err != nil { fmt.Fprintln(os.Stderr, err); os.Exit(1) } }"),
    ("code", "include vec\nVec3", "struct Vec3 { float x, y, z; };"), ("code", "a/b/c/d/e.py", ""), ("code", "naïve.py", "naïve = Ünïcode"),
    ("code", "x.py", "word " * 500 + "beyond"),
]


def vectors(path, out):
    t = Table(path)
    items = []
    for side, place, text in VECTORS:
        v = t.query(text) if side == "query" else t.code(place, text)
        items.append({"side": side, "place": place, "text": text, "words": c.parts(text)[:60],
                      "amounts": [[r, round(a, 6)] for r, a in sorted(t.amounts(text).items())],
                      "vector": None if v is None else [round(float(x), 6) for x in v]})
    json.dump({"revision": f"{t.revision:016x}", "dims": t.dims, "items": items}, open(out, "w"), separators=(",", ":"))


if __name__ == "__main__":
    {"write": write, "vectors": vectors}[sys.argv[1]](*sys.argv[2:])
