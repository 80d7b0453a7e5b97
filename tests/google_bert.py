"""The variables of Google's BERT code, for a tiny model: names, shapes, and values that anyone can recompute.

No TensorFlow and no bertlab here: the scripts that run under TensorFlow and the tests that run without it both import
this file.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np

CONFIG = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 8,
    "initializer_range": 0.02,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "type_vocab_size": 2,
    "vocab_size": 31,
}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [*SPECIAL, *"abcdefghij", "##a", "##b", "##c", "##d", "##e", "the", "cab", "bad", "##ing",
              "head", ".", ",", "é", "中", "a-", "##s"]  # fmt: skip
SLOTS = ("adam_m", "adam_v")


def shapes(config: dict = CONFIG) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all variables that google-research/bert's run_pretraining.py trains."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    found: dict[str, tuple[int, ...]] = {}

    def norm(scope: str) -> None:
        found[f"{scope}/LayerNorm/beta"] = found[f"{scope}/LayerNorm/gamma"] = (hidden,)

    def dense(scope: str, rows: int, columns: int) -> None:
        found[f"{scope}/kernel"], found[f"{scope}/bias"] = (rows, columns), (columns,)

    for table, rows in (
        ("word", config["vocab_size"]),
        ("token_type", config["type_vocab_size"]),
        ("position", config["max_position_embeddings"]),
    ):
        found[f"bert/embeddings/{table}_embeddings"] = (rows, hidden)
    norm("bert/embeddings")
    for layer in range(config["num_hidden_layers"]):
        scope = f"bert/encoder/layer_{layer}"
        for part in ("query", "key", "value"):
            dense(f"{scope}/attention/self/{part}", hidden, hidden)
        dense(f"{scope}/attention/output/dense", hidden, hidden)
        norm(f"{scope}/attention/output")
        dense(f"{scope}/intermediate/dense", hidden, inner)
        dense(f"{scope}/output/dense", inner, hidden)
        norm(f"{scope}/output")
    dense("bert/pooler/dense", hidden, hidden)
    dense("cls/predictions/transform/dense", hidden, hidden)
    norm("cls/predictions/transform")
    found["cls/predictions/output_bias"] = (config["vocab_size"],)
    found["cls/seq_relationship/output_weights"] = (2, hidden)
    found["cls/seq_relationship/output_bias"] = (2,)
    return found


def value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value of a variable: numbers drawn by a generator whose stream numpy promises never to change."""
    drawn = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    return (drawn * 0.3).astype(np.float32)


def all_values(slots: bool = True) -> dict[str, np.ndarray]:
    """Every variable, with Adam's moments beside each."""
    wanted = dict(shapes())
    if slots:
        wanted |= {f"{name}/{slot}": shape for name, shape in shapes().items() for slot in SLOTS}
    return {name: value(name, shape) for name, shape in wanted.items()}


def write_beside(folder: Path) -> None:
    """Write bert_config.json and vocab.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bert_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
