"""How each type of model builds its pretraining heads, and what transformers calls their parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from transformers.activations import ACT2FN

from bertlab.heads.masked_lm import MaskedLmHead
from bertlab.heads.next_sentence import NextSentenceHead
from bertlab.heads.replaced_token import ReplacedTokenHead

SENTENCE = {"output": "cls.seq_relationship"}
REPLACED = {
    "dense": "discriminator_predictions.dense",
    "output": "discriminator_predictions.dense_prediction",
}


@dataclass(frozen=True)
class Layout:
    """Of the masked language head of one type of model.

    Attributes:
        names: part here → name in transformers. A name of the decoder's bias stands alone: `decoder.bias`.
        activation: name of the activation, or of the field of the configuration that says it (`.field`).
        epsilon: field of the configuration, or the number.
        dense_bias, norm_bias: field of the configuration; None: there is a bias.
    """

    names: Mapping[str, str] = field(default_factory=dict[str, str])
    activation: str = ".hidden_act"
    epsilon: str | float = "layer_norm_eps"
    dense_bias: str | None = None
    norm_bias: str | None = None


def _names(dense: str, norm: str, decoder: str, bias: str) -> dict[str, str]:
    return {"dense": dense, "norm": norm, "decoder.weight": f"{decoder}.weight", "decoder.bias": bias}


_PREDICTIONS = "cls.predictions"
_BERT = Layout(
    _names(
        f"{_PREDICTIONS}.transform.dense",
        f"{_PREDICTIONS}.transform.LayerNorm",
        f"{_PREDICTIONS}.decoder",
        f"{_PREDICTIONS}.bias",
    )
)
_ROBERTA = Layout(_names("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", "lm_head.bias"), "gelu")
LAYOUTS = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "electra": Layout(
        _names(
            "generator_predictions.dense",
            "generator_predictions.LayerNorm",
            "generator_lm_head",
            "generator_lm_head.bias",
        ),
        "gelu",
    ),
    "modernbert": Layout(
        _names("head.dense", "head.norm", "decoder", "decoder.bias"),
        ".classifier_activation",
        "norm_eps",
        "classifier_bias",
        "norm_bias",
    ),
    "distilbert": Layout(
        _names("vocab_transform", "vocab_layer_norm", "vocab_projector", "vocab_projector.bias"),
        ".activation",
        1e-12,
    ),
    "albert": Layout(
        _names("predictions.dense", "predictions.LayerNorm", "predictions.decoder", "predictions.bias")
    ),
}


def masked_lm_head(config: Any, hidden_size: int, embedding: nn.Embedding) -> MaskedLmHead:
    """A fresh head, built as transformers builds it for a model of this configuration.

    Args:
        config: of the encoder. Types that are not known here get BERT's head.
        hidden_size: D.
        embedding: the encoder's word embedding; tied, unless `tie_word_embeddings` of the configuration says no.
    """
    layout = LAYOUTS.get(config.model_type, Layout(activation="gelu", epsilon=1e-12))
    epsilon = layout.epsilon if not isinstance(layout.epsilon, str) else getattr(config, layout.epsilon)
    return MaskedLmHead(
        hidden_size,
        embedding,
        _activation(config, layout.activation),
        epsilon=epsilon,
        dense_bias=layout.dense_bias is None or getattr(config, layout.dense_bias),
        norm_bias=layout.norm_bias is None or getattr(config, layout.norm_bias),
        tied=getattr(config, "tie_word_embeddings", True),
        deviation=getattr(config, "initializer_range", 0.02),
    )


def next_sentence_head(config: Any, hidden_size: int, pooler: bool) -> NextSentenceHead:
    """A fresh head for the sentence task."""
    return NextSentenceHead(hidden_size, pooler, getattr(config, "initializer_range", 0.02))


def replaced_token_head(config: Any, hidden_size: int) -> ReplacedTokenHead:
    """A fresh head for replaced-token detection."""
    activation = getattr(config, "hidden_act", "gelu")
    return ReplacedTokenHead(hidden_size, ACT2FN[activation], getattr(config, "initializer_range", 0.02))


def names_in_transformers(head: nn.Module, names: Mapping[str, str]) -> dict[str, str]:
    """The name here → the name in transformers, of each parameter of a head that has one there.

    >>> list(names_in_transformers(nn.ModuleDict({"output": nn.Linear(2, 2)}), {"output": "there"}).items())
    [('output.weight', 'there.weight'), ('output.bias', 'there.bias')]
    """
    found: dict[str, str] = {}
    for name in head.state_dict():
        part, _, kind = name.rpartition(".")
        if name in names:
            found[name] = names[name]
        elif part in names:
            found[name] = f"{names[part]}.{kind}"
    return found


def load_head(head: nn.Module, names: Mapping[str, str], weights: Mapping[str, Tensor]) -> bool:
    """Take the weights of a head from a checkpoint, all or none.

    Args:
        head: with first weights.
        names: of a layout.
        weights: of the checkpoint, under the names of transformers. A tied decoder need not be there.

    Returns:
        Whether it was there.

    Raises:
        ValueError: some of the head is there and some is not, or a shape is another.
    """
    known = names_in_transformers(head, names)
    tied = {"decoder.weight"}
    there = {
        name: weights[theirs] for name, theirs in known.items() if theirs in weights and name not in tied
    }
    if not there:
        return False
    state = head.state_dict()
    missing = [theirs for name, theirs in known.items() if name not in there and name not in tied]
    if "decoder.weight" in known and known["decoder.weight"] in weights:
        there["decoder.weight"] = weights[known["decoder.weight"]]
    wrong = [f"{known[n]} is {tuple(t.shape)}, not {tuple(state[n].shape)}" for n, t in there.items()
             if t.shape != state[n].shape]  # fmt: skip
    if missing or wrong:
        raise ValueError(
            f"encoder.source: the pretraining head of the checkpoint does not fit; missing: {missing}, of another "
            f"shape: {wrong}"
        )
    head.load_state_dict(there, strict=False)
    return True


def _activation(config: Any, named: str) -> nn.Module:
    return ACT2FN[getattr(config, named[1:]) if named.startswith(".") else named]
