"""Mines (query, code) pairs from one snapshot after another.

    python mine.py defs    [SHARD/SHARDS]    doc sentences, names, inner comments, test titles
    python mine.py commits [SHARD/SHARDS]    commit subjects and the hunks they changed

Reads bare snapshots under $TRAIN_MIRROR, writes $TRAIN_DATA/pairs/{defs,commits}/OWNER+NAME.pkl (lists of
Pair tuples) and $TRAIN_DATA/pairs/meta/OWNER+NAME.json (commit, licence, counts). A repository whose licence
files are not all permissive is left out. Code that stands in an evaluation corpus is left out (`Seen`).
"""
import json
import os
import pickle
import random
import re
import sys
import time

import common as c

MAX_FILES = 500
MAX_FILE_BYTES = 120_000
MAX_CODE = 2_400          # the product's CHUNK_BYTES
CAPS = {"doc": 5_000, "name": 3_500, "inline": 3_000, "title": 1_500}
MAX_COMMITS = 700
MAX_COMMIT_PAIRS = 1_800

DEFS = {
    "python": "(function_definition) @d (class_definition) @d (comment) @c (block . (expression_statement (string)) @c) (module . (expression_statement (string)) @c)",
    "javascript": "(function_declaration) @d (generator_function_declaration) @d (method_definition) @d (class_declaration) @d "
                  "(lexical_declaration (variable_declarator value: [(arrow_function)(function_expression)])) @d "
                  "(variable_declaration (variable_declarator value: [(arrow_function)(function_expression)])) @d "
                  "(expression_statement (assignment_expression right: [(arrow_function)(function_expression)])) @d "
                  "(comment) @c (call_expression function: (identifier) @tf arguments: (arguments . (string) . [(arrow_function)(function_expression)])) @t",
    "go": "(function_declaration) @d (method_declaration) @d (type_declaration (type_spec)) @d (comment) @c",
    "rust": "(function_item) @d (struct_item) @d (enum_item) @d (trait_item) @d (macro_definition) @d (line_comment) @c (block_comment) @c",
    "java": "(method_declaration) @d (constructor_declaration) @d (class_declaration) @d (interface_declaration) @d (enum_declaration) @d (line_comment) @c (block_comment) @c",
    "c": "(function_definition) @d (comment) @c",
    "cpp": "(function_definition) @d (class_specifier body: (_)) @d (struct_specifier body: (_)) @d (comment) @c",
    "ruby": "(method) @d (singleton_method) @d (class) @d (module) @d (comment) @c",
    "php": "(function_definition) @d (method_declaration) @d (class_declaration) @d (interface_declaration) @d (trait_declaration) @d (comment) @c",
    "kotlin": "(function_declaration) @d (class_declaration) @d (object_declaration) @d (line_comment) @c (multiline_comment) @c",
    "swift": "(function_declaration) @d (class_declaration) @d (protocol_declaration) @d (comment) @c (multiline_comment) @c",
    "lua": "(function_declaration) @d (comment) @c",
    "scala": "(function_definition) @d (class_definition) @d (trait_definition) @d (object_definition) @d (comment) @c (block_comment) @c",
}
DEFS["typescript"] = DEFS["tsx"] = DEFS["javascript"] + " (interface_declaration) @d (type_alias_declaration) @d (enum_declaration) @d (abstract_class_declaration) @d"
CONTAINER = re.compile(r"class|module|trait|interface|object|struct|impl|protocol")

