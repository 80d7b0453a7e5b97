"""A trained task as a folder that transformers loads, and bertlab as an encoder again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

from bertlab.corpus.atomic_files import read_json
from bertlab.encoders.adapters import plain_parameters
from bertlab.export.whole_folder import whole_folder
from bertlab.heads.classification import ClassificationHead
from bertlab.heads.layouts import LAYOUTS, REPLACED, SENTENCE, Layout, names_in_transformers
from bertlab.heads.tagging import TaggingHead
from bertlab.tasks.masked_language import MaskedLanguage
from bertlab.tasks.pretraining import Pretraining
from bertlab.tasks.replaced_tokens import ReplacedTokens
from bertlab.tasks.sequence_classification import SequenceClassification
from bertlab.tasks.text_task import TextTask
from bertlab.tasks.token_classification import TokenClassification

#: Types whose classifier in transformers is dropout and a linear layer on the pooler's output, as bertlab's is.
CLASSIFIERS = {"bert", "albert"}
#: Types whose tagger in transformers is dropout and a linear layer on every token.
TAGGERS = {
    "bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert", "albert", "deberta-v2", "mpnet",
}  # fmt: skip
#: Prefix in a task of the names of its encoder's parameters.
ENCODER = "encoder.model."
PROBLEMS = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}


def export_hugging_face(task: TextTask, tokenizer: Any, folder: str | Path) -> PreTrainedModel:
    """Write config.json, model.safetensors and the files of the tokenizer, of word pieces vocab.txt too.

    The folder is there whole or not at all: it is made beside its place and renamed.

    Args:
        task: with its head and weights.
        tokenizer: of transformers; None: none is written.
        folder: to make.

    Returns:
        The model that was written: `BertForPreTraining` where the task has a sentence head, `BertForMaskedLM`,
        `ElectraForPreTraining`, `BertForSequenceClassification`, `BertForTokenClassification`, or their like of
        other types; `BertModel` for a discriminator of replaced tokens that is no ELECTRA.

    Raises:
        FileExistsError: there is something at `folder`.
        ValueError: transformers has no model of the task's kind.
    """
    with whole_folder(Path(folder)) as part:
        model = hugging_face_model(task)
        copied_into(model, task)
        model.save_pretrained(part)
        if tokenizer is not None:
            tokenizer.save_pretrained(part)
            _write_word_pieces(part)
    return model


def _write_word_pieces(folder: Path) -> None:
    """Beside tokenizer.json the vocab.txt that Google's and other tools read: a piece a line, in the order of ids."""
    if not (folder / "tokenizer.json").exists():  # a tokenizer of sentence pieces may have another file
        return
    saved = read_json(folder / "tokenizer.json")
    if saved["model"]["type"] != "WordPiece":
        return
    ids = saved["model"]["vocab"] | {token["content"]: token["id"] for token in saved["added_tokens"]}
    pieces = sorted(ids, key=ids.__getitem__)
    if [ids[piece] for piece in pieces] == list(range(len(pieces))):  # else the lines would give other ids
        text = "\n".join(pieces) + "\n"
        (folder / "vocab.txt").write_text(text, encoding="utf-8", newline="\n")


def hugging_face_model(task: TextTask) -> PreTrainedModel:
    """A fresh model of transformers that has a place for every weight of the task.

    Raises:
        ValueError: there is none.
    """
    config = type(task.encoder.config).from_dict(task.encoder.config.to_dict())
    kind = config.model_type
    if isinstance(task, SequenceClassification):
        _describe_classifier(config, task)
        make: Any = AutoModelForSequenceClassification
    elif isinstance(task, TokenClassification):
        _describe_tagger(config, task)
        make = AutoModelForTokenClassification
    elif not isinstance(task, Pretraining):
        raise ValueError(
            f"bertlab export takes Pretraining, SequenceClassification and TokenClassification, got {task.name}"
        )
    elif isinstance(task.heads, ReplacedTokens):
        make = AutoModelForPreTraining if kind == "electra" else AutoModel
    elif kind not in LAYOUTS:
        raise ValueError(
            f"bertlab export knows the masked language heads of {', '.join(LAYOUTS)}, the encoder is a {kind}"
        )
    else:
        sentence = (
            kind == "bert" and isinstance(task.heads, MaskedLanguage) and task.heads.sentence is not None
        )
        make = AutoModelForPreTraining if sentence else AutoModelForMaskedLM
    model = make.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    if make is AutoModel and not task.encoder.has_pooler:
        model.register_module("pooler", None)
    return model


