"""BM25 with another system's chunks and ranking, on queries that `lapce-ai-index eval --export` wrote.

    lapce-ai-index eval --set HELDOUT --corpus HELDOUT --doc-sentences --export EXPORT
    SEMBLE_MODEL_NAME=MODEL PYTHON baseline.py EXPORT

PYTHON is that of an environment with PyPI `semble` (`cargo xtask bench index` makes one in the cache folder,
`semble-0.7.0`); MODEL the folder `static_model/model` in it, of `tokenlearn-static-model`. Prints MRR@10: a hit counts when
its file is a target's and, where the target has lines, when it covers one of them, as `eval` counts.
"""
import json, os, sys, tempfile, pathlib
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["XDG_CACHE_HOME"] = os.environ["HOME"] = tempfile.mkdtemp()
from semble.index import SembleIndex
from semble.types import ContentType

# Name, weight of the vectors, semble's own ranking.
ARMS = [("BM25", 0.0, False), ("BM25 + ranking", 0.0, True), ("vectors + ranking", 1.0, True), ("semble", None, True)]


def is_hit(target, result):
    target = {"path": target} if isinstance(target, str) else target
    a, b = target["path"], result.chunk.file_path
    if not (a == b or a.endswith("/" + b) or b.endswith("/" + a)):
        return False
    start = target.get("start_line") or target.get("line")
    end = target.get("end_line") or target.get("line") or start
    return start is None or (result.chunk.start_line <= end and start <= result.chunk.end_line)


def reciprocal(query, results):
    targets = query["relevant"] + query.get("secondary", [])
    for n, result in enumerate(results[:10], 1):
        if any(is_hit(t, result) for t in targets):
            return 1 / n
    return 0.0


def main(export):
    sums = {}
    for folder in sorted(p for p in pathlib.Path(export).iterdir() if (p / "corpus").is_dir()):
        index = SembleIndex.from_path(folder / "corpus", content=list(ContentType))
        queries = [json.loads(line) for line in open(folder / "queries.jsonl")]
        for query in queries:
            for name, alpha, rerank in ARMS:
                results = index.search(query["query"], top_k=10, alpha=alpha, rerank=rerank)
                got = reciprocal(query, results)
                for split in {"all", query["split"]}:
                    sums.setdefault(split, {}).setdefault(name, []).append(got)
        print(folder.name, len(index.chunks), "chunks", len(queries), "queries", file=sys.stderr)
    for split, arms in sorted(sums.items()):
        print(f"{split:8} {len(arms[ARMS[0][0]]):6}", *(f"  {name} {sum(v) / len(v):.3f}" for name, v in arms.items()))


if __name__ == "__main__":
    main(sys.argv[1])
