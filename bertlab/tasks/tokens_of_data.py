"""Whether an encoder can read the tokens of the data."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any


def check_tokens(datamodule: Any, encoder: Any) -> None:
    """Refuse a tokenizer that can give ids beyond the embedding, and rows that are longer than there are positions.

    Ids below the number of rows may still be of other pieces: data whose ids are made already, before the encoder is
    known, compares its tokenizer with that of the encoder.

    Args:
        datamodule: one with a `check_tokenizer` (see `check_vocabulary`), one with a `tokenizer` that has a length, as
            those of transformers do, and one with a `max_length` and `longest_row()`; others are not checked.
        encoder: with a `vocabulary_size`, and a `max_length` if it takes rows of some length at most.

    Raises:
        ValueError: the vocabulary is another one or larger than the embedding, or a row is too long.
    """
    check_vocabulary(datamodule, encoder)
    tokenizer = getattr(datamodule, "tokenizer", None)
    if isinstance(tokenizer, Sized) and len(tokenizer) > encoder.vocabulary_size:
        raise ValueError(
            f"the tokenizer (data.init_args.tokenizer) has {len(tokenizer)} tokens, the embedding of the encoder "
            f"(model.init_args.encoder) only {encoder.vocabulary_size} rows: take the tokenizer of the encoder"
        )
    positions = getattr(encoder, "max_length", None)
    if positions is None or not hasattr(datamodule, "longest_row") or datamodule.max_length <= positions:
        return  # no row is looked at where none can be too long
    longest = datamodule.longest_row()
    if longest > positions:
        raise ValueError(
            f"data.init_args.max_length is {datamodule.max_length}, and the data has a row of {longest} tokens; the "
            f"encoder (model.init_args.encoder) takes {positions}: set max_length to {positions} or less, or take an "
            "encoder with more positions"
        )


def check_vocabulary(datamodule: Any, encoder: Any) -> None:
    """Refuse data whose token ids are of other pieces than those that the encoder has learned.

    Args:
        datamodule: one with a `check_tokenizer(tokenizer, source)`; others are not checked.
        encoder: one whose `tokenizer()` is that of its checkpoint, and with its `source`; others take any data.

    Raises:
        ValueError: it has another vocabulary.
    """
    check, own = getattr(datamodule, "check_tokenizer", None), getattr(encoder, "tokenizer", None)
    tokenizer = own() if check is not None and own is not None else None
    if check is not None and tokenizer is not None:
        check(tokenizer, encoder.source)
