"""Which pieces of a vocabulary begin a word."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt


def word_starts(tokenizer: Any, vocabulary_size: int) -> npt.NDArray[np.bool_]:
    """(V,) whether each id begins a word: all but WordPiece's continuations ("##").

    Args:
        tokenizer: a fast tokenizer of transformers.
        vocabulary_size: V.

    Raises:
        ValueError: the vocabulary does not mark the continuations of words. (Byte-level ones mark words by the
            space before them, which the first word of a sentence lacks, so that it looks like a continuation.)
    """
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    prefix = model.get("continuing_subword_prefix")
    if model.get("type") != "WordPiece" or not prefix:
        raise ValueError(
            f"the vocabulary of the store is {model.get('type')}, which does not mark the pieces that continue a word. "
            "Accepted: WordPiece; of others, data.init_args.masking: token"
        )
    starts = np.ones(vocabulary_size, dtype=np.bool_)
    for piece, number in tokenizer.get_vocab().items():
        if piece.startswith(prefix) and piece != prefix and number < vocabulary_size:
            starts[number] = False
    return starts
