"""The variables of google-research/bert, and what transformers' `BertForPreTraining` calls them."""

from __future__ import annotations

import re

#: what Adam and the training loop keep beside the weights
STATE = re.compile(
    r"(/adam_[mv]|/Adam(_1)?|/lamb_[mv])$|^(global_step|beta[12]_power|loss_scale|good_steps)$"
)
_PREFIXES = ("bert/embeddings/", "bert/encoder/", "bert/pooler/", "cls/predictions/", "cls/seq_relationship/")
_SPECIAL = {
    "cls/predictions/output_bias": "cls.predictions.bias",
    "cls/seq_relationship/output_weights": "cls.seq_relationship.weight",
    "cls/seq_relationship/output_bias": "cls.seq_relationship.bias",
}
_LEAVES = {"kernel": "weight", "gamma": "weight", "beta": "bias", "bias": "bias"}


def torch_name(variable: str) -> str | None:
    """The name of a variable in `BertForPreTraining`, None if it has no place there.

    `layer_3` is `layer.3`, `kernel` (to be transposed) and `gamma` are `weight`, `beta` is `bias`, and an embedding
    table has `.weight` after its name.

    Args:
        variable: as in the checkpoint.

    Examples:
        >>> torch_name("bert/encoder/layer_3/attention/self/query/kernel")
        'bert.encoder.layer.3.attention.self.query.weight'
        >>> torch_name("bert/embeddings/word_embeddings")
        'bert.embeddings.word_embeddings.weight'
        >>> torch_name("bert/pooler/dense/bias/adam_m")
    """
    if variable in _SPECIAL:
        return _SPECIAL[variable]
    if STATE.search(variable) or not variable.startswith(_PREFIXES):
        return None
    *scopes, leaf = variable.split("/")
    path = ".".join(re.sub(r"^layer_(\d+)$", r"layer.\1", scope) for scope in scopes)
    if leaf.endswith("_embeddings"):
        return f"{path}.{leaf}.weight"
    return f"{path}.{_LEAVES[leaf]}" if leaf in _LEAVES else None


def is_transposed(variable: str) -> bool:
    """Whether a matrix is stored (in, out), as TensorFlow multiplies, where torch keeps (out, in)."""
    return variable.endswith("/kernel")
