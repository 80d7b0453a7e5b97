"""Resources: what a strategy may touch, and which of it goes together."""

from __future__ import annotations

#: What a strategy may touch → how the wishes of several strategies for it come together.
RESOURCES = {
    "trainable": "one strategy alone decides",
    "parameters": "one strategy alone decides",
    "class_weights": "one strategy alone decides",
    "lr": "factors multiply",
    "loss": "nested, by their class's `nesting`",
    "passes": "nested, each computes gradients of its own",
    "gradients": "one after another: by `nesting`, the greatest first, then by class names",
    "word_vectors": "one strategy alone decides",
    "weights": "in the order of their class names",
    "average": "one strategy alone decides",
    "checkpoints": "each its own files",
    "trunk": "one strategy alone keeps what the frozen blocks make of each row",
    "privacy": "one strategy alone bounds what is learnt of a row; beside it only what looks at no row and no gradient",
    "inputs": "what passes see, in frozen blocks too, is not the same each time; not beside `trunk`",
    "length": "one strategy alone decides",
    "mask_rate": "one strategy alone decides",
    "batch_size": "one strategy alone decides",
    "order": "one strategy alone decides",
}
#: What of the training data a strategy may change: the attributes of a `Course`.
DATA = {"length", "mask_rate", "batch_size", "order"}
EXCLUSIVE = {"trainable", "parameters", "class_weights", "word_vectors", "average", "trunk", "privacy", *DATA}
#: What strategies may touch beside one that bounds what is learnt of a row: none of it looks at rows or gradients.
BESIDE_PRIVACY = {"trainable", "parameters", "lr", "weights", "average", "checkpoints", "trunk"}