def copied_into(model: PreTrainedModel, task: TextTask) -> dict[str, str]:
    """Copy the weights of a task into a model of transformers; adapters are merged into those they stand beside.

    Args:
        model: of `hugging_face_model`, or of the same class.
        task: with its head.

    Returns:
        The name in the model of each parameter of the task that it holds.

    Raises:
        ValueError: the model has parameters that the task has not, or of other shapes.
    """
    names = _names(model, task)
    encoder = {f"{ENCODER}{name}": value for name, value in plain_parameters(task.encoder.model)}
    state = task.state_dict() | encoder
    place = dict(model.named_parameters(remove_duplicate=False))
    held = {id(place[theirs]) for theirs in names.values() if theirs in place}
    missing = [name for name, parameter in place.items() if id(parameter) not in held]
    extra = [theirs for theirs in names.values() if theirs not in place]
    if missing or extra:
        raise ValueError(
            f"the task does not fit {type(model).__name__}; missing from the task: {missing}, not in the model: {extra}"
        )
    with torch.no_grad():
        for mine, theirs in names.items():
            _copy(place[theirs], state[mine], theirs)
    return names


def _copy(place: Tensor, value: Tensor, name: str) -> None:
    if place.shape != value.shape:
        raise ValueError(f"{name} is {tuple(value.shape)} in the task and {tuple(place.shape)} in the model")
    place.copy_(value)


def _names(model: PreTrainedModel, task: TextTask) -> dict[str, str]:
    """Parameter of the task → parameter of the model."""
    base = model.base_model
    prefix = "" if base is model else f"{model.base_model_prefix}."
    inside = {name for name, _ in base.named_parameters(remove_duplicate=False)}
    names: dict[str, str] = {}
    for name, _ in plain_parameters(task.encoder.model):
        # A pooler that the model has no place for (RoBERTa's, of a sentence task) stays behind.
        if name in inside or not name.startswith("pooler."):
            names[f"{ENCODER}{name}"] = f"{prefix}{name}"
    for part, head, layout in _heads(task):
        for mine, theirs in names_in_transformers(head, layout).items():
            names[f"{part}.{mine}"] = theirs
    known = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    optional = ("head.sentence.", "head.replaced.")
    return {m: t for m, t in names.items() if t in known or not m.startswith(optional)}


def _heads(task: TextTask) -> list[tuple[str, nn.Module, Mapping[str, str]]]:
    """Prefix in the task, module, and names of each head."""
    head: Any = task.head
    if isinstance(head, ClassificationHead | TaggingHead):
        return [("head", head, {"output": "classifier"})]
    if isinstance(head, ReplacedTokens):
        return [("head.replaced", head.replaced, REPLACED)]
    layout = LAYOUTS.get(task.encoder.config.model_type, Layout()).names
    heads: list[tuple[str, nn.Module, Mapping[str, str]]] = [("head.masked_lm", head.masked_lm, layout)]
    if head.sentence is not None:
        heads.append(("head.sentence", head.sentence, {**SENTENCE, "pooler": "bert.pooler.dense"}))
    return heads


def _describe_classifier(config: Any, task: SequenceClassification) -> None:
    """Write labels, problem and dropout into the configuration of a classifier.

    Raises:
        ValueError: transformers has no such classifier.
    """
    if config.model_type not in CLASSIFIERS or task.pool != "pooled" or not task.encoder.has_pooler:
        raise ValueError(
            "bertlab export writes classifiers on the pooler's output (model.init_args.pool: pooled) of "
            f"{' and '.join(sorted(CLASSIFIERS))}, which transformers builds alike; got pool {task.pool!r} of "
            f"a {config.model_type}{'' if task.encoder.has_pooler else ' without a pooler'}"
        )
    _describe_labels(config, task, task.dropout)
    config.problem_type = PROBLEMS[task.problem]


def _describe_tagger(config: Any, task: TokenClassification) -> None:
    """Write labels and dropout into the configuration of a tagger.

    Raises:
        ValueError: transformers has no such tagger.
    """
    if config.model_type not in TAGGERS:
        raise ValueError(
            f"bertlab export writes taggers of {', '.join(sorted(TAGGERS))}, which transformers builds alike; the "
            f"encoder is a {config.model_type}"
        )
    _describe_labels(config, task, task.dropout)


def _describe_labels(config: Any, task: TextTask, dropout: float) -> None:
    labels = list(task.label_names) if task.label_names else ["value"]
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    for field in ("classifier_dropout", "classifier_dropout_prob"):
        if hasattr(config, field):
            setattr(config, field, dropout)
