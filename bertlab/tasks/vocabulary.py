"""Whether the tokens of the data fit the embedding of the encoder."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any


def check_vocabulary(datamodule: Any, vocabulary_size: int) -> None:
    """Refuse a tokenizer that can give ids beyond the embedding.

    Args:
        datamodule: one with a `tokenizer` that has a length, as those of transformers do; others are not checked.
        vocabulary_size: rows of the encoder's word embedding.

    Raises:
        ValueError: the vocabulary is larger than the embedding.
    """
    tokenizer = getattr(datamodule, "tokenizer", None)
    if isinstance(tokenizer, Sized) and len(tokenizer) > vocabulary_size:
        raise ValueError(
            f"the tokenizer (data.init_args.tokenizer) has {len(tokenizer)} tokens, the embedding of the encoder "
            f"(model.init_args.encoder) only {vocabulary_size} rows: take the tokenizer of the encoder"
        )
