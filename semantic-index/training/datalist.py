"""Writes `data.tsv`: every repository mined, its commit, licence and the pairs taken.

    python datalist.py > data.tsv
"""
import glob
import json
import os
import pickle

import common as c
from prep import KINDS

print("\t".join(["repository", "commit", "licence", "licence files", "use", *KINDS]))
for path in sorted(glob.glob(f"{c.WORK}/pairs/meta/*.json"), key=str.lower):
    meta = json.load(open(path))
    count = dict.fromkeys(KINDS, 0)
    for folder in ("defs", "commits"):
        pairs = path.replace("/meta/", f"/{folder}/").replace(".json", ".pkl")
        if os.path.exists(pairs):
            for pair in pickle.load(open(pairs, "rb")):
                count[pair[0]] += 1
    use = "left out: licence" if meta.get("left_out") else "validation" if meta["repo"] in c.VALIDATION else "training"
    print("\t".join([meta["repo"], meta["commit"], meta["licence"] or "none found", ", ".join(meta["licence_files"]), use, *(str(count[k]) for k in KINDS)]))
