"""Made `minilm.json`: `python3 reference.py FOLDER > minilm.json`, with the packages `onnxruntime`
and `tokenizers`: what other programs make of the model that `cargo xtask test onnx` fetches."""

import json
import sys

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

TEXTS = [
    "fn main() {}",
    "computes the pause before the next attempt",
    "src util retry exponential_backoff\nfn exponential_backoff(attempt: u32) -> Duration {\n    Duration::from_millis(100 * 2u64.pow(attempt))\n}",
    "def parse_config(path):\n    \"\"\"Reads the configuration file.\"\"\"\n    with open(path) as f:\n        return toml.load(f)\n",
    "Größe und Übermut: naïve café déjà-vu, İstanbul, ǅ, ß",
    "控制 flow 世界 ½ ﬁ \u200b\u00ad tab\there\r\nnull\u0000end\ufffd",
    "",
    "supercalifragilisticexpialidocious_and_even_longer_identifier_name_that_goes_on" + "x" * 120,
    "let total = items.iter().map(|item| item.price * item.count).sum::<u64>(); " * 30,
    "「引用」、“quoted” — dash… ¿qué? §3 €5 ≠ ∑ 🙂",
]

folder = sys.argv[1]
tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
tokenizer.no_padding()
tokenizer.enable_truncation(256)
session = onnxruntime.InferenceSession(folder + "/model.onnx")
items = []
for text in TEXTS:
    ids = tokenizer.encode(text).ids
    row = np.array([ids], dtype=np.int64)
    values = {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row)}
    tokens = session.run(None, values)[0][0]
    vector = tokens.mean(0)
    vector /= np.linalg.norm(vector)
    items.append({"text": text, "ids": ids, "vector": [round(float(v), 5) for v in vector]})
json.dump(items, sys.stdout, ensure_ascii=True)
