"""Writes `model/NOTICE.md`: whose public code the table was trained on, under which licences, with their copyright lines.

    python notices.py > ../model/NOTICE.md
"""
import csv
import re

import common as c

print("""# Notices

The table `code-static-v2.bin` was trained on text mined from the public repositories below. It holds numbers and
single words (and pairs of words), none of their code. Each was read under the licence files in its root, named here with
their copyright lines; `training/data.tsv` holds commits and counts. Repositories marked *validation* were only measured on.

| repository | licence | copyright |
|---|---|---|""")
for row in csv.DictReader(open("data.tsv"), delimiter="\t"):
    if row["use"].startswith("left out"):
        continue
    mirror = c.mirror_path(row["repository"])
    names = row["licence files"].split(", ")
    lines = []
    for _, data in c.cat_files(mirror, [(s, n) for s, n in c.tree(mirror) if n in names]):
        for line in data.decode("utf8", "replace").split("\n"):
            line = re.sub(r"^[\s*#/;.\-]+|\s+$", "", line)
            if re.match(r"(?i)(copyright )?\(c\)|copyright (©|\d|[A-Z])", line) and not re.search(r"(?i)\[yyyy\]|\(c\) You must|copyright (notice|holder|owner|law|license|statement|interest)", line) and line not in lines and len(line) < 160:
                lines.append(line)
    validation = " *(validation)*" if row["use"] == "validation" else ""
    print(f"| {row['repository']}{validation} | {row['licence'].replace(' OR ', ', ')} | {'; '.join(lines[:4]).replace('|', '/') or '(no line of its own)'} |")
