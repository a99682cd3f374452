"""Shared by the mining, training and evaluation scripts: repositories, licences, word rules.

The word rules are those of `semantic-index/src/tokens.rs` (`parts`): runs of letters, digits and
underscores, cut at underscores and at changes of case, lower-cased. Keep the two in step.
"""
import json
import os
import re
import subprocess

WORK = os.environ.get("TRAIN_DATA", "/work/train-data")
MIRROR = os.environ.get("TRAIN_MIRROR", "/work/.mirror")

# Never trained on: the development set's repositories are read from its repos.json, these are added.
NAMED = {
    "lapce/lapce", "lapce/floem", "BurntSushi/ripgrep", "tokio-rs/tokio", "tokio-rs/axum", "gin-gonic/gin",
    "spf13/cobra", "go-chi/chi", "pallets/flask", "expressjs/express",
}
# Trained on never, measured on always: the held-out validation set.
VALIDATION = {
    "urllib3/urllib3", "marshmallow-code/marshmallow", "fastify/fastify", "TanStack/query", "nsqio/nsq", "uber-go/zap",
    "gitui-org/gitui", "rustls/rustls", "jhy/jsoup", "tmux/tmux", "google/leveldb", "ruby-grape/grape",
    "guzzle/guzzle", "chartjs/Chart.js",
}

LANG_OF = {
    "py": "python", "pyi": "python", "js": "javascript", "mjs": "javascript", "cjs": "javascript", "jsx": "javascript",
    "ts": "typescript", "mts": "typescript", "tsx": "tsx", "go": "go", "rs": "rust", "java": "java", "c": "c", "h": "cpp",
    "cc": "cpp", "cpp": "cpp", "cxx": "cpp", "hpp": "cpp", "hh": "cpp", "rb": "ruby", "php": "php", "kt": "kotlin",
    "swift": "swift", "scala": "scala", "lua": "lua",
}

SKIP_DIR = re.compile(
    r"(^|/)(node_modules|vendor|vendored|_vendor|third[-_]?party|thirdparty|3rdparty|external|extern|bundled|deps|dist|"
    r"build|out|target|generated|gen|fixtures?|snapshots?|testdata|test-data|__snapshots__|\.git|min|contrib/.*/deps|"
    r"migrations|locale|locales|i18n|po)(/|$)"
)
TEST_PATH = re.compile(r"(^|/)(tests?|specs?|__tests__|testing|e2e|examples?|benches|benchmarks?)(/|$)|[._-](test|spec|bench)\.|_test\.|(^|/)test_")

WORD = re.compile(r"\w+")


def _split_slow(segment):
    out, start, prev = [], 0, None
    n = len(segment)
    for at, c in enumerate(segment):
        if prev is not None:
            next_lower = at + 1 < n and segment[at + 1].islower()
            if c.isupper() and (prev.islower() or prev.isnumeric() or (prev.isupper() and next_lower)) and at > start:
                out.append(segment[start:at])
                start = at
        prev = c
    out.append(segment[start:])
    return out


_cache = {}


def split_ident(ident):
    """The lower-case parts of one identifier (cached)."""
    got = _cache.get(ident)
    if got is None:
        got = []
        for segment in ident.split("_"):
            if segment:
                if segment.islower() or segment.isdigit():
                    got.append(segment)
                else:
                    got.extend(p.lower() for p in _split_slow(segment))
        if len(_cache) > 2_000_000:
            _cache.clear()
        _cache[ident] = got
    return got


def parts(text):
    """The words the table is looked up by, in order."""
    out = []
    for ident in WORD.findall(text):
        out.extend(split_ident(ident))
    return out


def mirror_path(repo):
    return os.path.join(MIRROR, repo.replace("/", "+"), "repo")


def git(path, *args, data=None):
    return subprocess.run(
        ["git", "-c", "safe.directory=*", "-c", "diff.renames=false", "-C", path, *args],
        input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False,
    ).stdout


def excluded():
    """Neither trained on nor validated on: the development set, the ten named ones, the held-out set."""
    here = os.path.dirname(os.path.abspath(__file__))
    lists = ["/work/shared/search-dev/repos.json", os.path.join(here, "heldout.json")]
    return NAMED.union(*({r["repository"] for r in json.load(open(path))} for path in lists))


def cat_files(path, entries):
    """Yields (path, bytes) for (sha, path) pairs, in one git process."""
    out = git(path, "cat-file", "--batch", data=b"\n".join(s for s, _ in entries) + b"\n")
    at = 0
    for _, name in entries:
        nl = out.find(b"\n", at)
        if nl < 0:
            return
        head = out[at:nl].split()
        at = nl + 1
        if len(head) < 3 or head[1] == b"missing":
            continue
        size = int(head[2])
        yield name, out[at:at + size]
        at += size + 1


def tree(path):
    """(sha, path) of every plain file of the newest commit."""
    out = []
    for line in git(path, "ls-tree", "-r", "-z", "HEAD").split(b"\0"):
        if line:
            meta, name = line.split(b"\t", 1)
            mode, kind, sha = meta.split()
            if kind == b"blob" and mode != b"120000":
                out.append((sha, name.decode("utf8", "replace")))
    return out


# Licence texts, recognised by phrases that only they hold. The first match wins; copyleft is looked for first.
LICENCES = [
    ("COPYLEFT", r"GNU (LESSER |AFFERO )?GENERAL PUBLIC LICENSE|Mozilla Public License|Eclipse Public License|EUROPEAN UNION PUBLIC"),
    ("RESTRICTED", r"Business Source License|Server Side Public|Elastic License|Commons Clause|Functional Source"),
    ("Apache-2.0", r"Apache License,?\s+Version 2\.0|Licensed under the Apache License"),
    ("MIT", r"Permission is hereby granted, free of charge, to any person\s+obtaining\s+a\s+copy"),
    ("BSL-1.0", r"Boost Software License"),
    ("curl", r"COPYRIGHT AND PERMISSION NOTICE[\s\S]*Permission to use, copy, modify, and distribute this software"),
    ("ISC", r"Permission to use, copy, modify, and(/or)? distribute this software for any purpose with or without fee"),
    ("BSD-3-Clause", r"Redistributions? and? ?use in source[\s\S]*(Neither the names?|names? of (its|the|any)|may not be used to endorse)|Redistribution and use in source[\s\S]*endorse"),
    ("BSD-2-Clause", r"Redistribution and use in source"),
    ("Zlib", r"This software is provided ['\"]as-is['\"]"),
    ("Unlicense", r"This is free and unencumbered software"),
    ("Apache-2.0", r"Apache License"),
]
PERMISSIVE = {"Apache-2.0", "MIT", "BSL-1.0", "ISC", "curl", "BSD-3-Clause", "BSD-2-Clause", "Zlib", "Unlicense"}


def licence(path, entries):
    """(SPDX expression, files) from the licence files in the root; None when one is not permissive or none is found."""
    names = [(s, n) for s, n in entries if "/" not in n and re.match(r"(?i)(un|mit-)?licen[cs]e|copying|copyright", n)
             and not re.search(r"(?i)binary|third|\.(sh|py|js|json|toml|yml|header)$", n)]
    found, files = [], []
    for name, data in cat_files(path, names):
        text = re.sub(r"[ \t*#/;]+", " ", data.decode("utf8", "replace"))
        text = re.sub(r"\s+", " ", text)
        for spdx, pattern in LICENCES:
            if re.search(pattern.replace(r"\s+", " "), text):
                if spdx not in found:
                    found.append(spdx)
                files.append(name)
                break
    return found, files