BETWEEN = re.compile(
    r"(?>\s+|export|default|declare|abstract|static|public|private|protected|final|async|pub(?:\([^)]*\))?|inline|constexpr|virtual|const|unsafe|extern|"
    r"@[\w.]+(?:\([^()]*(?:\([^()]*\)[^()]*)*\))?|#!?\[[^\n]*\]|\[\[[^\]]*\]\]|template\s*<[^;{]*>|[A-Z_]++(?:\([^)]*\))?)*+\Z"
)
CUT = re.compile(
    r"(?m)^\s*(?:@\w|:\w+[^:\n]*:|\\\w|Args?:|Arguments:|Parameters|Params:|Returns?:|Raises|Example|Usage|Note:|See also|```|~~~|>>>|\.\. |#+ |---|===|\* \*\*|[-*] |\d+\. |<pre|<p>\s*<|TODO|FIXME|XXX|nolint)"
)
NOISE = re.compile(r"(?i)licen[cs]e|copyright|eslint|prettier|todo|fixme|noqa|pylint|type: ?ignore|inheritdoc|https?://|istanbul|@ts-|clang-format|nolint|coverage|rustfmt|rubocop|auto-?generated|do not edit")
SENTENCE = re.compile(r"(?<=[\w)`'\"])[.!?:](?=\s+[A-Z`\"(]|\s*$)|\n\s*\n")
MARKS = re.compile(r"(?m)^[ \t]*(?:///?!?|/\*\*?!?|\*/|\*(?!\*)|#+(?!\[)|--|;;+|\"\"\"|''')[ \t]?|\*+/[ \t]*$|(?:\"\"\"|''')[ \t]*$|^[rRbBuUfF]{0,2}(?:\"\"\"|'''|\"|')|\"$")
TAGS = re.compile(r"\{@\w+\s+([^}]*)\}|</?\w+[^>]*>|`+|:\w+:`~?([^`]*)`|\[`?([^\]]*?)`?\](?:\([^)]*\)|\[[^\]]*\])?|\*\*")


def sentences(comment, most):
    """The first sentences of a comment's prose."""
    text = MARKS.sub("", comment)
    text = re.sub(r"(?m)^\s*(@brief|\\brief|@summary|@description)\s+", "", text)
    cut = CUT.search(text)
    if cut:
        text = text[:cut.start()]
    text = TAGS.sub(lambda m: next((g for g in m.groups() if g), " "), text)
    out = []
    for piece in SENTENCE.split(text):
        piece = " ".join(piece.split()).strip(" .,:;-*\"'")
        words = len(piece.split())
        if words < 3 or words > 40 or len(piece) > 300 or NOISE.search(piece):
            if out or words > 40:
                break
            continue
        letters = sum(ch.isalpha() or ch == " " for ch in piece)
        if letters < 0.8 * len(piece) or sum(ord(ch) > 127 for ch in piece) > 3:
            continue
        out.append(piece)
        if len(out) >= most:
            break
    return out


class Seen:
    """Lines of the evaluation corpora: code that shares most of its lines with them is a copy."""

    def __init__(self):
        path = os.path.join(c.WORK, "eval-lines.pkl")
        if not os.path.exists(path):
            lines, queries = set(), set()
            for name in sorted(c.excluded() | c.VALIDATION):
                for _, data in self.files(name):
                    for line in data.decode("utf8", "replace").split("\n"):
                        key = self.key(line)
                        if key:
                            lines.add(hash_line(key))
            for file in os.listdir("/work/shared/search-dev/labels"):
                for q in json.load(open("/work/shared/search-dev/labels/" + file)):
                    queries.add(" ".join(sorted(set(c.parts(q["query"])))))
            pickle.dump((lines, queries), open(path, "wb"))
        self.lines, self.queries = pickle.load(open(path, "rb"))

    @staticmethod
    def files(name):
        mirror = c.mirror_path(name)
        entries = [(s, n) for s, n in c.tree(mirror) if n.rsplit(".", 1)[-1] in c.LANG_OF]
        return list(c.cat_files(mirror, entries))

    @staticmethod
    def key(line):
        key = re.sub(r"\W+", " ", line).strip()
        return key if len(key) >= 20 else None

    def copy(self, code):
        keys = [k for k in map(self.key, code.split("\n")) if k]
        if len(keys) < 2:
            return False
        return sum(hash_line(k) in self.lines for k in keys) > 0.5 * len(keys)

    def of(self, repo):
        """What to hold a repository's pairs against: one to validate on is no copy of itself."""
        return None if repo in c.VALIDATION else self

    def query(self, query):
        return " ".join(sorted(set(c.parts(query)))) in self.queries


def hash_line(key):
    import hashlib
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


_parsers = {}


