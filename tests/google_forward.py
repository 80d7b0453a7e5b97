"""What google-research/bert's modeling.py and run_pretraining.py compute, in numpy, from their variables.

Written from those files, for one sequence without padding and dropout: an independent reference for the conversion.
"""

from __future__ import annotations

import math

import numpy as np

Variables = dict[str, np.ndarray]


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1.0 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def norm(v: Variables, scope: str, x: np.ndarray) -> np.ndarray:
    scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    return scaled * v[f"{scope}/LayerNorm/gamma"] + v[f"{scope}/LayerNorm/beta"]


def dense(v: Variables, scope: str, x: np.ndarray) -> np.ndarray:
    return x @ v[f"{scope}/kernel"] + v[f"{scope}/bias"]


def softmax(x: np.ndarray) -> np.ndarray:
    shifted = np.exp(x - x.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def attention(v: Variables, scope: str, x: np.ndarray, heads: int) -> np.ndarray:
    length, hidden = x.shape

    def split(part: str) -> np.ndarray:
        return dense(v, f"{scope}/self/{part}", x).reshape(length, heads, -1).transpose(1, 0, 2)

    query, key, value = split("query"), split("key"), split("value")
    scores = query @ key.transpose(0, 2, 1) / math.sqrt(hidden / heads)
    return (softmax(scores) @ value).transpose(1, 0, 2).reshape(length, hidden)


def forward(
    variables: Variables, ids: list[int], types: list[int], layers: int, heads: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hidden states (T, D), logits of the masked language model (T, V), of next sentence prediction (2,)."""
    v = {name: value.astype(np.float64) for name, value in variables.items()}
    table = "bert/embeddings/{}_embeddings"
    x = v[table.format("word")][ids] + v[table.format("token_type")][types]
    x = norm(v, "bert/embeddings", x + v[table.format("position")][: len(ids)])
    for layer in range(layers):
        scope = f"bert/encoder/layer_{layer}"
        mixed = dense(v, f"{scope}/attention/output/dense", attention(v, f"{scope}/attention", x, heads))
        x = norm(v, f"{scope}/attention/output", mixed + x)
        inner = gelu(dense(v, f"{scope}/intermediate/dense", x))
        x = norm(v, f"{scope}/output", dense(v, f"{scope}/output/dense", inner) + x)
    pooled = np.tanh(dense(v, "bert/pooler/dense", x[0]))
    scope = "cls/predictions/transform"
    transformed = norm(v, scope, gelu(dense(v, f"{scope}/dense", x)))
    words = transformed @ v["bert/embeddings/word_embeddings"].T + v["cls/predictions/output_bias"]
    sentence = pooled @ v["cls/seq_relationship/output_weights"].T + v["cls/seq_relationship/output_bias"]
    return x, words, sentence
