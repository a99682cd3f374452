"""Makes the small models of the tests: `python3 models.py FOLDER`, with the package `onnx`.

`tiny` is a table of vectors: every word has one, `kangaroo` that of `backoff`. The others are
hostile: `bomb` wants 6 GB, `endless` never ends, `images` is no model of texts."""

import json
import os
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "backoff", "kangaroo", "retry", "config", "parse", "user", "session", "order"]
DIMS = 16


def table():
    rows = np.zeros((len(WORDS), DIMS), dtype=np.float32)
    rows[:, DIMS - 1] = 0.05
    for n, word in enumerate(WORDS[4:]):
        rows[n + 4, 0 if word == "kangaroo" else n] = 4.0
    return rows


def save(folder, name, nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(nodes, name, inputs, outputs, [numpy_helper.from_array(v, k) for k, v in constants])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    where = os.path.join(folder, name)
    os.makedirs(where, exist_ok=True)
    onnx.save(model, os.path.join(where, "model.onnx"))
    tokenizer = {
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
                  "vocab": {word: n for n, word in enumerate(WORDS)}},
    }
    with open(os.path.join(where, "tokenizer.json"), "w") as file:
        json.dump(tokenizer, file)


folder = sys.argv[1]
ids = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in ("input_ids", "attention_mask")]
tokens = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", DIMS])

gather = helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])
save(folder, "tiny", [gather], ids, [tokens], [("table", table())])

big = helper.make_node("ConstantOfShape", ["shape"], ["zeros"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.0]))
reduced = helper.make_node("ReduceMax", ["zeros"], ["most"], keepdims=0)
added = helper.make_node("Add", ["found", "most"], ["last_hidden_state"])
found = helper.make_node("Gather", ["table", "input_ids"], ["found"])
shape = [helper.make_node("ReduceMax", ["input_ids"], ["top"], keepdims=0),
         helper.make_node("Mul", ["top", "zero"], ["none"]),
         helper.make_node("Add", ["sizes", "none"], ["shape"])]
save(folder, "bomb", [*shape, big, reduced, found, added], ids, [tokens],
     [("table", table()), ("zero", np.array([0], dtype=np.int64)), ("sizes", np.array([40000, 40000], dtype=np.int64))])

body = helper.make_graph(
    [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Sin", ["state"], ["next"])],
    "body",
    [helper.make_tensor_value_info("n", TensorProto.INT64, []), helper.make_tensor_value_info("go", TensorProto.BOOL, []),
     helper.make_tensor_value_info("state", TensorProto.FLOAT, None)],
    [helper.make_tensor_value_info("go_on", TensorProto.BOOL, []), helper.make_tensor_value_info("next", TensorProto.FLOAT, None)])
loop = helper.make_node("Loop", ["trips", "yes", "found"], ["last_hidden_state"], body=body)
save(folder, "endless", [found, loop], ids, [tokens],
     [("table", table()), ("trips", np.array(2**31 - 1, dtype=np.int64)), ("yes", np.array(True))])

image = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, 8, 8])
seen = helper.make_tensor_value_info("seen", TensorProto.FLOAT, [1, 3, 8, 8])
save(folder, "images", [helper.make_node("Relu", ["pixels"], ["seen"])], [image], [seen])