def parser(lang):
    if lang not in _parsers:
        from tree_sitter_language_pack import get_language, get_parser
        _parsers[lang] = (get_parser(lang), get_language(lang).query(DEFS[lang]))
    return _parsers[lang]


def name_of(node, src):
    got = node.child_by_field_name("name")
    if got is None:
        inner = node.child_by_field_name("declarator")
        while inner is not None and inner.child_by_field_name("declarator") is not None:
            inner = inner.child_by_field_name("declarator")
        got = inner
    if got is None:
        for child in node.named_children[:4]:
            if child.type in ("variable_declarator", "type_spec"):
                got = child.child_by_field_name("name")
            elif child.type == "assignment_expression":
                got = child.child_by_field_name("left")
            elif child.type in ("simple_identifier", "type_identifier", "identifier"):
                got = child
            if got is not None:
                break
    if got is None:
        return ""
    text = src[got.start_byte:got.end_byte].decode("utf8", "replace")
    return text if len(text) < 100 and "\n" not in text else ""


def blank(src, start, end, comments, first):
    """src[start:end] less the comments in it. `first` is the index of the first comment that may matter."""
    out, at = [], start
    for k in range(first, len(comments)):
        s, e = comments[k]
        if s >= end:
            break
        if s < at:
            continue
        out.append(src[at:s])
        at = e
    out.append(src[at:end])
    text = b"".join(out).decode("utf8", "replace")
    return re.sub(r"\n\s*\n+", "\n", text)


def mine_file(name, data, lang, out, test):
    import bisect
    parse, query = parser(lang)
    tree = parse.parse(data)
    captures = query.captures(tree.root_node)
    comments = sorted((n.start_byte, n.end_byte) for n in captures.get("c", ()))
    starts = [s for s, _ in comments]
    crumb_path = re.sub(r"\.\w+$", "", name)
    if test:
        functions = {n.start_byte: data[n.start_byte:n.end_byte] for n in captures.get("tf", ())}
        for node in captures.get("t", ()):
            if functions.get(node.start_byte) in (b"it", b"test") and node.end_byte - node.start_byte < 3_000:
                args = node.child_by_field_name("arguments").named_children
                title = data[args[0].start_byte:args[0].end_byte].decode("utf8", "replace").strip("\"'`")
                if 3 <= len(title.split()) <= 25 and title.isascii():
                    body = blank(data, args[1].start_byte, args[1].end_byte, comments, bisect.bisect_left(starts, args[1].start_byte))
                    out.append(("title", title, body[:MAX_CODE], "", ""))
        return
    defs = sorted(captures.get("d", ()), key=lambda n: (n.start_byte, -n.end_byte))
    doc_of = set()
    stack = []
    plain = []
    for node in defs:
        s, e = node.start_byte, node.end_byte
        while stack and stack[-1][0] <= s:
            stack.pop()
        symbol = name_of(node, data)
        crumb = " ".join([crumb_path, *[x[1] for x in stack]])
        stack.append((e, symbol))
        size = e - s
        if size < 40 or size > 40_000 or not symbol:
            continue
        first = bisect.bisect_left(starts, s)
        code = blank(data, s, min(e, s + 2 * MAX_CODE), comments, first)[:MAX_CODE]
        doc = None
        if lang == "python":
            body = node.child_by_field_name("body")
            if body is not None and body.named_child_count and first < len(comments):
                k = bisect.bisect_left(starts, body.start_byte)
                if k < len(comments) and comments[k][0] <= body.named_children[0].start_byte + 0 and data[comments[k][0]:comments[k][0] + 1] in b"\"'rRuUbB":
                    doc = data[comments[k][0]:comments[k][1]]
                    doc_of.add(k)
        else:
            k = first - 1
            if k >= 0 and s - comments[k][1] < 400 and BETWEEN.match(data[comments[k][1]:s].decode("utf8", "replace")):
                j = k
                while j > 0 and k - j < 30 and not data[comments[j - 1][1]:comments[j][0]].strip() and data[comments[j - 1][1]:comments[j][0]].count(b"\n") < 2:
                    j -= 1
                doc = data[comments[j][0]:comments[k][1]]
                doc_of.update(range(j, k + 1))
        if doc is not None:
            got = sentences(doc.decode("utf8", "replace"), 2)
            if symbol and got and lang == "go":
                # Go's doc comments open with the name; without it the sentence is like the others.
                rest = re.sub(r"^(?:A |An |The )?" + re.escape(symbol.split("(")[0]) + r"\s+(?:is |are )?", "", got[0])
                if len(rest.split()) >= 3:
                    got[0] = rest
            for sentence in got:
                out.append(("doc", sentence, code, crumb, symbol))
        bare = re.split(r"[.:]+", symbol)[-1]
        words = c.parts(bare)
        if len(words) >= 2 and size > 100 and not CONTAINER.search(node.type):
            out.append(("name", " ".join(words), re.sub(r"\b" + re.escape(bare) + r"\b", " ", code), crumb, ""))
        if not CONTAINER.search(node.type) and size > 200:
            plain.append((s, e, first, symbol, crumb))
    # Comments inside a function and the lines after them.
    for s, e, first, symbol, crumb in plain:
        k = first
        while k < len(comments) and comments[k][0] < e:
            j = k
            while j + 1 < len(comments) and comments[j + 1][0] < e and not data[comments[j][1]:comments[j + 1][0]].strip():
                j += 1
            cs, ce = comments[k][0], comments[j][1]
            line = data.rfind(b"\n", 0, cs) + 1
            if k not in doc_of and not data[line:cs].strip():
                got = sentences(data[cs:ce].decode("utf8", "replace"), 1)
                if got and len(got[0].split()) >= 4:
                    after = blank(data, ce, min(e, ce + 900), comments, j + 1).strip("\n").split("\n")[:14]
                    before = blank(data, max(s, cs - 250), cs, comments, first).strip("\n").split("\n")[-3:]
                    if len(after) >= 2:
                        out.append(("inline", got[0], "\n".join(before + after), crumb, symbol))
            k = j + 1


