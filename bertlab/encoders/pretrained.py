"""PretrainedEncoder: an encoder with the weights of a checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from bertlab.encoders.dropout_settings import set_dropout
from bertlab.encoders.encoder import Encoder
from bertlab.encoders.head_weights import head_weights
from bertlab.encoders.padding_free import word_embedding
from bertlab.encoders.vocabulary_extension import VocabularyExtension
from bertlab.sources.models import model_folder

log = logging.getLogger(__name__)

ACCEPTED = (
    "a folder with config.json and model.safetensors, one with Google's bert_model.ckpt.*, bert_config.json and "
    "vocab.txt, the id of an encoder on the Hugging Face hub such as "
    "google-bert/bert-base-uncased, or packaged:minilm_l6_v2"
)


class PretrainedEncoder(Encoder):
    """Any encoder that `transformers.AutoModel` loads: BERT, RoBERTa, DistilBERT, ELECTRA, ModernBERT, ….

    Weights are read from safetensors only (a pickle could run code) and held in float32. A checkpoint without a
    pooler, as masked language models are, gives an encoder without one.

    Args:
        source: a folder, a hub id, or `packaged:<name>`.
        dropout: of the hidden states, in [0, 1); None: as the checkpoint says.
        attention_dropout: of the attention probabilities, in [0, 1); None: as the checkpoint says.
        padding_free: False: run on padded tensors, as transformers does.
        revision: branch, tag or commit of a hub id; None: its main branch.
        new_pieces: word pieces to add to its vocabulary (a list, or a file with one on each line), or a folder with a
            tokenizer that has more pieces than its own, such as a token store's. Their rows start as the mean of the
            pieces they were split into; see `bertlab.encoders.vocabulary_extension`. The data has to take the extended
            tokenizer too: `extension.tokenizer`, or that folder. None: the vocabulary stays.

    Raises:
        FileNotFoundError: there is no such folder, or no such file or folder of new pieces.
        ValueError: there is no such model, it is not an encoder, or weights are missing from it; a new piece can never
            occur, or the tokenizer with more pieces does not extend its own.
    """

    def __init__(
        self,
        source: str,
        dropout: float | None = None,
        attention_dropout: float | None = None,
        padding_free: bool = True,
        revision: str | None = None,
        new_pieces: str | list[str] | None = None,
    ) -> None:
        where = model_folder(source)
        config = _config(source, where, revision)
        set_dropout(config, dropout, attention_dropout)
        model = _load(source, where, revision, config)
        extension = None if new_pieces is None else _extension(source, where, revision, new_pieces)
        rows = word_embedding(model).num_embeddings
        if extension is not None:
            extension.apply(model)
        super().__init__(model, padding_free)
        self.extension = extension
        self._source, self._where, self._revision, self._rows = source, where, revision, rows

    @property
    def source(self) -> str:
        """What was given as `source`."""
        return self._source

    def tokenizer(self) -> Any | None:
        """The tokenizer of the checkpoint, with the new pieces if it has been given any; read when asked for.

        None where the checkpoint has none, or one without a fast version, so that nothing can be said of its ids.
        """
        if self.extension is not None:
            return self.extension.tokenizer
        tokenizer, reason = _tokenizer(self._where, self._revision)
        if tokenizer is not None and tokenizer.is_fast:
            return tokenizer
        reason = reason or "it has no fast one"
        log.warning("%s has no tokenizer to compare that of the data with: %s", self._source, reason)
        return None

    def head_weights(self) -> Mapping[str, Tensor]:
        """The tensors of the checkpoint that are of a head, under their names there; read when asked for.

        What has a row for each word piece has one for each new piece too.
        """
        found = head_weights(self._where, self._revision, self.model)
        return found if self.extension is None else self.extension.head(found, self._rows)


def _config(source: str, where: str, revision: str | None) -> PreTrainedConfig:
    try:
        config = AutoConfig.from_pretrained(where, revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"encoder.source: cannot read {source!r}: {error}\nAccepted: {ACCEPTED}.") from error
    if config.is_encoder_decoder or getattr(config, "is_decoder", False):
        raise ValueError(
            f"encoder.source: {source!r} is a {config.model_type} with a decoder, not an encoder alone. "
            f"Accepted: {ACCEPTED}."
        )
    return config


def _load(source: str, where: str, revision: str | None, config: PreTrainedConfig) -> PreTrainedModel:
    try:
        model, found = AutoModel.from_pretrained(
            where,
            config=config,
            revision=revision,
            trust_remote_code=False,  # code of whoever made the checkpoint is not run, and nobody is asked
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # reported below, by name
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"encoder.source: cannot load {source!r}: {error}\nAccepted: {ACCEPTED}.") from error
    _check_weights(source, model, found)
    return model


def _extension(
    source: str, where: str, revision: str | None, new_pieces: str | list[str]
) -> VocabularyExtension:
    tokenizer, reason = _tokenizer(where, revision)
    if tokenizer is None:
        raise ValueError(
            f"encoder.new_pieces: no tokenizer to add the pieces to can be read from {source!r}: {reason}"
        )
    return VocabularyExtension.of(tokenizer, new_pieces)


def _tokenizer(where: str, revision: str | None) -> tuple[Any | None, str]:
    """The tokenizer of a checkpoint; None, and why, where it has none."""
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(where, revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        return None, str(error)
    # Of a folder without one, transformers makes a tokenizer that knows the special tokens alone.
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        return None, "it has no vocabulary"
    return tokenizer, ""


def _check_weights(source: str, model: PreTrainedModel, found: dict[str, Any]) -> None:
    """Refuse a checkpoint that leaves weights at random values; drop a pooler that it does not hold."""
    missing = sorted(found["missing_keys"])
    pooler = [name for name in missing if name.startswith("pooler.")]
    encoder = [name for name in missing if not name.startswith("pooler.")]
    mismatched = sorted(str(entry) for entry in found.get("mismatched_keys", ()))
    if encoder or mismatched:
        raise ValueError(
            f"encoder.source: the checkpoint {source!r} does not fit {type(model).__name__}; missing weights: "
            f"{encoder}, weights of another shape: {mismatched}"
        )
    if pooler:
        model.register_module("pooler", None)
        log.info("The checkpoint %s has no pooler: the encoder gives no pooled output.", source)
    if found["unexpected_keys"]:
        log.info(
            "Not of the encoder, left in the checkpoint %s: %s", source, sorted(found["unexpected_keys"])
        )
