"""Google's BERT checkpoints (bert_model.ckpt.*, bert_config.json, vocab.txt), without TensorFlow.

google-research/bert and what follows its layout: BERT base to large, cased, multilingual, Chinese, the 24 smaller
models, whole-word masking, BioBERT, SciBERT, and any model that its run_pretraining.py wrote.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BertConfig

from bertlab.sources.google_names import STATE, is_transposed, torch_name
from bertlab.sources.tensor_bundle import TensorBundle

log = logging.getLogger(__name__)

CONFIG = "bert_config.json"
# Google's "gelu" is 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))), which transformers calls gelu_new.
ACTIVATIONS = {"gelu": "gelu_new", "relu": "relu", "tanh": "tanh", "linear": "linear"}
FIELDS = (
    "attention_probs_dropout_prob", "hidden_act", "hidden_dropout_prob", "hidden_size", "initializer_range",
    "intermediate_size", "max_position_embeddings", "num_attention_heads", "num_hidden_layers",
    "type_vocab_size", "vocab_size",
)  # fmt: skip
REQUIRED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
WORDS = "bert.embeddings.word_embeddings.weight"
DECODER = "cls.predictions.decoder"
SHOWN = 5  # names in an error message


def read_google_config(folder: str | Path) -> BertConfig:
    """The configuration, as transformers writes it.

    GELU is by tanh, as in Google's code ("gelu_new" in transformers); LayerNorm's epsilon, which Google's file does
    not name, is 1e-12. What steers no weight (`directionality`, `pooler_*` of the multilingual models) is left out.

    Raises:
        FileNotFoundError: there is no bert_config.json.
        ValueError: it is no JSON object, lacks a field, or has a wrong value.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; a Google checkpoint needs it")
    try:
        given: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: no JSON: {error}") from error
    missing = [
        name for name in REQUIRED if not isinstance(given, dict) or not isinstance(given.get(name), int)
    ]
    if missing:
        raise ValueError(f"{path}: {', '.join(missing)}: a whole number is needed")
    activation = given.get("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        raise ValueError(f"{path}: hidden_act: {activation!r}; accepted: {', '.join(ACTIVATIONS)}")
    fields = {name: given[name] for name in FIELDS if name in given}
    fields |= {"hidden_act": ACTIVATIONS[activation], "layer_norm_eps": 1e-12}
    fields |= {"architectures": ["BertForPreTraining"]}
    fields.setdefault("type_vocab_size", 16)  # the default of Google's BertConfig; transformers has 2
    try:
        return BertConfig(**fields)
    except Exception as error:  # transformers checks types with an exception class of another library
        raise ValueError(f"{path}: {error}") from error


def read_google_checkpoint(folder: str | Path) -> tuple[BertConfig, dict[str, Tensor]]:
    """The model of a folder in Google's layout.

    Adam's moments and counters are skipped, and so are variables of other heads (a fine-tuned classifier's).

    Args:
        folder: with bert_config.json and `bert_model.ckpt.index`, or one other checkpoint.

    Returns:
        The configuration, and float32 weights under the names of `BertForPreTraining`: all of its encoder, and of
        each of its two heads (`cls.predictions`, `cls.seq_relationship`) either all or, where the checkpoint has
        none of it, nothing. The decoder is there too and is the word embedding itself, as it is tied to it.

    Raises:
        FileNotFoundError: the checkpoint, the configuration, or a data file is missing.
        ValueError: one is damaged, variables are missing, or shapes are not those of the configuration.
    """
    config = read_google_config(folder)
    bundle = TensorBundle(_prefix(Path(folder)))
    wanted = _shapes(config, Path(folder))
    names = {variable: name for variable in bundle.names if (name := torch_name(variable)) in wanted}
    _check_complete(bundle, set(wanted) - set(names.values()))
    weights: dict[str, Tensor] = {}
    for variable, name in names.items():
        shape = bundle.shape(variable)[::-1] if is_transposed(variable) else bundle.shape(variable)
        if tuple(shape) != wanted[name]:
            raise ValueError(
                f"{bundle.index}: the tensor {variable!r} has the shape {bundle.shape(variable)}, which does not fit "
                f"{CONFIG}: {_reason(name, config)}"
            )
        value = bundle.read(variable)
        weights[name] = torch.from_numpy(
            np.array(value.T if is_transposed(variable) else value, dtype=np.float32, order="C")
        )
    if "cls.predictions.bias" in weights:
        weights[f"{DECODER}.weight"], weights[f"{DECODER}.bias"] = (
            weights[WORDS],
            weights["cls.predictions.bias"],
        )
    other = [v for v in bundle.names if v not in names and not STATE.search(v)]
    if other:
        log.info("Not of a pretrained BERT, left in the checkpoint %s: %s", bundle.prefix, other)
    return config, weights


def _prefix(folder: Path) -> Path:
    """Google's own name, else the one checkpoint that is there, else the one that the file `checkpoint` names."""
    prefixes = sorted(str(path).removesuffix(".index") for path in folder.glob("*.index"))
    usual = str(folder / "bert_model.ckpt")
    if usual in prefixes:
        return Path(usual)
    if len(prefixes) == 1:
        return Path(prefixes[0])
    if prefixes:
        raise ValueError(
            f"{folder}: several checkpoints ({', '.join(Path(p).name for p in prefixes)}); leave one, or name the "
            "wanted one bert_model.ckpt.*"
        )
    raise FileNotFoundError(
        f"{folder}: no bert_model.ckpt.index here; a checkpoint of TensorFlow's first format (one file, no index) is "
        "not read"
    )


def _shapes(config: BertConfig, folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what such a model stores; the tied decoder is not stored."""
    from transformers import BertForPreTraining

    try:
        with torch.device("meta"):
            model = BertForPreTraining(config)
    except (AssertionError, ValueError) as error:  # the width does not divide by the heads
        raise ValueError(f"{folder / CONFIG}: {error}") from error
    return {n: tuple(v.shape) for n, v in model.state_dict().items() if not n.startswith(DECODER)}


def _check_complete(bundle: TensorBundle, missing: Iterable[str]) -> None:
    heads = ("cls.predictions.", "cls.seq_relationship.")
    found = {torch_name(variable) for variable in bundle.names}
    absent = [head for head in heads if not any(name is not None and name.startswith(head) for name in found)]
    lacking = sorted(name for name in missing if not name.startswith(tuple(absent)))
    if not lacking:
        return
    if any("CHECKPOINTABLE" in name for name in bundle.names):
        raise ValueError(
            f"{bundle.index}: an object-based checkpoint of TensorFlow 2 (its variables have no names of their own); "
            "accepted: one with the variables of google-research/bert, bert/embeddings/word_embeddings and so on"
        )
    raise ValueError(
        f"{bundle.index}: {len(lacking)} weights of the BERT that {CONFIG} describes are missing, first "
        f"{lacking[:SHOWN]}; the checkpoint has {[v for v in bundle.names if not STATE.search(v)][:SHOWN]} and others"
    )


def _reason(name: str, config: BertConfig) -> str:
    if name in (WORDS, "cls.predictions.bias"):
        return f"vocab_size is {config.vocab_size}"
    return f"the weight {name} of a BERT of hidden_size {config.hidden_size}, intermediate_size " + (
        f"{config.intermediate_size}, max_position_embeddings {config.max_position_embeddings}, type_vocab_size "
        f"{config.type_vocab_size}"
    )