def mine_defs(repo, seen):
    mirror = c.mirror_path(repo)
    entries = c.tree(mirror)
    spdx, files = c.licence(mirror, entries)
    meta = {"repo": repo, "commit": c.git(mirror, "rev-parse", "HEAD").decode().strip(), "licence": " OR ".join(spdx), "licence_files": files}
    if not spdx or any(s not in c.PERMISSIVE for s in spdx):
        meta["left_out"] = "licence"
        return meta, []
    rng = random.Random(repo)
    code = [(s, n) for s, n in entries if c.LANG_OF.get(n.rsplit(".", 1)[-1]) and not c.SKIP_DIR.search(n.lower())]
    main = [x for x in code if not c.TEST_PATH.search(x[1].lower())]
    tests = [x for x in code if c.TEST_PATH.search(x[1].lower()) and x[1].rsplit(".", 1)[-1] in ("js", "ts", "tsx", "mjs")]
    rng.shuffle(main)
    rng.shuffle(tests)
    pairs = []
    for chosen, test in ((main[:MAX_FILES], False), (tests[:100], True)):
        for name, data in c.cat_files(mirror, chosen):
            if len(data) > MAX_FILE_BYTES or b"\0" in data or (data and max(map(len, data.split(b"\n"))) > 2_000):
                continue
            ext = name.rsplit(".", 1)[-1]
            lang = c.LANG_OF[ext]
            if ext == "h":
                lang = "cpp" if b"namespace" in data or b"class " in data else "c"
            try:
                mine_file(name, data, lang, pairs, test)
            except (ValueError, AttributeError, IndexError, TypeError, RecursionError) as error:
                print("skipped", repo, name, error, flush=True)
    return meta, finish(pairs, seen, rng, CAPS)


def finish(pairs, seen, rng, caps):
    rng.shuffle(pairs)
    count, out, once = {}, [], set()
    for pair in pairs:
        kind, query, code = pair[:3]
        if count.get(kind, 0) >= caps.get(kind, 10**9):
            continue
        key = (kind, query.lower(), code[:300])
        if key in once or len(code) < 30 or (seen and (seen.copy(code) or seen.query(query))):
            continue
        once.add(key)
        count[kind] = count.get(kind, 0) + 1
        out.append(pair)
    return out


COMMENT_LINE = re.compile(r"^\s*(//|#(?!include|define|if|endif|else|\[)|/\*|\*|--|\"\"\"|''')|^\s*$")
SUBJECT_NOISE = re.compile(r"(?i)^(merge|revert|bump|release|version|v?\d|update (changelog|readme|dep|lock|author)|chore\(deps|build\(deps|prepare|fixup|wip\b|typo|lint|format|cleanup|deps)|changelog")


def mine_commits(repo, seen):
    mirror = c.mirror_path(repo)
    specs = ["*." + e for e in c.LANG_OF]
    raw = c.git(
        mirror, "log", "-p", "-U5", "--no-merges", f"--max-count={MAX_COMMITS}", "--diff-filter=M", "--no-color", "--no-ext-diff",
        "--format=%x01%s", "HEAD", "--", *specs,
    ).decode("utf8", "replace")
    pairs = []
    for commit in raw.split("\x01")[1:]:
        subject, _, diff = commit.partition("\n")
        subject = re.sub(r"\s*\(?#\d+\)?|\[[^\]]*\]|^\w+(\([^)]*\))?!?:\s*|^[\w./-]+:\s+", " ", subject)
        subject = " ".join(subject.split()).strip(" .")
        words = subject.split()
        if len(words) < 3 or len(words) > 20 or SUBJECT_NOISE.search(subject) or len(diff) > 60_000:
            continue
        hunks = []
        for file in re.split(r"(?m)^diff --git ", diff)[1:]:
            m = re.search(r"(?m)^\+\+\+ b/(.*)$", file)
            if not m or c.SKIP_DIR.search(m[1].lower()) or c.TEST_PATH.search(m[1].lower()):
                continue
            for hunk in re.split(r"(?m)^@@ ", file)[1:]:
                head, _, body = hunk.partition("\n")
                context = head.split("@@", 1)[-1].strip()
                lines = [l[1:] for l in body.split("\n") if l[:1] in " +-" and not COMMENT_LINE.match(l[1:])]
                changed = sum(l[:1] in "+-" for l in body.split("\n"))
                if 2 <= changed <= 80:
                    hunks.append((changed, "\n".join([context, *lines])[:MAX_CODE], re.sub(r"\.\w+$", "", m[1])))
        if 0 < len(hunks) <= 12:
            hunks.sort(key=lambda h: -h[0])
            for _, code, crumb in hunks[:2]:
                pairs.append(("commit", subject, code, crumb, ""))
    return finish(pairs, seen, random.Random(repo), {"commit": MAX_COMMIT_PAIRS})


def main():
    what = sys.argv[1]
    shard, shards = map(int, (sys.argv[2] if len(sys.argv) > 2 else "0/1").split("/"))
    for folder in ("defs", "commits", "meta"):
        os.makedirs(f"{c.WORK}/pairs/{folder}", exist_ok=True)
    seen = Seen()
    repos = [d.replace("+", "/", 1) for d in sorted(os.listdir(c.MIRROR)) if "+" in d and os.path.isdir(f"{c.MIRROR}/{d}/repo")]
    repos = [r for r in repos if r not in c.excluded()]
    random.Random(5).shuffle(repos)
    for repo in repos[shard::shards]:
        key = repo.replace("/", "+")
        target = f"{c.WORK}/pairs/{what}/{key}.pkl"
        if os.path.exists(target):
            continue
        began = time.time()
        if what == "defs":
            meta, pairs = mine_defs(repo, seen.of(repo))
            json.dump(meta, open(f"{c.WORK}/pairs/meta/{key}.json", "w"))
        else:
            spdx, _ = c.licence(c.mirror_path(repo), c.tree(c.mirror_path(repo)))
            pairs = mine_commits(repo, seen.of(repo)) if spdx and all(s in c.PERMISSIVE for s in spdx) else []
        pickle.dump(pairs, open(target + ".part", "wb"))
        os.replace(target + ".part", target)
        kinds = {}
        for p in pairs:
            kinds[p[0]] = kinds.get(p[0], 0) + 1
        print(repo, kinds, f"{time.time() - began:.1f}s", flush=True)


if __name__ == "__main__":
    main()
